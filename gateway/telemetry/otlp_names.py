"""The rows of the metric table under OpenTelemetry's names, units and attributes.

What a collector makes of them for Prometheus (dots to underscores, the unit and `_total` at the end) is the
name in the table again, so that dashboards and rules work on either way; attributes of our own get the prefix
`headgate.` there.
"""

from __future__ import annotations

from gateway.telemetry.metric import Metric

_UNITS = {"seconds": "s", "bytes": "By", "usd": "{usd}", "tokens": "{token}", "ratio": "1"}
_SUFFIXED = ("seconds", "bytes", "ratio")
"""Units that come back as words at the end of a name; those in braces do not."""
_GEN_AI = {
    "gen_ai_client_token_usage": "gen_ai.client.token.usage",
    "gen_ai_client_operation_duration_seconds": "gen_ai.client.operation.duration",
    "gen_ai_server_request_duration_seconds": "gen_ai.server.request.duration",
    "gen_ai_server_time_to_first_token_seconds": "gen_ai.server.time_to_first_token",
    "gen_ai_server_time_per_output_token_seconds": "gen_ai.server.time_per_output_token",
}
"""Metrics of the GenAI conventions (v1.41)."""
_ATTRIBUTES = {
    "gen_ai_operation_name": "gen_ai.operation.name",
    "gen_ai_provider_name": "gen_ai.provider.name",
    "gen_ai_original_model": "gen_ai.original.model",
    "gen_ai_request_model": "gen_ai.request.model",
    "gen_ai_response_model": "gen_ai.response.model",
    "gen_ai_token_type": "gen_ai.token.type",
    "error_type": "error.type",
}


def otlp_name(metric: Metric) -> str:
    """`gen_ai.server.request.duration`, `headgate.cost_usd`."""
    known = _GEN_AI.get(metric.name)
    if known is not None:
        return known
    name = metric.name.removesuffix("_total").replace("headgate_", "headgate.", 1)
    return name.removesuffix(f"_{metric.unit}") if metric.unit in _SUFFIXED else name


def otlp_unit(metric: Metric) -> str:
    """UCUM: "s", "By", "1", "{token}"; "" for a gauge that only counts, to which "1" would add "_ratio"."""
    return _UNITS.get(metric.unit, "1" if metric.kind == "counter" else "")


def otlp_attribute(label: str) -> str:
    """`gen_ai.request.model`, `headgate.team`."""
    return _ATTRIBUTES.get(label, f"headgate.{label}")
