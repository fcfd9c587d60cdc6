"""Single properties of purses and recalls: kills at every write, crossing wants, edits, tickets."""

from __future__ import annotations

import asyncio
import copy
import random
from collections.abc import Callable, Coroutine
from pathlib import Path
from typing import Any

import pytest

from gateway.link.journal import read_journal
from gateway.quota.contract import MONEY, RATE, ROLLING, SLOTS, Refusal, Terms
from gateway.quota.purse import Spent
from gateway.quota.rule import Rule
from tests.escrow.keeper import Keeper, Meters
from tests.escrow.test_escrow import Remembered
from tests.escrow.virtual import Fate, VirtualLoop
from tests.escrow.worker import Call, Worker, World, amounts_of, rule_of
from tests.stores.invariants import broken

MINUTE = 60_000


class Stage(World):
    """A few workers and a keeper, and a link that only delays."""

    def __init__(self, loop: VirtualLoop, folder: Path, seed: int = 1, workers: int = 2) -> None:
        super().__init__(loop, random.Random(seed), folder)
        self.store = Remembered(self)
        self.meters = Meters()
        self.keeper = Keeper(self, self.store, self.meters, lambda exchange, reply: None)
        self.names = [f"worker-{number}" for number in range(workers)]
        self.in_order = True
        self.fates: dict[str, Fate] = {}
        self.refusals: list[tuple[Call, Refusal]] = []

    async def start(self) -> None:
        await self.keeper.open()
        self.workers = [self.worker(name) for name in self.names]
        await asyncio.sleep(0.05)

    def worker(self, name: str) -> Worker:
        worker = Worker(self, name, 1)
        self.fates[worker.key] = lambda kind: (self.dice.uniform(0.00005, 0.0004),)
        self.loop.keepers[f"keeper/{name}"] = lambda near: self.keeper.connect(
            worker, near, lambda kind: self.fates[worker.key](kind), in_order=self.in_order
        )
        worker.link._dial = self.loop.create_task(worker.link._keep_connected())
        return worker

    async def until(self, at_s: float) -> None:
        await asyncio.sleep(max(0.0, at_s - self.loop.time()))

    def refused(self, call: Call, refusal: Refusal) -> None:
        self.refusals.append((call, refusal))

    async def ask(
        self, worker: Worker, who: str, amounts: list[int], *rules: tuple[Rule, Terms, str]
    ) -> Call:
        call = self.begin(worker, who, amounts, *rules)
        await call.is_decided.wait()
        return call

    def begin(self, worker: Worker, who: str, amounts: list[int], *rules: tuple[Rule, Terms, str]) -> Call:
        purses = [worker.purse(rule, terms, subject, 0) for rule, terms, subject in rules]
        return worker.begin(who, [(purse, purse.need_at) for purse in purses], amounts)


def play(folder: Path, scene: Callable[[Stage], Coroutine[Any, Any, None]], **options: Any) -> None:
    """Plays a scene in virtual time."""
    loop = VirtualLoop()
    stage = Stage(loop, folder, **options)

    async def run() -> None:
        await stage.start()
        await scene(stage)

    try:
        loop.run_until_complete(run())
        assert stage.failures == []
    finally:
        for worker in stage.workers:
            if not worker.is_dead:
                worker.die()
        loop.finish()


def ruled(name: str, measure: str, terms: Terms, subject: str = "key=a") -> tuple[Rule, Terms, str]:
    return rule_of(name, measure, terms), terms, subject


EVERYTHING = (
    *(ruled(f"day-{number}", "usd", Terms(MONEY, 100_000)) for number in range(7)),
    ruled("roll", "usd", Terms(ROLLING, 100_000, window_ms=6_000)),
    ruled("tokens", "tokens", Terms(RATE, 600_000, burst=600_000, window_ms=MINUTE)),
    ruled("requests", "requests", Terms(RATE, 600, burst=600, window_ms=MINUTE)),
    ruled("slots", "concurrent", Terms(SLOTS, 100)),
)
"""More than one record of the journal takes."""


