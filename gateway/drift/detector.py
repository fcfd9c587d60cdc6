"""The sequential test of one stream of answers: stratified, conformal, for ever.

Each answer is ranked among the earlier ones of its own stratum, so that other questions do not look like
other answers. Its ranks are staked twice: in shared accounts, which see a change everywhere soonest, and in
those of its stratum, which see a change in a tenth of the traffic. Half the weight is on each; the own
accounts of all strata are summed, not averaged, as their clocks add up to that of the stream (drift.md 4.4).
So `evidence` has a mean of at most the number of answers judged, and passes A once in A answers at most while
nothing changes.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from gateway.drift import bets
from gateway.drift.accounts import FULL, Book, Won, keep_full, stake
from gateway.drift.layout import Bools, Counts, Floats, Layout
from gateway.drift.ranks import ranks
from gateway.drift.recent import KEPT, Recent

_STEP = 0.6180339887498949
"""Spreads one draw over the channels: each still is uniform, which is all that their accounts ask."""


@dataclass(frozen=True, slots=True)
class Growth:
    """How the reference grows: judged from `arm_at` answers on, and in a stratum from `min_reference` on;
    at `grow_to` nothing more is added."""

    arm_at: int = 500
    grow_to: int = 20_000
    min_reference: int = 30


class Detector:
    """The state of one stream. All arrays are plain numbers, so it can be written down as it is."""

    def __init__(self, layout: Layout, strata: int, growth: Growth, kept: int = KEPT) -> None:
        self.layout, self.book, self.growth = layout, Book(layout), growth
        self.counts: Counts = np.zeros((strata, layout.width), np.int32)
        """The reference: stratum × bins."""
        self.references: Counts = np.zeros(strata, np.int32)
        """Answers in it, per stratum."""
        self.reference = 0
        """All of them."""
        self.judged = 0
        """Answers that were staked on: the clock of the accounts."""
        self.attended = 0
        """When more was staked last, by the same clock."""
        self.recent = Recent(len(layout), kept)
        self._draws: npt.NDArray[np.float64] = (np.arange(len(layout), dtype=np.float64) * _STEP) % 1.0
        self._channels = np.arange(len(layout))
        self._no = layout.first[layout.critical]
        self._yes = self._no + 1
        self._open(strata)

    def _open(self, strata: int) -> None:
        size = self.book.size
        self.won: Won = np.zeros((strata + 1, size), np.float32)
        """R: the accounts of each stratum, and in the last row those shared."""
        self.since: Won = np.zeros((strata + 1, size), np.float32)
        """T, as `won`."""
        self.adaptive = bets.fresh(strata + 1, len(self.layout))
        self.evidences: npt.NDArray[np.float64] = np.zeros(strata + 1)

    @property
    def strata(self) -> int:
        """How many there may be."""
        return int(self.references.size)

    @property
    def is_armed(self) -> bool:
        """True once answers are judged."""
        return self.reference >= self.growth.arm_at

    @property
    def evidence(self) -> float:
        """What the bets have won: at most about the answers judged while nothing changes."""
        return float(self.evidences.sum() / 2)

    def take(self, told: bytes, stratum: int, draw: float, at_s: float = 0.0, output: int = 0) -> bool:
        """One answer: a byte per channel, its stratum, a number from [0, 1) that nothing else depends on,
        its time of day and what it is known by.

        True if it was judged, and not only counted. ValueError: these are no bins of the layout.
        """
        bins, is_told = self.layout.bins(told)
        row, places = self.counts[stratum], self.layout.first + bins
        if is_told is not None:
            places = places[is_told]
        reference = self.reference
        is_judged = reference >= self.growth.arm_at and self.references[stratum] >= self.growth.min_reference
        rates = self._rates(row) if is_judged else None
        row[places] += 1
        grows = reference < self.growth.grow_to
        if rates is not None:
            rank = ranks(self.layout, row, bins, (self._draws + draw) % 1.0)
            self._bet(rank, rates, is_told, stratum)
            self.recent.add(told, stratum, self.judged, at_s, output, counted=grows)
            self.judged += 1
        if grows:
            self.references[stratum] += 1
            self.reference = reference + 1
        else:
            row[places] -= 1
        return is_judged

    def _rates(self, row: Counts) -> Floats:
        """The running rate of each critical channel in a stratum, before this answer."""
        no, yes = row[self._no], row[self._yes]
        found: Floats = (yes + 0.5) / (no + yes + 1.0)
        return found

    def _bet(self, rank: Floats, rates: Floats, told: Bools | None, stratum: int) -> None:
        rows = [stratum, self.strata]
        cell = bets.cells(rank)
        adaptive = self.adaptive[rows]
        values = self.book.values(rank, rates, bets.adaptive(adaptive, self._channels, cell))
        tick: Won | float = 1.0
        if told is not None:
            tick = told[self.book.channel].astype(np.float32)
            values[:, tick == 0] = 1.0
        won, since = self.won[rows], self.since[rows]
        if self.evidence > FULL:
            keep_full(won, values)
        stake(won, since, values, tick, self.judged)
        self.won[rows], self.since[rows] = won, since
        self.evidences[rows] = won @ self.book.weights
        bets.learn(adaptive, self._channels, cell, 1.0 if told is None else told)
        self.adaptive[rows] = adaptive

    def attend(self, most: float) -> None:
        """Stakes more on a change that begins now: `most`, or a tenth of the answers judged since this was
        done last if that is less. So the mean of `evidence` is at most 1.1 times the answers judged, and the
        mean time to a false alarm 1/1.1 of what it is without."""
        extra = min(most, (self.judged - self.attended) / 10)
        self.attended = self.judged
        known = np.flatnonzero(self.references)
        share = np.zeros(self.strata + 1, np.float32)
        share[known] = extra / max(1, known.size)
        share[-1] = extra
        self.won += share[:, None]
        self.since += share[:, None] * np.float32(self.judged)
        self.evidences = (self.won @ self.book.weights).astype(np.float64)

    def changed_at(self) -> float:
        """When the change was, by the accounts' clock (`judged`): the mean start of what was won."""
        weights = self.book.weights
        won = float((self.won @ weights).sum())
        return float((self.since @ weights).sum()) / won if won else float(self.judged)

    def by_channel(self) -> npt.NDArray[np.float64]:
        """The evidence of each channel alone, on the scale of `evidence`."""
        own, shared = self.won[:-1].sum(axis=0), self.won[-1]
        return self.book.by_channel((own + shared) / 2)

    def by_stratum(self) -> npt.NDArray[np.float64]:
        """The evidence of each stratum's own accounts."""
        return self.evidences[:-1].copy()

    def forget(self, stratum: int) -> None:
        """Gives a stratum's place to another: what it knew and had won is gone."""
        self.counts[stratum] = 0
        self.reference -= int(self.references[stratum])
        self.references[stratum] = 0
        self.won[stratum] = self.since[stratum] = 0.0
        self.adaptive[stratum] = 1.0
        self.evidences[stratum] = 0.0
        self.recent.forget(stratum)

    def settle(self) -> None:
        """Closes all accounts, after an alarm: what is found next is another change."""
        self._open(self.strata)

    def take_back(self, since: float) -> tuple[Counts, Counts]:
        """Removes from the reference what was judged from `since` on.

        Returns what it removed and what was not in it: counts (strata × bins) and answers (strata) of all of
        them.
        """
        recent, chosen = self.recent, self.recent.after(since)
        counts, answers = np.zeros_like(self.counts), np.zeros_like(self.references)
        for stratum in np.unique(recent.stratum[chosen]):
            of_it = chosen[recent.stratum[chosen] == stratum]
            counted = of_it[recent.counted[of_it]]
            counts[stratum], answers[stratum] = self.layout.histogram(recent.rows[of_it]), of_it.size
            self.counts[stratum] -= self.layout.histogram(recent.rows[counted])
            self.references[stratum] -= counted.size
        recent.clear()
        self.reference = int(self.references.sum())
        return counts, answers

    def start_over(self, counts: Counts, answers: Counts) -> None:
        """Takes another reference; what was won against the old one is gone."""
        self.counts[:], self.references[:] = counts, answers
        self.reference = int(answers.sum())
        self.recent.clear()
        self.settle()
