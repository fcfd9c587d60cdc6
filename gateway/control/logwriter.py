"""Writes log lines to stdout or a file, in a thread of its own: a reader that blocks stops nothing else."""

from __future__ import annotations

import os
import threading
from collections import deque
from collections.abc import Callable

HELD_BYTES = 16 << 20
"""What may wait for a slow reader; lines beyond it are dropped and counted."""


class LogWriter:
    """One writer thread. `path` "-" is stdout."""

    def __init__(self, path: str, on_drop: Callable[[int], None]) -> None:
        self._path = path
        self._on_drop = on_drop
        self._blocks: deque[bytes] = deque()
        self._held = 0
        self._ready = threading.Condition()
        self._closing = False
        self._reopen = False
        self._fd = self._open()
        self._thread = threading.Thread(target=self._run, name="log", daemon=True)
        self._thread.start()

    def write(self, lines: bytes) -> None:
        """Takes whole lines; never waits."""
        with self._ready:
            if self._held + len(lines) > HELD_BYTES:
                self._on_drop(lines.count(b"\n"))
                return
            self._blocks.append(lines)
            self._held += len(lines)
            self._ready.notify()

    def reopen(self) -> None:
        """Opens the file again before the next line: after a rotation."""
        self._reopen = True

    def close(self, timeout_s: float = 2.0) -> None:
        """Writes what is left, as far as that goes in time."""
        with self._ready:
            self._closing = True
            self._ready.notify()
        self._thread.join(timeout_s)

    def _open(self) -> int:
        if self._path == "-":
            return 1
        return os.open(self._path, os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC, 0o640)

    def _run(self) -> None:
        while True:
            with self._ready:
                while not self._blocks and not self._closing:
                    self._ready.wait()
                if not self._blocks:
                    return
                data = b"".join(self._blocks)
                self._blocks.clear()
            self._write(data)
            with self._ready:
                self._held -= len(data)

    def _write(self, data: bytes) -> None:
        view = memoryview(data)
        try:
            if self._reopen and self._path != "-":
                self._reopen = False
                fresh = self._open()
                os.close(self._fd)
                self._fd = fresh
            while view:
                view = view[os.write(self._fd, view) :]
        except OSError:
            # A full disk or a closed pipe: the line goes on, the lines are counted.
            self._on_drop(bytes(view).count(b"\n"))
