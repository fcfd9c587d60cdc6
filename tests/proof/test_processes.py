"""What may happen to a gateway's processes while it is in use: stops, restarts, deaths, reloads."""

from __future__ import annotations

import asyncio
import os
import random
import signal
import socket
import statistics
import subprocess
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from functools import partial
from pathlib import Path

import aiohttp
import pytest

from gateway.simulator.server import Simulator
from tests.conftest import StartGateway, StartSimulator
from tests.processes.caller import Caller, Reply
from tests.proof.load import Load
from tests.running import Gateway, eventually, policy_for

pytestmark = pytest.mark.proof


def tell(gateway: Gateway, number: int = signal.SIGTERM) -> None:
    assert gateway.process is not None
    gateway.process.send_signal(number)


@pytest.mark.timeout(180)
async def test_thousand_streams_are_finished_after_sigterm(
    serve: StartGateway, simulate: StartSimulator
) -> None:
    simulator = await simulate()
    gateway = await serve(policy_for(simulator.url), "--drain-delay", "1s", "--max-stream", "2m", workers=2)
    dice = random.Random(1)
    callers = []
    for _ in range(1000):
        caller = await Caller.of(gateway)
        length_s = dice.uniform(1, 20)
        caller.ask(stream=True, simulate={"tokens_per_s": 3, "output_tokens": 1 + int(3 * length_s)})
        callers.append(caller)

    async def begin(caller: Caller) -> None:
        assert (await caller.head()).status == 200

    await asyncio.gather(*map(begin, callers))
    open_at_signal = await gateway.metric("headgate_streams_open")
    tell(gateway)
    endings = [reply.events[-1] for reply in await asyncio.gather(*(caller.rest() for caller in callers))]
    assert gateway.process is not None
    code = await asyncio.to_thread(gateway.process.wait, 60)
    cut = sum(ending != "[DONE]" for ending in endings)
    print(f"\n{open_at_signal:.0f} of {len(endings)} streams open at SIGTERM; cut {cut}; exit code {code}")
    assert (cut, code) == (0, 0)
    assert open_at_signal > 500
    assert [line["outcome"] for line in gateway.logged()] == ["ok"] * 1000


def free_port() -> int:
    with socket.socket() as bound:
        bound.bind(("127.0.0.1", 0))
        return int(bound.getsockname()[1])


@asynccontextmanager
async def haproxy(path: str, folder: Path, servers: list[tuple[str, str]], option: str) -> AsyncIterator[str]:
    """A haproxy without retries before gateways at (callers' address, admin port); yields its own address."""
    port = free_port()
    lines = ["defaults", "  mode http", "  retries 0", f"  {option}"]
    lines += ["  timeout connect 1s", "  timeout client 30s", "  timeout server 30s", "  timeout check 5s"]
    lines += ["frontend callers", f"  bind 127.0.0.1:{port}", "  default_backend gateways"]
    lines += ["backend gateways", "  option httpchk GET /readyz"]
    lines += [
        f"  server g{number} {address} check port {admin} inter 100ms fall 1 rise 1"
        for number, (address, admin) in enumerate(servers)
    ]
    file = folder / "haproxy.cfg"
    file.write_text("\n".join(lines) + "\n")
    with (folder / "haproxy.log").open("wb") as log:
        process = subprocess.Popen([path, "-db", "-f", str(file)], stdout=log, stderr=log)
    try:
        yield f"127.0.0.1:{port}"
    finally:
        process.terminate()
        process.wait(10)


@pytest.mark.system
@pytest.mark.timeout(400)
@pytest.mark.parametrize("option", ["option http-server-close", "option http-keep-alive"])
async def test_rolling_restarts_behind_haproxy_fail_no_call(
    tmp_path: Path, simulator: Simulator, system_tool: Callable[[str], str], option: str
) -> None:
    gateways, flags = [], []
    for number in range(3):
        folder = tmp_path / f"gateway-{number}"
        folder.mkdir()
        gateways.append(Gateway(folder, policy_for(simulator.url), environ={}))
        ports = (f"127.0.0.1:{free_port()}", f"127.0.0.1:{free_port()}")
        flags.append(("--listen", ports[0], "--admin", ports[1], "--drain-delay", "1s"))
    try:
        for gateway, its in zip(gateways, flags, strict=True):
            gateway.start(*its)
            await gateway.ready()
        servers = [(its[1], its[3].rpartition(":")[2]) for its in flags]
        async with haproxy(system_tool("haproxy"), tmp_path, servers, option) as address:
            await asyncio.sleep(1)  # haproxy's first health checks
            async with Load(address, per_s=200, connections=24).running() as load:
                for turn in range(20):
                    gateway, its = gateways[turn % 3], flags[turn % 3]
                    assert await asyncio.to_thread(gateway.stop) == 0
                    gateway.start(*its)
                    await gateway.ready(within_s=30)
                    await asyncio.sleep(0.5)  # until haproxy has seen it
        print(f"\n{option}: {load.answered} calls at {load.reached_per_s:.0f}/s, failed: {load.failed}")
        assert load.failed == []
        assert load.answered > 1000
    finally:
        for gateway in gateways:
            gateway.stop()


DEATHS = 100
Scrape = dict[tuple[str, frozenset[tuple[str, str]]], float]


