"""The only place that reads a clock. Everything below floor 3 takes the time as an argument."""

from __future__ import annotations

import time

now_s = time.time
"""Seconds since the epoch (float): for log lines and key expiry."""

monotonic_s = time.monotonic
"""Seconds on a clock that never steps and that all processes of one host share (CLOCK_MONOTONIC)."""


def monotonic_ms() -> int:
    """Whole milliseconds of `monotonic_s`: the unit of the shared target table."""
    return time.monotonic_ns() // 1_000_000


def now_ms() -> int:
    """Whole milliseconds since the epoch."""
    return time.time_ns() // 1_000_000
