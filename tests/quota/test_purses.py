"""Purses against a book, without a link between them."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from gateway.link.journal import Journal, read_journal
from gateway.quota.book import Book
from gateway.quota.contract import MONEY, RATE, ROLLING, Refusal, Reply, Terms
from gateway.quota.hold import Ask, Hold
from gateway.quota.purse import Purse, Spent
from gateway.quota.purses import Purses
from tests.escrow.worker import amounts_of, rule_of

DAY = "day|key=a|1"
NOW_MS = 1_764_000_000_000


class Owner:
    """A worker's purses, which speak to a book at once."""

    def __init__(self, folder: Path, book: Book, name: str) -> None:
        self.book, self.name = book, name
        self.journal = Journal(folder, name, 1)
        self.purses = Purses(self.journal)
        self.seq = 0
        self.got: dict[str, int] = {}

    def purse(self, bucket: str, terms: Terms, measure: str = "usd") -> Purse:
        rule = rule_of(bucket.partition("|")[0], measure, terms)
        return self.purses.purse(bucket, lambda: Purse.of(bucket, rule, terms, float("inf")))

    def ask(self, purse: Purse, amounts: list[int]) -> tuple[Ask, list[Hold | Refusal]]:
        heard: list[Hold | Refusal] = []
        ask = self.purses.ask("a", [(purse, purse.need_at)], amounts)
        ask.decided = heard.append
        return ask, heard

    def tell(self, now_s: float = 0.0) -> Reply:
        """One exchange, answered."""
        exchange = self.purses.exchange(now_s + 10 * self.seq)
        assert exchange is not None
        self.seq += 1
        exchange.owner, exchange.epoch, exchange.seq = self.name, 1, self.seq
        reply = self.book.exchange(exchange, NOW_MS + int(now_s * 1000))
        self.hear(reply, now_s)
        return reply

    def hear(self, reply: Reply, now_s: float = 0.0) -> None:
        for ask, outcome in self.purses.answered(reply, now_s, now_s):
            assert ask.decided is not None
            ask.decided(outcome)


@pytest.fixture
def book() -> Book:
    return Book()


@pytest.fixture
def owners(tmp_path: Path, book: Book) -> Iterator[list[Owner]]:
    made = [Owner(tmp_path, book, f"worker-{number}") for number in range(2)]
    yield made
    for owner in made:
        owner.journal.close()


def held(owner: Owner, purse: Purse, nanousd: int) -> Hold:
    """A call that the store lets in."""
    _, heard = owner.ask(purse, amounts_of(nanousd, nanousd))
    owner.tell()
    assert isinstance(heard[0], Hold)
    return heard[0]


def test_use_of_a_call_that_needed_nothing_is_booked(owners: list[Owner], book: Book) -> None:
    owner = owners[0]
    purse = owner.purse("tokens|key=a|", Terms(RATE, 600, burst=600, window_ms=60_000), "tokens")
    hold = held(owner, purse, 0)
    owner.purses.settle(hold, Spent(90, 40, 50, 0))
    owner.tell()
    assert book.buckets["tokens|key=a|"].total == 510
    said = read_journal(owner.journal.path)
    assert said is not None and said.used == {"tokens|key=a|": 90}


def test_what_a_call_gave_back_to_an_open_purse_is_called_back_before_it_was_told(
    owners: list[Owner], book: Book
) -> None:
    rich, poor = owners
    terms = Terms(MONEY, 1_000)
    purse = rich.purse(DAY, terms)
    hold = held(rich, purse, 100)
    holds = [held(rich, purse, 300) for _ in range(3)]
    assert purse.is_open
    for each in (hold, *holds):
        rich.purses.settle(each, Spent(0, 0, 0, 10))
    _, heard = poor.ask(poor.purse(DAY, terms), amounts_of(0, 500))
    reply = poor.tell()
    assert [recall.owner for recall in reply.recalls[DAY]] == ["worker-0"]
    assert heard == []


def test_wants_of_one_owner_wait_for_the_same_recall(owners: list[Owner], book: Book) -> None:
    rich, poor = owners
    terms = Terms(MONEY, 1_000)
    rich.purses.settle(held(rich, rich.purse(DAY, terms), 100), Spent(0, 0, 0, 0))
    assert rich.purse(DAY, terms).balance > 0
    purse = poor.purse(DAY, terms)
    poor.ask(purse, amounts_of(0, 900))
    _, heard = poor.ask(purse, amounts_of(0, 900))
    assert sorted(poor.tell().parked) == [1, 2]
    _, later = poor.ask(purse, amounts_of(0, 900))
    assert sorted(poor.tell().parked) == [3]
    assert heard == later == []


