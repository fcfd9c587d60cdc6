"""A channel: one thing that is told of every answer, as the number of a bin.

Bins are fixed, so that counts of any two hosts, days or versions of a model add up, and so that ranks among
them are exact (`ranks`). A channel that does not apply to an answer has no bin for it: `NOT_TOLD`.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

NOT_TOLD = 255
"""The bin of an answer that a channel does not apply to; it is neither counted nor judged."""
MOST_BINS = 64

Kind = Literal["number", "nominal", "rate"]
"""number: bins are in order; nominal: they are not; rate: two bins, no and yes."""


@dataclass(frozen=True, slots=True)
class Channel:
    """One row of a table of channels.

    `edges` of a number, in its unit and rising: bin i holds what is >= edges[i - 1] and < edges[i].
    `cells` of a nominal are the names of its bins; those of hashes are their numbers.
    A `critical` rate is judged with bets of its own, and alone may be an alarm.
    """

    name: str
    kind: Kind
    tells: str
    unit: str = ""
    edges: tuple[float, ...] = ()
    cells: tuple[str, ...] = ()
    critical: bool = False

    def __post_init__(self) -> None:
        if not 2 <= self.bins <= MOST_BINS:
            raise ValueError(f"channel {self.name} has {self.bins} bins; 2 to {MOST_BINS} are possible")

    @property
    def bins(self) -> int:
        """How many there are."""
        if self.kind == "rate":
            return 2
        return len(self.edges) + 1 if self.kind == "number" else len(self.cells)

    def bin_of(self, value: float) -> int:
        """The bin of a number's value."""
        return bisect_right(self.edges, value)

    def middle(self, index: int) -> float:
        """A value that stands for a bin: of a number its middle (at an end its edge), of others itself."""
        if self.kind != "number":
            return float(index)
        if index == 0:
            return self.edges[0]
        if index == len(self.edges):
            return self.edges[-1]
        return (self.edges[index - 1] + self.edges[index]) / 2


_LOG_OF = "log2(1 + "


def natural(channel: Channel, value: float) -> tuple[float, str]:
    """A value of a number as people count it, and its unit: 5 log2(1 + words) are 31 words."""
    unit = channel.unit
    if unit.startswith(_LOG_OF):
        return 2.0**value - 1, unit.removeprefix(_LOG_OF).removesuffix(")")
    return (2.0**value, "") if unit == "log2" else (value, unit)


def number(name: str, tells: str, unit: str, edges: Sequence[float]) -> Channel:
    """A channel of numbers."""
    return Channel(name, "number", tells, unit, edges=tuple(edges))


def nominal(name: str, tells: str, cells: Sequence[str]) -> Channel:
    """A channel of kinds."""
    return Channel(name, "nominal", tells, cells=tuple(cells))


def rate(name: str, tells: str, *, critical: bool = False) -> Channel:
    """A channel of yes and no."""
    return Channel(name, "rate", tells, unit="share", critical=critical)
