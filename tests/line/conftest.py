"""Lines in this process, in front of simulated providers."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack
from pathlib import Path

import pytest

from gateway.pricing.catalogue import Catalogue
from gateway.simulator.server import Simulator
from tests.line.passing import open_policy
from tests.relaying import Relay, start_relay
from tests.running import policy_for
from tests.scripted import Scripted

StartRelay = Callable[..., Awaitable[Relay]]
StartScripted = Callable[..., Awaitable[Scripted]]


@pytest.fixture(scope="session")
def catalogue() -> Catalogue:
    return Catalogue()


@pytest.fixture
async def start(tmp_path: Path, catalogue: Catalogue) -> AsyncIterator[StartRelay]:
    """`await start(policy)`: a line of its own."""
    count = 0
    async with AsyncExitStack() as stack:

        async def start_one(policy: str, **limits: object) -> Relay:
            nonlocal count
            count += 1
            return await start_relay(stack, tmp_path / f"line-{count}", catalogue, policy, **limits)

        yield start_one


@pytest.fixture
async def relay(start: StartRelay, simulator: Simulator) -> Relay:
    """A line in front of `simulator`, with the policy of `policy_for`."""
    return await start(policy_for(simulator.url))


@pytest.fixture
async def scripted() -> AsyncIterator[StartScripted]:
    """`await scripted(answer(b"{}"), CLOSE)`: a provider that does this, stopped afterwards."""
    running: list[Scripted] = []

    async def start_one(*steps: object, **more: object) -> Scripted:
        provider = Scripted(*steps, **more)  # type: ignore[arg-type]
        await provider.start()
        running.append(provider)
        return provider

    yield start_one
    for provider in running:
        await provider.stop()


@pytest.fixture
async def opened(start: StartRelay, simulator: Simulator) -> Relay:
    """A line with all of `passing.open_policy`."""
    return await start(open_policy(simulator.url))
