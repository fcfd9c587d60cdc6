"""A worker: its real purses, journal, teller and link, and calls as the line makes them."""

from __future__ import annotations

import asyncio
import math
import random
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from gateway.line.limits import ASK_S
from gateway.line.teller import NEWS_S, REFUND_S, Teller
from gateway.link.journal import Journal, Journaled
from gateway.link.keeper_link import KeeperLink
from gateway.quota.contract import MONEY, Exchange, Refusal, Terms
from gateway.quota.hold import Hold, Seat
from gateway.quota.purse import AMOUNTS, LIKELY_TOKENS, NANOUSD, ONE, TOKENS, Purse, Spent
from gateway.quota.purses import Purses
from gateway.quota.rule import Rule
from tests.escrow.virtual import VirtualLoop
from tests.stores.teller import row


class Killed(BaseException):
    """kill -9, at a write of shared memory."""


class Watched:
    """The journal's memory. `before` is called before every write, and may raise `Killed`."""

    def __init__(self, values: Any, before: Callable[[], None]) -> None:
        self._values, self._before = values, before
        self.release = values.release

    def __getitem__(self, at: Any) -> Any:
        return self._values[at]

    def __setitem__(self, at: Any, value: Any) -> None:
        self._before()
        self._values[at] = value

    def __len__(self) -> int:
        return len(self._values)


class WorkerLoop:
    """The loop as one process sees it: nothing of it runs after its death."""

    def __init__(self, loop: VirtualLoop, run: Callable[[Callable[[], None]], None]) -> None:
        self._loop, self._run = loop, run
        self.time = loop.time

    def call_soon(self, callback: Callable[[], None]) -> asyncio.Handle:
        return self._loop.call_soon(self._run, callback)

    def call_later(self, delay_s: float, callback: Callable[[], None]) -> asyncio.TimerHandle:
        return self._loop.call_later(delay_s, self._run, callback)


class Call:
    """A call. `amounts`: what it needs, by place."""

    __slots__ = ("amounts", "at_ms", "hold", "is_decided", "leave", "outcome", "seats", "who", "worker")

    def __init__(self, worker: Worker, who: str, seats: Sequence[Seat], amounts: Sequence[int]) -> None:
        self.worker, self.who, self.seats, self.amounts = worker, who, seats, amounts
        self.hold: Hold | None = None
        self.leave: Callable[[], None] | None = None
        self.outcome = ""
        self.is_decided = asyncio.Event()
        self.at_ms = 0

    def became(self, outcome: str) -> None:
        """It is admitted, refused, …"""
        self.outcome = outcome
        self.is_decided.set()


class World:
    """What workers share. `now_ms` is the store's clock."""

    START_MS = 1_764_000_000_000

    def __init__(self, loop: VirtualLoop, dice: random.Random, folder: Path) -> None:
        self.loop, self.dice, self.folder = loop, dice, folder
        self.failures: list[str] = []

    @property
    def now_ms(self) -> int:
        return self.START_MS + int(self.loop.time() * 1000)

    async def advance(self, ms: int) -> None:
        await asyncio.sleep(ms / 1000)

    def fail(self, what: str) -> None:
        self.failures.append(what)

    # what the truth is, told by workers
    def began(self, call: Call) -> None: ...
    def refused(self, call: Call, refusal: Refusal) -> None: ...
    def late(self, call: Call) -> None: ...
    def ended(self, call: Call, used: Sequence[int]) -> None: ...
    def died(self, worker: Worker) -> None: ...


class Truthful(KeeperLink):
    """A link on which no worker may acknowledge a recall of which it keeps something."""

    worker: Worker

    def send(self, exchange: Exchange) -> None:
        for bucket in exchange.acks:
            purse = self.worker.purses._purses.get(bucket)
            if purse is not None and (purse.is_open or purse.balance > 0):
                self.worker.world.fail(f"{self.worker.key} says that of {bucket} it keeps nothing: {purse}")
        super().send(exchange)


