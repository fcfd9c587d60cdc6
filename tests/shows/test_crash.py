"""Deaths of processes under load: the books never fall below the provider's bill, and agree with it again."""

from __future__ import annotations

import asyncio
import os
import random
import signal
import time
from collections import Counter
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path

import pytest

from tests.running import Gateway, eventually
from tests.shows.callers import Answer, Line, body_of, worst_nanousd
from tests.shows.provider import CHEAP, PRICES, Provider, cost_of, total_of
from tests.shows.world import MODEL, Deploy, policy_of, provider, started

VICTIMS = ("worker", "keeper", "control", "all")
CALLERS = 12
MOST_TOKENS = 40
RULES = "budgets: [{name: all, usd: 1000, every: month}]\nlimits: [{name: calls, concurrent: 100}]"
QUIET_S = 15.0
"""Within so long after a death what the dead held is settled, though the machine be busy."""


@dataclass
class Seen:
    """What callers saw."""

    answered: dict[str, str] = field(default_factory=dict)
    """Gateway's request id → the provider's id of the answer."""
    outcomes: Counter[str] = field(default_factory=Counter)
    unanswered: int = 0
    """Calls whose connection broke."""


class Load:
    """Callers that call until they are told to stop; each ends the call it has begun."""

    def __init__(self, addresses: Sequence[str], seed: int) -> None:
        self._addresses = addresses
        self._dice = random.Random(seed)
        self.seen = Seen()
        self.stopping = asyncio.Event()

    async def run(self) -> None:
        async with asyncio.TaskGroup() as tasks:
            for number in range(CALLERS):
                address = self._addresses[number % len(self._addresses)]
                tasks.create_task(self._caller(Line(address, "key-0")))

    async def _caller(self, line: Line) -> None:
        while not self.stopping.is_set():
            dice = self._dice
            simulate = {"first_token_ms": dice.randrange(40), "output_tokens": dice.randrange(1, 40)}
            text = f"What is {dice.getrandbits(40):x}?"
            answer = await line.call(body_of(MODEL, text, MOST_TOKENS, simulate=simulate))
            self._note(answer)
            if answer.status != 200:
                await asyncio.sleep(0.01)
        line.close()

    def _note(self, answer: Answer) -> None:
        self.seen.outcomes[f"{answer.status} {answer.code}".strip()] += 1
        if answer.status == 200:
            self.seen.answered[answer.headers["x-request-id"]] = answer.document["id"]
        elif not answer.status:
            self.seen.unanswered += 1


