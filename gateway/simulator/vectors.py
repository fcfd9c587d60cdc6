"""Embeddings: unit vectors that depend only on model, size and text."""

from __future__ import annotations

import base64
import hashlib
import math
import struct

import orjson

_LARGEST = {"text-embedding-3-large": 3072, "text-embedding-3-small": 1536, "text-embedding-ada-002": 1536}
USUAL_DIMENSIONS = 1536


def largest(model: str) -> int:
    """The dimensions of a model when a call names none."""
    return _LARGEST.get(model.rsplit("/", 1)[-1], USUAL_DIMENSIONS)


def vector(seed: int, model: str, value: str | list[int], dimensions: int) -> list[float]:
    """A vector of length 1 for one input."""
    question = orjson.dumps([seed, model, value])
    # 16 bits per dimension are enough to tell texts apart, and one hash call gives them all.
    raw = struct.unpack(f"<{dimensions}h", hashlib.shake_256(question).digest(2 * dimensions))
    norm = math.sqrt(sum(x * x for x in raw)) or 1.0
    return [x / norm for x in raw]


def as_base64(values: list[float]) -> str:
    """`encoding_format: base64`: little-endian 32-bit floats."""
    return base64.b64encode(struct.pack(f"<{len(values)}f", *values)).decode()
