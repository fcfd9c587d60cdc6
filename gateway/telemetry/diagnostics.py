"""What an operator reads on stderr: sentences, one a line."""

from __future__ import annotations

import os
import select


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
