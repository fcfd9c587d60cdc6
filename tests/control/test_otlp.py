"""Spans and metrics from a running gateway to a real OTLP receiver, also one that is down, slow or wrong."""

from __future__ import annotations

import asyncio
import json
import re
import time
from collections.abc import Iterator
from pathlib import Path

import aiohttp
import pytest
from opentelemetry.proto.trace.v1.trace_pb2 import Span, Status

from gateway.control.exemplars import Exemplars
from gateway.control.exposition import Exposition
from gateway.control.otel_environment import read_otel
from gateway.control.otlp import Otlp
from gateway.link.traces import pack, same
from gateway.simulator.server import Simulator
from gateway.telemetry.meters import ControlMeters
from gateway.telemetry.otlp_names import otlp_name
from gateway.telemetry.slots import SlotFile, read_slots
from gateway.telemetry.table import ALL
from tests.collector import Collector, attributes
from tests.conftest import StartGateway
from tests.control.conventions import ATTEMPT, CALL, METRICS
from tests.relaying import CHAT
from tests.running import KEY, Gateway, eventually, policy_for

RECORD = pack(
    (
        same({"operation": "chat", "model": "m", "team": "t", "key": "k", "policy": "p"}),
        "2" * 32, 1e9, (1.0, 0.0, 0.0, 0.0, 2.0), "refused", "policy_x", "", 403, 0, None,
        None, None, None, ("", ()), None,
    )
)  # fmt: skip
TRACE, SPAN = "0af7651916cd43dd8448eb211c80319c", "b7ad6b7169203331"


async def call(
    gateway: Gateway, *, headers: dict[str, str] | None = None, **fields: object
) -> tuple[int, str]:
    """One chat call: its status and its request id."""
    sent = {"authorization": f"Bearer {KEY}", **(headers or {})}
    url = f"{gateway.url}/chat/completions"
    async with aiohttp.request("POST", url, json={**CHAT, **fields}, headers=sent) as answer:
        await answer.read()
        return answer.status, answer.headers["x-request-id"]


@pytest.mark.parametrize("stream", [False, True])
async def test_a_call_arrives_as_the_conventions_have_it(
    serve: StartGateway, simulator: Simulator, collector: Collector, stream: bool
) -> None:
    gateway = await serve(
        policy_for(simulator.url), environ=collector.environ(OTEL_SERVICE_NAME="llm-gateway")
    )
    context = {"traceparent": f"00-{TRACE}-{SPAN}-01", "tracestate": "a=b"}
    _, request_id = await call(gateway, headers=context, temperature=1, max_tokens=7, stream=stream)
    await eventually(collector.calls)
    (span,) = collector.calls()
    assert (span.trace_id.hex(), span.parent_span_id.hex(), span.trace_state) == (TRACE, SPAN, "a=b")
    assert (span.name, span.kind) == ("chat gpt-4o-mini", Span.SPAN_KIND_CLIENT)
    told = attributes(span.attributes)
    CALL.check(told)
    usage = {name: told[name] for name in ("gen_ai.usage.input_tokens", "gen_ai.usage.output_tokens")}
    (line,) = await gateway.log_lines(1)
    assert list(usage.values()) == [line["input_tokens"], line["output_tokens"]]
    assert told["headgate.cost_usd"] == pytest.approx(line["cost_nanousd"] / 1e9)
    assert told["headgate.request_id"] == request_id
    assert told["gen_ai.request.temperature"] == 1.0 and told["gen_ai.request.max_tokens"] == 7
    assert told["gen_ai.response.finish_reasons"] == ["length"]
    assert told["server.port"] == int(simulator.url.rpartition(":")[2].partition("/")[0])
    assert ("gen_ai.response.time_to_first_chunk" in told) is stream
    (attempt,) = collector.attempts(span)
    ATTEMPT.check(attributes(attempt.attributes))
    assert simulator.requests[-1].header("traceparent") == f"00-{TRACE}-{attempt.span_id.hex()}-01"
    assert span.start_time_unix_nano <= attempt.start_time_unix_nano
    assert attempt.end_time_unix_nano <= span.end_time_unix_nano
    assert abs(span.end_time_unix_nano / 1e9 - time.time()) < 60
    assert collector.resources[0]["service.name"] == "llm-gateway"
    assert collector.resources[0]["service.instance.id"]


