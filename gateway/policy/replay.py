"""A request log once more, under two policies: where its calls would have gone, what would have been refused,
and what it would have cost.

A log holds no content, so this is arithmetic over names and numbers: calls that are decided alike are
decided once (the key, the model asked for, the endpoint, streamed or not, who answered), the rest is sums.
Both policies see the same calls and the same simplifications, so a policy compared with itself differs in
nothing:

- A target that failed in the log fails again; a choice by lot that both policies make alike falls as it fell.
- An answer has the tokens it had. A call that was refused then has the mean of its kind, if it passes now.
- Rates and budgets are counted by what answers took, not by what is held meanwhile; calls at once are not
  counted. Tags, metadata and users are not in a log: rules that look at them match nothing.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from gateway.errors import KEY_EXPIRED, UNAUTHORIZED, UNPRICED
from gateway.policy.decide import Facts, State, decide
from gateway.policy.snapshot import Key, Model, Snapshot, Target
from gateway.quota.plan import is_by_call
from gateway.quota.rule import Rule
from gateway.quota.subject import subjects
from gateway.quota.verdict import instead_of
from gateway.usage import Usage

_UP = State({})


@dataclass(slots=True)
class Way:
    """Where a call goes under one policy: to a target, or nowhere. `rules` are the limits and budgets that
    count it there, with the subjects of their buckets."""

    model: Model | None = None
    target: Target | None = None
    refusal: str = ""
    rules: Sequence[tuple[Rule, str]] = ()

    @property
    def name(self) -> str:
        """The target, or why there is none."""
        return self.refusal if self.target is None else self.target.name


@dataclass(slots=True)
class Kind:
    """Calls that a log cannot tell apart. `target`: who answered, "" if nobody did."""

    key: str
    asked: str
    endpoint: str
    stream: bool
    target: str


@dataclass(slots=True)
class Course:
    """The ways of one kind of call under one policy: one, or several by lot with their shares, summed up."""

    ways: Sequence[Way]
    upto: Sequence[float] = ()
    expires_ms: float = float("inf")

    def way(self, draw: float) -> Way:
        """The one that a lot falls on."""
        for way, upto in zip(self.ways, self.upto, strict=False):
            if draw < upto:
                return way
        return self.ways[-1]


EXPIRED = Way(refusal=KEY_EXPIRED.error_type)


class Side:
    """One policy, and the kinds of calls that it was asked about."""

    def __init__(self, snapshot: Snapshot) -> None:
        self.snapshot = snapshot
        self._keys: Mapping[str, Key] = {key.name: key for key in snapshot.keys.values()}
        self._instead: dict[tuple[int, str, bool, str], Way] = {}
        self.unseen: set[str] = set()
        """Rules that cannot be followed by a log."""
        for rule in snapshot.rules:
            if not rule.is_static or rule.measure == "concurrent":
                self.unseen.add(rule.name)

    def course(self, kind: Kind, old: Side | None = None) -> Course:
        """The ways of a kind of call. `old`: the policy that the log was written under, if this is another:
        what both choose by lot alike falls as it fell."""
        key = self._keys.get(kind.key)
        if key is None:
            return Course([Way(refusal=UNAUTHORIZED.error_type)])
        expires_ms = float("inf") if key.expires_s is None else key.expires_s * 1000
        drawn = self._orders(key, kind)
        if isinstance(drawn, str):
            return Course([Way(refusal=drawn)], expires_ms=expires_ms)
        model, orders = drawn
        before = None if old is None else old.shape(kind)
        is_alike = before is None or before == self.shape(kind)
        failed: Sequence[str] = ()
        if before is not None and before[0] == "priority" and kind.target in before[1]:
            failed = before[1][: before[1].index(kind.target)]
        ways: list[Way] = []
        for order in orders:
            named = {target.name: target for target in order}
            if is_alike and kind.target in named:
                return Course([self._way(key, kind, model, named[kind.target])], expires_ms=expires_ms)
            left = [target for target in order if target.name not in failed] or list(order)
            ways.append(self._way(key, kind, model, left[0]))
        weights = [order[0].weight if model.strategy == "weighted" else 1 for order in orders]
        total, upto, sum_ = sum(weights), [], 0.0
        for weight in weights:
            sum_ += weight / total
            upto.append(sum_)
        return Course(ways, upto, expires_ms)

    def shape(self, kind: Kind) -> tuple[str, tuple[str, ...], tuple[int, ...]] | None:
        """What decides where a kind of call goes, to be compared: strategy, targets, their weights."""
        key = self._keys.get(kind.key)
        drawn = "" if key is None else self._orders(key, kind)
        if isinstance(drawn, str):
            return None
        model, orders = drawn
        targets = sorted(orders[0], key=lambda target: target.name) if len(orders) > 1 else orders[0]
        weights = tuple(target.weight for target in targets) if model.strategy == "weighted" else ()
        return model.strategy, tuple(target.name for target in targets), weights

    def instead(self, way: Way, rule: Rule, kind: Kind) -> Way | None:
        """The way by the model that a spent budget names; None: calls are refused."""
        assert way.model is not None
        model, key = instead_of(rule, way.model), self._keys[kind.key]
        if model is None:
            return None
        index = (rule.index, kind.key, kind.stream, kind.endpoint)
        found = self._instead.get(index)
        if found is None:
            decision = decide(self.snapshot, _facts(key, kind, 0.0, 0), _UP, instead=model)
            found = Way(refusal=decision.refusal.error_type) if decision.refusal is not None else None
            found = found or self._way(key, kind, model, decision.targets[0])
            self._instead[index] = found
        return found

    def _orders(self, key: Key, kind: Kind) -> tuple[Model, list[tuple[Target, ...]]] | str:
        """Every order of targets that a kind of call may see, one for each that may be the first; or what
        refuses it."""
        decision = decide(self.snapshot, _facts(key, kind, 0.0, 0), _UP)
        if decision.refusal is not None:
            return decision.refusal.error_type
        model = decision.model
        assert model is not None
        if model.strategy == "priority" or len(decision.targets) < 2:
            return model, [decision.targets]
        seen: dict[Target, tuple[Target, ...]] = {}
        total = sum(target.weight for target in decision.targets) or 1
        point = 0
        for turn, target in enumerate(decision.targets):
            # In the middle of each one's part of the lot.
            draw = (point + target.weight / 2) / total
            point += target.weight
            order = decide(self.snapshot, _facts(key, kind, draw, turn), _UP).targets
            seen.setdefault(order[0], order)
        by_lot = model.strategy == "weighted"
        return model, [order for first, order in seen.items() if first.weight or not by_lot]

    def _way(self, key: Key, kind: Kind, model: Model, target: Target) -> Way:
        facts = _facts(key, kind, 0.0, 0)
        rules: list[tuple[Rule, str]] = []
        for rule in key.rules:
            if rule.measure == "concurrent" or not rule.is_static:
                continue
            name = target.name if rule.attempts else ""
            rules += [(rule, subject) for subject in subjects(rule, facts, model.name, name, None)]
        is_closed = target.price is None and any(
            rule.is_money and not rule.is_shadow and rule.unpriced == "refuse" for rule, _ in rules
        )
        if is_closed:
            return Way(model, None, UNPRICED.error_type, rules)
        # As a call is counted: what is by the call first.
        return Way(model, target, "", sorted(rules, key=lambda each: not is_by_call(each[0])))


def usage_of(input_tokens: int, output_tokens: int, cached: int, reasoning: int) -> Usage:
    """Usage of the four numbers that a log has."""
    cached, reasoning = min(cached, input_tokens), min(reasoning, output_tokens)
    return Usage(
        input_tokens - cached, cached_input=cached, output=output_tokens - reasoning, reasoning=reasoning
    )


def _facts(key: Key, kind: Kind, draw: float, turn: int) -> Facts:
    return Facts(key, kind.asked, kind.endpoint, kind.stream, draw=draw, turn=turn)
