"""One bucket: moves, windows, leases, slices."""

from __future__ import annotations

import random

import pytest

from gateway.quota.bucket import Bucket
from gateway.quota.contract import MONEY, RATE, ROLLING, SLOTS, Terms

A, B = ("a", 1), ("b", 1)
MINUTE = 60_000


def money(limit: int = 1000) -> Bucket:
    return Bucket.full(Terms(MONEY, limit), 0)


def test_what_is_used_is_gone_and_what_is_returned_is_free() -> None:
    bucket = money()
    share = bucket.share(A)
    bucket.take(share, 300)
    assert (bucket.free, bucket.out) == (700, 300)
    assert bucket.use(share, 100) == 100
    bucket.put_back(share, 150)
    assert (bucket.free, bucket.out, bucket.total, bucket.spent) == (850, 50, 900, 100)


def test_reports_that_come_twice_or_late_change_nothing() -> None:
    bucket = money()
    share = bucket.share(A)
    bucket.take(share, 300)
    bucket.use(share, 200)
    before = (bucket.free, bucket.out, bucket.total)
    assert bucket.use(share, 200) == bucket.use(share, 120) == 0
    bucket.put_back(share, 0)
    assert (bucket.free, bucket.out, bucket.total) == before


def test_a_use_above_what_was_given_is_booked_and_stops_all_grants() -> None:
    bucket = money()
    share = bucket.share(A)
    bucket.take(share, 1000)
    bucket.use(share, 1200)
    assert (bucket.spent, bucket.free, bucket.out) == (1200, -200, 0)


@pytest.mark.parametrize("seed", range(20))
def test_no_window_of_a_rate_is_passed_whatever_is_held_how_long(seed: int) -> None:
    dice = random.Random(seed)
    terms = Terms(RATE, 600, burst=60, window_ms=MINUTE)
    bucket = Bucket.full(terms, 0)
    share = bucket.share(A)
    spent: list[tuple[int, int]] = []
    held: list[int] = []
    now = 0
    for _ in range(4000):
        now += dice.choice((0, 1, 7, 90, 1500))
        bucket.refresh(now)
        assert bucket.total <= terms.burst
        need = dice.randint(1, 30)
        if bucket.free >= need:
            bucket.take(share, need)
            held.append(need)
        while held and dice.random() < 0.5:
            used = dice.randint(0, amount := held.pop(dice.randrange(len(held))))
            spent.append((now, used))
            bucket.use(share, share.used + used)
            bucket.put_back(share, share.returned + amount - used)
    for start in range(0, now, 5 * MINUTE // 3):
        in_window = sum(used for at, used in spent if start < at <= start + MINUTE)
        assert in_window <= terms.burst + terms.limit


def test_a_busy_rate_loses_nothing_to_rounding() -> None:
    bucket = Bucket.full(Terms(RATE, 7, burst=7, window_ms=1000), 0)
    share = bucket.share(A)
    bucket.take(share, 7)
    bucket.use(share, 7)
    for now in range(1, 100_001):
        bucket.refresh(now)
        if bucket.free:
            bucket.take(share, bucket.free)
            bucket.use(share, share.given)
    assert 7 + 700 - 1 <= share.used <= 7 + 700


def test_a_rolling_window_gives_back_what_has_left_it_one_part_late() -> None:
    bucket = Bucket.full(Terms(ROLLING, 100, window_ms=60 * MINUTE), 0)
    share = bucket.share(A)
    bucket.take(share, 80)
    assert bucket.use(share, 80, part=bucket.part(0)) == 80
    bucket.refresh(60 * MINUTE)
    assert (bucket.free, bucket.spent) == (20, 80)
    bucket.refresh(61 * MINUTE)
    assert (bucket.free, bucket.spent) == (100, 0)


@pytest.mark.parametrize(("kind", "free", "again"), [(MONEY, 600, 900), (SLOTS, 1000, 900)])
def test_a_lost_owner_is_assumed_to_have_used_all_until_it_is_heard_of(
    kind: str, free: int, again: int
) -> None:
    bucket = Bucket.full(Terms(kind, 1000), 0)
    share = bucket.share(A)
    bucket.take(share, 400)
    assert bucket.lose(share) == 400
    assert bucket.free == free
    bucket.find_again(share)
    bucket.put_back(share, 300)
    assert bucket.free == again


def test_a_lost_rate_is_dropped_and_never_paid_for_twice() -> None:
    bucket = Bucket.full(Terms(RATE, 60, burst=60, window_ms=MINUTE), 0)
    share = bucket.share(A)
    bucket.take(share, 40)
    bucket.lose(share)
    assert bucket.free == 20
    bucket.find_again(share)
    bucket.use(share, 30)
    assert (bucket.free, bucket.out) == (20, 0)


def test_an_edit_moves_what_is_free_by_the_difference() -> None:
    bucket = money()
    bucket.take(bucket.share(A), 600)
    assert bucket.edit(Terms(MONEY, 500)) == -500
    assert bucket.free == -100
    assert bucket.edit(Terms(MONEY, 800)) == 300
    assert bucket.free == 200


def test_a_purse_is_opened_only_while_its_share_is_worth_it() -> None:
    bucket = money()
    one, two = bucket.share(A), bucket.share(B)
    bucket.need(100)
    one.asked_ms = two.asked_ms = 0
    assert bucket.slice(one, 500, 0) is None  # 1000 / (2 owners · 2) is less than 4 needs
    two.asked_ms = -10_000
    assert bucket.slice(one, 500, 0) == 500
    assert bucket.slice(one, 500, 0) == 250
    bucket.waited_until_ms = 5
    assert bucket.slice(one, 500, 4) is None
    assert bucket.holders_of_idle(B) == [A]
    one.held = 750
    assert bucket.holders_of_idle(B) == []


def test_how_long_a_rate_takes_to_have_enough() -> None:
    bucket = Bucket.full(Terms(RATE, 600, burst=60, window_ms=MINUTE), 0)
    share = bucket.share(A)
    bucket.take(share, 60)
    bucket.use(share, 60)
    assert bucket.wait_ms(1) == 100
    assert bucket.wait_ms(61) == -1
    bucket.refresh(99)
    assert bucket.free == 0
    bucket.refresh(100)
    assert bucket.free == 1
    assert money(0).wait_ms(1) == -1
