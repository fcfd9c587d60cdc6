"""The OTEL_* variables: what is exported, who is sampled, and what cannot be read."""

from __future__ import annotations

import pytest

from gateway.control.otel_environment import OtelMistake, OtelSettings, read_otel
from gateway.policy.sampling import Sampling

ENDPOINT = {"OTEL_EXPORTER_OTLP_ENDPOINT": "http://c:4318"}


def read(**environ: str) -> tuple[OtelSettings, list[str]]:
    warnings: list[str] = []
    return read_otel(environ, warnings.append), warnings


@pytest.mark.parametrize(
    ("environ", "traces", "metrics"),
    [
        ({}, None, None),
        ({"OTEL_EXPORTER_OTLP_ENDPOINT": ""}, None, None),
        (ENDPOINT, "http/protobuf", "http/protobuf"),
        ({"OTEL_EXPORTER_OTLP_TRACES_ENDPOINT": "http://c"}, "http/protobuf", None),
        ({"OTEL_EXPORTER_OTLP_METRICS_ENDPOINT": "http://c"}, None, "http/protobuf"),
        ({**ENDPOINT, "OTEL_METRICS_EXPORTER": "none"}, "http/protobuf", None),
        ({**ENDPOINT, "OTEL_TRACES_EXPORTER": "none"}, None, "http/protobuf"),
        ({**ENDPOINT, "OTEL_SDK_DISABLED": "True"}, None, None),
        ({**ENDPOINT, "OTEL_EXPORTER_OTLP_PROTOCOL": "grpc"}, "grpc", "grpc"),
        ({**ENDPOINT, "OTEL_EXPORTER_OTLP_TRACES_PROTOCOL": "grpc"}, "grpc", "http/protobuf"),
    ],
)
def test_what_is_exported_and_how(environ: dict[str, str], traces: str | None, metrics: str | None) -> None:
    settings, warnings = read(**environ)
    assert (settings.traces, settings.metrics, warnings) == (traces, metrics, [])


@pytest.mark.parametrize(
    ("sampler", "argument", "sampling"),
    [
        ("", "", Sampling(0.1, parent_based=True)),
        ("", "0.5", Sampling(0.5, parent_based=True)),
        ("always_on", "0.5", Sampling(1.0, parent_based=False)),
        ("always_off", "", Sampling(0.0, parent_based=False)),
        ("traceidratio", "0.25", Sampling(0.25, parent_based=False)),
        ("traceidratio", "", Sampling(1.0, parent_based=False)),
        ("parentbased_always_on", "", Sampling(1.0, parent_based=True)),
        ("parentbased_always_off", "", Sampling(0.0, parent_based=True)),
        ("parentbased_traceidratio", "0", Sampling(0.0, parent_based=True)),
    ],
)
def test_who_is_sampled(sampler: str, argument: str, sampling: Sampling) -> None:
    settings, warnings = read(OTEL_TRACES_SAMPLER=sampler, OTEL_TRACES_SAMPLER_ARG=argument)
    assert (settings.sampling, warnings) == (sampling, [])


def test_numbers_are_milliseconds_and_counts() -> None:
    settings, warnings = read(
        OTEL_BSP_MAX_QUEUE_SIZE="9",
        OTEL_BSP_MAX_EXPORT_BATCH_SIZE="3",
        OTEL_BSP_SCHEDULE_DELAY="250",
        OTEL_METRIC_EXPORT_INTERVAL="1500",
        OTEL_EXPORTER_OTLP_TIMEOUT="2000",
        OTEL_EXPORTER_OTLP_TRACES_TIMEOUT="3000",
    )
    assert (settings.queue_calls, settings.batch_calls) == (9, 3)
    assert (settings.delay_s, settings.interval_s) == (0.25, 1.5)
    assert (settings.traces_timeout_s, settings.metrics_timeout_s, warnings) == (3.0, 2.0, [])


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("OTEL_BSP_MAX_QUEUE_SIZE", "many"),
        ("OTEL_BSP_SCHEDULE_DELAY", "-5"),
        ("OTEL_METRIC_EXPORT_INTERVAL", "000"),
        ("OTEL_TRACES_SAMPLER", "jaeger_remote"),
        ("OTEL_TRACES_SAMPLER_ARG", "10%"),
        ("OTEL_TRACES_SAMPLER_ARG", "nan"),
        ("OTEL_TRACES_EXPORTER", "console"),
    ],
)
def test_what_cannot_be_read_is_said_and_counts_as_not_given(name: str, value: str) -> None:
    settings, warnings = read(**{**ENDPOINT, name: value})
    assert settings == read(**ENDPOINT)[0]
    assert len(warnings) == 1 and name in warnings[0]
    assert repr(value) not in warnings[0]


def test_a_protocol_that_is_not_there_is_refused() -> None:
    with pytest.raises(OtelMistake, match="http/protobuf or grpc"):
        read(**ENDPOINT, OTEL_EXPORTER_OTLP_PROTOCOL="http/json")
