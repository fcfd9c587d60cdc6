"""The cap on connections per address reaches the workers, by flag or by environment."""

from __future__ import annotations

import asyncio

import pytest

from gateway.simulator.server import Simulator
from tests.conftest import StartGateway
from tests.running import policy_for


@pytest.mark.parametrize("by_flag", [True, False], ids=["flag", "environment"])
async def test_second_connection_of_an_address_is_refused(
    serve: StartGateway, simulator: Simulator, by_flag: bool
) -> None:
    flags = ["--max-connections-per-address", "1"] if by_flag else []
    environ = {} if by_flag else {"HEADGATE_MAX_CONNECTIONS_PER_ADDRESS": "1"}
    gateway = await serve(policy_for(simulator.url), *flags, environ=environ)
    host, _, port = gateway.running()["listen"].rpartition(":")
    _, first = await asyncio.open_connection(host, int(port))
    reader, second = await asyncio.open_connection(host, int(port))
    assert (await asyncio.wait_for(reader.readuntil(b"\r\n"), 5)).startswith(b"HTTP/1.1 503 ")
    first.close()
    second.close()
