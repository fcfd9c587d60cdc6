"""Callers by the thousand: they leave at random, stay idle, read nothing, or are as slow as an attacker."""

from __future__ import annotations

import asyncio
import random
import statistics
import sys
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path

import aiohttp
import pytest

from gateway.clock import monotonic_s
from gateway.simulator.server import Simulator
from tests.conftest import StartGateway
from tests.line.test_slow_callers import STREAM, Blast, call
from tests.relaying import CHAT
from tests.running import KEY, Gateway, eventually, policy_for

pytestmark = [pytest.mark.proof, pytest.mark.timeout(240)]
CALLERS = Path(__file__).parent / "callers.py"
MB = 1 << 20


def worker_of(gateway: Gateway) -> Path:
    """The worker's folder in /proc."""
    (pid,) = gateway.running()["worker_pids"]
    return Path(f"/proc/{pid}")


def rss(process: Path) -> int:
    """Resident bytes."""
    status = (process / "status").read_text()
    return int(status.partition("VmRSS:")[2].split()[0]) * 1024


def open_files(process: Path) -> int:
    return sum(1 for _ in (process / "fd").iterdir())


def port_of(gateway: Gateway) -> int:
    return int(gateway.running()["listen"].rpartition(":")[2])


@asynccontextmanager
async def many_callers(gateway: Gateway, count: int, sent: Path | None = None) -> AsyncIterator[list[int]]:
    """So many connections that stand; afterwards the list has how many of them the gateway had closed."""
    command = [str(CALLERS), str(port_of(gateway)), str(count), *([str(sent)] if sent else [])]
    pipe = asyncio.subprocess.PIPE
    process = await asyncio.create_subprocess_exec(sys.executable, *command, stdin=pipe, stdout=pipe)
    assert process.stdout is not None and process.stdin is not None
    closed: list[int] = []
    try:
        assert await asyncio.wait_for(process.stdout.readline(), 60) == b"open\n"
        yield closed
        process.stdin.close()
        closed.append(int(await asyncio.wait_for(process.stdout.readline(), 60)))
    finally:
        if process.returncode is None:
            process.kill()
        await process.wait()


@asynccontextmanager
async def good_traffic(gateway: Gateway, every_s: float = 0.02) -> AsyncIterator[list[float]]:
    """Calls one after the other, plain and streamed, over new and kept connections; any that fails fails the
    test. The list has the seconds that each took."""
    took: list[float] = []
    headers = {"authorization": f"Bearer {KEY}"}

    async def go_on() -> None:
        async with aiohttp.ClientSession() as http:
            while True:
                stream = bool(len(took) % 2)
                more = {"connection": "close"} if len(took) % 5 == 0 else {}
                began_s = monotonic_s()
                async with http.post(
                    f"{gateway.url}/chat/completions",
                    json={**CHAT, "stream": stream},
                    headers={**headers, **more},
                    timeout=aiohttp.ClientTimeout(20),
                ) as answer:
                    body = await answer.read()
                    assert answer.status == 200, body
                    assert body.endswith(b"data: [DONE]\n\n") or not stream
                took.append(monotonic_s() - began_s)
                await asyncio.sleep(every_s)

    going = asyncio.create_task(go_on())
    yield took
    if going.done():
        going.result()
    going.cancel()
    assert len(took) > 20


def said_nothing_wrong(gateway: Gateway) -> None:
    said = gateway.said()
    assert "Traceback" not in said and "internal error" not in said, said


KINDS = {
    "plain, silent": (False, {"fault": "hang"}),
    "plain, thinking": (False, {"first_token_ms": 60_000}),
    "streamed, silent": (True, {"fault": "hang"}),
    "streamed, before the first byte": (True, {"first_token_ms": 60_000}),
    "streamed, in mid-answer": (True, {"tokens_per_s": 200, "output_tokens": 100_000}),
    "streamed, stalled": (True, {"fault": "stall"}),
}


