"""What is staked against "nothing has changed": functions of a rank whose mean is 1 while that is true.

Three kinds. Fixed bets say that ranks crowd in one of nine places. An adaptive bet says that they will fall
where the last few hundred fell. A critical rate (refusals, broken JSON) is bet on with steps exactly at its
running rate, as one that rises from 4 to 9 % moves the ranks of one answer in twenty (drift.md 4.5 has what
others miss). Whatever the step, the mean over a uniform rank is 1, so none of them can raise false alarms.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from gateway.drift.layout import Bools, Floats, Ints

Histograms = npt.NDArray[np.float32]

PLACES: tuple[tuple[tuple[float, float], ...], ...] = (
    ((0.0, 0.02),),
    ((0.0, 0.1),),
    ((0.0, 0.3),),
    ((0.7, 1.0),),
    ((0.9, 1.0),),
    ((0.98, 1.0),),
    ((0.25, 0.75),),
    ((0.0, 0.05), (0.95, 1.0)),
    ((0.0, 0.15), (0.85, 1.0)),
)
"""Either end, the middle, and both ends: a rise, a fall, less and more spread."""
STAKES = (0.3, 0.8)
"""What part of the account is staked: 1 - stake is left when the rank falls elsewhere."""
CELLS = 16
HALF_LIFE = 150
"""Answers after which a rank counts half in the adaptive bet."""
ODDS = (1.3, 1.6, 2.0, 3.0, 4.5, 6.0, 0.75, 0.5, 0.25)
"""By what a critical rate's odds may have changed."""

_EDGES = np.unique([edge for place in PLACES for interval in place for edge in interval])[1:-1]
_DECAY = np.float32(0.5 ** (1 / HALF_LIFE))
_FADED = np.full(CELLS + 1, 1 - _DECAY, np.float32)
_FADED[CELLS] *= CELLS
"""What comes back of the uniform beginning, so that no cell is ever ruled out."""


def _fixed() -> Floats:
    """Segment between edges × bet → the value of the bet there."""
    ends = np.concatenate(([0.0], _EDGES, [1.0]))
    middles = (ends[1:] + ends[:-1]) / 2
    table = np.empty((middles.size, len(PLACES) * len(STAKES)))
    for at, place in enumerate(PLACES):
        size = sum(high - low for low, high in place)
        inside = np.array([any(low <= middle < high for low, high in place) for middle in middles])
        for stake_at, stake in enumerate(STAKES):
            table[:, at * len(STAKES) + stake_at] = 1 - stake + np.where(inside, stake / size, 0.0)
    return table


_FIXED = _fixed()
FIXED = _FIXED.shape[1]
GENERIC = FIXED + 1
"""Bets on each channel."""
_ODDS = np.array(ODDS)


def fixed(rank: Floats) -> Floats:
    """Channels × `FIXED` values."""
    return _FIXED[np.searchsorted(_EDGES, rank, side="right")]


def cells(rank: Floats) -> Ints:
    """Which cell of an adaptive bet's histogram a rank falls into."""
    return np.minimum((rank * CELLS).astype(np.int64), CELLS - 1)


def fresh(*shape: int) -> Histograms:
    """Histograms of adaptive bets that have seen nothing: they bet on nothing. Last is their sum."""
    found = np.ones((*shape, CELLS + 1), np.float32)
    found[..., CELLS] = CELLS
    return found


def adaptive(histograms: Histograms, channels: Ints, cell: Ints) -> Histograms:
    """The value of each channel's adaptive bet; `histograms` are rows × channels × cells and sum."""
    found: Histograms = histograms[:, channels, cell] * CELLS / histograms[:, :, CELLS]
    return found


def learn(histograms: Histograms, channels: Ints, cell: Ints, told: Bools | float) -> None:
    """Takes the ranks just bet on into the histograms, in place; older ones fade."""
    histograms *= _DECAY
    histograms += _FADED
    histograms[:, channels, cell] += told
    histograms[:, :, CELLS] += told


def critical(rank: Floats, rate: Floats) -> Floats:
    """Rates × `len(ODDS)` values: how much likelier the rank is with other odds than with `rate`."""
    high = rate[:, None] * _ODDS
    high = high / (1 - rate[:, None] + high)
    is_yes = (rank < rate)[:, None]
    found: Floats = np.where(is_yes, high / rate[:, None], (1 - high) / (1 - rate[:, None]))
    return found
