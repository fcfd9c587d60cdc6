"""Tables for people: aligned columns, with colours where a terminal shows them."""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence

BOLD, RED, YELLOW = "1", "31", "33"


def table(
    head: Sequence[str], rows: Sequence[Sequence[str]], *, left: int, colours: Sequence[str] = ()
) -> str:
    """Lines of columns two spaces apart: the first `left` flush left, the others, which are numbers, flush
    right. `colours` are those of the rows ("" for none)."""
    widths = [max(len(row[at]) for row in (head, *rows)) for at in range(len(head))]

    def line(cells: Sequence[str]) -> str:
        padded = [
            cell.ljust(width) if at < left else cell.rjust(width)
            for at, (cell, width) in enumerate(zip(cells, widths, strict=True))
        ]
        return "  ".join(padded).rstrip()

    lines = [coloured(line(head), BOLD)]
    lines += [coloured(line(row), colours[at] if at < len(colours) else "") for at, row in enumerate(rows)]
    return "\n".join(lines)


def coloured(text: str, colour: str) -> str:
    """The text in a colour, if stdout is a terminal and NO_COLOR is not set."""
    if colour and sys.stdout.isatty() and not os.environ.get("NO_COLOR"):
        return f"\x1b[{colour}m{text}\x1b[0m"
    return text


def shown(value: object) -> str:
    """A cell: whole numbers in groups of three, nothing for None. What a terminal would take for a command
    is left out: a user's name may hold anything."""
    if isinstance(value, int):
        return f"{value:,}"
    return "" if value is None else "".join(char if char.isprintable() else "?" for char in str(value))
