"""Whose objects are whose is known to every worker, and outlives control and the gateway."""

from __future__ import annotations

import os
import signal

import aiohttp

from gateway.simulator.server import Simulator
from tests.conftest import StartGateway
from tests.line.passing import FILE, FORM, OTHER_KEY, form, open_policy
from tests.running import KEY, Gateway


async def upload(gateway: Gateway, key: str) -> str:
    headers = {**FORM, "authorization": f"Bearer {key}"}
    async with aiohttp.request("POST", f"{gateway.url}/files", data=form(FILE), headers=headers) as answer:
        assert answer.status == 200, await answer.text()
        return str((await answer.json())["id"])


async def status(gateway: Gateway, file: str, key: str) -> int:
    # A connection each, so that both workers are asked.
    headers = {"authorization": f"Bearer {key}", "connection": "close"}
    async with aiohttp.request("GET", f"{gateway.url}/files/{file}", headers=headers) as answer:
        return answer.status


async def test_record_outlives_control_and_the_gateway(serve: StartGateway, simulator: Simulator) -> None:
    gateway = await serve(open_policy(simulator.url), workers=2)
    mine, theirs = await upload(gateway, KEY), await upload(gateway, OTHER_KEY)
    assert {await status(gateway, mine, KEY) for _ in range(8)} == {200}
    assert {await status(gateway, mine, OTHER_KEY) for _ in range(8)} == {404}
    os.kill(gateway.running()["control_pid"], signal.SIGKILL)
    # Waits for the next control; nothing is refused meanwhile.
    assert (await status(gateway, mine, KEY), await status(gateway, theirs, KEY)) == (200, 404)
    assert gateway.stop() == 0
    gateway.start()
    await gateway.ready()
    assert (await status(gateway, mine, KEY), await status(gateway, mine, OTHER_KEY)) == (200, 404)
