"""Connections above a cap are refused, and each that ends makes room for another."""

from __future__ import annotations

import asyncio

import pytest

from gateway.errors import TOO_MANY_CONNECTIONS
from tests.http.conftest import Asked, StartEcho
from tests.running import eventually

GET = b"GET / HTTP/1.1\r\nhost: x\r\n\r\n"


class Peer:
    """A caller's connection from an address of its own."""

    def __init__(self, asked: Asked, address: str) -> None:
        self._asked, self._address = asked, address

    async def __aenter__(self) -> Peer:
        self._reader, self._writer = await asyncio.open_connection(
            self._asked.host, self._asked.port, local_addr=(self._address, 0)
        )
        return self

    async def __aexit__(self, *_: object) -> None:
        self._writer.close()

    async def status(self) -> int:
        """Of the answer to a request, or of the refusal that came instead."""
        self._writer.write(GET)
        head = await asyncio.wait_for(self._reader.readuntil(b"\r\n\r\n"), 5)
        return int(head.split()[1])

    async def at_end(self) -> bool:
        return await asyncio.wait_for(self._reader.read(), 5) == b""


async def test_address_has_its_own_cap(echo: StartEcho) -> None:
    asked = await echo(max_connections_per_address=2)
    async with Peer(asked, "127.0.0.2") as first, Peer(asked, "127.0.0.2") as second:
        assert await first.status() == await second.status() == 200
        async with Peer(asked, "127.0.0.2") as third, Peer(asked, "127.0.0.3") as other:
            assert await third.status() == 503
            assert await third.at_end()
            assert await other.status() == 200
        assert await first.status() == await second.status() == 200
    assert asked.refused == [TOO_MANY_CONNECTIONS]


async def test_connection_that_ends_makes_room_whether_it_was_refused_or_not(echo: StartEcho) -> None:
    asked = await echo(max_connections_per_address=1)
    assert asked.server is not None
    for _ in range(3):
        async with Peer(asked, "127.0.0.2") as first:
            assert await first.status() == 200
            async with Peer(asked, "127.0.0.2") as second:
                assert await second.status() == 503
        await eventually(lambda: not asked.server.connections)
        assert not asked.server._by_address


@pytest.mark.parametrize("cap", [0, 5])
async def test_cap_that_is_not_reached_refuses_nobody(echo: StartEcho, cap: int) -> None:
    asked = await echo(max_connections_per_address=cap)
    peers = [Peer(asked, "127.0.0.1") for _ in range(5)]
    for peer in peers:
        await peer.__aenter__()
        assert await peer.status() == 200
    for peer in peers:
        await peer.__aexit__()
    assert not asked.refused
