"""The last hour as the console shows it: rates, shares and quantiles every few seconds, sums by name.

Pure: sums (`control.tally`) and the time come in. What is kept does not grow with the number of series: 720
points of at most some hundred columns, and for the tables 30 bins of the names that moved most.
"""

from __future__ import annotations

import math
from array import array
from collections import deque
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from gateway.control.tally import ALL, HISTOGRAMS, MEASURES, Row, Sums
from gateway.money import NANO_PER_USD
from gateway.usage import KINDS

STEP_S = 5.0
POINTS = 720
"""An hour."""
RATE_S, RECENT_S = 60.0, 300.0
"""Over which time a point's quantiles are taken, and over which the figures of now."""
BIN_MS, BINS = 120_000, 30
NAMES_PER_BIN = 100
"""Of each dimension; the others of that bin are `_other`."""
ROWS = 50
"""Of a table of names, the others summed in one more."""
OTHER = "_other"
OUTCOMES = ("ok", "refused", "upstream_failed", "caller_gone")
QUANTILES = {"p50": 0.5, "p95": 0.95}
_DAY_MS = 86_400_000
_AT = {measure: place for place, measure in enumerate(MEASURES)}
_INPUT = ("input", "audio_input")
_CACHED = ("cached_input", "cache_write")


def quantile(counts: Sequence[int], bounds: Sequence[float], share: float) -> float | None:
    """The value below which `share` of what was observed lies, as PromQL's `histogram_quantile` estimates it:
    evenly spread inside a bucket, and the last bound for what lies beyond. None if nothing was observed."""
    total = sum(counts)
    if total == 0:
        return None
    rank, below, lower = share * total, 0, 0.0
    for count, bound in zip(counts, bounds, strict=False):
        if count and below + count >= rank:
            return lower + (bound - lower) * (rank - below) / count
        below, lower = below + count, bound
    return bounds[-1]


class _Ring:
    """Columns of numbers over the same moments, the oldest given up for the newest. NaN: nothing known."""

    def __init__(self, points: int) -> None:
        self._points = points
        self._at_ms: deque[int] = deque(maxlen=points)
        self._columns: dict[str, deque[float]] = {}

    def add(self, at_ms: int, values: Mapping[str, float]) -> None:
        for name in values.keys() - self._columns.keys():
            self._columns[name] = deque([math.nan] * len(self._at_ms), self._points)
        self._at_ms.append(at_ms)
        for name, column in self._columns.items():
            column.append(values.get(name, math.nan))

    def since(self, at_ms: int) -> tuple[list[int], dict[str, list[float]]]:
        """The moments after `at_ms`, and the columns at these."""
        count = sum(moment > at_ms for moment in self._at_ms)
        first = len(self._at_ms) - count
        columns = {name: _rounded(list(column)[first:]) for name, column in self._columns.items()}
        return list(self._at_ms)[first:], columns


