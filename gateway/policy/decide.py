"""The one pure function that chooses: `decide(snapshot, facts, state) → Decision`.

The line uses it for every call; whatever explains, tests or replays policy uses it too. It writes nothing
down: `policy.trace` says why a decision came out so, by the functions that are asked here.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from gateway.errors import MODEL_FORBIDDEN, MODEL_UNKNOWN, NO_TARGET, Kind
from gateway.policy.snapshot import Key, Model, Route, Snapshot, Target
from gateway.routing.strategies import STRATEGIES


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
    """What happens to a call: the targets to try, in order, or the refusal. `route`: the one that matched."""

    model: Model | None
    targets: tuple[Target, ...]
    refusal: Kind | None
    route: Route | None = None


def decide(snapshot: Snapshot, facts: Facts, state: State, *, instead: Model | None = None) -> Decision:
    """Which targets a call may go to, in order. Pure: same arguments, same decision.

    `instead`: the model that a spent budget names; the policy says so, whatever the caller may use.
    """
    if instead is not None:
        return _ordered(instead, facts, state, None)
    model = facts.caller.models.get(facts.model)
    if model is None and facts.model in snapshot.models:
        return Decision(None, (), MODEL_FORBIDDEN)
    for route in facts.caller.routes:
        if not route.match.misses(facts):
            return _ordered(route.use, facts, state, route)
    if model is None:
        return Decision(None, (), MODEL_UNKNOWN)
    return _ordered(model, facts, state, None)


def missed(target: Target, facts: Facts) -> str:
    """Why a target does not take a call: the field of its match that does not hold, or what its dialect has
    no word for; "" if it does."""
    missing = "" if target.match is None else target.match.misses(facts)
    if not missing and target.provider.speaks.path_of(facts.endpoint) is None:
        return f"{target.provider.speaks.name} has no {facts.endpoint}"
    return missing


def _ordered(model: Model, facts: Facts, state: State, route: Route | None) -> Decision:
    targets = model.targets
    if model.has_matches:
        targets = tuple([target for target in targets if not missed(target, facts)])
        if not targets:
            return Decision(model, (), NO_TARGET, route)
    if len(targets) > 1:
        targets = STRATEGIES[model.strategy](targets, facts.draw, facts.turn)
        if state.down:
            down = state.down
            # Ejected targets leave the order, unless all are ejected: the last one is never taken away.
            targets = tuple([target for target in targets if down.get(target.row) != 0]) or targets
    return Decision(model, targets, None, route)
