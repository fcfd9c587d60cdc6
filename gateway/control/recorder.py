"""Looks at the counters every few seconds and keeps the last hour of them, for the console."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

from gateway.clock import monotonic_s, now_ms
from gateway.control.exposition import give_way
from gateway.control.history import STEP_S, History
from gateway.control.tally import Tally
from gateway.telemetry.diagnostics import report

TABLES = ("team", "key", "model", "target", "error_type")


class Recorder:
    """The history of one gateway. All work on it is done by one thread that gives way: what serves calls
    comes first, and nobody reads what is being written. `memory` tells bytes by process."""

    def __init__(self, slots: Path, memory: Callable[[], Mapping[str, int]]) -> None:
        self._tally = Tally(slots)
        self._memory = memory
        self._history = History()
        self._thread = ThreadPoolExecutor(1, "console", initializer=give_way)

    async def run(self) -> None:
        """For ever. A look that fails is reported, and the next one made."""
        loop = asyncio.get_running_loop()
        due_s = loop.time()
        while True:
            try:
                await loop.run_in_executor(self._thread, self._look)
            except Exception as error:
                report(error)
            due_s = max(due_s + STEP_S, loop.time())
            await asyncio.sleep(due_s - loop.time())

    async def told(self, since_ms: int) -> dict[str, Any]:
        """What was seen: `{"series", "summary", "tables": {dimension: rows}}`, series after `since_ms`."""
        return await asyncio.get_running_loop().run_in_executor(self._thread, self._tell, since_ms)

    def close(self) -> None:
        """Ends after the look under way."""
        self._thread.shutdown()

    def _look(self) -> None:
        gauges = {f"memory.{process}": float(size) for process, size in self._memory().items()}
        self._history.step(now_ms(), monotonic_s(), self._tally.look(), gauges)

    def _tell(self, since_ms: int) -> dict[str, Any]:
        if not self._history.has_begun:
            self._look()
        return {
            "series": self._history.series(since_ms),
            "summary": self._history.summary(),
            "tables": {dimension: self._history.table(dimension) for dimension in TABLES},
        }
