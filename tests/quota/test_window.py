# ruff: noqa: E501 (tables read best with a row on a line)
"""Windows of budgets: they tile the time line, by the clock of their time zone, whatever that clock does."""

from __future__ import annotations

import os
import subprocess
import sys
from datetime import UTC, datetime
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gateway.quota.window import Window, named, slice_index, window

EVERY = ("hour", "day", "week", "month")
ZONES = (
    "UTC",
    "Europe/Berlin",
    "America/New_York",
    "America/St_Johns",  # -03:30; until 2011 put back at 00:01, over midnight
    "America/Havana",  # put back at 01:00: midnight comes twice
    "America/Sao_Paulo",  # until 2018 put forward at midnight: it does not come
    "America/Toronto",  # 1919: put forward at 23:30, over midnight
    "Africa/Cairo",
    "Asia/Kathmandu",  # +05:45
    "Asia/Kolkata",
    "Australia/Lord_Howe",  # by half an hour
    "Antarctica/Troll",  # by two hours
    "Pacific/Apia",  # 2011-12-30 does not come
    "Pacific/Chatham",  # +12:45
    "Africa/Monrovia",  # -00:44:30 until 1972
)
moments_ms = st.integers(-1_700_000_000_000, 4_000_000_000_000)
"""1916 to 2096."""


def ms(text: str) -> int:
    return int(datetime.fromisoformat(text).timestamp() * 1000)


def span(text: str, starts: str, ends: str) -> Window:
    return Window(text, ms(starts), ms(ends))


@pytest.mark.parametrize(
    ("every", "zone", "now", "expected"),
    [
        ("hour", "UTC", "2026-11-25T13:59:59.999+00:00",
         span("2026-11-25T13+00:00", "2026-11-25T13:00+00:00", "2026-11-25T14:00+00:00")),
        ("day", "UTC", "2026-11-25T00:00+00:00", span("2026-11-25", "2026-11-25T00:00Z", "2026-11-26T00:00Z")),
        ("week", "UTC", "2026-11-29T23:59+00:00", span("2026-11-23", "2026-11-23T00:00Z", "2026-11-30T00:00Z")),
        ("month", "UTC", "2028-02-29T12:00+00:00", span("2028-02-01", "2028-02-01T00:00Z", "2028-03-01T00:00Z")),
        ("month", "UTC", "2026-12-31T23:59+00:00", span("2026-12-01", "2026-12-01T00:00Z", "2027-01-01T00:00Z")),
        # 23 and 25 hours.
        ("day", "Europe/Berlin", "2026-03-29T12:00+02:00",
         span("2026-03-29", "2026-03-29T00:00+01:00", "2026-03-30T00:00+02:00")),
        ("day", "Europe/Berlin", "2026-10-25T12:00+01:00",
         span("2026-10-25", "2026-10-25T00:00+02:00", "2026-10-26T00:00+01:00")),
        ("month", "America/New_York", "2026-11-01T00:30-04:00",
         span("2026-11-01", "2026-11-01T00:00-04:00", "2026-12-01T00:00-05:00")),
        # The hour that comes twice is two hours.
        ("hour", "Europe/Berlin", "2026-10-25T02:30+02:00",
         span("2026-10-25T02+02:00", "2026-10-25T02:00+02:00", "2026-10-25T03:00+02:00")),
        ("hour", "Europe/Berlin", "2026-10-25T02:30+01:00",
         span("2026-10-25T02+01:00", "2026-10-25T02:00+01:00", "2026-10-25T03:00+01:00")),
        ("hour", "Asia/Kathmandu", "2026-06-01T10:10+05:45",
         span("2026-06-01T10+05:45", "2026-06-01T10:00+05:45", "2026-06-01T11:00+05:45")),
        # Half an hour back at 02:00, half an hour forward at 02:00.
        ("hour", "Australia/Lord_Howe", "2026-04-05T01:45+10:30",
         span("2026-04-05T01+10:30", "2026-04-05T01:30+10:30", "2026-04-05T02:00+10:30")),
        ("hour", "Australia/Lord_Howe", "2026-10-04T02:45+11:00",
         span("2026-10-04T02+11:00", "2026-10-04T02:30+11:00", "2026-10-04T03:00+11:00")),
        # No midnight; midnight twice; a date that comes, goes and comes back; one that does not come.
        ("day", "America/Sao_Paulo", "2018-11-04T01:00-02:00",
         span("2018-11-04", "2018-11-04T01:00-02:00", "2018-11-05T00:00-02:00")),
        ("day", "America/Havana", "2026-11-01T00:30-05:00",
         span("2026-11-01", "2026-11-01T00:00-04:00", "2026-11-02T00:00-05:00")),
        ("day", "America/St_Johns", "2010-11-06T23:30-03:30",
         span("2010-11-07", "2010-11-07T00:00-02:30", "2010-11-08T00:00-03:30")),
        ("day", "America/Toronto", "1919-03-31T00:30-04:00",
         span("1919-03-31", "1919-03-30T23:30-05:00", "1919-04-01T00:00-04:00")),
        ("day", "Pacific/Apia", "2011-12-29T23:00-10:00",
         span("2011-12-29", "2011-12-29T00:00-10:00", "2011-12-31T00:00+14:00")),
        ("day", "Pacific/Apia", "2011-12-31T00:00+14:00",
         span("2011-12-31", "2011-12-31T00:00+14:00", "2012-01-01T00:00+14:00")),
    ],
)  # fmt: skip
def test_window_of_a_moment(every: str, zone: str, now: str, expected: Window) -> None:
    found = window(every, zone, ms(now))
    assert found == expected
    assert window(every, zone, found.starts_ms) == window(every, zone, found.ends_ms - 1) == found


