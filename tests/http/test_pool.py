"""A pool never opens more than its cap, and loses no place, whoever leaves and whatever fails."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import AsyncIterator

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
