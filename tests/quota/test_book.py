"""The book of buckets: all or nothing, recalls, tickets, deaths; and random owners over a bad line."""

from __future__ import annotations

import random
from dataclasses import dataclass, field

import pytest

from gateway.quota.book import Book
from gateway.quota.contract import MONEY, RATE, ROLLING, SLOTS, Exchange, Terms, Want

MINUTE = 60_000
DAY = Terms(MONEY, 1000)


def ask(book: Book, owner: str, seq: int, needs: dict[str, int], now: int = 0, **more: object) -> Exchange:
    terms = {bucket: book.rules.get(bucket.partition("|")[0], DAY) for bucket in needs}
    return Exchange(owner, 1, seq, terms=terms, wants=[Want(seq, "app", needs, {})], **more)  # type: ignore[arg-type]


def test_a_want_gets_all_or_nothing() -> None:
    book = Book()
    assert book.exchange(ask(book, "a", 1, {"x|": 900}), 0).granted == [1]
    reply = book.exchange(ask(book, "a", 2, {"x|": 200, "y|": 5}), 0)
    assert reply.granted == [] and [refusal.bucket for refusal in reply.refused] == ["x|"]
    assert reply.refused[0].free == 100
    assert {balance.bucket: balance.free for balance in book.balances(0)} == {"x|": 100, "y|": 1000}


def test_the_same_exchange_again_gets_the_same_reply_and_changes_nothing() -> None:
    book = Book()
    first = ask(book, "a", 1, {"x|": 400})
    reply = book.exchange(first, 0)
    assert book.exchange(first, 5) == reply
    assert book.balances(0)[0].free == 600


def test_what_lies_idle_elsewhere_is_called_back_before_a_refusal() -> None:
    book = Book()
    book.exchange(ask(book, "a", 1, {"x|": 10}), 0)
    slices = book.exchange(Exchange("a", 1, 2, used={"x|": 10}, wishes={"x|": 900}), 0).slices
    assert slices == {"x|": 495}
    parked = book.exchange(ask(book, "b", 1, {"x|": 900}), 0)
    assert parked.parked == {1: ["x|"]} and parked.recalls == {"x|": ["a"]}
    # While somebody waits nothing is sliced, and the purse is shut.
    assert book.exchange(Exchange("a", 1, 3, returned={"x|": 495}, wishes={"x|": 100}), 1).shut == ["x|"]
    assert book.exchange(ask(book, "b", 0, {"x|": 900}, final=True), 1).granted == [0]


def test_two_that_cross_over_two_buckets_never_refuse_each_other() -> None:
    for seed in range(500):
        dice = random.Random(seed)
        book = Book()
        for owner, bucket in (("a", "x|"), ("b", "y|")):
            book.exchange(ask(book, owner, 1, {bucket: 10}), 0)
            book.exchange(Exchange(owner, 1, 2, used={bucket: 10}, wishes={bucket: 900}), 0)
        needs = {"x|": 800, "y|": 800}
        order = ["a", "b"]
        dice.shuffle(order)
        granted = []
        parked = []
        for owner in order:
            mine = {"a": "x|", "b": "y|"}[owner]
            reply = book.exchange(ask(book, owner, 3, needs, returned={mine: 495}), 1)
            granted += reply.granted
            if reply.parked:
                parked.append(owner)
        for owner in parked:
            granted += book.exchange(ask(book, owner, 0, needs, final=True), 2).granted
        assert len(granted) == 1, seed


def test_who_comes_when_its_ticket_says_is_let_in_and_who_pushes_in_is_not() -> None:
    book = Book()
    book.set_terms({"r": Terms(RATE, 600, burst=10, window_ms=MINUTE)}, 0)
    seq = dict.fromkeys("ab", 0)

    def call(owner: str, now: int) -> int | None:
        """None if it was let in, else how long it is to wait."""
        seq[owner] += 1
        reply = book.exchange(
            Exchange(
                owner,
                1,
                seq[owner],
                terms={"r|": book.rules["r"]},
                used={"r|": used[owner]},
                wants=[Want(seq[owner], owner, {"r|": 1}, {})],
            ),
            now,
        )
        if reply.granted:
            used[owner] += 1
            return None
        return reply.refused[0].wait_ms

    used = dict.fromkeys("ab", 0)
    assert [call("a", 0) for _ in range(10)] == [None] * 10
    assert [call("a", 0), call("a", 0)] == [100, 200]
    for now in range(1, 100):
        assert call("b", now) is not None
    assert call("a", 100) is None
    assert call("b", 101) is not None
    assert call("a", 200) is None