async def test_attempts_events_and_errors_arrive(
    serve: StartGateway, simulator: Simulator, collector: Collector
) -> None:
    model = "  pair: {targets: [upstream/a, upstream/b], retries: {attempts: 1}}"
    gateway = await serve(policy_for(simulator.url, models=model), environ=collector.environ())
    faults = {"by_model": {"a": {"fault": "status_500"}, "b": {"fault": "status_400"}}}
    assert (await call(gateway, model="pair", simulate=faults))[0] == 400
    assert (await call(gateway, model="invented"))[0] == 404
    await eventually(lambda: len(collector.calls()) == 2)
    failed, refused = sorted(collector.calls(), key=lambda span: span.start_time_unix_nano)
    attempts = collector.attempts(failed)
    told = [attributes(span.attributes) for span in attempts]
    for one in told:
        ATTEMPT.check(one)
    assert [
        (one["headgate.target"], one["error.type"], one["http.response.status_code"]) for one in told
    ] == [
        ("upstream/a", "server_error", 500),
        ("upstream/a", "server_error", 500),
        ("upstream/b", "refused", 400),
    ]
    assert [one.get("http.request.resend_count") for one in told] == [None, 1, 2]
    assert [event.name for event in failed.events] == ["headgate.retry", "headgate.fallback"]
    assert failed.status.code == refused.status.code == Status.STATUS_CODE_ERROR
    CALL.check(attributes(failed.attributes))
    CALL.check(attributes(refused.attributes))
    assert attributes(refused.attributes)["error.type"] == "policy_model_unknown"
    assert [event.name for event in refused.events] == ["headgate.refusal"]
    assert refused.name == "chat _other"


async def test_metrics_are_those_of_a_scrape(
    serve: StartGateway, simulator: Simulator, collector: Collector
) -> None:
    started_ns = time.time_ns()
    gateway = await serve(policy_for(simulator.url), workers=2, environ=collector.environ())
    for _ in range(5):
        await call(gateway)
    name = "gen_ai.server.request.duration"

    def counted() -> int:
        metric = collector.metrics.get(name)
        return 0 if metric is None else sum(point.count for point in metric.histogram.data_points)

    await eventually(lambda: counted() == 5)
    assert collector.metrics.keys() <= {otlp_name(metric) for metric in ALL}
    (point,) = collector.metrics[name].histogram.data_points
    assert sum(point.bucket_counts) == 5
    assert len(point.bucket_counts) == len(point.explicit_bounds) + 1
    assert point.sum == pytest.approx(await gateway.metric("gen_ai_server_request_duration_seconds_sum"))
    assert not point.HasField("min") and not point.HasField("max")
    assert started_ns <= point.start_time_unix_nano < point.time_unix_nano
    for metric_name, names in METRICS.items():
        data = collector.metrics[metric_name]
        for each in data.histogram.data_points:
            names.check(attributes(each.attributes))
    (cost,) = collector.metrics["headgate.cost_usd"].sum.data_points
    assert cost.as_double == pytest.approx(await gateway.metric("headgate_cost_usd_total"))
    assert collector.metrics["headgate.cost_usd"].unit == "{usd}"
    assert attributes(cost.attributes) == {
        "headgate.team": "search", "headgate.key": "app", "headgate.model": "gpt-4o-mini",
        "headgate.target": "upstream/gpt-4o-mini",
    }  # fmt: skip


