"""Cost: what it costs, who spends it, on what."""

from __future__ import annotations

from dashboards import figures, panels
from dashboards.board import Board, Row
from dashboards.panels import GREEN, RED, YELLOW, Column, Query, lines, number, rows
from dashboards.queries import increase, mean, provider_of, rate, selector, share
from gateway.telemetry import table


def board() -> Board:
    """Where the money goes."""
    return Board(
        "cost",
        "Headgate / Cost",
        "What calls cost, who spends it and on what. Sums are of the time shown; exact amounts are in "
        "`headgate spend`.",
        [
            Row("In the time shown", _sums()),
            Row("Who spends it", _who()),
            Row("On what", _what()),
            Row("Tokens", _tokens()),
        ],
    )


def _sums() -> list[panels.PanelBuilder]:
    return [
        number(
            "Cost",
            "US dollars in the time shown.",
            panels.USD,
            Query(increase(table.COST), "cost"),
            decimals=2,
        ),
        number(
            "Cost per hour",
            "US dollars per hour, at the pace of the moment.",
            panels.USD_PER_HOUR,
            Query(figures.per_hour(rate(table.COST)), "cost"),
            decimals=2,
        ),
        number(
            "Cost per call",
            "US dollars for a call that went well, on average of the time shown.",
            panels.USD,
            Query(f"{increase(table.COST)} / ({increase(table.REQUESTS, outcome='ok')} > 0)", "cost"),
            decimals=5,
        ),
        number(
            "Cost per million tokens",
            "US dollars for a million tokens of any kind.",
            panels.USD,
            Query(figures.usd_per_million(), "cost"),
            decimals=2,
        ),
        number(
            "Read from a cache",
            "Share of input tokens that a provider read from its cache, mostly at a lower price.",
            panels.SHARE,
            Query(figures.cache_read_share(), "cached"),
            decimals=1,
        ),
        number(
            "Answers without a price",
            "Answers of targets whose price is not known: they cost nothing here. Give it under prices.",
            panels.COUNT,
            Query(increase(table.UNPRICED), "answers"),
            steps=[(None, GREEN), (1, YELLOW)],
            decimals=0,
        ),
    ]


def _who() -> list[panels.PanelBuilder]:
    spent = increase(table.COST, "team", "key")
    made = increase(table.REQUESTS, "team", "key")
    return [
        lines(
            "By team",
            "US dollars per hour.",
            panels.USD_PER_HOUR,
            Query(figures.per_hour(rate(table.COST, "team")), "{{team}}"),
            stacked=True,
        ),
        lines(
            "By key",
            "US dollars per hour, of callers' keys.",
            panels.USD_PER_HOUR,
            Query(figures.per_hour(rate(table.COST, "team", "key")), "{{team}} / {{key}}"),
            stacked=True,
        ),
        rows(
            "Keys",
            "What each key spent in the time shown, and on how many calls.",
            ["team", "key"],
            Column("Cost", panels.USD, spent),
            Column(
                "Share",
                panels.SHARE,
                f"{spent} / ignoring (team, key) group_left () ({increase(table.COST)} > 0)",
            ),
            Column("Calls", panels.COUNT, made),
            Column("Cost per call", panels.USD, f"{spent} / ({made} > 0)"),
        ),
        lines(
            "This week and last week",
            "US dollars per hour now, and at the same time a week ago.",
            panels.USD_PER_HOUR,
            Query(figures.per_hour(rate(table.COST)), "now"),
            Query(
                figures.per_hour(f"sum(rate({selector(table.COST)}[$__rate_interval] offset 1w))"),
                "a week ago",
            ),
        ),
        lines(
            "Billed beyond what was possible",
            "What providers billed beyond the most that a call could cost. More than 0: look at their bills.",
            panels.USD,
            Query(increase(table.OVERSHOOT, window="$__rate_interval"), "overshoot"),
            steps=[(None, GREEN), (0.01, RED)],
        ),
    ]


def _what() -> list[panels.PanelBuilder]:
    return [
        lines(
            "By model",
            "US dollars per hour, by the model that callers name.",
            panels.USD_PER_HOUR,
            Query(figures.per_hour(rate(table.COST, "model")), "{{model}}"),
            stacked=True,
        ),
        lines(
            "By target",
            "US dollars per hour, by provider and model there.",
            panels.USD_PER_HOUR,
            Query(figures.per_hour(rate(table.COST, "target")), "{{target}}"),
            stacked=True,
        ),
        rows(
            "Targets",
            "What each target cost in the time shown.",
            ["provider", "target", "model"],
            Column("Cost", panels.USD, provider_of(increase(table.COST, "target", "model"))),
            Column("Per million tokens", panels.USD, provider_of(figures.usd_per_million("target", "model"))),
            Column("Without a price", panels.COUNT, provider_of(increase(table.UNPRICED, "target", "model"))),
        ),
    ]


def _tokens() -> list[panels.PanelBuilder]:
    return [
        lines(
            "Tokens by kind",
            "Tokens per second. Kinds are disjoint and add up to the providers' totals.",
            panels.TOKENS_PER_SECOND,
            Query(rate(table.TOKENS, "kind"), "{{kind}}"),
            stacked=True,
        ),
        lines(
            "Tokens by team",
            "Tokens of any kind per second.",
            panels.TOKENS_PER_SECOND,
            Query(rate(table.TOKENS, "team"), "{{team}}"),
            stacked=True,
        ),
        lines(
            "Read from a cache by model",
            "Share of input tokens that was read from the provider's cache, by model.",
            panels.SHARE,
            Query(figures.cache_read_share("model"), "{{model}}"),
            most=1,
        ),
        lines(
            "Reasoning",
            "Share of output tokens that is reasoning, by model: paid for, and not shown.",
            panels.SHARE,
            Query(
                share(
                    rate(table.TOKENS, "model", kind="reasoning"),
                    rate(table.TOKENS, "model", kind="~output|reasoning|audio_output"),
                ),
                "{{model}}",
            ),
            most=1,
        ),
        lines(
            "Tokens per call",
            "Input and output tokens of a call, on average.",
            panels.COUNT,
            Query(mean(table.GEN_AI_TOKEN_USAGE, "gen_ai_token_type"), "{{gen_ai_token_type}}"),
            width=24,
        ),
    ]
