"""The metric table: every metric that Headgate emits, in one place.

Values are whole numbers in slots (`telemetry.slots`); what is exposed is slot times `scale`. Buckets of
the `gen_ai_*` metrics are the advisory boundaries of the OpenTelemetry GenAI conventions, v1.41.
"""

from __future__ import annotations

from gateway.telemetry import drift_table, probe_table
from gateway.telemetry.metric import NANO, Metric

_SECONDS = tuple(0.01 * 2**power for power in range(14))
_FIRST_TOKEN = (
    0.001,
    0.005,
    0.01,
    0.02,
    0.04,
    0.06,
    0.08,
    0.1,
    0.25,
    0.5,
    0.75,
    1.0,
    2.5,
    5.0,
    7.5,
    10.0,
    15.0,
    20.0,
    30.0,
    60.0,
)
_PER_TOKEN = (0.01, 0.025, 0.05, 0.075, 0.1, 0.15, 0.2, 0.3, 0.4, 0.5, 0.75, 1.0, 2.5)
_WAITS = (0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0)
_OVERHEAD = (0.00001, 0.000025, 0.00005, 0.0001, 0.00025, 0.0005, 0.001, 0.0025, 0.005, 0.01, 0.05, 0.25, 1.0)
_TOKENS = tuple(float(4**power) for power in range(14))
_GEN_AI = (
    "gen_ai_operation_name",
    "gen_ai_provider_name",
    "gen_ai_original_model",
    "gen_ai_request_model",
    "gen_ai_response_model",
)

