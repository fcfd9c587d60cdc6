"""The pulse of an event loop: ten times a second it says how late it is, and what else is to be looked at."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

from gateway.telemetry import table
from gateway.telemetry.meters import Histogram
from gateway.telemetry.slots import SlotFile

PULSE_S = 0.1


class Pulse:
    """Beats until it is stopped. `look` is called with every beat and must not wait.

    Lateness is that of the timer: what the loop did meanwhile, and what others did on its processor. A loop
    that stands still for 1 s shows once with 1 s.
    """

    def __init__(
        self,
        loop: asyncio.AbstractEventLoop,
        slots: SlotFile,
        process: str,
        look: Callable[[], None] = lambda: None,
    ) -> None:
        self._loop = loop
        self._lag = Histogram(slots, table.LOOP_LAG, (process,))
        self._look = look
        self._due_s = loop.time() + PULSE_S
        self._timer = loop.call_at(self._due_s, self._beat)

    def stop(self) -> None:
        """No more beats."""
        self._timer.cancel()

    def _beat(self) -> None:
        now_s = self._loop.time()
        self._lag.observe(max(0.0, now_s - self._due_s))
        self._look()
        self._due_s = now_s + PULSE_S
        self._timer = self._loop.call_at(self._due_s, self._beat)
