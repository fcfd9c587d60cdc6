"""The book of buckets: all or nothing, recalls, tickets, deaths."""

from __future__ import annotations

import random

from gateway.quota.book import Book
from gateway.quota.contract import MONEY, RATE, SLOTS, Exchange, Recall, Terms, Want

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
    assert parked.parked == {1: ["x|"]} and parked.recalls == {"x|": [Recall("a", 1, 2)]}
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


def test_a_grant_that_went_back_is_decided_anew_when_it_is_asked_for_again() -> None:
    book = Book()
    asked = ask(book, "a", 1, {"x|": 900})
    book.exchange(asked, 0)
    book.hello("a", 1, {}, 0)
    assert book.balances(0)[0].free == 1000
    assert book.exchange(ask(book, "b", 1, {"x|": 500}), 0).granted == [1]
    assert book.exchange(asked, 0).granted == []
    assert book.balances(0)[0].free == 500


def test_nobody_is_given_anything_for_words_that_come_late() -> None:
    book = Book()
    old = ask(book, "a", 1, {"x|": 100})
    book.exchange(old, 0)
    book.exchange(ask(book, "a", 2, {"x|": 200}), 0)
    assert book.exchange(old, 0).granted == []
    assert book.balances(0)[0].free == 700


def test_what_the_buried_say_changes_nothing() -> None:
    book = Book()
    book.exchange(ask(book, "a", 1, {"x|": 300}), 0)
    book.bury("a", 1, {"x|": 100}, {}, 0)
    assert book.exchange(ask(book, "a", 2, {"x|": 5}, used={"x|": 100}), 1).granted == []
    book.hello("a", 1, {}, 1)
    assert (book.balances(1)[0].spent, book.balances(1)[0].free) == (100, 900)
    book.exchange(ask(book, "b", 1, {"x|": 300}), 1)
    book.bury("b", 1, {}, {"x|": 200}, 1)
    book.hello("b", 1, {}, 1)
    assert (book.balances(1)[0].spent, book.balances(1)[0].free) == (300, 700)


def test_an_epoch_that_was_never_buried_is_spent_until_it_is() -> None:
    book = Book()
    book.exchange(ask(book, "a", 1, {"x|": 300}), 0)
    later = Exchange("a", 2, 1, terms={"x|": DAY}, wants=[Want(1, "k", {"x|": 700}, {})])
    assert book.exchange(later, 1).granted == [1]
    assert book.exchange(ask(book, "a", 2, {"x|": 1}), 1).granted == []
    assert (book.balances(1)[0].spent, book.balances(1)[0].free) == (300, 0)
    assert book.bury("a", 1, {"x|": 40}, {}, 2) == {"x|": 40}
    assert (book.balances(2)[0].spent, book.balances(2)[0].free) == (40, 260)


def test_the_slots_of_an_epoch_are_free_when_the_next_one_speaks() -> None:
    book = Book()
    book.set_terms({"x": Terms(SLOTS, 3, stamp=1)}, 0)
    book.exchange(ask(book, "a", 1, {"x|": 3}), 0)
    book.hello("a", 2, {}, 1)
    assert book.balances(1)[0].free == 3
    # The earlier one has nothing to say any more, also after the later one died.
    book.bury("a", 2, {}, {}, 2)
    assert book.exchange(ask(book, "a", 2, {"x|": 1}), 3).granted == []


def test_a_call_that_two_rates_refuse_gets_one_ticket_of_the_slower() -> None:
    book = Book()
    book.set_terms(FAST_AND_SLOW, 0)
    needs = {"fast|": 1, "slow|": 1}
    book.exchange(ask(book, "a", 1, needs), 0)
    reply = book.exchange(ask(book, "a", 2, needs, used=needs), 0)
    assert [(refusal.bucket, refusal.wait_ms) for refusal in reply.refused] == [("slow|", 1000)]
    # Long after the faster one would have been due, nobody is barred there.
    alone = book.exchange(ask(book, "a", 3, {"fast|": 1}), 5_000)
    assert alone.granted == [3]
    refusal = book.exchange(ask(book, "a", 4, {"fast|": 1}, used=needs), 5_000).refused[0]
    assert (refusal.wait_ms, refusal.dry_ms) == (100, 0)


def test_the_ticket_of_two_rates_lets_its_caller_in_and_keeps_nobody_out_before() -> None:
    book = Book()
    book.set_terms(FAST_AND_SLOW, 0)
    needs = {"fast|": 1, "slow|": 1}
    used = {"fast|": 1}
    book.exchange(ask(book, "a", 1, needs), 0)
    assert book.exchange(ask(book, "a", 2, needs, used=needs), 0).refused[0].wait_ms == 1000
    for seq, now in enumerate(range(100, 900, 100), 1):
        # Others have the faster one for themselves until what is refilled is for the ticket.
        assert book.exchange(fast_call("b", 2 * seq), now).granted == [2 * seq], now
        book.exchange(Exchange("b", 1, 2 * seq + 1, used={"fast|": seq}), now)
    assert book.exchange(fast_call("b", 20), 1_000).granted == []
    assert book.exchange(ask(book, "a", 3, needs, used=used), 1_000).granted == [3]


FAST_AND_SLOW = {
    "fast": Terms(RATE, 600, burst=1, window_ms=MINUTE),
    "slow": Terms(RATE, 60, burst=1, window_ms=MINUTE),
}


def fast_call(owner: str, seq: int) -> Exchange:
    """A call of the faster rate, of a caller named as the owner."""
    wants = [Want(seq, owner, {"fast|": 1}, {})]
    return Exchange(owner, 1, seq, terms={"fast|": FAST_AND_SLOW["fast"]}, wants=wants)


def test_a_late_word_of_the_dead_promises_nobody_anything() -> None:
    book = Book()
    book.set_terms(FAST_AND_SLOW, 0)
    book.exchange(ask(book, "a", 1, {"fast|": 1}), 0)
    book.bury("a", 1, {}, {"fast|": 1}, 0)
    assert book.exchange(ask(book, "a", 2, {"fast|": 1}), 0).refused
    assert not book.buckets["fast|"].tickets


def test_a_reply_that_was_lost_and_said_that_a_purse_is_shut_says_so_again() -> None:
    book = Book()
    book.exchange(ask(book, "a", 1, {"x|": 10}), 0)
    book.exchange(Exchange("a", 1, 2, used={"x|": 10}, wishes={"x|": 900}), 0)
    book.set_terms({"x": Terms(MONEY, 900, stamp=1)}, 0)
    lost = ask(book, "a", 3, {"x|": 5})
    assert book.exchange(lost, 0).shut == ["x|"]
    book.hello("a", 1, {"x|": 505}, 0)
    again = book.exchange(lost, 0)
    assert (again.granted, again.shut) == ([3], ["x|"])


def test_who_acknowledged_a_recall_is_not_waited_for_again() -> None:
    book = Book()
    book.exchange(ask(book, "a", 1, {"x|": 10}), 0)
    book.exchange(Exchange("a", 1, 2, used={"x|": 10}, wishes={"x|": 900}), 0)
    assert book.exchange(ask(book, "b", 1, {"x|": 900}), 0).recalls == {"x|": [Recall("a", 1, 2)]}
    reply = book.exchange(Exchange("a", 1, 3, returned={"x|": 400}, held={"x|": 0}, acks=["x|"]), 1)
    assert reply.shut == []
    balance = book.balances(1)[0]
    assert (balance.held, balance.idle) == (95, 0)
    assert book.exchange(ask(book, "b", 0, {"x|": 900}, final=True), 1).refused[0].is_held
