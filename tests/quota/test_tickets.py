"""Tickets: what is kept for whom, until when, and who gets none."""

from __future__ import annotations

from gateway.quota.book import Book
from gateway.quota.bucket import Bucket
from gateway.quota.contract import RATE, Exchange, Terms, Want
from gateway.quota.tickets import BAN_MS, KEPT_MS, MOST, Tickets

TEN_A_SECOND = Terms(RATE, 600, burst=10, window_ms=60_000)


def empty() -> Bucket:
    """A bucket of a rate that has nothing left."""
    bucket = Bucket("r|all|", TEN_A_SECOND, 0, 0)
    bucket.tickets.give("a", 3, 300)
    bucket.tickets.give("b", 1, 400)
    return bucket


def available(bucket: Bucket, who: str, now_ms: int) -> int:
    bucket.refill(now_ms)
    return bucket.available(who, now_ms)


def test_a_due_ticket_is_for_its_caller_alone_for_a_second() -> None:
    bucket = empty()
    assert [available(bucket, who, 299) for who in "abc"] == [0, 0, 0]
    assert [available(bucket, who, 300) for who in "abc"] == [3, 0, 0]
    assert [available(bucket, who, 400) for who in "abc"] == [3, 1, 0]
    assert available(bucket, "c", 300 + KEPT_MS) == 10 - 4
    assert available(bucket, "c", 301 + KEPT_MS) == 10 - 1


def test_any_request_of_a_caller_uses_its_oldest_due_tickets() -> None:
    bucket = empty()
    bucket.tickets.give("a", 1, 500)
    bucket.refill(500)
    bucket.tickets.claim("a", 2, 500)
    assert (bucket.tickets.owed, bucket.tickets.ask("a", 500)) == (2, 1)


def test_who_lets_a_ticket_lapse_gets_no_other_and_who_was_not_seen_loses_all() -> None:
    tickets = Tickets()
    for who in "ab":
        tickets.give(who, 1, 100)
        tickets.give(who, 1, 5_000)
    tickets.ask("a", 500)
    tickets.lapse(100 + KEPT_MS)
    assert tickets.owed == 4
    tickets.lapse(101 + KEPT_MS)
    assert tickets.owed == 1 and tickets.next_ms() == 5_000
    assert tickets.is_banned("a", 2_000) and tickets.is_banned("b", 2_000)
    assert not tickets.is_banned("b", 100 + KEPT_MS + BAN_MS)
    tickets.ask("a", 5_000)
    tickets.claim("a", 1, 5_000)
    assert tickets.owed == 0 and tickets.next_ms() is None


def test_bans_that_are_over_are_forgotten_while_others_wait() -> None:
    tickets = Tickets()
    for number in range(20_000):
        now_ms = number * 100
        tickets.lapse(now_ms)
        tickets.give(f"caller {number}", 1, now_ms + 10)
    assert len(tickets._banned) <= 2_000


def test_beyond_so_many_tickets_there_is_only_an_estimate() -> None:
    book = Book()
    terms = {"r|": Terms(RATE, 600_000, burst=1, window_ms=60_000)}
    for seq in range(1, MOST + 3):
        book.exchange(
            Exchange("w", 1, seq, terms=terms, wants=[Want(seq, f"caller {seq}", {"r|": 1}, {})]), 0
        )
    assert len(book.buckets["r|"].tickets) == MOST
