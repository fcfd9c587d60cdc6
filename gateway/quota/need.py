"""What a call may take at a target, in tokens and money, before its bytes leave: at most, and likely."""

from __future__ import annotations

from collections.abc import Sequence

from gateway.policy.snapshot import Target
from gateway.pricing.price import UNLIMITED, Worst
from gateway.quota.bound import Bound
from gateway.quota.cap import FLOOR_TOKENS, REASONING_FLOOR_TOKENS, Asked, cap_of, fitting_cap
from gateway.quota.contract import Refusal
from gateway.quota.plan import Plan
from gateway.quota.purse import (
    AMOUNTS,
    LIKELY_NANOUSD,
    NANOUSD,
    ONE,
)
from gateway.quota.ratio import Ratio
from gateway.usage import Usage
from gateway.wire.dialects.openai_chat import Call

UNCOUNTED: tuple[int, ...] = (1,) + (0,) * (AMOUNTS - 1)
"""The amounts of a call of which only requests and calls at once count."""
MOST_ASKS = 4
"""A cap shrinks to what one bucket has, then perhaps to what another has."""
FIRST_OUTPUT = 1_024
"""Output that is guessed of a target that has not answered yet."""
_OF_TOKENS = {"tokens", "output_tokens"}
_WATCHED = 1 << 50
"""What stands for an amount that nothing bounds. Only rules that watch let such calls through; sums of it
stay within what the journal and Redis count exactly, and above all but the largest limits."""


class Guess:
    """What answers of one target are like, learned from what its provider reports: for what holds an
    estimate and settles exactly."""

    __slots__ = ("_output", "ratio", "reasons")

    def __init__(self, target: Target) -> None:
        self.ratio = Ratio(target.bytes_per_token)
        self._output = 0.0
        self.reasons = False
        """True once it has reported reasoning, whatever its name says."""

    def output_tokens(self, most: int) -> int:
        """Twice the running mean: four answers of five are shorter."""
        return min(most, int(2 * self._output) + 64 if self._output else FIRST_OUTPUT)

    def learn(self, usage: Usage) -> None:
        """A provider reported so much."""
        output_tokens = usage.total_output
        self._output += (output_tokens - self._output) / 16 if self._output else output_tokens


class Flat:
    """What a call that is passed through needs: its price, if it has one. Its tokens are not known before,
    and no cap is written into it."""

    __slots__ = ("amounts", "nanousd")
    cap: int | None = None
    input = output = 0
    is_shrunk = False
    worst: Worst | None = None

    def __init__(self, nanousd: int | None) -> None:
        self.nanousd = nanousd
        """None: nobody knows."""
        amounts = [0] * AMOUNTS
        amounts[ONE], amounts[NANOUSD], amounts[LIKELY_NANOUSD] = 1, nanousd or 0, nanousd or 0
        self.amounts: Sequence[int] = amounts

    def shrink(self, refusal: Refusal) -> bool:
        """There is nothing to shrink."""
        return False


class Need:
    """What one attempt needs of its purses. `amounts` is by the places of `quota.purse`."""

    __slots__ = (
        "_floor",
        "_guess",
        "_plan",
        "amounts",
        "asked",
        "cap",
        "input",
        "is_shrunk",
        "likely_input",
        "output",
        "worst",
    )

    def __init__(
        self, plan: Plan, call: Call, bound: Bound, asked: Asked, target: Target, guess: Guess
    ) -> None:
        self._plan, self._guess, self.asked = plan, guess, asked
        most = bound.tokens if not bound.unbounded else bound.held_tokens(target.context)
        self.likely_input = guess.ratio.input_tokens(bound) if plan.guesses or most is None else 0
        self.input = UNLIMITED if most is None else most
        """Input tokens at most; `UNLIMITED` if nothing bounds them."""
        self.is_shrunk = False
        """True once the cap is less than what the call would have had."""
        self.cap = self._cap(call, bound, target)
        self.worst: Worst | None = None
        if plan.has_money and target.price is not None:
            tier = call.fields.get("service_tier")
            self.worst = target.price.worst(
                self.input,
                has_audio=bound.has_audio,
                service_tier=tier if type(tier) is str and tier != "auto" else "",
                searches=bound.searches,
            )
        self._fill()
        if most is None:
            self._bound_amounts()

    def _cap(self, call: Call, bound: Bound, target: Target) -> int:
        asked, plan, context = self.asked, self._plan, target.context
        self._floor = REASONING_FLOOR_TOKENS if target.reasoning else FLOOR_TOKENS
        cap = plan.default_output if asked.tokens is None else asked.tokens
        if asked.tokens is None and (
            call.endpoint != "chat" or (context is not None and cap + bound.tokens > context)
        ):
            return cap_of(
                asked,
                endpoint=call.endpoint,
                default_tokens=cap,
                max_output=target.max_output,
                context=context,
                input_tokens=self._guess.ratio.input_tokens(bound),
                floor=self._floor,
            )
        most = target.max_output
        return cap if most is None or cap < most else most

    def _fill(self) -> None:
        self.output = output = self.asked.output_tokens(self.cap)
        input_tokens, worst = self.input, self.worst
        # In the order of the places: one, the most of tokens, their likely ones, money.
        amounts = [1, input_tokens + output, input_tokens, output, 0, 0, 0, 0, 0]
        if worst is not None:
            amounts[NANOUSD] = worst.nanousd(input_tokens, output)
        if self._plan.guesses:
            likely, likely_output = self.likely_input, self._guess.output_tokens(output)
            amounts[4:7] = likely + likely_output, likely, likely_output
            if worst is not None:
                amounts[LIKELY_NANOUSD] = worst.nanousd(likely, likely_output)
        self.amounts = amounts

    def _bound_amounts(self) -> None:
        if self.input >= UNLIMITED:
            self.amounts = [min(amount, _WATCHED) for amount in self.amounts]

    def shrink(self, refusal: Refusal) -> bool:
        """Makes the cap small enough for what the refusing bucket has; False if that is too little, or if the
        cap is not what it wants of."""
        rule = self._plan.rule_of(refusal.bucket)
        if rule is None or not self._plan.writes_cap or not self.asked.choices or not rule.strict:
            return False
        if rule.is_money:
            fits = None if self.worst is None else self.worst.output_for(refusal.free, self.input)
        elif rule.measure in _OF_TOKENS:
            fits = refusal.free - (self.input if rule.measure == "tokens" else 0)
        else:
            return False
        cap = fitting_cap(self.asked, self.cap, fits, self._floor)
        if cap is None or cap >= self.cap:
            return False
        self.cap = cap
        self.is_shrunk = True
        self._fill()
        self._bound_amounts()
        return True
