"""Structured match fields of routes and targets, compiled. All given fields must hold; a list is an OR."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase
from typing import Any, Protocol


class Matchable(Protocol):
    """What a match looks at; `policy.decide.Facts` is one."""

    @property
    def team(self) -> str: ...
    @property
    def key(self) -> str: ...
    @property
    def model(self) -> str: ...
    @property
    def endpoint(self) -> str: ...
    @property
    def stream(self) -> bool: ...
    @property
    def tags(self) -> Sequence[str]: ...
    @property
    def metadata(self) -> Mapping[str, object]: ...


@dataclass(frozen=True, slots=True)
class Match:
    """One `match:` of a policy file. None in a field: it is not looked at."""

    team: frozenset[str] | None = None
    key: frozenset[str] | None = None
    tag: frozenset[str] | None = None
    model: tuple[str, ...] | None = None
    endpoint: frozenset[str] | None = None
    stream: bool | None = None
    metadata: tuple[tuple[str, frozenset[str]], ...] = ()
    target: tuple[str, ...] | None = None
    """Rules only: patterns of `provider/model`."""

    @classmethod
    def from_table(cls, table: Mapping[str, Any]) -> Match:
        """From the compiled policy; absent fields are None."""

        def names(field: str) -> frozenset[str] | None:
            return None if table.get(field) is None else frozenset(table[field])

        model, target = table.get("model"), table.get("target")
        return cls(
            team=names("team"),
            key=names("key"),
            tag=names("tag"),
            model=None if model is None else tuple(model),
            endpoint=names("endpoint"),
            stream=table.get("stream"),
            metadata=tuple(
                (name, frozenset(values)) for name, values in (table.get("metadata") or {}).items()
            ),
            target=None if target is None else tuple(target),
        )

    def misses(self, facts: Matchable, model: str | None = None, target: str = "") -> str:
        """The first field that does not hold, "" if all do.

        `model`: looked at instead of the one the caller named; `target`: `provider/model` of an attempt.
        """
        if self.team is not None and facts.team not in self.team:
            return "team"
        if self.key is not None and facts.key not in self.key:
            return "key"
        if self.endpoint is not None and facts.endpoint not in self.endpoint:
            return "endpoint"
        if self.stream is not None and facts.stream is not self.stream:
            return "stream"
        if self.model is not None and not _is_any(facts.model if model is None else model, self.model):
            return "model"
        if self.target is not None and not _is_any(target, self.target):
            return "target"
        if self.tag is not None and self.tag.isdisjoint(facts.tags):
            return "tag"
        for name, values in self.metadata:
            value = facts.metadata.get(name)
            if type(value) is not str or value not in values:
                return f"metadata.{name}"
        return ""

    def may_hold_for(self, *, team: str, key: str) -> bool:
        """False if no call of this key can ever match: the rule is left out of the key's list at load."""
        return (self.team is None or team in self.team) and (self.key is None or key in self.key)

    @property
    def is_static(self) -> bool:
        """True if it looks at nothing but the key, its team, the model and the target."""
        return self.tag is None and self.endpoint is None and self.stream is None and not self.metadata


def _is_any(name: str, globs: tuple[str, ...]) -> bool:
    return any(fnmatchcase(name, glob) for glob in globs)