async def test_a_collector_that_dies_or_hangs_delays_no_call_and_is_served_again(
    serve: StartGateway, simulator: Simulator, collector: Collector
) -> None:
    environ = collector.environ(
        OTEL_EXPORTER_OTLP_TIMEOUT="300", OTEL_BSP_MAX_QUEUE_SIZE="4", OTEL_METRICS_EXPORTER="none"
    )
    gateway = await serve(policy_for(simulator.url), environ=environ)
    await call(gateway)
    await eventually(collector.calls)

    async def dropped() -> float:
        return await gateway.metric("headgate_trace_dropped_total", where="export")

    await collector.stop()
    for _ in range(30):
        assert (await call(gateway))[0] == 200

    async def all_dropped() -> bool:
        return await dropped() == 30

    await eventually(all_dropped)
    assert await gateway.metric("headgate_otlp_exports_total", signal="traces", result="failed") > 0
    assert gateway.said().count("could not be sent to the OTLP endpoint") == 1

    await collector.start()
    collector.open.clear()
    asked = collector.asked
    for _ in range(30):
        assert (await call(gateway))[0] == 200
    await eventually(lambda: collector.asked > asked)

    async def more_dropped() -> bool:
        return await dropped() > 30

    await eventually(more_dropped)

    collector.open.set()
    collector.spans.clear()
    _, request_id = await call(gateway)

    async def arrived() -> bool:
        nonlocal request_id
        if any(span.trace_id.hex() == request_id for span in collector.spans):
            return True
        # This one may have come while the queue was still full.
        _, request_id = await call(gateway)
        await asyncio.sleep(0.1)
        return False

    await eventually(arrived)
    assert gateway.said().count("could not be sent to the OTLP endpoint") == 1
    assert await gateway.metric("headgate_requests_total", outcome="ok") == len(gateway.logged())


async def test_what_is_left_is_sent_at_the_end(
    serve: StartGateway, simulator: Simulator, collector: Collector
) -> None:
    late = collector.environ(OTEL_BSP_SCHEDULE_DELAY="60000", OTEL_METRIC_EXPORT_INTERVAL="60000")
    gateway = await serve(policy_for(simulator.url), environ=late)
    await call(gateway)
    assert collector.asked == 0
    assert await asyncio.to_thread(gateway.stop) == 0
    assert len(collector.calls()) == 1
    assert "headgate.requests" in collector.metrics


def sender(folder: Path, environ: dict[str, str], monkeypatch: pytest.MonkeyPatch) -> Otlp:
    """What sends in control, in this process: OpenTelemetry's exporters read the environment themselves. Its
    counters stand in `folder / "slots" / "control"`."""
    for name, value in environ.items():
        monkeypatch.setenv(name, value)
    (folder / "slots").mkdir()
    exemplars = Exemplars()
    return Otlp(
        read_otel(environ, pytest.fail),
        lambda: None,
        Exposition(folder / "slots", lambda: (), exemplars),
        exemplars,
        ControlMeters(SlotFile.create(folder / "slots" / "control", slots=4096)),
        listen="here",
        started_ms=1,
    )


async def test_the_end_does_not_wait_for_a_collector_that_hangs(
    tmp_path: Path, collector: Collector, monkeypatch: pytest.MonkeyPatch
) -> None:
    # Longer than this test may take.
    environ = collector.environ(OTEL_EXPORTER_OTLP_TIMEOUT="600000", OTEL_BSP_SCHEDULE_DELAY="60000")
    collector.open.clear()
    otlp = sender(tmp_path, environ, monkeypatch)
    for _ in range(600):
        otlp.take(RECORD)
    await eventually(lambda: collector.asked > 0)
    await asyncio.to_thread(otlp.close, 0.1)
    # One batch is under way; the others were still here.
    assert dict(told_of(tmp_path / "slots" / "control"))["headgate_trace_dropped_total"] == 600 - 512


def told_of(path: Path) -> Iterator[tuple[str, int]]:
    return ((name, values[0]) for name, _, values in read_slots(path))


@pytest.mark.parametrize("status", [400, 401, 404, 500])
async def test_a_collector_that_refuses_is_told_apart(
    tmp_path: Path,
    collector: Collector,
    monkeypatch: pytest.MonkeyPatch,
    capfd: pytest.CaptureFixture[str],
    status: int,
) -> None:
    collector.status = status
    environ = collector.environ(OTEL_METRICS_EXPORTER="none", OTEL_EXPORTER_OTLP_TIMEOUT="300")
    otlp = sender(tmp_path, environ, monkeypatch)
    otlp.take(RECORD)
    said: list[str] = []

    def is_said() -> bool:
        said.append(capfd.readouterr().err)
        return f"OTLP endpoint: status {status}" in "".join(said)

    await eventually(is_said, says=lambda: "".join(said))
    await asyncio.to_thread(otlp.close, 0.1)


