"""Rows wait for the store, and in a long outage in sums: nothing that was spent is lost."""

from __future__ import annotations

from gateway.quota import rows
from gateway.quota.row import Row
from gateway.quota.rows import Rows


def row_of(number: int, key: str = "app", nanousd: int | None = 7) -> Row:
    charges = {"day|all|2026-11-01": nanousd or 0}
    return Row(
        1_000 + number, f"r{number}", 1, key, "search", "fast", "openai/gpt-4o", 200, "ok",
        10, 1, 0, 0, 5, 0, 0, nanousd, 0, charges,
    )  # fmt: skip


def test_rows_go_in_their_order_and_once() -> None:
    waiting = Rows()
    assert not waiting
    told = [row_of(1), row_of(2)]
    for row in told:
        waiting.add(row)
    assert waiting
    assert waiting.take() == told
    assert waiting.take() == []


def test_what_finds_no_room_is_summed_up_by_key_model_and_target() -> None:
    waiting = Rows()
    for number in range(rows.MOST + 30):
        waiting.add(row_of(number, key=f"k{number % 3}", nanousd=None if number % 2 else 7))
    took = [Row(*row) for row in waiting.take()]
    assert len(took) == rows.MOST + 3
    sums = took[rows.MOST :]
    assert {row.key for row in sums} == {"k0", "k1", "k2"}
    assert all((row.outcome, row.attempt, row.status) == ("summed", 0, 0) for row in sums)
    assert [row.input for row in sums] == [100] * 3 and [row.output for row in sums] == [50] * 3
    assert sum(row.nanousd or 0 for row in took) == 7 * (rows.MOST + 30) // 2
    assert sum(row.charges["day|all|2026-11-01"] for row in took) == 7 * (rows.MOST + 30) // 2
    assert len({(row.request_id, row.attempt) for row in took}) == len(took)