async def test_upstream_of_1000_callers_that_leave_is_closed_within_50_ms(
    serve: StartGateway, simulator: Simulator, record_property: Callable[[str, object], None]
) -> None:
    gateway = await serve(policy_for(simulator.url))
    worker = worker_of(gateway)
    async with aiohttp.request(
        "GET", f"{gateway.url}/models", headers={"authorization": f"Bearer {KEY}"}
    ) as ok:
        assert ok.status == 200
    before = open_files(worker)
    dice = random.Random(7)
    delays_ms = []
    for count in range(1, 1001):
        stream, simulate = dice.choice([*KINDS.values()])
        _, writer = await asyncio.open_connection("127.0.0.1", port_of(gateway))
        writer.write(call({**CHAT, "stream": stream, "simulate": simulate}))
        await simulator.requests.wait(count)
        await asyncio.sleep(dice.random() * 0.03)
        left_s = monotonic_s()
        if dice.random() < 0.5:
            writer.close()
        else:
            writer.transport.abort()
        departure = await simulator.departed.wait(count)
        delays_ms.append((departure.monotonic_s - left_s) * 1000)
    p99_ms = statistics.quantiles(delays_ms, n=100)[98]
    record_property("p50_ms", round(statistics.median(delays_ms), 2))
    record_property("p99_ms", round(p99_ms, 2))
    record_property("max_ms", round(max(delays_ms), 2))
    print(
        f"closed after p50 {statistics.median(delays_ms):.2f}, p99 {p99_ms:.2f}, max {max(delays_ms):.2f} ms"
    )
    assert p99_ms <= 50 and max(delays_ms) <= 250
    lines = await gateway.log_lines(1001)
    assert {line["outcome"] for line in lines[1:]} == {"caller_gone"}
    assert await gateway.metric("headgate_streams_open") == 0
    await eventually(lambda: open_files(worker) <= before + 1, says=lambda: f"{open_files(worker)} {before}")
    said_nothing_wrong(gateway)


async def test_10000_idle_connections_cost_80_mb_and_no_call(
    serve: StartGateway, simulator: Simulator
) -> None:
    gateway = await serve(policy_for(simulator.url))
    worker = worker_of(gateway)
    async with good_traffic(gateway):
        await eventually(lambda: simulator.requests.total > 50)
        before = rss(worker)
        async with many_callers(gateway, 10_000) as closed:
            asked = simulator.requests.total
            await eventually(lambda: simulator.requests.total > asked + 100, within_s=30)
            more = rss(worker) - before
        assert closed == [0]
    print(f"10,000 idle connections: {more / MB:.1f} MB more")
    assert more <= 80 * MB
    await eventually(lambda: open_files(worker) < 100)
    said_nothing_wrong(gateway)


async def test_1000_callers_that_read_nothing_cost_100_mb_and_no_other_stream(
    serve: StartGateway, simulator: Simulator, tmp_path: Path
) -> None:
    blast = Blast()
    blast.events = 50
    provider = await blast.start()
    policy = policy_for(simulator.url, models="  blast: {targets: [blast/x]}")
    policy = policy.replace(
        "providers:\n", f'providers:\n  blast: {{base_url: "{blast.url}", max_connections: 2000}}\n', 1
    )
    gateway = await serve(policy)
    worker = worker_of(gateway)
    asks = tmp_path / "asks"
    asks.write_bytes(call({**STREAM, "model": "blast"}))
    async with good_traffic(gateway) as took:
        await eventually(lambda: len(took) > 50)
        before = rss(worker)
        async with many_callers(gateway, 1000, asks):
            await eventually(lambda: blast.asked == 1000, within_s=60)
            at = len(took)
            await eventually(lambda: len(took) > at + 100, within_s=60)
            more = rss(worker) - before
    provider.close()
    print(f"1,000 stuck readers: {more / MB:.1f} MB more; slowest good call {max(took) * 1000:.0f} ms")
    assert more <= 100 * MB
    said_nothing_wrong(gateway)


@pytest.mark.system
@pytest.mark.parametrize("mode", ["-H", "-B", "-X"], ids=["slow heads", "slow bodies", "slow readers"])
async def test_good_traffic_succeeds_beside_2000_slow_connections(
    serve: StartGateway,
    simulator: Simulator,
    system_tool: Callable[[str], str],
    tmp_path: Path,
    mode: str,
) -> None:
    gateway = await serve(policy_for(simulator.url))
    command = [system_tool("slowhttptest"), mode, "-c", "2000", "-r", "400", "-l", "20", "-i", "5", "-p", "3"]
    command += ["-u", f"{gateway.url}/chat/completions", "-x", "24", "-o", str(tmp_path / "slow")]
    async with good_traffic(gateway) as took:
        process = await asyncio.create_subprocess_exec(
            *command, stdin=asyncio.subprocess.DEVNULL, stdout=asyncio.subprocess.DEVNULL
        )
        await asyncio.wait_for(process.wait(), 60)
    print(f"slowhttptest {mode}: {len(took)} good calls, all answered; slowest {max(took) * 1000:.0f} ms")
    said_nothing_wrong(gateway)
