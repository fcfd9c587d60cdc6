"""Sums of usage rows (`quota.contract.Store.spend`) as operators see them."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from gateway.money import usd_text
from gateway.quota.row import TOKENS

BY = ("day", "hour", "team", "key", "model", "target", "provider", "status", "outcome")
"""What sums can be made by. Days and hours are of UTC."""
SUMS = ("calls", *TOKENS, "nanousd")


def priced(row: Mapping[str, Any]) -> dict[str, Any]:
    """A row with its money as exact text in dollars, `usd`."""
    return {
        **{name: value for name, value in row.items() if name != "nanousd"},
        "usd": usd_text(row.get("nanousd") or 0),
    }


def summed(rows: Iterable[Mapping[str, Any]]) -> dict[str, int]:
    """All rows in one."""
    total = dict.fromkeys(SUMS, 0)
    for row in rows:
        for name in SUMS:
            total[name] += row.get(name) or 0
    return total


def written(rows: Iterable[Mapping[str, Any]], by: Sequence[str]) -> str:
    """Priced rows as CSV (RFC 4180): a line of names, then a line for each row. Text that a spreadsheet would
    take for a formula is given a leading apostrophe."""
    text = io.StringIO()
    writer = csv.DictWriter(text, [*by, "calls", *TOKENS, "usd"], lineterminator="\r\n")
    writer.writeheader()
    for row in rows:
        writer.writerow({**row, **{name: _cell(row[name]) for name in by}})
    return text.getvalue()


def _cell(value: object) -> object:
    return (
        f"'{value}"
        if isinstance(value, str) and value.startswith(("=", "+", "-", "@", "\t", "\r"))
        else value
    )
