"""The stores that the same suite runs on, and their clocks.

A test that asks for `store` (and `clock`) runs on every store of `STORES`. To add one: a coroutine function
that gives a fresh, empty store and the clock that it goes by, and a line there.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable

import pytest

from gateway.quota.contract import Store
from gateway.stores.embedded import EmbeddedStore
from tests.stores.teller import Clock, HandClock


async def embedded(request: pytest.FixtureRequest) -> tuple[Store, Clock]:
    clock, folder = HandClock(), request.getfixturevalue("tmp_path")
    return EmbeddedStore(folder / "ledger.db", lambda: clock.now_ms), clock


STORES: dict[str, Callable[[pytest.FixtureRequest], Awaitable[tuple[Store, Clock]]]] = {"embedded": embedded}


@pytest.fixture(params=sorted(STORES))
async def stores(request: pytest.FixtureRequest) -> AsyncIterator[tuple[Store, Clock]]:
    """A fresh store of each kind, with its clock."""
    store, clock = await STORES[request.param](request)
    yield store, clock
    await store.close()


@pytest.fixture
def store(stores: tuple[Store, Clock]) -> Store:
    return stores[0]


@pytest.fixture
def clock(stores: tuple[Store, Clock]) -> Clock:
    return stores[1]
