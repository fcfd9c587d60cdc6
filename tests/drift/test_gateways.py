"""Four gateways on one Redis: a change is found as by one, told once, and no text is kept."""

from __future__ import annotations

import io
import os
import signal
import zipfile
from collections.abc import Iterator
from typing import Any

import aiohttp
import pytest
import redis

from tests.conftest import StartGateway, StartSimulator
from tests.drift.test_gateway import WATCH, Receiver, calls, receiver, told
from tests.running import Gateway, eventually, policy_for
from tests.stores.redis_server import RedisServer

__all__ = ["receiver"]
GATEWAYS = 4
SECRET = "marzipan-potato-7316"
"""Part of every system prompt."""


@pytest.fixture
def server() -> Iterator[RedisServer]:
    started = RedisServer().start()
    yield started
    started.stop()


@pytest.fixture
async def gateways(
    serve: StartGateway, simulate: StartSimulator, server: RedisServer, receiver: tuple[str, Receiver]
) -> list[Gateway]:
    simulator = await simulate(change_at=401, change_style="terse")
    rest = f'{WATCH}\nstore: {{redis: {{env: REDIS_URL}}}}\nalerts: {{webhook: "{receiver[0]}"}}\n'
    policy = policy_for(str(simulator.url), rest=rest)
    return [await serve(policy, workers=1, environ={"REDIS_URL": server.url}) for _ in range(GATEWAYS)]


async def call_all(http: aiohttp.ClientSession, gateways: list[Gateway], numbers: range) -> None:
    """Eight calls at each gateway, then at the next."""
    for first in range(numbers.start, numbers.stop, 8):
        some = range(first, min(first + 8, numbers.stop))
        await calls(http, gateways[first // 8 % len(gateways)], some, system=f"You know of {SECRET}.")


# Judging together is what test_shared.py is about, in one process; whole gateways are in test_gateway.py.
@pytest.mark.long
async def test_four_gateways_find_a_change_as_one_does(
    gateways: list[Gateway], server: RedisServer, http: aiohttp.ClientSession, receiver: tuple[str, Receiver]
) -> None:
    await call_all(http, gateways, range(400))
    for gateway in gateways:
        stream = await told(http, gateway, lambda stream: stream["answers"] == 400)
        assert stream["state"] == "ok"
    await call_all(http, gateways, range(400, 480))
    alarms: list[dict[str, Any]] = []
    for gateway in gateways:
        stream = await told(http, gateway, lambda stream: stream["state"] == "drift")
        alarms.append(stream["alarm"])
        names = {"model": "gpt-4o", "target": "upstream/gpt-4o"}
        assert await gateway.metric("headgate_drift_alarms_total", **names, kind="answers") == 1
    assert {alarm["id"] for alarm in alarms} == {alarms[0]["id"]}
    assert alarms[0]["answers"] <= 60, "as many as one gateway needs"
    assert await told_of(receiver[1], 1)
    for gateway in gateways[:3]:
        os.kill(gateway.running()["control_pid"], signal.SIGKILL)
        await told(http, gateway, lambda stream: stream["state"] == "drift")
    await call_all(http, gateways, range(480, 560))
    for gateway in gateways:
        await told(http, gateway, lambda stream: stream["answers"] == 560)
    assert len(receiver[1].came) == 1, "it was told once"
    assert SECRET.encode() not in everything(server)


async def told_of(hook: Receiver, times: int) -> bool:
    await eventually(lambda: len(hook.came) >= times)
    return len(hook.came) == times


def everything(server: RedisServer) -> bytes:
    """All values of all keys, states unpacked."""
    client = redis.Redis(unix_socket_path=str(server.socket))
    found: list[bytes] = []
    for key in client.keys("*drift*"):
        kind = client.type(key)
        if kind == b"hash":
            found += [part for pair in client.hgetall(key).items() for part in pair]
        elif kind == b"stream":
            found += [value for _, fields in client.xrange(key) for value in fields.values()]
        elif kind == b"string":
            found.append(client.get(key))
    client.close()
    packed = [value for value in found if b"PK\x03\x04" in value]
    assert packed
    for state in packed:
        with zipfile.ZipFile(io.BytesIO(state[state.index(b"PK") :])) as archive:
            found += [archive.read(name) for name in archive.namelist()]
    told = b"".join(found)
    assert b"system_fingerprint" in told and b"upstream/gpt-4o" in told, "it was looked at"
    return told
