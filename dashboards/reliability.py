"""Reliability: what fails and why, what is done about it, and how the gateway itself is."""

from __future__ import annotations

from dashboards import figures, panels
from dashboards.board import Board, Row
from dashboards.panels import GREEN, RED, YELLOW, Query, lines, number
from dashboards.queries import level, quantile, rate, share
from gateway.telemetry import table

_TARGET = [(None, RED), (1.0, YELLOW), (2.0, GREEN)]


def board() -> Board:
    """What to look at when something fails."""
    return Board(
        "reliability",
        "Headgate / Reliability",
        "What fails, of what, and what the gateway does about it; then the gateway's own processes, its "
        "store and what it tells of itself.",
        [
            Row("Now", _now()),
            Row("Calls that fail", _failures()),
            Row("Attempts, retries, fallbacks", _attempts()),
            Row("The gateway's processes", _processes()),
            Row("The store of limits and budgets", _store()),
            Row("What is told of it", _telling()),
        ],
    )


def _now() -> list[panels.PanelBuilder]:
    return [
        number(
            "Good calls",
            "Share of calls that neither a provider nor the gateway failed.",
            panels.SHARE,
            Query(f"1 - {figures.failed_share()}", "good"),
            steps=[(None, RED), (0.95, YELLOW), (0.995, GREEN)],
            decimals=2,
        ),
        number(
            "Retries",
            "Attempts made again, per second.",
            panels.PER_SECOND,
            Query(rate(table.RETRIES), "retries"),
        ),
        number(
            "Fallbacks",
            "Share of calls that went on to their next target.",
            panels.SHARE,
            Query(share(rate(table.FALLBACKS), figures.calls()), "fallbacks"),
            steps=[(None, GREEN), (0.05, YELLOW), (0.2, RED)],
            decimals=1,
        ),
        number(
            "Stalls",
            "Streams per second that stopped in mid-answer.",
            panels.PER_SECOND,
            Query(rate(table.STREAM_STALLS), "stalls"),
        ),
        number(
            "Shed calls",
            "Calls per second turned away because there is too much to do.",
            panels.PER_SECOND,
            Query(rate(table.SHED), "shed"),
            steps=[(None, GREEN), (0.001, RED)],
        ),
        number(
            "Targets not up",
            "Targets that are ejected, or on trial after that.",
            panels.COUNT,
            Query(
                f"count({level(table.TARGET_STATE, 'model', 'target', how='min')} < 2) or vector(0)",
                "targets",
            ),
            steps=[(None, GREEN), (1, YELLOW)],
        ),
    ]


def _failures() -> list[panels.PanelBuilder]:
    by_fault = (
        f"label_replace({rate(table.REQUESTS, 'error_type', error_type='!')}, "
        '"fault", "$1", "error_type", "([a-z]+)_.*")'
    )
    return [
        lines(
            "Whose fault",
            "Calls without a good answer, by whose fault it is: caller, policy, provider or gateway.",
            panels.PER_SECOND,
            Query(f"sum by (fault) ({by_fault})", "{{fault}}"),
            stacked=True,
        ),
        lines(
            "Of what",
            "Calls that failed of a provider or the gateway, by error_type.",
            panels.PER_SECOND,
            Query(figures.failures("error_type"), "{{error_type}}"),
            stacked=True,
        ),
        lines(
            "Failed calls by model",
            "Share of a model's calls that failed of a provider or the gateway.",
            panels.SHARE,
            Query(figures.failed_share("model"), "{{model}}"),
            steps=[(None, GREEN), (0.05, RED)],
        ),
        lines(
            "Failed calls by team",
            "Share of a team's calls that failed of a provider or the gateway.",
            panels.SHARE,
            Query(figures.failed_share("team"), "{{team}}"),
            steps=[(None, GREEN), (0.05, RED)],
        ),
    ]


