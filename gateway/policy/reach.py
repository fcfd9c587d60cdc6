"""What a policy says in vain, or in a circle: rules that nothing can reach, budgets that send calls back to
one another, more names than metrics can tell apart. All of it is legal, so it is warned of.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from fnmatch import fnmatchcase
from typing import Any

from gateway.policy.parts import MatchSpec
from gateway.policy.spec import PolicySpec

SERIES, NAMES = 5_000, 2_000
"""Series of one metric, and values of one label, that are told apart (`telemetry.slots`)."""

Path = tuple[str | int, ...]
Found = Iterator[tuple[Path, str]]
_LISTS = ("team", "key", "tag", "endpoint")


def unreachable(spec: PolicySpec, tables: Mapping[str, Any]) -> Found:
    """Everything that is said in vain: (key path, warning)."""
    yield from _routes(spec)
    yield from _targets(spec)
    yield from _circles(spec)
    yield from _labels(spec, tables)


def covers(wide: MatchSpec, narrow: MatchSpec) -> bool:
    """True if every call that `narrow` matches is matched by `wide` as well."""
    for field in _LISTS:
        mine, theirs = getattr(wide, field), getattr(narrow, field)
        if mine is not None and (theirs is None or not set(theirs) <= set(mine)):
            return False
    if wide.stream is not None and wide.stream is not narrow.stream:
        return False
    if wide.model is not None and not _globs_cover(wide.model, narrow.model):
        return False
    for name, values in (wide.metadata or {}).items():
        theirs = (narrow.metadata or {}).get(name)
        if theirs is None or not set(theirs) <= set(values):
            return False
    return True


def _globs_cover(wide: Sequence[str], narrow: Sequence[str] | None) -> bool:
    """Whether names that one list of patterns means are meant by the other: for sure, not by chance."""
    if "*" in wide:
        return True
    return narrow is not None and all(
        any(name == glob or (not _is_glob(name) and fnmatchcase(name, glob)) for glob in wide)
        for name in narrow
    )


def _is_glob(name: str) -> bool:
    return any(char in name for char in "*?[")


def _routes(spec: PolicySpec) -> Found:
    for number, route in enumerate(spec.routes):
        path: Path = ("routes", number, "match")
        earlier = next((one for one in spec.routes[:number] if covers(one.match, route.match)), None)
        if earlier is not None:
            yield path, f"is never reached: the route {earlier.name!r} before it matches all its calls"
        elif _is_for_nobody(spec, route.match):
            yield path, "is for no key, so it never matches"


def _targets(spec: PolicySpec) -> Found:
    """Targets that no call of their model can match."""
    for name, model in spec.models.items():
        led = any(route.use == name for route in spec.routes)
        led = led or any(budget.when_spent.use == name for budget in spec.budgets)
        for number, target in enumerate(model.targets):
            match = target.match
            if match is None:
                continue
            path: Path = ("models", name, "targets", number, "match")
            if _is_for_nobody(spec, match):
                yield path, "is for no key, so this target is never asked"
            elif not led and not any(fnmatchcase(name, glob) for glob in match.model or ["*"]):
                message = f"is not {name!r}, and no route leads here, so this target is never asked"
                yield (*path, "model"), message


def _is_for_nobody(spec: PolicySpec, match: MatchSpec) -> bool:
    """True if names that exist go together in no key: what does not exist is an error of its own."""
    if not spec.keys or (match.team is None and match.key is None):
        return False
    if any(name not in spec.teams for name in match.team or ()):
        return False
    if any(name not in spec.keys for name in match.key or ()):
        return False
    return not any(
        (match.team is None or key.team in match.team) and (match.key is None or name in match.key)
        for name, key in spec.keys.items()
    )


def _circles(spec: PolicySpec) -> Found:
    """Budgets whose models send calls to one another: once all are spent, calls are refused."""
    leads: dict[str, list[tuple[int, str]]] = {}
    for number, budget in enumerate(spec.budgets):
        use = budget.when_spent.use
        if use is None or budget.mode == "shadow":
            continue
        for name in spec.models:
            globs = budget.match.model
            if name != use and (globs is None or any(fnmatchcase(name, glob) for glob in globs)):
                leads.setdefault(name, []).append((number, use))
    told: set[int] = set()
    for first in spec.models:
        for number, use in leads.get(first, ()):
            back = next((other for other, again in leads.get(use, ()) if again == first), None)
            if back is None or back == number or {number, back} & told:
                continue
            told |= {number, back}
            other = spec.budgets[back].name
            yield (
                ("budgets", number, "when_spent", "use"),
                f"leads in a circle with {other!r}: from {first!r} to {use!r} and back; when both are spent, "
                "calls are refused",
            )


def _labels(spec: PolicySpec, tables: Mapping[str, Any]) -> Found:
    """More keys, or combinations of key, model and target, than metrics tell apart."""
    if len(spec.keys) > NAMES:
        yield (
            ("keys",),
            f"{len(spec.keys):,} keys are more than the {NAMES:,} values that a metric's label can have; "
            "those beyond are counted as _other (logs and 'headgate spend' have all)",
        )
    targets = [len(model["targets"]) for model in tables["models"]]
    series = sum(targets[index] for key in tables["keys"] for index in key["models"])
    if series > SERIES:
        yield (
            ("keys",),
            f"calls may come in {series:,} combinations of key, model and target, more than the {SERIES:,} "
            "series of a metric; those beyond are counted as _other (logs and 'headgate spend' have all)",
        )
