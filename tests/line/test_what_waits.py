"""What waits, stalls, is shed or is not retried is counted. What callers invent makes no series."""

from __future__ import annotations

import asyncio
import random
import re

import pytest

from gateway.simulator.server import Simulator
from gateway.telemetry.slots import read_slots
from tests.line.conftest import StartRelay
from tests.relaying import CHAT, Relay
from tests.running import KEY, eventually, policy_for

STALLING = (
    "  stalling: {targets: [upstream/gpt-4o-mini], retries: {attempts: 0},"
    " timeouts: {connect: 5s, first_token: 10s, stall: 200ms, total: 20s}}\n"
)


async def test_stream_that_stops_is_counted_as_stalled(start: StartRelay, simulator: Simulator) -> None:
    relay = await start(policy_for(simulator.url, models=STALLING))
    await relay.stream({"model": "stalling", "simulate": {"fault": "stall"}})
    await relay.logged(1)
    assert relay.counted("headgate_stream_stalls_total", "stalling", "upstream/gpt-4o-mini") == 1


async def test_retries_that_the_budget_forbids_are_counted(start: StartRelay, simulator: Simulator) -> None:
    models = "  tried: {targets: [upstream/gpt-4o-mini], retries: {attempts: 3, budget: 1%}}\n"
    relay = await start(policy_for(simulator.url, models=models))
    for _ in range(40):
        await relay.post({**CHAT, "model": "tried", "simulate": {"fault": "status_503"}})
    refused = relay.counted("headgate_retry_budget_exhausted_total", "tried")
    retried = relay.counted("headgate_retries_total", "tried", "upstream/gpt-4o-mini")
    assert refused > 0
    assert retried + refused >= 40


async def test_wait_for_a_connection_is_measured(relay: Relay) -> None:
    for _ in range(3):
        await relay.post()
    # The first call opens one, the others find it idle.
    assert relay.counted("headgate_connection_wait_seconds", "upstream") == 1


async def test_calls_beyond_what_a_worker_takes_are_shed(relay: Relay) -> None:
    relay.line.max_calls = 0
    refused = await relay.post()
    assert (refused.status, refused.error["code"]) == (503, "overloaded")
    assert relay.counted("headgate_shed_total", "calls") == 1


async def test_bodies_beyond_what_a_worker_holds_are_shed(relay: Relay) -> None:
    relay.server.max_held_bytes = 10_000
    refused = await relay.post({**CHAT, "messages": [{"role": "user", "content": "x" * 2_000_000}]})
    assert (refused.status, refused.error["code"]) == (503, "overloaded")
    assert relay.counted("headgate_shed_total", "body_memory") == 1


async def test_connections_beyond_what_a_worker_takes_are_shed(relay: Relay) -> None:
    relay.server.max_connections = 0
    reader, writer = await asyncio.open_connection(relay.host, relay.port)
    assert (await reader.read()).startswith(b"HTTP/1.1 503 ")
    writer.close()
    assert relay.counted("headgate_shed_total", "connections") == 1


@pytest.mark.parametrize(
    "calls", [320, pytest.param(100_000, marks=[pytest.mark.proof, pytest.mark.timeout(900)])]
)
async def test_inventions_of_callers_make_no_series(relay: Relay, calls: int) -> None:
    dice = random.Random(5)
    await invent(relay, 60, dice)
    # Of more calls a second than are watched for drift, one series tells.
    relay.line.meters.unwatched("rate")
    known = series(relay)
    for _ in range(20):
        await asyncio.gather(*(invent(relay, calls // 160, dice) for _ in range(8)))
    await eventually(lambda: not relay.line.exchanges)
    assert series(relay) == known
    assert relay.counted("headgate_requests_total") >= calls
    assert not [labels for _, labels in known if any(INVENTED.match(label) for label in labels)]


INVENTED = re.compile(r"[0-9a-f]{32}$")


async def invent(relay: Relay, calls: int, dice: random.Random) -> None:
    """Calls of which each names something that nobody knows: a model, a path, a key, or only itself."""
    for _ in range(calls):
        word, kind = f"{dice.getrandbits(128):032x}", dice.randrange(5)
        fields = {**CHAT, "user": word, "metadata": {"tag": word}, "max_tokens": 1}
        path, key = "/chat/completions", KEY
        if kind == 0:
            fields["model"] = word
        elif kind == 1:
            path = f"/{word}"
        elif kind == 2:
            key = word
        await relay.post(fields, path, key=key, headers={"x-headgate-tags": word, "user-agent": word})


def series(relay: Relay) -> set[tuple[str, tuple[str, ...]]]:
    return {(name, labels) for name, labels, _ in read_slots(relay.slots)}
