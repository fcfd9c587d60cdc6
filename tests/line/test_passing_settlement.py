"""Limits and budgets of calls that are passed through: priced per call, or by the tokens they tell."""

from __future__ import annotations

import asyncio
import socket

import pytest

from gateway.simulator.server import Simulator
from tests.line.conftest import StartRelay, StartScripted
from tests.line.ledgers import DAY, overshoot, posted, settle, used
from tests.line.passing import COUNTED, FILE, FORM, ask, form, open_policy
from tests.relaying import Relay
from tests.running import KEY, eventually
from tests.scripted import CLOSE, STALL
from tests.scripted import answer as answer_of

PICTURE = {"model": "gpt-image-1", "prompt": "x"}
PRICED = ", usd_per_call: 0.04"
TOKENS = "limits: [{name: t, tokens: 1m/min}]\n"


async def pictured(relay: Relay) -> int:
    return (await ask(relay, "POST", "/images/generations", PICTURE)).status


async def test_priced_per_call(start: StartRelay, simulator: Simulator) -> None:
    relay = await start(open_policy(simulator.url, more=PRICED) + DAY.replace("10", "0.09"))
    assert [await pictured(relay) for _ in range(3)] == [200, 200, 429]
    assert (
        await ask(relay, "POST", "/files", form(("purpose", "", b"batch"), FILE), headers=FORM)
    ).status in (
        200,
        429,
    )
    assert (await ask(relay, "GET", "/files")).status == 200, "costs nothing"
    await settle(relay)
    assert posted(relay) == 80_000_000
    assert overshoot(relay) == 0


async def test_without_a_price(start: StartRelay, simulator: Simulator) -> None:
    relay = await start(open_policy(simulator.url) + DAY)
    answer = await ask(relay, "POST", "/images/generations", PICTURE)
    assert (answer.status, answer.error["code"]) == (403, "unpriced_under_budget")
    assert (await ask(relay, "GET", "/files")).status == 200
    await settle(relay)
    assert simulator.requests.total == 1


async def test_tokens_count_when_they_are_told(start: StartRelay, scripted: StartScripted) -> None:
    allowed = DAY.replace("every: day", "every: day, unpriced: allow")
    relay = await start(open_policy((await scripted(*COUNTED)).url) + allowed + TOKENS)
    for stream in (False, True):
        await ask(relay, "POST", "/responses", {"model": "gpt-4o", "input": "x", "stream": stream})
    await settle(relay)
    assert used(relay, "t.tokens") == 2 * 16
    # 6 input at 0.15, 4 cached at 0.075, 4 output and 2 reasoning at 0.60 dollars per million.
    assert posted(relay) == 2 * (900 + 300 + 2400 + 1200)
    assert overshoot(relay) == 0, "nothing was promised"


@pytest.mark.parametrize(
    ("steps", "costs"),
    [
        ([answer_of(b'{"error": {"message": "no"}}', 400)], 0),
        ([answer_of(b"<html>", 502, kind="text/html")], 0),
        ([answer_of(b'{"error": {"message": "no"}}', 504)], 40_000_000),
        ([CLOSE], 40_000_000),
        ([answer_of(b'{"data": []}', length=50), CLOSE], 40_000_000),
        ([answer_of(b'{"data": []}')], 40_000_000),
    ],
    ids=["400", "502", "504", "close", "truncated", "200"],
)
async def test_every_ending(
    start: StartRelay, scripted: StartScripted, steps: list[object], costs: int
) -> None:
    provider = await scripted(*steps)
    relay = await start(open_policy(provider.url, more=PRICED) + DAY)
    await pictured(relay)
    await settle(relay)
    assert posted(relay) == costs
    (row,) = relay.store.rows
    assert row[-3] == costs
    assert overshoot(relay) == 0


def request() -> bytes:
    body = b'{"model": "gpt-image-1", "prompt": "x"}'
    head = f"POST /v1/images/generations HTTP/1.1\r\nhost: x\r\nauthorization: Bearer {KEY}\r\n"
    return f"{head}content-type: application/json\r\ncontent-length: {len(body)}\r\n\r\n".encode() + body


async def test_caller_that_leaves(start: StartRelay, scripted: StartScripted) -> None:
    provider = await scripted(STALL)
    relay = await start(open_policy(provider.url, more=PRICED) + DAY)
    _, writer = await relay.connect()
    writer.write(request())
    await eventually(lambda: provider.asked)
    writer.close()
    await asyncio.wait_for(provider.left.wait(), 5)
    await settle(relay)
    assert posted(relay) == 40_000_000


async def test_caller_that_leaves_before_anything_was_sent(start: StartRelay) -> None:
    with socket.create_server(("127.0.0.1", 0), backlog=0) as full:
        # Its queue is full, so the dial is under way until its deadline.
        port = full.getsockname()[1]
        waiting = [await asyncio.open_connection("127.0.0.1", port)]
        relay = await start(open_policy(f"http://127.0.0.1:{port}/v1", more=PRICED) + DAY)
        _, writer = await relay.connect()
        writer.write(request())
        await eventually(lambda: any(each.claim is not None for each in relay.line.exchanges))
        writer.close()
        await settle(relay)
        assert posted(relay) == 0
        waiting[0][1].close()
