"""The book of buckets: all or nothing, recalls, tickets, deaths."""

from __future__ import annotations

import random

from gateway.quota.book import Book
from gateway.quota.contract import MONEY, RATE, Exchange, Terms, Want

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
    assert book.adjust("x|", 150, {}, 0).free == 50


def test_a_shadow_refuses_nobody_and_says_so() -> None:
    book = Book()
    book.set_terms({"x": Terms(MONEY, 100, shadow=True, stamp=1)}, 0)
    reply = book.exchange(ask(book, "a", 1, {"x|": 150}), 0)
    assert (reply.granted, reply.over) == ([1], ["x|"])
