"""A worker's own part of a bucket while the store cannot be asked (`when_store_down: share`)."""

from __future__ import annotations

from gateway.quota.contract import RATE, SLOTS, Terms


class Share:
    """1/n of a bucket: of a rate what comes in, of money and slots what there is. Begins with its full
    part, since nobody knows what is left; what it lets through is told to the store afterwards."""

    __slots__ = ("_at_s", "_level", "_per_s", "_terms", "_top")

    def __init__(self, terms: Terms, owners: int, now_s: float) -> None:
        self._terms = terms
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
        self._at_s = now_s

    def has(self, need: int, held: int, now_s: float) -> bool:
        """Whether so much may go through; of slots `held` calls hold one already."""
        if self._terms.kind == SLOTS:
            return held + need <= self._top
        self._level = min(self._top, self._level + (now_s - self._at_s) * self._per_s)
        self._at_s = now_s
        # A call that is larger than the whole part of a rate passes when that is full, or it never would.
        return self._level >= (min(need, self._top) if self._terms.kind == RATE else need)

    def take(self, need: int) -> None:
        """It goes through."""
        if self._terms.kind != SLOTS:
            self._level -= need
