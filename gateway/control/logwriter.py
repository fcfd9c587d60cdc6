"""Writes log lines to stdout or a file, in a thread of its own: a reader that blocks stops nothing else."""

from __future__ import annotations

import os
import threading
from collections import deque
from collections.abc import Callable

from gateway.telemetry.diagnostics import say

HELD_BYTES = 16 << 20
"""What may wait for a slow reader; lines beyond it are dropped and counted."""


class LogWriter:
    """One writer thread. `path` "-" is stdout. `on_drop` is told how many lines were lost, by any thread but
    never by two at once."""

    def __init__(self, path: str, on_drop: Callable[[int], None]) -> None:
        self._path = path
        self._on_drop = on_drop
        self._blocks: deque[tuple[bytes, Callable[[], None]]] = deque()
        self._held = 0
        self._ready = threading.Condition()
        self._closing = False
        self._reopen = False
        self._fd = self._open()
        self._thread = threading.Thread(target=self._run, name="log", daemon=True)
        self._thread.start()

    def write(self, lines: bytes, settled: Callable[[], None] = lambda: None) -> None:
        """Takes whole lines; never waits. `settled` is called, by any thread, when they are written or were
        counted as dropped."""
        with self._ready:
            if self._held + len(lines) <= HELD_BYTES:
                self._blocks.append((lines, settled))
                self._held += len(lines)
                self._ready.notify()
                return
            self._on_drop(lines.count(b"\n"))
        settled()

    def reopen(self) -> None:
        """Opens the file again before the next line: after a rotation. If it cannot be, lines go on into the
        one that is open."""
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
                blocks = list(self._blocks)
                self._blocks.clear()
            if self._reopen:
                self._reopen = False
                self._open_again()
            data = b"".join(lines for lines, _ in blocks)
            left = self._write(data)
            with self._ready:
                self._held -= len(data)
                if left:
                    self._on_drop(left.count(b"\n"))
            for _, settled in blocks:
                settled()

    def _write(self, data: bytes) -> bytes:
        """What could not be written: the disk is full, or the pipe closed."""
        view = memoryview(data)
        try:
            while view:
                view = view[os.write(self._fd, view) :]
        except OSError:
            pass
        return bytes(view)

    def _open_again(self) -> None:
        if self._path == "-":
            return
        try:
            fresh = self._open()
        except OSError as error:
            say(f"--log {self._path} cannot be opened again, the file before is written on: {error.strerror}")
            return
        os.close(self._fd)
        self._fd = fresh
