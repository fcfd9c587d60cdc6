"""What limits and budgets would do to one attempt: what it needs, what there is, and what comes of it.

The steps of `line.limits.Governed`, in its order and by the same functions, but nothing is taken.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from gateway.errors import Kind
from gateway.policy.snapshot import Key, Model, Snapshot, Target
from gateway.pricing.price import UNLIMITED
from gateway.quota.bound import Bound, bound_input
from gateway.quota.contract import Refusal
from gateway.quota.hold import Seats
from gateway.quota.level import Levels
from gateway.quota.need import MOST_ASKS, Guess, Need
from gateway.quota.plan import UNCOUNTED, Plan, Planner
from gateway.quota.purse import Purse
from gateway.quota.rule import Rule
from gateway.quota.subject import Caller
from gateway.quota.verdict import barred, instead_of, kind_of
from gateway.usage import Usage
from gateway.wire.dialect import Dialect
from gateway.wire.dialects.openai_chat import Call


@dataclass(slots=True)
class Fill:
    """One bucket beside the need of the call: amounts in its unit (nano-dollars, tokens, requests, calls)."""

    purse: Purse
    need: int
    free: int
    most: int
    """What there is in all: of a rate at a moment, of a budget in its window."""

    @property
    def rule(self) -> Rule:
        return self.purse.rule

    @property
    def fits(self) -> bool:
        """False if the bucket has less than the call needs, whether its rule refuses for that or only
        watches."""
        return self.need <= self.free or not self.need


@dataclass(slots=True)
class Forecast:
    """One attempt at one target. Tokens and nano-dollars."""

    target: Target
    plan: Plan
    need: Need
    bound: Bound
    fills: Sequence[Fill]
    barred: Kind | None = None
    refusal: Refusal | None = None
    blamed: Purse | None = None
    kind: Kind | None = None
    """What it is refused with; None: it may be made."""
    instead: Model | None = None
    """The model that the budget which refused it names."""

    @property
    def is_full(self) -> bool:
        """Refused by what is for this target alone: the next one may have room."""
        if self.barred is not None:
            return self.need.worst is None and self.plan.must_price
        return self.blamed is not None and self.blamed.rule.attempts and self.instead is None

    @property
    def cap(self) -> int | None:
        """The cap of the output that is written into the body; None: what the caller said stays."""
        return self.need.cap if self.plan.first and self.plan.is_measured and self.plan.writes_cap else None

    @property
    def most_input(self) -> int | None:
        """Input tokens at most; None: nothing bounds them."""
        return None if self.need.input >= UNLIMITED else self.need.input

    @property
    def most_output(self) -> int | None:
        """Output tokens at most; None: nobody gives a cap."""
        asked = self.need.asked
        if self.cap is None and asked.tokens is None and asked.choices:
            return self.target.max_output
        return self.need.output

    @property
    def most_nanousd(self) -> int | None:
        """The most that it may cost; None: there is no price, or no bound."""
        price, input_tokens, output_tokens = self.target.price, self.most_input, self.most_output
        if price is None or input_tokens is None or output_tokens is None:
            return None
        worst = self.need.worst or price.worst(
            input_tokens, has_audio=self.bound.has_audio, searches=self.bound.searches
        )
        return worst.nanousd(input_tokens, output_tokens)

    def likely_nanousd(self, output_tokens: int, guess: Guess) -> int | None:
        """What it is likely to cost, if its answer has so many tokens; None: there is no price."""
        if self.target.price is None:
            return None
        usage = Usage(guess.ratio.likely_tokens(self.bound), output=output_tokens)
        return self.target.price.cost_nanousd(usage)


class Forecaster:
    """Forecasts for calls under one policy. `guesses`: what is known of targets' answers, by their names."""

    def __init__(self, snapshot: Snapshot, levels: Levels, guesses: Mapping[str, Guess]) -> None:
        self._levels = levels
        self._guesses = guesses
        self._planner = Planner(levels, snapshot.stamp)

    def guess(self, target: Target) -> Guess:
        """What is known of a target's answers; of one that has not answered, what its policy says."""
        return self._guesses.get(target.name) or Guess(target)

    def attempt(
        self,
        key: Key,
        model: Model,
        target: Target,
        caller: Caller,
        call: Call,
        dialect: Dialect,
        *,
        is_counted: bool,
    ) -> Forecast:
        """`dialect` is the caller's; `is_counted`: an attempt was let through before, so that the call itself
        is counted already."""
        levels = self._levels
        plan = self._planner.plan(key, model, target, caller, call.fields, levels.now_ms)
        bound = bound_input(call)
        least_cap = target.provider.spoken_by(dialect).least_cap
        need = Need(plan, call, bound, target, self.guess(target), least_cap=least_cap)
        seats = plan.attempts if is_counted else plan.first
        found = Forecast(target, plan, need, bound, ())
        if plan.first and plan.is_measured:
            found.barred = found.kind = barred(plan, need, bound)
        if plan.first and found.barred is None:
            self._weigh(found, seats, key, model)
        amounts = need.amounts if plan.is_measured else UNCOUNTED
        found.fills = [self._fill(purse, amounts[place]) for purse, place in plan.first]
        return found

    def _weigh(self, found: Forecast, seats: Seats, key: Key, model: Model) -> None:
        plan, need = found.plan, found.need
        refusal: Refusal | None = None
        for _ in range(MOST_ASKS):
            refusal = self._levels.refusal(seats, need.amounts if plan.is_measured else UNCOUNTED, key.name)
            if refusal is None:
                return
            if not plan.is_measured or not need.shrink(refusal):
                break
        assert refusal is not None
        purse = next(purse for purse, _ in plan.first if purse.bucket == refusal.bucket)
        found.refusal, found.blamed = refusal, purse
        found.kind, found.instead = kind_of(purse, refusal), instead_of(purse.rule, model)

    def _fill(self, purse: Purse, need: int) -> Fill:
        bucket = self._levels.bucket(purse)
        most = bucket.total + bucket.spent if bucket.is_money else bucket.terms.most
        return Fill(purse, need, max(0, bucket.free), most)
