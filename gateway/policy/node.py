"""A policy file as a tree that remembers where everything stands; it does not mean anything yet."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

from gateway.policy.problem import Place


@dataclass(slots=True)
class Scalar:
    """A single value. `value` is a str with `${…}` still in it, or a number, boolean or None."""

    place: Place
    value: str | int | float | bool | None


@dataclass(slots=True)
class ListNode:
    """A sequence."""

    place: Place
    items: list[Node] = field(default_factory=list)


@dataclass(slots=True)
class MapNode:
    """A mapping. Keys are always text; `key_places` says where each stands."""

    place: Place
    entries: dict[str, Node] = field(default_factory=dict)
    key_places: dict[str, Place] = field(default_factory=dict)


Node = Scalar | ListNode | MapNode
Path = tuple[str | int, ...]


def plain(node: Node) -> Any:
    """The tree as plain dicts, lists and scalars."""
    if isinstance(node, Scalar):
        return node.value
    if isinstance(node, ListNode):
        return [plain(item) for item in node.items]
    return {key: plain(value) for key, value in node.entries.items()}


def map_text(value: Any, change: Callable[[str, Path], str], path: Path = ()) -> Any:
    """A copy of plain data in which every text value (keys are left alone) went through `change`."""
    if isinstance(value, str):
        return change(value, path)
    if isinstance(value, list):
        return [map_text(item, change, (*path, index)) for index, item in enumerate(value)]
    if isinstance(value, dict):
        return {key: map_text(item, change, (*path, key)) for key, item in value.items()}
    return value


def place_of(root: Node, path: Sequence[str | int], *, of_key: bool = False) -> Place:
    """Where `path` stands, or the nearest thing above it that exists.

    A single value stands where it begins, everything else (and with `of_key` all) where its key does.
    A step that is not there is passed over: what follows may still be, since validators put names of
    their own (of unions) into the paths of their errors.
    """
    node, place = root, root.place
    for step in path:
        if isinstance(node, MapNode) and isinstance(step, str) and step in node.entries:
            place = node.key_places[step]
            node = node.entries[step]
        elif isinstance(node, ListNode) and isinstance(step, int) and step < len(node.items):
            node = node.items[step]
            place = node.place
    return node.place if isinstance(node, Scalar) and not of_key else place
