"""Retention: old rows and closed windows leave, and the sums still agree."""

from __future__ import annotations

import sqlite3
from pathlib import Path

import pytest

from gateway.quota.contract import MONEY, ROLLING, Terms
from gateway.stores.embedded import EmbeddedStore
from tests.stores.teller import MONEY_1000, ROLL, Teller, row

DAY_MS = 86_400_000
START_MS = 1_764_000_000_000


class HandClock:
    now_ms = START_MS


def count(path: Path, table: str) -> int:
    with sqlite3.connect(path) as connection:
        return int(connection.execute(f"SELECT count(*) FROM {table}").fetchone()[0])


async def test_old_rows_leave_in_small_steps_and_the_sums_agree_after_each(tmp_path: Path) -> None:
    path, clock = tmp_path / "ledger.db", HandClock()
    store = EmbeddedStore(path, lambda: clock.now_ms, keep_days=10)
    owner = Teller(store, "w0")
    bucket = "day|all|2026-11-01"
    await owner.tell({bucket: 2_000}, terms={bucket: Terms(MONEY, 5_000)})
    for part in range(4):
        rows = [row({bucket: 1}, f"r{part}.{number}", clock.now_ms) for number in range(250)]
        await owner.tell(used={bucket: 250}, rows=rows)
        clock.now_ms += DAY_MS
    await owner.tell()
    await store.expire()  # knows now how many rows there are
    left = [count(path, "usage")]
    # The first two days are older than ten now.
    clock.now_ms = START_MS + 11 * DAY_MS + 1
    for _ in range(6):
        await owner.tell()
        await store.expire()
        assert await store.verify() == []
        left.append(count(path, "usage"))
    assert left == [1_000, 700, 500, 500, 500, 500, 500]
    assert count(path, "charges") == 500
    assert (await store.balances())[0].spent == 1_000
    assert [each["calls"] for each in await store.spend([], 0, 1 << 60)] == [500]


async def test_closed_windows_and_their_accounts_leave_when_nothing_is_out_of_them(tmp_path: Path) -> None:
    path, clock = tmp_path / "ledger.db", HandClock()
    store = EmbeddedStore(path, lambda: clock.now_ms, keep_days=2)
    rolling = Terms(ROLLING, 1_000, window_ms=3_600_000)
    for day in range(40):
        # A worker lives for a day.
        owner = Teller(store, "w0", epoch=day + 1)
        bucket = f"day|all|2026-{day:02}"
        account = f"{ROLL}#{clock.now_ms // 60_000}"
        await owner.tell({bucket: 10, ROLL: 10}, terms={bucket: MONEY_1000, ROLL: rolling})
        rest = 0 if day == 30 else 5  # of one something is lost
        await owner.tell(
            used={bucket: 5, account: 5},
            returned={bucket: rest, ROLL: 5},
            rows=[row({bucket: 5, account: 5}, f"r{day}", clock.now_ms)],
        )
        if day != 30:
            await store.bury("w0", day + 1, {}, {})
        clock.now_ms += DAY_MS
        await store.expire()
        assert await store.verify() == []
    assert count(path, "usage") == 2
    windows = sorted(each.bucket for each in await store.balances("day"))
    assert windows == ["day|all|2026-30", "day|all|2026-39"]
    assert count(path, "buckets") <= 6
    assert count(path, "accounts") <= 10 and count(path, "entries") <= 10 and count(path, "charges") <= 4
    assert count(path, "outs") <= 7


async def test_a_bucket_that_left_begins_anew_and_what_no_row_explains_is_folded_too(tmp_path: Path) -> None:
    path, clock = tmp_path / "ledger.db", HandClock()
    store = EmbeddedStore(path, lambda: clock.now_ms, keep_days=2)
    kept, old, new = "kept|all|2026", "day|all|2026-01", "day|all|2026-02"
    terms = {kept: MONEY_1000, old: MONEY_1000}
    for epoch in range(1, 4):
        await Teller(store, "w0", epoch).tell({kept: 10, old: 10}, terms=terms)
        await store.bury("w0", epoch, {kept: 5, old: 5}, {kept: 1})
    await Teller(store, "w1").tell({new: 1}, terms={new: MONEY_1000})
    assert count(path, "entries") == 6
    for day in range(6):
        clock.now_ms += DAY_MS
        await Teller(store, "w2", day).tell({kept: 1}, terms=terms)
        await store.bury("w2", day, {}, {})
        await store.expire()
        assert await store.verify() == []
    assert count(path, "entries") == 2  # w1 was lost
    await Teller(store, "w3").tell({old: 10}, terms=terms)
    await store.bury("w3", 1, {old: 7}, {})
    assert await store.verify() == []
    assert {each.bucket: each.spent for each in await store.balances()} == {kept: 18, new: 1, old: 7}


async def test_a_use_too_large_for_the_file_stops_nothing_else(tmp_path: Path) -> None:
    store = EmbeddedStore(tmp_path / "ledger.db", lambda: START_MS)
    owner = Teller(store, "w0")
    bucket = "day|all|2026"
    await owner.tell({bucket: 10}, terms={bucket: MONEY_1000})
    with pytest.raises(OverflowError):
        await owner.tell(used={bucket: 1 << 70})
    assert (await store.balances())[0].spent == 0
    other = Teller(store, "w1")
    assert (await other.tell({bucket: 990})).granted == [1]
    assert await store.verify() == []
