"""Redis decides as the book does: random owners, the same questions, the same answers."""

from __future__ import annotations

import random
from dataclasses import asdict
from typing import Any

import pytest

from gateway.quota.book import Book
from gateway.quota.contract import MONEY, RATE, ROLLING, SLOTS, Exchange, Reply, Terms, Want
from gateway.stores.redis import DRY_MS
from tests.stores.conftest import MakeStore

START_MS = 1_764_000_000_000
TERMS = {
    "day": Terms(MONEY, 2_250_000_000_000_001, stamp=1),
    "small": Terms(MONEY, 900, stamp=1),
    "roll": Terms(ROLLING, 700, window_ms=60_000, stamp=1),
    "rate": Terms(RATE, 600, burst=60, window_ms=60_000, stamp=1),
    "slots": Terms(SLOTS, 9, stamp=1),
    "look": Terms(SLOTS, 2, shadow=True, stamp=1),
}
BUCKETS = {
    "day": "day|key=a|2026-11-25",
    "small": "small|key=ä|2026-11-25",
    "roll": "roll|all|rolling",
    "rate": "rate|key=a|",
    "slots": "slots|all|",
    "look": "look|all|",
}


def comparable(reply: Reply) -> dict[str, Any]:
    """A reply without what need not agree: order, the term that refusals of money are remembered for, and
    what was shut by a recall, which only Redis repeats."""
    said = asdict(reply)
    said["recalls"] = {bucket: sorted(owners) for bucket, owners in said["recalls"].items()}
    said["over"] = sorted(set(said["over"]))
    said["shut"] = sorted(said["shut"])
    return said


class Worker:
    """An owner that uses, returns and asks at random, and keeps the sums that it tells."""

    def __init__(self, name: str, dice: random.Random) -> None:
        self.name, self.dice, self.seq, self.want = name, dice, 0, 0
        self.has: dict[str, int] = dict.fromkeys(BUCKETS.values(), 0)
        self.used: dict[str, int] = {}
        self.returned: dict[str, int] = {}
        self.asked: dict[int, Want] = {}

    def exchange(self, now: int) -> Exchange:
        dice, used, returned = self.dice, {}, {}
        for rule, bucket in BUCKETS.items():
            spent = dice.randint(0, self.has[bucket]) if dice.random() < 0.5 else 0
            if spent and rule not in ("slots", "look"):
                account = f"{bucket}#{now * 60 // 60_000}" if rule == "roll" else bucket
                self.used[account] = used[account] = self.used.get(account, 0) + spent
                self.has[bucket] -= spent
            back = dice.randint(0, self.has[bucket]) if dice.random() < 0.5 else 0
            if back:
                self.returned[bucket] = returned[bucket] = self.returned.get(bucket, 0) + back
                self.has[bucket] -= back
        wants = [self.one() for _ in range(dice.randint(0, 3))]
        self.asked = {want.id: want for want in wants}
        # None for the rate: the book lets its tickets lapse when somebody wants it, Redis also for a wish.
        wishes = {
            bucket: dice.randint(0, 300)
            for rule, bucket in BUCKETS.items()
            if rule != "rate" and dice.random() < 0.3
        }
        held = {bucket: has // 2 for bucket, has in self.has.items() if dice.random() < 0.3}
        self.seq += 1
        terms = {BUCKETS[rule]: terms for rule, terms in TERMS.items()}
        return Exchange(
            self.name, 1, self.seq, terms, used, returned, (),
            wants, wishes, held,
        )  # fmt: skip

    def one(self) -> Want:
        self.want += 1
        rules = self.dice.sample(list(BUCKETS), self.dice.randint(1, 4))
        most = {"day": 10**15, "small": 200, "roll": 150, "rate": 12, "slots": 4, "look": 2}
        needs = {BUCKETS[rule]: self.dice.randint(1, most[rule]) for rule in rules}
        return Want(self.want, self.dice.choice("pq"), needs, {})

    def hear(self, reply: Reply) -> Exchange | None:
        """Takes what is given; the last question for wants that were parked."""
        for want in reply.granted:
            for bucket, need in self.asked[want].needs.items():
                self.has[bucket] += need
        for bucket, amount in (*reply.slices.items(), *reply.back.items()):
            self.has[bucket] += amount
        parked = [self.asked[want] for want in reply.parked]
        return Exchange(self.name, 1, 0, wants=parked, final=True) if parked else None


@pytest.mark.parametrize("seed", range(6))
async def test_the_same_questions_get_the_same_answers(seed: int, make_store: MakeStore) -> None:
    dice = random.Random(seed)
    book, store, now = Book(dry_ms=DRY_MS), make_store(deadline_s=5.0), START_MS
    store.clock = f"={now}"
    workers = [Worker(f"h1/worker-{index}", dice) for index in range(4)]
    stamp, seen = 1, dict.fromkeys(("granted", "refused", "slices"), 0)
    for _ in range(150):
        now += dice.choice((0, 1, 7, 90, 900, 2500))
        store.clock = f"={now}"
        match dice.randint(0, 19):
            case 0:
                stamp += 1
                rule = dice.choice(list(TERMS))
                edit = {
                    rule: TERMS[rule]._replace(limit=TERMS[rule].limit * dice.choice((1, 2, 4)), stamp=stamp)
                }
                assert sorted(await store.set_terms(edit)) == sorted(book.set_terms(edit, now))
            case 1:
                worker = dice.choice(workers)
                holds = {bucket: has // 3 for bucket, has in worker.has.items() if has > 3}
                holds.pop(BUCKETS["roll"], None)
                used = worker.used
                assert await store.bury(worker.name, 1, used, holds) == book.bury(
                    worker.name, 1, used, holds, now
                )
                workers[workers.index(worker)] = Worker(f"{worker.name}x", dice)
            case _:
                worker = dice.choice(workers)
                question: Exchange | None = worker.exchange(now)
                while question:
                    answer, expected = await store.exchange(question), book.exchange(question, now)
                    assert comparable(answer) == comparable(expected)
                    for name in seen:
                        seen[name] += len(getattr(expected, name))
                    again = worker.hear(expected)
                    assert await store.exchange(question) == answer
                    question = again
        assert sorted(await store.balances()) == sorted(book.balances(now))
    assert min(seen.values()) > 0, seen
