"""Limits and budgets: which limit bites, and how long the money lasts."""

from __future__ import annotations

from dashboards import figures, panels
from dashboards.board import Board, Row
from dashboards.panels import GREEN, RED, YELLOW, Column, Query, lines, number, rows
from dashboards.queries import increase, level, rate, share
from gateway.telemetry import table

_FILL: panels.Steps = [(None, GREEN), (0.8, YELLOW), (0.95, RED)]


def board() -> Board:
    """What is left, and who is refused."""
    return Board(
        "limits",
        "Headgate / Limits & budgets",
        "Which limit or budget refuses calls, how full each is and how long it lasts. Users are summed as "
        "_users and tags as _tags; `headgate budget list` has each.",
        [
            Row("Now", _now()),
            Row("Budgets", _budgets()),
            Row("Limits", _limits()),
            Row("How they are kept", _keeping()),
        ],
    )


def _now() -> list[panels.PanelBuilder]:
    hits = rate(table.PURSE_HITS, hit="true")
    return [
        number(
            "Refused",
            "Calls per second that a limit or budget refused.",
            panels.PER_SECOND,
            Query(rate(table.LIMIT_REFUSED, mode="enforce"), "refused"),
        ),
        number(
            "Would be refused",
            "Calls per second that a rule in mode shadow would have refused.",
            panels.PER_SECOND,
            Query(rate(table.LIMIT_REFUSED, mode="shadow"), "would be"),
        ),
        number(
            "Fullest limit",
            "How much is taken of the limit that has the least left.",
            panels.SHARE,
            Query(level(table.LIMIT_USED, how="max"), "used"),
            steps=_FILL,
            decimals=1,
        ),
        number(
            "Fullest budget",
            "How much is spent and held of the budget that has the least left.",
            panels.SHARE,
            Query(f"max({figures.budget_used()})", "used"),
            steps=_FILL,
            decimals=1,
        ),
        number(
            "Forecast",
            "The most that a budget will have spent at the end of its window, of its limit, if it goes on as "
            "in the window so far.",
            panels.SHARE,
            Query(f"max({figures.budget_forecast()})", "forecast"),
            steps=[(None, GREEN), (0.9, YELLOW), (1, RED)],
            decimals=0,
        ),
        number(
            "Decided in the worker",
            "Share of calls under limits for which the worker had all it needs; the others asked the keeper.",
            panels.SHARE,
            Query(share(hits, rate(table.PURSE_HITS)), "hits"),
            decimals=1,
        ),
    ]


def _budgets() -> list[panels.PanelBuilder]:
    return [
        rows(
            "Budgets",
            "The window under way. Forecast: spent at its end, of the limit, if it goes on as so far. Lasts: "
            "time until nothing is left. Rolling budgets have no end, and so neither.",
            ["budget", "subject"],
            Column("Used", panels.SHARE, figures.budget_used(), steps=_FILL),
            Column("Limit", panels.USD, figures.budget(table.BUDGET_LIMIT)),
            Column("Spent", panels.USD, figures.budget(table.BUDGET_SPENT)),
            Column("Held", panels.USD, figures.budget(table.BUDGET_HELD)),
            Column(
                "Forecast",
                panels.SHARE,
                figures.budget_forecast(),
                steps=[(None, GREEN), (0.9, YELLOW), (1, RED)],
            ),
            Column("Lasts", panels.SECONDS, figures.budget_lasts_s()),
        ),
        lines(
            "Used of budgets",
            "Spent and held, of the limit.",
            panels.SHARE,
            Query(figures.budget_used(), "{{budget}}: {{subject}}"),
            steps=_FILL,
        ),
        lines(
            "Held",
            "The most that calls under way may still cost. It comes back, but for what they do cost.",
            panels.USD,
            Query(figures.budget(table.BUDGET_HELD), "{{budget}}: {{subject}}"),
            stacked=True,
        ),
        lines(
            "Forecast by budget",
            "Spent at the end of the window, of the limit, if it goes on as in the window so far.",
            panels.SHARE,
            Query(figures.budget_forecast(), "{{budget}}: {{subject}}"),
            steps=[(None, GREEN), (1, RED)],
        ),
        lines(
            "Alerts sent",
            "Messages to the policy's webhook: taken, or failed and to be sent again.",
            panels.PER_SECOND,
            Query(rate(table.WEBHOOKS, "result"), "{{result}}"),
        ),
    ]


def _limits() -> list[panels.PanelBuilder]:
    limited = "~policy_(rate_limited|tokens_limited|budget_spent|budget_held)"
    return [
        lines(
            "Refused by limit",
            "Calls that a limit or budget refused, by its name in the policy.",
            panels.PER_SECOND,
            Query(rate(table.LIMIT_REFUSED, "limit", mode="enforce"), "{{limit}}"),
            stacked=True,
        ),
        lines(
            "Would be refused by limit",
            "The same for rules in mode shadow: what they would refuse if they were enforced.",
            panels.PER_SECOND,
            Query(rate(table.LIMIT_REFUSED, "limit", mode="shadow"), "{{limit}}"),
            stacked=True,
        ),
        lines(
            "Used of limits",
            "How much is taken now, of limits that are not per user or tag.",
            panels.SHARE,
            Query(level(table.LIMIT_USED, "limit", "subject", how="max"), "{{limit}}: {{subject}}"),
            steps=_FILL,
            most=1,
        ),
        lines(
            "Refused by team",
            "Calls that limits or budgets refused, by who made them and of what.",
            panels.PER_SECOND,
            Query(rate(table.REQUESTS, "team", "error_type", error_type=limited), "{{team}}: {{error_type}}"),
            stacked=True,
        ),
        rows(
            "Who is refused",
            "Calls in the time shown that limits or budgets refused, by key.",
            ["team", "key", "error_type"],
            Column(
                "Refused",
                panels.COUNT,
                increase(table.REQUESTS, "team", "key", "error_type", error_type=limited),
            ),
        ),
    ]


def _keeping() -> list[panels.PanelBuilder]:
    return [
        lines(
            "Where calls are decided",
            "Calls under limits: in the worker, or by asking the keeper first.",
            panels.PER_SECOND,
            Query(rate(table.PURSE_HITS, hit="true"), "in the worker"),
            Query(rate(table.PURSE_HITS, hit="false"), "asked the keeper"),
            stacked=True,
        ),
        lines(
            "Billed beyond what was possible",
            "US dollars that providers billed beyond the most that a call could cost.",
            panels.USD,
            Query(increase(table.OVERSHOOT, window="$__rate_interval"), "overshoot"),
            steps=[(None, GREEN), (0.01, RED)],
        ),
    ]
