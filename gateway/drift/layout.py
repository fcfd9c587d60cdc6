"""A table of channels as arrays: which of the counts in a row are whose."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from gateway.drift.channel import NOT_TOLD, Channel

Floats = npt.NDArray[np.float64]
Ints = npt.NDArray[np.int64]
Counts = npt.NDArray[np.int32]
Bools = npt.NDArray[np.bool_]


class Layout:
    """Channels side by side: the bins of all of them are one row of `width` numbers.

    `first[k]` is the place of channel k's first bin, `owner[j]` the channel of place j, `order[j]` how far
    that bin ranks among its channel's (nominal ones rank by their counts instead: `is_nominal[j]`).
    """

    def __init__(self, channels: Sequence[Channel]) -> None:
        self.channels = tuple(channels)
        sizes = [channel.bins for channel in channels]
        self.width = sum(sizes)
        self.sizes: Ints = np.array(sizes, np.int64)
        self.first: Ints = np.concatenate(([0], np.cumsum(sizes)[:-1])).astype(np.int64)
        self.owner: Ints = np.repeat(np.arange(len(sizes)), sizes)
        self.order: Ints = np.concatenate([np.arange(size) for size in sizes]).astype(np.int64)
        nominal = np.array([channel.kind == "nominal" for channel in channels])
        self.nominal: Ints = np.flatnonzero(nominal)
        self.is_nominal: Bools = nominal[self.owner]
        self.critical: Ints = np.array(
            [index for index, channel in enumerate(channels) if channel.critical], np.int64
        )
        self.names = tuple(channel.name for channel in channels)

    def __len__(self) -> int:
        return len(self.channels)

    def bins(self, told: bytes) -> tuple[Ints, Bools | None]:
        """The bins of one answer, a byte per channel, and which channels told one; None: all of them.

        ValueError if there are too few or too many bytes, or a bin that its channel has not.
        """
        found = np.frombuffer(told, np.uint8).astype(np.int64)
        if found.size != self.sizes.size:
            raise ValueError(f"{found.size} bins for {self.sizes.size} channels")
        is_told = None
        if NOT_TOLD in told:
            is_told = found != NOT_TOLD
            found[~is_told] = 0
        if (found >= self.sizes).any():
            raise ValueError("a bin that its channel has not")
        return found, is_told

    def histogram(self, rows: npt.NDArray[np.uint8]) -> Counts:
        """Counts of many answers: `rows` is answers × channels, as `bins` takes them one by one."""
        told = rows != NOT_TOLD
        places = (rows.astype(np.int64) + self.first)[told]
        return np.bincount(places, minlength=self.width).astype(np.int32)
