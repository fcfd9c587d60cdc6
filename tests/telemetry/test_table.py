"""The metric table: the names, labels and buckets that dashboards and alert rules rely on."""

from __future__ import annotations

import re
from itertools import pairwise

import pytest

from gateway.telemetry import table
from gateway.telemetry.metric import Metric
from gateway.telemetry.table import ALL, BY_NAME

GEN_AI = " ".join(
    f"gen_ai_{label}"
    for label in ("operation_name", "provider_name", "original_model", "request_model", "response_model")
)
LABELS = {
    "headgate_requests_total": "team key model target outcome error_type",
    "headgate_attempts_total": "model target outcome",
    "headgate_retries_total": "model target",
    "headgate_fallbacks_total": "model reason",
    "headgate_cost_usd_total": "team key model target",
    "headgate_tokens_total": "team model target kind",
    "headgate_unpriced_total": "model target",
    "headgate_overhead_seconds": "",
    "headgate_first_token_seconds": "model target",
    "headgate_stream_stalls_total": "model target",
    "headgate_unknown_events_total": "model target",
    "headgate_retry_budget_exhausted_total": "model",
    "headgate_calls_open": "",
    "headgate_connections_open": "",
    "headgate_connection_wait_seconds": "provider",
    "headgate_shed_total": "reason",
    "headgate_streams_open": "",
    "headgate_target_state": "model target",
    "headgate_policy_reloads_total": "result",
    "headgate_policy_info": "hash",
    "headgate_policy_age_seconds": "",
    "headgate_worker_restarts_total": "",
    "headgate_store_round_trips_total": "",
    "headgate_store_round_trip_seconds": "",
    "headgate_store_outages_total": "",
    "headgate_store_up": "",
    "headgate_limit_used_ratio": "limit subject",
    "headgate_limit_refused_total": "limit mode",
    "headgate_purse_hits_total": "hit",
    "headgate_budget_overshoot_usd_total": "",
    "headgate_budget_limit_usd": "budget subject",
    "headgate_budget_held_usd": "budget subject",
    "headgate_budget_spent_usd": "budget subject",
    "headgate_budget_window_start_timestamp_seconds": "budget",
    "headgate_budget_window_end_timestamp_seconds": "budget",
    "headgate_webhook_deliveries_total": "result",
    "headgate_build_info": "version python",
    "headgate_workers_ready": "",
    "headgate_loop_lag_seconds": "process",
    "headgate_process_cpu_seconds_total": "process",
    "headgate_process_resident_bytes": "process",
    "headgate_series_overflow_total": "metric",
    "headgate_traces_total": "kept",
    "headgate_trace_dropped_total": "where",
    "headgate_otlp_exports_total": "signal result",
    "headgate_log_dropped_total": "",
    "headgate_drift_state": "model target",
    "headgate_drift_log10_evidence": "model target",
    "headgate_drift_channel_log10_evidence": "model target channel",
    "headgate_drift_effect": "model target channel",
    "headgate_drift_reference_value": "model target channel",
    "headgate_drift_current_value": "model target channel",
    "headgate_drift_changepoint_timestamp_seconds": "model target",
    "headgate_drift_reference_responses": "model target",
    "headgate_drift_input_log10_evidence": "model target",
    "headgate_drift_performance_log10_evidence": "model target",
    "headgate_drift_alarms_total": "model target kind cause",
    "headgate_drift_action": "model target",
    "headgate_drift_analyzed_total": "model target",
    "headgate_drift_skipped_total": "reason",
    "headgate_drift_feature_seconds": "",
    "headgate_probe_log10_evidence": "suite target",
    "headgate_probe_pass_ratio": "suite target",
    "headgate_probe_agreement_ratio": "suite target",
    "headgate_probe_runs_total": "suite target result",
    "headgate_probe_cost_usd_total": "suite target",
    "headgate_model_identity_changes_total": "model target field",
    "headgate_model_identity_info": "model target field value",
    "gen_ai_client_token_usage": f"{GEN_AI} gen_ai_token_type",
    "gen_ai_client_operation_duration_seconds": f"{GEN_AI} error_type",
    "gen_ai_server_request_duration_seconds": f"{GEN_AI} error_type",
    "gen_ai_server_time_to_first_token_seconds": GEN_AI,
    "gen_ai_server_time_per_output_token_seconds": GEN_AI,
}
"""What is published is kept: a change here breaks somebody's dashboard and belongs into CHANGES.md."""

