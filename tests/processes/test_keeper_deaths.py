"""The keeper dies and is replaced; calls and workers do not notice."""

from __future__ import annotations

import os
import signal

from gateway.link.keeper_queries import KeeperQueries
from gateway.simulator.server import Simulator
from tests.conftest import StartGateway
from tests.processes.test_deaths import ask, client_of
from tests.running import eventually, policy_for


async def test_keeper_that_is_killed_is_replaced_and_calls_go_on(
    serve: StartGateway, simulator: Simulator
) -> None:
    gateway = await serve(policy_for(simulator.url))
    books = KeeperQueries(str(gateway.state / "keeper.sock"))
    assert await books.ask("state") == {"up": True, "why": ""}
    victim, workers = gateway.running()["keeper_pid"], gateway.running()["worker_pids"]
    os.kill(victim, signal.SIGKILL)
    async with client_of(gateway) as client:
        await ask(client)
    await eventually(lambda: gateway.running()["keeper_pid"] not in (victim, None), says=gateway.said)
    assert await books.ask("verify") == []
    assert gateway.running()["worker_pids"] == workers
    await books.close()
    assert gateway.stop() == 0
    assert "keeper ended (signal 9); starting it again" in gateway.said()
