"""A running simulator, and clients for it."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any

import aiohttp
import pytest

from gateway.simulator.server import Simulator, start
from gateway.simulator.settings import Settings

Start = Callable[..., Awaitable[Simulator]]


@pytest.fixture
async def simulate() -> AsyncIterator[Start]:
    """`await simulate(output_tokens=5)`: a simulator with these settings, stopped after the test."""
    running: list[Simulator] = []

    async def begin(**settings: Any) -> Simulator:
        running.append(await start("127.0.0.1", 0, Settings(**settings)))
        return running[-1]

    yield begin
    for simulator in running:
        await simulator.stop()


@pytest.fixture
async def http() -> AsyncIterator[aiohttp.ClientSession]:
    """A client that leaves bodies as they come."""
    async with aiohttp.ClientSession(auto_decompress=False) as session:
        yield session
