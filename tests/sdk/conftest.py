"""The lines of `tests/line`, and the official client as people use it: sync and async."""

from __future__ import annotations

import hashlib
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack

import httpx
import pytest

from gateway.simulator.server import Simulator
from tests.line.conftest import StartRelay, catalogue, relay, start
from tests.relaying import Relay
from tests.running import KEY
from tests.sdk.asking import AsyncSdk, Sdk, SyncSdk
from tests.sdk.matrix import policy_of

__all__ = ["catalogue", "relay", "start"]

MakeSdk = Callable[..., Sdk]


@pytest.fixture
async def line(start: StartRelay, simulator: Simulator) -> Relay:
    """A line with a target of every dialect."""
    return await start(policy_of(simulator.url, hashlib.sha256(KEY.encode()).hexdigest()))


@pytest.fixture(params=[AsyncSdk, SyncSdk], ids=["async", "sync"])
def kind(request: pytest.FixtureRequest) -> type[AsyncSdk] | type[SyncSdk]:
    """The test runs with each."""
    found: type[AsyncSdk] | type[SyncSdk] = request.param
    return found


@pytest.fixture
async def make(kind: type[AsyncSdk] | type[SyncSdk]) -> AsyncIterator[MakeSdk]:
    """`make(url, key, max_retries=0)`, `make(root, azure=True)`: a client, closed afterwards."""
    async with AsyncExitStack() as stack:

        def make_one(url: str, key: str = KEY, *, max_retries: int = 0, azure: bool = False) -> Sdk:
            made = kind.azure(url, key) if azure else kind.plain(url, key, max_retries=max_retries)
            stack.push_async_callback(made.close)
            return made

        yield make_one


@pytest.fixture
async def sdk(make: MakeSdk, relay: Relay) -> Sdk:
    """A client of `relay`."""
    return make(relay.url)


@pytest.fixture
async def https() -> AsyncIterator[tuple[httpx.Client, httpx.AsyncClient]]:
    """Connections for a library that would else keep its own open for as long as the process runs."""
    with httpx.Client(verify=False) as sync:
        async with httpx.AsyncClient(verify=False) as asynchronous:
            yield sync, asynchronous
