"""An owner's epoch: its lease, and what it was answered."""

from __future__ import annotations

from dataclasses import dataclass, field

from gateway.quota.contract import Refusal, Reply

LEASE_MS = 30_000
ALIVE, LOST, DEAD, FORGOTTEN = "alive", "lost", "dead", "forgotten"
"""LOST: the lease ran out. DEAD: buried. FORGOTTEN: what it says now is too old to be told from a repetition,
so it changes nothing."""

DEAD_MS = 600_000
"""How long late messages of a dead owner are still booked: its sockets are closed, so none is older."""
LOST_MS = 30 * 86_400_000
"""How long a lost owner's journal may take to be found."""
DECIDED = 1024
"""Decisions on parked wants that are kept, for a keeper that asks again. It does within a second."""


@dataclass(slots=True)
class Owner:
    """One epoch of a worker."""

    name: str
    epoch: int
    lease_ms: int
    """Until when it may spend what it was given."""
    state: str = ALIVE
    ended_ms: int = 0
    """Since when it is lost or dead."""
    seq: int = 0
    reply: Reply | None = None
    """To the exchange `seq`."""
    is_back: bool = False
    """It said hello and had not got all, so the reply to `seq` was lost: its wants are decided again."""
    decided: dict[int, tuple[Refusal | None, dict[str, int]]] = field(default_factory=dict)
    """Parked wants that were decided for the last time: refused or granted, and what was given back."""
    asked_ms: int = 0
    buckets: set[str] = field(default_factory=set)
    """Those that it was ever given something of, or used."""
    untold: set[str] = field(default_factory=set)
    """Those that were shut since its last reply."""

    key: str = ""

    def __post_init__(self) -> None:
        self.key = f"{self.name}@{self.epoch}"

    def remember(self, want: int, refusal: Refusal | None, back: dict[str, int]) -> None:
        """Keeps a last decision."""
        self.decided[want] = (refusal, back)
        if len(self.decided) > DECIDED:
            del self.decided[next(iter(self.decided))]

    def is_over(self, now_ms: int) -> bool:
        """Whether it is time to forget it."""
        if self.state == DEAD:
            return now_ms - self.ended_ms > DEAD_MS
        return self.state == LOST and now_ms - self.ended_ms > LOST_MS
