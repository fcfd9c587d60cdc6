"""The supervisor: starts, watches and restarts the other processes. Small enough not to fail.

It holds what must outlive them: the state folder's lock, the listening sockets (one per worker, so that
a dead worker's queued connections are served by its replacement; those of control and of the keeper, at which
a worker's connection waits while they are replaced), the shared memory files and the end of a pipe whose
closing tells every child that the supervisor is gone. Standard library only.
"""

from __future__ import annotations

import argparse
import fcntl
import json
import os
import resource
import select
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterable
from pathlib import Path

from gateway.link.target_table import TargetTable
from gateway.telemetry import table
from gateway.telemetry.diagnostics import say
from gateway.telemetry.slots import SlotFile

WORKER_STOP_S = 8.0
"""How long workers may take to end after their calls: callers take the last bytes, control the last lines."""
CONTROL_STOP_S = 8.0
"""How long the keeper and control may take when workers have gone: the last usage rows, the last lines."""
QUICK_DEATH_S = 2.0
LONGEST_BACKOFF_S = 5.0
_WATCH_S = 0.5
_SOCKET_PATH_BYTES = 100
"""Unix socket paths end at 108 bytes on Linux, 104 on macOS."""


_MALLOC = {
    "MALLOC_TRIM_THRESHOLD_": str(2 << 20),
    "MALLOC_TOP_PAD_": str(1 << 20),
    "MALLOC_MMAP_THRESHOLD_": str(1 << 20),
}
"""glibc gives memory back to the kernel after every burst of a stream and faults it in again for the next.
Keeping 2 MiB avoids that; keeping more saves no fault, and the largest burst ever would be kept for good
(mallopt(3); other libcs ignore these)."""


class CannotStart(Exception):
    """Why the gateway cannot start: one sentence for the operator."""


class Child:
    """One process and its replacements."""

    def __init__(self, name: str, command: list[str], fds: tuple[int, ...]) -> None:
        self.name = name
        self._command = command
        self._fds = fds
        self._backoff_s = 0.0
        self._started_s = 0.0
        self.restart_at_s = 0.0
        self.process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        """Starts the process."""
        self._started_s = time.monotonic()
        self.process = subprocess.Popen(
            self._command,
            pass_fds=self._fds,
            stdin=subprocess.DEVNULL,
            env={**_MALLOC, **os.environ},
        )

    def died(self) -> None:
        """Plans the restart: at once, or later and later if it keeps dying within 2 s."""
        now_s = time.monotonic()
        quick = now_s - self._started_s < QUICK_DEATH_S
        self._backoff_s = min(max(0.1, 2 * self._backoff_s), LONGEST_BACKOFF_S) if quick else 0.0
        self.restart_at_s = now_s + self._backoff_s
        self.process = None

    def signal(self, number: int) -> None:
        """Sends a signal, if the process is there."""
        if self.process is not None and self.process.poll() is None:
            self.process.send_signal(number)

    def is_alive(self) -> bool:
        """True if there is a process."""
        return self.process is not None and self.process.poll() is None

    @property
    def pid(self) -> int | None:
        return None if self.process is None else self.process.pid


