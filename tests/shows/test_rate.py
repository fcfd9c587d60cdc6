"""Rates hold in every window, use what is allowed, and keep their word to who waits as told."""

from __future__ import annotations

import asyncio
import time
from bisect import bisect_left
from collections import Counter
from pathlib import Path

import pytest

from gateway.simulator.server import Simulator, start
from gateway.simulator.settings import Settings
from tests.shows.callers import Line, body_of
from tests.shows.world import MODEL, Deploy, policy_of, started

PER_MINUTE, BURST = 600, 60
OFFERED = 3
PER_S = PER_MINUTE / 60
HORIZON_S = 60.0
"""Who is told to wait for a minute has no ticket: the queue is as long as that already."""
KEYS = {f"key-{number}": "team-0" for number in range(3600)}
"""A ticket is its key's. So many come again after two minutes, when none of them waits any more."""
RULES = f"limits: [{{name: calls, requests: {PER_MINUTE}/min, burst: {BURST}}}]"


class Rush:
    """Calls at three times the rate, by many keys in turn; who is refused comes back once, when told to."""

    def __init__(self, addresses: list[str], keys: int) -> None:
        self._addresses, self._keys = addresses, list(KEYS)[:keys]
        self._free: dict[tuple[str, str], list[Line]] = {}
        self.outcomes: Counter[str] = Counter()
        self.kept = self.broken = self.unticketed = 0
        self._waiting: set[asyncio.Task[None]] = set()

    async def run(self, seconds: float) -> None:
        """Offers calls for so long. Those that wait for longer are not waited for."""
        begun_s = time.monotonic()
        number = 0
        while (now_s := time.monotonic() - begun_s) < seconds:
            while number < now_s * PER_S * OFFERED:
                task = asyncio.create_task(self._caller(number, begun_s + seconds))
                self._waiting.add(task)
                task.add_done_callback(self._ended)
                number += 1
            await asyncio.sleep(0.005)
        for task in self._waiting:
            task.cancel()

    def _ended(self, task: asyncio.Task[None]) -> None:
        self._waiting.discard(task)
        if not task.cancelled():
            task.result()

    async def _caller(self, number: int, until_s: float) -> None:
        key = self._keys[number % len(self._keys)]
        address = self._addresses[number // len(self._keys) % len(self._addresses)]
        status, wait_s = await self._call(address, key)
        if status != 429:
            return
        if wait_s >= HORIZON_S:
            self.unticketed += 1
            return
        await asyncio.sleep(wait_s)
        if time.monotonic() > until_s:
            return
        status, _ = await self._call(address, key)
        if status == 200:
            self.kept += 1
        else:
            self.broken += 1

    async def _call(self, address: str, key: str) -> tuple[int, float]:
        lines = self._free.setdefault((address, key), [])
        line = lines.pop() if lines else Line(address, key)
        answer = await line.call(body_of(MODEL, "What time is it?", 8))
        lines.append(line)
        self.outcomes[f"{answer.status} {answer.code}".strip()] += 1
        return answer.status, answer.wait_s


class Arrivals:
    """When calls came to a provider (its own clock), and how many it had at once."""

    def __init__(self, upstream: Simulator) -> None:
        self._upstream = upstream

    def times_s(self) -> list[float]:
        """Of all that were billed: those without delay are billed as they come."""
        return sorted(entry.time_s for entry in self._upstream.bill.entries)

    def most_in(self, window_s: float) -> int:
        """The most that came in any window of so many seconds."""
        times = self.times_s()
        return max(bisect_left(times, begin + window_s) - at for at, begin in enumerate(times))


async def rush(deploy: Deploy, folder: Path, seconds: float, keys: int) -> None:
    """Three times the rate for so long, and what is promised of it."""
    upstream = await start(settings=Settings(output_tokens=4, max_requests=100_000))
    try:
        with started(deploy(folder / "gateways", policy_of(upstream.url, KEYS, RULES))) as gateways:
            for gateway in gateways:
                await gateway.ready()
            run = Rush([gateway.running()["listen"] for gateway in gateways], keys)
            await run.run(seconds)
    finally:
        await upstream.stop()
    arrivals = Arrivals(upstream)
    times = arrivals.times_s()
    worst, window_s = arrivals.most_in(60), min(seconds, 60.0)
    allowed = BURST + PER_S * seconds
    said = (
        f"\n{dict(run.outcomes)}: {len(times)} of {allowed:.0f} allowed in {seconds:.0f} s "
        f"({len(times) / allowed - 1:+.2%}); at most {worst} in {window_s:.0f} s of "
        f"{BURST + PER_S * window_s:.0f}; {run.kept} of {run.kept + run.broken} that came back when told "
        f"were served, {run.unticketed} were beyond the horizon"
    )
    print(said)
    assert worst <= BURST + PER_S * window_s, said
    assert -0.02 <= len(times) / allowed - 1 <= 0, said
    assert run.kept >= 0.99 * (run.kept + run.broken) and run.kept > 0, said


@pytest.mark.system
@pytest.mark.parametrize(
    "deploy", ["embedded-2", pytest.param("redis-2", marks=pytest.mark.system)], indirect=True
)
async def test_rate_holds_for_six_seconds(deploy: Deploy, tmp_path: Path) -> None:
    await rush(deploy, tmp_path, 6, keys=180)


@pytest.mark.proof
@pytest.mark.timeout(240)
@pytest.mark.parametrize("deploy", ["embedded-4", "redis-4"], indirect=True)
async def test_rate_holds_for_two_minutes(deploy: Deploy, tmp_path: Path) -> None:
    await rush(deploy, tmp_path, 120, keys=3600)


async def crowd(deploy: Deploy, folder: Path, samples: int, *, cap: int, callers: int) -> None:
    """Many more callers than the cap; a sample whenever the provider is given a call."""
    upstream = await start(settings=Settings(output_tokens=4, first_token_ms=2, max_requests=samples))
    seen: Counter[int] = Counter()
    arrive = upstream.requests.add

    def count(request: object) -> None:
        arrive(request)  # type: ignore[arg-type]
        seen[upstream.requests.total - upstream.billed.total] += 1

    upstream.requests.add = count  # type: ignore[method-assign, assignment]
    # By default each worker goes on with its part of a limit when the store is not heard for a while, as on a
    # machine that stands still: that part may be on top of what others have.
    rules = f"limits: [{{name: calls, concurrent: {cap}, when_store_down: closed}}]"
    outcomes: Counter[str] = Counter()

    async def caller(address: str, key: str) -> None:
        line = Line(address, key)
        while seen.total() < samples:
            answer = await line.call(body_of(MODEL, "What time is it?", 8))
            outcomes[f"{answer.status} {answer.code}".strip()] += 1
            if answer.status != 200:
                await asyncio.sleep(0.005)
        line.close()

    try:
        with started(deploy(folder / "gateways", policy_of(upstream.url, KEYS, rules))) as gateways:
            for gateway in gateways:
                await gateway.ready()
            addresses = [gateway.running()["listen"] for gateway in gateways]
            async with asyncio.TaskGroup() as tasks:
                for number in range(callers):
                    tasks.create_task(caller(addresses[number % len(addresses)], f"key-{number}"))
    finally:
        await upstream.stop()
    mean = sum(count * times for count, times in seen.items()) / seen.total()
    said = (
        f"\n{seen.total()} samples of calls at once: most {max(seen)}, mean {mean:.1f} of {cap}; {outcomes}"
    )
    print(said)
    assert max(seen) <= cap, said
    assert outcomes["429 rate_limit_exceeded"] > 0, said


@pytest.mark.system
@pytest.mark.parametrize(
    "deploy", ["embedded-2", pytest.param("redis-2", marks=pytest.mark.system)], indirect=True
)
async def test_calls_at_once_never_pass_the_cap(deploy: Deploy, tmp_path: Path) -> None:
    await crowd(deploy, tmp_path, 500, cap=8, callers=24)


@pytest.mark.proof
@pytest.mark.timeout(900)
@pytest.mark.parametrize("deploy", ["embedded-4", "redis-4"], indirect=True)
async def test_calls_at_once_never_pass_the_cap_in_100_000_samples(deploy: Deploy, tmp_path: Path) -> None:
    await crowd(deploy, tmp_path, 100_000, cap=20, callers=60)
