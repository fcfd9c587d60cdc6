"""A pool never opens more than its cap, and loses no place, whoever leaves and whatever fails."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import AsyncIterator, Callable

import pytest

from gateway.http.dial import Origin
from gateway.http.pool import Pool
from gateway.http.upstream import UpstreamConnection
from gateway.http.wheel import Wheel
from tests.running import eventually


@pytest.fixture
async def wheel() -> AsyncIterator[Wheel]:
    wheel = Wheel(asyncio.get_running_loop())
    yield wheel
    wheel.close()


async def listening(connections: list[asyncio.StreamWriter]) -> tuple[asyncio.Server, int]:
    async def accept(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        connections.append(writer)

    server = await asyncio.start_server(accept, "127.0.0.1", 0)
    return server, server.sockets[0].getsockname()[1]


async def take(pool: Pool) -> UpstreamConnection | None:
    got: asyncio.Future[UpstreamConnection | None] = asyncio.get_running_loop().create_future()
    pool.connect(got.set_result, 2.0)
    return await asyncio.wait_for(got, 3)


async def test_waiter_that_left_after_a_loss_gets_nothing_and_the_next_one_does(wheel: Wheel) -> None:
    accepted: list[asyncio.StreamWriter] = []
    server, port = await listening(accepted)
    pool = Pool(Origin("http", "127.0.0.1", port), wheel, max_connections=1, idle_s=30)
    only = await take(pool)
    assert only is not None
    told: list[object] = []
    leave = pool.connect(told.append, 2.0)
    only.close()
    leave()
    again = await take(pool)
    assert again is not None
    assert not again.closed
    assert told == []
    again.close()
    await eventually(lambda: again.closed)
    assert await take(pool) is not None
    pool.retire()
    server.close()


async def test_failed_tls_through_a_proxy_gives_its_place_back_once(wheel: Wheel) -> None:
    async def proxy(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(b"HTTP/1.1 200 OK\r\n\r\n")
        await reader.read(64)
        writer.write(b"this is no TLS" * 10)
        writer.close()

    server = await asyncio.start_server(proxy, "127.0.0.1", 0)
    port = server.sockets[0].getsockname()[1]
    origin = Origin("https", "provider.example", 443, proxy=f"http://127.0.0.1:{port}")
    pool = Pool(origin, wheel, max_connections=2, idle_s=30)
    for _ in range(3):
        assert await take(pool) is None
        assert pool._open == 0
    server.close()


async def test_refused_dial_gives_its_place_back(wheel: Wheel) -> None:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    pool = Pool(Origin("http", "127.0.0.1", port), wheel, max_connections=1, idle_s=30)
    for _ in range(3):
        assert await take(pool) is None
    assert pool._open == 0


async def test_lowered_cap_holds_for_what_comes_after(wheel: Wheel) -> None:
    accepted: list[asyncio.StreamWriter] = []
    server, port = await listening(accepted)
    pool = Pool(Origin("http", "127.0.0.1", port), wheel, max_connections=5, idle_s=30)
    pool.configure(max_connections=1, idle_s=30)
    first = await take(pool)
    assert first is not None
    got: list[UpstreamConnection | None] = []
    pool.connect(got.append, 2.0)
    pool.release(first)
    assert got == [first]
    assert len(accepted) == 1
    pool.retire()
    first.close()
    server.close()


class Dialled:
    """A port whose connections are taken, or refused once they were made, in the order they come.

    TLS lets a dial be under way for as long as a test wants: a provider that does not shake hands.
    """

    def __init__(self) -> None:
        self.waiting: list[asyncio.StreamWriter] = []
        self.port = 0
        self.server: asyncio.Server | None = None

    async def start(self) -> Origin:
        self.server, self.port = await listening(self.waiting)
        return Origin("https", "127.0.0.1", self.port)

    async def refuse(self, place: int) -> None:
        """Ends the dial that came as number `place` (from 0)."""
        await eventually(lambda: len(self.waiting) > place)
        self.waiting[place].transport.abort()


@pytest.fixture
async def dialled() -> AsyncIterator[Dialled]:
    dialled = Dialled()
    yield dialled
    for writer in dialled.waiting:
        writer.transport.abort()
    assert dialled.server is not None
    dialled.server.close()


Told = list[tuple[str, UpstreamConnection | None]]


def wait_as(pool: Pool, told: Told, name: str) -> Callable[[], None]:
    return pool.connect(lambda connection: told.append((name, connection)), 5.0)


async def test_dial_that_fails_fails_its_own_waiter_and_no_other(wheel: Wheel, dialled: Dialled) -> None:
    pool = Pool(await dialled.start(), wheel, max_connections=2, idle_s=30)
    told: Told = []
    wait_as(pool, told, "first")
    await eventually(lambda: len(dialled.waiting) == 1)
    wait_as(pool, told, "second")
    await dialled.refuse(1)
    await eventually(lambda: told)
    assert told == [("second", None)]
    await dialled.refuse(0)
    await eventually(lambda: len(told) == 2)
    assert told[1] == ("first", None)
    assert pool._open == 0


async def test_waiter_beyond_the_cap_is_given_a_dial_when_anothers_fails(
    wheel: Wheel, dialled: Dialled
) -> None:
    pool = Pool(await dialled.start(), wheel, max_connections=1, idle_s=30)
    told: Told = []
    for name in ("first", "second", "third"):
        wait_as(pool, told, name)
    for place, name in enumerate(("first", "second", "third")):
        await dialled.refuse(place)
        await eventually(lambda: len(told) == place + 1)  # noqa: B023
        assert told[-1] == (name, None)
    assert len(dialled.waiting) == 3
    assert pool._open == 0


async def test_dial_of_a_waiter_that_left_fails_nobody(wheel: Wheel, dialled: Dialled) -> None:
    pool = Pool(await dialled.start(), wheel, max_connections=1, idle_s=30)
    told: Told = []
    leave = wait_as(pool, told, "first")
    wait_as(pool, told, "second")
    leave()
    await dialled.refuse(0)
    await eventually(lambda: len(dialled.waiting) == 2)
    assert told == []
    await dialled.refuse(1)
    await eventually(lambda: told)
    assert told == [("second", None)]


async def test_waiter_whose_dial_served_another_is_given_a_new_one(wheel: Wheel) -> None:
    accepted: list[asyncio.StreamWriter] = []
    server, port = await listening(accepted)
    pool = Pool(Origin("http", "127.0.0.1", port), wheel, max_connections=2, idle_s=30)
    kept = await take(pool)
    assert kept is not None
    told: Told = []
    wait_as(pool, told, "first")
    wait_as(pool, told, "second")
    pool.release(kept)
    assert told == [("first", kept)], "whoever waits longest"
    await eventually(lambda: len(told) == 2)
    name, connection = told[1]
    assert name == "second"
    assert connection is not None
    assert connection is not kept
    pool.retire()
    kept.close()
    connection.close()
    server.close()


async def test_raised_cap_gives_waiters_their_dials(wheel: Wheel, dialled: Dialled) -> None:
    pool = Pool(await dialled.start(), wheel, max_connections=1, idle_s=30)
    told: Told = []
    for name in ("first", "second", "third"):
        wait_as(pool, told, name)
    await eventually(lambda: len(dialled.waiting) == 1)
    pool.configure(max_connections=2, idle_s=30)
    await eventually(lambda: len(dialled.waiting) == 2)
    assert pool._open == 2
    for place in range(3):
        await dialled.refuse(place)
    await eventually(lambda: len(told) == 3)
    assert len(dialled.waiting) == 3


async def test_retry_of_who_was_failed_comes_after_those_who_wait(wheel: Wheel, dialled: Dialled) -> None:
    pool = Pool(await dialled.start(), wheel, max_connections=1, idle_s=30)
    told: Told = []

    def again(connection: UpstreamConnection | None) -> None:
        told.append(("first", connection))
        wait_as(pool, told, "first again")

    pool.connect(again, 5.0)
    wait_as(pool, told, "second")
    for place in range(3):
        await dialled.refuse(place)
        await eventually(lambda: len(told) == place + 1)  # noqa: B023
    assert [name for name, _ in told] == ["first", "second", "first again"]


async def test_many_waiters_of_a_provider_that_is_gone_all_hear_of_it(wheel: Wheel) -> None:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    pool = Pool(Origin("http", "127.0.0.1", port), wheel, max_connections=3, idle_s=30)
    told: list[object] = []
    leaves = [pool.connect(told.append, 5.0) for _ in range(100)]
    for leave in leaves[1::2]:
        leave()
    await eventually(lambda: len(told) == 50)
    assert set(told) == {None}
    assert pool._open == 0


async def test_what_came_and_was_not_read_is_known(wheel: Wheel) -> None:
    accepted: list[asyncio.StreamWriter] = []
    server, port = await listening(accepted)
    pool = Pool(Origin("http", "127.0.0.1", port), wheel, max_connections=1, idle_s=30)
    connection = await take(pool)
    assert connection is not None
    await eventually(lambda: accepted)
    assert connection.unread() == 0
    connection.transport.pause_reading()
    accepted[0].write(b"x" * 5_000)
    await eventually(lambda: connection.unread() == 5_000)
    connection.close()
    assert connection.unread() == 0, "a connection that is closing has no socket to ask"
    pool.retire()
    server.close()
