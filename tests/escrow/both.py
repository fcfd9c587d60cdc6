"""A store that is a real redis-server and the book at once: each is asked everything, and they must agree."""

from __future__ import annotations

import secrets
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import redis

from gateway.quota.book import Book
from gateway.quota.contract import Balance, Exchange, Reply, Terms
from gateway.stores.redis import DRY_MS, RedisStore
from tests.escrow.worker import World
from tests.stores.memory import MemoryStore
from tests.stores.redis_server import RedisServer
from tests.stores.test_redis_agrees import comparable


class AtOnce:
    """A client of the server whose answers take no virtual time: it waits for them in the real one."""

    def __init__(self, server: RedisServer) -> None:
        self._client: Any = redis.Redis(unix_socket_path=str(server.socket), decode_responses=True)

    def __getattr__(self, name: str) -> Callable[..., Any]:
        command = getattr(self._client, name)

        async def asked(*arguments: Any, **options: Any) -> Any:
            return command(*arguments, **options)

        return asked


class Both(MemoryStore):
    """One run's store. What differs is a failure of the world."""

    def __init__(self, server: RedisServer, world: World) -> None:
        super().__init__(world)
        self.book = Book(dry_ms=DRY_MS)
        self._world = world
        self._redis = RedisStore(server.url, host_id="h1", prefix=secrets.token_hex(4), deadline_s=60.0)
        self._redis._client = AtOnce(server)

    @property
    def redis(self) -> RedisStore:
        """The one, at the time of the other."""
        self._redis.clock = f"={self._world.now_ms}"
        return self._redis

    def again(self) -> Both:
        """As the next keeper finds it: the server forgets nothing."""
        return self

    async def hello(self, owner: str, epoch: int, got: Mapping[str, int]) -> None:
        await super().hello(owner, epoch, got)
        await self.redis.hello(owner, epoch, got)

    async def exchange(self, exchange: Exchange) -> Reply:
        reply = await super().exchange(exchange)
        self._agree(exchange, comparable(reply), comparable(await self.redis.exchange(exchange)))
        return reply

    async def bury(
        self,
        owner: str,
        epoch: int,
        used: Mapping[str, int],
        holds: Mapping[str, int],
        rows: Sequence[Any] = (),
    ) -> dict[str, int]:
        posted = await super().bury(owner, epoch, used, holds, rows)
        self._agree("bury", posted, await self.redis.bury(owner, epoch, used, holds, rows))
        return posted

    async def expire(self) -> list[str]:
        names = await super().expire()
        self._agree("expire", sorted(names), sorted(await self.redis.expire()))
        return names

    async def set_terms(self, terms: Mapping[str, Terms]) -> list[str]:
        changed = await super().set_terms(terms)
        self._agree("set_terms", sorted(changed), sorted(await self.redis.set_terms(terms)))
        return changed

    async def adjust(self, bucket: str, amount: int, audit: Mapping[str, Any]) -> Balance:
        balance = await super().adjust(bucket, amount, audit)
        self._agree("adjust", balance, await self.redis.adjust(bucket, amount, audit))
        return balance

    async def verify(self) -> list[str]:
        self._agree("balances", sorted(await self.balances()), sorted(await self.redis.balances()))
        return [*await super().verify(), *await self.redis.verify()]

    def _agree(self, asked: object, one: object, other: object) -> None:
        if one != other:
            self._world.fail(f"{asked}: the book says {one}, Redis {other}")