class Worker:
    """One life of a worker."""

    def __init__(self, world: World, name: str, epoch: int, *, writes: bool = True) -> None:
        self.world, self.name, self.epoch = world, name, epoch
        self.is_dead = self.is_cut = self.was_lost = False
        self.fuse: int | None = None
        """Writes until it is killed."""
        self.said: Journaled | None = None
        """What its journal says, once it is dead."""
        self.peek: Callable[[], None] = lambda: None
        self.journal = Journal(world.folder, name, epoch)
        self.path = self.journal.path
        self._memory = self.journal.values
        self.journal.values = Watched(self._memory, self._before)  # type: ignore[assignment]
        self.purses = Purses(self.journal)
        self.calls: list[Call] = []
        """Those that were admitted and have not ended."""
        self.doing: dict[str, int] = {}
        """What the operation under way moves, by bucket: a kill in it may leave it on either side."""
        self.waiting: list[Call] = []
        """Those that ask: one may be granted and be held, and not be under way yet."""
        self.used: dict[str, int] = {}
        self.true: dict[str, int] = {}
        self.clamped: dict[str, int] = {}
        self.hits = self.misses = self.dry = 0
        loop: Any = WorkerLoop(world.loop, self.run)
        clock = world.loop.time
        self.teller = Teller(loop, self.purses, clock, lambda: world.now_ms / 1000)
        self.link = Truthful(f"keeper/{name}", name, epoch, str(self.path), self.teller, clock)
        self.link.worker = self
        self.teller.join(self.link)

    @property
    def key(self) -> str:
        return f"{self.name}@{self.epoch}"

    def _before(self) -> None:
        self.peek()
        if self.fuse is not None:
            self.fuse -= 1
            if self.fuse < 0:
                raise Killed

    def run(self, callback: Callable[[], None]) -> None:
        """Something happens in this process."""
        if not self.is_dead:
            try:
                callback()
            except Killed:
                self.die()

    def die(self) -> None:
        """kill -9."""
        self.is_dead = True
        if self.link._dial is not None:
            self.link._dial.cancel()
        self.journal.values = self._memory
        self.journal.close()
        self.world.died(self)

    # purses and calls

    def purse(self, rule: Rule, terms: Terms, subject: str, every_ms: int) -> Purse:
        """As `quota.plan.Planner` finds it; money has windows of `every_ms`, 0: one that never ends."""
        wall_ms, until_ms, window = self.world.now_ms, math.inf, ""
        if terms.kind == MONEY:
            number = wall_ms // every_ms if every_ms else 0
            window = str(number)
            until_ms = (number + 1) * every_ms if every_ms else math.inf
        elif terms.kind == "rolling":
            window = "rolling"
        bucket = f"{rule.name}|{subject}|{window}"

        def make() -> Purse:
            made = Purse.of(bucket, rule, terms, until_ms)
            made.part = made.part_at(wall_ms)
            return made

        purse = self.purses.purse(bucket, make)
        if purse.rule is not rule:
            purse.take_rule(rule)
        self.purses.place(purse, purse.part_at(wall_ms))
        return purse

    def begin(
        self, who: str, seats: Sequence[Seat], amounts: Sequence[int], patience_s: float = ASK_S
    ) -> Call:
        """A call wants to be let in (`Governed.take`, `Governed.ask`)."""
        call = Call(self, who, seats, amounts)
        now_s = self.world.loop.time()
        self.doing = {purse.bucket: amounts[place] for purse, place in seats}
        hold = self.purses.take(seats, amounts, now_s)
        self.doing = {}
        if hold is not None:
            self.hits += 1
            self._admitted(call, hold)
            return call
        self.misses += 1
        refusal = self.purses.refusal(seats, amounts, now_s)
        if refusal is not None:
            self.dry += 1
            call.became("dry")
        elif not self.teller.is_up:
            call.became("down")
        else:
            self._ask(call, patience_s)
        return call

    def _ask(self, call: Call, patience_s: float) -> None:
        ask = self.purses.ask(call.who, call.seats, call.amounts)

        def decided(outcome: Hold | Refusal) -> None:
            timer.cancel()
            self.waiting.remove(call)
            if isinstance(outcome, Hold):
                self._admitted(call, outcome)
            else:
                call.became("refused")
                self.world.refused(call, outcome)

        def leave() -> None:
            timer.cancel()
            call.became("left")
            self.waiting.remove(call)
            self.purses.leave(ask)

        def left() -> None:
            leave()
            if patience_s >= ASK_S:
                self.teller.too_late()
                self.world.late(call)

        ask.decided, call.leave = decided, leave
        self.waiting.append(call)
        timer = self.world.loop.call_later(patience_s, self.run, left)
        self.teller.hurry()

    def _admitted(self, call: Call, hold: Hold) -> None:
        call.hold, call.at_ms = hold, self.world.now_ms
        call.became("admitted")
        self.calls.append(call)
        for purse, place in call.seats:
            if purse.at_once:
                self._used(purse, call.amounts[place])
        self.world.began(call)

    def _used(self, purse: Purse, amount: int) -> None:
        self.used[purse.bucket] = self.used.get(purse.bucket, 0) + amount
        self.true[purse.bucket] = self.true.get(purse.bucket, 0) + amount

    def end(self, call: Call, spent: Spent | None) -> None:
        """A call ends; None: nobody knows what it used, so what was held."""
        hold, call.hold = call.hold, None
        assert hold is not None
        used = [
            0
            if purse.has_slots or purse.at_once
            else call.amounts[place]
            if spent is None
            else spent[purse.measure]
            for purse, place in call.seats
        ]
        before = [(purse.balance, purse.held) for purse, _ in call.seats]
        self.doing = {purse.bucket: each for (purse, _), each in zip(call.seats, used, strict=True)}
        self.calls.remove(call)
        ending = {purse.bucket: call.amounts[place] for purse, place in call.seats}
        try:
            charges, _ = self.purses.settle(hold, spent)
        except Killed:
            self.calls.append(call)
            for (purse, _), each in zip(call.seats, used, strict=True):
                self.doing[purse.bucket] = each + ending[purse.bucket]
            raise
        self.doing = {}
        for (purse, place), each, (balance, held) in zip(call.seats, used, before, strict=True):
            if purse.at_once:
                continue
            self._used(purse, each)
            need = call.amounts[place]
            expected = balance + need - each
            if purse.held != held - need:
                self.world.fail(f"{purse.bucket}: {held} was held, {need} ended, {purse.held} is held")
            if purse.balance != expected:
                if not (expected < -purse.held and purse.balance == -purse.held):
                    self.world.fail(f"{purse.bucket}: balance {purse.balance}, not {expected}")
                self.clamped[purse.bucket] = self.clamped.get(purse.bucket, 0) + purse.balance - expected
        if charges:
            request = f"{self.key}.{len(self.true)}.{self.world.dice.random()}"
            self.purses.rows.add(row(charges, request, self.world.now_ms))
        self.teller.later(REFUND_S if self.purses.has_refunds else NEWS_S)
        self.world.ended(call, used)

    def torn(self, bucket: str) -> int:
        """What a kill may have found written down of what had not happened yet."""
        return self.doing.get(bucket, 0) + sum(
            call.amounts[place]
            for call in self.waiting
            for purse, place in call.seats
            if purse.bucket == bucket
        )

    def wrong(self) -> list[str]:
        """What of its own does not add up."""
        found = []
        held: dict[str, int] = {}
        for call in self.calls:
            for purse, place in call.seats:
                if not purse.at_once:
                    held[purse.bucket] = held.get(purse.bucket, 0) + call.amounts[place]
        got = self.link.got
        for bucket, purse in self.purses._purses.items():
            if purse.held != held.get(bucket, 0):
                found.append(f"{self.key} {bucket}: held {purse.held}, calls hold {held.get(bucket, 0)}")
            has = got.get(bucket, 0) - self.used.get(bucket, 0) - purse.returned + self.clamped.get(bucket, 0)
            if purse.balance + purse.held != has:
                found.append(
                    f"{self.key} {bucket}: {purse.balance} + {purse.held} held, and it should have {has}"
                )
        return found


def amounts_of(tokens: int, nanousd: int) -> list[int]:
    """A call's amounts."""
    amounts = [0] * AMOUNTS
    amounts[ONE], amounts[TOKENS], amounts[LIKELY_TOKENS], amounts[NANOUSD] = 1, tokens, tokens, nanousd
    return amounts


def rule_of(name: str, measure: str, terms: Terms, *, strict: bool = True) -> Rule:
    """A rule of a policy."""
    return Rule(
        name=name,
        policy_name=name,
        index=0,
        measure=measure,
        kind=terms.kind,
        limit=terms.limit,
        burst=terms.burst,
        window_ms=terms.window_ms,
        every="",
        timezone="UTC",
        per=(),
        match=None,
        mode="shadow" if terms.shadow else "enforce",
        strict=strict,
        store_down="closed",
        default_output_tokens=0,
        unbounded="hold",
        unpriced="refuse",
        use=None,
        alert_at=(),
        max_subjects=100,
        attempts=False,
        is_static=True,
    )
