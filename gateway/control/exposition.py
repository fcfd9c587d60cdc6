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
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from prometheus_client import CollectorRegistry
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily, Metric
from prometheus_client.exposition import choose_encoder
from prometheus_client.registry import Collector
from prometheus_client.utils import floatToGoString

from gateway.telemetry import table
from gateway.telemetry.slots import OTHER, read_slots

NICE = 10
"""How far rendering gives way to what serves calls: a tenth of the processor where there is too little."""

Sample = tuple[table.Metric, tuple[str, ...], float]
"""A value that control knows itself: (metric, label values, value)."""


class Slots(Collector):
    """Sums the slot files of a folder and adds control's own samples."""

    def __init__(self, folder: Path, own: Callable[[], Iterable[Sample]]) -> None:
        self._folder = folder
        self._own = own

    def collect(self) -> Iterator[Metric]:
        """One family per row of the metric table, in its order."""
        sums = self._sums()
        own: defaultdict[str, list[tuple[tuple[str, ...], float]]] = defaultdict(list)
        for metric, labels, value in self._own():
            own[metric.name].append((labels, value))
        for metric in table.ALL:
            series = sums.get(metric.name, {})
            yield _family(metric, series, own[metric.name])

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


def _family(
    metric: table.Metric,
    series: dict[tuple[str, ...], list[int]],
    own: list[tuple[tuple[str, ...], float]],
) -> Metric:
    """Series that overflowed ("_other") are shown only once they counted something."""
    shown = {
        labels: values
        for labels, values in series.items()
        if any(values) or not labels or set(labels) != {OTHER}
    }
    if metric.kind == "histogram":
        family = HistogramMetricFamily(metric.name, metric.help, labels=metric.labels)
        for labels, values in shown.items():
            family.add_metric(labels, *_histogram(metric, values))
        return family
    kind = CounterMetricFamily if metric.kind == "counter" else GaugeMetricFamily
    name = metric.name.removesuffix("_total") if metric.kind == "counter" else metric.name
    plain = kind(name, metric.help, labels=metric.labels)
    for labels, values in shown.items():
        plain.add_metric(labels, values[0] * metric.scale)
    for labels, value in own:
        plain.add_metric(labels, value)
    return plain


def _histogram(metric: table.Metric, values: list[int]) -> tuple[list[tuple[str, float]], float]:
    """Cumulative buckets with +Inf, and the sum."""
    buckets: list[tuple[str, float]] = []
    total = 0
    for bound, count in zip((*metric.buckets, float("inf")), values[:-1], strict=True):
        total += count
        buckets.append((str(floatToGoString(bound)), total))  # type: ignore[no-untyped-call]
    return buckets, values[-1] * metric.scale


def give_way() -> None:
    """Makes the thread that calls it one that waits for all others."""
    if sys.platform == "linux":  # elsewhere a thread's id is no argument of setpriority(2)
        os.setpriority(os.PRIO_PROCESS, threading.get_native_id(), NICE)


class Exposition:
    """Renders the metrics in the format that a scraper asks for."""

    def __init__(self, folder: Path, own: Callable[[], Iterable[Sample]]) -> None:
        self._registry = CollectorRegistry(auto_describe=False)
        self._registry.register(Slots(folder, own))
        self._renderer = ThreadPoolExecutor(1, "metrics", initializer=give_way)

    async def rendered(self, accept: str) -> tuple[bytes, str]:
        """As `render`, in a thread that gives way: 50,000 series take half a second, in which calls that wait
        for the processor come first."""
        return await asyncio.get_running_loop().run_in_executor(self._renderer, self.render, accept)

    def render(self, accept: str) -> tuple[bytes, str]:
        """(body, content type) for an Accept header. Blocks: call it in a thread."""
        encoder, content_type = choose_encoder(accept)
        return encoder(self._registry), content_type
