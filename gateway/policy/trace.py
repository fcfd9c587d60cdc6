"""Why a decision came out as it did: what was looked at, what matched and what did not, in order.

A trace is made for whoever asks, after the decision and by the functions that made it; on the line nobody
asks, and nothing is paid.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

from gateway.errors import MODEL_FORBIDDEN
from gateway.policy.decide import Decision, Facts, State, missed
from gateway.policy.snapshot import Model


class Step(NamedTuple):
    """One line of a trace: what was looked at, what came of it, and why."""

    subject: str
    verdict: str
    reason: str = ""


def trace(
    facts: Facts, state: State, decision: Decision, *, instead: Model | None = None
) -> tuple[Step, ...]:
    """The steps of `decide` with the same arguments, which answered `decision`."""
    return tuple(_steps(facts, state, decision, instead))


def _steps(facts: Facts, state: State, decision: Decision, instead: Model | None) -> Iterator[Step]:
    yield Step(f"key {facts.key}", "known", f"team {facts.team}")
    if instead is not None:
        yield Step("budget", "spent", f"uses {instead.name}")
    elif decision.refusal is not MODEL_FORBIDDEN:
        for route in facts.caller.routes:
            if route is decision.route:
                yield Step(f"route {route.name}", "matched", f"uses {route.use.name}")
                break
            yield Step(f"route {route.name}", "passed over", route.match.misses(facts))
    model = decision.model
    if model is not None:
        for target in model.targets if model.has_matches else ():
            missing = missed(target, facts)
            if missing:
                yield Step(f"target {target.name}", "passed over", missing)
        yield from _health(facts, state, decision, model)
    if decision.refusal is not None:
        yield Step(f"model {facts.model}", "refused", decision.refusal.error_type)
        return
    assert model is not None
    yield Step(f"model {model.name}", "chosen", model.strategy)
    for place, target in enumerate(decision.targets, 1):
        yield Step(f"target {target.name}", "in order", str(place))


def _health(facts: Facts, state: State, decision: Decision, model: Model) -> Iterator[Step]:
    """What became of targets that are out or on trial, as listed in the policy. One alone has no health: it
    is never taken away."""
    fitting = [target for target in model.targets if not model.has_matches or not missed(target, facts)]
    if len(fitting) < 2 or not state.down:
        return
    for target in fitting:
        verdict = state.down.get(target.row)
        if verdict == 0:
            yield Step(f"target {target.name}", "passed over", "ejected")
        elif verdict == 1:
            yield Step(f"target {target.name}", "on trial", "half-open")
    if all(state.down.get(target.row) == 0 for target in fitting):
        yield Step("all targets", "kept", "every one is ejected")