def _attempts() -> list[panels.PanelBuilder]:
    return [
        lines(
            "Attempts by outcome",
            "Attempts at targets: ok, or what they failed of.",
            panels.PER_SECOND,
            Query(rate(table.ATTEMPTS, "outcome"), "{{outcome}}"),
            stacked=True,
        ),
        lines(
            "Failed attempts by target",
            "Share of a target's attempts that brought no answer.",
            panels.SHARE,
            Query(figures.failed_attempts_share("target"), "{{target}}"),
            steps=[(None, GREEN), (0.1, RED)],
        ),
        lines(
            "Retries and fallbacks",
            "Attempts made again at the same target, and calls that went on to the next one, by reason.",
            panels.PER_SECOND,
            Query(rate(table.RETRIES, "target"), "again at {{target}}"),
            Query(rate(table.FALLBACKS, "reason"), "on after {{reason}}"),
        ),
        lines(
            "Retries that were not made",
            "Because the model's retry budget was used up: more calls would not help a provider in trouble.",
            panels.PER_SECOND,
            Query(rate(table.RETRY_BUDGET_EXHAUSTED, "model"), "{{model}}"),
        ),
        lines(
            "State of targets",
            "2 up, 1 on trial, 0 ejected.",
            panels.COUNT,
            Query(level(table.TARGET_STATE, "model", "target", how="min"), "{{model}}: {{target}}"),
            steps=_TARGET,
            most=2,
        ),
        lines(
            "Streams that stalled",
            "Streams that stopped in mid-answer for longer than the policy allows.",
            panels.PER_SECOND,
            Query(rate(table.STREAM_STALLS, "target"), "{{target}}"),
        ),
        lines(
            "Shed",
            "Calls turned away because there is too much to do: calls, connections or memory of bodies.",
            panels.PER_SECOND,
            Query(rate(table.SHED, "reason"), "{{reason}}"),
        ),
        lines(
            "Wait for a connection",
            "95 % of calls that needed a new connection, or had to wait for one, had it within this time.",
            panels.SECONDS,
            Query(quantile(0.95, table.CONNECTION_WAIT, "provider"), "{{provider}}"),
        ),
    ]


def _processes() -> list[panels.PanelBuilder]:
    return [
        lines(
            "Loop lag, p99",
            "How late a process comes to what is due. Much of it in workers is time that calls wait.",
            panels.SECONDS,
            Query(quantile(0.99, table.LOOP_LAG, "process"), "{{process}}"),
            steps=[(None, GREEN), (0.1, YELLOW), (0.5, RED)],
        ),
        lines(
            "Memory",
            "Resident memory, shared pages counted in each process.",
            panels.BYTES,
            Query(level(table.PROCESS_MEMORY, "process"), "{{process}}"),
            stacked=True,
        ),
        lines(
            "Processor",
            "Cores used.",
            panels.COUNT,
            Query(rate(table.PROCESS_CPU, "process"), "{{process}}"),
            stacked=True,
        ),
        lines(
            "Workers",
            "Workers that use the policy in force, and workers that died and were replaced, per second.",
            panels.COUNT,
            Query(level(table.WORKERS_READY, "instance"), "ready in {{instance}}"),
            Query(rate(table.WORKER_RESTARTS, "instance"), "restarts in {{instance}}"),
        ),
    ]


def _store() -> list[panels.PanelBuilder]:
    return [
        lines(
            "Round trips",
            "Questions of the keeper to the store, per second.",
            panels.PER_SECOND,
            Query(rate(table.STORE_ROUND_TRIPS), "round trips"),
        ),
        lines(
            "How long they take",
            "Time until the store had answered.",
            panels.SECONDS,
            *(
                Query(quantile(part, table.STORE_ROUND_TRIP), f"p{round(part * 100)}")
                for part in figures.QUANTILES
            ),
        ),
        lines(
            "Store answers",
            "1 while it answers, 0 while it is out.",
            panels.COUNT,
            Query(level(table.STORE_UP, "instance", how="min"), "{{instance}}"),
            most=1,
        ),
        lines(
            "Outages",
            "How often it stopped answering, per second.",
            panels.PER_SECOND,
            Query(rate(table.STORE_OUTAGES, "instance"), "{{instance}}"),
            steps=[(None, GREEN), (0.001, RED)],
        ),
    ]


def _telling() -> list[panels.PanelBuilder]:
    return [
        lines(
            "Dropped",
            "Log lines that nobody took in time, and calls whose spans were lost, per second.",
            panels.PER_SECOND,
            Query(rate(table.LOG_DROPPED), "log lines"),
            Query(rate(table.TRACE_DROPPED, "where"), "spans: {{where}}"),
            steps=[(None, GREEN), (0.001, RED)],
        ),
        lines(
            "Traces",
            "Calls whose spans are kept, by why.",
            panels.PER_SECOND,
            Query(rate(table.TRACES, "kept"), "{{kept}}"),
        ),
        lines(
            "Messages to the OTLP endpoint",
            "By signal, and whether it took them.",
            panels.PER_SECOND,
            Query(rate(table.OTLP_EXPORTS, "signal", "result"), "{{signal}}: {{result}}"),
        ),
        lines(
            "Series without room",
            "Series that count under _other because there are too many, by metric.",
            panels.COUNT,
            Query(rate(table.SERIES_OVERFLOW, "metric"), "{{metric}}"),
            steps=[(None, GREEN), (0.001, YELLOW)],
        ),
        lines(
            "Policy reloads",
            "Policies that were put in force, or were rejected, per second.",
            panels.PER_SECOND,
            Query(rate(table.POLICY_RELOADS, "result"), "{{result}}"),
        ),
        lines(
            "Policies in force",
            "Gateways by the policy they use. More than one hash for long: one of them does not follow.",
            panels.COUNT,
            Query(level(table.POLICY_INFO, "hash"), "{{hash}}"),
            stacked=True,
        ),
    ]
