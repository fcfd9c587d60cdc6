"""Stopping: not ready at once, served on for the drain delay, what is under way is finished."""

from __future__ import annotations

import asyncio
import os
import signal
import time
from collections.abc import Awaitable, Callable

import aiohttp
import pytest

from gateway.simulator.faults import Fault
from gateway.simulator.server import Simulator
from tests.conftest import StartGateway, StartSimulator
from tests.processes.caller import Caller
from tests.running import Gateway, eventually, policy_for

LONG = ("--drain-delay", "1m", "--max-stream", "1m")
"""Longer than any test: what ends before was not waited for."""


def tell(gateway: Gateway, number: int = signal.SIGTERM) -> None:
    assert gateway.process is not None
    gateway.process.send_signal(number)


async def exit_code(gateway: Gateway, within_s: float = 10) -> int:
    assert gateway.process is not None
    return await asyncio.to_thread(gateway.process.wait, within_s)


async def is_red(gateway: Gateway) -> bool:
    async with aiohttp.request("GET", f"{gateway.admin}/readyz") as answer:
        return answer.status == 503 and (await answer.json())["reasons"] == ["stopping"]


async def refuses(gateway: Gateway) -> bool:
    """True once nobody listens for callers any more."""
    try:
        caller = await Caller.of(gateway)
    except OSError:
        return True
    caller.close()
    return False


async def in_drain_delay(gateway: Gateway) -> None:
    """SIGTERM, and until it shows. Workers are told with control."""
    tell(gateway)
    await eventually(lambda: is_red(gateway))


@pytest.fixture
async def streaming(simulate: StartSimulator) -> Simulator:
    """A provider whose answers take 100 s."""
    return await simulate(output_tokens=1000, tokens_per_s=10)


async def open_stream(gateway: Gateway) -> Caller:
    caller = await Caller.of(gateway)
    caller.ask(stream=True)
    assert (await caller.head()).status == 200
    assert await caller.chunk()
    return caller


async def test_calls_in_the_drain_delay_are_served_and_close_their_connections(
    serve: StartGateway, simulator: Simulator
) -> None:
    gateway = await serve(policy_for(simulator.url), *LONG, workers=2)
    kept = await Caller.of(gateway)
    assert not (await kept.call()).closes
    await in_drain_delay(gateway)
    for number, caller in enumerate([kept, *[await Caller.of(gateway) for _ in range(8)]]):
        reply = await caller.call(stream=number % 2 == 1)
        assert (reply.status, reply.closes) == (200, True)
        assert await caller.is_closed()
    tell(gateway)
    assert await exit_code(gateway) == 0


async def test_idle_connection_stays_open_in_the_drain_delay(
    serve: StartGateway, simulator: Simulator
) -> None:
    gateway = await serve(policy_for(simulator.url), *LONG)
    idle = await Caller.of(gateway)
    await idle.call()
    await in_drain_delay(gateway)
    other = await Caller.of(gateway)
    assert (await other.call()).closes
    assert not idle.has_ended()
    assert (await idle.call()).status == 200
    assert await idle.is_closed()


async def test_call_that_began_before_says_that_it_closes(
    serve: StartGateway, simulate: StartSimulator
) -> None:
    simulator = await simulate(first_token_ms=500, output_tokens=3)
    gateway = await serve(policy_for(simulator.url), *LONG)
    caller = await Caller.of(gateway)
    caller.ask()
    await simulator.requests.wait()
    await in_drain_delay(gateway)
    assert (await caller.answer()).closes


async def test_stream_that_could_not_say_that_it_closes_leaves_its_connection_open(
    serve: StartGateway, simulate: StartSimulator
) -> None:
    """Its caller may be using it again at this moment."""
    simulator = await simulate(output_tokens=30, tokens_per_s=20)
    gateway = await serve(policy_for(simulator.url), *LONG)
    caller = await Caller.of(gateway)
    caller.ask(stream=True)
    head = await caller.head()
    await caller.chunk()
    await in_drain_delay(gateway)
    assert not head.closes
    assert (await caller.rest(head)).events[-1] == "[DONE]"
    again = await caller.call(max_tokens=1)
    assert (again.status, again.closes) == (200, True)


async def test_drain_delay_runs_with_nobody_there_and_ends(serve: StartGateway, simulator: Simulator) -> None:
    gateway = await serve(policy_for(simulator.url), "--drain-delay", "700ms")
    begun_s = time.monotonic()
    tell(gateway)
    assert await exit_code(gateway) == 0
    assert time.monotonic() - begun_s > 0.7


