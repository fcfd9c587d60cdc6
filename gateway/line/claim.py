"""What one attempt has of limits and budgets, and its end: posted, written into the ledger, given back."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

from gateway.clock import now_s
from gateway.policy.snapshot import Target
from gateway.pricing.price import UNLIMITED
from gateway.quota.hold import Hold
from gateway.quota.need import Flat, Need
from gateway.quota.plan import Plan
from gateway.quota.purse import UNUSED
from gateway.telemetry.diagnostics import say
from gateway.usage import Usage

if TYPE_CHECKING:
    from gateway.line.exchange import Exchange
    from gateway.line.reading_on import Left

    Call = Exchange | Left
    """Whose attempt it is: a call under way, or what is left of one whose caller has gone."""

_NO_CHARGES: Mapping[str, int] = {}


class Claim:
    """The claim of one attempt. `need` is None if only requests and calls at once count."""

    __slots__ = ("hold", "need", "plan", "target")

    def __init__(
        self,
        target: Target,
        plan: Plan | None = None,
        need: Need | Flat | None = None,
        hold: Hold | None = None,
    ) -> None:
        self.target = target
        self.plan = plan
        self.need = need
        self.hold = hold

    @property
    def cap(self) -> int | None:
        """The output cap that is held and so must be written; None: nothing is written."""
        if self.need is None or self.plan is None or not self.plan.writes_cap:
            return None
        return self.need.cap

    # how it ends

    def unused(self, exchange: Call, status: int, outcome: str) -> None:
        """Nothing was consumed: refused, or never sent."""
        self._end(exchange, status, outcome, None, 0, UNUSED)

    def unknown(self, exchange: Call, status: int, outcome: str) -> None:
        """What it consumed is not known: the most that it can have been counts as billed, also where only an
        estimate of it was held."""
        if self.need is None:
            self._end(exchange, status, outcome, None, None, None)
            return
        if isinstance(self.need, Flat):
            self._end(exchange, status, outcome, None, self.need.nanousd, None)
            return
        usage = self._most(exchange, None)
        cost = self._price(usage)
        spent: tuple[int, int, int, int] | None = None
        if self.plan is not None and self.plan.writes_cap:
            total_input, total_output = usage.total_input, usage.total_output
            spent = total_input + total_output, total_input, total_output, cost or 0
        self._end(exchange, status, outcome, usage, cost, spent)

    def used(self, exchange: Call, status: int, outcome: str) -> None:
        """`exchange.usage` and its cost are known; an estimate becomes the most that it can have been."""
        usage, need = exchange.usage, self.need
        if usage is None:
            if exchange.cost_nanousd is None:
                self.unknown(exchange, status, outcome)
            else:
                self._end(
                    exchange, status, outcome, None, exchange.cost_nanousd, (0, 0, 0, exchange.cost_nanousd)
                )
            return
        total_input, total_output = usage.total_input, usage.total_output
        if need is not None:
            guess, plan = need.guess, self.plan
            if usage.estimated:
                usage = exchange.usage = self._most(exchange, usage)
                exchange.cost_nanousd = self._price(usage)
                total_input, total_output = usage.total_input, usage.total_output
            elif guess is not None and plan is not None:
                if usage.reasoning:
                    guess.reasons = True
                if plan.guesses and exchange.bound is not None:
                    guess.learn(exchange.bound, total_input, total_output)
        cost = exchange.cost_nanousd
        spent = total_input + total_output, total_input, total_output, cost or 0
        self._end(exchange, status, outcome, usage, cost, spent)

    def _most(self, exchange: Call, guess: Usage | None) -> Usage:
        """The most that can have been consumed, of an answer that did not say: a token has at least a byte,
        and nothing is above what was held. Reasoning is not seen in what came, nor candidates of `best_of`,
        nor rejected predictions."""
        need = self.need
        if self.plan is None or not self.plan.writes_cap or not isinstance(need, Need):
            return guess or Usage(estimated=True)
        if need.input < UNLIMITED:
            bounded = need.input
        else:
            bounded = max(need.likely_input, 0 if guess is None else guess.total_input)
        output = need.output
        if exchange.output_bytes is not None and not self._has_unseen(need):
            output = min(output, exchange.output_bytes)
        tier = "" if guess is None else guess.service_tier
        return Usage(bounded, output=output, estimated=True, service_tier=tier)

    def _has_unseen(self, need: Need | Flat) -> bool:
        """True if there may be output that is charged for and does not come."""
        if self.target.reasoning or (need.guess is not None and need.guess.reasons):
            return True
        return isinstance(need, Need) and need.asked.has_unseen

    def _price(self, usage: Usage) -> int | None:
        """The cost of an estimate: if it is the most that it can have been, at the dearest prices that may
        apply, since nobody said which kinds of tokens they were."""
        price, need = self.target.price, self.need
        if price is None:
            return None
        if (
            isinstance(need, Need)
            and need.worst is not None
            and self.plan is not None
            and self.plan.writes_cap
        ):
            return need.worst.nanousd(usage.total_input, usage.total_output)
        return price.cost_nanousd(usage)

    def _end(
        self,
        exchange: Call,
        status: int,
        outcome: str,
        usage: Usage | None,
        cost: int | None,
        spent: tuple[int, int, int, int] | None,
    ) -> None:
        ledger, hold = exchange.line.ledger, self.hold
        charges = _NO_CHARGES
        if hold is not None:
            self.hold = None
            charges, overshoot = ledger.purses.settle(hold, spent)
            if overshoot > 0:
                exchange.line.meters.overshot(overshoot)
                say(
                    f"error: {self.target.name} reports {overshoot} nano-dollars more than was held for its "
                    f"call {exchange.request_id.decode()}; they are booked"
                )
        key, model = exchange.key, exchange.model
        if key is None or model is None:
            return
        kinds = _NOTHING if usage is None else usage.by_kind()
        ledger.row(
            (
                int(now_s() * 1000),
                exchange.request_id.decode(),
                exchange.attempts,
                key.name,
                key.team,
                model.name,
                self.target.name,
                status,
                outcome,
                *kinds,
                cost,
                1 if usage is not None and usage.estimated else 0,
                charges,
            )
        )


_NOTHING = (0,) * 7
