"""Metric values in shared memory: one file per worker, one writer per file, summed by control.

A file is header, directory, values. The directory grows at its end: an entry is written first, the
count after it, so nobody ever sees half of one, whenever its writer dies. A worker's replacement goes on in
the same file, so no counter ever goes back.
"""

from __future__ import annotations

import json
import mmap
import os
import struct
from collections.abc import Iterator
from pathlib import Path

from gateway.telemetry.metric import Metric
from gateway.telemetry.table import BY_NAME, SERIES_OVERFLOW

SLOTS = 131_072
SERIES_PER_METRIC = 5_000
VALUES_PER_LABEL = 2_000
"""Of one label of a metric; what comes beyond is "_other" in that label."""
OTHER = "_other"
_MAGIC = 0x48475353_00000001
_HEADER = struct.Struct("<qqq")
"""Magic, number of slots, number of series."""
_ENTRY = struct.Struct("<qI")
"""First slot, bytes of the JSON text [name, labels] that follows."""
_DIRECTORY_BYTES = 4 << 20


def width(metric: Metric) -> int:
    """How many slots a series takes: a histogram one per bucket, one for +Inf, one for the sum."""
    return len(metric.buckets) + 2 if metric.kind == "histogram" else 1


class SlotFile:
    """The slots of one writer. `values[i] += n` is the whole of the hot path (0.05 µs)."""

    def __init__(self, memory: mmap.mmap) -> None:
        self._memory = memory
        magic, self._slots, self._count = _HEADER.unpack_from(memory)
        if magic != _MAGIC:
            raise ValueError("not a slot file of this version")
        self.values = memoryview(memory)[_HEADER.size + _DIRECTORY_BYTES :].cast("q")
        self._series: dict[tuple[str, tuple[str, ...]], int] = {}
        self._per_metric: dict[str, int] = {}
        self._label_values: dict[str, list[set[str]]] = {}
        self._next = 0
        self._end = _HEADER.size
        for name, labels, first, self._end in _directory(memory):
            self._remember(name, labels, first)

    @classmethod
    def create(cls, path: str | os.PathLike[str], slots: int = SLOTS) -> SlotFile:
        """A new file with all slots zero; replaces what is at `path`. Blocks are given when first used."""
        fresh = Path(f"{os.fspath(path)}.new")
        with fresh.open("wb") as file:
            file.truncate(_HEADER.size + _DIRECTORY_BYTES + 8 * slots)
            file.write(_HEADER.pack(_MAGIC, slots, 0))
        fresh.replace(path)
        return cls.open(path)

    @classmethod
    def open(cls, path: str | os.PathLike[str]) -> SlotFile:
        """The file at `path`, to write on in it."""
        with open(path, "r+b") as file:
            return cls(mmap.mmap(file.fileno(), 0))

    def series(self, metric: Metric, labels: tuple[str, ...]) -> int:
        """The first slot of a series, given at first sight.

        A label with 2,000 values gives "_other" for the next. A metric with 5,000 series, or a full file,
        gives the series whose every label is "_other". Both are counted (`SERIES_OVERFLOW`), once for each
        series.
        """
        found = self._series.get((metric.name, labels))
        if found is not None:
            return found
        other = (OTHER,) * len(metric.labels)
        if metric.name not in self._per_metric and labels != other:
            # Room for the overflow is set aside with a metric's first series.
            self.series(metric, other)
        first, bounded = -1, self._bounded(metric.name, labels)
        if bounded != labels:
            first = self.series(metric, bounded)
        elif labels == other or self._per_metric[metric.name] <= SERIES_PER_METRIC:
            first = self._append(metric, labels)
            if first >= 0:
                return first
        if labels == other:
            raise MemoryError("the slot file is full")
        if bounded == labels:
            first = self._series[metric.name, other]
        self._series[metric.name, labels] = first
        self._overflowed(metric)
        return first

    def zero_gauges(self) -> None:
        """A worker that starts has no streams open, whatever the one before it had."""
        for (name, _), first in self._series.items():
            if BY_NAME[name].kind == "gauge":
                self.values[first] = 0

    def _bounded(self, name: str, labels: tuple[str, ...]) -> tuple[str, ...]:
        """The labels, less the values that are too many."""
        return tuple(
            value if value in known or len(known) <= VALUES_PER_LABEL else OTHER
            for value, known in zip(labels, self._values_of(name, len(labels)), strict=True)
        )

    def _values_of(self, name: str, labels: int) -> list[set[str]]:
        found = self._label_values.get(name)
        if found is None:
            found = self._label_values[name] = [{OTHER} for _ in range(labels)]
        return found

    def _overflowed(self, metric: Metric) -> None:
        at = self._series.get((SERIES_OVERFLOW.name, (metric.name,)))
        if at is None:
            at = self._append(SERIES_OVERFLOW, (metric.name,))
        if at >= 0:
            self.values[at] += 1

    def _append(self, metric: Metric, labels: tuple[str, ...]) -> int:
        text = json.dumps([metric.name, labels], ensure_ascii=False, separators=(",", ":")).encode()
        first, at = self._next, self._end
        end = at + _ENTRY.size + len(text)
        if first + width(metric) > self._slots or end > _HEADER.size + _DIRECTORY_BYTES:
            return -1
        _ENTRY.pack_into(self._memory, at, first, len(text))
        self._memory[at + _ENTRY.size : end] = text
        self._end, self._count = end, self._count + 1
        struct.pack_into("<q", self._memory, 16, self._count)
        self._remember(metric.name, labels, first)
        return first

    def _remember(self, name: str, labels: tuple[str, ...], first: int) -> None:
        self._series[name, labels] = first
        self._per_metric[name] = self._per_metric.get(name, 0) + 1
        for value, known in zip(labels, self._values_of(name, len(labels)), strict=True):
            known.add(value)
        self._next = first + width(BY_NAME[name])


def read_slots(path: str | os.PathLike[str]) -> Iterator[tuple[str, tuple[str, ...], list[int]]]:
    """(metric name, label values, slot values) of every series, while its writer goes on writing."""
    with open(path, "rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as memory:
        values = _HEADER.size + _DIRECTORY_BYTES
        for name, labels, first, _ in list(_directory(memory)):
            count = width(BY_NAME[name])
            yield name, labels, list(struct.unpack_from(f"<{count}q", memory, values + 8 * first))


class SlotReader:
    """A slot file that is read again and again while its writer goes on: each series is named once."""

    def __init__(self, path: str | os.PathLike[str]) -> None:
        with open(path, "rb") as file:
            self._memory = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)
        self.values = memoryview(self._memory)[_HEADER.size + _DIRECTORY_BYTES :].cast("q")
        self._known = 0
        self._end = _HEADER.size

    def fresh(self) -> Iterator[tuple[str, tuple[str, ...], int]]:
        """(metric name, label values, first slot) of every series that was not named before."""
        for name, labels, first, end in _directory(self._memory, self._known, self._end):
            self._known, self._end = self._known + 1, end
            yield name, labels, first


def _directory(
    memory: mmap.mmap, known: int = 0, at: int = _HEADER.size
) -> Iterator[tuple[str, tuple[str, ...], int, int]]:
    """(metric name, label values, first slot, where the entry ends) of every series but the first `known`,
    which end at `at`."""
    _, _, count = _HEADER.unpack_from(memory)
    for _ in range(known, count):
        first, size = _ENTRY.unpack_from(memory, at)
        at += _ENTRY.size
        name, labels = json.loads(memory[at : at + size])
        at += size
        yield name, tuple(labels), first, at
