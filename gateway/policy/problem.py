"""What is wrong with a policy, and where: one `Problem` per mistake, all of them reported together."""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass
from typing import Any, NamedTuple


class Place(NamedTuple):
    """Where something stands: line and column count from 1, 0 means the file (or folder) as a whole."""

    file: str
    line: int = 0
    column: int = 0

    def __str__(self) -> str:
        return ":".join(str(part) for part in self if part)


@dataclass(frozen=True, slots=True)
class Problem:
    """One mistake or warning. `path` is the key path (`models.fast.targets[0].provider`), "" for none."""

    file: str
    line: int
    column: int
    path: str
    message: str

    @classmethod
    def at(cls, place: Place, path: str, message: str) -> Problem:
        """A problem at a place."""
        return cls(place.file, place.line, place.column, path, message)

    def __str__(self) -> str:
        place = str(Place(self.file, self.line, self.column))
        return ": ".join(part for part in (place, self.path, self.message) if part)

    def as_json(self) -> dict[str, Any]:
        """Plain fields, for `headgate check --json` and the admin API."""
        return asdict(self)


def in_order(problems: Iterable[Problem]) -> list[Problem]:
    """Each problem once, in the order of files and lines."""
    return sorted(dict.fromkeys(problems), key=lambda found: (found.file, found.line, found.column))


class PolicyError(Exception):
    """A policy that cannot be used. `problems` holds every mistake found, in the order of files and lines."""

    def __init__(self, problems: Iterable[Problem]) -> None:
        self.problems: list[Problem] = in_order(problems)
        super().__init__("\n".join(map(str, self.problems)))


class SecretError(Exception):
    """A secret that cannot be read. The message names the variable or file, never what is in it."""


NOT_READ = "not-read"
"""Stands for secrets where none are read (`headgate check --no-secrets`): nothing is said of what it is."""


def dotted(path: Sequence[str | int]) -> str:
    """A key path as people write it: `models.fast.targets[0].provider`."""
    text = ""
    for part in path:
        text += f"[{part}]" if isinstance(part, int) else f".{part}" if text else part
    return text


def did_you_mean(word: str, known: Iterable[str]) -> str:
    """ " (did you mean 'x'?)" if something known is close to `word`, else ""."""
    close = difflib.get_close_matches(word, list(known), n=1, cutoff=0.6)
    return f" (did you mean {close[0]!r}?)" if close else ""