HISTOGRAMS = [metric for metric in ALL if metric.kind == "histogram"]


def name_of(metric: Metric) -> str:
    return metric.name


def test_names_and_labels_are_those_that_were_promised() -> None:
    assert {metric.name: " ".join(metric.labels) for metric in ALL} == LABELS


def test_every_metric_is_in_the_table_once() -> None:
    assert len(ALL) == len(BY_NAME)
    assert all(BY_NAME[metric.name] is metric for metric in ALL)


@pytest.mark.parametrize("metric", ALL, ids=name_of)
def test_metric_is_what_its_name_says(metric: Metric) -> None:
    assert metric.name.endswith("_total") is (metric.kind == "counter")
    assert metric.kind in ("counter", "gauge", "histogram")
    assert re.fullmatch(r"[a-z][a-z0-9_]*", metric.name)
    assert all(re.fullmatch(r"[a-z][a-z0-9_]*", label) for label in metric.labels)
    assert len(set(metric.labels)) == len(metric.labels)
    assert metric.help.endswith(".")
    if metric.unit:
        assert metric.unit in metric.name or metric.name == "gen_ai_client_token_usage"


@pytest.mark.parametrize("metric", HISTOGRAMS, ids=name_of)
def test_buckets_rise_and_have_no_infinity(metric: Metric) -> None:
    assert metric.buckets
    assert all(low < high for low, high in pairwise(metric.buckets))
    assert metric.buckets[0] > 0
    assert metric.buckets[-1] < float("inf")


def test_only_histograms_have_buckets() -> None:
    assert all(metric.buckets == () for metric in ALL if metric.kind != "histogram")


@pytest.mark.parametrize("metric", ALL, ids=name_of)
def test_seconds_and_dollars_are_kept_in_billionths(metric: Metric) -> None:
    fine = metric.unit == "usd" or (metric.unit == "seconds" and metric.kind != "gauge")
    assert metric.scale == (1e-9 if fine else 1.0)


def test_gen_ai_buckets_are_those_of_the_conventions() -> None:
    assert table.GEN_AI_TOKEN_USAGE.buckets == (
        1, 4, 16, 64, 256, 1024, 4096, 16384, 65536, 262144, 1048576, 4194304, 16777216, 67108864,
    )  # fmt: skip
    durations = (0.01, 0.02, 0.04, 0.08, 0.16, 0.32, 0.64, 1.28, 2.56, 5.12, 10.24, 20.48, 40.96, 81.92)
    assert table.GEN_AI_OPERATION_DURATION.buckets == durations
    assert table.GEN_AI_REQUEST_DURATION.buckets == durations
    # The conventions end at 10 s, which a long prompt takes; the rest is ours.
    assert table.GEN_AI_TIME_TO_FIRST_TOKEN.buckets[:16] == (
        0.001, 0.005, 0.01, 0.02, 0.04, 0.06, 0.08, 0.1, 0.25, 0.5, 0.75, 1.0, 2.5, 5.0, 7.5, 10.0,
    )  # fmt: skip
    assert table.GEN_AI_TIME_PER_OUTPUT_TOKEN.buckets == (
        0.01, 0.025, 0.05, 0.075, 0.1, 0.15, 0.2, 0.3, 0.4, 0.5, 0.75, 1.0, 2.5,
    )  # fmt: skip


def test_overhead_is_told_apart_from_ten_microseconds_on() -> None:
    assert table.OVERHEAD.buckets[0] == 0.00001
    assert sum(bound <= 0.001 for bound in table.OVERHEAD.buckets) >= 6
