"""Usage rows that wait to be told to the store."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from gateway.quota.row import TOKENS, Row

MOST = 5_000
"""Rows that wait, 1.5 MB of messages; those of a longer outage are summed up by key, model and target."""

_WHOSE = slice(Row._fields.index("key"), Row._fields.index("status"))
_TOKENS = slice(Row._fields.index(TOKENS[0]), Row._fields.index(TOKENS[-1]) + 1)
_ATTEMPT, _STATUS, _OUTCOME, _NANOUSD, _ESTIMATED, _CHARGES = (
    Row._fields.index(name) for name in ("attempt", "status", "outcome", "nanousd", "estimated", "charges")
)


class Rows:
    """The rows of one worker, in the order of `quota.row.Row`."""

    __slots__ = ("_rows", "_sums")

    def __init__(self) -> None:
        self._rows: list[Sequence[Any]] = []
        self._sums: dict[tuple[Any, ...], list[Any]] = {}

    def __bool__(self) -> bool:
        return bool(self._rows)

    def add(self, row: Sequence[Any]) -> None:
        """An attempt has ended."""
        if len(self._rows) < MOST:
            self._rows.append(row)
            return
        whose = tuple(row[_WHOSE])
        kept = self._sums.get(whose)
        if kept is None:
            # Attempts count from 1: with 0 its id is that of no other row.
            kept = self._sums[whose] = list(row)
            kept[_ATTEMPT], kept[_STATUS], kept[_OUTCOME], kept[_ESTIMATED] = 0, 0, "summed", 1
            kept[_CHARGES] = dict(row[_CHARGES])
            return
        kept[_TOKENS] = [total + more for total, more in zip(kept[_TOKENS], row[_TOKENS], strict=True)]
        kept[_NANOUSD] = (kept[_NANOUSD] or 0) + (row[_NANOUSD] or 0)
        for account, amount in row[_CHARGES].items():
            kept[_CHARGES][account] = kept[_CHARGES].get(account, 0) + amount

    def take(self) -> list[Sequence[Any]]:
        """All that wait; they wait no more."""
        rows, self._rows = self._rows, []
        if self._sums:
            rows += self._sums.values()
            self._sums = {}
        return rows
