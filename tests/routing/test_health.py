"""Health is a pure function of what all workers wrote: ejected after a streak, tried in turns, taken back."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gateway.routing import health
from gateway.routing.health import EJECTED, FORGET_MS, LONGEST, STREAK_MS, TRIAL, TRIAL_TURN_MS, UP, Cell

FAILURES, EJECT_MS = 3, 1_000
START_MS = 5_000_000
"""Some time on a clock that does not begin at 0."""


class Row:
    """One row as workers see it, each writing only its own cell."""

    def __init__(self, workers: int = 1) -> None:
        self.cells = [Cell() for _ in range(workers)]

    def fail(self, at_ms: int, worker: int = 0) -> bool:
        others = [cell for place, cell in enumerate(self.cells) if place != worker]
        before = repr(others)
        ejected = health.after_failure(
            self.cells, worker, START_MS + at_ms, failures=FAILURES, eject_ms=EJECT_MS
        )
        assert repr(others) == before, "wrote into another worker's cell"
        return ejected

    def succeed(self, at_ms: int, worker: int = 0) -> None:
        health.after_success(self.cells[worker], self.state(at_ms), START_MS + at_ms)

    def eject(self, at_ms: int, worker: int = 0) -> None:
        health.eject(self.cells, worker, START_MS + at_ms, EJECT_MS)

    def state(self, at_ms: int) -> int:
        return health.state_of(self.cells, START_MS + at_ms)

    def owners(self, at_ms: int) -> list[int]:
        return [
            worker
            for worker in range(len(self.cells))
            if health.owns_trial(self.cells, worker, START_MS + at_ms)
        ]


def test_row_that_nobody_saw_is_up() -> None:
    assert Row(3).state(0) == UP
    assert health.state_of([Cell()], 0) == UP


@settings(deadline=None)
@given(st.lists(st.integers(0, 2), min_size=FAILURES, max_size=8), st.integers(1, STREAK_MS // 8))
def test_streak_is_counted_over_all_workers(workers: list[int], apart_ms: int) -> None:
    row = Row(3)
    for place, worker in enumerate(workers[:FAILURES]):
        assert row.state(place * apart_ms) == UP
        assert row.fail(place * apart_ms, worker) is (place == FAILURES - 1)
    assert row.state((FAILURES - 1) * apart_ms) == EJECTED


@settings(deadline=None)
@given(st.integers(0, 2), st.integers(0, 2))
def test_success_anywhere_ends_the_streak(failing: int, succeeding: int) -> None:
    row = Row(3)
    row.fail(0, failing)
    row.fail(10, failing)
    row.succeed(20, succeeding)
    assert not row.fail(30, failing)
    assert not row.fail(40, failing)
    assert row.fail(50, failing)


def test_old_failures_no_longer_count() -> None:
    row = Row()
    row.fail(0)
    row.fail(1)
    assert not row.fail(2 + STREAK_MS)
    assert not row.fail(3 + STREAK_MS)
    assert row.fail(4 + STREAK_MS)


def test_failures_of_another_worker_that_are_old_no_longer_count() -> None:
    row = Row(2)
    row.fail(0, 1)
    row.fail(0, 1)
    assert health.streak(row.cells, START_MS + STREAK_MS) == 2
    assert health.streak(row.cells, START_MS + STREAK_MS + 1) == 0
    assert not row.fail(STREAK_MS + 1, 0)


def test_ejected_row_is_on_trial_when_its_time_is_up() -> None:
    row = Row()
    row.eject(0)
    assert [row.state(at) for at in (0, EJECT_MS - 1, EJECT_MS, EJECT_MS * 100)] == [
        EJECTED,
        EJECTED,
        TRIAL,
        TRIAL,
    ]


@pytest.mark.parametrize("at_ms", [0, 500, EJECT_MS + 1])
def test_success_takes_the_row_back_and_wipes_the_slate(at_ms: int) -> None:
    # Before its time is up: a call that was on its way when it was ejected has brought an answer.
    row = Row(2)
    row.eject(0, 0)
    row.succeed(at_ms, 1)
    assert row.state(at_ms) == row.state(at_ms + 1) == UP
    assert not row.fail(at_ms + 1, 0)
    assert not row.fail(at_ms + 2, 1)
    assert row.fail(at_ms + 3, 0)


def test_failed_trial_ejects_at_once_and_for_longer() -> None:
    row = Row(2)
    row.eject(0, 0)
    assert row.state(EJECT_MS) == TRIAL
    assert row.fail(EJECT_MS, 1)
    until_ms = EJECT_MS + 2 * EJECT_MS
    assert [row.state(at) for at in (until_ms - 1, until_ms)] == [EJECTED, TRIAL]


def test_failure_of_a_row_that_is_out_does_not_prolong_it() -> None:
    row = Row()
    row.eject(0)
    for at_ms in range(1, 10):
        assert not row.fail(at_ms)
    assert row.state(EJECT_MS) == TRIAL


def test_ejections_grow_to_a_limit_and_are_forgotten() -> None:
    row, at_ms, lasted = Row(2), 0, []
    for turn in range(LONGEST + 3):
        row.eject(at_ms, turn % 2)
        end_ms = at_ms
        while row.state(end_ms) == EJECTED:
            end_ms += EJECT_MS
        lasted.append((end_ms - at_ms) // EJECT_MS)
        at_ms = end_ms
    assert lasted == [*range(1, LONGEST + 1), *[LONGEST] * 3]

    row.succeed(at_ms)
    row.eject(at_ms := at_ms + FORGET_MS, 0)
    assert row.state(at_ms + EJECT_MS - 1) == EJECTED
    assert row.state(at_ms + EJECT_MS) == TRIAL


def test_ejection_soon_after_a_recovery_is_longer_still() -> None:
    row = Row()
    row.eject(0)
    row.succeed(EJECT_MS)
    for at_ms in (EJECT_MS + 1, EJECT_MS + 2, EJECT_MS + 3):
        row.fail(at_ms)
    assert row.state(EJECT_MS + 3 + 2 * EJECT_MS - 1) == EJECTED
    assert row.state(EJECT_MS + 3 + 2 * EJECT_MS) == TRIAL


def test_trial_belongs_to_one_worker_at_a_time_and_comes_to_each() -> None:
    row = Row(3)
    row.eject(0, 1)
    assert row.owners(EJECT_MS - 1) == []
    turns = [row.owners(EJECT_MS + turn * TRIAL_TURN_MS) for turn in range(4)]
    assert turns == [[0], [1], [2], [0]]
    assert row.owners(EJECT_MS + TRIAL_TURN_MS - 1) == [0]


EVENTS = st.lists(
    st.tuples(st.sampled_from(["fail", "succeed"]), st.integers(0, 2), st.integers(1, 20_000)), max_size=40
)


@settings(deadline=None)
@given(EVENTS, st.permutations(range(3)))
def test_verdict_does_not_depend_on_which_worker_saw_it(
    events: list[tuple[str, int, int]], names: list[int]
) -> None:
    """Renaming the workers changes no state; and a row is always back after a success."""
    one, other, at_ms = Row(3), Row(3), 0
    for what, worker, apart_ms in events:
        at_ms += apart_ms
        for row, seen_by in ((one, worker), (other, names[worker])):
            if what == "fail":
                row.fail(at_ms, seen_by)
            else:
                row.succeed(at_ms, seen_by)
                assert row.state(at_ms) == UP
        assert one.state(at_ms) == other.state(at_ms)
        if one.state(at_ms) == TRIAL:
            assert len(one.owners(at_ms)) == 1
