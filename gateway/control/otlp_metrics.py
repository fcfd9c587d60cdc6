"""The sums of all slots as OpenTelemetry metrics: the same numbers as `/metrics`, pushed instead of asked."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from opentelemetry.sdk.metrics.export import (
    AggregationTemporality,
    Gauge,
    Histogram,
    HistogramDataPoint,
    Metric,
    MetricsData,
    NumberDataPoint,
    ResourceMetrics,
    ScopeMetrics,
    Sum,
)
from opentelemetry.sdk.resources import Resource

from gateway.control.exposition import Series
from gateway.control.spans import SCOPE
from gateway.telemetry.otlp_names import otlp_attribute, otlp_name, otlp_unit

_CUMULATIVE = AggregationTemporality.CUMULATIVE


class MetricMaker:
    """Counts since `start_ns` (1970), which is when the gateway started, whatever restarted since."""

    def __init__(self, resource: Resource, start_ns: int) -> None:
        self._resource = resource
        self._start_ns = start_ns

    def data(self, rows: Iterable[Series], at_ns: int) -> MetricsData:
        """All rows that have something to tell."""
        metrics = [
            Metric(otlp_name(row.metric), row.metric.help, otlp_unit(row.metric), self._data(row, at_ns))
            for row in rows
            if row.slots or row.own
        ]
        scope = ScopeMetrics(SCOPE, metrics, "")
        return MetricsData([ResourceMetrics(self._resource, [scope], "")])

    def _data(self, row: Series, at_ns: int) -> Sum | Gauge | Histogram:
        if row.metric.kind == "histogram":
            return Histogram(list(self._histograms(row, at_ns)), _CUMULATIVE)
        points = list(self._numbers(row, at_ns))
        return Sum(points, _CUMULATIVE, is_monotonic=True) if row.metric.kind == "counter" else Gauge(points)

    def _numbers(self, row: Series, at_ns: int) -> Iterator[NumberDataPoint]:
        scale = row.metric.scale
        told = [(labels, values[0] * scale) for labels, values in row.slots.items()]
        for labels, value in (*told, *row.own):
            yield NumberDataPoint(_attributes(row, labels), self._start_ns, at_ns, value)

    def _histograms(self, row: Series, at_ns: int) -> Iterator[HistogramDataPoint]:
        for labels, values in row.slots.items():
            yield HistogramDataPoint(
                attributes=_attributes(row, labels),
                start_time_unix_nano=self._start_ns,
                time_unix_nano=at_ns,
                count=sum(values[:-1]),
                sum=values[-1] * row.metric.scale,
                bucket_counts=values[:-1],
                explicit_bounds=row.metric.buckets,
                # Slots know neither; None is left out of the message.
                min=None,  # type: ignore[arg-type]
                max=None,  # type: ignore[arg-type]
            )


def _attributes(row: Series, labels: tuple[str, ...]) -> dict[str, str]:
    """Labels without a value ("error_type" of what went well) are no attributes."""
    return {
        otlp_attribute(label): value for label, value in zip(row.metric.labels, labels, strict=True) if value
    }
