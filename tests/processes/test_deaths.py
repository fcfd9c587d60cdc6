"""Whatever dies, the rest serves on; what was counted stays counted; nothing is left behind."""

from __future__ import annotations

import asyncio
import os
import signal
from pathlib import Path

import openai

from gateway.simulator.server import Simulator
from tests.conftest import StartGateway
from tests.running import KEY, Gateway, eventually, policy_for

MESSAGES = [{"role": "user", "content": "Still there?"}]


def client_of(gateway: Gateway, retries: int = 0) -> openai.AsyncOpenAI:
    return openai.AsyncOpenAI(base_url=gateway.url, api_key=KEY, max_retries=retries)


async def ask(client: openai.AsyncOpenAI) -> None:
    answer = await client.chat.completions.create(model="gpt-4o-mini", messages=MESSAGES)  # type: ignore[arg-type]
    assert answer.choices[0].message.content


def is_alive(pid: int) -> bool:
    try:
        state = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except FileNotFoundError:
        return False
    return state != "Z"


async def test_worker_that_dies_is_replaced_and_no_counter_goes_back(
    serve: StartGateway, simulator: Simulator
) -> None:
    gateway = await serve(policy_for(simulator.url), workers=2)
    async with client_of(gateway) as client:
        for _ in range(6):
            await ask(client)
    before = await gateway.metrics()
    victim = gateway.running()["worker_pids"][0]
    os.kill(victim, signal.SIGKILL)
    await eventually(lambda: victim not in gateway.running()["worker_pids"])
    # Each caller tries again once, as SDKs do: a connection in the dead worker's queue may be reset.
    async with client_of(gateway, retries=2) as client:
        await asyncio.gather(*(ask(client) for _ in range(40)))
    await eventually(lambda: restarts(gateway))
    after = await gateway.metrics()
    gauges = ("headgate_policy_age_seconds", "headgate_streams_open")
    for sample, value in before.items():
        assert after.get(sample, 0) >= value or sample[0] in gauges, sample
    assert await gateway.metric("headgate_requests_total", outcome="ok") >= 46
    await gateway.ready()


async def restarts(gateway: Gateway) -> bool:
    return await gateway.metric("headgate_worker_restarts_total") == 1


async def test_calls_go_on_while_control_is_dead(serve: StartGateway, simulator: Simulator) -> None:
    gateway = await serve(policy_for(simulator.url))
    async with client_of(gateway) as client:
        await ask(client)
        victim = gateway.running()["control_pid"]
        os.kill(victim, signal.SIGKILL)
        for _ in range(20):
            await ask(client)
        await eventually(lambda: victim != gateway.running()["control_pid"])
        await gateway.ready()
        await ask(client)
    await gateway.log_lines(22)
    assert await gateway.metric("headgate_requests_total", outcome="ok") == 22
    await gateway.edit(policy_for(simulator.url, models="  new: {targets: [upstream/new]}"))


async def test_nothing_outlives_the_supervisor(gateway: Gateway) -> None:
    running = gateway.running()
    assert gateway.process is not None
    family = [running["pid"], running["control_pid"], *running["worker_pids"]]
    assert all(is_alive(pid) for pid in family)
    gateway.process.kill()
    gateway.process.wait()
    await eventually(lambda: not any(is_alive(pid) for pid in family), within_s=5)


async def test_gateway_starts_again_in_the_folder_of_one_that_was_killed(
    serve: StartGateway, simulator: Simulator
) -> None:
    gateway = await serve(policy_for(simulator.url))
    assert gateway.process is not None
    gateway.process.kill()
    gateway.process.wait()
    gateway.start()
    await eventually(lambda: gateway.running()["pid"] == gateway.process.pid)
    await gateway.ready()
    async with client_of(gateway) as client:
        await ask(client)