class Watch:
    """Scrapes again and again; a counter that goes back is kept. Control may be dead."""

    def __init__(self, gateway: Gateway) -> None:
        self._gateway = gateway
        self._before: Scrape = {}
        self.scrapes = 0
        self.gone_back: list[str] = []

    async def run(self, stopping: asyncio.Event) -> None:
        while not stopping.is_set():
            try:
                now = await self._gateway.metrics()
            except aiohttp.ClientError:
                await asyncio.sleep(0.02)
                continue
            self.scrapes += 1
            counters = {
                sample: value
                for sample, value in now.items()
                if sample[0].endswith(("_total", "_count", "_sum", "_bucket"))
            }
            for sample, value in self._before.items():
                if counters.get(sample, -1) < value:
                    self.gone_back.append(f"{sample}: {value} → {counters.get(sample)}")
            self._before = counters
            await asyncio.sleep(0.5)


@pytest.mark.timeout(1800)
async def test_hundred_deaths_of_workers_and_of_control(serve: StartGateway, simulator: Simulator) -> None:
    gateway = await serve(policy_for(simulator.url), workers=2)
    watch, stopping, dice = Watch(gateway), asyncio.Event(), random.Random(1)
    back_s: dict[str, list[float]] = {"worker": [], "control": []}
    started_s: dict[str, list[float]] = {"worker": [], "control": []}
    kills_s: list[tuple[float, float]] = []
    """When a worker was killed, and when it was seen to be dead: under load that takes a while."""
    scraping = asyncio.create_task(watch.run(stopping))
    async with Load(gateway.running()["listen"], per_s=100).running() as load:
        for turn in range(2 * DEATHS):
            what = ("worker", "control")[turn % 2]
            running = gateway.running()
            victim = running["control_pid"] if what == "control" else dice.choice(running["worker_pids"])
            killed_s = time.monotonic()
            os.kill(victim, signal.SIGKILL)
            await eventually(partial(is_replaced, gateway, victim))
            if what == "worker":
                kills_s.append((killed_s, time.monotonic()))
            started_s[what].append(time.monotonic() - killed_s)
            await gateway.ready(within_s=30)
            back_s[what].append(time.monotonic() - killed_s)
            await asyncio.sleep(dice.uniform(0, 1.0))
    stopping.set()
    lost = [
        call
        for call in load.failed
        if not any(
            killed_s < call.ended_s < gone_s + 1 and call.begun_s < gone_s for killed_s, gone_s in kills_s
        )
    ]
    for what, times in back_s.items():
        times.sort()
        print(
            f"\n{what}: {DEATHS} × kill -9, started again after {max(started_s[what]):.2f} s at most; "
            f"ready after {statistics.median(times):.2f} s (median), {times[int(0.95 * DEATHS)]:.2f} (p95), "
            f"{times[-1]:.2f} (most)"
        )
    print(
        f"{load.answered} calls at {load.reached_per_s:.0f}/s, {len(load.failed)} failed, "
        f"{len(lost)} of them not in flight; {watch.scrapes} scrapes, gone back: {watch.gone_back}"
    )
    await scraping
    assert lost == [], load.failed
    assert watch.gone_back == []
    logged = {line["request_id"] for line in gateway.logged() if line["outcome"] == "ok"}
    assert len(logged) >= load.answered - len(kills_s) * load.connections
    assert max(started_s["worker"] + started_s["control"]) < 1.0


@pytest.mark.timeout(600)
async def test_thousand_reloads_under_load(serve: StartGateway, simulate: StartSimulator) -> None:
    simulator = await simulate(output_tokens=5)
    rest = f'  b: {{base_url: "{simulator.url}", api_key: {{env: UPSTREAM_KEY}}}}'
    policy = policy_for(simulator.url).replace("models:\n", f"{rest}\nmodels:\n", 1)
    policies = [policy, policy.replace("[upstream/gpt-4o-mini]", "[b/gpt-4o-mini]")]
    gateway = await serve(policies[0], workers=1)
    targets: dict[str, set[str]] = {}

    def check(reply: Reply) -> None:
        headers = reply.headers
        targets.setdefault(headers["x-headgate-policy"], set()).add(headers["x-headgate-target"])

    (worker,) = gateway.running()["worker_pids"]
    accepted = await gateway.metric("headgate_policy_reloads_total", result="accepted")
    rss_mb: list[float] = []
    late_ms: list[float] = []
    async with (
        aiohttp.ClientSession() as admin,
        Load(gateway.running()["listen"], per_s=500, connections=32, check=check).running() as load,
    ):
        for turn in range(1, 1001):
            at_s = time.monotonic()
            gateway.policy_file.write_text(policies[turn % 2])
            async with admin.post(f"{gateway.admin}/admin/reload") as answer:
                assert answer.status == 200
            late_ms.append((time.monotonic() - at_s) * 1000)
            if turn in (100, 1000):
                rss_mb.append(rss_of(worker))
            await asyncio.sleep(max(0.0, 0.1 - (time.monotonic() - at_s)))
    reloads = await gateway.metric("headgate_policy_reloads_total", result="accepted") - accepted
    print(
        f"\n{reloads:.0f} reloads, {statistics.median(late_ms):.0f} ms each (median), "
        f"{max(late_ms):.0f} (most); {load.answered} calls at {load.reached_per_s:.0f}/s, "
        f"{len(load.failed)} failed; {targets}; worker {rss_mb[0]:.1f} MB after 100 reloads, "
        f"{rss_mb[-1]:.1f} after 1,000"
    )
    assert load.failed == []
    assert sorted(map(sorted, targets.values())) == [["b/gpt-4o-mini"], ["upstream/gpt-4o-mini"]]
    assert reloads >= 990
    assert rss_mb[-1] - rss_mb[0] <= 10


def is_replaced(gateway: Gateway, victim: int) -> bool:
    running = gateway.running()
    return victim not in (running["control_pid"], *running["worker_pids"])


def rss_of(pid: int) -> float:
    """Resident memory in MB."""
    lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    return next(int(line.split()[1]) / 1000 for line in lines if line.startswith("VmRSS"))
