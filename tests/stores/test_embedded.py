"""The embedded store: what outlives its process."""

from __future__ import annotations

import sqlite3
from pathlib import Path

import pytest

from gateway.quota.contract import Exchange, Recall, StoreDown, Want
from gateway.stores.embedded import EmbeddedStore
from gateway.stores.tables import NewerState
from tests.stores.teller import DAY, MONEY_1000, HandClock, MakeStore, Teller, free, opened, row


@pytest.fixture
def clock() -> HandClock:
    return HandClock()


@pytest.fixture
def make_store(tmp_path: Path, clock: HandClock) -> MakeStore:
    async def make() -> EmbeddedStore:
        return EmbeddedStore(tmp_path / "ledger.db", lambda: clock.now_ms)

    return make


async def test_a_store_that_is_opened_again_goes_on_where_it_was(make_store: MakeStore) -> None:
    store = await make_store()
    owner, idle = await opened(store, "w0", DAY, MONEY_1000, 500)
    await owner.tell({DAY: 10}, used={DAY: 100}, rows=[row({DAY: 100})])
    before = await store.balances()
    again = await make_store()
    assert await again.balances() == before
    owner.store = again
    assert (await owner.again()).granted == [2]
    assert await again.balances() == before
    # It is still known that the owner has something idle.
    reply = await Teller(again, "w1").tell({DAY: 900 - idle + 100}, terms={DAY: MONEY_1000})
    assert reply.recalls == {DAY: [Recall("w0", 1, owner.seq)]}


async def test_what_cannot_be_written_has_not_happened(make_store: MakeStore, tmp_path: Path) -> None:
    store = await make_store()
    assert isinstance(store, EmbeddedStore)
    owner = Teller(store, "w0")
    await owner.tell({DAY: 100}, terms={DAY: MONEY_1000})
    other = sqlite3.connect(tmp_path / "ledger.db", isolation_level=None)
    store._connection.execute("PRAGMA busy_timeout = 1")
    other.execute("BEGIN IMMEDIATE")
    with pytest.raises(StoreDown):
        await owner.tell({DAY: 200}, used={DAY: 100}, rows=[row({DAY: 100})])
    assert await free(store, DAY) == 900
    other.execute("ROLLBACK")
    assert (await owner.again()).granted == [2]
    assert await free(store, DAY) == 700
    assert await store.verify() == []


async def test_a_file_of_a_later_version_is_refused_by_name(make_store: MakeStore, tmp_path: Path) -> None:
    await (await make_store()).close()
    with sqlite3.connect(tmp_path / "ledger.db") as connection:
        connection.execute("UPDATE meta SET value = 99")
    with pytest.raises(NewerState, match="schema 99"):
        await make_store()


async def test_rows_of_a_dead_worker_that_are_there_already_are_not_written_again(
    make_store: MakeStore,
) -> None:
    store = await make_store()
    owner = Teller(store, "w0")
    await owner.tell({DAY: 500}, terms={DAY: MONEY_1000})
    await owner.tell(used={DAY: 100}, rows=[row({DAY: 100}, "r1")])
    await store.bury("w0", 1, {DAY: 150}, {DAY: 20}, [row({DAY: 100}, "r1"), row({DAY: 50}, "r2")])
    assert [each["calls"] for each in await store.spend([], 0, 1 << 60)] == [2]
    assert await free(store, DAY) == 830
    assert await store.verify() == []


async def test_a_window_that_ended_leaves_memory_and_is_found_again(
    make_store: MakeStore, clock: HandClock
) -> None:
    store = await make_store()
    assert isinstance(store, EmbeddedStore)
    owner = Teller(store, "w0")
    await owner.tell({DAY: 500}, terms={DAY: MONEY_1000})
    await owner.tell(used={DAY: 100}, returned={DAY: 400}, rows=[row({DAY: 100})])
    next_day = DAY.replace("-01", "-02")
    await clock.advance(3_600_001)
    await owner.tell({next_day: 1}, terms={next_day: MONEY_1000})
    await store.expire()
    assert list(store.book.buckets) == [next_day]
    again = await make_store()
    assert [each.bucket for each in await again.balances()] == [next_day]
    # A late report is of the same sums as before: 100 of them are known.
    reply = await again.exchange(
        Exchange(
            "w0", 1, 9, used={DAY: 130}, rows=[row({DAY: 30}, "r2")], wants=[Want(9, "app", {DAY: 870}, {})]
        )
    )
    assert reply.granted == [9]
    assert await free(again, DAY) == 0
    assert await again.verify() == []


async def test_the_latest_window_leaves_memory_when_it_is_surely_over(
    make_store: MakeStore, clock: HandClock
) -> None:
    store = await make_store()
    assert isinstance(store, EmbeddedStore)
    owner = Teller(store, "w0")
    await owner.tell({DAY: 500}, terms={DAY: MONEY_1000})
    await owner.tell(used={DAY: 100}, returned={DAY: 400}, rows=[row({DAY: 100})])
    for days, left in ((31, [DAY]), (2, [])):
        await clock.advance(days * 86_400_000)
        await owner.tell()
        await store.expire()
        assert list(store.book.buckets) == left
    assert store.book.owners["w0@1"].buckets == set()


async def test_an_earlier_epoch_is_given_nothing_after_the_later_was_forgotten(
    make_store: MakeStore, clock: HandClock
) -> None:
    store = await make_store()
    first, second = Teller(store, "w0", 1), Teller(store, "w0", 2)
    for owner in (first, second):
        await owner.tell({DAY: 100}, terms={DAY: MONEY_1000})
    await store.bury("w0", 2, {}, {})
    await clock.advance(600_001)
    await store.expire()
    first.store = again = await make_store()
    assert (await first.tell({DAY: 100})).granted == []
    assert await free(again, DAY) == 900


async def test_who_was_not_told_that_its_purse_is_shut_is_told_by_the_store_that_is_opened_again(
    make_store: MakeStore,
) -> None:
    store = await make_store()
    owner, _ = await opened(store, "w0", DAY, MONEY_1000, 500)
    await store.set_terms({"day": MONEY_1000._replace(limit=900, stamp=1)})
    owner.store = await make_store()
    assert (await owner.tell()).shut == [DAY]
