"""The target table: one file, a column per worker, rows that never move, seen by all who opened it."""

from __future__ import annotations

from pathlib import Path

import pytest

from gateway.link.target_table import NAME_BYTES, ROWS, TargetTable
from gateway.routing.health import EJECTED, TRIAL, UP, Cell

WORKERS = 3


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "targets"


@pytest.fixture
def table(path: Path) -> TargetTable:
    return TargetTable.create(path, WORKERS)


def cell(base: int) -> Cell:
    """A cell whose every field has a value of its own."""
    return Cell(*(base + place for place in range(len(Cell.__slots__))))


def test_row_is_given_once_and_stays(table: TargetTable, path: Path) -> None:
    names = ["openai/gpt-4o", "azure/gpt-4o", "openai#1", "lokal/größe"]
    assert [table.row(name) for name in names] == [0, 1, 2, 3]
    assert table.row("azure/gpt-4o") == 1
    assert table.names() == names
    again = TargetTable.open(path)
    assert again.names() == names
    assert again.row("openai#1") == 2
    assert again.row("new") == 4


def test_others_see_new_rows_at_once(table: TargetTable, path: Path) -> None:
    other = TargetTable.open(path)
    table.row("a")
    assert other.names() == ["a"]
    assert other.row("a") == 0


def test_full_table_and_long_names_get_no_row_and_break_nothing(table: TargetTable) -> None:
    assert table.row("é" * (NAME_BYTES // 2)) == 0
    assert table.row("é" * (NAME_BYTES // 2) + "x") == -1
    assert [table.row(f"t{number}") for number in range(1, ROWS)] == list(range(1, ROWS))
    assert table.row("one too many") == -1
    assert table.row("t7") == 7
    assert table.names()[0] == "é" * (NAME_BYTES // 2)
    assert len(table.names()) == ROWS
    last = cell(50)
    table.write(ROWS - 1, WORKERS - 1, last)
    assert table.cells(ROWS - 1) == [Cell(), Cell(), last]


def test_every_cell_is_its_own(table: TargetTable, path: Path) -> None:
    written = {
        (row, worker): cell(1_000 * row + 100 * worker) for row in range(4) for worker in range(WORKERS)
    }
    for (row, worker), value in written.items():
        table.write(row, worker, value)
    other = TargetTable.open(path)
    for row in range(4):
        assert other.cells(row) == [written[row, worker] for worker in range(WORKERS)]
    assert other.cells(4) == [Cell()] * WORKERS
    assert table.names() == []


def test_noted_success_ends_the_streak_and_leaves_the_rest(table: TargetTable) -> None:
    table.write(1, 1, cell(10))
    table.note_success(1, 1, 77)
    expected = cell(10)
    expected.streak, expected.ok_at_ms = 0, 77
    assert table.cells(1) == [Cell(), expected, Cell()]


def test_state_is_the_verdict_over_all_workers(table: TargetTable) -> None:
    row = table.row("a")
    assert table.state(row, 1_000) == UP
    table.write(row, 2, Cell(ejected_at_ms=1_000, ejected_until_ms=2_000, ejections=1))
    assert [table.state(row, now_ms) for now_ms in (1_000, 1_999, 2_000)] == [EJECTED, EJECTED, TRIAL]
    table.write(row, 0, Cell(recovered_at_ms=2_500))
    assert table.state(row, 2_600) == UP


def test_row_that_was_not_given_is_always_up(table: TargetTable) -> None:
    # -1 must not mean the last row.
    table.write(ROWS - 1, 0, Cell(ejected_at_ms=1_000, ejected_until_ms=9_000))
    assert table.state(-1, 1_000) == UP


def test_touch_is_seen_by_all(table: TargetTable, path: Path) -> None:
    other = TargetTable.open(path)
    before = other.changes()
    table.touch()
    assert other.changes() == table.changes() != before
    between = table.changes()
    other.touch()
    assert table.changes() != between


def test_file_of_another_kind_is_refused(path: Path) -> None:
    path.write_bytes(b"\1" * 4096)
    with pytest.raises(ValueError, match="not a target table"):
        TargetTable.open(path)


def test_new_table_replaces_the_old_file_whole(table: TargetTable, path: Path) -> None:
    table.row("a")
    table.write(0, 0, cell(1))
    fresh = TargetTable.create(path, 1)
    assert fresh.names() == []
    assert fresh.workers == 1
    assert fresh.cells(0) == [Cell()]
    # Whoever still has the old one is not disturbed.
    assert table.cells(0)[0] == cell(1)
    assert [entry.name for entry in path.parent.iterdir()] == [path.name]