class History:
    """What was counted over the last hour. `step` names every moment that `sums` were looked at."""

    def __init__(self) -> None:
        self._ring = _Ring(POINTS)
        self._last: tuple[float, Sums] | None = None
        self._looks: deque[tuple[float, Sums]] = deque(maxlen=round(RECENT_S / STEP_S) + 1)
        """The moments and sums of the last five minutes, of the rows that have no names of a policy."""
        self._bins: deque[tuple[int, dict[Row, array[int]]]] = deque(maxlen=BINS)
        self._day, self._day_cost, self._day_since_ms = -1, 0, 0
        self.now = Sums()
        """As of the last step."""

    def step(self, at_ms: int, clock_s: float, sums: Sums, gauges: Mapping[str, float]) -> None:
        """One look more: `at_ms` since 1970, `clock_s` on a clock that never steps, and what is known besides
        the slots, by column."""
        self._begin_day(at_ms, sums)
        if self._last is not None:
            before_s, before = self._last
            moved = _moved(before.rows, sums.rows)
            self._bin(at_ms, moved)
            self._looks.append((clock_s, _without_names(sums)))
            known = [row for row in sums.rows if row.dimension == "error_type"]
            point = {**_rates(moved, known, clock_s - before_s), **self._quantiles(clock_s), **gauges}
            point |= {f"open.{what}": sums.rows[ALL][_AT[f"open_{what}"]] for what in ("calls", "streams")}
            self._ring.add(at_ms, point)
        else:
            self._looks.append((clock_s, _without_names(sums)))
        self._last = clock_s, sums
        self.now = sums

    @property
    def has_begun(self) -> bool:
        """Whether there was a first step: the others tell nothing before it."""
        return self._last is not None

    def series(self, since_ms: int = 0) -> dict[str, Any]:
        """The columns of all points after `since_ms`: `{"at": [ms], "columns": {name: [value or None]}}`."""
        at, columns = self._ring.since(since_ms)
        return {"step_s": STEP_S, "at": at, "columns": columns}

    def summary(self) -> dict[str, Any]:
        """The figures of now, over five minutes or as long as there was. Money in US dollars."""
        everything = self.now.rows.get(ALL, [0] * len(MEASURES))
        clock_s, _ = self._looks[-1]
        then_s, then = self._at_least(clock_s - RECENT_S)
        over_s = clock_s - then_s
        moved = _moved(then.rows, self.now.rows).get(ALL, [0] * len(MEASURES))
        calls, hour = moved[_AT["calls"]], self._hour().get(ALL)
        return {
            "over_s": over_s,
            "calls_per_s": calls / over_s if over_s else 0,
            "failed_share": moved[_AT["failed"]] / calls if calls else None,
            "tokens_per_s": moved[_AT["tokens"]] / over_s if over_s else 0,
            "usd_per_hour": moved[_AT["cost"]] / NANO_PER_USD / over_s * 3600 if over_s else 0,
            "usd_last_hour": hour[_AT["cost"]] / NANO_PER_USD if hour else 0,
            "usd_today": (everything[_AT["cost"]] - self._day_cost) / NANO_PER_USD,
            "today_since_ms": self._day_since_ms,
            "usd": everything[_AT["cost"]] / NANO_PER_USD,
            "calls": everything[_AT["calls"]],
            "failed": everything[_AT["failed"]],
            "tokens": everything[_AT["tokens"]],
            "open_calls": everything[_AT["open_calls"]],
            "open_streams": everything[_AT["open_streams"]],
            "quantiles": self._spread(clock_s, RECENT_S),
        }

    def table(self, dimension: str) -> dict[str, Any]:
        """What the names of a dimension did in the last hour and ever: the first by what they cost, called or
        failed in that hour, and in the last row the sum of all others. `left_out` is how many these are."""
        hour = self._hour()
        rows = [
            (row.name, list(hour.get(row, ())) or [0] * len(MEASURES), ever)
            for row, ever in self.now.rows.items()
            if row.dimension == dimension and row.name != OTHER and any(ever)
        ]
        rows.sort(key=lambda row: ([-row[1][_AT[each]] for each in _ORDER], [-row[2][_AT["calls"]]], row[0]))
        shown = [_table_row(*row) for row in rows[:ROWS]]
        left_out, other = rows[ROWS:], Row(dimension, OTHER)
        of_hour = _added([hour.get(other, ()), *(row[1] for row in left_out)])
        of_ever = _added([self.now.rows.get(other, ()), *(row[2] for row in left_out)])
        if any(of_ever):
            shown.append(_table_row(OTHER, of_hour, of_ever))
        return {"rows": shown, "left_out": len(left_out)}

    def _begin_day(self, at_ms: int, sums: Sums) -> None:
        """Days are UTC's. The first day begins with the first look."""
        day = at_ms // _DAY_MS
        if day != self._day:
            last = self._last[1] if self._last is not None else sums
            self._day_since_ms = at_ms if self._day < 0 else day * _DAY_MS
            self._day_cost = last.rows.get(ALL, [0] * len(MEASURES))[_AT["cost"]]
            self._day = day

    def _bin(self, at_ms: int, moved: Mapping[Row, Sequence[int]]) -> None:
        number = at_ms // BIN_MS
        if not self._bins or self._bins[-1][0] != number:
            while self._bins and self._bins[0][0] <= number - BINS:
                self._bins.popleft()
            self._bins.append((number, {}))
        into = self._bins[-1][1]
        taken: dict[str, int] = {}
        for row in into:
            taken[row.dimension] = taken.get(row.dimension, 0) + 1
        for row, deltas in sorted(moved.items(), key=lambda item: [-item[1][_AT[each]] for each in _ORDER]):
            place = row
            if row not in into and taken.get(row.dimension, 0) >= NAMES_PER_BIN:
                place = Row(row.dimension, OTHER)
            if place not in into:
                taken[row.dimension] = taken.get(row.dimension, 0) + 1
            into[place] = array("q", _added((into.get(place, ()), deltas)))

    def _hour(self) -> dict[Row, Sequence[int]]:
        sums: dict[Row, Sequence[int]] = {}
        for _, rows in self._bins:
            for row, deltas in rows.items():
                sums[row] = _added((sums.get(row, ()), deltas))
        return sums

    def _at_least(self, clock_s: float) -> tuple[float, Sums]:
        """The first look that is kept and was not before that moment."""
        return next(look for look in self._looks if look[0] >= clock_s - STEP_S / 2)

    def _quantiles(self, clock_s: float) -> dict[str, float]:
        spread = self._spread(clock_s, RATE_S)
        return {f"{name}.{which}": value for name, found in spread.items() for which, value in found.items()}

    def _spread(self, clock_s: float, over_s: float) -> dict[str, dict[str, float]]:
        """{what: {"p50": seconds, "p95": seconds}} of the time before; what was not observed is left out."""
        _, then = self._at_least(clock_s - over_s)
        _, now = self._looks[-1]
        found: dict[str, dict[str, float]] = {}
        for row, counts in now.histograms.items():
            before = then.histograms.get(row, [0] * len(counts))
            deltas = [a - b for a, b in zip(counts, before, strict=True)]
            for which, share in QUANTILES.items():
                value = quantile(deltas, HISTOGRAMS[row.dimension].buckets, share)
                if value is not None:
                    found.setdefault(".".join(filter(None, row)), {})[which] = value
        return found


