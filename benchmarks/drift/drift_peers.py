"""What others find drift with, on the same bins: fixed windows with PSI and KS, ADWIN and Page-Hinkley of
river."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import numpy.typing as npt
from river.drift import ADWIN, PageHinkley  # type: ignore[import-untyped,unused-ignore]
from scipy.stats import chi2_contingency, ks_2samp  # type: ignore[import-untyped]

from gateway.drift.answer_channels import ANSWER, INDEX
from gateway.drift.channel import NOT_TOLD

WINDOW = 100
Rows = npt.NDArray[np.uint8]
Peer = Callable[[Rows, Rows], Iterator[int]]
"""(reference, stream) → after how many answers of the stream it sounds, each time."""


def psi(reference: Rows, stream: Rows) -> Iterator[int]:
    """Any channel's population stability index above 0.2, in ten bins by the reference's quantiles."""
    for end in range(WINDOW, len(stream) + 1, WINDOW):
        window = stream[end - WINDOW : end]
        if any(_psi(reference[:, index], window[:, index]) > 0.2 for index in range(len(ANSWER))):
            yield end


def _psi(reference: Rows, window: Rows) -> float:
    reference, window = reference[reference != NOT_TOLD], window[window != NOT_TOLD]
    if not len(reference) or not len(window):
        return 0.0
    edges = np.unique(np.quantile(reference, np.linspace(0, 1, 11)[1:-1]))
    old = np.bincount(np.searchsorted(edges, reference), minlength=len(edges) + 1) / len(reference)
    new = np.bincount(np.searchsorted(edges, window), minlength=len(edges) + 1) / len(window)
    old, new = np.maximum(old, 1e-4), np.maximum(new, 1e-4)
    return float(((new - old) * np.log(new / old)).sum())


def ks(reference: Rows, stream: Rows) -> Iterator[int]:
    """Kolmogorov-Smirnov (chi-squared for kinds) at 0.05, Bonferroni over channels."""
    for end in range(WINDOW, len(stream) + 1, WINDOW):
        window = stream[end - WINDOW : end]
        if min(_p(reference, window, index) for index in range(len(ANSWER))) < 0.05 / len(ANSWER):
            yield end


def _p(reference: Rows, window: Rows, index: int) -> float:
    old, new = reference[:, index], window[:, index]
    old, new = old[old != NOT_TOLD], new[new != NOT_TOLD]
    if not len(old) or not len(new) or ((old == old[0]).all() and (new == old[0]).all()):
        return 1.0
    if ANSWER[index].kind == "number":
        return float(ks_2samp(old, new).pvalue)
    size = ANSWER[index].bins
    table = np.stack([np.bincount(old, minlength=size), np.bincount(new, minlength=size)])
    return float(chi2_contingency(table[:, table.sum(axis=0) > 0])[1])


def adwin(reference: Rows, stream: Rows) -> Iterator[int]:
    """ADWIN with river's defaults, on the length."""
    return _river(ADWIN(), reference, stream)  # type: ignore[no-untyped-call]


def page_hinkley(reference: Rows, stream: Rows) -> Iterator[int]:
    """Page-Hinkley with river's defaults, on the length."""
    return _river(PageHinkley(), reference, stream)


def _river(detector: Any, reference: Rows, stream: Rows) -> Iterator[int]:
    length = INDEX["chars"]
    for value in reference[:, length]:
        detector.update(float(value))
    for count, value in enumerate(stream[:, length], 1):
        detector.update(float(value))
        if detector.drift_detected:
            yield count


PEERS: dict[str, Peer] = {
    "any PSI > 0.2 of 100": psi,
    "KS + Bonferroni of 100": ks,
    "ADWIN on the length": adwin,
    "Page-Hinkley on the length": page_hinkley,
}
