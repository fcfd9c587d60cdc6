"""A call leaves no cycles, however it ends: the collector comes seldom, and until then all of it is kept."""

from __future__ import annotations

import asyncio
import gc
import json
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from gateway.simulator.faults import NAMES
from gateway.simulator.server import Simulator
from tests.line.conftest import StartRelay
from tests.relaying import CHAT, Relay
from tests.running import KEY, eventually, policy_for

CALLS = 3
LINE = ("gateway.http.", "gateway.line.", "gateway.wire.", "gateway.errors", "gateway.usage")


@contextmanager
def garbage() -> Iterator[Counter[str]]:
    """What of the line only the collector would have found, once the block is over."""
    found: Counter[str] = Counter()
    gc.disable()
    gc.freeze()  # what was there before need not be looked at
    try:
        yield found
        gc.set_debug(gc.DEBUG_SAVEALL)
        gc.collect()
        found.update(type(each).__qualname__ for each in gc.garbage if type(each).__module__.startswith(LINE))
    finally:
        gc.set_debug(0)
        gc.garbage.clear()
        gc.unfreeze()
        gc.enable()


async def call(relay: Relay, fields: dict[str, object], leaves_after: int | None = None) -> None:
    """One call on a connection of its own, read to its end or to so many bytes."""
    body = json.dumps(fields).encode()
    reader, writer = await relay.connect()
    writer.write(f"POST /v1/chat/completions HTTP/1.1\r\nhost: x\r\napi-key: {KEY}\r\n".encode())
    writer.write(b"connection: close\r\ncontent-length: %d\r\n\r\n" % len(body) + body)
    try:
        await reader.read(-1 if leaves_after is None else leaves_after)
    except ConnectionResetError:
        pass
    writer.transport.abort()


async def left_behind(
    relay: Relay, fields: dict[str, object], leaves_after: int | None = None
) -> Counter[str]:
    await call(relay, fields, leaves_after)
    with garbage() as found:
        await asyncio.gather(*(call(relay, fields, leaves_after) for _ in range(CALLS)))
        await eventually(lambda: not (relay.line.exchanges or relay.server.connections))
    return found


@pytest.fixture
async def relay(start: StartRelay, simulator: Simulator) -> Relay:
    """A line that waits for nothing long."""
    timeouts = "{first_token: 200ms, stall: 200ms, total: 500ms}"
    models = f"  quick: {{targets: [upstream/a, upstream/b], timeouts: {timeouts}, retries: {{attempts: 1}}}}"
    return await start(policy_for(simulator.url, models=models))


@pytest.mark.parametrize("stream", [False, True], ids=["plain", "streamed"])
@pytest.mark.parametrize("fault", ["none", *NAMES])
async def test_call_leaves_no_cycle(relay: Relay, fault: str, stream: bool) -> None:
    fields = {**CHAT, "model": "quick", "stream": stream, "simulate": {"fault": fault}}
    assert await left_behind(relay, fields) == {}


@pytest.mark.parametrize("bytes_read", [0, 400])
async def test_caller_that_leaves_leaves_no_cycle(relay: Relay, bytes_read: int) -> None:
    fields = {**CHAT, "model": "quick", "stream": True, "simulate": {"tokens_per_s": 10, "output_tokens": 40}}
    assert await left_behind(relay, fields, bytes_read) == {}


async def test_refused_call_leaves_no_cycle(relay: Relay) -> None:
    assert await left_behind(relay, {**CHAT, "model": "nobody"}) == {}
    assert await left_behind(relay, {"model": 5}) == {}


def of_the_line() -> Counter[str]:
    """Everything there is that a worker makes for its policies and calls, by type."""
    gc.collect()
    modules = (*LINE, "gateway.policy.", "gateway.routing.", "gateway.telemetry.meters")
    return Counter(
        type(each).__qualname__ for each in gc.get_objects() if str(type(each).__module__).startswith(modules)
    )


async def test_policies_no_longer_in_force_leave_nothing(start: StartRelay, simulator: Simulator) -> None:
    relay = await start(policy_for(simulator.url))

    async def after_policies(count: int) -> Counter[str]:
        for number in range(count):
            models = f"  model-{number}: {{targets: [upstream/a, upstream/b]}}"
            relay.use(policy_for(simulator.url, models=models))
            assert (await relay.post({**CHAT, "model": f"model-{number}"})).status == 200
        relay.use(policy_for(simulator.url))
        assert (await relay.post()).status == 200
        await eventually(lambda: not relay.line.exchanges)
        return of_the_line()

    few = await after_policies(3)
    assert await after_policies(30) - few == {}
