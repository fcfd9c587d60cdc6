"""One bucket: moves, windows, losses, slices."""

from __future__ import annotations

import random

import pytest

from gateway.quota.bucket import Bucket, Out
from gateway.quota.contract import MONEY, RATE, ROLLING, SLOTS, Terms
from gateway.quota.sharing import recall, slice_of, wait_for

MINUTE = 60_000


def full(terms: Terms) -> tuple[Bucket, Out]:
    bucket = Bucket("b|all|", terms, terms.most, 0)
    return bucket, bucket.out_of("a@1")


def test_what_is_used_is_gone_and_what_is_returned_is_free() -> None:
    bucket, out = full(Terms(MONEY, 1000))
    bucket.take(out, 300)
    assert (bucket.free, bucket.out) == (700, 300)
    assert bucket.use(out, 100, 0, 0) == [(0, 100)]
    bucket.give_back(out, 150, 0)
    assert (bucket.free, bucket.out, bucket.total, bucket.spent) == (850, 50, 900, 100)


def test_a_use_above_what_was_given_is_booked_and_stops_all_grants() -> None:
    bucket, out = full(Terms(MONEY, 1000))
    bucket.take(out, 1000)
    bucket.use(out, 1200, 0, 0)
    assert (bucket.spent, bucket.free, bucket.out) == (1200, -200, 0)


