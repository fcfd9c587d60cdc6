"""The last trace of each bucket of two histograms, so that a slow bucket leads to a call that was in it."""

from __future__ import annotations

from bisect import bisect_left
from collections import OrderedDict
from collections.abc import Mapping
from threading import Lock
from typing import Any, NamedTuple

from gateway.telemetry import table
from gateway.telemetry.metric import Metric

MOST_SERIES = 4096
"""Whose buckets are kept; of more, those that had no trace for longest are forgotten."""


class Kept(NamedTuple):
    """One call in a bucket."""

    trace: str
    value: float
    """In the metric's unit."""
    at_s: float
    """When it ended, seconds since 1970."""


class Exemplars:
    """Filled by the thread that exports traces, read by the one that renders metrics."""

    def __init__(self) -> None:
        self._series: OrderedDict[tuple[str, tuple[str, ...]], dict[int, Kept]] = OrderedDict()
        self._lock = Lock()

    def see(self, record: Mapping[str, Any]) -> None:
        """The trace of a call was taken by the collector. One that reached no target is in no histogram."""
        if "to" not in record:
            return
        to = record["to"]
        gen_ai = (record["operation"], to["provider"], record["model"], to["model"], to["model"])
        error = "" if record["outcome"] == "ok" else record["error"]
        self._keep(table.GEN_AI_REQUEST_DURATION, (*gen_ai, error), record["took"], record)
        if "first_token" in record and "usage" in record:
            self._keep(table.GEN_AI_TIME_TO_FIRST_TOKEN, gen_ai, record["first_token"], record)

    def of(self, metric: Metric, labels: tuple[str, ...]) -> Mapping[int, Kept]:
        """Place of a bucket → its last trace."""
        if metric.name not in _WITH_TRACES:
            return {}
        with self._lock:
            return dict(self._series.get((metric.name, labels), {}))

    def _keep(self, metric: Metric, labels: tuple[str, ...], value: float, record: Mapping[str, Any]) -> None:
        kept = Kept(record["trace"], value, record["ended"])
        index = (metric.name, labels)
        with self._lock:
            self._series.setdefault(index, {})[bisect_left(metric.buckets, value)] = kept
            self._series.move_to_end(index)
            if len(self._series) > MOST_SERIES:
                self._series.popitem(last=False)


_WITH_TRACES = frozenset({table.GEN_AI_REQUEST_DURATION.name, table.GEN_AI_TIME_TO_FIRST_TOKEN.name})