def test_killed_at_any_write_a_worker_leaves_what_it_used_or_held_and_nothing_idle(tmp_path: Path) -> None:
    looks = 0

    async def scene(stage: Stage) -> None:
        worker, book = stage.workers[0], stage.store.book

        def look() -> None:
            """As if it died now: read its journal, bury it, look at the books."""
            nonlocal looks
            looks += 1
            said = read_journal(worker.path)
            assert said is not None
            held: dict[str, int] = {}
            for call in worker.calls:
                for purse, place in call.seats:
                    if not (purse.at_once or purse.has_slots):
                        held[purse.bucket] = held.get(purse.bucket, 0) + call.amounts[place]
            after = copy.deepcopy(book)
            after.bury(worker.name, 1, said.used, said.holds, stage.now_ms)
            assert broken(after) == []
            for bucket_id, bucket in after.buckets.items():
                parts = [
                    amount
                    for told in (said.used, said.holds)
                    for account, amount in told.items()
                    if account.partition("#")[0] == bucket_id
                ]
                # Accounts of old parts are forgotten when the store knows them.
                before = book.buckets.get(bucket_id)
                known = None if before is None else before.outs.get(f"{worker.name}@1")
                parts += [
                    amount
                    for part, amount in ({} if known is None else known.parts).items()
                    if f"{bucket_id}#{part}" not in said.used
                ]
                least = worker.used.get(bucket_id, 0) + held.get(bucket_id, 0)
                torn = worker.torn(bucket_id) + sum(leaving.get(bucket_id, 0) for leaving in ending)
                assert (
                    least - sum(leaving.get(bucket_id, 0) for leaving in ending) <= sum(parts) <= least + torn
                )
                assert bucket.out == 0
                if bucket.is_money:
                    assert bucket.spent == sum(parts)

        ending: list[dict[str, int]] = []
        worker.peek = look
        calls = []
        for nanousd in (90, 0, 70, 200, 10):
            calls.append(await stage.ask(worker, "key=a", amounts_of(50, nanousd), *EVERYTHING))
            await asyncio.sleep(0.1)
        left = stage.begin(worker, "key=a", amounts_of(9_000, 9_000), *EVERYTHING)
        assert left.leave is not None
        left.leave()
        for call, spent in zip(
            calls,
            (Spent(20, 10, 10, 30), Spent(3, 1, 2, 4), None, Spent(50, 20, 30, 260), Spent(0, 0, 0, 0)),
            strict=True,
        ):
            assert call.outcome == "admitted"
            used = worker.used
            ending.append({purse.bucket: call.amounts[place] for purse, place in call.seats})
            worker.end(call, spent)
            ending.clear()
            assert used is worker.used
            await asyncio.sleep(0.3)
        worker.purses.close_windows(stage.now_ms)

    play(tmp_path, scene)
    assert looks > 150


def test_of_a_window_that_is_over_nothing_is_kept_and_nothing_is_missing(tmp_path: Path) -> None:
    """What was given of it is not told to the next keeper, whose store still knows of it."""

    async def scene(stage: Stage) -> None:
        (worker,) = stage.workers
        rule, terms, subject = ruled("minute", "usd", Terms(MONEY, 100_000))

        async def call_once() -> str:
            purse = worker.purse(rule, terms, subject, MINUTE)
            call = worker.begin("a", [(purse, purse.need_at)], amounts_of(0, 500))
            await call.is_decided.wait()
            assert call.outcome == "admitted"
            worker.end(call, Spent(0, 0, 0, 300))
            return purse.bucket

        first = await call_once()
        assert worker.link.got[first] >= 500
        await stage.advance(MINUTE + 3_600_000 + MINUTE)
        assert worker.link.got == {}
        last = await call_once()
        await asyncio.sleep(1)
        stage.keeper.pipes[worker.key].break_()
        await asyncio.sleep(1)
        assert worker.link.is_connected
        assert await call_once() == last
        await asyncio.sleep(1)
        book = stage.store.book
        assert broken(book) == []
        assert [(book.buckets[bucket].spent, book.buckets[bucket].out) for bucket in (first, last)] == [
            (300, 0),
            (600, sum(purse.balance for purse in worker.purses._purses.values())),
        ]

    play(tmp_path, scene, workers=1)


@pytest.mark.parametrize("seed", range(1, 6))
def test_of_two_that_cross_over_two_budgets_one_is_admitted(tmp_path: Path, seed: int) -> None:
    """100 times each: either would fit, and both workers begin with all of one of the two."""

    async def scene(stage: Stage) -> None:
        terms = Terms(MONEY, 1_000)
        for number in range(100):
            one, other = (ruled(f"{name}-{number}", "usd", terms) for name in ("one", "other"))
            held = []
            for worker, rule in zip(stage.workers, (one, other), strict=True):
                for _ in range(4):
                    call = await stage.ask(worker, "a", amounts_of(0, 100), rule)
                    held.append(call)
            for call in held:
                call.worker.end(call, Spent(0, 0, 0, 0))
            calls = []
            for worker in stage.workers:
                calls.append(stage.begin(worker, "a", amounts_of(0, 1_000), one, other))
                await asyncio.sleep(stage.dice.choice((0.0, 0.0001, 0.0003)))
            began_s = stage.loop.time()
            for call in calls:
                await call.is_decided.wait()
            assert stage.loop.time() - began_s < 0.006
            assert sorted(call.outcome for call in calls) == ["admitted", "refused"], number
            for call in calls:
                if call.hold is not None:
                    call.worker.end(call, None)

    play(tmp_path, scene, seed=seed)


