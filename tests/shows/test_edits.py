"""A lowered limit is in force at once: what purses have of it comes back before anybody can use it."""

from __future__ import annotations

import asyncio
import time
from pathlib import Path

import aiohttp
import pytest

from tests.running import Gateway, eventually
from tests.shows.callers import Line, body_of
from tests.shows.provider import Provider
from tests.shows.world import MODEL, Deploy, policy_of, provider, started

KEYS = {f"key-{number}": "team-0" for number in range(8)}
CALLERS = 8
PAUSE_S = 0.02
IN_FORCE_S = 0.050


def rules(turn: int, usd: str) -> str:
    """One budget for all."""
    return f"budgets: [{{name: all-{turn}, usd: {usd}, every: month}}]"


class Edits:
    """Lowers a budget under load, below what is spent, and looks at what the provider is sent after it."""

    def __init__(self, gateway: Gateway, upstream: Provider) -> None:
        self._gateway, self._upstream = gateway, upstream
        self.late_ms: list[float] = []
        """After the switch the last call came so much later; negative: before it."""

    async def one(self, turn: int) -> None:
        """A new budget, with room for everything; then it is lowered to next to nothing."""
        await self._edit(rules(turn, "100"))
        stopping = asyncio.Event()
        served = len(self._upstream.bill())
        async with asyncio.TaskGroup() as tasks:
            for number in range(CALLERS):
                tasks.create_task(self._caller(f"key-{number % len(KEYS)}", stopping))
            # So that purses are open and full.
            await eventually(lambda: len(self._upstream.bill()) > served + 200)
            await self._edit(rules(turn, "0.000001"))
            switched_s = time.time()
            await asyncio.sleep(0.3)  # in which nothing may come
            stopping.set()
        last_s = max(entry.time_s for entry in self._upstream.bill())
        self.late_ms.append((last_s - switched_s) * 1000)

    async def _caller(self, key: str, stopping: asyncio.Event) -> None:
        line = Line(self._gateway.running()["listen"], key)
        while not stopping.is_set():
            answer = await line.call(body_of(MODEL, "What time is it?", 20))
            assert answer.status in (200, 429), answer
            await asyncio.sleep(PAUSE_S)
        line.close()

    async def _edit(self, said: str) -> None:
        """Returns when all workers have switched."""
        policy = policy_of(self._upstream.url, KEYS, said)
        self._gateway.policy_file.write_text(policy)
        async with aiohttp.request("POST", f"{self._gateway.admin}/admin/reload") as answer:
            assert answer.status == 200, await answer.text()


async def edit(deploy: Deploy, folder: Path, times: int) -> None:
    """So many budgets, each lowered under load."""
    with provider(folder, output_tokens=4) as upstream:
        policy = policy_of(upstream.url, KEYS, rules(-1, "100"))
        with started(deploy(folder / "gateways", policy)) as (gateway,):
            await gateway.ready()
            edits = Edits(gateway, upstream)
            for turn in range(times):
                await edits.one(turn)
    said = (
        f"\n{times} budgets lowered: the last call came {max(edits.late_ms):.1f} ms after the switch at most"
    )
    print(said, sorted(round(late) for late in edits.late_ms))
    assert max(edits.late_ms) <= IN_FORCE_S * 1000, said


@pytest.mark.proof
@pytest.mark.timeout(300)
@pytest.mark.parametrize("deploy", ["embedded-4"], indirect=True)
async def test_fifty_lowered_budgets_are_in_force_at_once(deploy: Deploy, tmp_path: Path) -> None:
    await edit(deploy, tmp_path, 50)
