"""Stopping: not ready at once, what is under way is finished, nothing is lost."""

from __future__ import annotations

import asyncio
import json
import signal

import aiohttp

from tests.conftest import StartGateway, StartSimulator
from tests.relaying import CHAT
from tests.running import KEY, Gateway, eventually, policy_for


async def test_ready_is_red_while_a_stream_is_finished(serve: StartGateway, simulate: StartSimulator) -> None:
    simulator = await simulate(output_tokens=40, tokens_per_s=20)
    gateway = await serve(policy_for(simulator.url))
    assert gateway.process is not None
    headers = {"authorization": f"Bearer {KEY}"}
    body = json.dumps({**CHAT, "stream": True})
    async with aiohttp.request(
        "POST", f"{gateway.url}/chat/completions", data=body, headers=headers
    ) as answer:
        first = await answer.content.readline()
        gateway.process.send_signal(signal.SIGTERM)
        await eventually(lambda: is_red(gateway))
        rest = await answer.read()
    assert first.startswith(b"data: ")
    assert rest.endswith(b"data: [DONE]\n\n")
    assert await asyncio.to_thread(gateway.process.wait, 20) == 0
    (line,) = gateway.logged()
    assert line["outcome"] == "ok"
    assert line["cost_nanousd"] > 0


async def is_red(gateway: Gateway) -> bool:
    async with aiohttp.request("GET", f"{gateway.admin}/readyz") as answer:
        return answer.status == 503 and (await answer.json())["reasons"] == ["stopping"]
