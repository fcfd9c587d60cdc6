"""The one pure function that chooses: `decide(snapshot, facts, state) → Decision`, with its trace.

The line uses it for every call; whatever explains, tests or replays policy uses it too.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

from gateway.errors import MODEL_FORBIDDEN, MODEL_UNKNOWN, NO_TARGET, Kind
from gateway.policy.snapshot import Key, Model, Snapshot, Target
from gateway.routing.strategies import STRATEGIES


class Step(NamedTuple):
    """One line of a trace: what was looked at, what came of it, and why."""

    subject: str
    verdict: str
    reason: str = ""


@dataclass(slots=True)
class Facts:
    """What is known of a call before it is sent. Nothing else may influence a decision."""

    caller: Key
    model: str
    """The name the caller gave."""
    endpoint: str = "chat"
    stream: bool = False
    tags: Sequence[str] = ()
    metadata: Mapping[str, object] = field(default_factory=dict)
    draw: float = 0.0
    """A random number in [0, 1): weighted strategies are pure, the dice are thrown outside."""
    turn: int = 0
    """How many calls of this model came before: round robin's place in the circle."""

    @property
    def team(self) -> str:
        return self.caller.team

    @property
    def key(self) -> str:
        return self.caller.name


@dataclass(slots=True)
class State:
    """What is known of the targets: `down` maps a row of the target table to 0 (ejected) or 1 (its
    half-open trial is ours to make). Rows that are up are absent."""

    down: Mapping[int, int]


@dataclass(slots=True)
class Decision:
    """What happens to a call: the targets to try, in order, or the refusal."""

    model: Model | None
    targets: tuple[Target, ...]
    refusal: Kind | None
    _notes: Sequence[Step]
    _facts: Facts

    @property
    def trace(self) -> tuple[Step, ...]:
        """What was looked at and why it came out so, in order. Built when asked for."""
        facts = self._facts
        steps = [Step(f"key {facts.key}", "known", f"team {facts.team}"), *self._notes]
        if self.refusal is not None:
            steps.append(Step(f"model {facts.model}", "refused", self.refusal.error_type))
        elif self.model is not None:
            steps.append(Step(f"model {self.model.name}", "chosen", self.model.strategy))
            steps.extend(
                Step(f"target {target.name}", "in order", str(place))
                for place, target in enumerate(self.targets, 1)
            )
        return tuple(steps)


def decide(snapshot: Snapshot, facts: Facts, state: State, *, instead: Model | None = None) -> Decision:
    """Which targets a call may go to, in order. Pure: same arguments, same decision.

    `instead`: the model that a spent budget names; the policy says so, whatever the caller may use.
    """
    notes: list[Step] = []
    if instead is not None:
        notes.append(Step("budget", "spent", f"uses {instead.name}"))
        return _ordered(instead, facts, state, notes)
    model = facts.caller.models.get(facts.model)
    if model is None and facts.model in snapshot.models:
        return Decision(None, (), MODEL_FORBIDDEN, notes, facts)
    for route in facts.caller.routes:
        missed = route.match.misses(facts)
        if not missed:
            notes.append(Step(f"route {route.name}", "matched", f"uses {route.use.name}"))
            model = route.use
            break
        notes.append(Step(f"route {route.name}", "passed over", missed))
    if model is None:
        return Decision(None, (), MODEL_UNKNOWN, notes, facts)
    return _ordered(model, facts, state, notes)


def _ordered(model: Model, facts: Facts, state: State, notes: list[Step]) -> Decision:
    targets = model.targets
    if model.has_matches:
        targets = _matching(targets, facts, notes)
        if not targets:
            return Decision(model, (), NO_TARGET, notes, facts)
    if len(targets) > 1:
        targets = STRATEGIES[model.strategy](targets, facts.draw, facts.turn)
        if state.down:
            targets = _healthy_first(targets, state, notes)
    return Decision(model, targets, None, notes, facts)


def _matching(targets: tuple[Target, ...], facts: Facts, notes: list[Step]) -> tuple[Target, ...]:
    kept = []
    for target in targets:
        missed = "" if target.match is None else target.match.misses(facts)
        if not missed and target.provider.speaks.path_of(facts.endpoint) is None:
            missed = f"{target.provider.speaks.name} has no {facts.endpoint}"
        if missed:
            notes.append(Step(f"target {target.name}", "passed over", missed))
        else:
            kept.append(target)
    return tuple(kept)


def _healthy_first(targets: tuple[Target, ...], state: State, notes: list[Step]) -> tuple[Target, ...]:
    """Ejected targets leave the order, unless all are ejected: the last one is never taken away."""
    kept = []
    for target in targets:
        verdict = state.down.get(target.row, 2)
        if verdict == 0:
            notes.append(Step(f"target {target.name}", "passed over", "ejected"))
            continue
        if verdict == 1:
            notes.append(Step(f"target {target.name}", "on trial", "half-open"))
        kept.append(target)
    if not kept:
        notes.append(Step("all targets", "kept", "every one is ejected"))
        return targets
    return tuple(kept)
