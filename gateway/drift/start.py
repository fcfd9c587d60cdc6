"""When a change began: the place that splits the latest answers best.

The bets know it only roughly: one that wins slowly has paid nearly as well for starting early. So once it is
known what moved, the place is looked for at which the likelihood of all kept answers is largest, by the
reference's distributions before it and by their own behind it (the maximum-likelihood change point; Hinkley,
Biometrika 57, 1970).
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from gateway.drift.channel import NOT_TOLD
from gateway.drift.detector import Detector

_ROUNDS = 3
_PRIOR = 2.0
"""Answers of the reference that new distributions begin with: a few answers rule nothing out."""


def began(detector: Detector, about: float, channels: Sequence[int]) -> float:
    """The first answer of the change, by the detector's clock, which is `about` there; `channels` are those
    that moved. As far back as `Detector.recent` goes."""
    recent = detector.recent
    order = recent.after(-1.0)
    if not channels or not order.size:
        return about
    times, rows, strata = recent.time[order], recent.rows[order], recent.stratum[order]
    found, most = about, -np.inf
    # It climbs to the next top only, so it begins from several places: the last 8, 16, … answers.
    for size in [None, *(2**power for power in range(3, 12) if 2**power < order.size)]:
        at = about if size is None else float(times[-size])
        for _ in range(_ROUNDS):
            new = times >= at
            gain = np.zeros(len(order))
            for channel in channels:
                first = int(detector.layout.first[channel])
                bins = detector.layout.channels[channel].bins
                gain += _gain(rows[:, channel], strata, new, detector.counts[:, first : first + bins])
            sums = np.cumsum(gain[::-1])[::-1]
            best = int(np.argmax(sums))
            if sums[best] > most:
                found, most = float(times[best]), float(sums[best])
            if times[best] == at:
                break
            at = float(times[best])
    return found


def _gain(bins: np.ndarray, strata: np.ndarray, new: np.ndarray, reference: np.ndarray) -> np.ndarray:
    """Of each answer, how much likelier it is (log) as one of those that are new, within its stratum."""
    size = reference.shape[1]
    gain = np.zeros(len(bins))
    is_told = bins != NOT_TOLD
    for stratum in np.unique(strata[is_told]):
        here = is_told & (strata == stratum)
        counted = np.bincount(bins[here & new], minlength=size).astype(float)
        before = np.maximum(reference[stratum] - counted, 0.0) + 0.5
        before /= before.sum()
        # Each by the others: one that is judged by itself fits always.
        total = counted.sum() - new[here]
        others = counted[bins[here]] - new[here]
        after = (others + _PRIOR * before[bins[here]]) / (total + _PRIOR)
        gain[here] = np.log(after / before[bins[here]])
    return gain
