"""The slow change that a growing reference swallows: a hundredth a week never shows against last week's
answers.

So a stream also tests, block by block, whether its answers are still within a margin of a pinned baseline.
That is a bet too: of each channel, "no more than the margin above (below) what it was", against the excess
that the block before had. For a share p whose most is p0, (q/p0)^x ((1-q)/(1-p0))^(1-x) has a mean of at most
1 for every p <= p0 if q > p0. Such an account, never below 1, passes A once in A blocks at most (e-CUSUM;
Shin, Ramdas and Rinaldo 2022). The baseline's own counts are taken as the truth: with 5,000 answers they are
off by a quarter of the margin at most.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from gateway.drift.baseline import Baseline
from gateway.drift.layout import Counts, Floats, Layout

BLOCK = 1_000
"""Answers that are looked at together."""
LEAST = 200
"""Strata with fewer answers in the baseline are left out."""
_EDGE = 1e-3
_MOST = 69.0
"""Natural logarithm of 1e30: an account that is full stays so."""


@dataclass(frozen=True, slots=True)
class Side:
    """One bet: that an answer's bin is one of `bins` (True) of its channel oftener than the baseline's share
    plus the margin, by `excess` over the baseline's."""

    channel: int
    bins: tuple[bool, ...]
    excess: float


class Creep:
    """The test of one stream; `take` each answer that is judged. It bets only while there is a baseline."""

    def __init__(self, layout: Layout, strata: int, margin: float, arl: float) -> None:
        self._layout, self._margin = layout, margin
        self._bound = np.log(max(arl / BLOCK, 1.0) * len(layout))
        """Natural logarithm of what one account must pass, so that the mean of all passes the ARL in blocks.
        """
        self.counts: Counts = np.zeros((strata, layout.width), np.int32)
        self.answers = 0
        """In the block."""
        self.log_e: Floats = np.zeros(len(layout))
        self.sides: list[Side] = []

    def take(self, told: bytes, stratum: int, keys: tuple[str, ...], pinned: Baseline) -> int | None:
        """One answer. The channel that crept beyond the margin, when it is first sure; `keys` are the
        strata's."""
        bins, is_told = self._layout.bins(told)
        places = self._layout.first + bins
        self.counts[stratum, places if is_told is None else places[is_told]] += 1
        self.answers += 1
        if self.answers < BLOCK:
            return None
        before, after, told_after = self._mixed(pinned.rows(keys))
        self._settle(before, after, told_after)
        self.sides = self._choose(before, after, told_after)
        self.counts[:], self.answers = 0, 0
        best = int(np.argmax(self.log_e))
        return best if self.log_e[best] >= self._bound else None

    def start_over(self) -> None:
        """Another baseline is pinned, or what was found is dealt with."""
        self.counts[:], self.answers, self.sides = 0, 0, []
        self.log_e[:] = 0.0

    @property
    def evidence(self) -> float:
        """Decimal logarithm of the largest account."""
        return float(self.log_e.max() / np.log(10))

    def _mixed(self, pinned: Counts) -> tuple[Floats, Floats, Floats]:
        """Shares per bin in the baseline and in the block, strata weighed alike, and the block's answers per
        channel."""
        layout = self._layout
        before, after = np.zeros(layout.width), np.zeros(layout.width)
        for old, new in zip(pinned, self.counts, strict=True):
            old_total = np.add.reduceat(old, layout.first)
            new_total = np.where(old_total >= LEAST, np.add.reduceat(new, layout.first), 0)
            before += old * (new_total / np.maximum(old_total, 1))[layout.owner]
            after += new * (new_total > 0)[layout.owner]
        total = np.add.reduceat(after, layout.first)
        scale = np.maximum(total, 1)[layout.owner]
        return before / scale, after / scale, total

    def _settle(self, before: Floats, after: Floats, told: Floats) -> None:
        """Pays out the bets on this block."""
        for side in self.sides:
            first = int(self._layout.first[side.channel])
            chosen = slice(first, first + len(side.bins))
            base = float(before[chosen][list(side.bins)].sum())
            p0 = min(base + self._margin, 1 - _EDGE)
            q = min(base + side.excess, 1 - _EDGE / 2)
            answers = float(told[side.channel])
            if answers == 0 or q <= p0:
                continue
            hits = float(after[chosen][list(side.bins)].sum()) * answers
            won = hits * np.log(q / p0) + (answers - hits) * np.log((1 - q) / (1 - p0))
            self.log_e[side.channel] = min(max(self.log_e[side.channel] + won, 0.0), _MOST)

    def _choose(self, before: Floats, after: Floats, told: Floats) -> list[Side]:
        """For the next block, of each channel the side that is furthest off, if it is beyond the margin."""
        found = []
        for index, channel in enumerate(self._layout.channels):
            if told[index] == 0:
                continue
            first = int(self._layout.first[index])
            difference = (after - before)[first : first + channel.bins]
            if channel.kind == "nominal":
                bins = difference > 0
            else:
                running = np.cumsum(difference)[:-1]
                edge = int(np.argmax(np.abs(running)))
                bins = (np.arange(channel.bins) <= edge) == (running[edge] > 0)
            excess = float(difference[bins].sum())
            if channel.kind == "nominal":
                # The sum of what rose is inflated by chance, and a bin that did not rise again loses the bet.
                excess *= 0.8
            if excess > self._margin:
                found.append(Side(index, tuple(bool(is_in) for is_in in bins), excess))
        return found

    def as_json(self) -> dict[str, Any]:
        """All of it but the block's counts: a restart begins a block again."""
        return {
            "log_e": self.log_e.tolist(),
            "sides": [(side.channel, list(side.bins), side.excess) for side in self.sides],
        }

    def restore(self, told: Mapping[str, Any]) -> None:
        """From `as_json`."""
        self.log_e[:] = told["log_e"]
        self.sides = [Side(channel, tuple(bins), excess) for channel, bins, excess in told["sides"]]
