"""What would happen to a call, and why: `explain(snapshot, question, known) → Explanation`.

The way of a call through the line up to the first byte for a provider, by the line's own functions:
`decide`, what each target's limits say, which budget names another model, what cannot be told to a provider.
Nothing is taken and nothing is sent. What providers will do is not known: the first target that may be tried
is taken to answer, and those behind it are told as fallbacks.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace

from gateway.errors import (
    BUDGET_SPENT,
    KEY_EXPIRED,
    UNBOUNDED,
    UNSUPPORTED,
    GatewayError,
    Kind,
)
from gateway.policy.decide import Decision, Facts, State, decide
from gateway.policy.snapshot import Key, Model, Snapshot, Target
from gateway.policy.trace import Step, trace
from gateway.quota.cap import written
from gateway.quota.contract import RATE, SLOTS
from gateway.quota.forecast import Forecast, Forecaster
from gateway.quota.level import Levels
from gateway.quota.need import Guess
from gateway.wire.dialect import CHAT, Dialect
from gateway.wire.dialects.openai_chat import Call
from gateway.wire.speech import speech_of

FIRST, NEXT, PASSED, REFUSED = "first", "next", "passed over", "refused"
"""What becomes of a target: it is asked; it is asked if those before it fail; the next one is looked at
instead; the call ends here."""
_MOST_WAIT_S, _LEAST_WAIT_S, _HELD_WAIT_S = 60.0, 0.05, 2.0
"""As in `line.refused`."""


@dataclass(slots=True)
class Question:
    """A call that is asked about. `draw` and `turn` as in `Facts`."""

    caller: Key
    call: Call
    dialect: Dialect = CHAT
    tags: Sequence[str] = ()
    draw: float = 0.0
    turn: int = 0
    assumed: Sequence[str] = ()
    """What nobody said, and what is taken for it."""


@dataclass(slots=True)
class Known:
    """What is known of the moment. `down` as in `State`; `guesses` as workers learn them, `outputs` the mean
    output tokens of an answer, both by targets' names."""

    levels: Levels
    down: Mapping[int, int] = field(default_factory=dict)
    guesses: Mapping[str, Guess] = field(default_factory=dict)
    outputs: Mapping[str, float] = field(default_factory=dict)


@dataclass(slots=True)
class Prospect:
    """One target of the decision. Tokens and nano-dollars."""

    target: Target
    forecast: Forecast
    verdict: str
    kind: Kind | None = None
    """Why it is passed over, or what ends the call here."""
    unsupported: str = ""
    """What its API has no word for."""
    dropped: Sequence[str] = ()
    """What is left out for it."""
    likely_output: int = 0
    likely_nanousd: int | None = None
    share: float | None = None
    """Weighted models: how often it is the first, in the long run."""


@dataclass(slots=True)
class Refused:
    """A call that no provider gets to see. `by`: the limit or budget to blame, "" if none; `may_be` are the
    other kinds it may come as, where waits that are drawn by lot decide."""

    kind: Kind
    message: str
    by: str = ""
    may_be: Sequence[Kind] = ()


@dataclass(slots=True)
class Explanation:
    """What would happen. `decision` is the last one: a spent budget may have asked for another model."""

    snapshot: Snapshot
    question: Question
    facts: Facts
    steps: list[Step] = field(default_factory=list)
    decision: Decision | None = None
    prospects: list[Prospect] = field(default_factory=list)
    instead: list[tuple[str, Model]] = field(default_factory=list)
    """Budgets that are spent, and the models they name."""
    refused: Refused | None = None

    @property
    def first(self) -> Prospect | None:
        """The target that is asked; None if the call is refused."""
        return next((prospect for prospect in self.prospects if prospect.verdict == FIRST), None)


def explain(snapshot: Snapshot, question: Question, known: Known) -> Explanation:
    """What the line would do with a call, all of it that is decided before a provider answers."""
    key, call = question.caller, question.call
    facts = Facts(
        key,
        call.model,
        call.endpoint,
        call.stream,
        tags=question.tags,
        metadata=call.metadata,
        draw=question.draw,
        turn=question.turn,
    )
    found = Explanation(snapshot, question, facts)
    if key.expires_s is not None and known.levels.now_ms >= key.expires_s * 1000:
        found.steps.append(Step(f"key {key.name}", "refused", KEY_EXPIRED.error_type))
        found.refused = Refused(KEY_EXPIRED, KEY_EXPIRED.message)
        return found
    walk = _Walk(found, known)
    instead: Model | None = None
    while True:
        state = State(known.down)
        decision = found.decision = decide(snapshot, facts, state, instead=instead)
        found.steps += trace(facts, state, decision, instead=instead)[1 if instead is not None else 0 :]
        found.prospects = []
        if decision.refusal is not None:
            found.refused = Refused(decision.refusal, decision.refusal.message)
            return found
        named = walk.targets(decision)
        if named is None:
            return found
        budget, instead = named
        if any(budget == spent for spent, _ in found.instead):
            found.refused = Refused(BUDGET_SPENT, BUDGET_SPENT.message, budget)
            return found
        found.instead.append(named)


