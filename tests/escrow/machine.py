"""The machine: workers, their journals, the keeper and the book, over a link and in a world that fail.

Everything is the gateway's own code but the sockets, the clock and the calls. What calls really used is kept
here, apart from all that the code keeps. `P1` to `P9` are properties of the algorithm:
P1 nothing is lost or made, P2 what is idle comes back, P3 no window above burst + rate x length, P4 nobody is
refused what lies idle, P5 whoever asks is answered, P8 a kill loses nothing, P9 edits hold.
"""

from __future__ import annotations

import asyncio
import random
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any, NamedTuple

from gateway.control.store_choice import EMBEDDED, RECALL_S
from gateway.link.journal import read_journal
from gateway.quota.contract import MONEY, RATE, ROLLING, SLOTS, Exchange, Refusal, Reply, StoreDown, Terms
from gateway.quota.purse import Purse, Spent
from gateway.quota.rule import Rule
from gateway.quota.shelf import rule_of as rule_name
from gateway.quota.tickets import Tickets
from tests.escrow.keeper import Keeper, Meters
from tests.escrow.virtual import VirtualLoop
from tests.escrow.worker import Call, Killed, Worker, World, amounts_of, rule_of
from tests.stores.invariants import broken

MINUTE = 60_000
WINDOW_MS = 20_000
TERMS = {
    "day": ("usd", Terms(MONEY, 30_000)),
    "team": ("usd", Terms(MONEY, 60_000)),
    "tiny": ("usd", Terms(MONEY, 700)),
    "roll": ("usd", Terms(ROLLING, 20_000, window_ms=MINUTE // 2)),
    "rpm": ("requests", Terms(RATE, 1_200, burst=120, window_ms=MINUTE)),
    "tpm": ("tokens", Terms(RATE, 120_000, burst=12_000, window_ms=MINUTE)),
    "guess": ("tokens", Terms(RATE, 120_000, burst=12_000, window_ms=MINUTE)),
    "slots": ("concurrent", Terms(SLOTS, 9)),
    "seen-rpm": ("requests", Terms(RATE, 600, burst=60, window_ms=MINUTE, shadow=True)),
    "seen-day": ("usd", Terms(MONEY, 5_000, shadow=True)),
    "seen-slots": ("concurrent", Terms(SLOTS, 2, shadow=True)),
}
DRAWN = tuple(TERMS)
TERMS["crowd"] = ("usd", Terms(MONEY, 9_000))
CROWDED = ("crowd", "slots")
"""Rules of which there is enough for slices and never enough for all: what is idle is always called back."""
EXACT = ("rpm", "tpm")
"""Rates of which nobody uses more than was held: P3 is exact for them."""
SUBJECTS = ("key=a", "key=b")
LATE_S = 1e9

WEIGHTS = {
    "begin": 46,
    "end": 40,
    "leave": 3,
    "pass_time": 8,
    "flood": 0.5,
    "break": 1,
    "slow": 0.4,
    "stall": 0.3,
    "kill": 0.1,
    "kill_at_a_write": 0.3,
    "replay": 1,
    "kill_the_keeper": 0.3,
    "kill_the_keeper_after_a_commit": 0.3,
    "store_down": 0.2,
    "edit": 0.4,
    "cut_off": 0.02,
    "sleep_long": 0.05,
    "close_windows": 0.5,
}


class Line(NamedTuple):
    """What becomes of messages between workers and the keeper, and between the keeper and its store."""

    in_order: bool = True
    slowest_s: float = 0.0004
    doubled: float = 0.0
    """This part of them comes twice, the second time perhaps much later."""
    lost: float = 0.0
    lag_s: float = 0.0
    """The most that an operation of the store is on its way, and its answer."""
    recall_s: float = RECALL_S[EMBEDDED]


FAIR = Line()
UNFAIR = Line(
    in_order=False, slowest_s=0.001, doubled=0.05, lost=0.003, lag_s=0.002, recall_s=RECALL_S["redis"]
)
"""Everything may be lost, come twice, late and in any order."""
CROSSING = UNFAIR._replace(lost=0.0)
"""As unfair, but nothing is lost: for a time in which nothing fails."""


CALM = {
    "begin": 60,
    "end": 40,
    "leave": 1,
    "pass_time": 6,
    "flood": 2,
    "edit": 0.2,
    "sleep_long": 0.05,
    "close_windows": 0.2,
}
"""A time in which nothing fails: nobody is refused what lies idle, and nobody waits."""


BUSTLE = {**CALM, "begin": 30, "end": 60, "flood": 6, "pass_time": 2}
"""Calm, but purses are filled and emptied all the time."""


class Machine(World):
    """One run."""

    def __init__(
        self,
        loop: VirtualLoop,
        seed: int,
        folder: Path,
        make_store: Any,
        weights: Mapping[str, float] = WEIGHTS,
        *,
        line: Line = FAIR,
        drawn: Sequence[str] = DRAWN,
        every: int = 16,
        workers: int = 3,
    ) -> None:
        super().__init__(loop, random.Random(seed), folder)
        self.seed, self.steps = seed, 0
        self.make_store = make_store
        self.line = line
        self.drawn = drawn
        """The rules that calls are under."""
        self.terms = {name: terms for name, (_, terms) in TERMS.items()}
        self.rules: dict[str, Rule] = {}
        for name, (measure, terms) in TERMS.items():
            self.rules[name] = rule_of(name, measure, terms, strict=name != "guess")
        self.stamp = 0
        self.true: dict[str, int] = {}
        self.open: dict[str, int] = {}
        self.assumed: dict[str, int] = {}
        self.over: dict[str, int] = {}
        self.caps: dict[str, int] = {}
        self.uses: list[tuple[str, int, int]] = []
        self.counts: dict[str, int] = {}
        self.troubled_s = -LATE_S
        """When something last failed or was slow: P4 and P5 are for the time after."""
        self.slow_until_s = -LATE_S
        self.epoch = 0
        self.names = [f"worker-{number}" for number in range(workers)]
        self.meters = Meters()
        self.parked: dict[tuple[str, int], list[str]] = {}
        self._tasks: list[asyncio.Task[None]] = []
        self.bad: list[Worker] = []
        """Cut off: alive, or dead and not read."""
        self._kinds, self._weights = list(weights), list(weights.values())
        self.every = every
        """Steps from one look at the whole book to the next."""
        loop.set_exception_handler(self._escaped)

    def _escaped(self, loop: Any, context: dict[str, Any]) -> None:
        error = context.get("exception")
        if isinstance(error, BaseException):
            import traceback

            self.fail("".join(traceback.format_exception(error)))
        else:
            self.fail(str(context))

    async def start(self) -> None:
        self.store = self.make_store(self)
        self.keeper = self._keeper()
        await self.keeper.open()
        await self.keeper.set_terms(self.terms)
        self.workers = [self._worker(name) for name in self.names]
        await asyncio.sleep(0.1)

    def _worker(self, name: str) -> Worker:
        self.epoch += 1
        worker = Worker(self, name, self.epoch)

        def connect(near: Any) -> Any:
            if worker.is_cut or self.keeper.is_dead:
                raise ConnectionRefusedError
            return self.keeper.connect(worker, near, self._fate, in_order=self.line.in_order)

        self.loop.keepers[f"keeper/{name}"] = connect
        worker.link._dial = self.loop.create_task(worker.link._keep_connected())
        return worker

    def _delay_s(self) -> float:
        if self.loop.time() < self.slow_until_s:
            return self.dice.choice((0.0, 0.002, 0.02, 0.15))
        return self.dice.uniform(0.00005, self.line.slowest_s)

    def _fate(self, kind: int) -> Sequence[float]:
        line, first_s = self.line, self._delay_s()
        fate = self.dice.random() if line.doubled or line.lost else 1.0
        if fate < line.doubled:
            self.count("doubled")
            return first_s, self._delay_s() + self.dice.choice((0.0, 0.0, 0.003, 0.02, 0.2))
        if fate < line.doubled + line.lost:
            self.count("lost")
            self.trouble(0.1)
            return ()
        return (first_s,)

    def _keeper(self) -> Keeper:
        keeper = Keeper(self, self.store, self.meters, self.seen)
        keeper.way.before_edit = self._before_edit
        keeper.exchanges.recall_s = self.line.recall_s
        if self.line.lag_s:
            keeper.way.lag_s = lambda asked: self.dice.uniform(0.0, self.line.lag_s)
        return keeper

    @property
    def is_calm(self) -> bool:
        return self.loop.time() > self.troubled_s + 0.3

    def trouble(self, for_s: float = 0.0) -> None:
        self.troubled_s = max(self.troubled_s, self.loop.time() + for_s)

    def count(self, what: str) -> None:
        self.counts[what] = self.counts.get(what, 0) + 1

    # steps

    async def run(self, steps: int, per_rest: int = 1_000) -> None:
        try:
            await self.start()
            for number in range(1, steps + 1):
                await self.step()
                if number % per_rest == 0 or number == steps:
                    await self.rest()
        except AssertionError as error:
            error.add_note(f"seed {self.seed}, step {self.steps}")
            raise

    async def step(self) -> None:
        self.steps += 1
        kind = self.dice.choices(self._kinds, self._weights)[0]
        self.count(kind)
        worker = self.dice.choice(self.workers)
        await getattr(self, f"_{kind}")(worker)
        await asyncio.sleep(self.dice.choice((0.0, 0.0002, 0.001, 0.003, 0.01)))
        self.check(self.workers[self.steps % len(self.workers)])

    def check(self, worker: Worker) -> None:
        """P1, and the wall: what is used and held never passes the limit (P9: nor one that was lowered)."""
        assert not self.failures, "\n".join(self.failures)
        if not worker.is_dead:
            assert worker.wrong() == []
        book = self.store.book
        if self.steps % self.every == 0:
            assert broken(book) == []
            for each in self.workers:
                for bucket, amount in each.link.got.items():
                    found = book.buckets.get(bucket)
                    if found is not None and not each.is_dead:
                        given = found.outs[each.key].given if each.key in found.outs else 0
                        assert given >= amount, f"{each.key} {bucket}: got {amount} of {given} given"
        for bucket, held in self.open.items():
            found = book.buckets.get(bucket)
            if found is None or found.terms.shadow:
                continue
            kind = found.terms.kind
            taken = self.true.get(bucket, 0) + held
            if kind == MONEY:
                cap = max(self.caps.get(bucket, 0), found.terms.limit + found.adjusted)
                assert taken <= cap + self.over.get(bucket, 0), f"{bucket}: {taken} of {cap}"
                covered = found.spent + found.out
                assert taken <= covered + self.over.get(bucket, 0), f"{bucket}: {taken}, booked {covered}"
            elif kind == SLOTS and not self.bad:
                assert held <= max(self.caps.get(bucket, 0), found.terms.limit), f"{bucket}: {held}"

    # what calls do

    def seats(self, worker: Worker) -> list[tuple[Purse, int]]:
        seats = []
        dice = self.dice
        for name in dice.sample(self.drawn, dice.randint(1, min(4, len(self.drawn)))):
            rule = self.rules[name]
            purse = worker.purse(
                rule, self.terms[name], dice.choice(SUBJECTS), WINDOW_MS if name == "day" else 0
            )
            seats.append((purse, purse.need_at))
        return seats

    async def _begin(self, worker: Worker) -> None:
        most = self.dice.choice((30, 100, 100, 300, 2_000))
        amounts = amounts_of(self.dice.randint(0, most), self.dice.randint(0, most))
        patience = 0.1 if self.dice.random() < 0.95 else self.dice.uniform(0, 0.003)
        who = self.dice.choice(SUBJECTS)

        def begin() -> None:
            worker.begin(who, self.seats(worker), amounts, patience)

        worker.run(begin)

    async def _flood(self, worker: Worker) -> None:
        """Many at one worker: the purses of others are called back."""
        for _ in range(self.dice.randint(5, 25)):
            await self._begin(worker)

    async def _leave(self, worker: Worker) -> None:
        """Callers go away while their call is asked for."""
        for call in list(worker.waiting):
            if self.dice.random() < 0.5 and call.leave is not None:
                worker.run(call.leave)

    async def _end(self, worker: Worker) -> None:
        for each in (worker, *self.bad):
            if each.calls and not each.is_dead:
                call = each.calls[self.dice.randrange(len(each.calls))]
                each.run(lambda each=each, call=call: each.end(call, self._spent(call)))  # type: ignore[misc]

    def _spent(self, call: Call) -> Spent | None:
        dice = self.dice
        how = dice.random()
        if how < 0.1:
            return None
        tokens, nanousd = call.amounts[1], call.amounts[7]
        used_tokens, used_nanousd = dice.randint(0, tokens), dice.randint(0, nanousd)
        if self.drawn is CROWDED:
            # Else there would soon be too little for slices.
            return Spent(0, 0, 0, used_nanousd // 100)
        if how < 0.3:
            used_tokens, used_nanousd = tokens, nanousd
        elif how < 0.36 and not any(rule_name(purse.bucket) in EXACT for purse, _ in call.seats):
            used_tokens, used_nanousd = tokens + dice.randint(0, 500), nanousd + dice.randint(0, 300)
        elif how > 0.95:
            used_tokens = used_nanousd = 0
        return Spent(used_tokens, used_tokens, 0, used_nanousd)

    def began(self, call: Call) -> None:
        self.count("admitted")
        for purse, place in call.seats:
            need = call.amounts[place]
            if purse.at_once:
                self.true[purse.bucket] = self.true.get(purse.bucket, 0) + need
                self.uses.append((purse.bucket, call.at_ms, need))
            else:
                self.open[purse.bucket] = self.open.get(purse.bucket, 0) + need

    def ended(self, call: Call, used: Sequence[int]) -> None:
        for (purse, place), each in zip(call.seats, used, strict=True):
            if purse.at_once:
                continue
            need = call.amounts[place]
            self.open[purse.bucket] -= need
            if purse.has_slots:
                continue
            self.true[purse.bucket] = self.true.get(purse.bucket, 0) + each
            if each > need:
                self.over[purse.bucket] = self.over.get(purse.bucket, 0) + each - need
            self.uses.append((purse.bucket, call.at_ms, each))

    def refused(self, call: Call, refusal: Refusal) -> None:
        self.count("refused")

    def late(self, call: Call) -> None:
        """P5: nobody waits for longer than the store may take, unless something failed."""
        self.count("late")
        if self.is_calm:
            self.fail(f"a call waited for {[purse.bucket for purse, _ in call.seats]} in vain")

    def seen(self, exchange: Exchange, reply: Reply) -> None:
        """P4, when the store decides."""
        self.count("decided" if exchange.final else "exchanged")
        if not self.is_calm or self.bad:
            return
        for want, short in reply.parked.items():
            self.parked[exchange.owner, want] = short
        for refusal in reply.refused:
            parked = self.parked.pop((exchange.owner, refusal.id), None)
            if parked is None and exchange.final:
                # It came with what others waited for, so the store hears of it only now, and calls nothing
                # back for it.
                self.count("came late")
                continue
            if parked is not None and refusal.bucket not in parked:
                # It fell short while the want waited for another one, which is not called back for again.
                self.count("fell short meanwhile")
                continue
            for other in self.workers:
                purse = other.purses._purses.get(refusal.bucket)
                # More than was used may be, in a call that was given less: the store has taken that from
                # what it gives at the moment, and does not know of so much.
                known = self.store.book.buckets[refusal.bucket].outs.get(other.key)
                idle = 0 if purse is None or known is None else min(purse.balance, known.out)
                if other.name != exchange.owner and purse is not None and purse.is_open and idle > 0:
                    self.fail(
                        f"P4: {exchange.owner} is refused {refusal.bucket} while {other.key} has "
                        f"{purse.balance} idle"
                    )

    # what goes wrong

    async def _pass_time(self, _: Worker) -> None:
        await asyncio.sleep(self.dice.choice((0.02, 0.1, 0.5)))

    async def _sleep_long(self, _: Worker) -> None:
        await asyncio.sleep(self.dice.choice((3.0, 21.0)))

    async def _break(self, worker: Worker) -> None:
        pipe = self.keeper.pipes.get(worker.key)
        if pipe is not None:
            self.trouble()
            pipe.break_()

    async def _slow(self, _: Worker) -> None:
        self.slow_until_s = self.loop.time() + 0.2
        self.trouble(0.5)

    async def _stall(self, worker: Worker) -> None:
        """It does not read: it is told of no recalls."""
        pipe = self.keeper.pipes.get(worker.key)
        if pipe is not None:
            self.trouble(0.5)
            pipe.is_stalled = True
            self.loop.call_later(0.3, setattr, pipe, "is_stalled", False)

    async def _kill(self, worker: Worker) -> None:
        if not worker.is_dead:
            worker.die()

    async def _kill_at_a_write(self, worker: Worker) -> None:
        worker.fuse = self.dice.randint(0, 12)

    def died(self, worker: Worker) -> None:
        """P8: its journal tells of all that was used or may yet be, and of nothing that was idle."""
        self.count("died")
        self.trouble(0.1)
        said = worker.said = read_journal(worker.path)
        assert said is not None
        accounts: dict[str, int] = {}
        for account, amount in [*said.used.items(), *said.holds.items()]:
            bucket = account.partition("#")[0]
            accounts[bucket] = accounts.get(bucket, 0) + amount
        held: dict[str, int] = {}
        for call in worker.calls:
            for purse, place in call.seats:
                if not (purse.at_once or purse.has_slots):
                    held[purse.bucket] = held.get(purse.bucket, 0) + call.amounts[place]
        for bucket in {*accounts, *held, *worker.used}:
            least = worker.used.get(bucket, 0) + held.get(bucket, 0)
            if rule_name(bucket) == "roll":
                # Parts that are long over are forgotten.
                continue
            if not least <= accounts.get(bucket, 0) <= least + worker.torn(bucket):
                self.fail(f"P8 {worker.key} {bucket}: journal {accounts.get(bucket, 0)}, true {least}")
        billed = dict(worker.true)
        for call in worker.calls:
            for purse, place in call.seats:
                if purse.at_once:
                    continue
                need = call.amounts[place]
                self.open[purse.bucket] -= need
                if not purse.has_slots:
                    bill = self.dice.randint(0, need)
                    billed[purse.bucket] = billed.get(purse.bucket, 0) + bill
                    self.true[purse.bucket] = self.true.get(purse.bucket, 0) + bill
                    self.uses.append((purse.bucket, call.at_ms, bill))
        worker.calls = []
        for bucket, amount in accounts.items():
            self.assumed[bucket] = self.assumed.get(bucket, 0) + amount - billed.get(bucket, 0)
        pipe = self.keeper.pipes.get(worker.key)
        self.keeper.graves.append(worker)
        if pipe is not None:
            pipe.break_()
        if worker in self.workers:
            # Its successor starts when the supervisor has seen it die.
            self.loop.call_later(self.dice.choice((0.0, 0.01, 0.3)), self._succeed, worker)

    def _succeed(self, dead: Worker) -> None:
        self.trouble()
        if dead in self.workers:
            self.workers[self.workers.index(dead)] = self._worker(dead.name)

    async def _replay(self, _: Worker) -> None:
        """For a while all exchanges are said twice."""
        self.keeper.way.replayed = self.fail
        self.loop.call_later(0.02, setattr, self.keeper.way, "replayed", None)

    async def _kill_the_keeper(self, _: Worker) -> None:
        if self.keeper.is_dead:
            return
        self.trouble(0.2)
        self.keeper.die()
        self.loop.call_later(self.dice.choice((0.01, 0.1)), self._start_keeper)

    async def _kill_the_keeper_after_a_commit(self, worker: Worker) -> None:
        def die() -> None:
            if not self.keeper.is_dead:
                self.trouble(0.2)
                self.keeper.die()
                self.loop.call_later(0.02, self._start_keeper)

        self.keeper.way.die_after = die

    def _start_keeper(self) -> None:
        self.trouble(0.1)
        old = self.keeper
        self.store = self.store.again()
        self.keeper = self._keeper()
        self.keeper.graves = old.graves
        self._tasks.append(self.loop.create_task(self._open_keeper()))

    async def _open_keeper(self) -> None:
        await self.keeper.open()
        await self._set_terms(self.terms)
        for dead in list(self.keeper.graves):
            if not dead.is_cut:
                await self.keeper._bury_until(dead)

    async def _store_down(self, _: Worker) -> None:
        keeper = self.keeper
        keeper.way.down = self.dice.choice(("before", "after"))
        for_s = self.dice.choice((0.01, 0.15, 1.0))
        self.trouble(for_s + 0.3)
        self.loop.call_later(for_s, setattr, keeper.way, "down", "")

    async def _cut_off(self, worker: Worker) -> None:
        """A host is lost: its lease runs out. Then it is back, or its journal is found."""
        if self.bad or worker.is_dead:
            return
        self.bad.append(worker)
        worker.is_cut = True
        self.trouble(40)
        pipe = self.keeper.pipes.get(worker.key)
        if pipe is not None:
            pipe.break_()
        for _ in range(self.dice.randint(0, 20)):
            await self._begin(worker)
        await asyncio.sleep(self.dice.choice((2.0, 28.0, 31.0)))
        worker.was_lost = True
        if not self.keeper.is_dead:
            with suppress(StoreDown):
                await self.keeper.expire()
        for _ in range(20):
            await self._begin(worker)
            await self._end(worker)
            await self._begin(self.dice.choice(self.workers))
            await asyncio.sleep(0.01)
        worker.is_cut = False
        if self.dice.random() < 0.5 and not worker.is_dead:
            worker.die()
        if worker.is_dead and worker in self.keeper.graves:
            await self.keeper._bury_until(worker)
        self.bad.remove(worker)
        self.trouble(0.5)

    async def _close_windows(self, worker: Worker) -> None:
        worker.run(lambda: worker.link.forget(worker.purses.close_windows(self.now_ms)))

    # policy

    async def _edit(self, _: Worker) -> None:
        """A new policy: the store and the workers hear of it at different moments."""
        self.stamp += 1
        name = self.dice.choice(("day", "team", "roll", "slots", "tpm"))
        measure, base = TERMS[name]
        factor = self.dice.choice((0.3, 0.6, 1.0, 1.5))
        told = base._replace(
            limit=max(1, int(base.limit * factor)),
            burst=int(base.burst * min(1.0, factor)),
            stamp=self.stamp,
        )
        if base.kind == RATE:
            told = told._replace(limit=int(base.limit * min(1.0, factor)))
        self._tasks.append(self.loop.create_task(self._set_terms({name: told})))
        self.terms = {**self.terms, name: told}
        self.rules = {**self.rules, name: rule_of(name, measure, told, strict=name != "guess")}
        for worker in self.workers:
            terms = dict(self.terms)
            self.loop.call_later(
                self.dice.choice((0.0, 0.01, 0.2)),
                worker.run,
                lambda worker=worker, terms=terms: worker.purses.switch(terms),
            )

    def _before_edit(self, terms: Mapping[str, Terms]) -> None:
        """P9: from now on no more than the new limit, or than is used and out already."""
        book = self.store.book
        for bucket in book.buckets.values():
            told = terms.get(rule_name(bucket.id))
            if told is not None and told.stamp > book.rules[rule_name(bucket.id)].stamp:
                taken = (bucket.spent if bucket.is_money else 0) + bucket.out
                most = max(told.limit + bucket.adjusted, taken)
                self.caps[bucket.id] = LIMITLESS if self.bad else most

    async def _set_terms(self, terms: dict[str, Terms]) -> None:
        """The keeper sets them as soon as it can."""
        while True:
            if not self.keeper.is_dead:
                self.trouble()  # What it calls back at once is under way when others ask.
                with suppress(StoreDown):
                    await self.keeper.set_terms(terms)
                    return
            await asyncio.sleep(0.05)

    # the end

    async def rest(self) -> None:
        """P2: all calls end, all that is idle comes back; the books say what was used, and nothing is out."""
        self.keeper.way.down = ""
        await asyncio.sleep(1.0)
        if self.keeper.is_dead:
            await asyncio.sleep(1.0)
        for worker in self.workers:
            worker.fuse = None
        for worker in self.workers:
            while worker.calls:
                worker.end(worker.calls[-1], self._spent(worker.calls[-1]))
        await asyncio.sleep(2.0)
        for each in self.store.book.balances(self.now_ms):
            assert each.held == 0, f"P2 {each}: no call is under way"
        for worker in self.workers:
            for bucket, purse in worker.purses._purses.items():
                out = self.store.book.buckets[bucket].outs.get(worker.key) if purse.is_open else None
                if out is not None and min(purse.balance, out.out) > 0:
                    assert out.open, (
                        f"{worker.key} has {purse.balance} of {bucket} that nobody would call back"
                    )
            assert not worker.is_dead
            assert not worker.purses._asked and not worker.purses._queue, "P5"
            worker.purses.give_all_back()
            worker.teller._send()
        await asyncio.sleep(1.0)
        assert not self.failures, "\n".join(self.failures)
        assert self.keeper.graves == []
        book = self.store.book
        assert broken(book) == []
        for worker in self.workers:
            assert worker.wrong() == []
            said = read_journal(worker.path)
            assert said is not None and said.holds == {}
        for each in book.balances(self.now_ms):
            assert (each.held, each.idle) == (0, 0), f"P2 {each}"
            bucket = book.buckets[each.bucket]
            if each.terms.kind == MONEY:
                true = self.true.get(each.bucket, 0) + self.assumed.get(each.bucket, 0)
                assert each.spent == true, f"P2 {each}: {true} was used"
                assert each.free == each.terms.limit + bucket.adjusted - each.spent
                if not each.bucket.startswith("day"):
                    await self._refill(each.bucket, each.spent)
            elif each.terms.kind == SLOTS:
                assert each.free == each.terms.limit, f"P2 {each}"
            self.caps[each.bucket] = self.true.get(each.bucket, 0)
        self._check_rates()
        assert await self.store.verify() == []

    async def _refill(self, bucket: str, spent: int) -> None:
        """What was used is topped up, so that there is something again."""
        book = self.store.book
        have = book.buckets[bucket].adjusted
        limit = book.buckets[bucket].terms.limit
        if spent - have > limit // 2:
            await self.store.adjust(bucket, spent - have, {"who": "test"})

    def _check_rates(self) -> None:
        """P3: no window, of any length, above burst + rate x length; by when what was used was taken."""
        for name in EXACT:
            base = TERMS[name][1]
            for subject in SUBJECTS:
                bucket = f"{name}|{subject}|"
                uses = sorted((at, amount) for each, at, amount in self.uses if each == bucket and amount)
                for length in (1, 1_000, 10_000, MINUTE):
                    first = total = 0
                    for at, amount in uses:
                        total += amount
                        while uses[first][0] <= at - length:
                            total -= uses[first][1]
                            first += 1
                        most = base.burst + -(-length * base.limit // base.window_ms)
                        assert total <= most, f"P3 {bucket}: {total} in {length} ms, {most} allowed"
        self.uses.clear()


LIMITLESS = 1 << 60


def forget_what_is_not_kept(book: Any) -> None:
    """What a book does not write down is gone when the keeper is."""
    for bucket in book.buckets.values():
        bucket.tickets, bucket.waits = Tickets(), {}
        for key, out in bucket.outs.items():
            out.asked_ms = -(1 << 62)
            owner = book.owners.get(key)
            if owner is not None and out.out and not out.open and owner.state == "alive":
                owner.untold.add(bucket.id)
    for owner in book.owners.values():
        owner.decided = {}
        owner.asked_ms = 0


__all__ = ["Killed", "Machine", "forget_what_is_not_kept"]
