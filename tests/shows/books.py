"""The gateway's books as its state folder has them: what is posted, what is held, whether all agrees."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from gateway.link.journal import UNFINISHED, Journaled, read_journal
from gateway.stores.ledger import verify

MONEY = ("money", "rolling")


@dataclass(slots=True)
class Books:
    """What the embedded store's file says at one moment."""

    posted: dict[str, int]
    """Account → nano-dollars."""
    told: dict[tuple[str, str], int]
    """(owner@epoch, bucket) → use that the owner has reported."""
    held: int
    """Of money, by open calls, as last told."""
    rows: list[dict[str, Any]]
    wrong: list[str]
    """What does not agree."""


class StateFolder:
    """The state folder of a gateway with the embedded store."""

    def __init__(self, folder: Path) -> None:
        self._ledger = folder / "ledger.db"
        self._journals = folder / "journal"

    @contextmanager
    def _reading(self) -> Iterator[sqlite3.Connection]:
        with closing(sqlite3.connect(f"file:{self._ledger}?mode=ro", uri=True)) as connection:
            connection.execute("BEGIN")
            yield connection

    def books(self) -> Books:
        """All of it, of one moment."""
        with self._reading() as connection:
            posted = dict(connection.execute("SELECT name, posted FROM accounts"))
            outs = connection.execute(
                "SELECT owner, bucket, outs.used, held, kind FROM outs JOIN buckets ON id = bucket"
            ).fetchall()
            cursor = connection.execute("SELECT * FROM usage")
            names = [column[0] for column in cursor.description]
            rows = [dict(zip(names, row, strict=True)) for row in cursor]
            told = {(owner, bucket): used for owner, bucket, used, _, kind in outs if kind in MONEY}
            held = sum(held for *_, held, kind in outs if kind in MONEY)
            return Books(posted, told, held, rows, verify(connection))

    def held(self) -> int:
        """Of money, by open calls, as last told."""
        query = "SELECT coalesce(sum(held), 0) FROM outs JOIN buckets ON id = bucket WHERE kind IN (?, ?)"
        with self._reading() as connection:
            return int(connection.execute(query, MONEY).fetchone()[0])

    def posted(self, account: str) -> int:
        """Nano-dollars, as far as the store has been told."""
        with self._reading() as connection:
            found = connection.execute("SELECT posted FROM accounts WHERE name = ?", (account,)).fetchone()
        return 0 if found is None else int(found[0])

    def journals(self) -> list[Journaled]:
        """Of all workers that have not been settled."""
        return [journal for path in self._paths() if (journal := _read(path)) is not None]

    def _paths(self) -> list[Path]:
        return sorted(path for path in self._journals.iterdir() if path.suffix != UNFINISHED)

    def promised(self, account: str) -> int:
        """What the books say was spent of an account or is held: posted, used and not told yet, held.

        Each is read after what it may move to, so that nothing is missed on its way: a call settles from its
        hold into its worker's use, and from there into the store.
        """
        while True:
            paths = self._paths()
            holds = self.journals()
            journals = self.journals()
            with self._reading() as connection:
                query = "SELECT owner, used FROM outs WHERE bucket = ?"
                told = dict(connection.execute(query, (account,)))
                row = connection.execute("SELECT posted FROM accounts WHERE name = ?", (account,)).fetchone()
            if self._paths() == paths and len(paths) == len(holds) == len(journals):
                break
        total = 0 if row is None else int(row[0])
        for journal in journals:
            owner = f"{journal.owner}@{journal.epoch}"
            total += max(0, journal.used.get(account, 0) - told.get(owner, 0))
        return total + sum(journal.holds.get(account, 0) for journal in holds)


def _read(path: Path) -> Journaled | None:
    try:
        return read_journal(path)
    except FileNotFoundError:
        return None
