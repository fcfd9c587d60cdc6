"""A machine over the contract: honest workers, a line that loses, doubles and delays, deaths, losses, edits.

`Machine(store, clock, seed)`; `await step()` does one thing at random, `await rest()` ends all calls and
looks at what is left. It uses nothing of a store but the contract, and `store.book`, if there is one: its own
invariants are checked after every step.
"""

from __future__ import annotations

import random
from typing import Any

from gateway.quota.contract import MONEY, RATE, ROLLING, SLOTS, Exchange, Reply, Store, Terms
from tests.stores.honest import Worker
from tests.stores.invariants import broken
from tests.stores.teller import Clock

MINUTE = 60_000
RULES = {
    "day|key=app|2026-11-01": Terms(MONEY, 1_000),
    "team|team=search|2026-11-01": Terms(MONEY, 700),
    "roll|key=app|rolling": Terms(ROLLING, 500, window_ms=MINUTE // 4),
    "rate.tokens|key=app|": Terms(RATE, 1_500, burst=200, window_ms=MINUTE),
    "rate.concurrent|key=app|": Terms(SLOTS, 12),
}
WEIGHTS = {
    "pass_time": 10,
    "ask": 40,
    "take_locally": 10,
    "settle": 26,
    "deliver": 40,
    "answer": 40,
    "decide_finally": 8,
    "say_again": 25,
    "reconnect": 1,
    "kill": 0.2,
    "lose": 0.1,
    "come_back": 0.4,
    "expire": 0.4,
    "edit": 0.5,
}
WORKERS = 4

Dead = tuple[Worker, dict[str, int], list[list[Any]]]
"""Who died, what it held by account, and the rows of its journal."""


class Machine:
    """One run. `steps` counts; a failure names the seed."""

    def __init__(self, store: Store, clock: Clock, seed: int) -> None:
        self.store, self.clock, self.seed, self.steps = store, clock, seed, 0
        self.dice = random.Random(seed)
        self.truth: dict[str, int] = {}
        self.uses: list[tuple[str, int, int]] = []
        self.assumed = 0
        """What was posted of holds of the dead above what they were billed (team budget)."""
        self.epoch = 0
        self.names = [f"w{number}" for number in range(WORKERS)]
        self.workers = [self._worker(number) for number in range(WORKERS)]
        self.lost: list[Worker] = []
        """Cut off, and alive."""
        self.dead: list[Dead] = []
        """Replaced by a later epoch, and not buried yet."""
        self.requests: list[Exchange] = []
        self.replies: list[tuple[Worker, Reply]] = []
        self.parked: list[tuple[Worker, Exchange]] = []
        self.stamp = 0
        self.limits = {name: terms.limit for name, terms in RULES.items()}
        self.caps = dict(self.limits)
        self._names = list(WEIGHTS)
        self._weights = list(WEIGHTS.values())

    def _worker(self, number: int) -> Worker:
        self.epoch += 1
        worker = Worker(self.names[number], self.epoch, RULES, self.dice, self.truth, self.uses)
        worker.answered_ms = self.clock.now_ms
        return worker

    async def run(self, steps: int, per_rest: int = 500) -> None:
        """Steps, with a rest now and then and at the end."""
        try:
            for number in range(1, steps + 1):
                await self.step()
                if number % per_rest == 0 or number == steps:
                    await self.rest()
        except AssertionError as error:
            error.add_note(f"seed {self.seed}, step {self.steps}")
            raise

    async def step(self) -> None:
        name = self.dice.choices(self._names, self._weights)[0]
        await self.act(name, self.dice.choice(self.workers))

    async def act(self, name: str, worker: Worker) -> None:
        """One thing of `WEIGHTS`."""
        self.steps += 1
        await getattr(self, f"_{name}")(worker)
        book = getattr(self.store, "book", None)
        if book is not None:
            assert broken(book) == []
        if self.steps % 16 == 0:
            await self._check()

    async def _check(self) -> None:
        """The wall: what is booked or out covers the truth, and is no more than ever was allowed."""
        for each in await self.store.balances():
            kind, truth = each.terms.kind, self.truth.get(each.bucket, 0)
            covered = each.spent + each.held + each.idle
            if kind == MONEY:
                assert truth <= covered <= self.caps[each.bucket], each
            if kind == SLOTS:
                running = sum(
                    worker.held(each.bucket) for worker in (*self.workers, *self.lost) if not worker.ever_lost
                )
                assert running <= covered <= each.terms.limit, each

    # what may happen

    async def _pass_time(self, _: Worker) -> None:
        await self.clock.advance(self.dice.choice((0, 1, 5, 20, 100, 900)))

    async def _ask(self, worker: Worker) -> None:
        if worker.pending is None:
            self.requests.append(worker.ask(self.clock.now_ms))

    async def _take_locally(self, worker: Worker) -> None:
        needs = worker.needs()
        if worker.may_hold(needs, self.clock.now_ms):
            worker.hold(needs, self.clock.now_ms)

    async def _settle(self, worker: Worker) -> None:
        lucky = self.dice.choice((worker, *self.lost))
        if lucky.holds:
            lucky.settle(self.clock.now_ms)

    async def _deliver(self, _: Worker) -> None:
        if not self.requests:
            return
        place = self.dice.randrange(len(self.requests))
        fate = self.dice.random()
        exchange = self.requests[place] if fate < 0.1 else self.requests.pop(place)
        if fate < 0.9:
            await self._exchange(exchange)

    async def _exchange(self, exchange: Exchange) -> None:
        book = getattr(self.store, "book", None)
        known = book.owners.get(f"{exchange.owner}@{exchange.epoch}") if book is not None else None
        is_new = known is None or exchange.seq > known.seq
        before = self._given() if known is not None and not is_new and not known.is_back else None
        reply = await self.store.exchange(exchange)
        assert before is None or before == self._given(), "what is said again, or late, gives something"
        if is_new:
            self._look_for_idle(exchange, reply)
        for worker in (*self.workers, *self.lost):
            if (worker.name, worker.epoch) == (exchange.owner, exchange.epoch):
                self.replies.append((worker, reply))
                if reply.parked:
                    wants = [want for want in exchange.wants if want.id in reply.parked]
                    final = Exchange(worker.name, worker.epoch, 0, wants=wants, final=True)
                    self.parked.append((worker, final))
        for bucket, recalls in reply.recalls.items():
            names = {recall.owner for recall in recalls}
            for worker in self.workers:
                if worker.name in names and self.dice.random() < 0.9:
                    worker.open.discard(bucket)

    def _look_for_idle(self, exchange: Exchange, reply: Reply) -> None:
        """Nobody is refused at once while something of the bucket lies idle in an open purse."""
        book = getattr(self.store, "book", None)
        if book is None or exchange.wishes or reply.parked or exchange.seq in (0, 1):
            return
        for refusal in reply.refused:
            if refusal.bucket in book.buckets and (exchange.owner, exchange.epoch) in self._alive():
                outs = book.buckets[refusal.bucket].outs
                me = f"{exchange.owner}@{exchange.epoch}"
                assert not any(out.open and out.idle for key, out in outs.items() if key != me), refusal

    def _given(self) -> int:
        """To all owners, in all."""
        buckets = self.store.book.buckets.values()  # type: ignore[attr-defined]
        return sum(out.given for bucket in buckets for out in bucket.outs.values())

    def _alive(self) -> set[tuple[str, int]]:
        return {(worker.name, worker.epoch) for worker in self.workers}

    async def _answer(self, _: Worker) -> None:
        if not self.replies:
            return
        worker, reply = self.replies.pop(self.dice.randrange(len(self.replies)))
        # Answers for parked wants have no number: such a line is closed before it loses one.
        if self.dice.random() < 0.9 or not reply.seq:
            worker.hear(reply, self.clock.now_ms)

    async def _decide_finally(self, _: Worker) -> None:
        if self.parked:
            worker, final = self.parked.pop(0)
            reply = await self.store.exchange(final)
            if self.dice.random() < 0.2:
                again = await self.store.exchange(final)
                assert (again.granted, again.back) == (reply.granted, reply.back)
            self.replies.append((worker, reply))

    async def _say_again(self, worker: Worker) -> None:
        if worker.pending is not None:
            before = await self.store.balances()
            if worker.pending not in self.requests:
                self.requests.append(worker.pending)
            assert await self.store.balances() == before

    async def _reconnect(self, worker: Worker) -> None:
        """What was on its way to the worker is lost; what it had sent and has no answer to may still come."""
        self.requests = [
            each for each in self.requests if each.epoch != worker.epoch or each is worker.pending
        ]
        self.replies = [(other, reply) for other, reply in self.replies if other is not worker]
        self.parked = [(other, final) for other, final in self.parked if other is not worker]
        pending = {want.id for want in worker.pending.wants} if worker.pending else set()
        worker.asked = {id_: needs for id_, needs in worker.asked.items() if id_ in pending}
        await self.store.hello(worker.name, worker.epoch, dict(worker.got))

    async def _kill(self, worker: Worker) -> None:
        if self.dice.random() < 0.5:
            self.requests = [each for each in self.requests if each.epoch != worker.epoch]
        dead = self._die(worker)
        if self.dice.random() < 0.3:
            self.dead.append(dead)
        else:
            await self._bury(dead)
        number = self.workers.index(worker)
        self.workers[number] = self._worker(number)

    def _die(self, worker: Worker) -> Dead:
        self.replies = [(other, reply) for other, reply in self.replies if other is not worker]
        self.parked = [(other, final) for other, final in self.parked if other is not worker]
        before = dict(self.truth)
        holds = worker.die()
        team = "team|team=search|2026-11-01"
        self.assumed += holds.get(team, 0) - (self.truth.get(team, 0) - before.get(team, 0))
        rows = [*worker.sent_rows, *worker.rows] if self.dice.random() < 0.7 else []
        return worker, holds, rows

    async def _bury(self, dead: Dead) -> None:
        worker, holds, rows = dead
        for _ in range(self.dice.choice((1, 1, 2))):
            await self.store.bury(worker.name, worker.epoch, worker.used, holds, rows)

    async def _lose(self, worker: Worker) -> None:
        """A host is cut off. Its calls go on; its lease runs out, or does not."""
        number = self.workers.index(worker)
        if len(self.lost) < 2:
            self.lost.append(worker)
            self.names[number] += f".{self.epoch}"
            self.workers[number] = self._worker(number)

    async def _come_back(self, _: Worker) -> None:
        """A host that was cut off is heard of again, or its journal is read."""
        if self.dead and self.dice.random() < 0.5:
            await self._bury(self.dead.pop(0))
        if not self.lost:
            return
        worker = self.lost.pop(self.dice.randrange(len(self.lost)))
        if self.dice.random() < 0.6:
            await self._bury(self._die(worker))
            return
        number = self.dice.randrange(WORKERS)
        await self._kill(self.workers[number])
        self.workers[number], self.names[number] = worker, worker.name
        await self._reconnect(worker)

    async def _expire(self, _: Worker) -> None:
        if self.dice.random() < 0.1:
            await self.clock.advance(30_001)
        for name in await self.store.expire():
            for worker in (*self.workers, *self.lost):
                worker.ever_lost = worker.ever_lost or worker.name == name
        for worker in self.workers:
            if worker.ever_lost and worker.pending is None:
                # It was cut off for longer than it may spend: its first exchange says what it has.
                worker.open.clear()

    async def _edit(self, _: Worker) -> None:
        bucket = self.dice.choice([name for name, terms in RULES.items() if terms.kind == MONEY])
        rule, self.stamp = bucket.partition("|")[0], self.stamp + 1
        taken = [
            each.spent + each.held + each.idle
            for each in await self.store.balances(rule)
            if each.bucket == bucket
        ]
        if not taken:
            return
        if self.dice.random() < 0.5:
            amount = self.dice.randint(-300, 500)
            await self.store.adjust(bucket, amount, {"who": "test"})
            self.limits[bucket] += amount
            await self._raise_cap(bucket, taken[0])
        else:
            base = RULES[bucket].limit
            old = next(each for each in await self.store.balances(rule) if each.bucket == bucket)
            limit = self.dice.randint(base // 2, base * 2)
            self.limits[bucket] += limit - old.terms.limit
            changed = await self.store.set_terms({rule: Terms(MONEY, limit, stamp=self.stamp)})
            assert changed == ([bucket] if limit != old.terms.limit else [])
            await self._raise_cap(bucket, taken[0])

    async def _raise_cap(self, bucket: str, taken: int) -> None:
        """After an edit: no more than the new limit, or than there was already."""
        self.caps[bucket] = max(self.limits[bucket], taken)

    # the end

    async def rest(self) -> None:
        """All calls end, all that is idle comes back: the books say what was used, and nothing is out."""
        while self.lost:
            self.dead.append(self._die(self.lost.pop()))
        while self.dead:
            await self._bury(self.dead.pop())
        self.requests.clear()
        for worker in self.workers:
            await self._reconnect(worker)
            while worker.holds:
                worker.settle(self.clock.now_ms)
            worker.open.clear()
            for _ in range(3):
                await self._finish(worker)
        balances: dict[str, Any] = {each.bucket: each for each in await self.store.balances()}
        for bucket, each in balances.items():
            assert (each.held, each.idle) == (0, 0), each
            if each.terms.kind == MONEY:
                assert self.truth.get(bucket, 0) <= each.spent
                assert each.free == self.limits[bucket] - each.spent
                if each.free < RULES[bucket].limit:
                    # Enough for another while.
                    amount = RULES[bucket].limit - each.free
                    await self.store.adjust(bucket, amount, {"who": "test"})
                    self.limits[bucket] += amount
                    self.caps[bucket] = max(self.caps[bucket], self.limits[bucket])
            if each.terms.kind == SLOTS:
                assert each.free == each.terms.limit
        team = "team|team=search|2026-11-01"
        if team in balances:
            assert balances[team].spent == self.truth.get(team, 0) + self.assumed
        self._check_rates()
        assert await self.store.verify() == []

    async def _finish(self, worker: Worker) -> None:
        """What is pending is answered, what is left is returned."""
        if worker.pending is None:
            for name in worker.purse:
                worker.give_back(name, worker.purse[name])
            exchange = worker.ask(self.clock.now_ms)
            exchange.wants, exchange.wishes = (), {}
            worker.asked.clear()
        assert worker.pending is not None
        reply = await self.store.exchange(worker.pending)
        if reply.parked:
            wants = [want for want in worker.pending.wants if want.id in reply.parked]
            final = Exchange(worker.name, worker.epoch, 0, wants=wants, final=True)
            worker.hear(await self.store.exchange(final), self.clock.now_ms)
        worker.hear(reply, self.clock.now_ms)
        while worker.holds:
            worker.settle(self.clock.now_ms)
        worker.open.clear()

    def _check_rates(self) -> None:
        """No window, of any length, above burst + rate x length; by when what was used was taken."""
        for bucket, terms in RULES.items():
            if terms.kind != RATE:
                continue
            uses = sorted((at, amount) for name, at, amount in self.uses if name == bucket and amount)
            for length in (1, 1_000, 10_000, MINUTE):
                first = total = 0
                for at, amount in uses:
                    total += amount
                    while uses[first][0] <= at - length:
                        total -= uses[first][1]
                        first += 1
                    assert total <= terms.burst + -(-length * terms.limit // terms.window_ms)
        self.uses.clear()
