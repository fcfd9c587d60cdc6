"""An OTLP collector: takes spans and metrics over HTTP and reads them with OpenTelemetry's own protobufs."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable
from typing import Any

from aiohttp import web
from opentelemetry.proto.collector.logs.v1.logs_service_pb2 import ExportLogsServiceRequest
from opentelemetry.proto.collector.metrics.v1.metrics_service_pb2 import ExportMetricsServiceRequest
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from opentelemetry.proto.common.v1.common_pb2 import AnyValue, KeyValue
from opentelemetry.proto.logs.v1.logs_pb2 import LogRecord
from opentelemetry.proto.metrics.v1.metrics_pb2 import Metric
from opentelemetry.proto.trace.v1.trace_pb2 import Span


def plain(value: AnyValue) -> Any:
    """A value as Python has it."""
    kind = value.WhichOneof("value")
    if kind == "array_value":
        return [plain(item) for item in value.array_value.values]
    return getattr(value, kind or "string_value")


def attributes(given: Iterable[KeyValue]) -> dict[str, Any]:
    return {pair.key: plain(pair.value) for pair in given}


class Collector:
    """`spans` and `metrics` are what came; `open` is cleared to have it answer nothing, `status` what it
    answers."""

    def __init__(self) -> None:
        self.spans: list[Span] = []
        self.resources: list[dict[str, Any]] = []
        self.metrics: dict[str, Metric] = {}
        """Of the last message."""
        self.events: list[LogRecord] = []
        self.bodies: list[bytes] = []
        """All messages, unpacked."""
        self.headers: list[dict[str, str]] = []
        self.status = 200
        self.open = asyncio.Event()
        self.open.set()
        self.asked = 0
        self.port = 0
        self._runner: web.AppRunner | None = None

    async def start(self) -> None:
        """At the same port again, if it was stopped."""
        app = web.Application(client_max_size=64 << 20)
        app.router.add_post("/v1/traces", self._traces)
        app.router.add_post("/v1/metrics", self._metrics)
        app.router.add_post("/v1/logs", self._logs)
        self._runner = web.AppRunner(app, access_log=None, shutdown_timeout=0.1)
        await self._runner.setup()
        site = web.TCPSite(self._runner, "127.0.0.1", self.port, reuse_address=True)
        await site.start()
        self.port = self._runner.addresses[0][1]

    async def stop(self) -> None:
        if self._runner is not None:
            await self._runner.cleanup()
            self._runner = None

    def environ(self, **more: str) -> dict[str, str]:
        """What makes a gateway send everything here, at once."""
        return {
            "OTEL_EXPORTER_OTLP_ENDPOINT": f"http://127.0.0.1:{self.port}",
            "OTEL_BSP_SCHEDULE_DELAY": "50",
            "OTEL_METRIC_EXPORT_INTERVAL": "100",
            "OTEL_TRACES_SAMPLER": "parentbased_always_on",
            **more,
        }

    def calls(self) -> list[Span]:
        """The spans of whole calls."""
        return [span for span in self.spans if "headgate.team" in attributes(span.attributes)]

    def attempts(self, call: Span) -> list[Span]:
        """The spans of a call's attempts."""
        found = [span for span in self.spans if span.parent_span_id == call.span_id]
        return sorted(found, key=lambda span: span.start_time_unix_nano)

    async def _body(self, request: web.Request) -> bytes:
        self.asked += 1
        self.headers.append({name.lower(): value for name, value in request.headers.items()})
        await self.open.wait()
        self.bodies.append(await request.read())
        return self.bodies[-1]

    async def _traces(self, request: web.Request) -> web.Response:
        message = ExportTraceServiceRequest.FromString(await self._body(request))
        if self.status == 200:
            for of_resource in message.resource_spans:
                self.resources.append(attributes(of_resource.resource.attributes))
                for of_scope in of_resource.scope_spans:
                    self.spans += of_scope.spans
        return web.Response(status=self.status, content_type="application/x-protobuf")

    async def _logs(self, request: web.Request) -> web.Response:
        message = ExportLogsServiceRequest.FromString(await self._body(request))
        if self.status == 200:
            self.events += [
                record
                for of_resource in message.resource_logs
                for of_scope in of_resource.scope_logs
                for record in of_scope.log_records
            ]
        return web.Response(status=self.status, content_type="application/x-protobuf")

    async def _metrics(self, request: web.Request) -> web.Response:
        message = ExportMetricsServiceRequest.FromString(await self._body(request))
        if self.status == 200:
            self.metrics = {
                metric.name: metric
                for of_resource in message.resource_metrics
                for of_scope in of_resource.scope_metrics
                for metric in of_scope.metrics
            }
        return web.Response(status=self.status, content_type="application/x-protobuf")
