"""docs/metrics.md: every metric of the table, grouped, and those that no panel shows."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path

from dashboards import promql
from gateway.telemetry import drift_table, probe_table, table
from gateway.telemetry.metric import Metric

GROUPS: Mapping[str, tuple[Metric, ...]] = {
    "Calls": (
        table.REQUESTS,
        table.ATTEMPTS,
        table.RETRIES,
        table.RETRY_BUDGET_EXHAUSTED,
        table.FALLBACKS,
        table.STREAM_STALLS,
        table.UNKNOWN_EVENTS,
        table.SHED,
        table.TARGET_STATE,
    ),
    "Money and tokens": (table.COST, table.TOKENS, table.UNPRICED, table.OVERSHOOT),
    "Speed": (table.OVERHEAD, table.FIRST_TOKEN, table.CONNECTION_WAIT),
    "Limits and budgets": (
        table.LIMIT_REFUSED,
        table.LIMIT_USED,
        table.PURSE_HITS,
        table.BUDGET_LIMIT,
        table.BUDGET_HELD,
        table.BUDGET_SPENT,
        table.BUDGET_STARTS,
        table.BUDGET_ENDS,
        table.WEBHOOKS,
    ),
    "The store of limits and budgets": (
        table.STORE_UP,
        table.STORE_OUTAGES,
        table.STORE_ROUND_TRIPS,
        table.STORE_ROUND_TRIP,
    ),
    "Policy and processes": (
        table.POLICY_RELOADS,
        table.POLICY_INFO,
        table.POLICY_AGE,
        table.BUILD_INFO,
        table.WORKERS_READY,
        table.WORKER_RESTARTS,
        table.CALLS_OPEN,
        table.STREAMS_OPEN,
        table.CONNECTIONS_OPEN,
        table.LOOP_LAG,
        table.PROCESS_CPU,
        table.PROCESS_MEMORY,
    ),
    "Drift": (
        drift_table.DRIFT_STATE,
        drift_table.DRIFT_EVIDENCE,
        drift_table.DRIFT_CHANNEL_EVIDENCE,
        drift_table.DRIFT_EFFECT,
        drift_table.DRIFT_REFERENCE_VALUE,
        drift_table.DRIFT_CURRENT_VALUE,
        drift_table.DRIFT_CHANGEPOINT,
        drift_table.DRIFT_REFERENCE,
        drift_table.DRIFT_INPUT_EVIDENCE,
        drift_table.DRIFT_PERFORMANCE_EVIDENCE,
        drift_table.DRIFT_ALARMS,
        drift_table.DRIFT_ACTION,
        drift_table.DRIFT_ANALYZED,
        drift_table.DRIFT_SKIPPED,
        drift_table.DRIFT_FEATURE_SECONDS,
        drift_table.IDENTITY_CHANGES,
        drift_table.IDENTITY,
    ),
    "Probes": (
        probe_table.PROBE_EVIDENCE,
        probe_table.PROBE_PASSES,
        probe_table.PROBE_AGREEMENT,
        probe_table.PROBE_RUNS,
        probe_table.PROBE_COST,
    ),
    "What is told": (
        table.TRACES,
        table.TRACE_DROPPED,
        table.OTLP_EXPORTS,
        table.LOG_DROPPED,
        table.SERIES_OVERFLOW,
    ),
    "OpenTelemetry's GenAI conventions": (
        table.GEN_AI_TOKEN_USAGE,
        table.GEN_AI_OPERATION_DURATION,
        table.GEN_AI_REQUEST_DURATION,
        table.GEN_AI_TIME_TO_FIRST_TOKEN,
        table.GEN_AI_TIME_PER_OUTPUT_TOKEN,
    ),
}

_HEAD = """# Metrics

<!-- Made by `make dashboards` from gateway/telemetry/table.py; not to be edited. -->

What `GET /metrics` at the admin port says, for Prometheus and all that read its format. Counters end in
`_total` and never go back, whichever worker dies; histograms have `_bucket`, `_sum` and `_count`. Values of
labels are names of the policy: what a caller made up is `_other`, what is not known `_none`. `error_type`
begins with whose fault it was: `caller_`, `policy_`, `provider_` or `gateway_`; it is empty for calls that
went well.
"""


def text(boards: Mapping[Path, str]) -> str:
    """The document; `boards` are the dashboards' files with their text."""
    _complete()
    parts = [_HEAD]
    for title, metrics in GROUPS.items():
        parts.append(
            f"\n## {title}\n\n| name | kind | unit | labels | what it says |\n|---|---|---|---|---|\n"
        )
        parts += [_row(metric) for metric in metrics]
    unseen = sorted(set(table.BY_NAME) - shown(boards.values()))
    parts.append("\n## In no panel\n\n")
    parts += [f"- `{name}`\n" for name in unseen] or ["Every metric is in one.\n"]
    return "".join(parts)


def shown(boards: Iterable[str]) -> set[str]:
    """The names of metrics that dashboards ask for."""
    return {
        metric.name
        for board in boards
        for _, query in promql.queries_of(board)
        for selector in promql.selectors(promql.filled(query))
        if (metric := promql.metric_of(selector.name or "")) is not None
    }


def _row(metric: Metric) -> str:
    labels = ", ".join(f"`{label}`" for label in metric.labels)
    return f"| `{metric.name}` | {metric.kind} | {metric.unit} | {labels} | {metric.help} |\n"


def _complete() -> None:
    grouped = [metric.name for metrics in GROUPS.values() for metric in metrics]
    if sorted(grouped) != sorted(table.BY_NAME):
        raise ValueError(f"Not in one group each: {sorted(set(grouped) ^ set(table.BY_NAME))}")
