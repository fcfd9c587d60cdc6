"""In which order the targets of a model are tried. A strategy is one pure function in `STRATEGIES`."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, Protocol, TypeVar


class Weighted(Protocol):
    """What a strategy sees of a target."""

    @property
    def weight(self) -> int: ...


T = TypeVar("T", bound=Weighted)


def priority(targets: tuple[T, ...], draw: float, turn: int) -> tuple[T, ...]:
    """As listed: the first is used until it fails."""
    return targets


def weighted(targets: tuple[T, ...], draw: float, turn: int) -> tuple[T, ...]:
    """One by lot, by weight; the others follow as listed, those of weight 0 as a last resort."""
    point = draw * sum(target.weight for target in targets)
    for index, target in enumerate(targets):
        point -= target.weight
        if point < 0:
            first = index
            break
    else:
        return targets
    rest = targets[:first] + targets[first + 1 :]
    return (targets[first], *sorted(rest, key=lambda target: target.weight == 0))


def round_robin(targets: tuple[T, ...], draw: float, turn: int) -> tuple[T, ...]:
    """Each in its turn; the others follow in the circle."""
    first = turn % len(targets)
    return targets[first:] + targets[:first]


STRATEGIES: Mapping[str, Callable[[tuple[Any, ...], float, int], tuple[Any, ...]]] = {
    "priority": priority,
    "weighted": weighted,
    "round_robin": round_robin,
}
