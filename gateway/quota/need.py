"""What a call may take at a target, in tokens and money, before its bytes leave: at most, and likely."""

from __future__ import annotations

from collections.abc import Sequence

from gateway.policy.snapshot import Target
from gateway.pricing.price import UNLIMITED, Worst
from gateway.quota.bound import Bound
from gateway.quota.cap import FLOOR_TOKENS, REASONING_FLOOR_TOKENS, asked_of, cap_of, fitting_cap
from gateway.quota.contract import Refusal
from gateway.quota.plan import Plan
from gateway.quota.purse import (
    AMOUNTS,
    LIKELY_NANOUSD,
    NANOUSD,
    ONE,
)
from gateway.quota.ratio import Ratio
from gateway.usage import FAST
from gateway.wire.dialects.openai_chat import Call

MOST_ASKS = 4
"""A cap shrinks to what one bucket has, then perhaps to what another has."""
MOST = 2**50
"""What is held where nothing bounds a call that may go on all the same (a rule in shadow mode): no rule has
so much, and stores can count it (Lua's numbers are whole up to 2^53)."""
FIRST_OUTPUT = 1_024
"""Output that is guessed of a target that has not answered yet."""
_OF_TOKENS = {"tokens", "output_tokens"}
_WATCHED = 1 << 50
"""What stands for an amount that nothing bounds. Only rules that watch let such calls through; sums of it
stay within what the journal and Redis count exactly, and above all but the largest limits."""


class Guess:
    """What answers of one target are like, learned from what its provider reports: for what holds an
    estimate and settles exactly."""

    __slots__ = ("_output", "likely_output", "ratio", "reasons")

    def __init__(self, target: Target) -> None:
        self.ratio = Ratio(target.bytes_per_token)
        self._output = 0.0
        self.likely_output = FIRST_OUTPUT
        """Tokens that are held for an answer: twice the running mean, four answers of five are shorter."""
        self.reasons = False
        """True once it has reported reasoning, whatever its name says."""

    def learn(self, bound: Bound, total_input: int, total_output: int) -> None:
        """The provider reported so much for a call."""
        if not (bound.images or bound.audio_bytes or bound.unbounded):
            self.ratio.heed(bound.text_bytes, total_input)
        self._output += (total_output - self._output) / 16 if self._output else total_output
        self.likely_output = int(2 * self._output) + 64 if self._output else FIRST_OUTPUT


class Flat:
    """What a call that is passed through needs: its price, if it has one. Its tokens are not known before,
    and no cap is written into it."""

    __slots__ = ("amounts", "nanousd")
    cap: int | None = None
    input = output = 0
    is_shrunk = False
    worst: Worst | None = None
    guess: Guess | None = None

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
        "_plan",
        "_target",
        "amounts",
        "asked",
        "cap",
        "guess",
        "input",
        "is_shrunk",
        "likely_input",
        "output",
        "worst",
    )

    def __init__(
        self, plan: Plan, call: Call, bound: Bound, target: Target, guess: Guess, *, least_cap: int
    ) -> None:
        self._plan, self._target, self.guess = plan, target, guess
        self.asked = asked_of(call)
        most = bound.tokens if not bound.unbounded else bound.held_tokens(target.context)
        self.input = UNLIMITED if most is None else most
        """Input tokens at most; `UNLIMITED` if nothing bounds them."""
        self.likely_input = guess.ratio.input_tokens(bound) if plan.guesses or most is None else 0
        self.is_shrunk = False
        """True once the cap is less than what the call would have had."""
        # A cap that the provider does not take is not written, so it is no bound either.
        self.cap = max(self._cap(call, bound, target), least_cap)
        self.worst: Worst | None = None
        price = target.price
        if plan.has_money and price is not None:
            self.worst = price.usual
            if self.worst is None or bound.has_audio or bound.searches or "service_tier" in call.fields:
                tier = call.fields.get("service_tier")
                if tier == FAST and not price.has_tier(FAST):
                    # Six times as dear, or so: nobody knows.
                    self.worst = None
                else:
                    self.worst = price.worst(
                        self.input,
                        has_audio=bound.has_audio,
                        service_tier=tier if type(tier) is str and tier != "auto" else "",
                        searches=bound.searches,
                    )
        self._fill()

    def _cap(self, call: Call, bound: Bound, target: Target) -> int:
        asked = self.asked
        cap, most = asked.tokens, target.max_output
        if cap is None:
            cap, context = self._plan.default_output, target.context
            if call.endpoint != "chat" or (context is not None and cap + bound.tokens > context):
                return cap_of(
                    asked,
                    endpoint=call.endpoint,
                    default_tokens=cap,
                    max_output=most,
                    context=context,
                    input_tokens=self.guess.ratio.input_tokens(bound),
                    floor=self._floor,
                )
        return cap if most is None or cap < most else most

    @property
    def _floor(self) -> int:
        return REASONING_FLOOR_TOKENS if self._target.reasoning else FLOOR_TOKENS

    def _fill(self) -> None:
        asked, worst, plan, most = self.asked, self.worst, self._plan, self.input
        self.output = output = asked.choices * self.cap + asked.extra_tokens
        total = most + output
        cost = 0 if worst is None else worst.nanousd(most, output)
        # In the order of the places: one, the most of tokens, their likely ones, money.
        self.amounts: Sequence[int] = (1, total, most, output, 0, 0, 0, cost, 0)
        if plan.guesses:
            likely, likely_output = self.likely_input, self.guess.likely_output
            if likely_output > output:
                likely_output = output
            likely_total = likely + likely_output
            likely_cost = (
                worst.nanousd(likely, likely_output) if plan.guesses_money and worst is not None else 0
            )
            self.amounts = (1, total, most, output, likely_total, likely, likely_output, cost, likely_cost)
        if most >= UNLIMITED:
            self.amounts = tuple(min(amount, MOST) for amount in self.amounts)

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
        return True
