"""How a provider failed, in what all dialects share: why another target may be tried, and how long to
wait."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC
from email.utils import parsedate_to_datetime

QUOTA_CODES = frozenset(
    {
        "insufficient_quota",
        "credit_balance_exhausted",
        "organization_spend_limit_exceeded",
        "project_spend_limit_exceeded",
        "organization_usage_limit_exceeded",
        "billing_hard_limit_reached",
        "billing_not_active",
        "enforced_spend_limit_reached",
    }
)
"""Codes of a provider that say that its account has no money left, or has reached a limit of its own."""
_TOO_LONG = ("maximum context length", "prompt is too long")
"""OpenAI's words and Anthropic's for a prompt above the context window."""
_MAX_WAIT_S = 30 * 86_400.0
"""A provider that asks for a longer wait than a month is not believed."""


def reason_of(status: int, code: str | int | None, message: str, *, quota: bool, filtered: bool) -> str:
    """Why the next target may be tried: one of `FALLBACK_REASONS`, "" where only the caller can mend it."""
    if filtered and status >= 400:
        # Whatever the status: neither the key nor the target is to blame, and nobody else is asked unless
        # the policy says so.
        return "content_filter"
    # 407 is an egress proxy that refused us: nothing its caller could mend.
    if status in (401, 403, 407):
        return "auth"
    if status == 429:
        return "rate_limited"
    if status in (408, 504):
        return "timeout"
    if status >= 500:
        return "server_error"
    if status < 400:
        return "bad_answer"
    if code == "context_length_exceeded" or any(words in message for words in _TOO_LONG):
        return "context_window"
    return "rate_limited" if quota else ""


def retry_after_s(headers: Mapping[bytes, bytes], now_s: float) -> float | None:
    """Seconds to wait by `retry-after-ms`, or by `retry-after`: seconds or an HTTP date (RFC 9110 10.2.3)."""
    for name, unit_s in ((b"retry-after-ms", 0.001), (b"retry-after", 1.0)):
        value = headers.get(name)
        if value is None:
            continue
        try:
            seconds = float(value) * unit_s
        except ValueError:
            seconds = _until(value, now_s)
        if 0.0 <= seconds <= _MAX_WAIT_S:
            return seconds
    return None


def _until(date: bytes, now_s: float) -> float:
    """Seconds until an HTTP date in any of its three forms, 0 if it has passed; -1 if it is none."""
    try:
        at = parsedate_to_datetime(date.decode("latin-1"))
        # The form of asctime names no zone; all three mean UTC.
        return max(0.0, (at if at.tzinfo is not None else at.replace(tzinfo=UTC)).timestamp() - now_s)
    except (ValueError, OverflowError):
        return -1.0
