"""CPU and memory of process trees, read from /proc."""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from machine import BenchError

_TICK_NS = 1_000_000_000 // os.sysconf("SC_CLK_TCK")


@contextmanager
def pinned(core: int) -> Iterator[None]:
    """Processes started inside inherit this core."""
    before = os.sched_getaffinity(0)
    os.sched_setaffinity(0, {core})
    try:
        yield
    finally:
        os.sched_setaffinity(0, before)


def tree(root: int) -> list[int]:
    """The process and all its living descendants, in order of pid."""
    children: dict[int, list[int]] = {}
    for entry in os.listdir("/proc"):
        if entry.isdigit():
            try:
                stat = Path(f"/proc/{entry}/stat").read_text()
            except OSError:  # ended meanwhile
                continue
            # The name in parentheses may hold anything, so fields are counted from the last one on.
            parent = int(stat.rpartition(")")[2].split()[1])
            children.setdefault(parent, []).append(int(entry))
    found, waiting = [], [root]
    while waiting:
        pid = waiting.pop()
        found.append(pid)
        waiting += children.get(pid, [])
    return sorted(found)


def cpu_ns(pid: int) -> int:
    """Run time of all threads of a process, user and kernel together."""
    try:
        threads = os.listdir(f"/proc/{pid}/task")
        return sum(int(Path(f"/proc/{pid}/task/{t}/schedstat").read_text().split()[0]) for t in threads)
    except FileNotFoundError:  # a kernel without schedstat, a thread that ended, or no such process
        pass
    try:
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except OSError:
        raise BenchError(f"Process {pid} ended during the run; its log tells why.") from None
    return (int(fields[11]) + int(fields[12])) * _TICK_NS


def core_busy_ns(core: int) -> int:
    """How long a core has been busy since boot, with whatever it was."""
    for line in Path("/proc/stat").read_text().splitlines():
        name, *ticks = line.split()
        if name == f"cpu{core}":
            user, nice, system, _idle, _iowait, irq, softirq, *_ = map(int, ticks)
            return (user + nice + system + irq + softirq) * _TICK_NS
    return 0


def resident_mb(pid: int) -> float:
    """Resident memory of one process in MB, pages it shares counted in full."""
    return _kib(f"/proc/{pid}/status", "VmRSS:") * 1024 / 1e6


def share_mb(pid: int) -> float:
    """Memory of one process in MB, shared pages divided among their users, or resident if hidden."""
    try:
        return _kib(f"/proc/{pid}/smaps_rollup", "Pss:") * 1024 / 1e6
    except OSError:
        return resident_mb(pid)


def _kib(path: str, field: str) -> int:
    for line in Path(path).read_text().splitlines():
        if line.startswith(field):
            return int(line.split()[1])
    return 0
