"""What the bets have won: Shiryaev-Roberts accounts, and since when they win.

Each answer, every account gets 1 and is staked on a bet: R ← (R + 1) · e. While nothing changes the mean of R
after t answers is t, of any weighted mean of accounts too, so the mean time to reach A is at least A, for
ever and however often one looks (Shin, Ramdas and Rinaldo 2022, e-detectors). T ← (T + t) · e besides: T / R
is the mean of the start times by what their stakes have become, an estimate of when the change was.

Kept as plain float32 and not as logarithms: an account above 1e30 stays where it is, with its T. That is 20
orders above any threshold, and a logarithm of a sum costs ten times a sum.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from gateway.drift import bets
from gateway.drift.layout import Floats, Ints, Layout

_MOST = 1e30
FULL = 1e20
"""The evidence from which on an account may be full: each has more than 1e-5 of the weight."""
Won = npt.NDArray[np.float32]


class Book:
    """Which account is whose: `GENERIC` of each channel, then those of critical rates.

    `weights` sum to 1: half for channels, half for critical rates (drift.md 5); to channels alone if no rate
    is critical.
    """

    def __init__(self, layout: Layout) -> None:
        channels, rates = len(layout), layout.critical.size
        self.layout = layout
        self.fixed = channels * bets.FIXED
        self.generic = channels * bets.GENERIC
        self.size = self.generic + rates * len(bets.ODDS)
        self.channel: Ints = np.concatenate(
            (
                np.repeat(np.arange(channels), bets.FIXED),
                np.arange(channels),
                np.repeat(layout.critical, len(bets.ODDS)),
            )
        ).astype(np.int64)
        self.weights: Floats = np.full(self.size, (0.5 if rates else 1.0) / self.generic, np.float64)
        self.weights[self.generic :] = 0.5 / max(1, self.size - self.generic)

    def values(self, rank: Floats, rate: Floats, adaptive: Won) -> Won:
        """What every bet returns for one answer: a row for each of `adaptive` (rows × channels), which alone
        differ."""
        found = np.empty((len(adaptive), self.size), np.float32)
        found[:, : self.fixed] = bets.fixed(rank).ravel()
        found[:, self.fixed : self.generic] = adaptive
        if rate.size:
            found[:, self.generic :] = bets.critical(rank[self.layout.critical], rate).ravel()
        return found

    def by_channel(self, won: Won) -> Floats:
        """The mean account of each channel: generic and critical bets each half, where it has both."""
        layout = self.layout
        generic: Floats = (
            np.bincount(self.channel[: self.generic], won[: self.generic], len(layout)) / bets.GENERIC
        )
        if layout.critical.size:
            odds = won[self.generic :].reshape(-1, len(bets.ODDS)).mean(axis=1)
            generic[layout.critical] = (generic[layout.critical] + odds) / 2
        return generic


def stake(won: Won, since: Won, value: Won, tick: Won | float, time: float) -> None:
    """One answer's bets: `won` (R) and `since` (T) in place. `tick` is 0 for accounts not staked, else 1."""
    won += tick
    won *= value
    since += np.float32(time) * tick
    since *= value


def keep_full(won: Won, value: Won) -> None:
    """Accounts above 1e30 are staked on nothing; 1 more or less does not show in them."""
    value[won > _MOST] = 1.0
