"""When not to ask a store that does not answer: three failures in a row, then one trial every 250 ms."""

from __future__ import annotations

import math

FAILURES = 3
OPEN_S = 0.25


class Breaker:
    """Of one store. Times are seconds of a clock that does not go back."""

    def __init__(self) -> None:
        self._failures = 0
        self._failed = -math.inf
        self._closed_until = 0.0
        self._has_trial = False

    @property
    def is_open(self) -> bool:
        """True while the store is taken to be down."""
        return self._failures >= FAILURES

    def lets_through(self, now: float) -> bool:
        """Whether an operation may be tried; what is let through ends in `succeeded`, `failed` or `left`."""
        if not self.is_open:
            return True
        if self._has_trial or now < self._closed_until:
            return False
        self._has_trial = True
        return True

    def succeeded(self) -> None:
        """The store answered."""
        self._failures = 0
        self._has_trial = False

    def failed(self, now: float, begun: float) -> None:
        """It did not answer what was asked at `begun`. What was under way when another operation failed says
        no more than that one: of a stall in which ten wait it is one failure."""
        if begun >= self._failed:
            self._failures += 1
            self._failed = now
        self._closed_until = now + OPEN_S
        self._has_trial = False

    def left(self) -> None:
        """The operation was cancelled by its caller: nothing is known of the store."""
        self._has_trial = False
