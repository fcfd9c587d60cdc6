"""Pace of answers, and callers that leave before the end."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable
from typing import Any

import aiohttp
import pytest

from gateway.simulator.server import Simulator

Start = Callable[..., Awaitable[Simulator]]


def ask(*, stream: bool, **simulate: Any) -> dict[str, Any]:
    messages = [{"role": "user", "content": "Why?"}]
    return {"model": "m", "messages": messages, "stream": stream, "simulate": simulate}


async def test_pace_is_kept_plain_and_streamed(http: aiohttp.ClientSession, simulate: Start) -> None:
    simulator = await simulate(first_token_ms=60, tokens_per_s=200, output_tokens=20)
    for stream in (False, True):
        started = time.monotonic()
        async with http.post(f"{simulator.url}/chat/completions", json=ask(stream=stream)) as response:
            first = time.monotonic() - started
            await response.read()
        assert first >= 0.06
        # 20 tokens at 200 per second; generous above, the machine may be busy.
        assert 0.15 <= time.monotonic() - started < 2


async def test_caller_that_leaves_a_stream_is_billed_for_what_was_generated(
    http: aiohttp.ClientSession, simulate: Start
) -> None:
    simulator = await simulate(tokens_per_s=100, output_tokens=1000)
    response = await http.post(f"{simulator.url}/chat/completions", json=ask(stream=True))
    async for line in response.content:
        if b'"content":""' not in line and b'"content":' in line:
            break
    left = time.monotonic()
    response.close()
    departure = await simulator.departed.wait()
    assert departure.monotonic_s - left < 5
    entry = await simulator.billed.wait()
    assert entry.id == departure.id
    assert entry.finished is False
    assert 1 <= entry.output_tokens == departure.chunks - 1 < 1000


async def test_caller_that_leaves_before_the_first_token_is_billed_for_its_prompt(
    http: aiohttp.ClientSession, simulate: Start
) -> None:
    simulator = await simulate(first_token_ms=60_000)
    for count, stream in enumerate((False, True), start=1):
        call = asyncio.create_task(http.post(f"{simulator.url}/chat/completions", json=ask(stream=stream)))
        await simulator.requests.wait(count)
        call.cancel()
        entry = await simulator.billed.wait(count)
        assert (entry.input_tokens, entry.output_tokens, entry.finished) == (1, 0, False)
    assert simulator.departed.total == 2


async def test_caller_that_leaves_in_mid_generation_is_billed_by_the_clock(
    http: aiohttp.ClientSession, simulate: Start
) -> None:
    simulator = await simulate(tokens_per_s=100, output_tokens=100_000)
    call = asyncio.create_task(http.post(f"{simulator.url}/chat/completions", json=ask(stream=False)))
    await simulator.requests.wait()
    with pytest.raises(TimeoutError):
        await asyncio.wait_for(call, 0.2)
    entry = await simulator.billed.wait()
    assert 1 <= entry.output_tokens < 5000
    assert entry.finished is False


async def test_answers_that_were_read_to_the_end_are_no_departures(
    http: aiohttp.ClientSession, simulate: Start
) -> None:
    simulator = await simulate()
    for stream in (False, True):
        async with http.post(f"{simulator.url}/chat/completions", json=ask(stream=stream)) as response:
            await response.read()
    assert simulator.departed.total == 0
    assert [entry.finished for entry in simulator.bill.entries] == [True, True]


async def test_stop_is_quick_and_is_no_departure(http: aiohttp.ClientSession, simulate: Start) -> None:
    simulator = await simulate()
    call = asyncio.create_task(
        http.post(f"{simulator.url}/chat/completions", json=ask(stream=False, fault="hang"))
    )
    await simulator.requests.wait()
    await asyncio.wait_for(simulator.stop(), 3)
    with pytest.raises(aiohttp.ClientError):
        await call
    assert simulator.departed.total == 0


async def test_waiting_for_what_never_comes_ends(simulate: Start) -> None:
    simulator = await simulate()
    with pytest.raises(TimeoutError):
        await simulator.departed.wait(timeout_s=0.01)
