"""What two policies say differently, whatever their files, comments and spelling: entry by entry, and what it
comes to for callers.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any, NamedTuple

from gateway.money import usd_text
from gateway.policy.decide import Facts, State, decide
from gateway.policy.merge import Policy
from gateway.policy.problem import dotted
from gateway.policy.snapshot import Key, Snapshot
from gateway.pricing.price import Price as PriceOf
from gateway.usage import Usage

ADDED, REMOVED, CHANGED = "added", "removed", "changed"
_ABSENT = object()
_UP = State({})
_SHORT = 1_000
"""Tokens: prices may depend on the length of the input, and shown is that of short ones."""


class Change(NamedTuple):
    """One entry or value that differs. `before`, `after`: as the files say it; None: nothing is there."""

    path: str
    what: str
    before: Any = None
    after: Any = None


class Effect(NamedTuple):
    """What callers get for a name that they ask for: targets in order, or the refusal."""

    team: str
    keys: tuple[str, ...]
    """The keys of the team that it is so for."""
    asked: str
    before: str
    after: str


class Price(NamedTuple):
    """What a target costs: US dollars per million tokens of input and output; None if nobody knows."""

    target: str
    before: str | None
    after: str | None


def changes(old: Policy, new: Policy) -> list[Change]:
    """Entries and values, in the order of the sections."""
    before, after = (policy.spec.model_dump(mode="json", exclude_defaults=True) for policy in (old, new))
    return list(_differing((), before, after, old.document, new.document))


def effects(old: Snapshot, new: Snapshot) -> list[Effect]:
    """For every key and every name of a model: where a plain call would go. Keys of a team that get the same
    are one. Routes and targets that look at more than the key and the model are taken not to match."""
    keys = {key.name: key for key in old.keys.values()}, {key.name: key for key in new.keys.values()}
    names = sorted({*old.models, *new.models})
    found: dict[tuple[str, str, str, str], list[str]] = {}
    for name in sorted({*keys[0], *keys[1]}):
        sides = keys[0].get(name), keys[1].get(name)
        team = next(key.team for key in reversed(sides) if key is not None)
        for asked in names:
            before, after = _goes(old, sides[0], asked), _goes(new, sides[1], asked)
            if before != after:
                found.setdefault((team, asked, before, after), []).append(name)
    return [
        Effect(team, tuple(named), asked, before, after)
        for (team, asked, before, after), named in sorted(found.items())
    ]


def prices(old: Snapshot, new: Snapshot) -> list[Price]:
    """Targets of both policies whose price differs, also where a published one is another by now."""
    sides = [
        {target.name: target.price for model in side.models.values() for target in model.targets}
        for side in (old, new)
    ]
    found = []
    for name in sorted(sides[0].keys() & sides[1].keys()):
        known = [side[name] for side in sides]
        before, after = (None if price is None else _price(price) for price in known)
        if before != after:
            found.append(Price(name, before, after))
    return found


def _price(price: PriceOf) -> str:
    fee = price.cost_nanousd(Usage())
    million = [
        usd_text((price.cost_nanousd(usage) - fee) * 1_000)
        for usage in (Usage(input=_SHORT), Usage(output=_SHORT))
    ]
    per_call = f", {usd_text(fee)} a call" if fee else ""
    return f"{million[0]} in, {million[1]} out{per_call}"


def _goes(snapshot: Snapshot, key: Key | None, asked: str) -> str:
    if key is None:
        return "no such key"
    decision = decide(snapshot, Facts(key, asked), _UP)
    if decision.refusal is not None:
        return decision.refusal.error_type
    model = decision.model
    assert model is not None
    names = [target.name for target in decision.targets]
    if model.strategy != "priority":
        shares = [f"{target.name} ({target.weight})" for target in decision.targets]
        return f"{model.strategy}: {', '.join(sorted(shares if model.strategy == 'weighted' else names))}"
    return ", then ".join(names)


def _differing(
    path: tuple[str | int, ...], before: Any, after: Any, said: Any, says: Any
) -> Iterator[Change]:
    """`said` and `says`: the same places of the files as written, where they have them."""
    if before == after:
        return
    if isinstance(before, Mapping) and isinstance(after, Mapping):
        for name in dict.fromkeys((*before, *after)):
            yield from _differing(
                (*path, name),
                before.get(name, _ABSENT),
                after.get(name, _ABSENT),
                _at(said, name),
                _at(says, name),
            )
        return
    named = _by_name(before), _by_name(after)
    if named[0] is not None and named[1] is not None and path:
        yield from _lists(path, named[0], named[1], _by_name(said) or {}, _by_name(says) or {})
        return
    where = dotted(path)
    if before is _ABSENT:
        yield Change(where, ADDED, None, _shown(after, says))
    elif after is _ABSENT:
        yield Change(where, REMOVED, _shown(before, said), None)
    else:
        yield Change(where, CHANGED, _shown(before, said), _shown(after, says))


def _lists(
    path: tuple[str | int, ...],
    before: Mapping[str, Any],
    after: Mapping[str, Any],
    said: Mapping[str, Any],
    says: Mapping[str, Any],
) -> Iterator[Change]:
    """Entries of a list by their names; and their order, where it counts."""
    yield from _differing(path, dict(before), dict(after), said, says)
    kept = [name for name in before if name in after], [name for name in after if name in before]
    if path[-1] in ("routes", "targets") and kept[0] != kept[1]:
        yield Change(f"{dotted(path)} (order)", CHANGED, kept[0], kept[1])


def _by_name(value: Any) -> dict[str, Any] | None:
    """A list of entries with names (or providers and models), by these; None for anything else."""
    if not isinstance(value, Sequence) or isinstance(value, str) or not value:
        return None
    found: dict[str, Any] = {}
    for entry in value:
        if isinstance(entry, Mapping):
            name = entry.get("name") or (f"{entry['provider']}/{entry['model']}" if "model" in entry else "")
        else:
            name = entry if isinstance(entry, str) and "/" in entry else ""
        if not name or name in found:
            return None
        found[name] = entry
    return found


def _at(document: Any, name: str) -> Any:
    return document.get(name) if isinstance(document, Mapping) else None


def _shown(value: Any, written: Any) -> Any:
    """As the file says it; what a default or a preset says, as it is compiled."""
    return value if written is None else written