async def test_after_the_delay_nobody_listens_and_streams_are_finished(
    serve: StartGateway, simulate: StartSimulator
) -> None:
    simulator = await simulate(output_tokens=40, tokens_per_s=20)
    gateway = await serve(policy_for(simulator.url), "--drain-delay", "100ms", workers=2)
    streams = [await open_stream(gateway) for _ in range(4)]
    tell(gateway)
    await eventually(lambda: refuses(gateway))
    assert await is_red(gateway)
    for caller in streams:
        reply = await caller.rest()
        assert reply.events[-1] == "[DONE]"
        assert await caller.is_closed()
    assert await exit_code(gateway) == 0
    assert {line["outcome"] for line in gateway.logged()} == {"ok"}
    assert all(line["cost_nanousd"] > 0 for line in gateway.logged())


async def cut_by_time(gateway: Gateway) -> None:
    """--max-stream passes."""
    tell(gateway)


async def cut_by_second(gateway: Gateway) -> None:
    tell(gateway)
    await eventually(lambda: refuses(gateway))
    tell(gateway)


async def cut_in_the_delay(gateway: Gateway) -> None:
    await in_drain_delay(gateway)
    tell(gateway)


async def cut_by_second_interrupt(gateway: Gateway) -> None:
    tell(gateway, signal.SIGINT)
    await eventually(lambda: refuses(gateway))
    tell(gateway, signal.SIGINT)


@pytest.mark.parametrize(
    ("cut", "flags"),
    [
        (cut_by_time, ("--max-stream", "500ms")),
        (cut_by_second, ("--max-stream", "1m")),
        (cut_in_the_delay, LONG),
        (cut_by_second_interrupt, LONG),
    ],
)
async def test_stream_that_is_cut_ends_in_an_error_event_and_is_paid_for(
    serve: StartGateway,
    streaming: Simulator,
    cut: Callable[[Gateway], Awaitable[None]],
    flags: tuple[str, ...],
) -> None:
    gateway = await serve(policy_for(streaming.url), *flags, workers=2)
    streams = [await open_stream(gateway) for _ in range(4)]
    await cut(gateway)
    for caller in streams:
        *events, last = (await caller.rest()).events
        assert '"code":"stopping"' in last.replace(" ", "")
        assert "[DONE]" not in events
        assert await caller.is_closed()
    assert await exit_code(gateway) == 0
    lines = gateway.logged()
    assert [(line["outcome"], line["error_type"]) for line in lines] == [("refused", "gateway_stopping")] * 4
    assert all(line["cost_nanousd"] > 0 and line["usage_source"] == "estimated" for line in lines)
    await streaming.departed.wait(4)


async def test_call_that_is_cut_before_its_answer_is_told_so(
    serve: StartGateway, simulate: StartSimulator
) -> None:
    simulator = await simulate(script=[Fault("hang")])
    gateway = await serve(policy_for(simulator.url), "--max-stream", "300ms")
    caller = await Caller.of(gateway)
    caller.ask()
    await simulator.requests.wait()
    tell(gateway)
    reply = await caller.answer()
    assert (reply.status, reply.closes, reply.headers["x-headgate-attempts"]) == (503, True, "1")
    assert b'"stopping"' in reply.body
    assert await exit_code(gateway) == 0
    (line,) = gateway.logged()
    assert (line["target"], line["attempts"]) == ("upstream/gpt-4o-mini", 1)


async def test_interrupt_has_no_delay_and_finishes_what_is_under_way(
    serve: StartGateway, simulate: StartSimulator
) -> None:
    simulator = await simulate(output_tokens=20, tokens_per_s=20)
    gateway = await serve(policy_for(simulator.url), *LONG)
    caller = await open_stream(gateway)
    tell(gateway, signal.SIGINT)
    assert (await caller.rest()).events[-1] == "[DONE]"
    assert await exit_code(gateway) == 0


async def test_connections_queued_at_the_end_are_served(serve: StartGateway, simulator: Simulator) -> None:
    gateway = await serve(policy_for(simulator.url))
    (worker,) = gateway.running()["worker_pids"]
    os.kill(worker, signal.SIGSTOP)
    callers = [await Caller.of(gateway) for _ in range(20)]
    for caller in callers:
        caller.ask()
    tell(gateway)
    await eventually(lambda: is_red(gateway))
    os.kill(worker, signal.SIGCONT)
    for caller in callers:
        assert (await caller.answer()).status == 200
        assert await caller.is_closed()
    assert await exit_code(gateway) == 0
    assert len(gateway.logged()) == 20


async def test_control_that_dies_while_streams_finish_is_replaced(
    serve: StartGateway, simulate: StartSimulator
) -> None:
    simulator = await simulate(output_tokens=60, tokens_per_s=20)
    gateway = await serve(policy_for(simulator.url))
    caller = await open_stream(gateway)
    tell(gateway)
    await eventually(lambda: refuses(gateway))
    os.kill(gateway.running()["control_pid"], signal.SIGKILL)
    assert (await caller.rest()).events[-1] == "[DONE]"
    assert await exit_code(gateway) == 0
    (line,) = gateway.logged()
    assert line["outcome"] == "ok"
