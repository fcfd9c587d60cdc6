"""What callers are told who are refused by a limit or a budget: words that the official SDKs understand."""

from __future__ import annotations

import math
import random
import time

from gateway.errors import BUDGET_HELD, GatewayError, Kind
from gateway.line.rates import refused_headers
from gateway.quota.contract import Refusal
from gateway.quota.purse import Purse
from gateway.quota.verdict import kind_of

LEAST_WAIT_S = 0.05
MOST_WAIT_S = 60.0
"""SDKs obey waits of up to a minute (openai-python 2.45, `_calculate_retry_timeout`)."""
HELD_WAIT_S = 2.0
"""The most that a caller is told to wait for money that is held."""


class TargetFull(Exception):
    """A target's own limit, or a budget of it, has no room: another target may. `error`: for the caller, if
    there is none."""

    def __init__(self, error: GatewayError) -> None:
        super().__init__(error.kind.error_type)
        self.error = error

    @property
    def wait_ms(self) -> float:
        """Until it may have room; infinite if nobody can say."""
        return float(dict(self.error.extra_headers).get("retry-after-ms", math.inf))


def refused(purse: Purse, refusal: Refusal) -> GatewayError:
    """The error for a refusal by a bucket."""
    rule, kind = purse.rule, kind_of(purse, refusal)
    if purse.is_money:
        return _money(purse, kind)
    if purse.has_slots:
        # No honest time exists: about when one of those that are held is free again.
        wait_s = (purse.busy_s or 1.0) * (0.5 + random.random())
        return GatewayError(
            kind,
            f"The limit {rule.policy_name!r} is reached: {rule.limit} calls at once{_whose(purse)}.",
            headers=_wait(wait_s),
        )
    unit = rule.measure.replace("_", " ")
    return GatewayError(
        kind,
        f"The limit {rule.policy_name!r} is reached: {rule.limit} {unit} in {rule.window_ms // 1000} s"
        f"{_whose(purse)}.",
        headers=_wait(refusal.wait_ms / 1000 if refusal.wait_ms > 0 else MOST_WAIT_S)
        + refused_headers(purse, refusal.free),
    )


def _money(purse: Purse, kind: Kind) -> GatewayError:
    rule = purse.rule
    if kind is BUDGET_HELD:
        return GatewayError(
            kind,
            f"What is left of the budget {rule.policy_name!r}{_whose(purse)} is held by calls under way.",
            headers=_wait(min(HELD_WAIT_S, 0.5 + random.random())),
        )
    until = ""
    details: dict[str, object] = {"budget": rule.policy_name}
    if rule.every:
        details["resets_at"] = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(purse.until_ms / 1000))
        until = f" It begins anew at {details['resets_at']}."
    return GatewayError(
        kind,
        f"The budget {rule.policy_name!r}{_whose(purse)} has too little left for this call.{until}",
        details=details,
    )


def _whose(purse: Purse) -> str:
    """For whom the bucket is, in names of the policy; what callers name themselves is not repeated."""
    subject = purse.bucket.split("|")[1]
    kinds = [part.partition("=")[::2] for part in subject.split(",") if "=" in part]
    named = [f"{what} {whom}" if what not in ("user", "tag") else f"this {what}" for what, whom in kinds]
    return f" for {' and '.join(named)}" if named else ""


def _wait(seconds: float) -> tuple[tuple[str, str], ...]:
    """`retry-after-ms`, which the official SDKs prefer, and `retry-after` in whole seconds, rounded up."""
    bounded = min(MOST_WAIT_S, max(LEAST_WAIT_S, seconds))
    return (
        ("retry-after-ms", str(-int(-bounded * 1000 // 1))),
        ("retry-after", str(-int(-bounded // 1))),
    )
