"""What outlives control: the streams' states, and the alarms with whether they were told.

One SQLite file in the state folder. A state and the alarms that it has set off are written together, so a
kill at any moment neither loses an alarm nor has it found a second time.
"""

from __future__ import annotations

import secrets
import sqlite3
from collections.abc import Iterator, Sequence
from pathlib import Path
from threading import Lock
from typing import Any

import orjson

VERSION = 1
MOST_ALARMS = 10_000
_SCHEMA = (
    "CREATE TABLE IF NOT EXISTS streams (model TEXT, target TEXT, state BLOB NOT NULL, "
    "PRIMARY KEY (model, target))",
    "CREATE TABLE IF NOT EXISTS alarms (id TEXT PRIMARY KEY, at_s REAL NOT NULL, body BLOB NOT NULL, "
    "told INTEGER NOT NULL)",
    "CREATE TABLE IF NOT EXISTS keys (name TEXT PRIMARY KEY, value BLOB NOT NULL)",
)


class DriftFile:
    """The file of one state folder. Raises `sqlite3.Error`, or ValueError if a newer version wrote it. May be
    used from any thread."""

    def __init__(self, path: Path) -> None:
        self._lock = Lock()
        self._db = sqlite3.connect(path, check_same_thread=False)
        self._db.execute("PRAGMA journal_mode=WAL")
        self._db.execute("PRAGMA synchronous=FULL")
        (version,) = self._db.execute("PRAGMA user_version").fetchone()
        if version > VERSION:
            raise ValueError(f"{path} is of a newer version; start that one, or move the file away")
        with self._db:
            for statement in _SCHEMA:
                self._db.execute(statement)
            self._db.execute(f"PRAGMA user_version = {VERSION}")

    def key(self) -> bytes:
        """The key of this folder's hashes, made when first asked for."""
        with self._lock, self._db:
            self._db.execute("INSERT OR IGNORE INTO keys VALUES ('hashes', ?)", (secrets.token_bytes(32),))
            (found,) = self._db.execute("SELECT value FROM keys WHERE name = 'hashes'").fetchone()
        return bytes(found)

    def states(self) -> Iterator[tuple[str, str, bytes]]:
        """(model, target, state) of every stream."""
        with self._lock:
            yield from self._db.execute("SELECT model, target, state FROM streams").fetchall()

    def save(
        self, states: Sequence[tuple[str, str, bytes]], alarms: Sequence[dict[str, Any]] = ()
    ) -> list[str]:
        """Writes them together; the ids of alarms that are new."""
        with self._lock, self._db:
            self._db.executemany("INSERT OR REPLACE INTO streams VALUES (?, ?, ?)", states)
            new = []
            for alarm in alarms:
                row = (alarm["id"], alarm["at_s"], orjson.dumps(alarm), 0)
                if self._db.execute("INSERT OR IGNORE INTO alarms VALUES (?, ?, ?, ?)", row).rowcount:
                    new.append(alarm["id"])
            self._db.execute(
                "DELETE FROM alarms WHERE id IN (SELECT id FROM alarms ORDER BY at_s DESC LIMIT -1 OFFSET ?)",
                (MOST_ALARMS,),
            )
        return new

    def forget(self, model: str, target: str) -> None:
        """A stream that is watched no more."""
        with self._lock, self._db:
            self._db.execute("DELETE FROM streams WHERE model = ? AND target = ?", (model, target))

    def told(self, id_: str) -> None:
        """Everybody who is to know of an alarm does."""
        with self._lock, self._db:
            self._db.execute("UPDATE alarms SET told = 1 WHERE id = ?", (id_,))

    def alarms(self, *, untold: bool = False, most: int = 100) -> list[dict[str, Any]]:
        """The latest, newest first."""
        where = "WHERE told = 0" if untold else ""
        query = f"SELECT body FROM alarms {where} ORDER BY at_s DESC LIMIT ?"
        with self._lock:
            return [orjson.loads(body) for (body,) in self._db.execute(query, (most,)).fetchall()]

    def counts(self) -> dict[tuple[str, ...], int]:
        """(model, target, kind, cause) → alarms ever."""
        found: dict[tuple[str, ...], int] = {}
        with self._lock:
            rows = self._db.execute("SELECT body FROM alarms").fetchall()
        for (body,) in rows:
            alarm = orjson.loads(body)
            series = (alarm["model"], alarm["target"], alarm["kind"], alarm["cause"])
            found[series] = found.get(series, 0) + 1
        return found

    def close(self) -> None:
        """Nothing more is written."""
        with self._lock:
            self._db.close()
