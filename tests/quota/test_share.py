"""A worker's own part of a bucket while the store cannot be asked, and what the store is told of it."""

from __future__ import annotations

from gateway.quota.contract import MONEY, RATE, SLOTS, Terms
from gateway.quota.share import Share

MINUTE = Terms(RATE, 600, burst=60, window_ms=60_000)
"""10 a second, 60 at once."""


def rush(share: Share, until_s: int) -> int:
    """How many of 100 calls a second go through."""
    passed = 0
    for tenth in range(until_s * 10):
        for _ in range(10):
            if share.at(tenth / 10).has(1, 0):
                share.take(1)
                passed += 1
    return passed


def test_share_of_a_rate_is_a_part_of_its_burst_and_of_what_comes_in() -> None:
    assert rush(Share(MINUTE, 2, 0.0), 20) in (30 + 5 * 20, 30 + 5 * 20 - 1)


def test_store_is_told_what_a_rate_has_not_refilled_and_no_more_than_the_part() -> None:
    share = Share(MINUTE, 2, 0.0)
    rush(share, 600)
    # 3,030 went through; the bucket is full again by now, and the part is empty.
    assert share.at(600.0).owed() == 30 - 1
    assert share.at(600.0).owed() == 0
    share = Share(MINUTE, 2, 0.0)
    share.take(12)
    assert share.at(2.0).owed() == 2
    share.take(12)
    assert share.at(60.0).owed() == 0


def test_what_goes_through_though_the_part_is_empty_is_owed_up_to_the_part() -> None:
    share = Share(MINUTE, 2, 0.0)
    for _ in range(500):
        share.at(0.0).take(1)
    assert share.at(0.0).owed() == 30


def test_call_that_is_larger_than_the_part_is_owed_whole_less_what_it_did_not_use() -> None:
    share = Share(MINUTE, 2, 0.0)
    assert share.has(45, 0)
    share.take(45)
    share.take(-5)
    assert share.at(0.0).owed() == 40
    assert not share.has(1, 0)


def test_part_goes_on_with_what_it_had_in_the_next_outage() -> None:
    rate, money = Share(MINUTE, 2, 0.0), Share(Terms(MONEY, 100), 2, 0.0)
    rate.take(30)
    money.take(40)
    assert (rate.at(1.0).owed(), money.at(1.0).owed()) == (25, 0)
    assert not rate.at(1.0).has(6, 0) and rate.at(1.0).has(5, 0)
    assert not money.at(99.0).has(11, 0) and money.at(99.0).has(10, 0)


def test_share_of_calls_at_once_counts_those_under_way() -> None:
    share = Share(Terms(SLOTS, 9), 2, 0.0)
    share.take(1)
    assert share.has(1, 3) and not share.has(1, 4)
    assert share.at(1.0).owed() == 0
