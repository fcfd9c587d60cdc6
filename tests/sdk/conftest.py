"""The lines of `tests/line`, for the clients that people use."""

from __future__ import annotations

from tests.line.conftest import catalogue, relay, start

__all__ = ["catalogue", "relay", "start"]
