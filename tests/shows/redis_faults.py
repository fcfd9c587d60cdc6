"""What befalls the Redis that gateways share, for a while."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from dataclasses import dataclass

from tests.stores.redis_server import RedisServer
from tests.stores.slow_line import SlowLine

Befall = Callable[[RedisServer, SlowLine], AbstractAsyncContextManager[None]]


@asynccontextmanager
async def killed(server: RedisServer, line: SlowLine) -> AsyncIterator[None]:
    """kill -9, then started on the same data."""
    server.kill9()
    yield
    await asyncio.to_thread(server.start)


@asynccontextmanager
async def stopped(server: RedisServer, line: SlowLine) -> AsyncIterator[None]:
    server.sigstop()
    yield
    server.sigcont()


@asynccontextmanager
async def emptied(server: RedisServer, line: SlowLine) -> AsyncIterator[None]:
    server.flush()
    yield


@asynccontextmanager
async def read_only(server: RedisServer, line: SlowLine) -> AsyncIterator[None]:
    server.readonly()
    yield
    server.readonly(False)


@asynccontextmanager
async def without_replicas(server: RedisServer, line: SlowLine) -> AsyncIterator[None]:
    server.run("CONFIG", "SET", "min-replicas-to-write", "1")
    yield
    server.run("CONFIG", "SET", "min-replicas-to-write", "0")


@asynccontextmanager
async def full(server: RedisServer, line: SlowLine) -> AsyncIterator[None]:
    server.run("CONFIG", "SET", "maxmemory", "1")
    yield
    server.run("CONFIG", "SET", "maxmemory", "0")


@asynccontextmanager
async def locked(server: RedisServer, line: SlowLine) -> AsyncIterator[None]:
    """Another password than the gateways know. Connections live on with the old one, so they are closed."""
    server.run("CONFIG", "SET", "requirepass", "another")
    for kind in ("normal", "pubsub"):
        server.run("CLIENT", "KILL", "TYPE", kind, "SKIPME", "yes")
    yield
    server.run("CONFIG", "SET", "requirepass", "")


@asynccontextmanager
async def slow(server: RedisServer, line: SlowLine) -> AsyncIterator[None]:
    """50 to 500 ms for each question."""
    line.delay_s, line.longest_s = 0.05, 0.5
    yield
    line.delay_s = line.longest_s = 0.0


@asynccontextmanager
async def far(server: RedisServer, line: SlowLine) -> AsyncIterator[None]:
    """50 ms for each question: within the time that it may take."""
    line.delay_s = 0.05
    yield
    line.delay_s = 0.0


@asynccontextmanager
async def without_scripts(server: RedisServer, line: SlowLine) -> AsyncIterator[None]:
    for _ in range(5):
        server.run("SCRIPT", "FLUSH")
        await asyncio.sleep(0.05)
    yield


@dataclass(frozen=True, slots=True)
class Fault:
    """What befalls it, for how long, and what callers may see of it."""

    befall: Befall
    lasts_s: float
    is_outage: bool = True
    """False: nobody must notice."""
    is_steady: bool = True
    """True: no question is answered while it lasts."""
    forgets_rows: bool = False

    @property
    def name(self) -> str:
        return f"{self.befall.__name__}-{self.lasts_s:g}"


SHORT = (
    Fault(killed, 1.0),
    Fault(stopped, 0.3, is_steady=False),
    Fault(locked, 0.5),
    Fault(full, 0.5),
    Fault(without_scripts, 0, is_outage=False),
    Fault(emptied, 0, is_steady=False, forgets_rows=True),
)
LONG = (
    Fault(killed, 6.0),
    Fault(stopped, 0.3, is_steady=False),
    Fault(stopped, 2.0),
    Fault(stopped, 10.0),
    Fault(emptied, 0, is_steady=False, forgets_rows=True),
    Fault(read_only, 4.0),
    Fault(without_replicas, 4.0),
    Fault(full, 4.0),
    Fault(locked, 4.0),
    Fault(slow, 6.0, is_steady=False),
    Fault(far, 4.0, is_outage=False),
    Fault(without_scripts, 0, is_outage=False),
)
