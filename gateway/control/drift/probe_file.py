"""What outlives control of probes: answers and tests, what the day has cost, and alarms not told yet.

The prompts are the operator's own, and so are the answers to them: nothing that a caller said is here.
"""

from __future__ import annotations

import sqlite3
from pathlib import Path
from typing import Any

import orjson

from gateway.drift.probed import Probed

VERSION = 1
_SCHEMA = (
    "CREATE TABLE IF NOT EXISTS probed (suite TEXT, target TEXT, state BLOB NOT NULL, "
    "PRIMARY KEY (suite, target))",
    "CREATE TABLE IF NOT EXISTS spent (day INTEGER PRIMARY KEY, nanousd INTEGER NOT NULL, "
    "tokens INTEGER NOT NULL)",
    "CREATE TABLE IF NOT EXISTS alarms (id TEXT PRIMARY KEY, body BLOB NOT NULL, told INTEGER NOT NULL)",
)


class ProbeFile:
    """The file of one state folder. Raises `sqlite3.Error`, or ValueError if a newer version wrote it. One
    thread's."""

    def __init__(self, path: Path) -> None:
        self._db = sqlite3.connect(path)
        self._db.execute("PRAGMA journal_mode=WAL")
        (version,) = self._db.execute("PRAGMA user_version").fetchone()
        if version > VERSION:
            raise ValueError(f"{path} is of a newer version; start that one, or move the file away")
        with self._db:
            for statement in _SCHEMA:
                self._db.execute(statement)
            self._db.execute(f"PRAGMA user_version = {VERSION}")

    def probed(self, suite: str, target: str) -> Probed:
        """What is known; nothing if it was never asked, or another version wrote it."""
        query = "SELECT state FROM probed WHERE suite = ? AND target = ?"
        row = self._db.execute(query, (suite, target)).fetchone()
        if row is None:
            return Probed()
        try:
            return Probed.from_json(orjson.loads(row[0]))
        except (ValueError, LookupError, TypeError):
            return Probed()

    def spent(self, day: int) -> tuple[int, int]:
        """(nano-dollars, tokens) of a day, counted from 1970 (UTC): what was spent, and what calls that had
        not ended could have cost at most."""
        row = self._db.execute("SELECT nanousd, tokens FROM spent WHERE day = ?", (day,)).fetchone()
        return (0, 0) if row is None else (row[0], row[1])

    def keep_spent(self, day: int, nanousd: int, tokens: int) -> None:
        """Writes it, and forgets the days before."""
        with self._db:
            self._db.execute("INSERT OR REPLACE INTO spent VALUES (?, ?, ?)", (day, nanousd, tokens))
            self._db.execute("DELETE FROM spent WHERE day < ?", (day,))

    def keep(self, suite: str, target: str, probed: Probed, alarm: dict[str, Any] | None = None) -> None:
        """Writes what is known, and an alarm with it."""
        with self._db:
            state = orjson.dumps(probed.as_json())
            self._db.execute("INSERT OR REPLACE INTO probed VALUES (?, ?, ?)", (suite, target, state))
            if alarm is not None:
                row = (alarm["id"], orjson.dumps(alarm))
                self._db.execute("INSERT OR IGNORE INTO alarms VALUES (?, ?, 0)", row)

    def untold(self) -> list[dict[str, Any]]:
        """Alarms of which nobody said that they were told."""
        rows = self._db.execute("SELECT body FROM alarms WHERE told = 0").fetchall()
        return [orjson.loads(body) for (body,) in rows]

    def set_told(self, id_: str) -> None:
        """An alarm was told."""
        with self._db:
            self._db.execute("UPDATE alarms SET told = 1 WHERE id = ?", (id_,))

    def close(self) -> None:
        """Nothing more is written."""
        self._db.close()