REQUESTS = Metric(
    "headgate_requests_total",
    "counter",
    "",
    ("team", "key", "model", "target", "outcome", "error_type"),
    "Calls by how they ended: ok, refused, upstream_failed or caller_gone.",
)
ATTEMPTS = Metric(
    "headgate_attempts_total",
    "counter",
    "",
    ("model", "target", "outcome"),
    "Attempts at targets: ok, or what they failed of.",
)
RETRIES = Metric(
    "headgate_retries_total", "counter", "", ("model", "target"), "Attempts made again at a target."
)
FALLBACKS = Metric(
    "headgate_fallbacks_total", "counter", "", ("model", "reason"), "Calls that went on to their next target."
)
COST = Metric(
    "headgate_cost_usd_total",
    "counter",
    "usd",
    ("team", "key", "model", "target"),
    "What answers cost, in US dollars.",
    scale=NANO,
)
TOKENS = Metric(
    "headgate_tokens_total",
    "counter",
    "tokens",
    ("team", "model", "target", "kind"),
    "Tokens by kind. Kinds are disjoint and add up to the provider's totals.",
)
UNPRICED = Metric(
    "headgate_unpriced_total", "counter", "", ("model", "target"), "Answers whose target has no known price."
)
OVERHEAD = Metric(
    "headgate_overhead_seconds",
    "histogram",
    "seconds",
    (),
    "Time added: last request byte in to first upstream byte out, first answer byte in to first byte out.",
    _OVERHEAD,
    NANO,
)
FIRST_TOKEN = Metric(
    "headgate_first_token_seconds",
    "histogram",
    "seconds",
    ("model", "target"),
    "Time from the request to the first content of a stream.",
    _FIRST_TOKEN,
    NANO,
)
UNKNOWN_EVENTS = Metric(
    "headgate_unknown_events_total",
    "counter",
    "",
    ("model", "target"),
    "Events of streams that Headgate has no word for and passed over; stderr names each type once.",
)
STREAM_STALLS = Metric(
    "headgate_stream_stalls_total",
    "counter",
    "",
    ("model", "target"),
    "Streams that stopped in mid-answer for longer than the policy allows.",
)
RETRY_BUDGET_EXHAUSTED = Metric(
    "headgate_retry_budget_exhausted_total",
    "counter",
    "",
    ("model",),
    "Retries that were not made because the model's retry budget was used up.",
)
CALLS_OPEN = Metric("headgate_calls_open", "gauge", "", (), "Calls that are under way now.")
CONNECTIONS_OPEN = Metric(
    "headgate_connections_open", "gauge", "", (), "Connections of callers that are open now."
)
CONNECTION_WAIT = Metric(
    "headgate_connection_wait_seconds",
    "histogram",
    "seconds",
    ("provider",),
    "How long calls waited for a new connection to a provider, or for one of those it may have.",
    _WAITS,
    NANO,
)
SHED = Metric(
    "headgate_shed_total",
    "counter",
    "",
    ("reason",),
    "Calls turned away because there is too much to do: calls, connections, memory of bodies (body_memory).",
)
STREAMS_OPEN = Metric("headgate_streams_open", "gauge", "", (), "Streams that are being relayed now.")
TARGET_STATE = Metric(
    "headgate_target_state",
    "gauge",
    "",
    ("model", "target"),
    "State of a target: 0 ejected, 1 on trial, 2 up.",
)
POLICY_RELOADS = Metric(
    "headgate_policy_reloads_total", "counter", "", ("result",), "Policy reloads: accepted or rejected."
)
POLICY_INFO = Metric("headgate_policy_info", "gauge", "", ("hash",), "1 for the policy in force.")
POLICY_AGE = Metric(
    "headgate_policy_age_seconds", "gauge", "seconds", (), "Time since the policy in force was put in force."
)
WORKER_RESTARTS = Metric(
    "headgate_worker_restarts_total", "counter", "", (), "Workers that died and were replaced."
)
STORE_ROUND_TRIPS = Metric(
    "headgate_store_round_trips_total",
    "counter",
    "",
    (),
    "Questions of the keeper to the store of limits and budgets.",
)
STORE_ROUND_TRIP = Metric(
    "headgate_store_round_trip_seconds",
    "histogram",
    "seconds",
    (),
    "How long the store of limits and budgets took to answer the keeper.",
    _WAITS,
    NANO,
)
STORE_OUTAGES = Metric(
    "headgate_store_outages_total",
    "counter",
    "",
    (),
    "How often the store of limits and budgets stopped answering.",
)
STORE_UP = Metric(
    "headgate_store_up", "gauge", "", (), "1 while the store of limits and budgets answers, else 0."
)
LIMIT_REFUSED = Metric(
    "headgate_limit_refused_total",
    "counter",
    "",
    ("limit", "mode"),
    "Calls that a limit or budget refused; in mode shadow, that it would have refused.",
)
LIMIT_USED = Metric(
    "headgate_limit_used_ratio",
    "gauge",
    "ratio",
    ("limit", "subject"),
    "How much of a limit is taken now, 0 to 1; of limits that are not per user or tag.",
)
PURSE_HITS = Metric(
    "headgate_purse_hits_total",
    "counter",
    "",
    ("hit",),
    "Calls under limits: hit true if the worker had what they need, false if it had to ask.",
)
OVERSHOOT = Metric(
    "headgate_budget_overshoot_usd_total",
    "counter",
    "usd",
    (),
    "What providers billed beyond the most that a call could cost: 0 unless one of them cheats.",
    scale=NANO,
)
_BUDGET = ("budget", "subject")
BUDGET_LIMIT = Metric(
    "headgate_budget_limit_usd",
    "gauge",
    "usd",
    _BUDGET,
    "What may be spent in the window under way, top-ups included.",
    scale=NANO,
)
BUDGET_HELD = Metric(
    "headgate_budget_held_usd",
    "gauge",
    "usd",
    _BUDGET,
    "The most that calls under way may still cost.",
    scale=NANO,
)
BUDGET_SPENT = Metric(
    "headgate_budget_spent_usd",
    "gauge",
    "usd",
    _BUDGET,
    "What is spent in the window under way.",
    scale=NANO,
)
BUDGET_STARTS = Metric(
    "headgate_budget_window_start_timestamp_seconds",
    "gauge",
    "seconds",
    ("budget",),
    "When the window under way began, since 1970; of budgets by the calendar.",
)
BUDGET_ENDS = Metric(
    "headgate_budget_window_end_timestamp_seconds",
    "gauge",
    "seconds",
    ("budget",),
    "When the window under way ends, since 1970; of budgets by the calendar.",
)
WEBHOOKS = Metric(
    "headgate_webhook_deliveries_total",
    "counter",
    "",
    ("result",),
    "Alerts sent to the policy's webhook: ok, or failed (and to be sent again).",
)
BUILD_INFO = Metric("headgate_build_info", "gauge", "", ("version", "python"), "1 for the version that runs.")
WORKERS_READY = Metric(
    "headgate_workers_ready",
    "gauge",
    "",
    (),
    "Workers that use the policy in force; as many as were asked for if all is well.",
)
LOOP_LAG = Metric(
    "headgate_loop_lag_seconds",
    "histogram",
    "seconds",
    ("process",),
    "How late a process comes to what is due: its own wait for the processor and for its longest callback.",
    _WAITS,
    NANO,
)
PROCESS_CPU = Metric(
    "headgate_process_cpu_seconds_total",
    "counter",
    "seconds",
    ("process",),
    "Processor time in user and system mode.",
    scale=NANO,
)
PROCESS_MEMORY = Metric(
    "headgate_process_resident_bytes",
    "gauge",
    "bytes",
    ("process",),
    "Memory of the processes that run now, shared pages counted in each.",
)
SERIES_OVERFLOW = Metric(
    "headgate_series_overflow_total",
    "counter",
    "",
    ("metric",),
    "Series that found no room of their own and count under _other.",
)
TRACES = Metric(
    "headgate_traces_total",
    "counter",
    "",
    ("kept",),
    "Calls whose spans are kept: sampled, or because of an error, or because they were slow.",
)
TRACE_DROPPED = Metric(
    "headgate_trace_dropped_total",
    "counter",
    "",
    ("where",),
    "Calls whose spans were lost: in a worker that found nobody to take them, or at the export.",
)
OTLP_EXPORTS = Metric(
    "headgate_otlp_exports_total",
    "counter",
    "",
    ("signal", "result"),
    "Messages to the OTLP endpoint: traces and metrics that it took (ok) or did not (failed).",
)
LOG_DROPPED = Metric(
    "headgate_log_dropped_total", "counter", "", (), "Log lines dropped because nobody took them in time."
)
GEN_AI_TOKEN_USAGE = Metric(
    "gen_ai_client_token_usage",
    "histogram",
    "tokens",
    (*_GEN_AI, "gen_ai_token_type"),
    "Tokens per call, input and output.",
    _TOKENS,
)
GEN_AI_OPERATION_DURATION = Metric(
    "gen_ai_client_operation_duration_seconds",
    "histogram",
    "seconds",
    (*_GEN_AI, "error_type"),
    "How long the provider took, as its client sees it.",
    _SECONDS,
    NANO,
)
GEN_AI_REQUEST_DURATION = Metric(
    "gen_ai_server_request_duration_seconds",
    "histogram",
    "seconds",
    (*_GEN_AI, "error_type"),
    "How long the whole call took, as its caller sees it.",
    _SECONDS,
    NANO,
)
GEN_AI_TIME_TO_FIRST_TOKEN = Metric(
    "gen_ai_server_time_to_first_token_seconds",
    "histogram",
    "seconds",
    _GEN_AI,
    "Time to the first content of a stream.",
    _FIRST_TOKEN,
    NANO,
)
GEN_AI_TIME_PER_OUTPUT_TOKEN = Metric(
    "gen_ai_server_time_per_output_token_seconds",
    "histogram",
    "seconds",
    _GEN_AI,
    "Time per output token after the first, for streams.",
    _PER_TOKEN,
    NANO,
)

_ROWS = (*list(globals().values()), *vars(drift_table).values(), *vars(probe_table).values())
ALL: tuple[Metric, ...] = tuple(value for value in _ROWS if isinstance(value, Metric))
BY_NAME: dict[str, Metric] = {metric.name: metric for metric in ALL}