class _Walk:
    """Looks at the targets of a decision in order, as `line.attempts.send` does."""

    def __init__(self, found: Explanation, known: Known) -> None:
        self._found = found
        self._known = known
        self._forecaster = Forecaster(found.snapshot, known.levels, known.guesses)

    def targets(self, decision: Decision) -> tuple[str, Model] | None:
        """Fills in the prospects, and the refusal if there is one; (budget, model) if a budget that is spent
        names another model."""
        found, model = self._found, decision.model
        assert model is not None
        full: list[Prospect] = []
        is_counted = is_sent = False
        last = len(decision.targets) - 1
        for place, target in enumerate(decision.targets):
            prospect = self._prospect(decision, model, target, is_counted=is_counted)
            forecast = prospect.forecast
            found.prospects.append(prospect)
            if forecast.kind is None:
                is_counted = True
                if not self._is_told(prospect):
                    if place == last and not is_sent:
                        found.refused = Refused(UNSUPPORTED, prospect.unsupported)
                    continue
                prospect.verdict = NEXT if is_sent else FIRST
                is_sent = True
                continue
            prospect.kind = forecast.kind
            if is_sent:
                continue
            if forecast.instead is not None:
                assert forecast.blamed is not None
                return forecast.blamed.rule.policy_name, forecast.instead
            if not forecast.is_full:
                prospect.verdict, found.refused = REFUSED, _refused(prospect)
                break
            full.append(prospect)
            if place == last:
                found.refused = _soonest(full)
        return None

    def _prospect(self, decision: Decision, model: Model, target: Target, *, is_counted: bool) -> Prospect:
        found = self._found
        call = found.question.call
        forecast = self._forecaster.attempt(
            found.question.caller,
            model,
            target,
            found.facts,
            call,
            found.question.dialect,
            is_counted=is_counted,
        )
        guess = self._forecaster.guess(target)
        mean = self._known.outputs.get(target.name)
        most = forecast.most_output
        if mean is None:
            likely = min(forecast.need.output if most is None else most, guess.likely_output)
        else:
            likely = round(mean) if most is None else min(round(mean), most)
        prospect = Prospect(target, forecast, PASSED, likely_output=likely)
        prospect.likely_nanousd = forecast.likely_nanousd(likely, guess)
        if model.strategy == "weighted" and len(decision.targets) > 1:
            total = sum(each.weight for each in decision.targets)
            prospect.share = target.weight / total if total else None
        return prospect

    def _is_told(self, prospect: Prospect) -> bool:
        """False if the target's API has no word for something in the call."""
        question, target = self._found.question, prospect.target
        # What is written changes the call's fields.
        call = replace(question.call, fields=dict(question.call.fields))
        cap = prospect.forecast.cap
        cap_written = None if cap is None else written(call, cap, target.provider.cap_field)
        try:
            speech = speech_of(question.dialect, target.provider.spoken_by(question.dialect))
            _, prospect.dropped = speech.body(call, target.toward, cap_written)
        except GatewayError as error:
            if error.kind is not UNSUPPORTED:
                raise
            prospect.kind, prospect.unsupported = UNSUPPORTED, error.message
            return False
        return True


def _refused(prospect: Prospect, may_be: Sequence[Kind] = ()) -> Refused:
    forecast = prospect.forecast
    assert forecast.kind is not None
    message = forecast.kind.message
    if forecast.barred is UNBOUNDED:
        message = f"{message} It is {forecast.bound.unbounded}."
    blamed = forecast.blamed
    return Refused(forecast.kind, message, "" if blamed is None else blamed.rule.policy_name, may_be)


def _soonest(full: Sequence[Prospect]) -> Refused:
    """The refusal that a caller is told of several targets that are full: of the one that may have room
    first."""
    waits = [_wait_s(prospect) for prospect in full]
    best = min(range(len(full)), key=lambda place: sum(waits[place]))
    soonest = min(high for _, high in waits)
    may_be = {
        prospect.forecast.kind
        for prospect, (low, _) in zip(full, waits, strict=True)
        if low <= soonest and prospect.forecast.kind is not None
    }
    return _refused(full[best], sorted(may_be - {full[best].forecast.kind}, key=lambda kind: kind.error_type))


def _wait_s(prospect: Prospect) -> tuple[float, float]:
    """From how many seconds to how many a caller would be told to wait (`line.refused`)."""
    refusal, blamed = prospect.forecast.refusal, prospect.forecast.blamed
    if refusal is None or blamed is None:
        return math.inf, math.inf
    kind = blamed.rule.kind
    if kind == SLOTS:
        # By how long calls take, which a worker learns.
        return _LEAST_WAIT_S, _MOST_WAIT_S
    if kind == RATE:
        wait_s = refusal.wait_ms / 1000 if refusal.wait_ms > 0 else _MOST_WAIT_S
        return _bounded(wait_s), _bounded(wait_s)
    return (0.5, min(_HELD_WAIT_S, 1.5)) if refusal.is_held else (math.inf, math.inf)


def _bounded(wait_s: float) -> float:
    return min(_MOST_WAIT_S, max(_LEAST_WAIT_S, wait_s))
