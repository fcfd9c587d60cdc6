"""Callers that leave, and workers that stop: what is posted is never under what the provider charges."""

from __future__ import annotations

import asyncio
import json
import random
from collections.abc import Mapping
from typing import Any

import pytest

from gateway.errors import STOPPING, GatewayError
from gateway.simulator.server import Simulator
from gateway.simulator.tokens import chat_prompt
from tests.conftest import StartSimulator
from tests.line.conftest import StartRelay
from tests.line.ledgers import charge, governed, of_user, overshoot, prices, settle
from tests.line.test_leaving_callers import HEAD
from tests.relaying import CHAT, Relay
from tests.running import eventually

HELD = 1_000 * 600
"""Nano-dollars that the output of these calls is held for."""


def call(user: str, **more: Any) -> bytes:
    body = json.dumps({**CHAT, "max_tokens": 1_000, "user": user, **more}).encode()
    return HEAD + b"content-length: %d\r\n\r\n%b" % (len(body), body)


async def compared(relay: Relay, simulator: Simulator, user: str = "u") -> tuple[int, int]:
    """What was posted, and what the one call is charged for, once all is settled."""
    await eventually(lambda: simulator.bill.entries)
    await settle(relay)
    (entry,) = simulator.bill.entries
    assert overshoot(relay) == 0
    return of_user(relay, "day", user), charge(prices(relay)[entry.model], entry)


async def test_plain_answer_is_read_on_and_posted_exactly(start: StartRelay, simulator: Simulator) -> None:
    relay = await start(governed(simulator.url))
    _, writer = await relay.connect()
    writer.write(call("u", simulate={"first_token_ms": 200}))
    await simulator.requests.wait()
    writer.close()
    await eventually(lambda: not relay.line.exchanges)
    assert of_user(relay, "all.concurrent", "u") == 0
    posted, truth = await compared(relay, simulator)
    assert posted == truth > 0
    (row,) = relay.store.rows
    assert row[8] == "caller_gone"
    assert simulator.departed.total == 0, "the answer was read on"


async def test_reading_on_ends_at_the_deadline_of_the_call(start: StartRelay, simulator: Simulator) -> None:
    relay = await start(governed(simulator.url))
    _, writer = await relay.connect()
    writer.write(call("u", model="quick", simulate={"first_token_ms": 60_000}))
    await simulator.requests.wait()
    writer.close()
    await simulator.departed.wait()
    posted, truth = await compared(relay, simulator)
    assert HELD < posted < 1.5 * HELD
    assert truth <= posted


@pytest.mark.parametrize("fault", ["status_500", "close", "cut", "not_json", "no_usage", "status_504"])
async def test_reading_on_what_goes_wrong(start: StartRelay, simulator: Simulator, fault: str) -> None:
    relay = await start(governed(simulator.url))
    go = asyncio.Event()
    original = simulator.requests
    _, writer = await relay.connect()
    writer.write(call("u", simulate={"fault": fault, "first_token_ms": 50}))
    await original.wait()
    writer.close()
    go.set()
    await eventually(lambda: relay.store.rows)
    await settle(relay)
    truth = sum(charge(prices(relay)[entry.model], entry) for entry in simulator.bill.entries)
    posted = of_user(relay, "day", "u")
    assert posted >= truth
    assert (posted == 0) == (fault == "status_500")
    assert overshoot(relay) == 0


async def test_stream_before_its_first_content(start: StartRelay, simulator: Simulator) -> None:
    relay = await start(governed(simulator.url))
    _, writer = await relay.connect()
    writer.write(call("u", stream=True, simulate={"first_token_ms": 60_000}))
    await simulator.requests.wait()
    writer.close()
    posted, truth = await compared(relay, simulator)
    assert truth <= posted < HELD


PACES: Mapping[str, dict[str, Any]] = {
    "as fast as it goes": {"output_tokens": 900},
    "5000 tokens a second": {"output_tokens": 900, "tokens_per_s": 5_000},
    "1000 tokens a second": {"output_tokens": 100, "tokens_per_s": 1_000},
}
CALLS = 12


