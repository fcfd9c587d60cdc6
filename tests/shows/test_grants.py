"""Grants come at once, and streams keep their pace, whatever the control plane is asked at the same time."""

from __future__ import annotations

import asyncio
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from tempfile import TemporaryDirectory

import aiohttp
import pytest

from gateway.quota.contract import MONEY, Terms, Want
from gateway.telemetry import table
from gateway.telemetry.slots import VALUES_PER_LABEL, SlotFile
from tests.control.keeping.purse import Purse
from tests.running import Gateway
from tests.shows.callers import Line, body_of, secret_of
from tests.shows.provider import Provider
from tests.shows.world import MODEL, Deploy, policy_of, provider, started

KEYS = {f"key-{number}": "team-0" for number in range(8)}
SERIES = 50_000
RULES = "budgets: [{name: all, usd: 100, every: month}]\nlimits: [{name: calls, concurrent: 100}]"
P99_S = 0.005
PAUSE_S = 0.01
"""Between two grants."""
BUCKET = "shown|all|"


def add_series(gateway: Gateway, count: int) -> None:
    """As if so many series had been counted by further workers."""
    counters = [metric for metric in table.ALL if metric.kind == "counter" and metric.labels]
    left = count
    for number in range(-(-count // (VALUES_PER_LABEL * len(counters)))):
        slots = SlotFile.create(gateway.state / "slots" / f"shown-{number}")
        for metric in counters:
            for series in range(min(left, VALUES_PER_LABEL)):
                labels = (f"shown-{number}-{series}",) * len(metric.labels)
                slots.values[slots.series(metric, labels)] = 1
                left -= 1
    assert left <= 0


SCRAPER = """
import sys, time, urllib.request
while True:
    begun_s = time.monotonic()
    with urllib.request.urlopen(sys.argv[1] + "/metrics") as answer:
        print(answer.read().count(b"\\n"), flush=True)
    time.sleep(max(0.0, 1 - (time.monotonic() - begun_s)))
"""
"""A process of its own: to read 5 MB here would make the grants wait that are measured."""


async def scrape(gateway: Gateway, stopping: asyncio.Event) -> list[int]:
    """Every second; how many lines each scrape had."""
    scraper = await asyncio.create_subprocess_exec(
        sys.executable, "-c", SCRAPER, gateway.admin, stdout=asyncio.subprocess.PIPE
    )
    await stopping.wait()
    scraper.kill()
    said, _ = await scraper.communicate()
    return [int(line) for line in said.split()]


async def call(gateway: Gateway, key: str, stopping: asyncio.Event) -> int:
    """Calls beside the grants; how many."""
    line = Line(gateway.running()["listen"], key)
    calls = 0
    while not stopping.is_set():
        assert (await line.call(body_of(MODEL, "What time is it?", 20))).status == 200
        calls += 1
        await asyncio.sleep(0.05)
    line.close()
    return calls


def needs(seconds: float) -> Iterator[int]:
    """Numbers of wants, for so long."""
    until_s = time.monotonic() + seconds
    number = 0
    while time.monotonic() < until_s:
        number += 1
        yield number


async def grants(gateway: Gateway, seconds: float) -> list[float]:
    """How long an owner waited for each of its wants, in seconds."""
    purse = await Purse(gateway.state / "keeper.sock", "shown-0", int(time.time() * 1000)).up()
    waits_s: list[float] = []
    try:
        for number in needs(seconds):
            begun_s = time.monotonic()
            terms = {BUCKET: Terms(MONEY, 10**12)} if number == 1 else {}
            want = Want(number, "key-0", {BUCKET: 1000}, {})
            reply = await purse.exchange(terms=terms, wants=[want])
            assert reply.granted == [number]
            waits_s.append(time.monotonic() - begun_s)
            await asyncio.sleep(PAUSE_S)
    finally:
        await purse.close()
    return waits_s


async def show(deploy: Deploy, upstream: Provider, seconds: float, series: int) -> None:
    """Grants while so many series are scraped every second, and calls are served."""
    stopping = asyncio.Event()
    # A socket's path has 107 bytes at most (unix(7)); the folders of tests are deeper.
    with (
        TemporaryDirectory() as short,
        started(deploy(Path(short), policy_of(upstream.url, KEYS, RULES))) as (gateway,),
    ):
        await gateway.ready()
        add_series(gateway, series)
        async with asyncio.TaskGroup() as tasks:
            scraping = tasks.create_task(scrape(gateway, stopping))
            calling = [tasks.create_task(call(gateway, key, stopping)) for key in KEYS]
            waits_s = sorted(await grants(gateway, seconds))
            stopping.set()
    lines = scraping.result()
    p50_s, p99_s = (waits_s[int(len(waits_s) * part)] for part in (0.5, 0.99))
    said = (
        f"\n{len(waits_s)} grants: p50 {p50_s * 1000:.2f} ms, p99 {p99_s * 1000:.2f}, most "
        f"{waits_s[-1] * 1000:.2f}, beside {len(lines)} scrapes of {lines[-1]} lines and "
        f"{sum(task.result() for task in calling)} calls"
    )
    print(said)
    assert lines[-1] > series
    assert p99_s <= P99_S, said


@pytest.mark.proof
@pytest.mark.timeout(120)
@pytest.mark.parametrize("deploy", ["embedded-2"], indirect=True)
async def test_grants_come_at_once_while_50_000_series_are_scraped(deploy: Deploy, tmp_path: Path) -> None:
    with provider(tmp_path) as upstream:
        await show(deploy, upstream, 30, series=SERIES)


STREAMS = 16
TOKENS_PER_S = 100
PACE = 1.5
"""By how much longer the longest gap in a hundred may be while there are scrapes, beside without."""


async def gaps(gateway: Gateway, key: str, seconds: float) -> list[float]:
    """The seconds between two pieces of one stream."""
    simulated = {"tokens_per_s": TOKENS_PER_S, "output_tokens": round(TOKENS_PER_S * seconds)}
    messages = [{"role": "user", "content": f"What time is it, {key}?"}]
    fields = {"model": MODEL, "messages": messages, "stream": True, "simulate": simulated}
    headers = {"authorization": f"Bearer {secret_of(key)}"}
    found: list[float] = []
    url = f"{gateway.url}/chat/completions"
    async with aiohttp.request("POST", url, json=fields, headers=headers) as answer:
        assert answer.status == 200, await answer.text()
        last_s = None
        async for _ in answer.content.iter_any():
            now_s = time.monotonic()
            if last_s is not None:
                found.append(now_s - last_s)
            last_s = now_s
    return found


async def pace(gateway: Gateway, seconds: float) -> tuple[float, int]:
    """The gap that one in a hundred passes, and how many there were."""
    keys = list(KEYS)
    each = await asyncio.gather(
        *(gaps(gateway, keys[number % len(keys)], seconds) for number in range(STREAMS))
    )
    of_all = sorted(gap for found in each for gap in found)
    return of_all[int(len(of_all) * 0.99)], len(of_all)


@pytest.mark.proof
@pytest.mark.timeout(180)
@pytest.mark.parametrize("deploy", ["embedded-2"], indirect=True)
async def test_streams_keep_their_pace_while_50_000_series_are_scraped(
    deploy: Deploy, tmp_path: Path
) -> None:
    stopping = asyncio.Event()
    with (
        provider(tmp_path) as upstream,
        TemporaryDirectory() as short,
        started(deploy(Path(short), policy_of(upstream.url, KEYS, RULES))) as (gateway,),
    ):
        await gateway.ready()
        add_series(gateway, SERIES)
        await pace(gateway, 2)
        calm_s, _ = await pace(gateway, 20)
        scraping = asyncio.create_task(scrape(gateway, stopping))
        busy_s, count = await pace(gateway, 20)
        stopping.set()
        lines = await scraping
    said = f"p99 of {count} gaps: {calm_s * 1000:.1f} ms alone, "
    said += f"{busy_s * 1000:.1f} beside {len(lines)} scrapes"
    print(said)
    assert len(lines) >= 5 and lines[-1] > SERIES
    assert busy_s <= PACE * calm_s, said
