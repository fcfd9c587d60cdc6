"""Calendar windows of budgets, in a time zone; slices of rolling ones.

Windows tile the time line: each moment is in exactly one. Where a clock is put back over midnight, a day
begins when its date is first reached; where it is put forward over midnight, right after the gap.
"""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, date, datetime, time, timedelta
from functools import cache
from typing import NamedTuple
from zoneinfo import ZoneInfo

from gateway.quota.contract import SLICES

_HOUR_S = 3600
_DAY = timedelta(days=1)


class Window(NamedTuple):
    """[starts_ms, ends_ms) in milliseconds since the epoch. `name` is its local start: `2026-11-01`, of an
    hour with the offset, since an hour may come twice: `2026-11-25T13+01:00`."""

    name: str
    starts_ms: int
    ends_ms: int


def window(every: str, timezone: str, now_ms: int) -> Window:
    """The hour, day, week (from Monday) or month that a moment is in. `every` is that word."""
    zone, now_s = _zone(timezone), now_ms // 1000
    if every == "hour":
        return _hour(zone, now_s)
    first = _START_OF[every](datetime.fromtimestamp(now_s, zone).date())
    starts_s = _first_moment(first, zone)
    # A date may come back after the next one has begun: a clock put back over midnight.
    while (ends_s := _first_moment(after := _next(first, every), zone)) <= now_s:
        first, starts_s = after, ends_s
    return Window(first.isoformat(), starts_s * 1000, ends_s * 1000)


def named(name: str, every: str, timezone: str) -> Window | None:
    """The window of a name that `window` gave; None if it is not the name of such a window, since the rule
    had others then."""
    try:
        begins = datetime.fromisoformat(name)
    except ValueError:
        return None
    if begins.tzinfo is None:
        # Noon: where a date has no midnight, it has a noon.
        tries = [datetime.combine(begins.date(), time(12), _zone(timezone))]
    else:
        # Where the clock changes within an hour, its first or its last moments are another's.
        tries = [begins, begins + timedelta(minutes=30), begins + timedelta(seconds=_HOUR_S - 1)]
    found = (window(every, timezone, int(moment.timestamp()) * 1000) for moment in tries)
    return next((each for each in found if each.name == name), None)


def slice_index(window_ms: int, now_ms: int) -> int:
    """The slice of a rolling window that a moment is in, counted from the epoch."""
    return now_ms // (window_ms // SLICES)


@cache
def _zone(name: str) -> ZoneInfo:
    return ZoneInfo(name)


def _month(day: date) -> date:
    return day.replace(day=1)


def _week(day: date) -> date:
    return day - timedelta(days=day.weekday())


def _day(day: date) -> date:
    return day


_START_OF: dict[str, Callable[[date], date]] = {"day": _day, "week": _week, "month": _month}


def _next(first: date, every: str) -> date:
    if every == "month":
        return (first + timedelta(days=31)).replace(day=1)
    return first + (_DAY if every == "day" else timedelta(days=7))


def _first_moment(day: date, zone: ZoneInfo) -> int:
    """The second at which a date is first reached."""
    midnight = datetime.combine(day, time())
    late = int(midnight.replace(tzinfo=zone).timestamp())
    if _local(late, zone) == midnight:
        return late
    # In a gap of the clock. With fold=1 the offset after it counts, which is a moment before it.
    early = int(midnight.replace(tzinfo=zone, fold=1).timestamp())
    return _first(early, late, lambda moment: _local(moment, zone) > midnight)


def _hour(zone: ZoneInfo, now_s: int) -> Window:
    """The time for which the clock shows the same hour with the same offset."""
    offset = _offset(now_s, zone)
    starts_s = now_s - (now_s + offset) % _HOUR_S
    ends_s = starts_s + _HOUR_S
    if _offset(starts_s, zone) != offset:
        starts_s = _first(starts_s, now_s, lambda moment: _offset(moment, zone) == offset)
    if _offset(ends_s - 1, zone) != offset:
        ends_s = _first(now_s, ends_s - 1, lambda moment: _offset(moment, zone) != offset)
    local = datetime.fromtimestamp(now_s, zone)
    sign, of_utc = ("-", -offset) if offset < 0 else ("+", offset)
    minutes, seconds = divmod(of_utc, 60)
    suffix = f"{sign}{minutes // 60:02}:{minutes % 60:02}" + (f":{seconds:02}" if seconds else "")
    return Window(f"{local:%Y-%m-%dT%H}{suffix}", starts_s * 1000, ends_s * 1000)


def _local(moment_s: int, zone: ZoneInfo) -> datetime:
    """What clocks show, without a zone."""
    return datetime.fromtimestamp(moment_s, zone).replace(tzinfo=None)


def _offset(moment_s: int, zone: ZoneInfo) -> int:
    """Seconds that clocks are ahead of UTC."""
    shown = _local(moment_s, zone).replace(tzinfo=UTC)
    return int(shown.timestamp()) - moment_s


def _first(before_s: int, after_s: int, holds: Callable[[int], bool]) -> int:
    """The first second at which something holds that does not at `before_s` and does at `after_s`."""
    while after_s - before_s > 1:
        middle = (before_s + after_s) // 2
        before_s, after_s = (before_s, middle) if holds(middle) else (middle, after_s)
    return after_s
