"""What `/metrics` says: the slots of all workers, summed, in Prometheus' formats.

The only door to prometheus_client. Rendering 50,000 series takes 0.3 s of a core, so it runs in a thread
of control, never in a worker.
"""

from __future__ import annotations

import asyncio
import os
import sys
import threading
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import NamedTuple

from prometheus_client import CollectorRegistry
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily, Metric
from prometheus_client.exposition import choose_encoder
from prometheus_client.registry import Collector
from prometheus_client.samples import Exemplar
from prometheus_client.utils import floatToGoString

from gateway.control.exemplars import Exemplars, Kept
from gateway.telemetry import table
from gateway.telemetry.metric import Metric as Row
from gateway.telemetry.slots import OTHER, read_slots

NICE = 10
"""How far rendering gives way to what serves calls: a tenth of the processor where there is too little."""

Sample = tuple[Row, tuple[str, ...], float]
"""A value that control knows itself: (metric, label values, value)."""


class Series(NamedTuple):
    """What there is of one row of the metric table."""

    metric: Row
    slots: dict[tuple[str, ...], list[int]]
    """Label values → the slots' sums; of a histogram one for each bucket, one for +Inf, one for the sum."""
    own: list[tuple[tuple[str, ...], float]]
    """What control knows itself."""


class Slots(Collector):
    """Sums the slot files of a folder and adds control's own samples; exemplars are for OpenMetrics."""

    def __init__(
        self, folder: Path, own: Callable[[], Iterable[Sample]], exemplars: Exemplars | None = None
    ) -> None:
        self._folder = folder
        self._own = own
        self._exemplars = Exemplars() if exemplars is None else exemplars

    def collect(self) -> Iterator[Metric]:
        """One family per row of the metric table, in its order."""
        for series in self.series():
            yield _family(series, self._exemplars)

    def series(self) -> Iterator[Series]:
        """The rows of the metric table, in its order. Series that overflowed ("_other") are there only once
        they counted something."""
        sums = self._sums()
        own: defaultdict[str, list[tuple[tuple[str, ...], float]]] = defaultdict(list)
        for metric, labels, value in self._own():
            own[metric.name].append((labels, value))
        for metric in table.ALL:
            shown = {
                labels: values
                for labels, values in sums.get(metric.name, {}).items()
                if any(values) or not labels or set(labels) != {OTHER}
            }
            yield Series(metric, shown, own[metric.name])

    def _sums(self) -> dict[str, dict[tuple[str, ...], list[int]]]:
        sums: dict[str, dict[tuple[str, ...], list[int]]] = {}
        for path in sorted(self._folder.iterdir()):
            if path.suffix == ".new":
                continue
            for name, labels, values in read_slots(path):
                of_metric = sums.setdefault(name, {})
                known = of_metric.get(labels)
                if known is None:
                    of_metric[labels] = values
                else:
                    of_metric[labels] = [a + b for a, b in zip(known, values, strict=True)]
        return sums


def _family(series: Series, exemplars: Exemplars) -> Metric:
    metric = series.metric
    if metric.kind == "histogram":
        family = HistogramMetricFamily(metric.name, metric.help, labels=metric.labels)
        for labels, values in series.slots.items():
            family.add_metric(labels, *_histogram(metric, values, exemplars.of(metric, labels)))
        return family
    kind = CounterMetricFamily if metric.kind == "counter" else GaugeMetricFamily
    name = metric.name.removesuffix("_total") if metric.kind == "counter" else metric.name
    plain = kind(name, metric.help, labels=metric.labels)
    for labels, values in series.slots.items():
        plain.add_metric(labels, values[0] * metric.scale)
    for labels, value in series.own:
        plain.add_metric(labels, value)
    return plain


Bucket = tuple[str, float] | tuple[str, float, Exemplar]


def _histogram(metric: Row, values: list[int], kept: Mapping[int, Kept]) -> tuple[list[Bucket], float]:
    """Cumulative buckets with +Inf, and the sum."""
    buckets: list[Bucket] = []
    total = 0
    for place, bound in enumerate((*metric.buckets, float("inf"))):
        total += values[place]
        name = str(floatToGoString(bound))  # type: ignore[no-untyped-call]
        # A trace may be told before the slots that its call counts in are read.
        found = kept.get(place) if values[place] else None
        if found is None:
            buckets.append((name, total))
        else:
            trace = {"trace_id": found.trace}
            buckets.append((name, total, Exemplar(trace, found.value, found.at_s)))
    return buckets, values[-1] * metric.scale


def give_way() -> None:
    """Whatever this thread does is less urgent than serving calls."""
    if sys.platform == "linux":  # elsewhere a thread's id is no argument of setpriority(2)
        os.setpriority(os.PRIO_PROCESS, threading.get_native_id(), NICE)


class Exposition:
    """Renders the metrics in the format that a scraper asks for."""

    def __init__(
        self, folder: Path, own: Callable[[], Iterable[Sample]], exemplars: Exemplars | None = None
    ) -> None:
        self._registry = CollectorRegistry(auto_describe=False)
        self._slots = Slots(folder, own, exemplars)
        self._registry.register(self._slots)
        self._renderer = ThreadPoolExecutor(1, "metrics", initializer=give_way)

    async def rendered(self, accept: str) -> tuple[bytes, str]:
        """As `render`, in a thread that gives way: 50,000 series take half a second, in which calls that wait
        for the processor come first."""
        return await asyncio.get_running_loop().run_in_executor(self._renderer, self.render, accept)

    def series(self) -> list[Series]:
        """All there is, gathered in the thread that renders; for callers in threads of their own."""
        return self._renderer.submit(lambda: list(self._slots.series())).result()

    def render(self, accept: str) -> tuple[bytes, str]:
        """(body, content type) for an Accept header. Blocks: call it in a thread."""
        encoder, content_type = choose_encoder(accept)
        return encoder(self._registry), content_type
