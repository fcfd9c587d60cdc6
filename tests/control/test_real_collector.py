"""Spans and metrics of a gateway to the OpenTelemetry project's own collector, also one that hangs, or is
killed and started again."""

from __future__ import annotations

import json
import signal
import socket
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import aiohttp
import pytest
import yaml

from gateway.simulator.server import Simulator
from tests.conftest import StartGateway
from tests.control.conventions import ATTEMPT, CALL
from tests.control.test_otlp import call
from tests.running import ROOT, Gateway, eventually, policy_for

pytestmark = pytest.mark.system
EXECUTABLE = ROOT / ".tools" / "otelcol"


class OtelCollector:
    """A process of it, which writes what it gets to a file, a JSON object a line."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._starts = 0
        self._said = folder / "said"
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            self.port = free.getsockname()[1]
        self._process: subprocess.Popen[bytes] | None = None

    async def start(self) -> None:
        """Returns when it takes what is sent. Each time it writes to another file: the last line of one that
        was killed has no end."""
        self._starts += 1
        pipeline = {"receivers": ["otlp"], "exporters": ["file"]}
        config = {
            "receivers": {"otlp": {"protocols": {"http": {"endpoint": f"127.0.0.1:{self.port}"}}}},
            "exporters": {"file": {"path": str(self._folder / f"out-{self._starts}.jsonl")}},
            "service": {
                "telemetry": {"metrics": {"level": "none"}},
                "pipelines": {"traces": pipeline, "metrics": pipeline, "logs": pipeline},
            },
        }
        written = self._folder / "config.yaml"
        written.write_text(yaml.safe_dump(config))
        with self._said.open("ab") as said:
            command = [str(EXECUTABLE), "--config", str(written)]
            self._process = subprocess.Popen(command, stdout=said, stderr=said)
        await eventually(self._answers, within_s=30, says=self._said.read_text)

    async def _answers(self) -> bool:
        assert self._process is not None and self._process.poll() is None
        try:
            async with aiohttp.request("POST", f"http://127.0.0.1:{self.port}/v1/traces") as answer:
                return answer.status < 500
        except aiohttp.ClientError:
            return False

    def signal(self, number: signal.Signals) -> None:
        assert self._process is not None
        self._process.send_signal(number)

    def kill(self) -> None:
        if self._process is not None:
            self._process.kill()
            self._process.wait()

    def environ(self) -> dict[str, str]:
        return {
            "OTEL_EXPORTER_OTLP_ENDPOINT": f"http://127.0.0.1:{self.port}",
            "OTEL_BSP_SCHEDULE_DELAY": "50",
            "OTEL_METRIC_EXPORT_INTERVAL": "200",
            "OTEL_TRACES_SAMPLER": "always_on",
        }

    def _got(self, signal_: str, scope: str, what: str) -> Iterator[dict[str, Any]]:
        """Everything of a kind that it has written so far."""
        files = sorted(self._folder.glob("out-*.jsonl"))
        for line in "\n".join(file.read_text() for file in files).splitlines():
            try:
                told = json.loads(line)
            except ValueError:
                continue  # it is being written, or was when the collector was killed
            for resource in told.get(signal_, ()):
                for scoped in resource[scope]:
                    yield from scoped[what]

    def spans(self) -> list[dict[str, Any]]:
        return list(self._got("resourceSpans", "scopeSpans", "spans"))

    def metrics(self) -> dict[str, dict[str, Any]]:
        return {metric["name"]: metric for metric in self._got("resourceMetrics", "scopeMetrics", "metrics")}


def attributes(span: dict[str, Any]) -> dict[str, Any]:
    """Plain values: in JSON whole numbers are texts."""
    return {told["key"]: _plain(told["value"]) for told in span["attributes"]}


def _plain(value: dict[str, Any]) -> Any:
    ((kind, told),) = value.items()
    if kind == "intValue":
        return int(told)
    if kind == "doubleValue":
        return float(told)
    return [_plain(item) for item in told["values"]] if kind == "arrayValue" else told


@pytest.fixture
async def otelcol(tmp_path: Path) -> Any:
    if not EXECUTABLE.exists():
        pytest.skip("the OpenTelemetry collector is not built: make deps")
    (tmp_path / "otelcol").mkdir()
    collector = OtelCollector(tmp_path / "otelcol")
    await collector.start()
    yield collector
    collector.kill()


async def calls_at(gateway: Gateway, count: int) -> None:
    for _ in range(count):
        status, _ = await call(gateway)
        assert status == 200


def whole_calls(otelcol: OtelCollector) -> list[dict[str, Any]]:
    return [span for span in otelcol.spans() if "headgate.team" in attributes(span)]


async def test_what_arrives_is_as_the_conventions_have_it(
    serve: StartGateway, simulator: Simulator, otelcol: OtelCollector
) -> None:
    gateway = await serve(policy_for(simulator.url), environ=otelcol.environ())
    await calls_at(gateway, 5)
    await eventually(lambda: len(otelcol.spans()) == 10, says=gateway.said)
    for span in otelcol.spans():
        (CALL if "headgate.team" in attributes(span) else ATTEMPT).check(attributes(span))
    parents = {span["spanId"] for span in whole_calls(otelcol)}
    assert {span["parentSpanId"] for span in otelcol.spans() if span["spanId"] not in parents} == parents

    def has_counted() -> bool:
        points = otelcol.metrics().get("headgate.requests", {}).get("sum", {}).get("dataPoints", ())
        return sum(float(point.get("asInt", point.get("asDouble"))) for point in points) == 5

    await eventually(has_counted, says=lambda: sorted(otelcol.metrics()))
    assert "gen_ai.client.token.usage" in otelcol.metrics()


async def test_one_that_hangs_or_dies_costs_no_call_and_gets_what_comes_after(
    serve: StartGateway, simulator: Simulator, otelcol: OtelCollector
) -> None:
    environ = {**otelcol.environ(), "OTEL_EXPORTER_OTLP_TIMEOUT": "500"}
    gateway = await serve(policy_for(simulator.url), environ=environ)
    await calls_at(gateway, 2)
    await eventually(lambda: len(whole_calls(otelcol)) == 2)
    otelcol.signal(signal.SIGSTOP)
    await calls_at(gateway, 3)
    await eventually(lambda: gateway.metric("headgate_otlp_exports_total", result="failed"))
    otelcol.signal(signal.SIGCONT)
    otelcol.kill()
    await calls_at(gateway, 3)
    await otelcol.start()
    came = len(whole_calls(otelcol))
    await calls_at(gateway, 2)
    await eventually(lambda: len(whole_calls(otelcol)) >= came + 2, says=gateway.said)