def test_the_dead_pay_for_their_open_holds_and_no_more() -> None:
    book = Book()
    book.exchange(ask(book, "a", 1, {"x|": 300}), 0)
    assert book.bury("a", 1, {"x|": 40}, {"x|": 100}, 0) == {"x|": 140}
    assert book.balances(0)[0].free == 860
    assert book.bury("a", 1, {"x|": 40}, {"x|": 100}, 0) == {}


def test_a_lost_host_is_spent_until_its_journal_is_read() -> None:
    book = Book()
    book.exchange(ask(book, "a", 1, {"x|": 300}), 0)
    assert book.expire(30_000) == []
    assert book.expire(30_001) == ["a"]
    assert book.expire(30_002) == []
    assert book.balances(30_001)[0].free == 700
    assert book.bury("a", 1, {"x|": 40}, {}, 30_003) == {"x|": 40}
    assert book.balances(30_003)[0].free == 960


def test_what_was_given_and_never_arrived_comes_back() -> None:
    book = Book()
    book.exchange(ask(book, "a", 1, {"x|": 300}), 0)
    book.exchange(ask(book, "a", 2, {"x|": 200}), 0)
    book.hello("a", 1, {"x|": 300}, 0)
    assert book.balances(0)[0].free == 700


def test_the_newest_terms_hold_and_a_lowered_limit_gives_nothing_more() -> None:
    book = Book()
    book.exchange(ask(book, "a", 1, {"x|": 600}), 0)
    assert book.set_terms({"x": Terms(MONEY, 500, stamp=7)}, 0) == ["x|"]
    assert book.set_terms({"x": Terms(MONEY, 9000, stamp=6)}, 0) == []
    reply = book.exchange(Exchange("b", 1, 1, terms={"x|": DAY}, wants=[Want(1, "k", {"x|": 1}, {})]), 0)
    assert reply.refused and reply.edited == {"x|": Terms(MONEY, 500, stamp=7)}
    assert book.adjust("x|", 150).free == 50


def test_a_shadow_refuses_nobody_and_says_so() -> None:
    book = Book()
    book.set_terms({"x": Terms(MONEY, 100, shadow=True, stamp=1)}, 0)
    reply = book.exchange(ask(book, "a", 1, {"x|": 150}), 0)
    assert (reply.granted, reply.over) == ([1], ["x|"])


@dataclass
class Honest:
    """An owner that keeps to the rules: purses, holds, cumulative reports."""

    name: str
    epoch: int
    seq: int = 0
    got: dict[str, int] = field(default_factory=dict)
    used: dict[str, int] = field(default_factory=dict)
    returned: dict[str, int] = field(default_factory=dict)
    holds: list[dict[str, int]] = field(default_factory=list)
    pending: Exchange | None = None

    def held(self, bucket: str) -> int:
        return sum(hold.get(bucket, 0) for hold in self.holds)

    def purse(self, bucket: str) -> int:
        used = sum(amount for account, amount in self.used.items() if account.partition("#")[0] == bucket)
        return self.got.get(bucket, 0) - used - self.returned.get(bucket, 0) - self.held(bucket)


RULES = {
    "day": Terms(MONEY, 5000),
    "team": Terms(MONEY, 8000),
    "roll": Terms(ROLLING, 6000, window_ms=MINUTE),
    "rate": Terms(RATE, 3000, burst=500, window_ms=MINUTE),
    "calls": Terms(SLOTS, 200),
}


@pytest.mark.parametrize("seed", range(10))
def test_random_owners_over_a_bad_line_never_pass_a_limit(seed: int) -> None:
    storm(seed, steps=1_500)


@pytest.mark.proof
@pytest.mark.timeout(1_800)
def test_a_million_steps_of_random_owners_never_pass_a_limit() -> None:
    for seed in range(1_000, 1_666):
        storm(seed, steps=1_500)


