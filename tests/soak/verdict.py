"""What a soak has shown: samples of processes, and the sentences that failed."""

from __future__ import annotations

import math
import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import NamedTuple

MIB = 1 << 20
MAX_SLOPE_MIB = 1.0
"""Most that a process may grow in ten minutes."""
JUDGED_FROM_S = 300.0
"""A second half shorter than this says nothing of a slope: the allocator alone moves by a MiB."""
STRANGER = "soak-stranger-"
"""How the names of models begin that callers make up."""
FD_SLACK = 2
"""What may be open beyond the base: the connection of the scrape that looks, and one that is closing."""


class Sample(NamedTuple):
    """One look at a process."""

    at_s: float
    rss_bytes: int
    fds: int
    sockets: int


def look(pid: int, at_s: float) -> Sample:
    """A process as it is now. Raises `OSError` if it is gone."""
    pages = int(Path(f"/proc/{pid}/statm").read_text().split()[1])
    files = list(_links(pid))
    sockets = sum(name.startswith("socket:") for name in files)
    return Sample(at_s, pages * os.sysconf("SC_PAGE_SIZE"), len(files), sockets)


def _links(pid: int) -> Iterator[str]:
    for entry in os.scandir(f"/proc/{pid}/fd"):
        try:
            yield os.readlink(entry.path)
        except OSError:
            pass  # closed since


class Slope(NamedTuple):
    """Growth in MiB per ten minutes, and the half-width of its 95 % confidence interval."""

    mib: float
    within_mib: float

    def __str__(self) -> str:
        return f"{self.mib:+.2f} ± {self.within_mib:.2f} MiB per 10 minutes"


def slope(samples: Sequence[Sample]) -> Slope:
    """Least squares through the memory of at least three samples."""
    times = [sample.at_s / 600 for sample in samples]
    sizes = [sample.rss_bytes / MIB for sample in samples]
    count = len(samples)
    mean_time, mean_size = sum(times) / count, sum(sizes) / count
    spread = sum((time - mean_time) ** 2 for time in times)
    rise = (
        sum((time - mean_time) * (size - mean_size) for time, size in zip(times, sizes, strict=True)) / spread
    )
    rest = sum(
        (size - mean_size - rise * (time - mean_time)) ** 2 for time, size in zip(times, sizes, strict=True)
    )
    # 1.96: there are a hundred samples or more where a slope is judged.
    return Slope(rise, 1.96 * math.sqrt(rest / (count - 2) / spread))


@dataclass
class Watched:
    """One process of the gateway, from before the load until after it."""

    name: str
    pid: int
    base: Sample
    samples: list[Sample] = field(default_factory=list)
    """During the load."""
    after: Sample | None = None
    """Once all was idle again."""

    def second_half(self) -> list[Sample]:
        """The samples of the second half of the load."""
        return self.samples[len(self.samples) // 2 :]


@dataclass
class Seen:
    """All that a soak has seen."""

    seconds: float
    watched: list[Watched]
    sent: int
    logged: int
    unexpected: list[str]
    series: int
    """Metric series at the end."""
    labels: list[frozenset[tuple[str, str]]]
    """All labels of the metrics with their values, at each sample. Their combinations, the series, are as
    bounded as they are, but the rarest come late."""
    streams_open: float
    restarts: float
    log_dropped: float
    said: str
    """What the gateway wrote to stderr."""
    reloads: int
    accepted: int
    """How many of them were good policies."""
    accepted_counted: float


def judges_slope(seconds: float) -> bool:
    """True if a run of this length says something about growth."""
    return seconds / 2 >= JUDGED_FROM_S


def failures(seen: Seen) -> list[str]:
    """A sentence for everything that did not hold; empty if the gateway has passed."""
    return list(_failures(seen))


def _failures(seen: Seen) -> Iterator[str]:
    for each in seen.watched:
        if judges_slope(seen.seconds):
            grows = slope(each.second_half())
            if grows.mib > MAX_SLOPE_MIB:
                yield f"{each.name} grows by {grows}; {MAX_SLOPE_MIB:.0f} MiB is the most."
        if each.after is None:
            yield f"{each.name} is gone."
            continue
        for what, base, after in (
            ("files", each.base.fds, each.after.fds),
            ("sockets", each.base.sockets, each.after.sockets),
        ):
            if after > base + FD_SLACK:
                yield f"{each.name} has {after} open {what} after the load, {base} before it."
    if seen.streams_open:
        yield f"headgate_streams_open is {seen.streams_open:.0f} after the load."
    strangers = sum(value.startswith(STRANGER) for _, value in seen.labels[-1])
    if strangers:
        yield f"{strangers} labels of metrics are names that callers made up."
    late = seen.labels[-1] - seen.labels[len(seen.labels) // 2]
    if judges_slope(seen.seconds) and late:
        yield f"Labels of metrics that nobody had half way: {sorted(late)}."
    if seen.logged != seen.sent:
        yield f"{seen.logged} log lines for {seen.sent} calls."
    if seen.log_dropped:
        yield f"{seen.log_dropped:.0f} log lines were dropped."
    if seen.restarts:
        yield f"{seen.restarts:.0f} workers died."
    if seen.accepted_counted != seen.accepted:
        yield f"{seen.accepted} good policies were written, {seen.accepted_counted:.0f} were accepted."
    for words in ("Traceback", "internal error"):
        if words in seen.said:
            yield f"The gateway wrote {words!r}: {seen.said[seen.said.index(words) :][:500]}"
    for words in seen.unexpected:
        yield f"Unexpected: {words}."
