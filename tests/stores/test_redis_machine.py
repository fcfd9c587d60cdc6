"""Random owners over a bad line, against Redis: see `machine.py` for what must hold."""

from __future__ import annotations

import os
import secrets

import pytest

from gateway.stores.redis import RedisStore
from tests.stores.conftest import ServerClock
from tests.stores.machine import Machine
from tests.stores.redis_server import RedisServer

SEED = int(os.environ.get("MACHINE_SEED", "1"))


async def run(server: RedisServer, seed: int, steps: int) -> None:
    store = RedisStore(server.url, host_id="h1", prefix=secrets.token_hex(4), deadline_s=5.0)
    await Machine(store, ServerClock(store), seed).run(steps)
    await store.close()


async def test_random_owners(shared_redis: RedisServer) -> None:
    await run(shared_redis, SEED, 2_000)


@pytest.mark.proof
@pytest.mark.timeout(3_600)
async def test_random_owners_for_long(shared_redis: RedisServer) -> None:
    for seed in range(SEED + 3_000, SEED + 3_020):
        await run(shared_redis, seed, 10_000)
