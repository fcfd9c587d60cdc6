"""The target table: health of every target and provider key, in memory shared by all workers.

Rows are names ("provider/model", "provider#2"), columns are workers; a worker writes its own column
only. A row costs 64 bytes per worker. The directory of names grows at its end and is written by control.
"""

from __future__ import annotations

import mmap
import os
import struct
from pathlib import Path

from gateway.routing import health
from gateway.routing.health import Cell

ROWS = 4096
NAME_BYTES = 192
CELL_WORDS = 8
_FIELDS = tuple(Cell.__slots__)
_STREAK, _OK_AT = _FIELDS.index("streak"), _FIELDS.index("ok_at_ms")
_MAGIC = 0x48475447_00000001
_HEADER_WORDS = 8


class TargetTable:
    """One mapping of the file. Times are milliseconds of `clock.monotonic_ms`."""

    def __init__(self, memory: mmap.mmap) -> None:
        self._memory = memory
        self._names_at = _HEADER_WORDS * 8
        (magic, self.workers) = struct.unpack_from("<qq", memory)
        if magic != _MAGIC:
            raise ValueError("not a target table of this version")
        # Aligned 64-bit words, which x86-64 and arm64 read and write atomically.
        self._words = memoryview(memory)[self._names_at + ROWS * NAME_BYTES :].cast("q")
        self._rows: dict[str, int] = {}

    @classmethod
    def create(cls, path: str | os.PathLike[str], workers: int) -> TargetTable:
        """A new, empty table; replaces what is at `path`."""
        size = _HEADER_WORDS * 8 + ROWS * NAME_BYTES + ROWS * workers * CELL_WORDS * 8
        fresh = Path(f"{os.fspath(path)}.new")
        with fresh.open("wb") as file:
            file.truncate(size)
            file.write(struct.pack("<qq", _MAGIC, workers))
        fresh.replace(path)
        return cls.open(path)

    @classmethod
    def open(cls, path: str | os.PathLike[str]) -> TargetTable:
        """The table at `path`, shared with every other process that opened it."""
        with open(path, "r+b") as file:
            return cls(mmap.mmap(file.fileno(), 0))

    def names(self) -> list[str]:
        """All names, in the order of their rows."""
        (count,) = struct.unpack_from("<q", self._memory, 16)
        return [self._name(row) for row in range(count)]

    def row(self, name: str) -> int:
        """The row of `name`, a new one if it has none; -1 if the table is full or the name too long.

        Only control calls this: the directory has one writer.
        """
        if not self._rows:
            self._rows = {known: row for row, known in enumerate(self.names())}
        found = self._rows.get(name)
        if found is not None:
            return found
        row, encoded = len(self._rows), name.encode()
        if row >= ROWS or len(encoded) > NAME_BYTES:
            return -1
        at = self._names_at + row * NAME_BYTES
        self._memory[at : at + len(encoded)] = encoded
        struct.pack_into("<q", self._memory, 16, row + 1)
        self._rows[name] = row
        return row

    def cells(self, row: int) -> list[Cell]:
        """What every worker saw of a row, by worker."""
        words, first = self._words, row * self.workers * CELL_WORDS
        return [
            Cell(*words[at : at + len(_FIELDS)].tolist())
            for at in range(first, first + self.workers * CELL_WORDS, CELL_WORDS)
        ]

    def write(self, row: int, worker: int, cell: Cell) -> None:
        """Writes one worker's cell."""
        at = (row * self.workers + worker) * CELL_WORDS
        for offset, name in enumerate(_FIELDS):
            self._words[at + offset] = getattr(cell, name)

    def note_success(self, row: int, worker: int, now_ms: int) -> None:
        """A success of a row that is up: two words written, on the line of every call."""
        at = (row * self.workers + worker) * CELL_WORDS
        self._words[at + _STREAK] = 0
        self._words[at + _OK_AT] = now_ms

    def state(self, row: int, now_ms: int) -> int:
        """0 ejected, 1 on trial, 2 up; a row of -1 is always up."""
        return health.UP if row < 0 else health.state_of(self.cells(row), now_ms)

    def changes(self) -> int:
        """A number that grows whenever any row may have changed its state."""
        (count,) = struct.unpack_from("<q", self._memory, 24)
        return int(count)

    def touch(self) -> None:
        """Tells all other processes that a state changed. Lost updates are harmless: readers also look
        again by time."""
        struct.pack_into("<q", self._memory, 24, self.changes() + 1)

    def _name(self, row: int) -> str:
        at = self._names_at + row * NAME_BYTES
        return self._memory[at : at + NAME_BYTES].rstrip(b"\0").decode()
