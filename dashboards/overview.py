"""Overview: is all well, how much is going on, how fast, what does it cost."""

from __future__ import annotations

from dashboards import figures, panels
from dashboards.board import Board, Row
from dashboards.panels import GREEN, RED, YELLOW, Query, lines, number
from dashboards.queries import level, quantile, rate
from gateway.telemetry import table
from gateway.telemetry.metric import Metric

_UP = {"0": ("ejected", RED), "1": ("on trial", YELLOW), "2": ("up", GREEN)}


def board() -> Board:
    """The dashboard to look at first."""
    return Board(
        "overview",
        "Headgate / Overview",
        "Is all well, how much is going on, how fast, what does it cost. Team and model narrow what is "
        "counted by them; the rest is of the whole gateway.",
        [
            Row("Now", _now()),
            Row("Calls", _calls()),
            Row("Speed", _speed()),
            Row("Money and tokens", _money()),
        ],
    )


def _now() -> list[panels.PanelBuilder]:
    return [
        number("Calls", "Calls per second.", panels.PER_SECOND, Query(figures.calls(), "calls")),
        number(
            "Failed calls",
            "Share of calls that failed of a provider or of the gateway.",
            panels.SHARE,
            Query(figures.failed_share(), "failed"),
            steps=[(None, GREEN), (0.005, YELLOW), (0.05, RED)],
            decimals=2,
        ),
        number(
            "Cost per hour",
            "US dollars per hour, as it goes now.",
            panels.USD_PER_HOUR,
            Query(figures.per_hour(rate(table.COST)), "cost"),
            decimals=2,
        ),
        number(
            "First token, p95",
            "95 % of streams have their first content within this time.",
            panels.SECONDS,
            Query(quantile(0.95, table.FIRST_TOKEN), "p95"),
            steps=[(None, GREEN), (2.5, YELLOW), (5, RED)],
        ),
        number(
            "Overhead, p95",
            "95 % of calls wait no longer than this for the gateway itself.",
            panels.SECONDS,
            Query(quantile(0.95, table.OVERHEAD), "p95"),
            steps=[(None, GREEN), (0.01, YELLOW), (0.1, RED)],
        ),
        number(
            "Worst target",
            "State of the target that is worst off: ejected ones get no calls for a while.",
            panels.COUNT,
            Query(f"min({level(table.TARGET_STATE, 'model', 'target', how='min')})", "state"),
            words=_UP,
        ),
        number(
            "Fullest limit",
            "How much is taken of the limit that has the least left.",
            panels.SHARE,
            Query(level(table.LIMIT_USED, how="max"), "used"),
            steps=[(None, GREEN), (0.8, YELLOW), (0.95, RED)],
            decimals=1,
        ),
        number(
            "Fullest budget",
            "How much is spent and held of the budget that has the least left.",
            panels.SHARE,
            Query(f"max({figures.budget_used()})", "used"),
            steps=[(None, GREEN), (0.8, YELLOW), (0.95, RED)],
            decimals=1,
        ),
        number(
            "Calls under way",
            "Calls that are open now.",
            panels.COUNT,
            Query(level(table.CALLS_OPEN), "open"),
        ),
        number(
            "Workers ready",
            "Workers that use the policy in force.",
            panels.COUNT,
            Query(level(table.WORKERS_READY), "workers"),
            steps=[(None, RED), (1, GREEN)],
        ),
        number(
            "Policy in force for",
            "Time since the policy was last put in force, of the gateway where that is longest ago.",
            panels.SECONDS,
            Query(level(table.POLICY_AGE, how="max"), "age"),
        ),
        number(
            "Store of limits",
            "Whether the store of limits and budgets answers, everywhere.",
            panels.COUNT,
            Query(level(table.STORE_UP, how="min"), "up"),
            words={"0": ("down", RED), "1": ("up", GREEN)},
        ),
    ]


def _calls() -> list[panels.PanelBuilder]:
    return [
        lines(
            "Calls by outcome",
            "How calls ended: ok, refused (of the caller or a policy), upstream_failed, caller_gone.",
            panels.PER_SECOND,
            Query(figures.calls("outcome"), "{{outcome}}"),
            stacked=True,
        ),
        lines(
            "Calls by model",
            "Calls by the model that they were for, after routes.",
            panels.PER_SECOND,
            Query(figures.calls("model"), "{{model}}"),
            stacked=True,
        ),
        lines(
            "What fails, and of what",
            "Calls without a good answer. The first word says whose fault it is: caller, policy, provider or "
            "gateway.",
            panels.PER_SECOND,
            Query(rate(table.REQUESTS, "error_type", error_type="!"), "{{error_type}}"),
            stacked=True,
        ),
        lines(
            "Under way",
            "Calls, streams among them, and connections of callers that are open.",
            panels.COUNT,
            Query(level(table.CALLS_OPEN), "calls"),
            Query(level(table.STREAMS_OPEN), "streams"),
            Query(level(table.CONNECTIONS_OPEN), "connections"),
        ),
    ]


def _speed() -> list[panels.PanelBuilder]:
    return [
        _quantiles(
            "First token", "Time from the request to the first content of a stream.", table.FIRST_TOKEN
        ),
        _quantiles(
            "Time per token",
            "Time per output token after the first, for streams.",
            table.GEN_AI_TIME_PER_OUTPUT_TOKEN,
        ),
        _quantiles("Whole calls", "How long calls took, as callers see it.", table.GEN_AI_REQUEST_DURATION),
        _quantiles(
            "Overhead",
            "What the gateway adds: last request byte in to first upstream byte out, and the way back.",
            table.OVERHEAD,
        ),
    ]


def _quantiles(title: str, description: str, metric: Metric) -> panels.PanelBuilder:
    found = [Query(quantile(share, metric), f"p{round(share * 100)}") for share in figures.QUANTILES]
    return lines(title, description, panels.SECONDS, *found)


def _money() -> list[panels.PanelBuilder]:
    return [
        lines(
            "Cost per hour by team",
            "US dollars per hour, at the pace of the moment.",
            panels.USD_PER_HOUR,
            Query(figures.per_hour(rate(table.COST, "team")), "{{team}}"),
            stacked=True,
        ),
        lines(
            "Tokens by kind",
            "Tokens per second. Kinds are disjoint: cached input is not in input, reasoning not in output.",
            panels.TOKENS_PER_SECOND,
            Query(rate(table.TOKENS, "kind"), "{{kind}}"),
            stacked=True,
        ),
    ]
