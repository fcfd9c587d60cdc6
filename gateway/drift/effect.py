"""How large a change is: of each channel, between the reference and the answers since the change.

Evidence alone grows without end on a difference that nobody would call one. So an alarm also asks for an
effect: the largest difference of the distribution functions (numbers), the total variation (kinds), the
difference (rates). Strata are weighed alike on both sides, by their share of the new answers, so that another
mix of questions is none.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from gateway.drift.detector import Detector
from gateway.drift.layout import Counts, Floats, Layout

_MEAN_KS = 0.8687
"""The mean of Kolmogorov's distribution, sqrt(pi/2) ln 2: what chance alone makes of sqrt(nm/(n+m)) KS."""
_MEAN_NORMAL = 0.7979
"""The mean of |N(0, 1)|, sqrt(2/pi)."""
_DKW = 1.36
"""sqrt(ln(2/0.05)/2): with 95 % a distribution of n answers is off by less than this / sqrt(n) (Massart
1990)."""


@dataclass(frozen=True, slots=True)
class Effects:
    """Of each channel: `size`, what is left of it after what chance would make (`sure`), the least it is with
    95 % (`least`); `before` and `after` are its distributions, bins in the layout's order."""

    answers: int
    size: Floats
    sure: Floats
    least: Floats
    before: Floats
    after: Floats


def effects(
    detector: Detector, since: float, *, stratum: int | None = None, baseline: Counts | None = None
) -> Effects:
    """Of all answers judged from `since` on (of the last 2,048), or those of one stratum, against the
    reference without them, or against `baseline`: strata × bins."""
    layout, recent = detector.layout, detector.recent
    chosen = recent.after(since)
    if stratum is not None:
        chosen = chosen[recent.stratum[chosen] == stratum]
    before, after = np.zeros(layout.width), np.zeros(layout.width)
    told_before, told_after = np.zeros(len(layout)), np.zeros(len(layout))
    for place in np.unique(recent.stratum[chosen]):
        of_it = chosen[recent.stratum[chosen] == place]
        new = layout.histogram(recent.rows[of_it])
        if baseline is None:
            old = detector.counts[place] - layout.histogram(recent.rows[of_it[recent.counted[of_it]]])
        else:
            old = baseline[place]
        new_total, old_total = _totals(layout, new), _totals(layout, old)
        # What the stratum has not told before cannot be compared, so it counts on neither side.
        weight = np.where(old_total > 0, new_total, 0)
        after += new * (weight > 0)[layout.owner]
        before += old * (weight / np.maximum(old_total, 1))[layout.owner]
        told_after += weight
        told_before += np.where(weight > 0, old_total, 0)
    return compare(layout, before, after, told_before, told_after, len(chosen))


def compare(
    layout: Layout, before: Floats, after: Floats, told_before: Floats, told_after: Floats, answers: int
) -> Effects:
    """Of two sets of distributions, as counts in any scale; `told_*` are the answers behind each channel."""
    before = before / np.maximum(_totals(layout, before), 1e-12)[layout.owner]
    after = after / np.maximum(_totals(layout, after), 1e-12)[layout.owner]
    spread = 1 / np.maximum(told_before, 1) + 1 / np.maximum(told_after, 1)
    difference = after - before
    variation = np.add.reduceat(np.abs(difference), layout.first) / 2
    running = np.cumsum(difference)
    # Each channel's differences sum to 0, so the running sum starts anew by itself.
    ks = np.maximum.reduceat(np.abs(running), layout.first)
    kinds = np.array([channel.kind for channel in layout.channels])
    size = np.where(kinds == "number", ks, variation)
    mixed = (before + after) / 2
    by_chance = (
        np.add.reduceat(np.sqrt(mixed * (1 - mixed)), layout.first) * np.sqrt(spread) * _MEAN_NORMAL / 2
    )
    by_chance = np.where(kinds == "number", np.minimum(by_chance, _MEAN_KS * np.sqrt(spread)), by_chance)
    told = told_after > 0
    size = np.where(told & (told_before > 0), size, 0.0)
    sure = np.maximum(size - by_chance, 0.0)
    # Kinds and rates are of several bins; what chance does to them is added to the bound.
    chance = np.where(kinds == "nominal", by_chance, 0.0)
    least = np.maximum(size - chance - _DKW / np.sqrt(np.maximum(told_after, 1)), 0.0)
    return Effects(answers, size, sure, least, before, after)


def _totals(layout: Layout, row: Floats | Counts) -> npt.NDArray[np.float64]:
    return np.add.reduceat(row, layout.first).astype(np.float64)
