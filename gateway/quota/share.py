"""A worker's own part of a bucket while the store cannot be asked."""

from __future__ import annotations

import math

from gateway.quota.contract import RATE, SLOTS, Terms


class Share:
    """1/n of a bucket: of a rate what comes in, of money and slots what there is. Begins with its full part,
    since nobody knows what is left; in a later outage it goes on with what it had.

    What it lets through of money is told to the store afterwards. Of a rate that would be too much: the part
    refills meanwhile as the bucket would have, which is full when the store is back. All of it taken from
    there, callers would be refused for as long again as the outage was. What is told is `owed`.
    """

    __slots__ = ("_at_s", "_level", "_owed", "_per_s", "_top", "terms")

    def __init__(self, terms: Terms, owners: int, now_s: float) -> None:
        self.terms = terms
        self._top = terms.most / max(1, owners)
        if terms.kind != RATE:
            # Less than one call at once would be none at all.
            self._top = (
                float(int(self._top))
                if terms.kind != SLOTS
                else float(max(min(1, terms.limit), int(self._top)))
            )
        self._per_s = terms.limit * 1000 / terms.window_ms / max(1, owners) if terms.kind == RATE else 0.0
        self._level = self._top
        self._owed = 0.0
        self._at_s = now_s

    def at(self, now_s: float) -> Share:
        """Itself, as it is at a time."""
        more = (now_s - self._at_s) * self._per_s
        self._at_s = now_s
        self._level = min(self._top, self._level + more)
        self._owed = max(0.0, self._owed - more)
        return self

    def has(self, need: int, held: int) -> bool:
        """Whether so much may go through; of slots `held` calls hold one already."""
        if self.terms.kind == SLOTS:
            return held + need <= self._top
        # A call that is larger than the whole part of a rate passes when that is full, or it never would.
        return self._level >= (min(need, self._top) if self.terms.kind == RATE else need)

    def take(self, amount: int) -> None:
        """It goes through, whether it has so much or not. Less than 0: so much was not used."""
        if self.terms.kind == SLOTS:
            return
        self._level -= amount
        # No more than empties the part, or than one call took.
        self._owed = min(self._owed + amount, max(self._top, self._owed, amount))

    def owed(self) -> int:
        """Of a rate: what went through and has not refilled since; it counts as told from now on."""
        owed, self._owed = math.ceil(self._owed), 0.0
        return owed if self.terms.kind == RATE else 0