class Supervisor:
    """The processes of one gateway."""

    def __init__(self, options: argparse.Namespace) -> None:
        self._options = options
        self._state = Path(options.state).absolute()
        self._listeners: list[socket.socket] = []
        self._socket_folder: str | None = None
        self._signals: list[int] = []
        self._is_cut = False
        self._first: tuple[subprocess.Popen[bytes] | None, ...] = ()
        """The first control and keeper."""
        self._lock_fd = self._lock()
        # The usual soft limit, 1,024, is reached by 500 streams; children inherit ours.
        _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
        resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))
        self.listen = self._bind_callers()
        self._admin = _bind(options.admin, "--admin", reuse_port=False)
        slots = self._state / "slots"
        shutil.rmtree(slots, ignore_errors=True)
        slots.mkdir()
        self._started_ms = int(time.time() * 1000)
        """Since when counters count, whatever restarts."""
        self._restarts = SlotFile.create(slots / "supervisor", slots=64)
        self._restarts_slot = self._restarts.series(table.WORKER_RESTARTS, ())
        for index in range(options.workers):
            SlotFile.create(slots / f"worker-{index}")
        for name in ("control", "keeper"):
            SlotFile.create(slots / name, slots=4096)
        (self._state / "journal").mkdir(exist_ok=True, mode=0o700)
        # Which store this run uses, by the keeper: a new run may use another one.
        (self._state / "store").unlink(missing_ok=True)
        TargetTable.create(self._state / "targets", options.workers)
        life_read, self._life_write = os.pipe()
        self._wake_read, self._wake_write = os.pipe()
        os.set_blocking(self._wake_read, False)
        os.set_blocking(self._wake_write, False)
        self._control_link = self._unix_socket("control.sock")
        self._keeper_link = self._unix_socket("keeper.sock")
        self.control = Child("control", *self._control_command(life_read))
        self.keeper = Child("keeper", *self._keeper_command(life_read))
        self.workers = [
            Child(f"worker {index}", *self._worker_command(index, life_read))
            for index in range(options.workers)
        ]

    def run(self) -> int:
        """Until told to stop; the exit code."""
        for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
            signal.signal(number, lambda received, _: self._signals.append(received))
        # A child's end must wake `_sleep`: without a handler the signal would be thrown away.
        signal.signal(signal.SIGCHLD, lambda *_: None)
        # Children inherit this: one that is still starting does not die of being told to leave.
        signal.signal(signal.SIGUSR1, signal.SIG_IGN)
        signal.set_wakeup_fd(self._wake_write, warn_on_full_buffer=False)
        # The keeper last: the others are ready without it.
        for child in (self.control, *self.workers, self.keeper):
            child.start()
        self._first = (self.control.process, self.keeper.process)
        self._write_run_file()
        try:
            if not self._serve():
                return 2
            self._finish()
            return 0
        finally:
            self._stop_all()
            self._clean()

    def _serve(self) -> bool:
        """Until told to stop, and then on for the drain delay; False if nothing can be served this way."""
        children = (self.control, self.keeper, *self.workers)
        leave_at_s = float("inf")
        while True:
            now_s = time.monotonic()
            while self._signals:
                number = self._signals.pop(0)
                if number == signal.SIGHUP:
                    self.control.signal(signal.SIGHUP)
                elif number == signal.SIGINT or leave_at_s < float("inf"):
                    self._is_cut = leave_at_s < float("inf")
                    return True
                else:
                    leave_at_s = now_s + self._options.drain_delay
            if now_s >= leave_at_s:
                return True
            if leave_at_s < float("inf"):
                # Not ready any more, and answers that close their connections. Said again and again, for a
                # process that has just been started.
                for child in children:
                    child.signal(signal.SIGUSR1)
            if not self._keep_alive(children):
                return False
            self._sleep(leave_at_s - now_s, children)

    def _keep_alive(self, children: Iterable[Child]) -> bool:
        """Starts again what has ended; False if it was the first control or keeper, which says that nothing
        can be served this way. A later one that cannot start leaves the workers what they have."""
        for child in children:
            if child.process is None:
                if time.monotonic() >= child.restart_at_s:
                    child.start()
                    self._write_run_file()
                continue
            code = child.process.poll()
            if code is None:
                continue
            if child.process in self._first and code == 2:
                return False
            child.died()
            say(f"{child.name} ended ({_ending(code)}); starting it again")
            if child in self.workers:
                self._restarts.values[self._restarts_slot] += 1
        return True

    def _finish(self) -> None:
        """Workers finish what is under way; control goes on taking their log lines, the keeper their usage. A
        signal cuts."""
        # New callers are refused, and go elsewhere, as soon as the workers have closed their ends too.
        for bound in self._listeners:
            bound.close()
        for worker in self.workers:
            worker.signal(signal.SIGUSR2 if self._is_cut else signal.SIGTERM)
        limit_s = 0.0 if self._is_cut else self._options.max_stream
        deadline_s = time.monotonic() + limit_s + WORKER_STOP_S
        while any(worker.is_alive() for worker in self.workers) and time.monotonic() < deadline_s:
            while self._signals:
                if self._signals.pop(0) != signal.SIGHUP:
                    deadline_s = time.monotonic() + WORKER_STOP_S
                    for worker in self.workers:
                        worker.signal(signal.SIGUSR2)
            self._keep_alive([self.control, self.keeper])
            self.control.signal(signal.SIGUSR1)
            self._sleep(_WATCH_S, [self.control, self.keeper])

    def _stop_all(self) -> None:
        """Ends what is left: workers at once, control when it has written their last lines, the keeper when
        it has booked their last use."""
        for worker in self.workers:
            worker.signal(signal.SIGKILL)
        last = (self.keeper, self.control)
        for child in last:
            child.signal(signal.SIGTERM)
        deadline_s = time.monotonic() + CONTROL_STOP_S
        while any(child.is_alive() for child in last) and time.monotonic() < deadline_s:
            self._sleep(_WATCH_S)
        for child in last:
            child.signal(signal.SIGKILL)

    def _sleep(self, most_s: float, children: Iterable[Child] = ()) -> None:
        """Until a signal comes (a child's end is one), one of `children` must start again, or the time is up;
        0.5 s at most."""
        now_s = time.monotonic()
        waits_s = [child.restart_at_s - now_s for child in children if child.process is None]
        select.select([self._wake_read], [], [], max(0.01, min([_WATCH_S, most_s, *waits_s])))
        try:
            while os.read(self._wake_read, 512):
                pass
        except BlockingIOError:
            return

    def _clean(self) -> None:
        os.close(self._life_write)
        (self._state / "run.json").unlink(missing_ok=True)
        if self._socket_folder is not None:
            shutil.rmtree(self._socket_folder, ignore_errors=True)

    # what the children share

    def _lock(self) -> int:
        try:
            self._state.mkdir(parents=True, exist_ok=True, mode=0o700)
            fd = os.open(self._state / "lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        except OSError as error:
            raise CannotStart(f"The state folder {self._state} cannot be used: {error.strerror}.") from None
        try:
            fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            raise CannotStart(
                f"Another gateway uses the state folder {self._state}; stop it or give another --state."
            ) from None
        return fd

    def _bind_callers(self) -> str:
        # A plain bind proves that the port is free; SO_REUSEPORT alone would share it with another gateway.
        with _bind(self._options.listen, "--listen", reuse_port=False) as first:
            where = _address(*first.getsockname()[:2])
        for _ in range(self._options.workers):
            self._listeners.append(_bind(where, "--listen", reuse_port=True))
        return where

    def _unix_socket(self, name: str) -> socket.socket:
        path = str(self._state / name)
        if len(path.encode()) > _SOCKET_PATH_BYTES:
            self._socket_folder = self._socket_folder or tempfile.mkdtemp(prefix="headgate-")
            path = os.path.join(self._socket_folder, name)
        Path(path).unlink(missing_ok=True)
        bound = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        bound.bind(path)
        os.chmod(path, 0o600)
        bound.listen(256)
        return bound

    def _control_command(self, life: int) -> tuple[list[str], tuple[int, ...]]:
        options, link = self._options, self._control_link
        flags = {
            "--policies": options.policies,
            "--state": str(self._state),
            "--listen": self.listen,
            "--admin-fd": str(self._admin.fileno()),
            "--control-socket-fd": str(link.fileno()),
            "--keeper-socket": self._keeper_link.getsockname(),
            "--slots-dir": str(self._state / "slots"),
            "--targets": str(self._state / "targets"),
            "--workers": str(options.workers),
            "--life-fd": str(life),
            "--log": options.log,
            "--started-ms": str(self._started_ms),
        }
        command = [sys.executable, "-m", "gateway.control.process"]
        command += [word for pair in flags.items() for word in pair]
        if options.banner:
            command.append("--banner")
        return command, (self._admin.fileno(), link.fileno(), life)

    def _keeper_command(self, life: int) -> tuple[list[str], tuple[int, ...]]:
        flags = {
            "--state": str(self._state),
            "--keeper-socket-fd": str(self._keeper_link.fileno()),
            "--control-socket": self._control_link.getsockname(),
            "--journals": str(self._state / "journal"),
            "--slots": str(self._state / "slots" / "keeper"),
            "--life-fd": str(life),
        }
        command = [sys.executable, "-m", "gateway.control.keeper"]
        command += [word for pair in flags.items() for word in pair]
        return command, (self._keeper_link.fileno(), life)

    def _worker_command(self, index: int, life: int) -> tuple[list[str], tuple[int, ...]]:
        listener = self._listeners[index]
        flags = {
            "--index": str(index),
            "--listen-fd": str(listener.fileno()),
            "--control-socket": self._control_link.getsockname(),
            "--keeper-socket": self._keeper_link.getsockname(),
            "--journals": str(self._state / "journal"),
            "--slots": str(self._state / "slots" / f"worker-{index}"),
            "--targets": str(self._state / "targets"),
            "--life-fd": str(life),
            "--max-connections-per-address": str(self._options.max_connections_per_address),
            "--max-stream": str(self._options.max_stream),
        }
        command = [sys.executable, "-m", "gateway.line.worker"]
        return command + [word for pair in flags.items() for word in pair], (listener.fileno(), life)

    def _write_run_file(self) -> None:
        host, port = self._admin.getsockname()[:2]
        running = {
            "pid": os.getpid(),
            "listen": self.listen,
            "admin": _address(host, port),
            "control_pid": self.control.pid,
            "keeper_pid": self.keeper.pid,
            "worker_pids": [worker.pid for worker in self.workers],
        }
        fresh = self._state / "run.json.new"
        fresh.write_text(json.dumps(running))
        fresh.replace(self._state / "run.json")


def _bind(where: str, flag: str, *, reuse_port: bool) -> socket.socket:
    host, port = split_address(where, flag)
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    bound = socket.socket(family, socket.SOCK_STREAM)
    try:
        bound.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        if reuse_port:
            bound.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        bound.bind((host, port))
        bound.listen(4096)
    except OSError as error:
        bound.close()
        raise CannotStart(f"{flag} {where} cannot be used: {error.strerror or error}.") from None
    return bound


def split_address(where: str, flag: str) -> tuple[str, int]:
    """HOST:PORT or [IPV6]:PORT. Raises `CannotStart`."""
    host, _, port = where.rpartition(":")
    host = host.removeprefix("[").removesuffix("]")
    if not host or not port.isdigit() or int(port) > 65535:
        raise CannotStart(f"{flag} takes HOST:PORT, for example 127.0.0.1:8080, not {where!r}.")
    return host, int(port)


def _address(host: str, port: int) -> str:
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"


def _ending(code: int) -> str:
    return f"signal {-code}" if code < 0 else f"exit code {code}"


def parse(arguments: list[str] | None) -> argparse.Namespace:
    """The flags that `headgate serve` hands on."""
    parser = argparse.ArgumentParser(prog="headgate serve")
    parser.add_argument("--policies", required=True)
    parser.add_argument("--state", default=".headgate")
    parser.add_argument("--listen", default="127.0.0.1:8080")
    parser.add_argument("--admin", default="127.0.0.1:9464")
    parser.add_argument("--workers", type=int, default=1)
    parser.add_argument("--log", default="-")
    parser.add_argument("--max-connections-per-address", type=int, default=0)
    parser.add_argument("--drain-delay", type=float, default=10.0)
    parser.add_argument("--max-stream", type=float, default=600.0)
    parser.add_argument("--banner", action="store_true")
    return parser.parse_args(arguments)


def main(arguments: list[str] | None = None) -> int:
    """The process. Exit code 2 and a sentence if it cannot start."""
    try:
        supervisor = Supervisor(parse(arguments))
    except CannotStart as error:
        sys.stderr.write(f"headgate: {error}\n")
        return 2
    return supervisor.run()


if __name__ == "__main__":
    sys.exit(main())
