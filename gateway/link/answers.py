"""An answer on its way to who judges it: as the worker had it, unread."""

from __future__ import annotations

import struct
from collections.abc import Iterator
from typing import Any, NamedTuple

import orjson

_SIZES = struct.Struct(">III")


class Told(NamedTuple):
    """One answer. `head` is a JSON object of names and numbers: model, target, endpoint, stream, at (seconds
    since 1970), took_s, first_s (streams), input, output and reasoning (tokens, where known), bytes (of the
    answer, if more came than is here), headers (those that the policy names), dialect (the caller's, if it is
    not chat's)."""

    head: dict[str, Any]
    request: bytes
    """What the caller sent."""
    answer: bytes
    """What the provider sent: JSON, or the beginning of a stream of events."""


def pack(head: dict[str, Any], request: bytes, answer: bytes) -> bytes:
    """One answer as bytes."""
    told = orjson.dumps(head)
    return _SIZES.pack(len(told), len(request), len(answer)) + told + request + answer


def unpack(payload: bytes) -> Iterator[Told]:
    """The answers of one message. ValueError: they are none."""
    at = 0
    while at < len(payload):
        if len(payload) - at < _SIZES.size:
            raise ValueError("an answer that is cut")
        sizes = _SIZES.unpack_from(payload, at)
        at += _SIZES.size
        if at + sum(sizes) > len(payload):
            raise ValueError("an answer that is cut")
        parts = []
        for size in sizes:
            parts.append(payload[at : at + size])
            at += size
        yield Told(orjson.loads(parts[0]), parts[1], parts[2])


def count(payload: bytes) -> int:
    """How many answers a message holds."""
    at = found = 0
    while at + _SIZES.size <= len(payload):
        at += _SIZES.size + sum(_SIZES.unpack_from(payload, at))
        found += 1
    return found