_ORDER = ("cost", "calls", "failed", "attempts")


def _moved(before: Mapping[Row, Sequence[int]], after: Mapping[Row, Sequence[int]]) -> dict[Row, list[int]]:
    """What was added to each row that changed, and to `ALL` in any case."""
    nothing = [0] * len(MEASURES)
    return {
        row: [b - a for a, b in zip(before.get(row, nothing), now, strict=True)]
        for row, now in after.items()
        if row == ALL or before.get(row, nothing) != now
    }


def _rates(moved: Mapping[Row, Sequence[int]], errors: Iterable[Row], over_s: float) -> dict[str, float]:
    """The columns that are rates: per second, money in dollars per hour. `errors` are all rows of errors."""

    def rate(dimension: str, name: str, measure: str) -> float:
        deltas = moved.get(Row(dimension, name))
        return deltas[_AT[measure]] / over_s if deltas is not None else 0.0

    point = {f"calls.{name}": rate("outcome", name, "calls") for name in OUTCOMES}
    point |= {f"errors.{row.name}": rate(*row, "failed") for row in errors}
    point["usd_per_hour"] = rate(*ALL, "cost") * 3600 / NANO_PER_USD
    for kinds, column in ((_INPUT, "input"), (_CACHED, "cached"), (_OUTPUT, "output")):
        point[f"tokens.{column}"] = sum(rate("kind", kind, "tokens") for kind in kinds)
    for measure in ("attempts", "attempts_failed", "retries", "fallbacks"):
        point[f"again.{measure}"] = rate(*ALL, measure)
    return point


_OUTPUT = tuple(kind for kind in KINDS if kind not in (*_INPUT, *_CACHED))


def _without_names(sums: Sums) -> Sums:
    """What is needed of sums five minutes later."""
    return Sums({row: values for row, values in sums.rows.items() if row == ALL}, sums.histograms)


def _added(rows: Iterable[Sequence[int]]) -> list[int]:
    sums = [0] * len(MEASURES)
    for row in rows:
        for place, value in enumerate(row):
            sums[place] += value
    return sums


def _table_row(name: str, hour: Sequence[int], ever: Sequence[int]) -> dict[str, Any]:
    return {"name": name, "hour": _named(hour), "ever": _named(ever)}


def _named(measures: Sequence[int]) -> dict[str, float]:
    named: dict[str, float] = {
        name: measures[_AT[name]]
        for name in ("calls", "failed", "tokens", "attempts", "attempts_failed", "retries")
    }
    return {**named, "usd": measures[_AT["cost"]] / NANO_PER_USD}


def _rounded(values: Iterable[float]) -> list[float]:
    """To six digits: half of the bytes on the way."""
    return [value if value != value or value == 0 else float(f"{value:.6g}") for value in values]
