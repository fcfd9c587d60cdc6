"""A keeper as a process, with the embedded store; its socket is held here, as the supervisor holds it."""

from __future__ import annotations

import os
import signal
import socket
import sqlite3
import subprocess
import sys
from pathlib import Path

from gateway.telemetry.slots import SlotFile
from tests.running import ROOT


class KeeperProcess:
    """Everything stands in `folder`. Buckets have the terms that workers tell; there is no control."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.journals = folder / "journal"
        self.journals.mkdir(parents=True)
        self.socket = folder / "keeper.sock"
        self._bound = socket.socket(socket.AF_UNIX)
        self._bound.bind(str(self.socket))
        self._bound.listen(64)
        self._life_read, self._life_write = os.pipe()
        SlotFile.create(folder / "slots", slots=64)
        # As left by a keeper before: this one need not be told by control.
        (folder / "store").write_text("embedded")
        self.process = self._started()

    def _started(self) -> subprocess.Popen[bytes]:
        fds = (self._bound.fileno(), self._life_read)
        command = [sys.executable, "-m", "gateway.control.keeper", "--state", str(self.folder)]
        command += ["--control-socket", str(self.folder / "none.sock"), "--journals", str(self.journals)]
        command += ["--slots", str(self.folder / "slots"), "--keeper-socket-fd", str(fds[0])]
        # Longer than 5 ms, so that it matters to no test how busy the machine is.
        command += ["--life-fd", str(fds[1]), "--recall-s", "0.5"]
        return subprocess.Popen(command, cwd=ROOT, pass_fds=fds)

    def kill(self) -> None:
        """kill -9."""
        self.process.kill()
        self.process.wait()

    def start(self) -> None:
        """A new one at the same socket."""
        self.process = self._started()

    def stop(self) -> int:
        """As the supervisor stops it; the exit code."""
        self.process.send_signal(signal.SIGTERM)
        return self.process.wait(10)

    def close(self) -> None:
        """Ends it, whatever it does."""
        self.kill()
        self._bound.close()
        os.close(self._life_read)
        os.close(self._life_write)

    def rows(self, query: str) -> list[tuple[object, ...]]:
        """What stands in its ledger."""
        connection = sqlite3.connect(f"file:{self.folder / 'ledger.db'}?mode=ro", uri=True)
        try:
            return connection.execute(query).fetchall()
        finally:
            connection.close()
