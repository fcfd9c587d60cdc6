"""Retries wait with full jitter, stay a small share of the calls, and are made only where they may help."""

from __future__ import annotations

from itertools import product
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gateway.errors import FALLBACK_REASONS
from gateway.routing.retry import (
    BASE_S,
    CAP_S,
    FALL_BACK,
    FLOOR,
    MAX_RETRY_AFTER_S,
    OTHER_KEY,
    RETRY,
    STOP,
    WINDOW_S,
    RetryBudget,
    backoff_s,
    next_step,
)

SHARE = 0.2
START_S = 1_000_000.0


@pytest.mark.parametrize(
    ("retry", "most_s"), [(0, 0.25), (1, 0.5), (2, 1.0), (4, 4.0), (5, 8.0), (6, 8.0), (60, 8.0)]
)
def test_backoff_doubles_to_its_cap_with_full_jitter(retry: int, most_s: float) -> None:
    assert [backoff_s(retry, draw) for draw in (0.0, 0.25, 0.5)] == [0.0, most_s / 4, most_s / 2]
    assert (BASE_S, CAP_S) == (0.25, 8.0)


@settings(deadline=None)
@given(st.integers(0, 200), st.floats(0.0, 1.0, exclude_max=True))
def test_backoff_is_never_negative_and_below_its_cap(retry: int, draw: float) -> None:
    assert 0.0 <= backoff_s(retry, draw) < min(CAP_S, BASE_S * 2**retry)


def granted(budget: RetryBudget, now_s: float, share: float = SHARE, tries: int = 1_000) -> int:
    """How many retries the budget gives at once."""
    return sum(budget.take(share, now_s) for _ in range(tries))


def budget_after(calls: int, at_s: float = START_S) -> RetryBudget:
    budget = RetryBudget()
    for _ in range(calls):
        budget.call(at_s)
    return budget


@pytest.mark.parametrize(
    ("calls", "share", "most"),
    [
        (0, SHARE, FLOOR),
        (1, SHARE, FLOOR),
        (15, SHARE, 3),
        (16, SHARE, 3),
        (19, SHARE, 3),
        (20, SHARE, 4),
        (1_000, SHARE, 200),
        (1_000, 0.0, FLOOR),
        (100, 1.0, 100),
    ],
)
def test_retries_are_a_share_of_the_calls_with_a_floor(calls: int, share: float, most: int) -> None:
    assert granted(budget_after(calls), START_S, share) == most


def test_calls_count_for_one_to_two_windows() -> None:
    for later_s, most in ((0.0, 20), (WINDOW_S, 20), (2 * WINDOW_S - 0.01, 20), (2 * WINDOW_S, FLOOR)):
        assert granted(budget_after(100), START_S + later_s) == most


def test_retries_are_forgotten_with_the_calls_they_were_made_for() -> None:
    budget = budget_after(100)
    assert granted(budget, START_S) == 20
    assert granted(budget, START_S + WINDOW_S) == 0
    assert granted(budget, START_S + 2 * WINDOW_S) == FLOOR
    assert granted(budget, START_S + 100 * WINDOW_S) == FLOOR


def test_calls_after_a_pause_start_a_new_account() -> None:
    budget = budget_after(100)
    budget.call(START_S + 2 * WINDOW_S)
    assert granted(budget, START_S + 2 * WINDOW_S) == FLOOR


@settings(deadline=None)
@given(
    st.lists(st.tuples(st.booleans(), st.floats(0.0, 8.0), st.integers(1, 30)), max_size=60),
    st.sampled_from([0.0, SHARE, 0.5]),
)
def test_no_retry_is_given_beyond_the_share_of_the_last_window(
    events: list[tuple[bool, float, int]], share: float
) -> None:
    budget, now_s = RetryBudget(), START_S
    calls: list[float] = []
    retries: list[float] = []
    for is_call, apart_s, times in events:
        now_s += apart_s
        for _ in range(times):
            if is_call:
                budget.call(now_s)
                calls.append(now_s)
            elif budget.take(share, now_s):
                retries.append(now_s)
                lately = sum(at_s > now_s - WINDOW_S for at_s in retries)
                counted = sum(at_s > now_s - 2 * WINDOW_S for at_s in calls)
                assert lately <= max(FLOOR, share * counted)


def step(reason: str, **given: Any) -> str:
    """`next_step` of the first failure of a call that could do anything."""
    fields = {
        "quota": False,
        "retries": 0,
        "attempts": 2,
        "retry_after_s": None,
        "has_key": False,
        "has_next": True,
        "falls_back": True,
        "uncertain": False,
    }
    return next_step(reason, **{**fields, **given})


