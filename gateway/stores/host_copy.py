"""What one host has posted to a store that others share, kept on its own disk.

A Redis that was emptied, or that lost its last writes in a failover, gets the money spent back from here. One
SQLite file; written after the store has answered: what was not answered is in the journals of the workers.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Iterable, Mapping
from pathlib import Path

from gateway.quota.contract import Terms

VERSION = 1
KEPT_MS = 100 * 86_400_000
"""Longer than any window, and than the store itself remembers one."""
_SCHEMA = """
CREATE TABLE IF NOT EXISTS mark (name TEXT PRIMARY KEY, value) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS posted (
    entity TEXT NOT NULL, account TEXT NOT NULL, amount INTEGER NOT NULL, time_ms INTEGER NOT NULL,
    PRIMARY KEY (entity, account)
) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS adjusted (
    id TEXT PRIMARY KEY, bucket TEXT NOT NULL, amount INTEGER NOT NULL, time_ms INTEGER NOT NULL
) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS terms (
    rule TEXT PRIMARY KEY, kind TEXT, cap INTEGER, burst INTEGER, window_ms INTEGER, shadow INTEGER,
    stamp INTEGER
) WITHOUT ROWID;
"""


class Mark:
    """How far a host has followed a store: its epoch, this host's writes in it, all writes."""

    __slots__ = ("epoch", "head", "n")

    def __init__(self, epoch: str = "", n: int = 0, head: int = 0) -> None:
        self.epoch, self.n, self.head = epoch, n, head

    def follow(self, epoch: str, n: int, head: int) -> None:
        """Takes what an answer says. Answers may overtake one another: the highest count."""
        if epoch != self.epoch:
            self.epoch, self.n, self.head = epoch, n, head
        else:
            self.n, self.head = max(self.n, n), max(self.head, head)


class HostCopy:
    """The file of one host; `:memory:` where there is none. Raises `sqlite3.Error` when it cannot be used."""

    def __init__(self, path: Path | str = ":memory:") -> None:
        self._db = sqlite3.connect(path, isolation_level=None, check_same_thread=False)
        self._db.execute("PRAGMA journal_mode = WAL")
        self._db.execute("PRAGMA synchronous = NORMAL")
        version = self._db.execute("PRAGMA user_version").fetchone()[0]
        if version not in (0, VERSION):
            self._db.close()
            raise sqlite3.DatabaseError(f"{path} is of version {version}, not {VERSION}")
        self._db.executescript(_SCHEMA)
        self._db.execute(f"PRAGMA user_version = {VERSION}")
        self._stamps: dict[str, int] = dict(self._db.execute("SELECT rule, stamp FROM terms"))

    def mark(self) -> Mark:
        """Where the host was when it wrote last."""
        row = self._db.execute("SELECT value FROM mark WHERE name = 'mark'").fetchone()
        if row is None:
            return Mark()
        epoch, n, head = row[0].split()
        return Mark(epoch, int(n), int(head))

    def keep(self, mark: Mark, entity: str, posted: Mapping[str, int], now_ms: int) -> None:
        """Sums of one owner and epoch by account: the larger one is kept. One transaction, some 30 µs."""
        self._db.execute("BEGIN")
        self._db.executemany(
            "INSERT INTO posted VALUES (?, ?, ?, ?) ON CONFLICT DO UPDATE"
            " SET amount = max(amount, excluded.amount), time_ms = excluded.time_ms",
            [(entity, account, amount, now_ms) for account, amount in posted.items()],
        )
        self._note(mark)
        self._db.execute("COMMIT")

    def add(self, mark: Mark, entity: str, more: Mapping[str, int], now_ms: int) -> None:
        """As `keep`, but told is what comes on top. Not to be told twice."""
        sums = dict(self._db.execute("SELECT account, amount FROM posted WHERE entity = ?", (entity,)))
        posted = {account: sums.get(account, 0) + amount for account, amount in more.items()}
        self.keep(mark, entity, posted, now_ms)

    def adjust(self, mark: Mark, id: str, bucket: str, amount: int, now_ms: int) -> None:
        """A top-up that was made."""
        self._db.execute("INSERT OR IGNORE INTO adjusted VALUES (?, ?, ?, ?)", (id, bucket, amount, now_ms))
        self._note(mark)

    def learn(self, terms: Iterable[tuple[str, Terms]]) -> None:
        """Terms by rule; older ones than those known are passed over."""
        new = {rule: said for rule, said in terms if said.stamp > self._stamps.get(rule, -1)}
        if not new:
            return
        self._stamps.update({rule: said.stamp for rule, said in new.items()})
        self._db.executemany(
            "INSERT OR REPLACE INTO terms VALUES (?, ?, ?, ?, ?, ?, ?)",
            [(rule, *said[:4], int(said.shadow), said.stamp) for rule, said in new.items()],
        )

    def posted(self) -> list[tuple[str, str, int]]:
        """Owner@epoch, account, sum."""
        return self._db.execute("SELECT entity, account, amount FROM posted").fetchall()

    def adjusted(self) -> list[tuple[str, str, int]]:
        """Id, bucket, amount."""
        return self._db.execute("SELECT id, bucket, amount FROM adjusted ORDER BY time_ms").fetchall()

    def terms(self) -> dict[str, Terms]:
        """By rule."""
        return {
            rule: Terms(kind, limit, burst, window_ms, bool(shadow), stamp)
            for rule, kind, limit, burst, window_ms, shadow, stamp in self._db.execute("SELECT * FROM terms")
        }

    def forget(self, now_ms: int) -> None:
        """Drops what no window can need any more."""
        for table in ("posted", "adjusted"):
            self._db.execute(f"DELETE FROM {table} WHERE time_ms < ?", (now_ms - KEPT_MS,))

    def close(self, mark: Mark) -> None:
        """Writes the mark and ends."""
        self._note(mark)
        self._db.close()

    def _note(self, mark: Mark) -> None:
        if mark.epoch:
            said = f"{mark.epoch} {mark.n} {mark.head}"
            self._db.execute("INSERT OR REPLACE INTO mark VALUES ('mark', ?)", (said,))