def storm(seed: int, steps: int) -> None:
    """Exchanges are sent again, replies are lost, owners die with open holds, leases run out (odd seeds)."""
    dice = random.Random(seed)
    leases_run_out = seed % 2 == 1
    book = Book()
    buckets = {f"{rule}|": terms for rule, terms in RULES.items()}
    owners = [Honest(f"w{number}", 1) for number in range(3)]
    now = 0
    truth = dict.fromkeys(buckets, 0)
    late: list[Exchange] = []
    for _ in range(steps):
        now += dice.choice((0, 0, 1, 20, 400))
        owner = dice.choice(owners)
        act = dice.random()
        if owner.pending is None and act < 0.5:
            owner.seq += 1
            needs = {name: dice.randint(1, 40) for name in dice.sample(sorted(buckets), dice.randint(1, 4))}
            for name in dice.sample(sorted(buckets), 1):
                idle = owner.purse(name)
                if idle > 0 and dice.random() < 0.3:
                    owner.returned[name] = owner.returned.get(name, 0) + idle
            owner.pending = Exchange(
                owner.name,
                owner.epoch,
                owner.seq,
                terms=buckets,
                used=dict(owner.used),
                returned=dict(owner.returned),
                wants=[Want(owner.seq, owner.name, needs, {})],
                wishes={name: dice.randint(1, 300) for name in dice.sample(sorted(buckets), 1)},
                held={name: owner.held(name) for name in buckets},
            )
        if owner.pending is not None and dice.random() < 0.8:
            reply = book.exchange(owner.pending, now)
            late.append(owner.pending)
            if dice.random() < 0.8:  # else the reply is lost, and the exchange sent again
                for want in owner.pending.wants:
                    if want.id in reply.granted:
                        for name, need in want.needs.items():
                            owner.got[name] = owner.got.get(name, 0) + need
                        owner.holds.append(dict(want.needs))
                for name, amount in reply.slices.items():
                    owner.got[name] = owner.got.get(name, 0) + amount
                owner.pending = None
        if owner.holds and act > 0.6:
            hold = owner.holds.pop(dice.randrange(len(owner.holds)))
            for name, amount in hold.items():
                if name == "calls|":
                    owner.returned[name] = owner.returned.get(name, 0) + amount
                    continue
                spent = dice.randint(0, amount)
                truth[name] += spent
                account = f"{name}#{now * 60 // MINUTE}" if name == "roll|" else name
                owner.used[account] = owner.used.get(account, 0) + spent
        if late and act > 0.95:
            stale = dice.choice(late)
            if stale.seq == 1 or stale.epoch == owner.epoch:
                known = next(other for other in owners if other.name == stale.owner)
                if known.epoch == stale.epoch and known.seq == stale.seq:
                    book.exchange(stale, now)
        if act < 0.01:
            if leases_run_out and dice.random() < 0.5:
                book.expire(now + 40_000)
            holds: dict[str, int] = {}
            for hold in owner.holds:
                for name, amount in hold.items():
                    if name != "calls|":
                        account = f"{name}#{now * 60 // MINUTE}" if name == "roll|" else name
                        holds[account] = holds.get(account, 0) + amount
                        truth[name] += amount  # whoever was served while it died
            book.bury(owner.name, owner.epoch, owner.used, holds, now)
            owners[owners.index(owner)] = Honest(owner.name, owner.epoch + 1)
        for balance in book.balances(now):
            bucket = book.buckets[balance.bucket]
            assert bucket.out == sum(share.out for share in bucket.outs.values())
            if balance.terms.kind == RATE:
                assert bucket.total <= balance.terms.burst
            if balance.terms.kind == MONEY:
                lost = sum(share.lost for share in bucket.outs.values())
                assert bucket.spent + lost + bucket.out + bucket.free == balance.terms.limit
                # Books, what is out and what is lost cover the truth: the wall.
                assert truth[balance.bucket] <= bucket.spent + lost + bucket.out <= balance.terms.limit
            if balance.terms.kind == SLOTS and not leases_run_out:
                # The calls of a host that comes back after its lease stand above the cap by their own number.
                running = sum(owner.held("calls|") for owner in owners)
                assert running <= bucket.out <= balance.terms.limit
