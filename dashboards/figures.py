"""What several dashboards ask: how often calls fail, what they cost, how budgets stand."""

from __future__ import annotations

from dashboards.queries import increase, level, rate, share
from gateway.telemetry import table
from gateway.telemetry.metric import Metric

FAILED = "~(provider|gateway)_.*"
"""`error_type` of what is nobody's fault but the provider's or the gateway's."""
QUANTILES = (0.5, 0.95, 0.99)


def per_hour(query: str) -> str:
    """A rate per second, per hour."""
    return f"{query} * 3600"


def calls(*by: str) -> str:
    """Calls per second."""
    return rate(table.REQUESTS, *by)


def failures(*by: str) -> str:
    """Calls per second that failed of the provider or the gateway."""
    return rate(table.REQUESTS, *by, error_type=FAILED)


def failed_share(*by: str) -> str:
    """Their share of all calls."""
    return share(failures(*by), calls(*by))


def failed_attempts_share(*by: str) -> str:
    """Share of attempts that brought no answer, callers that left not counted."""
    return share(
        rate(table.ATTEMPTS, *by, outcome="!~ok|caller_gone|stopping"),
        rate(table.ATTEMPTS, *by, outcome="!~caller_gone|stopping"),
    )


def cache_read_share(*by: str) -> str:
    """Share of input tokens that were read from a provider's cache."""
    return share(
        rate(table.TOKENS, *by, kind="cached_input"),
        rate(table.TOKENS, *by, kind="~input|cached_input|cache_write|audio_input"),
    )


def usd_per_million(*by: str) -> str:
    """US dollars for a million tokens of any kind, in the time shown."""
    return f"1e6 * {increase(table.COST, *by)} / ({increase(table.TOKENS, *by)} > 0)"


def budget(metric: Metric) -> str:
    """Gateways that share a store all show the same budgets: one of them is enough."""
    return level(metric, "budget", "subject", how="max")


def budget_used() -> str:
    """Spent and held, of the limit."""
    held_and_spent = f"({budget(table.BUDGET_SPENT)} + {budget(table.BUDGET_HELD)})"
    return f"{held_and_spent} / ({budget(table.BUDGET_LIMIT)} > 0)"


def budget_forecast() -> str:
    """What is spent at the end of the window if it goes on as in the window so far, of the limit."""
    start = level(table.BUDGET_STARTS, "budget", how="max")
    end = level(table.BUDGET_ENDS, "budget", how="max")
    by_then = f"(({end} - {start}) / clamp_min(time() - {start}, 60))"
    spent = f"({budget(table.BUDGET_SPENT)} / ({budget(table.BUDGET_LIMIT)} > 0))"
    return f"{spent} * on (budget) group_left () {by_then}"


def budget_lasts_s() -> str:
    """Seconds until nothing is left if it goes on as in the window so far."""
    start = level(table.BUDGET_STARTS, "budget", how="max")
    left = f"clamp_min({budget(table.BUDGET_LIMIT)} - {budget(table.BUDGET_SPENT)}, 0)"
    so_far = f"clamp_min(time() - {start}, 60)"
    return f"{left} / ({budget(table.BUDGET_SPENT)} > 0) * on (budget) group_left () {so_far}"