@pytest.mark.parametrize("seed", range(10))
def test_no_window_of_a_rate_is_passed_whatever_is_held_how_long(seed: int) -> None:
    dice = random.Random(seed)
    terms = Terms(RATE, 600, burst=60, window_ms=MINUTE)
    bucket, out = full(terms)
    spent: list[tuple[int, int]] = []
    held: list[int] = []
    now = 0
    for _ in range(4000):
        now += dice.choice((0, 1, 7, 90, 1500))
        bucket.refill(now)
        assert bucket.total <= terms.burst
        need = dice.randint(1, 30)
        if bucket.free >= need:
            bucket.take(out, need)
            held.append(need)
        while held and dice.random() < 0.5:
            used = dice.randint(0, amount := held.pop(dice.randrange(len(held))))
            spent.append((now, used))
            bucket.use(out, used, 0, now)
            bucket.give_back(out, amount - used, now)
    for start in range(0, now, 5 * MINUTE // 3):
        in_window = sum(used for at, used in spent if start < at <= start + MINUTE)
        assert in_window <= terms.burst + terms.limit


def test_a_busy_rate_loses_nothing_to_rounding() -> None:
    bucket, out = full(Terms(RATE, 7, burst=7, window_ms=1000))
    for now in range(100_001):
        bucket.refill(now)
        if free := bucket.free:
            bucket.take(out, free)
            bucket.use(out, free, 0, now)
    assert 7 + 700 - 1 <= out.used <= 7 + 700


def test_a_rolling_window_gives_back_what_has_left_it_one_part_late() -> None:
    bucket, out = full(Terms(ROLLING, 100, window_ms=60 * MINUTE))
    bucket.take(out, 80)
    bucket.use(out, 80, 0, 0)
    bucket.adjust(-5, 2 * MINUTE)
    bucket.refill(60 * MINUTE)
    assert (bucket.free, bucket.spent, bucket.adjusted) == (15, 80, -5)
    bucket.refill(61 * MINUTE)
    assert (bucket.free, bucket.spent, bucket.adjusted) == (95, 0, -5)
    bucket.refill(63 * MINUTE)
    assert (bucket.free, bucket.spent, bucket.adjusted) == (100, 0, 0)


def test_a_rolling_window_of_another_length_keeps_what_was_spent_when() -> None:
    bucket, out = full(Terms(ROLLING, 100, window_ms=60 * MINUTE))
    bucket.take(out, 80)
    bucket.use(out, 80, 59, 59 * MINUTE)
    bucket.edit(Terms(ROLLING, 90, window_ms=120 * MINUTE))
    assert bucket.free == 10
    bucket.refill((58 + 120) * MINUTE)
    assert bucket.free == 10
    bucket.refill((60 + 122) * MINUTE)
    assert bucket.free == 90


@pytest.mark.parametrize(
    ("kind", "lost", "known"), [(MONEY, 600, 800), (SLOTS, 1000, 1000), (RATE, 600, 600)]
)
def test_a_lost_owner_has_used_all_until_it_is_heard_of(kind: str, lost: int, known: int) -> None:
    bucket, out = full(Terms(kind, 1000, 1000, MINUTE))
    bucket.take(out, 400)
    bucket.write_off(out, 0)
    assert (bucket.free, bucket.out, out.lost) == (lost, 0, 400)
    bucket.use(out, 200, 0, 0)
    bucket.give_back(out, 200, 0)
    assert (bucket.free, bucket.out, out.lost) == (known, 0, 0)


def test_what_was_written_off_is_explained_before_what_was_given_since() -> None:
    bucket, out = full(Terms(MONEY, 1000))
    bucket.take(out, 400)
    bucket.write_off(out, 0)
    bucket.take(out, 100)
    bucket.use(out, 350, 0, 0)
    assert (out.lost, out.out, bucket.free) == (50, 100, 500)
    bucket.use(out, 70, 0, 0)
    assert (out.lost, out.out, bucket.free) == (0, 80, 500)


def test_a_rate_that_was_lost_and_found_counts_what_is_given_afterwards() -> None:
    bucket, out = full(Terms(RATE, 60, burst=60, window_ms=MINUTE))
    bucket.take(out, 40)
    bucket.write_off(out, 0)
    bucket.take(out, 20)
    bucket.use(out, 30, 0, 0)
    assert (bucket.out, bucket.free) == (20, 0)
    bucket.give_back(out, 10, 0)
    assert (bucket.out, bucket.free) == (20, 0)
    bucket.give_back(out, 15, 0)
    assert (bucket.out, bucket.free) == (5, 15)


def test_what_was_used_in_slices_long_past_is_forgotten() -> None:
    bucket, out = full(Terms(ROLLING, 10**9, window_ms=60 * MINUTE))
    for part in range(2_000):
        bucket.take(out, 1)
        bucket.refill(part * MINUTE)
        bucket.use(out, 1, part, part * MINUTE)
    assert sum(out.parts.values()) == len(out.parts) == 24 * 60 + 121
    assert min(out.parts) == 2_000 - len(out.parts)


def test_use_of_a_slice_that_has_left_the_window_changes_no_total() -> None:
    bucket, out = full(Terms(ROLLING, 100, window_ms=60 * MINUTE))
    bucket.take(out, 80)
    bucket.refill(90 * MINUTE)
    assert bucket.use(out, 30, 29, 90 * MINUTE) == [(29, 30)]
    assert (bucket.total, bucket.free, bucket.spent) == (100, 50, 0)


@pytest.mark.parametrize(("kind", "free"), [(MONEY, 850), (RATE, 850), (SLOTS, 1000)])
def test_the_dead_pay_for_what_they_held_once(kind: str, free: int) -> None:
    bucket, out = full(Terms(kind, 1000, 1000, MINUTE))
    bucket.take(out, 400)
    for _ in range(2):
        bucket.settle(out, [(0, 150)], 0)
        assert (bucket.free, bucket.out) == (free, 0)
    # It lived a little longer than its journal says: what it held was 100 in truth.
    bucket.use(out, 100, 0, 0)
    bucket.give_back(out, 50, 0)
    assert (bucket.free, out.lost) == (900 if kind == MONEY else free, 0)


def test_an_edit_moves_what_is_free_by_the_difference() -> None:
    bucket, out = full(Terms(MONEY, 1000))
    bucket.take(out, 600)
    assert bucket.edit(Terms(MONEY, 500, stamp=1)) and bucket.free == -100
    assert bucket.edit(Terms(MONEY, 800, stamp=2)) and bucket.free == 200
    assert not bucket.edit(Terms(MONEY, 800, stamp=3))


def test_a_purse_is_opened_only_while_its_share_is_worth_it() -> None:
    bucket, one = full(Terms(MONEY, 1000))
    two = bucket.out_of("b@1")
    bucket.learn(100)
    one.asked_ms = two.asked_ms = 0
    assert slice_of(bucket, one, 500, 0) is None  # 1000 / (2 owners x 2) is less than 4 needs
    two.asked_ms = -10_000
    assert slice_of(bucket, one, 500, 0) == 500
    one.open = True
    bucket.take(one, 500)
    assert slice_of(bucket, one, 500, 0) == 250
    assert recall(bucket, "b@1", 0) == ["a@1"]
    wait_for(bucket, "b@1", 0)
    assert slice_of(bucket, one, 500, 49) == 0 and slice_of(bucket, two, 500, 49) is None
    assert slice_of(bucket, one, 500, 50) == 250
    one.held = 500  # A call may have ended since that was told.
    assert recall(bucket, "b@1", 100) == ["a@1"]
    one.open = False
    assert recall(bucket, "b@1", 100) is None
