"""OpenTelemetry's exporters, by the OTEL_* variables. Imported only where there is an endpoint."""

from __future__ import annotations

import os
import socket
from collections.abc import Callable, Mapping
from typing import Any
from uuid import NAMESPACE_URL, uuid5

from opentelemetry.exporter.otlp.proto.http._log_exporter import OTLPLogExporter
from opentelemetry.exporter.otlp.proto.http.metric_exporter import OTLPMetricExporter
from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
from opentelemetry.sdk.resources import OTELResourceDetector, Resource

from gateway.clock import monotonic_s
from gateway.control.contents import Contents
from gateway.control.exemplars import Exemplars
from gateway.control.exporting import Exporter, MetricExport, TraceExport, Trouble
from gateway.control.exposition import Exposition
from gateway.control.otel_environment import GRPC, OtelMistake, OtelSettings
from gateway.control.otlp_events import OtlpEvents
from gateway.control.otlp_metrics import MetricMaker
from gateway.control.spans import SCOPE, SpanMaker
from gateway.telemetry.meters import ControlMeters


class Otlp:
    """What is exported. `traces` gives the table of the policy in force, `started_ms` is when the gateway
    started (1970). Raises `OtelMistake` for variables that exporters cannot use."""

    def __init__(
        self,
        settings: OtelSettings,
        traces: Callable[[], Mapping[str, Any] | None],
        exposition: Exposition,
        exemplars: Exemplars,
        meters: ControlMeters,
        *,
        listen: str,
        started_ms: int,
    ) -> None:
        resource = _resource(f"{socket.gethostname()} {listen} {started_ms}")
        trouble = Trouble()
        self._traces: TraceExport | None = None
        self._metrics: MetricExport | None = None
        self._rule = _Rule(traces)
        if settings.traces is not None:
            sent_by = _exporter("traces", settings.traces, settings.traces_timeout_s)
            spans = SpanMaker(resource, self._rule.contents).spans
            self._traces = TraceExport(sent_by, spans, settings, meters, trouble, exemplars)
            self._traces.start()
        self.events: OtlpEvents | None = None
        if settings.logs is not None:
            sender = exporter("logs", settings.logs, settings.logs_timeout_s)
            self.events = OtlpEvents(sender, resource)
        if settings.metrics is not None:
            sent_by = _exporter("metrics", settings.metrics, settings.metrics_timeout_s)
            data = MetricMaker(resource, started_ms * 1_000_000).data
            self._metrics = MetricExport(sent_by, exposition.series, data, settings, meters, trouble)
            self._metrics.start()

    def take(self, lines: bytes) -> None:
        """Records of calls, a line each; never waits."""
        if self._traces is not None:
            self._traces.take(lines)

    def close(self, timeout_s: float) -> None:
        """Sends what is left, and waits for that so long at most."""
        if self.events is not None:
            self.events.close()
        deadline_s = monotonic_s() + timeout_s
        exports = [export for export in (self._traces, self._metrics) if export is not None]
        for export in exports:
            export.stop()
        for export in exports:
            export.join(max(0.0, deadline_s - monotonic_s()))


class _Rule:
    """Whose content may be kept, by the policy in force; made anew when that changes."""

    def __init__(self, traces: Callable[[], Mapping[str, Any] | None]) -> None:
        self._traces = traces
        self._table: Mapping[str, Any] | None = None
        self._contents: Contents | None = None

    def contents(self) -> Contents | None:
        table = self._traces()
        if table is not self._table:
            self._contents = None if table is None else Contents(table["content"])
            self._table = table
        return self._contents


def _resource(instance: str) -> Resource:
    """Who sends: by OTEL_SERVICE_NAME and OTEL_RESOURCE_ATTRIBUTES, else `headgate`."""
    ours = {
        "service.name": "headgate",
        "service.version": SCOPE.version or "",
        "service.instance.id": str(uuid5(NAMESPACE_URL, instance)),
    }
    return Resource(ours).merge(OTELResourceDetector().detect())


def _exporter(signal: str, protocol: str, timeout_s: float) -> Exporter:
    made: Exporter = exporter(signal, protocol, timeout_s)
    return made


def exporter(signal: str, protocol: str, timeout_s: float) -> Any:
    """The SDK's exporter of "traces", "metrics" or "logs". Raises `OtelMistake`."""
    try:
        if protocol == GRPC:
            return _grpc_exporter(signal, timeout_s)
        return _KINDS[signal](timeout=timeout_s)
    except (ValueError, OSError) as error:
        # Of a compression, a timeout or a certificate; messages may quote the variable.
        names = ", ".join(sorted(name for name in os.environ if name.startswith("OTEL_EXPORTER_OTLP_")))
        raise OtelMistake(f"One of {names} cannot be used: {type(error).__name__}.") from None


_KINDS: Mapping[str, Callable[..., Any]] = {
    "traces": OTLPSpanExporter,
    "metrics": OTLPMetricExporter,
    "logs": OTLPLogExporter,
}


def _grpc_exporter(signal: str, timeout_s: float) -> Any:
    try:
        from opentelemetry.exporter.otlp.proto.grpc import _log_exporter, metric_exporter, trace_exporter
    except ImportError:
        raise OtelMistake(
            "OTEL_EXPORTER_OTLP_PROTOCOL=grpc needs what pip install 'headgate[grpc]' installs; "
            "without it, http/protobuf is there."
        ) from None
    kinds = {
        "traces": trace_exporter.OTLPSpanExporter,
        "metrics": metric_exporter.OTLPMetricExporter,
        "logs": _log_exporter.OTLPLogExporter,
    }
    return kinds[signal](timeout=timeout_s)