def test_after_a_limit_was_lowered_nothing_is_admitted_above_it(tmp_path: Path) -> None:
    async def scene(stage: Stage) -> None:
        dice, terms = stage.dice, Terms(MONEY, 100_000)
        for number in range(30):
            rule = ruled(f"day-{number}", "usd", terms)
            calls: list[Call] = []

            def taken(calls: list[Call] = calls) -> int:
                return sum(call.amounts[7] for call in calls if call.outcome == "admitted")

            for _ in range(dice.randint(5, 60)):
                call = await stage.ask(dice.choice(stage.workers), "a", amounts_of(0, 500), rule)
                calls.append(call)
            low = terms._replace(limit=dice.randint(1, 40_000), stamp=number + 1)
            await stage.keeper.set_terms({f"day-{number}": low})
            # All have answered: the edit is in force.
            await asyncio.sleep(0.002)
            most = max(low.limit, taken())
            for _ in range(100):
                worker = dice.choice(stage.workers)
                calls.append(await stage.ask(worker, "a", amounts_of(0, 500), rule))
                if dice.random() < 0.3:
                    ended = next((call for call in calls if call.hold is not None), None)
                    if ended is not None:
                        ended.worker.end(ended, None)
                assert taken() <= most
            high = low._replace(limit=low.limit + most + 100_000, stamp=number + 2)
            await stage.keeper.set_terms({f"day-{number}": high})
            await asyncio.sleep(0.01)
            assert (await stage.ask(worker, "a", amounts_of(0, 500), rule)).outcome == "admitted"
            for call in calls:
                if call.hold is not None:
                    call.worker.end(call, None)

    play(tmp_path, scene)


def test_who_comes_back_when_told_gets_in(tmp_path: Path) -> None:
    """Three times as many calls as a rate allows; a ticket is claimed within its second, at any worker."""
    honoured = 0

    async def scene(stage: Stage) -> None:
        nonlocal honoured
        dice = stage.dice
        rule = ruled("rate", "requests", Terms(RATE, 600, burst=60, window_ms=MINUTE))
        back: list[tuple[float, str]] = []
        seen = 0
        for number in range(1_200):
            await asyncio.sleep(1 / 30)
            now_s = stage.loop.time()
            for due_s, who in [each for each in back if each[0] <= now_s]:
                back.remove((due_s, who))
                call = await stage.ask(dice.choice(stage.workers), who, amounts_of(0, 0), rule)
                assert call.outcome == "admitted", f"{who} came {stage.loop.time() - due_s} s late"
                call.worker.end(call, None)
                honoured += 1
            call = await stage.ask(dice.choice(stage.workers), f"caller-{number}", amounts_of(0, 0), rule)
            if call.outcome == "admitted":
                call.worker.end(call, None)
            for refused, refusal in stage.refusals[seen:]:
                if refusal.dry_ms == 0:
                    back.append((now_s + refusal.wait_ms / 1000 + dice.uniform(0.002, 0.9), refused.who))
            seen = len(stage.refusals)

    play(tmp_path, scene, workers=3)
    assert honoured > 100


def test_a_greeting_that_comes_after_a_later_one_takes_nothing_back(tmp_path: Path) -> None:
    """The worker gave its first connection up; what it had said there is read after the second one's."""

    async def scene(stage: Stage) -> None:
        worker, rule = stage.workers[0], ruled("day", "usd", Terms(MONEY, 1_000))
        slow_s = [0.5]
        stage.keeper.pipes[worker.key].break_()
        stage.fates[worker.key] = lambda kind: (slow_s.pop() if slow_s else 0.0001,)
        await asyncio.sleep(0.06)
        stage.keeper.pipes[worker.key].break_(loses=False)
        await asyncio.sleep(0.06)
        call = await stage.ask(worker, "a", amounts_of(0, 100), rule)
        assert call.outcome == "admitted"
        await asyncio.sleep(1.0)
        del stage.loop.keepers[f"keeper/{worker.name}"]
        stage.keeper.pipes[worker.key].break_()
        await asyncio.sleep(0.1)
        assert stage.store.book.buckets["day|key=a|0"].out >= 100
        worker.end(call, None)

    play(tmp_path, scene)
