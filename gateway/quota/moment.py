"""Moments as people write them, for questions about what was spent. They are of UTC, as the ledger is."""

from __future__ import annotations

import re
from datetime import UTC, datetime, timedelta

DAY_MS = 86_400_000
FORMS = "2026-11-01, 2026-11-01T13:30+01:00, 7d, 24h, today, yesterday or this-month"
_AGO = re.compile(r"([0-9]{1,5})(min|h|d|w)")
_AGO_MS = {"min": 60_000, "h": 3_600_000, "d": DAY_MS, "w": 7 * DAY_MS}


def moment_ms(text: str, now_ms: int) -> int:
    """Milliseconds since the epoch of a date (its midnight), a time (of UTC unless it has an offset), a span
    before now, or a word. `ValueError`: it is none of `FORMS`; the message does not repeat it."""
    text = text.strip()
    now = datetime.fromtimestamp(now_ms // 1000, UTC)
    today = now.replace(hour=0, minute=0, second=0, microsecond=0)
    if text == "now":
        return now_ms
    if text == "today":
        return _ms(today)
    if text == "yesterday":
        return _ms(today - timedelta(days=1))
    if text == "this-month":
        return _ms(today.replace(day=1))
    if match := _AGO.fullmatch(text):
        return max(0, now_ms - int(match[1]) * _AGO_MS[match[2]])
    try:
        moment = datetime.fromisoformat(text)
        return _ms(moment if moment.tzinfo is not None else moment.replace(tzinfo=UTC))
    except (ValueError, OverflowError):
        raise ValueError(f"must be a date or a time like {FORMS}") from None


def iso(moment_ms: int) -> str:
    """A moment as text, to the second: `2026-11-01T00:00:00Z`."""
    return f"{datetime.fromtimestamp(moment_ms // 1000, UTC):%Y-%m-%dT%H:%M:%SZ}"


def _ms(moment: datetime) -> int:
    return int(moment.timestamp() * 1000)
