"""Provider comparison: the same questions to every provider, target and key."""

from __future__ import annotations

from dashboards import figures, panels
from dashboards.board import Board, Row
from dashboards.panels import GREEN, RED, YELLOW, Column, Query, bars, lines, rows
from dashboards.queries import increase, mean, provider_of, quantile, rate
from gateway.telemetry import table

_FAILED: panels.Steps = [(None, GREEN), (0.02, YELLOW), (0.1, RED)]
_PROVIDER, _SERVED = "gen_ai_provider_name", "gen_ai_response_model"


def board() -> Board:
    """Who serves best."""
    return Board(
        "providers",
        "Headgate / Provider comparison",
        "Speed, failures and price of every provider and target, and of callers' keys.",
        [
            Row("Side by side", _tables()),
            Row("Speed", _speed()),
            Row("Failures", _failures()),
            Row("Price", _price()),
        ],
    )


def _tables() -> list[panels.PanelBuilder]:
    made = increase(table.ATTEMPTS, "target")
    return [
        rows(
            "Targets",
            "Every target in the time shown; shares and speeds are those of the moment.",
            ["provider", "target"],
            Column("Attempts", panels.COUNT, provider_of(made)),
            Column(
                "Failed", panels.SHARE, provider_of(figures.failed_attempts_share("target")), steps=_FAILED
            ),
            Column(
                "First token, p95",
                panels.SECONDS,
                provider_of(quantile(0.95, table.FIRST_TOKEN, "target")),
            ),
            Column("Cost", panels.USD, provider_of(increase(table.COST, "target"))),
            Column("Per million tokens", panels.USD, provider_of(figures.usd_per_million("target"))),
        ),
        rows(
            "Keys",
            "Every caller's key in the time shown; the share of failed calls is that of the moment.",
            ["team", "key"],
            Column("Calls", panels.COUNT, increase(table.REQUESTS, "team", "key")),
            Column("Failed", panels.SHARE, figures.failed_share("team", "key"), steps=_FAILED),
            Column("Cost", panels.USD, increase(table.COST, "team", "key")),
            Column(
                "Refused by limits",
                panels.COUNT,
                increase(table.REQUESTS, "team", "key", error_type="~policy_.*"),
            ),
        ),
    ]


def _speed() -> list[panels.PanelBuilder]:
    return [
        lines(
            "First token by target, p95",
            "Time to the first content of a stream.",
            panels.SECONDS,
            Query(quantile(0.95, table.FIRST_TOKEN, "target"), "{{target}}"),
        ),
        lines(
            "First token by provider, p50",
            "Time to the first content of a stream, by the provider's name in OpenTelemetry.",
            panels.SECONDS,
            Query(quantile(0.5, table.GEN_AI_TIME_TO_FIRST_TOKEN, _PROVIDER), "{{gen_ai_provider_name}}"),
        ),
        lines(
            "Time per token, p95",
            "Time per output token after the first, by provider and model there.",
            panels.SECONDS,
            Query(
                quantile(0.95, table.GEN_AI_TIME_PER_OUTPUT_TOKEN, _PROVIDER, _SERVED),
                "{{gen_ai_provider_name}}: {{gen_ai_response_model}}",
            ),
        ),
        lines(
            "Whole answers, p95",
            "How long the provider took, as the gateway sees it.",
            panels.SECONDS,
            Query(
                quantile(0.95, table.GEN_AI_OPERATION_DURATION, _PROVIDER, _SERVED),
                "{{gen_ai_provider_name}}: {{gen_ai_response_model}}",
            ),
        ),
        lines(
            "Until they fail",
            "How long calls took that a provider failed, on average, by error_type.",
            panels.SECONDS,
            Query(
                mean(table.GEN_AI_OPERATION_DURATION, _PROVIDER, "error_type", error_type="!"),
                "{{gen_ai_provider_name}}: {{error_type}}",
            ),
        ),
        lines(
            "Wait for a connection, p95",
            "Of calls that needed a new connection, or had to wait for one.",
            panels.SECONDS,
            Query(quantile(0.95, table.CONNECTION_WAIT, "provider"), "{{provider}}"),
        ),
    ]


def _failures() -> list[panels.PanelBuilder]:
    failed = rate(table.ATTEMPTS, "target", "outcome", outcome="!~ok|caller_gone|stopping")
    by_provider = f"sum by (provider, outcome) ({provider_of(failed)})"
    return [
        lines(
            "Failed attempts by provider",
            "Attempts that brought no answer, by provider and what they failed of.",
            panels.PER_SECOND,
            Query(by_provider, "{{provider}}: {{outcome}}"),
            stacked=True,
        ),
        lines(
            "Failed attempts by target",
            "Share of a target's attempts that brought no answer.",
            panels.SHARE,
            Query(figures.failed_attempts_share("target"), "{{target}}"),
            steps=_FAILED,
        ),
        lines(
            "Streams that stalled",
            "Streams that stopped in mid-answer, by target.",
            panels.PER_SECOND,
            Query(rate(table.STREAM_STALLS, "target"), "{{target}}"),
        ),
        lines(
            "Events not known",
            "Events and parts of streams that Headgate has no word for and passed over, by target.",
            panels.PER_SECOND,
            Query(rate(table.UNKNOWN_EVENTS, "target"), "{{target}}"),
        ),
        bars(
            "Attempts by provider",
            "Attempts in the time shown.",
            panels.COUNT,
            Query(f"sum by (provider) ({provider_of(increase(table.ATTEMPTS, 'target'))})", "{{provider}}"),
        ),
    ]


def _price() -> list[panels.PanelBuilder]:
    return [
        bars(
            "Per million tokens",
            "US dollars for a million tokens of any kind, in the time shown.",
            panels.USD,
            Query(figures.usd_per_million("target"), "{{target}}"),
        ),
        lines(
            "Read from a cache",
            "Share of input tokens that the provider read from its cache.",
            panels.SHARE,
            Query(figures.cache_read_share("target"), "{{target}}"),
            most=1,
        ),
    ]