async def test_exemplars_lead_from_a_bucket_to_a_trace(
    serve: StartGateway, simulator: Simulator, collector: Collector
) -> None:
    gateway = await serve(policy_for(simulator.url), environ=collector.environ())
    _, request_id = await call(gateway, stream=True)
    await eventually(collector.calls)
    wants = {"accept": "application/openmetrics-text; version=1.0.0"}
    pattern = rb'^(\w+)_bucket{.*# {trace_id="%b"} [0-9.e-]+ [0-9.]+$' % request_id.encode()

    async def shown() -> bool:
        async with aiohttp.request("GET", f"{gateway.admin}/metrics", headers=wants) as answer:
            found = re.findall(pattern, await answer.read(), re.MULTILINE)
            return sorted(found) == [
                b"gen_ai_server_request_duration_seconds", b"gen_ai_server_time_to_first_token_seconds",
            ]  # fmt: skip

    await eventually(shown)
    async with aiohttp.request("GET", f"{gateway.admin}/metrics") as answer:
        assert "trace_id" not in await answer.text()


async def test_standard_variables_are_heeded(
    serve: StartGateway, simulator: Simulator, collector: Collector
) -> None:
    environ = collector.environ(
        OTEL_EXPORTER_OTLP_HEADERS="authorization=Bearer%20mine",
        OTEL_EXPORTER_OTLP_COMPRESSION="gzip",
        OTEL_RESOURCE_ATTRIBUTES="deployment.environment.name=test,service.name=named",
    )
    gateway = await serve(policy_for(simulator.url), environ=environ)
    await call(gateway)
    await eventually(collector.calls)
    assert collector.headers[0]["authorization"] == "Bearer mine"
    assert collector.headers[0]["content-encoding"] == "gzip"
    assert collector.resources[0]["deployment.environment.name"] == "test"
    assert collector.resources[0]["service.name"] == "named"


@pytest.mark.parametrize(
    "more", [{"OTEL_SDK_DISABLED": "true"}, {"OTEL_TRACES_EXPORTER": "none", "OTEL_METRICS_EXPORTER": "none"}]
)
async def test_nothing_is_sent_if_it_is_turned_off(
    serve: StartGateway, simulator: Simulator, collector: Collector, more: dict[str, str]
) -> None:
    gateway = await serve(policy_for(simulator.url), environ=collector.environ(**more))
    await call(gateway)
    await gateway.log_lines(1)
    assert simulator.requests[-1].header("traceparent") is None
    assert await asyncio.to_thread(gateway.stop) == 0
    assert collector.asked == 0


async def test_grpc_without_its_extra_is_said_at_once(tmp_path: Path, collector: Collector) -> None:
    environ = collector.environ(OTEL_EXPORTER_OTLP_PROTOCOL="grpc")
    gateway = Gateway(tmp_path, policy_for("http://127.0.0.1:1/v1"), environ=environ)
    gateway.start()
    assert gateway.process is not None
    assert await asyncio.to_thread(gateway.process.wait, 20) == 2
    assert "headgate[grpc]" in gateway.said()


async def test_content_is_there_for_the_keys_that_the_policy_names_without_what_it_redacts(
    serve: StartGateway, simulator: Simulator, collector: Collector
) -> None:
    rest = "telemetry: {content: {keys: [app], redact: ['[0-9]{4}-[0-9]{4}']}}"
    gateway = await serve(policy_for(simulator.url, rest=rest), environ=collector.environ())
    messages = [{"role": "user", "content": "My card is 1234-5678, where is the river?"}]
    await call(gateway, messages=messages)
    await call(gateway, messages=messages, stream=True)
    await eventually(lambda: len(collector.calls()) == 2)
    for span in collector.calls():
        told = attributes(span.attributes)
        CALL.check(told)
        (asked,) = json.loads(told["gen_ai.input.messages"])
        text = "My card is [redacted], where is the river?"
        assert asked == {"role": "user", "parts": [{"type": "text", "content": text}]}
        (answered,) = json.loads(told["gen_ai.output.messages"])
        assert answered["role"] == "assistant" and answered["finish_reason"] in ("stop", "length")
        assert answered["parts"][0]["content"]
