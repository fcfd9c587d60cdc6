"""What a fuzz target is, and how its inputs are made: good inputs, mutated; every case from one seed."""

from __future__ import annotations

import random
from collections.abc import Sequence
from itertools import pairwise
from typing import Protocol

LONGEST_BYTES = 16 * 1024
"""Inputs grow no further: what is wrong with a long one is nearly always wrong with a short one."""
_MOST_CHANGES = 6
_EDGES = (b"0", b"-1", b"1e999", b"2147483648", b"4294967296", b"9223372036854775808", b"1" * 20, b"0.1")


class Target(Protocol):
    """One thing that takes bytes from others. A target is made once and used for many cases."""

    name: str
    corpus: Sequence[bytes]
    """Good inputs, to be mutated."""
    tokens: Sequence[bytes]
    """Words of the language, to be put in anywhere."""

    def check(self, data: bytes, draw: random.Random) -> None:
        """Raises, whatever it is, if something is wrong. `draw` decides all else, such as where to split."""

    def close(self) -> None:
        """Lets go of what the target holds."""


def case(target: Target, seed: int) -> tuple[bytes, random.Random]:
    """The input of one case and what draws the rest of it: the same for the same seed."""
    draw = random.Random(seed)
    return mutated(draw, target.corpus, target.tokens), draw


def mutated(draw: random.Random, corpus: Sequence[bytes], tokens: Sequence[bytes]) -> bytes:
    """One of the good inputs with up to six changes; one in eight is left as it is."""
    data = bytearray(draw.choice(corpus))
    for _ in range(draw.randrange(_MOST_CHANGES + 1) if draw.randrange(8) else 0):
        at = draw.randrange(len(data) + 1)
        size = min(len(data) - at, 1 << draw.randrange(8))
        match draw.randrange(9):
            case 0:
                data[at:at] = draw.choice(tokens)
            case 1:
                data[at : at + size] = draw.choice(tokens)
            case 2 if at < len(data):
                data[at] ^= 1 << draw.randrange(8)
            case 3:
                data[at:at] = draw.randbytes(draw.randrange(1, 5))
            case 4:
                del data[at : at + size]
            case 5:
                to = draw.randrange(len(data) + 1)
                data[to:to] = data[at : at + size]
            case 6:
                other = draw.choice(corpus)
                data[at:] = other[draw.randrange(len(other) + 1) :]
            case 7:
                data[at:at] = bytes(data[at : at + size]) * (1 << draw.randrange(7))
            case _:
                data[at : at + size] = draw.choice(_EDGES)
        del data[LONGEST_BYTES:]
    return bytes(data)


def pieces(draw: random.Random, data: bytes) -> list[bytes]:
    """`data` in pieces, none of them empty: one, a few, or a byte each."""
    size = len(data)
    if size < 2:
        return [data] if data else []
    match draw.randrange(6):
        case 0 if size <= 2048:
            places = list(range(size + 1))
        case 1:
            places = [0, size]
        case _:
            cuts = draw.sample(range(1, size), min(size - 1, draw.randrange(1, 9)))
            places = [0, *sorted(cuts), size]
    return [data[begin:end] for begin, end in pairwise(places)]
