"""What a step of the book changed: a store writes it through."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple

CRASH, LOST, CORRECTION, ADJUST, PRUNED = "crash", "lost", "correction", "adjust", "pruned"
EXPLAINED = (CRASH, LOST, CORRECTION, PRUNED)
"""Kinds of entries that stand for use without a row, or with one that was pruned: for each account, posted =
charges of rows + these."""


class Entry(NamedTuple):
    """A line of the ledger that is no usage row."""

    time_ms: int
    account: str
    kind: str
    amount: int
    who: str
    """The owner, or who adjusted."""
    note: str = ""


@dataclass(slots=True)
class Changes:
    """Collected until a store takes them."""

    buckets: set[str] = field(default_factory=set)
    outs: set[tuple[str, str]] = field(default_factory=set)
    """(bucket, owner's key)"""
    owners: set[str] = field(default_factory=set)
    rules: set[str] = field(default_factory=set)
    posted: dict[str, int] = field(default_factory=dict)
    """Account of money → nano-dollars more (or less)."""
    entries: list[Entry] = field(default_factory=list)
    rows: list[Sequence[Any]] = field(default_factory=list)
    forgotten: list[str] = field(default_factory=list)
    """Keys of owners whose part of every bucket may be deleted."""
    evicted: list[str] = field(default_factory=list)
    """Buckets that the book no longer has; it asks for them when they are named again."""

    def post(self, account: str, amount: int) -> None:
        """Books money to an account."""
        self.posted[account] = self.posted.get(account, 0) + amount
