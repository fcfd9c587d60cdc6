"""What processes take of the machine is summed by name, and never falls when one is replaced."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

from gateway.control.processes import Processes
from gateway.telemetry import table
from gateway.telemetry.meters import ControlMeters
from gateway.telemetry.slots import SlotFile, read_slots

BUSY = "import sys\nfor i in range(3_000_000): pass\nprint('done', flush=True)\nsys.stdin.read()\n"


def processor_s(path: Path, name: str) -> float:
    return sum(
        values[0] / 1e9
        for metric, labels, values in read_slots(path)
        if (metric, labels) == (table.PROCESS_CPU.name, (name,))
    )


def busy() -> subprocess.Popen[str]:
    """A process that has worked for a while and waits."""
    process = subprocess.Popen(
        [sys.executable, "-c", BUSY], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    assert process.stdout is not None
    process.stdout.readline()
    return process


def test_memory_is_that_of_all_processes_of_a_name(tmp_path: Path) -> None:
    meters = ControlMeters(SlotFile.create(tmp_path / "control", 4096))
    running = [("a", os.getpid()), ("a", os.getpid()), ("b", os.getpid()), ("gone", 2**22 + 1)]
    told = {labels[0]: value for _, labels, value in Processes(lambda: running, meters).samples()}
    assert set(told) == {"a", "b"}
    assert told["a"] > 1.5 * told["b"] > 1_000_000


def test_processor_time_goes_on_when_a_process_is_replaced(tmp_path: Path) -> None:
    path = tmp_path / "control"
    meters = ControlMeters(SlotFile.create(path, 4096))
    running = [("control", os.getpid())]
    processes = Processes(lambda: running, meters)
    list(processes.samples())
    first = busy()
    running.append(("worker", first.pid))
    list(processes.samples())
    of_one = processor_s(path, "worker")
    assert of_one > 0
    first.communicate()
    second = busy()
    running[1] = ("worker", second.pid)
    list(processes.samples())
    second.communicate()
    assert processor_s(path, "worker") > of_one


def test_control_that_is_new_does_not_count_again(tmp_path: Path) -> None:
    path = tmp_path / "control"
    meters = ControlMeters(SlotFile.create(path, 4096))
    process = busy()
    list(Processes(lambda: [("worker", process.pid)], meters).samples())
    before_s = processor_s(path, "worker")
    list(Processes(lambda: [("worker", process.pid)], meters).samples())
    process.communicate()
    assert processor_s(path, "worker") == before_s
