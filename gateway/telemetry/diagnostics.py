"""What an operator reads on stderr: sentences, one a line. Of what fails in Headgate itself it is told where,
never with what."""

from __future__ import annotations

import os
import select
import traceback
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    # The supervisor has no loop: 15 of 65 ms of its start.
    import asyncio


def say(text: str) -> None:
    """Writes lines to stderr. Never waits for who reads them: where nobody does, they are dropped."""
    data = "".join(f"headgate: {line}\n" for line in text.splitlines()).encode()
    try:
        # A pipe that is writable takes PIPE_BUF bytes without waiting (pipe(7)); more might wait.
        for at in range(0, len(data), select.PIPE_BUF):
            if not select.select([], [2], [], 0)[1]:
                return
            os.write(2, data[at : at + select.PIPE_BUF])
    except (OSError, ValueError):
        return


_said: set[str] = set()
_MOST_SAID = 1_000


def say_once(text: str) -> None:
    """As `say`, but the same words only once in a process, and of such at most a thousand."""
    if text not in _said and len(_said) < _MOST_SAID:
        _said.add(text)
        say(text)


def report(error: BaseException) -> None:
    """The type of an exception and the lines it came through; its message may quote a call or a secret."""
    frames = traceback.extract_tb(error.__traceback__)[-4:]
    where = ", ".join(f"{frame.filename}:{frame.lineno}" for frame in frames)
    say(f"internal error: {type(error).__name__} at {where}")


def report_escaped(loop: asyncio.AbstractEventLoop, context: dict[str, Any]) -> None:
    """The exception handler of an event loop; asyncio's own prints messages and objects."""
    error = context.get("exception")
    if isinstance(error, BaseException):
        report(error)
    else:
        say("internal error in an event loop")
