"""The stores that the same suite runs on, and their clocks.

A test that asks for `store` (and `clock`) runs on every store of `STORES`. To add one: a coroutine function
that gives a fresh, empty store and the clock that it goes by, and a line there.
"""

from __future__ import annotations

import secrets
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from typing import Any

import pytest

from gateway.quota.contract import Store
from gateway.stores.embedded import EmbeddedStore
from gateway.stores.redis import RedisStore
from tests.stores.redis_server import RedisServer
from tests.stores.teller import Clock, HandClock

MakeStore = Callable[..., RedisStore]


async def embedded(request: pytest.FixtureRequest) -> tuple[Store, Clock]:
    clock, folder = HandClock(), request.getfixturevalue("tmp_path")
    return EmbeddedStore(folder / "ledger.db", lambda: clock.now_ms), clock


class ServerClock:
    """The clock of a redis-server as a store sees it: stopped, and moved by hand."""

    def __init__(self, store: RedisStore) -> None:
        self._store, self.now_ms = store, HandClock().now_ms
        store.clock = f"={self.now_ms}"

    async def advance(self, ms: int) -> None:
        self.now_ms += ms
        self._store.clock = f"={self.now_ms}"


async def on_redis(request: pytest.FixtureRequest) -> tuple[Store, Clock]:
    server: RedisServer = request.getfixturevalue("shared_redis")
    store = RedisStore(server.url, host_id="h1", prefix=secrets.token_hex(4), deadline_s=5.0)
    return store, ServerClock(store)


STORES: dict[str, Callable[[pytest.FixtureRequest], Awaitable[tuple[Store, Clock]]]] = {
    "embedded": embedded,
    "redis": on_redis,
}


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


@pytest.fixture(scope="session")
def shared_redis() -> Iterator[RedisServer]:
    """Never to be harmed: tests that harm theirs take `redis_server`. It does not wait for its disk."""
    server = RedisServer("--appendonly", "no").start()
    yield server
    server.stop()


@pytest.fixture
def redis_server() -> Iterator[RedisServer]:
    server = RedisServer().start()
    yield server
    server.stop()


@pytest.fixture
async def make_store(shared_redis: RedisServer) -> AsyncIterator[MakeStore]:
    """`make_store()`: a store on Redis; all of one test see the same buckets."""
    made: list[RedisStore] = []
    prefix = secrets.token_hex(4)

    def make(host_id: str = "h1", url: str = shared_redis.url, **more: Any) -> RedisStore:
        made.append(RedisStore(url, host_id=host_id, prefix=prefix, **more))
        return made[-1]

    yield make
    for store in made:
        await store.close()
