"""Durations as people write them, in policy files and on the command line."""

from __future__ import annotations

import re

_DURATION = re.compile(r"([0-9]+(?:\.[0-9]+)?)(ms|s|m|h|d)?")
_SECONDS = {"ms": 0.001, "s": 1.0, "m": 60.0, "h": 3600.0, "d": 86400.0}


def seconds(text: str) -> float | None:
    """Seconds of "500ms", "5s", "10m", "1h" or a plain number of seconds; None if it is none of these."""
    match = _DURATION.fullmatch(text.strip())
    return float(match[1]) * _SECONDS[match[2] or "s"] if match else None
