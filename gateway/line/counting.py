"""`count_tokens`: how many tokens a call would have, by a provider who says so, else by what is known of the
model."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from gateway.policy.decide import Decision
from gateway.policy.snapshot import Target
from gateway.quota.bound import bound_input
from gateway.quota.need import Guess

if TYPE_CHECKING:
    from gateway.line.exchange import Exchange

ESTIMATED = (("x-headgate-estimated", "true"),)
"""The header of an answer that no provider gave."""


def counting(exchange: Exchange, decision: Decision) -> Decision | None:
    """The same decision, for those targets alone whose provider counts; None if there is none. The call
    is then one that counts."""
    call = exchange.call
    assert call is not None
    targets = tuple(
        target for target in decision.targets if target.provider.speaks.path_of("count_tokens") is not None
    )
    if not targets:
        return None
    call.endpoint, call.stream = "count_tokens", False
    return replace(decision, targets=targets)


def likely_tokens(exchange: Exchange, target: Target) -> int:
    """Input tokens by the ratio that was learned from the target's own reports (`quota.ratio`)."""
    call = exchange.call
    assert call is not None
    guess = exchange.line.ledger.guesses.get(target.name) or Guess(target)
    return guess.ratio.likely_tokens(bound_input(call))
