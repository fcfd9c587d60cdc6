"""When the keeper takes its store to be up."""

from __future__ import annotations

from pathlib import Path

import pytest

from gateway.control.kept_store import KeptStore
from gateway.quota.contract import Store, StoreDown
from gateway.stores.redis import RedisStore
from gateway.telemetry.meters import KeeperMeters
from gateway.telemetry.slots import SlotFile
from tests.stores.redis_server import RedisServer


async def test_store_that_can_only_be_read_is_not_up(tmp_path: Path) -> None:
    server, changes = RedisServer().start(), []

    async def opened() -> Store:
        return RedisStore(server.url, host_id="h1", deadline_s=2.0)

    try:
        slots = SlotFile.create(tmp_path / "slots", slots=64)
        store = KeptStore(KeeperMeters(slots), lambda: changes.append(store.state()["up"]))
        await store.open(opened)
        await store.ask(lambda redis: redis.expire())
        server.readonly()
        with pytest.raises(StoreDown):
            await store.ask(lambda redis: redis.expire())
        assert await store.ask(lambda redis: redis.balances(), is_reading=True) == []
        assert changes == [True, False]
        server.readonly(False)
        await store.ask(lambda redis: redis.expire())
        assert changes == [True, False, True]
        await store.close()
    finally:
        server.stop()
