"""The gateway's books as its state folder has them: what is posted, what is held, whether all agrees."""

from __future__ import annotations

import sqlite3
from collections.abc import Callable, Iterator, Sequence
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
    """The state folder of a gateway. `host`: begins the names of its owners in a store that hosts share; the
    ledger is there with the embedded store alone."""

    def __init__(self, folder: Path, host: str = "") -> None:
        self.host = host
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

    def held(self, account: str) -> int:
        """By open calls, as last told, of a calendar budget's account."""
        query = "SELECT coalesce(sum(held), 0) FROM outs WHERE bucket = ?"
        with self._reading() as connection:
            return int(connection.execute(query, (account,)).fetchone()[0])

    def left(self, account: str) -> dict[str, int]:
        """Owner that is gone, and whose journal is gone → what the store still takes to be with him."""
        living = {self.owner(journal) for journal in self.journals()}
        query = "SELECT owner, out FROM outs WHERE bucket = ?"
        with self._reading() as connection:
            outs = connection.execute(query, (account,)).fetchall()
        return {owner: has for owner, has in outs if has and owner not in living}

    def posted(self, account: str) -> int:
        """Nano-dollars, as far as the store has been told."""
        with self._reading() as connection:
            found = connection.execute("SELECT posted FROM accounts WHERE name = ?", (account,)).fetchone()
        return 0 if found is None else int(found[0])

    def look(self, account: str) -> tuple[int, dict[str, int]]:
        """As `Look`."""
        with self._reading() as connection:
            query = "SELECT owner, used FROM outs WHERE bucket = ?"
            told = dict(connection.execute(query, (account,)))
            row = connection.execute("SELECT posted FROM accounts WHERE name = ?", (account,)).fetchone()
        return 0 if row is None else int(row[0]), told

    def promised(self, account: str) -> int:
        """See `promised`."""
        return promised([self], self.look, account)

    def journals(self) -> list[Journaled]:
        """Of all workers that have not been settled."""
        return [journal for path in self.paths() if (journal := _read(path)) is not None]

    def paths(self) -> list[Path]:
        """Of their journals."""
        return sorted(path for path in self._journals.iterdir() if path.suffix != UNFINISHED)

    def owner(self, journal: Journaled) -> str:
        """Whose it is, as a store knows him: one that hosts share by the host's name too."""
        return f"{self.host}{journal.owner}@{journal.epoch}"


Look = Callable[[str], tuple[int, dict[str, int]]]
"""Account → nano-dollars that are posted; of these, OWNER@EPOCH → what that owner has told."""


def promised(folders: Sequence[StateFolder], look: Look, account: str) -> int:
    """What the books say was spent of an account or is held: posted, used and not told yet, held.

    Each is read after what it may move to, so that nothing is missed on its way: a call settles from its
    hold into its worker's use, and from there into the store.
    """

    def paths() -> list[Path]:
        return [path for folder in folders for path in folder.paths()]

    def journals() -> list[tuple[str, Journaled]]:
        return [(folder.owner(journal), journal) for folder in folders for journal in folder.journals()]

    while True:
        before = paths()
        holds, used = journals(), journals()
        total, told = look(account)
        if paths() == before and len(before) == len(holds) == len(used):
            break
    for owner, journal in used:
        total += max(0, journal.used.get(account, 0) - told.get(owner, 0))
    return total + sum(journal.holds.get(account, 0) for _, journal in holds)


def _read(path: Path) -> Journaled | None:
    try:
        return read_journal(path)
    except FileNotFoundError:
        return None