@given(every=st.sampled_from(EVERY), zone=st.sampled_from(ZONES), now_ms=moments_ms)
@settings(max_examples=400, deadline=None)
def test_windows_tile_the_time_line(every: str, zone: str, now_ms: int) -> None:
    found = window(every, zone, now_ms)
    assert found.starts_ms <= now_ms < found.ends_ms
    assert window(every, zone, found.ends_ms - 1) == window(every, zone, found.starts_ms) == found
    assert window(every, zone, found.ends_ms).starts_ms == found.ends_ms
    assert window(every, zone, found.starts_ms - 1).ends_ms == found.starts_ms
    assert named(found.name, every, zone) == found


@pytest.mark.parametrize(
    ("name", "every"),
    [
        ("rolling", "day"),
        ("", "hour"),
        ("2026-11-25", "month"),
        ("2026-11-25", "week"),
        ("2026-11-25", "hour"),
    ],
)
def test_window_that_a_rule_does_not_have_is_none(name: str, every: str) -> None:
    assert named(name, every, "Europe/Berlin") is None


@pytest.mark.parametrize("zone", ZONES)
def test_names_are_unique_and_in_order_over_every_change_of_a_clock(zone: str) -> None:
    # The two days around each change of the years 2005 to 2026, hour by hour, and all days.
    local = ZoneInfo(zone)
    days = range(ms("2005-01-01T00:00Z"), ms("2027-01-01T00:00Z"), 86_400_000)
    offsets = [datetime.fromtimestamp(day // 1000, local).utcoffset() for day in days]
    for day, before, after in zip(days, offsets, offsets[1:], strict=False):
        if before != after:
            hours = walked("hour", zone, day, day + 86_400_000)
            assert len({hour.name for hour in hours}) == len(hours)
            assert [named(hour.name, "hour", zone) for hour in hours] == hours
            assert 23 <= len(hours) <= 26
    names = [found.name for found in walked("day", zone, days[0], days[-1])]
    assert names == sorted(set(names))
    assert len(names) >= len(days) - 2


def walked(every: str, zone: str, from_ms: int, to_ms: int) -> list[Window]:
    """The windows of a span, each found at the end of the one before."""
    found = [window(every, zone, from_ms)]
    while found[-1].ends_ms < to_ms:
        found.append(window(every, zone, found[-1].ends_ms))
    return found


@given(now_ms=moments_ms.filter(lambda now: now > 0), minutes=st.integers(1, 366 * 1440))
def test_slices_are_sixtieths_of_a_rolling_window(now_ms: int, minutes: int) -> None:
    index = slice_index(minutes * 60_000, now_ms)
    assert index * minutes * 1000 <= now_ms < (index + 1) * minutes * 1000
    assert slice_index(minutes * 60_000, now_ms + minutes * 60_000) == index + 60


def test_zones_are_known_where_the_system_has_no_zone_files() -> None:
    program = (
        "import zoneinfo; assert not zoneinfo.TZPATH\n"
        "from gateway.quota.window import window\n"
        "print(window('day', 'Europe/Berlin', 1793000000000).starts_ms)"
    )
    done = subprocess.run(
        [sys.executable, "-c", program],
        env={**os.environ, "PYTHONTZPATH": ""},
        capture_output=True,
        text=True,
        check=True,
    )
    starts = datetime.fromtimestamp(int(done.stdout) / 1000, UTC)
    assert starts == datetime.fromisoformat("2026-10-26T00:00+01:00")


@pytest.mark.parametrize("every", ["year", "", "days"])
def test_other_windows_there_are_none(every: str) -> None:
    with pytest.raises(KeyError):
        window(every, "UTC", 0)
