"""Who says that it answered: the served model's name, the system fingerprint, headers that the policy names.

A change is an event and raises attention; alone it is no alarm, and that nothing changes proves nothing: a
fingerprint changes with the infrastructure too, and weights may change under one (drift.md 1.2).
"""

from __future__ import annotations

import re
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass

VALUES = 10
"""Values of one field that are remembered: a provider that alternates between builds changes nothing by that.
"""
_PLAIN = {
    "model": re.compile(r"[A-Za-z0-9][A-Za-z0-9._:/@+-]{0,127}").fullmatch,
    "system_fingerprint": re.compile(r"fp_[A-Za-z0-9._-]{1,60}").fullmatch,
}
_OTHERS = re.compile(r"[!-~]([ -~]{0,126}[!-~])?").fullmatch


def is_plain(field: str, value: str, secrets: Sequence[str]) -> bool:
    """Whether a value may be shown as it is. What is no name, or has one of our secrets in it, may not: a
    provider writes what it likes there, also what it was sent. Headers are those that the policy names."""
    return bool(_PLAIN.get(field, _OTHERS)(value)) and not any(secret in value for secret in secrets)


@dataclass(frozen=True, slots=True)
class Change:
    """A value that a field did not have lately."""

    field: str
    before: str
    after: str
    at_s: float


class Identity:
    """What each field said lately."""

    def __init__(self) -> None:
        self.values: dict[str, deque[str]] = {}

    def see(self, field: str, value: str, at_s: float) -> Change | None:
        """One answer's field; the change it is, if its value is new."""
        known = self.values.get(field)
        if known is None:
            self.values[field] = deque([value], maxlen=VALUES)
            return None
        if known[-1] == value:
            return None
        is_new = value not in known
        before = known[-1]
        if not is_new:
            known.remove(value)
        known.append(value)
        return Change(field, before, value, at_s) if is_new else None

    def current(self) -> dict[str, str]:
        """Field → the value it had last."""
        return {field: known[-1] for field, known in self.values.items()}