def test_a_purse_is_opened_by_no_answer_that_its_recall_overtook(owners: list[Owner]) -> None:
    owner = owners[0]
    purse = owner.purse(DAY, Terms(MONEY, 1_000))
    owner.purses.settle(held(owner, purse, 100), Spent(0, 0, 0, 0))
    last = owner.tell(1.0).seq
    assert purse.is_open
    owner.purses.recalled(last + 1, [DAY])
    owner.hear(Reply(last + 1, slices={DAY: 50}))
    assert not purse.is_open
    said = owner.purses.exchange(2.0)
    assert said is not None
    assert (said.acks, said.returned[DAY], purse.balance) == ([DAY], purse.returned, 0)
    owner.hear(Reply(last + 2, slices={DAY: 50}))
    assert (purse.is_open, purse.balance) == (True, 50)


def test_a_recall_that_comes_after_a_later_slice_takes_nothing(owners: list[Owner]) -> None:
    owner = owners[0]
    purse = owner.purse(DAY, Terms(MONEY, 1_000))
    owner.purses.settle(held(owner, purse, 100), Spent(0, 0, 0, 0))
    last, balance = owner.tell(1.0).seq, purse.balance
    owner.purses.recalled(last, [DAY])
    owner.hear(Reply(last + 1, slices={DAY: 50}))
    owner.purses.recalled(last, [DAY])
    assert (purse.is_open, purse.balance) == (True, 50) and balance
    said = owner.purses.exchange(2.0)
    assert said is not None and not said.acks, "it keeps something, so it says of no recall that it does not"


def test_of_a_rate_nothing_is_taken_that_was_written_off(owners: list[Owner], book: Book) -> None:
    """Cut off for longer than its lease: what it had was dropped, and refilled for others."""
    owner = owners[0]
    purse = owner.purse("rate.requests|key=a|", Terms(RATE, 600, burst=600, window_ms=60_000), "requests")
    held(owner, purse, 0)
    assert purse.balance > 0
    assert book.expire(NOW_MS + 31_000) == ["worker-0"]
    owner.tell(31.0)
    assert owner.purses.take([(purse, purse.need_at)], amounts_of(0, 0), 31.0) is None


HOUR_MS = 3_600_000


def test_an_account_is_not_forgotten_before_the_store_has_answered(owners: list[Owner]) -> None:
    owner = owners[0]
    purse = owner.purse(DAY, Terms(MONEY, 1_000))
    hold = held(owner, purse, 100)
    purse.until_ms = 0
    owner.purses.settle(hold, Spent(0, 0, 0, 30))
    owner.purses.tick(0.1, 1)
    assert owner.purses.exchange(0.1) is not None
    owner.purses.close_windows(2 * HOUR_MS)
    said = read_journal(owner.journal.path)
    assert said is not None and said.used == {DAY: 30}
    owner.hear(Reply(owner.seq + 1))
    owner.purses.close_windows(2 * HOUR_MS)
    said = read_journal(owner.journal.path)
    assert said is not None and said.used == {}


def test_old_parts_of_a_busy_rolling_window_are_forgotten(owners: list[Owner]) -> None:
    owner = owners[0]
    purse = owner.purse("roll|key=a|rolling", Terms(ROLLING, 10_000, window_ms=60_000))
    kept = held(owner, purse, 5)
    for part in range(1, 101):
        owner.purses.place(purse, part)
        held(owner, purse, 1)
    owner.tell()
    owner.purses.close_windows(NOW_MS)
    # No longer than a window, but for those that calls still hold.
    assert len(purse.accounts) == 101
    owner.purses.settle(kept, None)
    owner.tell()
    owner.purses.close_windows(NOW_MS)
    assert 0 not in purse.accounts and len(purse.accounts) == 100


def test_purses_serve_no_longer_than_the_lease_surely_lasts(owners: list[Owner]) -> None:
    owner = owners[0]
    purse = owner.purse(DAY, Terms(MONEY, 1_000_000))
    owner.purses.settle(held(owner, purse, 100), None)
    seats = [(purse, purse.need_at)]
    assert purse.balance >= 10
    assert owner.purses.take(seats, amounts_of(0, 10), 26.9) is not None
    assert owner.purses.take(seats, amounts_of(0, 10), 27.0) is None
