"""A request's body as it comes: kept in pieces until it is whole, or taken piece by piece."""

from __future__ import annotations

from typing import Protocol

MAX_PIECES = 1024
"""Pieces that are kept as they came; more are put together, for each costs 40 bytes besides its own."""


class BodySink(Protocol):
    """Who takes a body as it comes, instead of its being kept."""

    def part(self, block: bytes) -> None: ...
    def end(self) -> None: ...


class Body:
    """What came of a body and was not taken yet."""

    __slots__ = ("_folded", "_pieces", "add")

    def __init__(self) -> None:
        self._pieces: list[bytes] = []
        self._folded: bytearray | None = None
        self.add = self._pieces.append
        """Takes one piece: llhttp's callback, in C, so that a piece costs no Python frame."""

    def size(self) -> int:
        """Bytes."""
        return sum(map(len, self._pieces)) + (0 if self._folded is None else len(self._folded))

    def tidy(self) -> None:
        """Puts many pieces together."""
        if len(self._pieces) > MAX_PIECES:
            self._fold()

    def take(self) -> bytes:
        """All of it, which is then no longer here."""
        pieces = self._pieces
        if self._folded is not None:
            self._fold()
            whole, self._folded = bytes(self._folded), None
            return whole
        whole = pieces[0] if len(pieces) == 1 else b"".join(pieces)
        pieces.clear()
        return whole

    def clear(self) -> None:
        """Forgets it."""
        self._pieces.clear()
        self._folded = None

    def _fold(self) -> None:
        if self._folded is None:
            self._folded = bytearray()
        self._folded += b"".join(self._pieces)
        self._pieces.clear()
