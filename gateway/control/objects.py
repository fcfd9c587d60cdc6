"""Whose stored objects are whose: files, batches, fine-tuning jobs and the like, by the team that made them.

A provider's account sees all of its objects; a team of ours must see its own. One SQLite file in the state
folder; what is recorded is on the disk before the caller hears of its object.
"""

from __future__ import annotations

import asyncio
import sqlite3
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

from gateway.clock import now_s
from gateway.telemetry.diagnostics import say

VERSION = 1
_SCHEMA = """
CREATE TABLE IF NOT EXISTS objects (
    provider TEXT NOT NULL, id TEXT NOT NULL, team TEXT NOT NULL, made_at REAL NOT NULL,
    PRIMARY KEY (provider, id)
) WITHOUT ROWID
"""


class StoredObjects:
    """The record of one state folder. Asked by workers over the link; nothing here blocks the event loop."""

    def __init__(self, path: Path) -> None:
        self._thread = ThreadPoolExecutor(1, "objects")
        self._db: sqlite3.Connection | None = None
        try:
            self._db = _open(path)
        except (sqlite3.Error, ValueError) as error:
            say(f"{path} cannot be used, so calls for stored objects are refused: {error}")

    async def answer(self, question: dict[str, Any]) -> dict[str, Any]:
        """Answers `{"do": "owned" | "record", "provider", "team", "ids"}` with `{"owned": [ids]}`.

        These are those of the ids that are the team's; `record` first gives it those that are nobody's.
        `{}`: cannot tell.
        """
        loop = asyncio.get_running_loop()
        try:
            return {"owned": await loop.run_in_executor(self._thread, self._look, question)}
        except sqlite3.Error as error:
            say(f"the record of stored objects failed: {error}")
            return {}

    def close(self) -> None:
        """Ends after what is being written."""
        self._thread.shutdown()
        if self._db is not None:
            self._db.close()

    def _look(self, question: dict[str, Any]) -> list[str]:
        db = self._db
        if db is None:
            raise sqlite3.OperationalError("it could not be opened")
        provider, team, ids = question["provider"], question["team"], question["ids"]
        if question["do"] == "record":
            with db:
                db.executemany(
                    "INSERT OR IGNORE INTO objects VALUES (?, ?, ?, ?)",
                    [(provider, id_, team, now_s()) for id_ in ids],
                )
        owned = []
        for id_ in ids:
            row = db.execute("SELECT team FROM objects WHERE provider = ? AND id = ?", (provider, id_))
            if row.fetchone() == (team,):
                owned.append(id_)
        return owned


def _open(path: Path) -> sqlite3.Connection:
    db = sqlite3.connect(path, check_same_thread=False)
    path.chmod(0o600)
    db.execute("PRAGMA journal_mode=WAL")
    # FULL: a caller that knows an id must be able to use it after a power cut too (0.2 ms each).
    db.execute("PRAGMA synchronous=FULL")
    (version,) = db.execute("PRAGMA user_version").fetchone()
    if version > VERSION:
        raise ValueError("a newer Headgate wrote it; start that one")
    with db:
        db.execute(_SCHEMA)
        db.execute(f"PRAGMA user_version = {VERSION}")
    return db
