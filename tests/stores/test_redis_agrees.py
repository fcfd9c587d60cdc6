"""Redis decides as the book does: random owners, the same questions, the same answers."""

from __future__ import annotations

import os
import random
import secrets
from collections import Counter
from dataclasses import asdict
from typing import Any

import pytest

from gateway.quota.book import Book
from gateway.quota.changes import EXPLAINED
from gateway.quota.contract import MONEY, RATE, ROLLING, SLOTS, Exchange, Reply, Terms, Want
from gateway.stores.redis import DRY_MS, RedisStore
from tests.stores.redis_server import RedisServer

SEED = int(os.environ.get("MACHINE_SEED", "1"))
START_MS = 1_764_000_000_000
TERMS = {
    "day": Terms(MONEY, 2_250_000_000_000_001, stamp=1),
    "small": Terms(MONEY, 900, stamp=1),
    "roll": Terms(ROLLING, 700, window_ms=60_000, stamp=1),
    "rate": Terms(RATE, 600, burst=60, window_ms=60_000, stamp=1),
    "slow": Terms(RATE, 70_000_001, burst=100_000, window_ms=86_400_000, stamp=1),
    "slots": Terms(SLOTS, 9, stamp=1),
    "look": Terms(SLOTS, 2, shadow=True, stamp=1),
}
BUCKETS = {
    "day": "day|key=a|2026-11-25",
    "small": "small|key=ä|2026-11-25",
    "roll": "roll|all|rolling",
    "rate": "rate|key=a|",
    "slow": "slow|all|",
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

    def __init__(self, name: str, epoch: int, dice: random.Random) -> None:
        self.name, self.epoch, self.dice, self.seq, self.want = name, epoch, dice, 0, 0
        self.has: dict[str, int] = dict.fromkeys(BUCKETS.values(), 0)
        self.got: dict[str, int] = {}
        self.used: dict[str, int] = {}
        self.returned: dict[str, int] = {}
        self.asked: dict[int, Want] = {}
        self.said: list[Exchange] = []

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
                self.give_back(bucket, back, returned)
        wants = [self.one(returned) for _ in range(dice.randint(0, 3))]
        self.asked = {want.id: want for want in wants}
        wishes = {bucket: dice.randint(0, 300) for bucket in BUCKETS.values() if dice.random() < 0.3}
        held = {bucket: has // 2 for bucket, has in self.has.items() if dice.random() < 0.3}
        acks = [bucket for bucket in BUCKETS.values() if dice.random() < 0.05]
        self.seq += 1
        terms = {BUCKETS[rule]: terms for rule, terms in TERMS.items()}
        self.said.append(
            Exchange(
                self.name, self.epoch, self.seq, terms, used, returned, (),
                wants, wishes, held, acks=acks,
            )
        )  # fmt: skip
        return self.said[-1]

    def give_back(self, bucket: str, amount: int, news: dict[str, int]) -> None:
        self.returned[bucket] = news[bucket] = self.returned.get(bucket, 0) + amount
        self.has[bucket] -= amount

    def one(self, returned: dict[str, int]) -> Want:
        self.want += 1
        rules = self.dice.sample(list(BUCKETS), self.dice.randint(1, 4))
        most = {"day": 10**15, "small": 200, "roll": 150, "rate": 12, "slow": 30_000, "slots": 4, "look": 2}
        needs = {BUCKETS[rule]: self.dice.randint(1, most[rule]) for rule in rules}
        deposit = {}
        if self.dice.random() < 0.3:
            deposit = {bucket: min(need, self.has[bucket]) for bucket, need in needs.items()}
        for bucket, amount in deposit.items():
            self.give_back(bucket, amount, returned)
        return Want(self.want, self.dice.choice("pq"), needs, deposit)

    def hear(self, reply: Reply) -> Exchange | None:
        """Takes what is given; the last question for wants that were parked."""
        for want in reply.granted:
            for bucket, need in self.asked[want].needs.items():
                self.gain(bucket, need)
        for bucket, amount in (*reply.slices.items(), *reply.back.items()):
            self.gain(bucket, amount)
        parked = [self.asked[want] for want in reply.parked]
        return Exchange(self.name, self.epoch, 0, wants=parked, final=True) if parked else None

    def gain(self, bucket: str, amount: int) -> None:
        self.has[bucket] += amount
        self.got[bucket] = self.got.get(bucket, 0) + amount


class Pair:
    """Both, asked the same at the same time. They must say the same."""

    COUNTED = ("granted", "refused", "slices", "parked", "back", "shut", "over")

    def __init__(self, store: RedisStore) -> None:
        self.store, self.book, self.now = store, Book(dry_ms=DRY_MS), START_MS
        self.seen: Counter[str] = Counter()

    def pass_time(self, ms: int) -> None:
        self.now += ms
        self.store.clock = f"={self.now}"

    async def exchange(self, question: Exchange) -> Reply:
        answer, expected = await self.store.exchange(question), self.book.exchange(question, self.now)
        assert comparable(answer) == comparable(expected)
        for name in self.COUNTED:
            self.seen[name] += len(getattr(expected, name))
        return expected

    async def talk(self, worker: Worker, question: Exchange) -> None:
        """An exchange, the same again, and what it leads to."""
        following: Exchange | None = question
        while following:
            reply = await self.exchange(following)
            if not following.final:
                assert await self.exchange(following) == reply
            following = worker.hear(reply)

    async def lose_reply(self, worker: Worker) -> None:
        """An answer does not arrive; the worker connects again, and asks again."""
        question = worker.exchange(self.now)
        await self.exchange(question)
        await self.store.hello(worker.name, worker.epoch, worker.got)
        self.book.hello(worker.name, worker.epoch, worker.got, self.now)
        await self.talk(worker, question)

    async def edit(self, rule: str, limit: int, stamp: int) -> None:
        edit = {rule: TERMS[rule]._replace(limit=limit, stamp=stamp)}
        assert sorted(await self.store.set_terms(edit)) == sorted(self.book.set_terms(edit, self.now))

    async def bury(self, worker: Worker, used: dict[str, int], holds: dict[str, int]) -> None:
        posted = await self.store.bury(worker.name, worker.epoch, used, holds)
        assert posted == self.book.bury(worker.name, worker.epoch, used, holds, self.now)

    async def expire(self) -> None:
        assert sorted(await self.store.expire()) == sorted(self.book.expire(self.now))

    async def adjust(self, bucket: str, amount: int) -> None:
        balance = await self.store.adjust(bucket, amount, {"who": "ann"})
        assert balance == self.book.adjust(bucket, amount, {"who": "ann"}, self.now)

    async def look(self) -> None:
        assert sorted(await self.store.balances()) == sorted(self.book.balances(self.now))

    async def look_at_accounts(self) -> None:
        """What is posted, and what of it no row explains, by account."""
        entered: dict[str, int] = {}
        for entry in self.book.changes.entries:
            if entry.kind in EXPLAINED:
                entered[entry.account] = entered.get(entry.account, 0) + entry.amount
        for name, expected in (("posted", self.book.changes.posted), ("entered", entered)):
            found = await self.store._hash(name)
            assert {account: int(amount) for account, amount in found.items() if int(amount)} == {
                account: amount for account, amount in expected.items() if amount
            }


async def test_the_same_questions_get_the_same_answers(shared_redis: RedisServer) -> None:
    seen: Counter[str] = Counter()
    for seed in range(SEED, SEED + 3):
        seen += await walk(shared_redis, seed)
    assert all(seen[name] for name in Pair.COUNTED), seen


@pytest.mark.proof
@pytest.mark.timeout(1_800)
async def test_many_questions_get_the_same_answers(shared_redis: RedisServer) -> None:
    for seed in range(SEED + 1_000, SEED + 1_300):
        await walk(shared_redis, seed)


async def walk(server: RedisServer, seed: int) -> Counter[str]:
    """150 random steps; how much was granted, refused, …"""
    store = RedisStore(server.url, host_id="h1", prefix=secrets.token_hex(4), deadline_s=5.0)
    try:
        return await steps(Pair(store), random.Random(seed))
    except AssertionError as error:
        error.add_note(f"seed {seed}")
        raise
    finally:
        await store.close()


async def steps(pair: Pair, dice: random.Random) -> Counter[str]:
    pair.pass_time(0)
    workers = [Worker(f"h1/worker-{index}", 1, dice) for index in range(4)]
    gone: list[Worker] = []
    for step in range(150):
        pair.pass_time(dice.choice((0, 1, 7, 90, 900, 2500)))
        place = dice.randrange(4)
        worker = workers[place]
        match dice.choice(STEPS):
            case "edit":
                rule = dice.choice(list(TERMS))
                await pair.edit(rule, TERMS[rule].limit * dice.choice((1, 2, 4)), step + 2)
            case "die":
                # Half of them are replaced before their journals are read.
                workers[place] = Worker(worker.name, worker.epoch + 1, dice)
                if dice.random() < 0.5:
                    await pair.talk(workers[place], workers[place].exchange(pair.now))
                gone.append(worker)
            case "bury" if gone:
                worker = dice.choice(gone)
                holds = {bucket: has // 3 for bucket, has in worker.has.items() if has > 3}
                if BUCKETS["roll"] in holds:
                    holds[f"{BUCKETS['roll']}#{pair.now * 60 // 60_000}"] = holds.pop(BUCKETS["roll"])
                for times in range(dice.randint(1, 2)):
                    used = {account: amount + 5 * times for account, amount in worker.used.items()}
                    await pair.bury(worker, used, holds)
            case "late" if gone:
                worker = dice.choice(gone)
                await pair.exchange(dice.choice(worker.said) if worker.said else worker.exchange(pair.now))
            case "repeat" if worker.said:
                await pair.exchange(dice.choice(worker.said))
            case "lose":
                await pair.lose_reply(worker)
            case "adjust" if pair.book.buckets:
                await pair.adjust(dice.choice(sorted(pair.book.buckets)), dice.randint(-5, 20))
            case "expire":
                pair.pass_time(dice.choice((0, 29_000, 31_000)))
                await pair.expire()
            case _:
                await pair.talk(worker, worker.exchange(pair.now))
        await pair.look()
    await pair.look_at_accounts()
    return pair.seen


STEPS = ["talk"] * 30 + ["edit", "die", "bury", "late", "repeat", "lose", "lose", "adjust", "expire"]
