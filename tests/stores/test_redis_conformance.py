"""What every store does, on a real redis-server; random owners over a bad line."""

from __future__ import annotations

import os
import secrets
from collections.abc import AsyncIterator

import pytest

from gateway.stores.redis import RedisStore
from tests.stores.conformance import Conformance, MakeStore
from tests.stores.machine import Machine
from tests.stores.redis_server import RedisServer

SEED = int(os.environ.get("MACHINE_SEED", "1"))


class ServerClock:
    """Stops the server's clock for its stores, and moves it by hand."""

    def __init__(self) -> None:
        self.now_ms = 1_764_000_000_000
        self.stores: list[RedisStore] = []

    async def advance(self, ms: int) -> None:
        self.now_ms += ms
        for store in self.stores:
            store.clock = f"={self.now_ms}"


@pytest.fixture
def clock() -> ServerClock:
    return ServerClock()


@pytest.fixture
async def make_store(shared_redis: RedisServer, clock: ServerClock) -> AsyncIterator[MakeStore]:
    async def make() -> RedisStore:
        store = RedisStore(shared_redis.url, host_id="h1", prefix=secrets.token_hex(4), deadline_s=5.0)
        clock.stores.append(store)
        await clock.advance(0)
        return store

    yield make
    for store in clock.stores:
        await store.close()


class TestRedis(Conformance):
    """The suite of all stores."""


@pytest.mark.parametrize("seed", range(SEED, SEED + 2))
async def test_random_owners(make_store: MakeStore, clock: ServerClock, seed: int) -> None:
    await Machine(await make_store(), clock, seed).run(1_000)


@pytest.mark.proof
@pytest.mark.timeout(3_600)
async def test_random_owners_for_long(make_store: MakeStore, clock: ServerClock) -> None:
    for seed in range(SEED + 3_000, SEED + 3_020):
        await Machine(await make_store(), clock, seed).run(10_000)
