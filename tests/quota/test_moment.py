"""Dates and spans as operators write them."""

from __future__ import annotations

from datetime import UTC, datetime

import pytest

from gateway.quota.moment import iso, moment_ms

NOW = int(datetime(2026, 11, 25, 13, 45, 10, tzinfo=UTC).timestamp() * 1000)


@pytest.mark.parametrize(
    ("text", "moment"),
    [
        ("2026-11-01", "2026-11-01T00:00:00Z"),
        ("2026-11-01T13:30", "2026-11-01T13:30:00Z"),
        ("2026-11-01T13:30+01:00", "2026-11-01T12:30:00Z"),
        ("2026-11-01T13:30:05Z", "2026-11-01T13:30:05Z"),
        ("today", "2026-11-25T00:00:00Z"),
        ("yesterday", "2026-11-24T00:00:00Z"),
        ("this-month", "2026-11-01T00:00:00Z"),
        ("now", "2026-11-25T13:45:10Z"),
        ("90min", "2026-11-25T12:15:10Z"),
        ("24h", "2026-11-24T13:45:10Z"),
        (" 7d ", "2026-11-18T13:45:10Z"),
        ("2w", "2026-11-11T13:45:10Z"),
        ("99999w", "1970-01-01T00:00:00Z"),
    ],
)
def test_moment_is_that_of_utc(text: str, moment: str) -> None:
    assert iso(moment_ms(text, NOW)) == moment


@pytest.mark.parametrize("text", ["", "tomorrow", "7", "7y", "-7d", "2026-13-01", "01.11.2026", "sk-secret"])
def test_what_is_no_moment_is_refused_and_not_repeated(text: str) -> None:
    with pytest.raises(ValueError, match="must be a date") as refused:
        moment_ms(text, NOW)
    assert "secret" not in str(refused.value)
