"""Expectations kept beside the policies: read from files, held against what `explain` says."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import Any

from gateway.errors import GatewayError
from gateway.money import NANO_PER_USD, usd_text
from gateway.policy.expectation_spec import ExpectationsFile, ExpectationSpec, ExpectSpec
from gateway.policy.explain import FIRST, NEXT, Explanation, Known, explain
from gateway.policy.load import read_file, yaml_files
from gateway.policy.merge import validated
from gateway.policy.node import MapNode, place_of, plain
from gateway.policy.problem import Place, PolicyError, Problem, did_you_mean, dotted
from gateway.policy.question import BadQuestion, down_of, levels_of, question_of
from gateway.policy.snapshot import Snapshot

NONE = "none"


@dataclass(slots=True)
class Expectation:
    """One entry of a file."""

    spec: ExpectationSpec
    number: int
    _root: MapNode

    def problem(self, path: Sequence[str | int], message: str) -> Problem:
        """A problem at a path below the entry."""
        whole = ("tests", self.number, *path)
        return Problem.at(place_of(self._root, whole), dotted(path), message)

    @property
    def place(self) -> Place:
        """Where it stands."""
        return place_of(self._root, ("tests", self.number, "name"))


@dataclass(slots=True)
class Verdict:
    """What came of one. `explanation` is None if the call cannot even be asked about."""

    expectation: Expectation
    failures: list[Problem] = field(default_factory=list)
    explanation: Explanation | None = None


def load_expectations(
    folder: str | os.PathLike[str], environ: Mapping[str, str] = os.environ
) -> list[Expectation]:
    """All of a folder's files, in their order. Raises `PolicyError` with all that is wrong with them."""
    problems: list[Problem] = []
    found: list[Expectation] = []
    for path in yaml_files(Path(folder), problems):
        root = read_file(path, problems)
        if root is None:
            continue
        try:
            spec = validated(ExpectationsFile, plain(root), root, (), environ)
        except PolicyError as error:
            problems += error.problems
            continue
        found += [Expectation(each, number, root) for number, each in enumerate(spec.tests)]
    if problems:
        raise PolicyError(problems)
    return found


def judge(
    expectation: Expectation, snapshot_at: Callable[[datetime | None], Snapshot], now_ms: int
) -> Verdict:
    """Holds one against a policy. `snapshot_at` gives it as of a moment, for prices depend on the date."""
    spec, verdict = expectation.spec, Verdict(expectation)
    snapshot = snapshot_at(spec.state.at)
    try:
        question = question_of(spec.given, snapshot)
    except BadQuestion as wrong:
        verdict.failures.append(expectation.problem(("given", *wrong.path), str(wrong)))
        return verdict
    except GatewayError as error:
        words = f"would be answered {error.kind.status} before any policy is asked: {error.message}"
        verdict.failures.append(expectation.problem(("given", "body"), words))
        return verdict
    try:
        known = Known(levels_of(spec.state, snapshot, now_ms), down_of(spec.state, snapshot))
    except BadQuestion as wrong:
        verdict.failures.append(expectation.problem(("state", *wrong.path), str(wrong)))
        return verdict
    found = verdict.explanation = explain(snapshot, question, known)
    for name, message in _wrong(spec.expect, found):
        verdict.failures.append(expectation.problem(("expect", name) if name else ("expect",), message))
    return verdict


def _wrong(expect: ExpectSpec, found: Explanation) -> Iterator[tuple[str, str]]:
    refused = found.refused
    if refused is not None and not expect.is_refusal:
        by = f" by {refused.by}" if refused.by else ""
        name = "refused" if expect.refused == "no" else ""
        yield name, f"the call is refused{by}: {refused.kind.status} {refused.kind.error_type}"
        return
    if refused is None and expect.is_refusal:
        first = found.first
        name = next(field for field in ("refused", "by", "status") if getattr(expect, field) is not None)
        yield name, f"the call is not refused: it goes to {'' if first is None else first.target.name}"
        return
    if refused is not None:
        kinds = [refused.kind, *refused.may_be]
        if expect.refused not in (None, *(kind.error_type for kind in kinds)):
            yield "refused", _is(expect.refused, refused.kind.error_type)
        if expect.status not in (None, *(kind.status for kind in kinds)):
            yield "status", _is(expect.status, refused.kind.status)
        if expect.by not in (None, refused.by):
            yield "by", _is(expect.by, refused.by or NONE)
    yield from _routing(expect, found)
    yield from _amounts(expect, found)


def _routing(expect: ExpectSpec, found: Explanation) -> Iterator[tuple[str, str]]:
    decision, snapshot = found.decision, found.snapshot
    model = None if decision is None or decision.model is None else decision.model.name
    route = None if decision is None or decision.route is None else decision.route.name
    asked = [each.target.name for each in found.prospects if each.verdict in (FIRST, NEXT)]
    known = {target.name for model_ in snapshot.models.values() for target in model_.targets}
    if expect.model not in (None, model):
        yield "model", _is(expect.model, model or NONE, snapshot.models)
    if expect.route not in (None, route or NONE):
        yield "route", _is(expect.route, route or NONE)
    budgets = [budget for budget, _ in found.instead]
    if expect.instead_of is not None and expect.instead_of not in budgets:
        yield "instead_of", _is(expect.instead_of, ", ".join(budgets) or NONE)
    if expect.target is not None and expect.target != (asked[0] if asked else None):
        yield "target", _is(expect.target, asked[0] if asked else NONE, known)
    if expect.targets is not None and expect.targets != asked:
        unknown = next((name for name in expect.targets if name not in known), "")
        hint = did_you_mean(unknown, known) if unknown else ""
        yield "targets", _is(", then ".join(expect.targets), ", then ".join(asked) or NONE) + hint
    for name in expect.not_targets or ():
        if name in asked:
            yield "not_targets", f"{name} may be asked: {', then '.join(asked)}"


def _amounts(expect: ExpectSpec, found: Explanation) -> Iterator[tuple[str, str]]:
    first = found.first
    if first is None:
        return
    cap = first.forecast.cap
    if expect.max_tokens is not None and expect.max_tokens != ("as asked" if cap is None else cap):
        yield "max_tokens", _is(expect.max_tokens, "as asked" if cap is None else cap)
    for name, nanousd in (
        ("costs_at_most", first.forecast.most_nanousd),
        ("likely_costs_at_most", first.likely_nanousd),
    ):
        bound = getattr(expect, name)
        if bound is None:
            continue
        if nanousd is None:
            yield name, f"nobody knows what a call to {first.target.name} costs, or nothing bounds it"
        elif nanousd > bound * NANO_PER_USD:
            yield name, f"expected at most ${bound}, is ${usd_text(nanousd)} at {first.target.name}"


def _is(expected: Any, found: Any, known: Iterator[str] | Any = ()) -> str:
    hint = did_you_mean(str(expected), known) if known and expected not in known else ""
    return f"expected {expected}, is {found}{hint}"
