"""Whatever dies, the rest serves on; what was counted stays counted; nothing is left behind."""

from __future__ import annotations

import asyncio
import os
import signal
from contextlib import suppress
from pathlib import Path

import aiohttp
import openai

from gateway.simulator.server import Simulator
from gateway.telemetry.table import ALL
from tests.conftest import StartGateway
from tests.processes.caller import Caller
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
    gauges = {metric.name for metric in ALL if metric.kind == "gauge"}
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
    assert len({line["request_id"] for line in gateway.logged()}) == 22
    assert await gateway.metric("headgate_requests_total", outcome="ok") == 22
    await gateway.edit(policy_for(simulator.url, models="  new: {targets: [upstream/new]}"))


async def test_nothing_outlives_the_supervisor(gateway: Gateway) -> None:
    running = gateway.running()
    assert gateway.process is not None
    family = [running["pid"], running["control_pid"], *running["worker_pids"]]
    assert all(is_alive(pid) for pid in family)
    gateway.process.kill()
    gateway.process.wait()
    await eventually(lambda: not any(is_alive(pid) for pid in family), within_s=1)


async def test_what_is_queued_at_a_dead_worker_is_served_by_its_replacement(
    serve: StartGateway, simulator: Simulator
) -> None:
    gateway = await serve(policy_for(simulator.url))
    (victim,) = gateway.running()["worker_pids"]
    os.kill(victim, signal.SIGSTOP)
    callers = [await Caller.of(gateway) for _ in range(20)]
    for caller in callers:
        caller.ask()
    os.kill(victim, signal.SIGKILL)
    for caller in callers:
        assert (await caller.answer()).status == 200
        caller.close()


async def test_counters_of_control_outlive_it(serve: StartGateway, simulator: Simulator) -> None:
    gateway = await serve(policy_for(simulator.url))
    gateway.policy_file.write_text("models: {a: [}\n")
    async with aiohttp.request("POST", f"{gateway.admin}/admin/reload") as answer:
        assert answer.status == 409
    before = await reloads(gateway)
    assert before["rejected"] >= 1
    victim = gateway.running()["control_pid"]
    os.kill(victim, signal.SIGKILL)
    await eventually(lambda: victim != gateway.running()["control_pid"])
    await gateway.ready()
    after = await reloads(gateway)
    assert all(after[result] >= before[result] for result in before)


async def reloads(gateway: Gateway) -> dict[str, float]:
    return {
        result: await gateway.metric("headgate_policy_reloads_total", result=result)
        for result in ("accepted", "rejected")
    }


async def test_control_that_stands_still_stops_no_call_and_lost_lines_are_counted(
    serve: StartGateway, simulator: Simulator
) -> None:
    gateway = await serve(policy_for(simulator.url))
    control = gateway.running()["control_pid"]
    os.kill(control, signal.SIGSTOP)
    async with client_of(gateway) as client:
        await ask(client)
        # More lines than the worker holds: 4 MiB.
        await asyncio.gather(*(refused_calls(gateway, 3000) for _ in range(5)))
        await ask(client)
    os.kill(control, signal.SIGCONT)
    await gateway.ready()
    dropped = 0.0

    async def settled() -> bool:
        nonlocal dropped
        dropped = await gateway.metric("headgate_log_dropped_total")
        return len(gateway.logged()) + dropped == 15_002

    await eventually(settled, says=lambda: f"{len(gateway.logged())} lines, {dropped} dropped")
    assert dropped > 0


async def refused_calls(gateway: Gateway, count: int) -> None:
    """Calls without a key, pipelined on one connection."""
    host, _, port = gateway.running()["listen"].rpartition(":")
    reader, writer = await asyncio.open_connection(host, int(port))
    writer.write(b"GET /v1/models HTTP/1.1\r\nHost: x\r\n\r\n" * count)
    for _ in range(count):
        head = await reader.readuntil(b"\r\n\r\n")
        assert head.startswith(b"HTTP/1.1 401")
        await reader.readexactly(int(head.lower().partition(b"content-length: ")[2].partition(b"\r")[0]))
    writer.close()


async def test_output_that_nobody_reads_stops_nothing(tmp_path: Path, simulator: Simulator) -> None:
    """stdout and stderr are one pipe, and it is full."""
    gateway = Gateway(tmp_path, policy_for(simulator.url), workers=2, environ={})
    read, write = os.pipe()
    os.set_blocking(write, False)
    with suppress(BlockingIOError):
        while True:
            os.write(write, b"x" * 4096)
    os.set_blocking(write, True)
    gateway.start("--log", "-", output=write)
    os.close(write)
    try:
        await gateway.ready()
        victim = gateway.running()["worker_pids"][0]
        os.kill(victim, signal.SIGKILL)  # which the supervisor has something to say of
        await eventually(lambda: victim not in gateway.running()["worker_pids"])
        gateway.policy_file.write_text("models: {a: [}\n")  # and control of this
        async with aiohttp.request("POST", f"{gateway.admin}/admin/reload") as answer:
            assert answer.status == 409
        async with client_of(gateway, retries=2) as client:
            await asyncio.gather(*(ask(client) for _ in range(40)))
        assert await gateway.metric("headgate_requests_total", outcome="ok") == 40
    finally:
        assert gateway.stop() == 0
        os.close(read)


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
