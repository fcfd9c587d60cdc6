"""A redis-server for the folder's tests, and stores on it that share nothing."""

from __future__ import annotations

import secrets
from collections.abc import AsyncIterator, Callable, Iterator
from typing import Any

import pytest

from gateway.stores.redis import RedisStore
from tests.stores.redis_server import RedisServer

MakeStore = Callable[..., RedisStore]


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
    """`make_store()`: a store; all of one test see the same buckets."""
    made: list[RedisStore] = []
    prefix = secrets.token_hex(4)

    def make(host_id: str = "h1", url: str = shared_redis.url, **more: Any) -> RedisStore:
        made.append(RedisStore(url, host_id=host_id, prefix=prefix, **more))
        return made[-1]

    yield make
    for store in made:
        await store.close()
