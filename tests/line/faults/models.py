"""Models in front of a faulty provider: one for which it is the only target, and one that has another."""

from __future__ import annotations

from tests.relaying import Relay
from tests.running import policy_for

OUTCOMES = (
    "ok", "refused", "connect", "timeout", "first_token", "stall", "rate_limited", "server_error",
    "context_window", "content_filter", "bad_answer", "auth", "caller_gone",
)  # fmt: skip


def two_models(alone: str, first: str, second: str, more: str, rest: str = "") -> str:
    """A policy with the models `alone` (at provider `one`) and `pair` (at `first`, then `second`)."""
    common = f"retries: {{attempts: 1}}, keep_alive: off, {more}"
    models = f"  alone: {{targets: [one/m], {common}}}\n  pair: {{targets: [first/m, second/m], {common}}}"
    providers = "".join(
        f'  {name}: {{base_url: "{url}", api_key: {{env: UPSTREAM_KEY}}{rest}}}\n'
        for name, url in (("one", alone), ("first", first), ("second", second))
    )
    return policy_for(alone, models=models).replace("providers:\n", f"providers:\n{providers}", 1)


def attempts(relay: Relay, model: str, target: str) -> dict[str, int]:
    """Attempts by what they were counted as."""
    counts = {
        outcome: relay.counted("headgate_attempts_total", model, target, outcome) for outcome in OUTCOMES
    }
    return {outcome: count for outcome, count in counts.items() if count}