class Deaths:
    """Kills again and again, something of one gateway, and looks at the books after each."""

    def __init__(self, deploy: Deploy, gateways: Sequence[Gateway], upstream: Provider, seed: int) -> None:
        self._deploy, self._gateways, self._upstream, self._seed = deploy, gateways, upstream, seed
        self._gateway = gateways[0]
        self._dice = random.Random(seed)
        self._state = deploy.state(gateways)
        self._account = ""
        self.largest = worst_nanousd(b"x" * 250, MOST_TOKENS, PRICES[CHEAP][0], PRICES[CHEAP][2])
        self.over = 0
        """Nano-dollars that are posted beyond the bill, for what the dead held."""
        self.outcomes: Counter[str] = Counter()
        self.back_s: list[tuple[float, str]] = []
        self.quiet_s: list[tuple[float, str]] = []

    async def one(self, turn: int, victim: str) -> None:
        """A burst of calls, a death in it, and what is left when all is quiet."""
        self._gateway = self._dice.choice(self._gateways)
        load = Load([gateway.running()["listen"] for gateway in self._gateways], self._seed * 1000 + turn)
        loading = asyncio.create_task(load.run())
        await asyncio.sleep(self._dice.uniform(0.05, 0.5))
        await self._compare()
        killed_s = time.monotonic()
        await self._kill(victim)
        await self._compare()
        await self._gateway.ready(within_s=30)
        self.back_s.append((time.monotonic() - killed_s, victim))
        served = load.seen.outcomes["200"]
        await eventually(lambda: load.seen.outcomes["200"] > served + CALLERS, says=self._gateway.said)
        await self._compare()
        load.stopping.set()
        await loading
        self.outcomes += load.seen.outcomes
        await self._judge(load.seen, victim)

    async def _kill(self, victim: str) -> None:
        running = self._gateway.running()
        if victim == "all":
            assert self._gateway.process is not None
            pids = [self._gateway.process.pid, running["control_pid"], running["keeper_pid"]]
            for pid in (*pids, *running["worker_pids"]):
                with suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGKILL)
            self._gateway.process.wait()
            await self._compare()
            self._gateway.start("--listen", running["listen"], "--admin", running["admin"])
            return
        pid = self._dice.choice(running["worker_pids"]) if victim == "worker" else running[f"{victim}_pid"]
        os.kill(pid, signal.SIGKILL)
        await eventually(partial(self._is_replaced, pid), says=self._gateway.said)

    def _is_replaced(self, pid: int) -> bool:
        running = self._gateway.running()
        return pid not in (running["control_pid"], running["keeper_pid"], *running["worker_pids"])

    async def _compare(self) -> None:
        """The books are never below the bill: it is read first, so what they say is of a later moment."""
        billed = total_of(await asyncio.to_thread(self._upstream.bill))
        if self._account or await self._find_account():
            # In a thread: journals are large, and the callers go on.
            assert await asyncio.to_thread(self._state.promised, self._account) >= billed

    async def _find_account(self) -> bool:
        self._account = next(iter((await self._deploy.books(self._gateways)).posted), "")
        return bool(self._account)

    async def _judge(self, seen: Seen, victim: str) -> None:
        """When nothing is under way: all is posted, at most what the dead held beyond the bill."""
        began_s = time.monotonic()
        await eventually(self._is_quiet, within_s=QUIET_S, says=self._what_is_held)
        self.quiet_s.append((time.monotonic() - began_s, victim))
        books = await self._deploy.books(self._gateways)
        assert books.wrong == []
        assert self._state.left(self._account) == {}, "what the dead had idle did not come back"
        bill = {entry.id: cost_of(entry) for entry in self._upstream.bill()}
        rows = {row["request_id"]: row["nanousd"] for row in books.rows}
        wrong = {
            request: (rows[request], bill[answer])
            for request, answer in seen.answered.items()
            # A row may have died with its worker; its use was in the journal, and is in the sum below.
            if rows.get(request, bill[answer]) != bill[answer]
        }
        assert wrong == {}
        missing = [request for request in seen.answered if request not in rows]
        assert not missing or victim in ("worker", "all"), f"{victim}: {len(missing)} rows are missing"
        over = books.posted[self._account] - sum(bill.values())
        lost = over - self.over
        # Each caller has one call under way.
        open_holds = min(seen.unanswered, CALLERS)
        assert 0 <= lost <= open_holds * self.largest, (victim, lost, seen.outcomes)
        self.over = over

    def _is_quiet(self) -> bool:
        if self._state.held(self._account):
            return False
        return self._state.promised(self._account) == self._state.posted(self._account)

    def _what_is_held(self) -> str:
        state, account = self._state, self._account
        return (
            f"held {state.held(account)}, promised {state.promised(account)}, posted and told "
            f"{state.look(account)}, journals {state.journals()} {self._gateway.said()[-500:]}"
        )


async def die(deploy: Deploy, folder: Path, times: int, seed: int) -> None:
    """So many deaths, each of something of one gateway."""
    with provider(folder) as upstream:
        policy = policy_of(upstream.url, {"key-0": "team-0"}, RULES)
        with started(deploy(folder / "gateway", policy)) as gateways:
            for gateway in gateways:
                await gateway.ready()
            deaths = Deaths(deploy, gateways, upstream, seed)
            for turn in range(times):
                await deaths.one(turn, VICTIMS[turn % len(VICTIMS)])
                print(f"{turn + 1}", end=" ", flush=True)
            bill = upstream.bill()
    slowest_s, victim = max(deaths.back_s)
    loudest_s, loudest = max(deaths.quiet_s)
    print(
        f"\n{times} deaths, ready again after {slowest_s:.2f} s at most ({victim}), quiet {loudest_s:.2f} s "
        f"after the last call at most ({loudest}); {dict(deaths.outcomes)}; "
        f"billed {total_of(bill)} in {len(bill)} calls, posted {deaths.over} more for what the dead held"
    )


@pytest.mark.system
@pytest.mark.parametrize("deploy", ["embedded-2", "redis-2"], indirect=True)
async def test_books_survive_a_death_of_each_process(deploy: Deploy, tmp_path: Path) -> None:
    await die(deploy, tmp_path, len(VICTIMS), seed=1)


@pytest.mark.proof
@pytest.mark.timeout(1800)
@pytest.mark.parametrize("deploy", ["embedded-4", "redis-2"], indirect=True)
async def test_books_survive_a_hundred_deaths(deploy: Deploy, tmp_path: Path) -> None:
    await die(deploy, tmp_path, 100, seed=2)
