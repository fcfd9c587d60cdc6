"""What goes wrong in Headgate itself, told on stderr: where, and never with what."""

from __future__ import annotations

import asyncio
import sys
import traceback
from typing import Any


def report(error: BaseException) -> None:
    """The type of an exception and the lines it came through; its message may quote a call or a secret."""
    frames = traceback.extract_tb(error.__traceback__)[-4:]
    where = ", ".join(f"{frame.filename}:{frame.lineno}" for frame in frames)
    sys.stderr.write(f"headgate: internal error: {type(error).__name__} at {where}\n")


def report_escaped(loop: asyncio.AbstractEventLoop, context: dict[str, Any]) -> None:
    """The exception handler of an event loop; asyncio's own prints messages and objects."""
    error = context.get("exception")
    if isinstance(error, BaseException):
        report(error)
    else:
        sys.stderr.write("headgate: internal error in an event loop\n")
