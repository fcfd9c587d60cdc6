"""What the gateway's processes take of the machine, from /proc (Linux; elsewhere nothing is known)."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path

from gateway.control.exposition import Sample
from gateway.telemetry import table
from gateway.telemetry.meters import ControlMeters

_PROC = Path("/proc")
_PAGE = os.sysconf("SC_PAGE_SIZE")
_TICK_NS = 1_000_000_000 // os.sysconf("SC_CLK_TCK")
_USER, _SYSTEM, _BEGAN = 11, 12, 19
"""Places of proc_pid_stat(5) after the name, which may hold spaces: its fields 14, 15 and 22."""


class Processes:
    """Looked at when metrics are read. `who` names the processes that run now: (name, pid), names may come
    more than once. Processor time goes into slots, so that it does not fall when a process is replaced; of
    one that ends, what it took since the last look is missed."""

    def __init__(self, who: Callable[[], Iterable[tuple[str, int]]], meters: ControlMeters) -> None:
        self._who = who
        self._meters = meters
        self._seen: dict[tuple[int, int], int] = {}
        """(pid, when it began) → processor time at the last look."""

    def samples(self) -> Iterator[Sample]:
        """Memory by name; counts processor time on the way."""
        memory: dict[str, int] = {}
        seen: dict[tuple[int, int], int] = {}
        for name, pid in self._who():
            read = _read(pid)
            if read is None:
                continue
            began, used_ns, resident = read
            memory[name] = memory.get(name, 0) + resident
            seen[pid, began] = used_ns
            # Of one that was never seen all of it is new, unless it was control that is new.
            before_ns = self._seen.get((pid, began), 0 if self._seen else used_ns)
            self._meters.used_processor(name, used_ns - before_ns)
        self._seen = seen
        for name, amount in memory.items():
            yield table.PROCESS_MEMORY, (name,), amount

    def memory(self) -> dict[str, int]:
        """Bytes resident by name. Counts nothing, so it may be called from any thread at any time."""
        found: dict[str, int] = {}
        for name, pid in self._who():
            read = _read(pid)
            if read is not None:
                found[name] = found.get(name, 0) + read[2]
        return found


def _read(pid: int) -> tuple[int, int, int] | None:
    """(when it began, nanoseconds of processor, bytes resident) of a process; None if there is none."""
    try:
        fields = (_PROC / str(pid) / "stat").read_bytes().rpartition(b")")[2].split()
        pages = int((_PROC / str(pid) / "statm").read_bytes().split()[1])
    except (OSError, IndexError):
        return None
    used_ns = (int(fields[_USER]) + int(fields[_SYSTEM])) * _TICK_NS
    return int(fields[_BEGAN]), used_ns, pages * _PAGE