STEPS: list[tuple[str, dict[str, Any], str]] = [
    # The caller's own fault: nobody else could answer it better.
    ("", {}, STOP),
    ("", {"has_key": True}, STOP),
    # Worth a second try at the same target, then the next.
    ("server_error", {}, RETRY),
    ("server_error", {"retries": 1}, RETRY),
    ("server_error", {"retries": 2}, FALL_BACK),
    ("server_error", {"retries": 2, "has_next": False}, STOP),
    ("server_error", {"retries": 2, "falls_back": False}, STOP),
    ("server_error", {"attempts": 0}, FALL_BACK),
    ("server_error", {"has_key": True}, RETRY),
    ("server_error", {"has_next": False}, RETRY),
    ("server_error", {"retry_after_s": MAX_RETRY_AFTER_S}, RETRY),
    ("server_error", {"retry_after_s": MAX_RETRY_AFTER_S + 0.1}, FALL_BACK),
    ("server_error", {"retry_after_s": MAX_RETRY_AFTER_S + 0.1, "has_next": False}, STOP),
    ("bad_answer", {}, RETRY),
    ("bad_answer", {"retries": 2}, FALL_BACK),
    # Another key of the same provider comes first; without one the next target.
    ("auth", {"has_key": True}, OTHER_KEY),
    ("auth", {"has_key": True, "retries": 2}, OTHER_KEY),
    ("auth", {"has_key": True, "quota": True}, OTHER_KEY),
    ("auth", {}, FALL_BACK),
    ("auth", {"has_next": False}, STOP),
    ("auth", {"falls_back": False}, STOP),
    ("rate_limited", {"has_key": True}, OTHER_KEY),
    ("rate_limited", {"has_key": True, "quota": True}, OTHER_KEY),
    ("rate_limited", {}, FALL_BACK),
    ("rate_limited", {"has_next": False}, RETRY),
    ("rate_limited", {"falls_back": False}, RETRY),
    ("rate_limited", {"has_next": False, "retry_after_s": 2.0}, RETRY),
    ("rate_limited", {"has_next": False, "retry_after_s": 60.0}, STOP),
    ("rate_limited", {"has_next": False, "retries": 2}, STOP),
    # A spent quota does not come back within a call.
    ("rate_limited", {"quota": True}, FALL_BACK),
    ("rate_limited", {"quota": True, "has_next": False}, STOP),
    # The next target at once; only a connection is worth another try where there is none.
    ("connect", {}, FALL_BACK),
    ("connect", {"has_next": False}, RETRY),
    ("connect", {"falls_back": False}, RETRY),
    ("connect", {"has_next": False, "retries": 2}, STOP),
    ("timeout", {}, FALL_BACK),
    ("timeout", {"has_next": False}, STOP),
    ("first_token", {}, FALL_BACK),
    # It may be at work on the call and bill it twice: asked again only if the policy wants that.
    ("timeout", {"uncertain": True}, FALL_BACK),
    ("timeout", {"uncertain": True, "has_next": False}, RETRY),
    ("timeout", {"uncertain": True, "falls_back": False}, RETRY),
    ("timeout", {"uncertain": True, "has_next": False, "retries": 2}, STOP),
    ("first_token", {"uncertain": True, "has_next": False}, RETRY),
    ("stall", {"uncertain": True, "has_next": False}, STOP),
    ("content_filter", {"uncertain": True, "has_next": False}, STOP),
    ("first_token", {"falls_back": False}, STOP),
    ("stall", {}, FALL_BACK),
    ("stall", {"has_next": False}, STOP),
    ("context_window", {}, FALL_BACK),
    ("context_window", {"falls_back": False}, STOP),
    ("content_filter", {}, FALL_BACK),
    ("content_filter", {"has_next": False}, STOP),
]


@pytest.mark.parametrize(("reason", "given", "follows"), STEPS, ids=str)
def test_what_follows_a_failure(reason: str, given: dict[str, Any], follows: str) -> None:
    assert step(reason, **given) == follows


def test_every_reason_has_its_rows() -> None:
    assert {reason for reason, _, _ in STEPS} == {"", *FALLBACK_REASONS}


@pytest.mark.parametrize("reason", ["", *FALLBACK_REASONS])
def test_laws_of_every_step(reason: str) -> None:
    truths = (False, True)
    for quota, retries, wait_s, has_key, has_next, falls_back in product(
        truths, (0, 1, 2, 3), (None, 0.0, 9.0), truths, truths, truths
    ):
        follows = step(
            reason,
            quota=quota,
            retries=retries,
            retry_after_s=wait_s,
            has_key=has_key,
            has_next=has_next,
            falls_back=falls_back,
        )
        assert follows in (OTHER_KEY, RETRY, FALL_BACK, STOP)
        if follows == OTHER_KEY:
            assert has_key
        if follows == FALL_BACK:
            assert has_next
            assert falls_back
        if follows == RETRY:
            assert retries < 2
            assert wait_s != 9.0
            assert not quota
