"""Whole gateways and simulated providers for any test, and the rule that no test is skipped unnoticed."""

from __future__ import annotations

import asyncio
import gc
import os
import shutil
from collections.abc import AsyncIterator, Awaitable, Callable, Generator
from pathlib import Path

import aiohttp
import pytest
import uvloop

from gateway.simulator.server import Simulator, start
from gateway.simulator.settings import Settings
from tests.collector import Collector
from tests.running import Gateway, policy_for

StartSimulator = Callable[..., Awaitable[Simulator]]
StartGateway = Callable[..., Awaitable[Gateway]]

NO_SKIP = os.environ.get("HEADGATE_NO_SKIP") == "1"
DATA = Path(__file__).parent.parent.parent / "shared" / "data"


def pytest_asyncio_loop_factories(item: pytest.Item) -> dict[str, Callable[[], asyncio.AbstractEventLoop]]:
    """Tests run on the loop that the workers run on."""
    return {"uvloop": uvloop.new_event_loop}


@pytest.fixture
async def simulate() -> AsyncIterator[StartSimulator]:
    """`await simulate(output_tokens=5)`: a simulated provider with these settings, stopped afterwards."""
    running: list[Simulator] = []

    async def start_one(**settings: object) -> Simulator:
        simulator = await start("127.0.0.1", 0, Settings(**settings))  # type: ignore[arg-type]
        running.append(simulator)
        return simulator

    yield start_one
    for simulator in running:
        await simulator.stop()


@pytest.fixture
async def simulator(simulate: StartSimulator) -> Simulator:
    """A simulated provider without delays."""
    return await simulate(output_tokens=12)


@pytest.fixture
async def http() -> AsyncIterator[aiohttp.ClientSession]:
    """A client that leaves bodies as they come."""
    async with aiohttp.ClientSession(auto_decompress=False) as session:
        yield session


@pytest.fixture
async def serve(tmp_path: Path) -> AsyncIterator[StartGateway]:
    """`await serve(policy, workers=1, environ={})`: a gateway of its own, ready, stopped afterwards."""
    running: list[Gateway] = []

    async def start_one(
        policy: str, *flags: str, workers: int = 1, environ: dict[str, str] | None = None
    ) -> Gateway:
        folder = tmp_path / f"gateway-{len(running)}"
        folder.mkdir()
        gateway = Gateway(folder, policy, workers=workers, environ=environ or {})
        gateway.start(*flags)
        running.append(gateway)
        await gateway.ready()
        return gateway

    yield start_one
    for gateway in running:
        gateway.stop()


@pytest.fixture
async def collector() -> AsyncIterator[Collector]:
    """An OTLP collector of this process."""
    collector = Collector()
    await collector.start()
    yield collector
    collector.open.set()
    await collector.stop()


@pytest.fixture
async def gateway(serve: StartGateway, simulator: Simulator) -> Gateway:
    """A gateway in front of `simulator`, with the policy of `policy_for`."""
    return await serve(policy_for(simulator.url))


@pytest.fixture(scope="session")
def wire_data() -> Path:
    """The folder of recorded exchanges; the test is skipped where it is not."""
    if not (DATA / "wire").is_dir():
        pytest.skip("no recorded exchanges: put them into ../shared/data/wire")
    return DATA / "wire"


@pytest.fixture(scope="session")
def system_tool() -> Callable[[str], str]:
    """`system_tool("nginx")`: its path; the test is skipped where it is not installed."""

    def find(name: str) -> str:
        path = shutil.which(name, path=os.environ.get("PATH", "") + ":/usr/sbin:/usr/local/sbin")
        if path is None:
            pytest.skip(f"{name} is not installed: make deps")
        return path

    return find


@pytest.hookimpl(hookwrapper=True)
def pytest_collection() -> Generator[None]:
    """What is collected stays: to look through it for what may go takes 1.5 s of 9 meanwhile, and 0.4 s each
    time later on."""
    gc.disable()
    yield
    gc.freeze()
    gc.enable()


@pytest.hookimpl(hookwrapper=True)
def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> object:
    """One line for all skips, so that nobody overlooks them."""
    yield
    skipped = terminalreporter.stats.get("skipped", [])
    if skipped:
        reasons = sorted({str(report.longrepr[2]).removeprefix("Skipped: ") for report in skipped})
        terminalreporter.write_line(f"{len(skipped)} tests skipped: {'; '.join(reasons)}", yellow=True)


def pytest_sessionfinish(session: pytest.Session) -> None:
    """HEADGATE_NO_SKIP=1: a skipped test is a failure."""
    reporter = session.config.pluginmanager.get_plugin("terminalreporter")
    if NO_SKIP and reporter is not None and reporter.stats.get("skipped"):
        session.exitstatus = pytest.ExitCode.TESTS_FAILED