async def test_stream_at_any_moment(
    start: StartRelay, simulate: StartSimulator, capsys: pytest.CaptureFixture[str]
) -> None:
    simulator = await simulate()
    relay = await start(governed(simulator.url))
    moments, told = random.Random(4), []
    for pace, simulated in PACES.items():
        simulator.bill.entries.clear()
        users: dict[int, str] = {}
        for words in range(CALLS):
            messages = [{"role": "user", "content": "Tell me." + " Now and then." * words}]
            # By its length the entry of a call is known: some calls never reach the provider.
            user = users[chat_prompt({"messages": messages})] = f"{pace} {words}"
            sent = call(user, messages=messages, stream=True, simulate=simulated)
            await leave(relay, sent, moments.random() * 0.06)
        assert len(users) == CALLS
        await settle(relay)
        await eventually(lambda: len(simulator.bill.entries) >= CALLS - 3)
        price, posted, billed = prices(relay)["gpt-4o-mini"], 0, 0
        for entry in simulator.bill.entries:
            booked, truth = of_user(relay, "day", users[entry.input_tokens]), charge(price, entry)
            assert booked >= truth, f"{pace}: {entry.output_tokens} tokens had been generated"
            posted, billed = posted + booked, billed + truth
        told.append(f"{pace}: {posted} posted for {billed}, {posted / billed:.2f} times as much")
    assert overshoot(relay) == 0
    with capsys.disabled():
        print("", *told, sep="\n")


async def leave(relay: Relay, sent: bytes, after_s: float) -> None:
    """A caller that reads for a while, then leaves."""
    reader, writer = await relay.connect()
    writer.write(sent)
    reading = asyncio.ensure_future(reader.read())
    await asyncio.wait([reading], timeout=after_s)
    reading.cancel()
    writer.close()
    await eventually(lambda: not relay.line.exchanges)


@pytest.mark.parametrize("asked", [{}, {"stream": True}], ids=["plain", "streamed"])
@pytest.mark.parametrize("simulated", [{"first_token_ms": 60_000}, {"tokens_per_s": 50}])
async def test_worker_that_stops(
    start: StartRelay, simulator: Simulator, asked: dict[str, Any], simulated: dict[str, Any]
) -> None:
    relay = await start(governed(simulator.url))
    reader, writer = await relay.connect()
    writer.write(call("u", **asked, simulate={**simulated, "output_tokens": 500}))
    await simulator.requests.wait()
    if asked and "tokens_per_s" in simulated:
        await reader.readuntil(b'"content":"')
    (exchange,) = relay.line.exchanges
    exchange.fail(GatewayError(STOPPING))
    posted, truth = await compared(relay, simulator)
    assert truth <= posted < 1.5 * HELD
    writer.close()


async def test_caller_that_leaves_while_the_store_is_asked(start: StartRelay, simulator: Simulator) -> None:
    """What is granted when nobody waits for it any more goes back."""
    relay = await start(governed(simulator.url))
    link = relay.store.links["worker-0"]
    await eventually(lambda: link.is_connected and relay.line.ledger.teller.is_up)
    relay.store.is_up = False  # It is there, as far as the worker knows, and says nothing.
    _, writer = await relay.connect()
    writer.write(call("u"))
    await eventually(lambda: relay.line.ledger.purses._asked)
    writer.close()
    await eventually(lambda: not relay.line.exchanges)
    relay.store.put(up=True)
    await settle(relay)
    assert simulator.requests.total == 0
    assert of_user(relay, "day", "u") == of_user(relay, "all.requests", "u") == 0
    purses = relay.line.ledger.purses._purses
    idle = {bucket: purse.balance for bucket, purse in purses.items()}
    assert {bucket.id: bucket.out for bucket in relay.store.book.buckets.values()} == idle
