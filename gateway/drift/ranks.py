"""How unusual an answer is among all before it: one number per channel, uniform while nothing changes.

The rank of an answer among the others of its stratum, itself included, ties broken at random, is uniform on
(0, 1) and independent of all earlier ranks if answers are exchangeable, whatever their law (Vovk, Gammerman
and Shafer, Algorithmic Learning in a Random World, 2005, theorem 8.1). Binning keeps that exact.
"""

from __future__ import annotations

import numpy as np

from gateway.drift.layout import Counts, Floats, Ints, Layout


def ranks(layout: Layout, counts: Counts, bins: Ints, draw: Floats) -> Floats:
    """p of each channel, in (0, 1): small means higher than nearly all others, or of a rarer kind.

    `counts` (one row of `layout.width`) must hold this answer already. `draw` are the uniform numbers that
    break ties. Of a
    channel that told nothing it means nothing.
    """
    places = layout.first + bins
    if layout.nominal.size:
        score = np.where(layout.is_nominal, -counts, layout.order)
        own = score[places][layout.owner]
        above = np.add.reduceat(counts * (score > own), layout.first)
        equal = np.add.reduceat(counts * (score == own), layout.first)
    else:
        above = np.add.reduceat(counts * (layout.order > bins[layout.owner]), layout.first)
        equal = counts[places]
    total = np.add.reduceat(counts, layout.first)
    found: Floats = (above + draw * equal) / np.maximum(total, 1)
    return found
