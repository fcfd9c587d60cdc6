"""Which prompts are of a kind: the few keys that most answers have, learnt as they come.

Each of them has a place of its own in the detector's arrays; all others share the last place. What decides is
how often a key comes, never what was answered, so a change of places cannot look like a change of answers.
"""

from __future__ import annotations

OFTEN = 10
"""A key gets a free place when it has come so often: one-off prompts would take all of them otherwise."""
WATCHED = 256
"""Keys without a place that are counted (Metwally et al. 2005, Space-Saving: none is missed that makes up
more than a 256th of the traffic)."""
_PERIOD = 2_000
"""Answers after which all counts are halved, so that yesterday's keys make room."""


class Strata:
    """Keys → places 0 … `most`, the last one for whatever has none."""

    def __init__(self, most: int) -> None:
        self.most = most
        self.places: dict[int, int] = {}
        self.counts: dict[int, int] = {}
        """How often each key came lately: those with a place, and `WATCHED` more."""
        self.taken = 0

    def place(self, key: int) -> tuple[int, bool]:
        """The place of the next answer, and whether it was just taken from another key."""
        self.taken += 1
        if self.taken % _PERIOD == 0:
            self._fade()
        count = self._count(key)
        found = self.places.get(key)
        if found is not None:
            return found, False
        if count < OFTEN:
            return self.most, False
        if len(self.places) < self.most:
            free = min(set(range(self.most)).difference(self.places.values()))
            self.places[key] = free
            return free, False
        rarest = min(self.places, key=lambda held: (self.counts.get(held, 0), held))
        if count <= 2 * self.counts.get(rarest, 0) + OFTEN:
            return self.most, False
        self.places[key] = place = self.places.pop(rarest)
        return place, True

    def _count(self, key: int) -> int:
        counts = self.counts
        if key not in counts and len(counts) >= WATCHED + self.most:
            rarest = min((held for held in counts if held not in self.places), key=lambda held: counts[held])
            counts[key] = counts.pop(rarest)
        counts[key] = counts.get(key, 0) + 1
        return counts[key]

    def _fade(self) -> None:
        self.counts = {
            key: count // 2 for key, count in self.counts.items() if count > 1 or key in self.places
        }

    def share(self, place: int) -> float:
        """What part of the answers of late came to a place."""
        total = sum(self.counts.values())
        held = {place: key for key, place in self.places.items()}
        if place == self.most:
            return (
                sum(count for key, count in self.counts.items() if key not in self.places) / total
                if total
                else 0.0
            )
        return self.counts.get(held.get(place, -1), 0) / total if total else 0.0
