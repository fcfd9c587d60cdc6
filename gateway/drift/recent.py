"""The last answers that were judged, as bins: what a change is measured on once it is suspected."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

KEPT = 2048
"""Answers of a stream; 72 bytes each with 45 channels."""
_GONE = -1


class Recent:
    """A ring of the last `kept` answers."""

    def __init__(self, channels: int, kept: int = KEPT) -> None:
        self.rows: npt.NDArray[np.uint8] = np.zeros((kept, channels), np.uint8)
        self.stratum: npt.NDArray[np.int16] = np.full(kept, _GONE, np.int16)
        self.time: npt.NDArray[np.int64] = np.zeros(kept, np.int64)
        self.at_s: npt.NDArray[np.float64] = np.zeros(kept)
        """Times of day."""
        self.output: npt.NDArray[np.uint64] = np.zeros(kept, np.uint64)
        """Keyed hashes of the answers: what one can be found again by, where they are kept."""
        self.counted: npt.NDArray[np.bool_] = np.zeros(kept, np.bool_)
        """Whether the answer is in the reference too."""
        self._at = 0

    def add(self, told: bytes, stratum: int, time: int, at_s: float, output: int, *, counted: bool) -> None:
        """The next answer, judged at `time`."""
        at = self._at
        self.rows[at] = np.frombuffer(told, np.uint8)
        self.stratum[at], self.time[at] = stratum, time
        self.at_s[at], self.output[at], self.counted[at] = at_s, output, counted
        self._at = (at + 1) % self.stratum.size

    def forget(self, stratum: int) -> None:
        """Those of one stratum."""
        self.stratum[self.stratum == stratum] = _GONE

    def clear(self) -> None:
        """All of them."""
        self.stratum[:] = _GONE

    def after(self, time: float) -> npt.NDArray[np.intp]:
        """Which of them were judged at `time` or later, oldest first."""
        found = np.flatnonzero((self.stratum != _GONE) & (self.time >= time))
        return found[np.argsort(self.time[found], kind="stable")]

    @property
    def at(self) -> int:
        """Where the next one goes."""
        return self._at

    @at.setter
    def at(self, place: int) -> None:
        self._at = place % self.stratum.size
