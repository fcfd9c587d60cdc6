"""What a row of the metric table says."""

from __future__ import annotations

from dataclasses import dataclass

NANO = 1e-9


@dataclass(frozen=True, slots=True, eq=False)
class Metric:
    """One row of the table. Counters carry their `_total` in the name.

    Each is itself alone: the hash of its fields would be two thirds of what it costs to count by name.
    """

    name: str
    kind: str
    """"counter", "gauge" or "histogram"."""
    unit: str
    labels: tuple[str, ...]
    help: str
    buckets: tuple[float, ...] = ()
    """Upper bounds of a histogram's buckets in `unit`, without +Inf."""
    scale: float = 1.0
    """What one unit of a slot is worth: 1e-9 for nano-dollars and, in sums, nanoseconds."""
