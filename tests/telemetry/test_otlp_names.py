"""Metrics under OpenTelemetry's names, and back."""

from __future__ import annotations

import pytest

from gateway.telemetry.metric import Metric
from gateway.telemetry.otlp_names import otlp_attribute, otlp_name, otlp_unit
from gateway.telemetry.table import ALL


def for_prometheus(metric: Metric) -> str:
    """What OpenTelemetry makes of a metric for Prometheus (specification, compatibility with Prometheus)."""
    name, unit = otlp_name(metric).replace(".", "_"), otlp_unit(metric)
    words = {"s": "_seconds", "By": "_bytes"}
    if unit == "1" and metric.kind == "gauge":
        name += "_ratio"
    name += words.get(unit, "")
    return name + "_total" if metric.kind == "counter" else name


@pytest.mark.parametrize("metric", ALL, ids=lambda metric: metric.name)
def test_a_collector_makes_of_it_the_name_in_the_table(metric: Metric) -> None:
    assert for_prometheus(metric) == metric.name


def test_names_of_the_conventions_are_theirs() -> None:
    names = {otlp_name(metric): otlp_unit(metric) for metric in ALL if metric.name.startswith("gen_ai")}
    assert names == {
        "gen_ai.client.token.usage": "{token}",
        "gen_ai.client.operation.duration": "s",
        "gen_ai.server.request.duration": "s",
        "gen_ai.server.time_to_first_token": "s",
        "gen_ai.server.time_per_output_token": "s",
    }
    assert len({otlp_name(metric) for metric in ALL}) == len(ALL)


def test_labels_are_attributes_of_the_conventions_or_ours() -> None:
    labels = {label: otlp_attribute(label) for metric in ALL for label in metric.labels}
    assert labels["gen_ai_request_model"] == "gen_ai.request.model"
    assert labels["error_type"] == "error.type"
    assert labels["team"] == "headgate.team"
    assert len(set(labels.values())) == len(labels)
