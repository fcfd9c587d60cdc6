"""What the slots of all processes add up to, counted again and again for the console.

A scrape names every series; the console wants a few hundred sums every few seconds. So it is decided once,
when a series is first seen, what it adds to, and from then on a look is one addition per series and sum:
43,000 series take 18 ms, and 8 MB to know them by.
"""

from __future__ import annotations

from array import array
from dataclasses import dataclass, field
from pathlib import Path
from typing import NamedTuple

from gateway.telemetry import table
from gateway.telemetry.slots import SlotReader, width

MEASURES = (
    "calls",
    "failed",
    "tokens",
    "cost",
    "attempts",
    "attempts_failed",
    "retries",
    "fallbacks",
    "open_calls",
    "open_streams",
)
"""What a row holds, in this order. `failed` are the calls that were refused or that providers failed; `cost`
is nano-dollars."""
_PLACE = {measure: place for place, measure in enumerate(MEASURES)}


class Row(NamedTuple):
    """What a row of sums is about: `("team", "search")`, `("outcome", "ok")`, `("all", "")`."""

    dimension: str
    name: str


ALL = Row("all", "")


@dataclass(slots=True)
class Sums:
    """All that was ever counted. Counters in it never go back: a worker's replacement counts on."""

    rows: dict[Row, list[int]] = field(default_factory=dict)
    """Row → its measures."""
    histograms: dict[Row, list[int]] = field(default_factory=dict)
    """Row (dimension: what is measured) → counts by bucket, +Inf last."""


HISTOGRAMS = {
    "first_token": table.FIRST_TOKEN,
    "duration": table.GEN_AI_REQUEST_DURATION,
    "overhead": table.OVERHEAD,
    "lag": table.LOOP_LAG,
    "store": table.STORE_ROUND_TRIP,
}
"""Dimension of a histogram's rows → its metric."""


class Tally:
    """Counts the slot files of a folder. `look` may be called from one thread at a time."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._files: dict[tuple[str, int], _Counted] = {}
        self._rows: dict[Row, int] = {}
        self._buckets: dict[Row, int] = {}

    def look(self) -> Sums:
        """All that was counted until now. Blocks for as long as reading takes."""
        present = {(path.name, path.stat().st_ino): path for path in self._paths()}
        for gone in self._files.keys() - present.keys():
            del self._files[gone]
        rows = array("q")
        buckets: dict[int, list[int]] = {}
        for key, path in present.items():
            counted = self._files.get(key)
            if counted is None:
                counted = self._files[key] = _Counted(SlotReader(path))
            counted.learn(self._rows, self._buckets)
            rows.extend([0] * (len(self._rows) * len(MEASURES) - len(rows)))
            counted.add_to(rows, buckets)
        size = len(MEASURES)
        return Sums(
            {row: list(rows[at * size : (at + 1) * size]) for row, at in self._rows.items()},
            {row: buckets[at] for row, at in self._buckets.items() if at in buckets},
        )

    def _paths(self) -> list[Path]:
        return [path for path in sorted(self._folder.iterdir()) if path.suffix != ".new"]


class _Counted:
    """One slot file, and which slot adds to what."""

    def __init__(self, reader: SlotReader) -> None:
        self._reader = reader
        self._sums, self._slots = array("l"), array("l")
        """Place among all rows' measures, and the slot that is added there."""
        self._series: list[tuple[int, int, int]] = []
        """(row of a histogram, its first slot, how many buckets)."""

    def learn(self, rows: dict[Row, int], histograms: dict[Row, int]) -> None:
        for name, labels, first in self._reader.fresh():
            for row, measure in _adds_to(name, labels):
                at = rows.setdefault(row, len(rows))
                self._sums.append(at * len(MEASURES) + _PLACE[measure])
                self._slots.append(first)
            histogram = _histogram_of(name, labels)
            if histogram is not None:
                at = histograms.setdefault(histogram, len(histograms))
                self._series.append((at, first, width(table.BY_NAME[name]) - 1))

    def add_to(self, rows: array[int], histograms: dict[int, list[int]]) -> None:
        values = self._reader.values
        for place, slot in zip(self._sums, self._slots, strict=True):
            rows[place] += values[slot]
        for at, first, size in self._series:
            counts = values[first : first + size].tolist()
            before = histograms.get(at)
            histograms[at] = (
                counts if before is None else [a + b for a, b in zip(before, counts, strict=True)]
            )


def _adds_to(name: str, labels: tuple[str, ...]) -> list[tuple[Row, str]]:
    """The rows and measures that a series counts in; none for what the console does not show."""
    named = dict(zip(table.BY_NAME[name].labels, labels, strict=True))
    if name == table.REQUESTS.name:
        return _calls(named)
    if name == table.COST.name:
        return _each(named, "cost", "team", "key", "model")
    if name == table.TOKENS.name:
        return [*_each(named, "tokens", "team", "model"), (Row("kind", named["kind"]), "tokens")]
    if name == table.ATTEMPTS.name:
        failed = named["outcome"] not in ("ok", "caller_gone", "stopping")
        measures = ["attempts", *["attempts_failed"] * failed]
        target = _target(named)
        return [(row, measure) for measure in measures for row in (ALL, target)]
    if name == table.RETRIES.name:
        return [(ALL, "retries"), (_target(named), "retries")]
    if name == table.FALLBACKS.name:
        return [(ALL, "fallbacks")]
    if name == table.CALLS_OPEN.name:
        return [(ALL, "open_calls")]
    if name == table.STREAMS_OPEN.name:
        return [(ALL, "open_streams")]
    return []


def _calls(named: dict[str, str]) -> list[tuple[Row, str]]:
    outcome = named["outcome"]
    found = [*_each(named, "calls", "team", "key", "model"), (Row("outcome", outcome), "calls")]
    if outcome in ("refused", "upstream_failed"):
        found += _each(named, "failed", "team", "key", "model")
        found.append((Row("error_type", named["error_type"]), "failed"))
    return found


def _each(named: dict[str, str], measure: str, *dimensions: str) -> list[tuple[Row, str]]:
    rows = [ALL, *(Row(dimension, named[dimension]) for dimension in dimensions)]
    return [(row, measure) for row in rows]


def _target(named: dict[str, str]) -> Row:
    return Row("target", f"{named['model']} {named['target']}")


def _histogram_of(name: str, labels: tuple[str, ...]) -> Row | None:
    for dimension, metric in HISTOGRAMS.items():
        if metric.name == name:
            if dimension == "duration" and labels[-1]:
                # What fails at once would make answers look quick.
                return None
            return Row(dimension, labels[0] if dimension == "lag" else "")
    return None
