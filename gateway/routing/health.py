"""Passive health: who is ejected is a pure function of what all workers wrote down.

Every worker owns one `Cell` per row and writes only that; the verdict on a row is computed from all of
its cells, so workers agree without talking. Times are milliseconds of a clock that all share.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

EJECTED, TRIAL, UP = 0, 1, 2
"""Values of the metric headgate_target_state."""

STREAK_MS = 30_000
"""Failures further back than this no longer count towards an ejection."""
FORGET_MS = 600_000
"""An ejection this long ago no longer lengthens the next one."""
LONGEST = 10
"""The n-th ejection in a row lasts n times the rule's time, up to this many times (Envoy's outlier rule)."""
TRIAL_TURN_MS = 1_000
"""Each worker in turn owns the half-open trial for this long."""


@dataclass(slots=True)
class Cell:
    """What one worker saw of one row. All zero: nothing."""

    streak: int = 0
    failed_at_ms: int = 0
    ok_at_ms: int = 0
    ejected_at_ms: int = 0
    ejected_until_ms: int = 0
    ejections: int = 0
    recovered_at_ms: int = 0


def state_of(cells: Sequence[Cell], now_ms: int) -> int:
    """EJECTED, TRIAL (its time is up, one call may try it) or UP."""
    ejected_at = max(cell.ejected_at_ms for cell in cells)
    if not ejected_at or ejected_at <= max(cell.recovered_at_ms for cell in cells):
        return UP
    return EJECTED if now_ms < max(cell.ejected_until_ms for cell in cells) else TRIAL


def owns_trial(cells: Sequence[Cell], worker: int, now_ms: int) -> bool:
    """True if the half-open trial is this worker's at this time; they take turns, so an idle or dead worker
    cannot keep a target out."""
    since_ms = now_ms - max(cell.ejected_until_ms for cell in cells)
    return since_ms >= 0 and since_ms // TRIAL_TURN_MS % len(cells) == worker


def streak(cells: Sequence[Cell], now_ms: int) -> int:
    """Failures in a row over all workers: those after the last success of any, and not too old."""
    last_ok = max(cell.ok_at_ms for cell in cells)
    return sum(
        cell.streak
        for cell in cells
        if cell.failed_at_ms > last_ok and now_ms - cell.failed_at_ms <= STREAK_MS
    )


def after_success(own: Cell, state: int, now_ms: int) -> None:
    """Writes a success into a worker's own cell; a success on trial takes the row back in."""
    own.streak = 0
    own.ok_at_ms = now_ms
    if state != UP:
        own.recovered_at_ms = now_ms


def after_failure(cells: Sequence[Cell], worker: int, now_ms: int, *, failures: int, eject_ms: int) -> bool:
    """Writes a failure into `cells[worker]`; True if that ejects the row.

    Ejected after `failures` in a row, at once if the row was on trial.
    """
    own = cells[worker]
    state = state_of(cells, now_ms)
    stale = own.failed_at_ms <= max(cell.ok_at_ms for cell in cells) or now_ms - own.failed_at_ms > STREAK_MS
    own.streak = 1 if stale else own.streak + 1
    own.failed_at_ms = now_ms
    if state == TRIAL or (state == UP and streak(cells, now_ms) >= failures):
        eject(cells, worker, now_ms, eject_ms)
        return True
    return False


def eject(cells: Sequence[Cell], worker: int, now_ms: int, eject_ms: int) -> None:
    """Takes the row out for `eject_ms`, longer for each ejection that follows the last one soon."""
    latest = max(cells, key=lambda cell: cell.ejected_at_ms)
    again = latest.ejected_at_ms and now_ms - latest.ejected_at_ms <= FORGET_MS
    own = cells[worker]
    own.ejections = min(latest.ejections + 1, LONGEST) if again else 1
    own.ejected_until_ms = now_ms + eject_ms * own.ejections
    own.ejected_at_ms = now_ms
