"""Tickets: the times at which refused callers of a rate will get in.

A refusal by a rate names the moment at which enough will have been refilled for everybody before and this
one. What is refilled until then is owed, so nobody without a ticket is let in before; from its moment on a
ticket is kept for one second for its caller, then it lapses.
"""

from __future__ import annotations

import heapq
from dataclasses import dataclass, field

HORIZON_MS = 60_000
"""Nobody is promised anything later than this."""
KEPT_MS = 1_000
BAN_MS = 60_000
"""How long a caller who let a ticket lapse gets no other."""


@dataclass(slots=True)
class Tickets:
    """The tickets of one bucket. Amounts in the bucket's unit."""

    owed: int = 0
    """The sum of all live tickets."""
    _number: int = 0
    _queue: list[tuple[int, int, str]] = field(default_factory=list)
    """Heap of (slot in ms, number, who); also of tickets that were claimed."""
    _needs: dict[int, int] = field(default_factory=dict)
    """Number of a live ticket → its need."""
    _of: dict[str, list[tuple[int, int]]] = field(default_factory=dict)
    """Who → (slot in ms, number) of the live tickets, sorted by time."""
    _banned: dict[str, int] = field(default_factory=dict)
    _seen: dict[str, int] = field(default_factory=dict)
    """Callers with tickets → when they last asked."""

    def lapse(self, now_ms: int) -> None:
        """Ends tickets that were not claimed in time. A caller who did not ask at all in that second loses
        the later ones too: it is gone, and what waits for it would be let to nobody."""
        while self._queue and (self._queue[0][0] + KEPT_MS < now_ms or self._queue[0][1] not in self._needs):
            slot, number, who = heapq.heappop(self._queue)
            if number not in self._needs:
                continue
            self._banned[who] = slot + KEPT_MS + BAN_MS
            if self._seen.get(who, 0) >= slot:
                self._drop(who, self._of[who][0])
            else:
                for ticket in list(self._of[who]):
                    self._drop(who, ticket)
        if not self._queue:
            self._seen.clear()
            if self._banned:
                self._banned = {who: until for who, until in self._banned.items() if until > now_ms}

    def ask(self, who: str, now_ms: int) -> int:
        """A request of `who` is here. What is kept for it at this moment."""
        if who not in self._of:
            return 0
        self._seen[who] = now_ms
        return sum(self._needs[number] for slot, number in self._of[who] if slot <= now_ms)

    def claim(self, who: str, need: int, now_ms: int) -> None:
        """A request of `who` got `need`: its due tickets are used, oldest first."""
        while need > 0 and who in self._of and self._of[who][0][0] <= now_ms:
            ticket = self._of[who][0]
            need -= self._needs[ticket[1]]
            self._drop(who, ticket)

    def give(self, who: str, need: int, slot_ms: int) -> None:
        """A ticket over `need` from `slot_ms` on."""
        self._number += 1
        ticket = (slot_ms, self._number)
        heapq.heappush(self._queue, (*ticket, who))
        self._needs[self._number] = need
        own = self._of.setdefault(who, [])
        own.append(ticket)
        own.sort()
        self.owed += need

    def is_banned(self, who: str, now_ms: int) -> bool:
        """Whether `who` let a ticket lapse within the last minute."""
        return self._banned.get(who, 0) > now_ms

    def next_ms(self) -> int | None:
        """When the first live ticket is due, or was."""
        while self._queue and self._queue[0][1] not in self._needs:
            heapq.heappop(self._queue)
        return self._queue[0][0] if self._queue else None

    def _drop(self, who: str, ticket: tuple[int, int]) -> None:
        own = self._of[who]
        own.remove(ticket)
        if not own:
            del self._of[who]
        self.owed -= self._needs.pop(ticket[1])
