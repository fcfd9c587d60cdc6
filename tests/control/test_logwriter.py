"""The log: what cannot be written is counted, and nobody waits for it."""

from __future__ import annotations

import os
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from gateway.control.logwriter import HELD_BYTES, LogWriter

LINE = b'{"x":1}\n'
StartWriter = Callable[[Path], LogWriter]


@pytest.fixture
def dropped() -> list[int]:
    return []


@pytest.fixture
def start(dropped: list[int]) -> Iterator[StartWriter]:
    writers: list[LogWriter] = []

    def start_one(path: Path) -> LogWriter:
        writers.append(LogWriter(str(path), dropped.append))
        return writers[-1]

    yield start_one
    for writer in writers:
        writer.close(timeout_s=0.1)


def write(writer: LogWriter, lines: bytes = LINE) -> None:
    """Until they are settled."""
    settled = threading.Event()
    writer.write(lines, settled.set)
    assert settled.wait(5)


def test_lines_are_written_in_their_order_and_what_is_left_at_the_end(
    start: StartWriter, tmp_path: Path
) -> None:
    writer = start(tmp_path / "log")
    for number in range(1000):
        writer.write(b"%d\n" % number)
    writer.close()
    assert (tmp_path / "log").read_bytes().split() == [b"%d" % number for number in range(1000)]


def test_reader_that_stands_still_costs_lines_which_are_counted(
    start: StartWriter, tmp_path: Path, dropped: list[int]
) -> None:
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    reading = os.open(pipe, os.O_RDONLY | os.O_NONBLOCK)
    writer = start(pipe)
    block = LINE * 10_000
    for _ in range(HELD_BYTES // len(block) + 10):
        writer.write(block)
    assert sum(dropped) >= 90_000
    os.close(reading)


def test_full_disk_costs_lines_which_are_counted(start: StartWriter, dropped: list[int]) -> None:
    write(start(Path("/dev/full")), LINE * 3)
    assert dropped == [3]


def test_reopening_goes_on_in_the_new_file(start: StartWriter, tmp_path: Path, dropped: list[int]) -> None:
    writer = start(tmp_path / "log")
    write(writer, b"old\n")
    (tmp_path / "log").rename(tmp_path / "log.1")
    writer.reopen()
    write(writer, b"new\n")
    assert (tmp_path / "log").read_bytes() == b"new\n"
    assert (tmp_path / "log.1").read_bytes() == b"old\n"
    assert dropped == []


def test_log_that_cannot_be_reopened_goes_on_in_the_old_file(
    start: StartWriter, tmp_path: Path, dropped: list[int], capfd: pytest.CaptureFixture[str]
) -> None:
    folder = tmp_path / "logs"
    folder.mkdir()
    writer = start(folder / "log")
    folder.rename(tmp_path / "away")
    writer.reopen()
    write(writer, b"kept\n")
    write(writer, b"too\n")
    assert (tmp_path / "away/log").read_bytes() == b"kept\ntoo\n"
    assert dropped == []
    assert capfd.readouterr().err.count("cannot be opened again") == 1
