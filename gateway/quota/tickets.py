"""Tickets: the times at which refused callers of a rate will get in.

A refusal by a rate names the moment at which enough will have been refilled for everybody before and this
one. What is refilled until then is owed, so nobody without a ticket is let in before; from its moment on a
ticket is kept for one second for its caller, then it lapses.

A request that several rates refuse gets one moment: the slowest one's ticket, and in each of the others a
*companion* for the same moment. That keeps nothing from others before it has to (a fast rate would stand idle
for up to a minute), and bars nobody when it lapses.
"""

from __future__ import annotations

import heapq
from dataclasses import dataclass, field

HORIZON_MS = 60_000
"""Nobody is promised anything later than this."""
KEPT_MS = 1_000
MOST = 4_096
"""Live tickets of one bucket: 68 a second. Beyond it there is only the plain estimate."""
BAN_MS = 60_000
"""How long a caller who let a ticket lapse gets no other."""


@dataclass(slots=True)
class Tickets:
    """The tickets of one bucket. Amounts in the bucket's unit."""

    owed: int = 0
    """The sum of all live tickets, but for companions whose time to count has not come."""
    _number: int = 0
    _queue: list[tuple[int, int, str]] = field(default_factory=list)
    """Heap of (slot in ms, number, who); also of tickets that were claimed."""
    _needs: dict[int, int] = field(default_factory=dict)
    """Number of a live ticket → its need."""
    _of: dict[str, list[tuple[int, int]]] = field(default_factory=dict)
    """Who → (slot in ms, number) of the live tickets, sorted by time."""
    _later: list[tuple[int, int]] = field(default_factory=list)
    """Heap of (from when it is owed, number) of companions."""
    _companions: dict[int, bool] = field(default_factory=dict)
    """Number of a live companion → whether it is owed yet."""
    _banned: dict[str, int] = field(default_factory=dict)
    _bans_to_sweep: int = 1_000
    """So many bans are looked through for those that are over."""
    _seen: dict[str, int] = field(default_factory=dict)
    """Callers with tickets → when they last asked."""

    def __len__(self) -> int:
        return len(self._needs)

    def lapse(self, now_ms: int) -> None:
        """Ends tickets that were not claimed in time. A caller who did not ask at all in that second loses
        the later ones too: it is gone, and what waits for it would be let to nobody."""
        while self._later and self._later[0][0] <= now_ms:
            number = heapq.heappop(self._later)[1]
            if self._companions.get(number) is False:
                self._companions[number] = True
                self.owed += self._needs[number]
        while self._queue and (self._queue[0][0] + KEPT_MS < now_ms or self._queue[0][1] not in self._needs):
            slot, number, who = heapq.heappop(self._queue)
            if number not in self._needs:
                continue
            if number in self._companions:
                self._drop(who, (slot, number))
                continue
            self._ban(who, slot + KEPT_MS + BAN_MS, now_ms)
            if self._seen.get(who, 0) >= slot:
                self._drop(who, self._of[who][0])
            else:
                for ticket in list(self._of[who]):
                    self._drop(who, ticket)

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

    def give(self, who: str, need: int, slot_ms: int, companion_from_ms: int | None = None) -> None:
        """A ticket over `need` from `slot_ms` on; with `companion_from_ms` a companion, owed from then on."""
        self._number += 1
        ticket = (slot_ms, self._number)
        heapq.heappush(self._queue, (*ticket, who))
        self._needs[self._number] = need
        own = self._of.setdefault(who, [])
        own.append(ticket)
        own.sort()
        if companion_from_ms is None:
            self.owed += need
        else:
            self._companions[self._number] = False
            heapq.heappush(self._later, (companion_from_ms, self._number))

    def owed_by(self, at_ms: float) -> int:
        """What will be owed at a moment, if nothing is claimed until then."""
        later = (
            self._needs[number]
            for from_ms, number in self._later
            if from_ms <= at_ms and number in self._needs
        )
        return self.owed + sum(later)

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
            self._seen.pop(who, None)
        need = self._needs.pop(ticket[1])
        if self._companions.pop(ticket[1], True):
            self.owed -= need

    def _ban(self, who: str, until_ms: int, now_ms: int) -> None:
        if len(self._banned) >= self._bans_to_sweep:
            self._banned = {each: until for each, until in self._banned.items() if until > now_ms}
            self._bans_to_sweep = max(1_000, 2 * len(self._banned))
        self._banned[who] = until_ms
