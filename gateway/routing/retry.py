"""When a failed attempt may be made again, and after how long. Pure; the dice and the time are arguments."""

from __future__ import annotations

FLOOR = 3
"""Retries that are always allowed per window, however small the load (Envoy's `min_retry_concurrency`)."""
WINDOW_S = 10.0
BASE_S, CAP_S = 0.25, 8.0
MAX_RETRY_AFTER_S = 5.0
"""A provider that asks for a longer wait is not waited for: the call falls back or fails now."""


def backoff_s(retry: int, draw: float) -> float:
    """Full jitter: uniform in [0, min(cap, base × 2^retry)); `retry` counts from 0.

    AWS Builders' Library, "Timeouts, retries and backoff with jitter".
    """
    return draw * min(CAP_S, BASE_S * (1 << retry))


class RetryBudget:
    """At most `share` retries per call over the last 10 to 20 s, with a floor of 3.

    Two half-windows instead of a list of times: two integers per window, whatever the load.
    """

    __slots__ = ("_calls", "_calls_before", "_ends_s", "_retries", "_retries_before")

    def __init__(self) -> None:
        self._ends_s = 0.0
        self._calls = self._calls_before = 0
        self._retries = self._retries_before = 0

    def call(self, now_s: float) -> None:
        """Counts one call that was sent for the first time."""
        if now_s >= self._ends_s:
            self._turn(now_s)
        self._calls += 1

    def take(self, share: float, now_s: float) -> bool:
        """Takes one retry if the budget has one."""
        if now_s >= self._ends_s:
            self._turn(now_s)
        calls = self._calls + self._calls_before
        if self._retries + self._retries_before + 1 > max(FLOOR, share * calls):
            return False
        self._retries += 1
        return True

    def _turn(self, now_s: float) -> None:
        following = now_s < self._ends_s + WINDOW_S
        self._calls_before = self._calls if following else 0
        self._retries_before = self._retries if following else 0
        self._calls = self._retries = 0
        self._ends_s = (now_s // WINDOW_S + 1) * WINDOW_S


OTHER_KEY, RETRY, FALL_BACK, STOP = "other_key", "retry", "fall_back", "stop"
"""What follows a failed attempt: the same target with another of the provider's keys, the same target
again after a wait, the next target, or the failure goes to the caller."""

_AT_ONCE = frozenset({"connect", "timeout", "first_token", "stall", "context_window", "content_filter"})
"""Reasons that a second try on the same target would only repeat, or that already cost their wait."""
_UNCERTAIN = frozenset({"timeout", "first_token"})
"""The provider may still be at work on the call, and will bill it."""


def next_step(
    reason: str,
    *,
    quota: bool,
    retries: int,
    attempts: int,
    retry_after_s: float | None,
    has_key: bool,
    has_next: bool,
    falls_back: bool,
    uncertain: bool,
) -> str:
    """What follows a failure for `reason`. Pure.

    `retries` were made on this target of at most `attempts`; `has_key`: another key of the provider is
    good; `has_next`: there is a next target; `falls_back`: the policy names this reason; `uncertain`: it lets
    a target be asked again that may be at work on the call.
    """
    if not reason:
        return STOP
    may_fall_back = has_next and falls_back
    if reason in ("auth", "rate_limited") and has_key:
        return OTHER_KEY
    if reason == "auth" or quota:
        return FALL_BACK if may_fall_back else STOP
    if reason in _AT_ONCE or reason == "rate_limited":
        if may_fall_back:
            return FALL_BACK
        if reason not in ("connect", "rate_limited") and not (uncertain and reason in _UNCERTAIN):
            return STOP
    if retries >= attempts or (retry_after_s or 0.0) > MAX_RETRY_AFTER_S:
        return FALL_BACK if may_fall_back else STOP
    return RETRY
