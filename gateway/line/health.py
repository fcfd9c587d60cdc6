"""One worker's view of the target table: what is down now, and what it writes down itself."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable, Mapping

from gateway.clock import monotonic_ms
from gateway.http.wheel import Wheel
from gateway.link.target_table import TargetTable
from gateway.policy.snapshot import HealthRule
from gateway.routing import health

LOOK_S = 0.1
"""How often a worker looks for what others wrote. Its own verdicts are in force at once."""


class TargetHealth:
    """Keeps `down` (row → 0 ejected, 1 its trial is ours) so that a call costs one look at a dict."""

    __slots__ = (
        "_changes",
        "_failing",
        "_keys",
        "_noted",
        "_rows",
        "_table",
        "_timer",
        "_trials",
        "_wheel",
        "_worker",
        "down",
    )

    def __init__(self, table: TargetTable, worker: int, wheel: Wheel) -> None:
        self._table = table
        self._wheel = wheel
        self._noted: dict[int, float] = {}
        self._failing: set[int] = set()
        self._worker = worker
        self._rows: frozenset[int] = frozenset()
        self._keys: Mapping[int, tuple[int, ...]] = {}
        self._trials: set[int] = set()
        self._changes = -1
        self._timer: asyncio.TimerHandle | None = None
        self.down: dict[int, int] = {}

    def watch(self, rows: Iterable[int], keys: Mapping[int, tuple[int, ...]] | None = None) -> None:
        """The rows of the policy in force; `keys`: row of a target → the rows of its provider's keys."""
        self._rows = frozenset(row for row in rows if row >= 0)
        self._keys = keys or {}
        self._changes = -1
        self._look()

    def close(self) -> None:
        """Stops looking."""
        if self._timer is not None:
            self._timer.cancel()

    def begin(self, row: int) -> None:
        """An attempt starts. If it is a trial it is the only one: other calls see the row as ejected."""
        if self.down and self.down.get(row) == health.TRIAL:
            self._trials.add(row)
            self.down[row] = health.EJECTED

    def succeeded(self, row: int) -> None:
        """An attempt was answered as it should be."""
        if row not in self.down:
            # A success need not be written more often than others look; but one after a failure must.
            tick = self._wheel.now_s
            if row >= 0 and (self._noted.get(row) != tick or row in self._failing):
                self._noted[row] = tick
                self._failing.discard(row)
                self._table.note_success(row, self._worker, monotonic_ms())
            return
        self._failing.discard(row)
        cells = self._table.cells(row)
        now_ms = monotonic_ms()
        health.after_success(cells[self._worker], health.state_of(cells, now_ms), now_ms)
        self._write(row, cells[self._worker])

    def failed(self, row: int, rule: HealthRule) -> None:
        """An attempt failed by the provider's fault."""
        if row < 0:
            return
        cells = self._table.cells(row)
        ejected = health.after_failure(
            cells, self._worker, monotonic_ms(), failures=rule.failures, eject_ms=rule.eject_ms
        )
        self._trials.discard(row)
        self._failing.add(row)
        self._table.write(row, self._worker, cells[self._worker])
        if ejected:
            self._announce()

    def eject(self, row: int, eject_ms: int) -> None:
        """Takes a row out at once: a provider key that was refused."""
        if row < 0:
            return
        cells = self._table.cells(row)
        health.eject(cells, self._worker, monotonic_ms(), eject_ms)
        self._write(row, cells[self._worker])

    def undecided(self, row: int) -> None:
        """An attempt ended without a verdict (the caller left); its trial may be made again."""
        self._trials.discard(row)

    def _write(self, row: int, cell: health.Cell) -> None:
        self._trials.discard(row)
        self._table.write(row, self._worker, cell)
        self._announce()

    def _announce(self) -> None:
        self._table.touch()
        self._refresh()

    def _look(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
        if self.down or self._table.changes() != self._changes:
            self._refresh()
        self._timer = asyncio.get_running_loop().call_later(LOOK_S, self._look)

    def _refresh(self) -> None:
        self._changes = self._table.changes()
        now_ms = monotonic_ms()
        down: dict[int, int] = {}
        for row in self._rows:
            cells = self._table.cells(row)
            state = health.state_of(cells, now_ms)
            if state == health.TRIAL and (
                row in self._trials or not health.owns_trial(cells, self._worker, now_ms)
            ):
                state = health.EJECTED
            if state != health.UP:
                down[row] = state
        for row, keys in self._keys.items():
            # A target is as good as the best of its keys: without one it could only be refused.
            best = max((down.get(key, health.UP) for key in keys), default=health.UP)
            if best == health.TRIAL and row in self._trials:
                best = health.EJECTED
            if best < down.get(row, health.UP):
                down[row] = best
        self.down = down
