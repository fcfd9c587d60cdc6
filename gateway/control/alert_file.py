"""Alerts that were raised and are not delivered yet, in the state folder: they outlive every process."""

from __future__ import annotations

import asyncio
import sqlite3
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import NamedTuple, TypeVar

from gateway.telemetry.diagnostics import say

VERSION = 1
MOST_WAITING = 1_000
"""Alerts that are kept while nobody takes them; the oldest go first."""
_SCHEMA = (
    "CREATE TABLE IF NOT EXISTS told (what TEXT PRIMARY KEY, until_ms INTEGER NOT NULL) WITHOUT ROWID",
    "CREATE TABLE IF NOT EXISTS waiting (id TEXT PRIMARY KEY, body BLOB NOT NULL, "
    "raised_ms INTEGER NOT NULL, attempts INTEGER NOT NULL, due_ms INTEGER NOT NULL) WITHOUT ROWID",
)
Result = TypeVar("Result")


class Waiting(NamedTuple):
    """An alert on its way."""

    id: str
    body: bytes
    raised_ms: int
    attempts: int
    """That failed."""
    due_ms: int


class AlertFile:
    """One SQLite file, or where that cannot be used the memory of this process. `told` are the alerts that
    were raised, so that none is raised twice. Nothing blocks the event loop."""

    def __init__(self, path: Path) -> None:
        self._thread = ThreadPoolExecutor(1, "alerts")
        try:
            self._db = _open(str(path))
            path.chmod(0o600)
        except (sqlite3.Error, OSError, ValueError) as error:
            say(f"{path} cannot be used, so alerts do not outlive this process: {error}")
            self._db = _open(":memory:")
        self.told: dict[str, int] = dict(self._db.execute("SELECT what, until_ms FROM told").fetchall())
        """What was told → when that may be forgotten. To be changed by the methods below only."""

    async def raise_alerts(self, alerts: Sequence[tuple[str, int, Waiting]]) -> int:
        """Keeps alerts: (what it tells, until when to remember that, the alert). How many old ones had to
        go."""

        def write() -> int:
            db = self._db
            with db:
                for what, until_ms, alert in alerts:
                    db.execute("INSERT OR REPLACE INTO told VALUES (?, ?)", (what, until_ms))
                    db.execute("INSERT OR IGNORE INTO waiting VALUES (?, ?, ?, ?, ?)", alert)
                return db.execute(
                    "DELETE FROM waiting WHERE id IN (SELECT id FROM waiting ORDER BY raised_ms DESC, id "
                    "LIMIT -1 OFFSET ?)",
                    (MOST_WAITING,),
                ).rowcount

        dropped = await self._do(write)
        self.told.update((what, until_ms) for what, until_ms, _ in alerts)
        return dropped

    async def forget(self, what: Sequence[str]) -> None:
        """These may be raised again."""
        await self._do(lambda: self._write("DELETE FROM told WHERE what = ?", [(each,) for each in what]))
        for each in what:
            self.told.pop(each, None)

    async def due(self, now_ms: int, most: int) -> list[Waiting]:
        """Alerts that are to be sent now, the oldest first."""
        query = "SELECT * FROM waiting WHERE due_ms <= ? ORDER BY raised_ms, id LIMIT ?"
        return await self._do(lambda: [Waiting(*row) for row in self._db.execute(query, (now_ms, most))])

    async def next_ms(self) -> int | None:
        """When the next one is due; None if there is none."""
        return await self._do(lambda: self._db.execute("SELECT min(due_ms) FROM waiting").fetchone()[0])

    async def done(self, alert: Waiting) -> None:
        """It was taken, or nobody will take it."""
        await self._do(lambda: self._write("DELETE FROM waiting WHERE id = ?", [(alert.id,)]))

    async def again(self, alert: Waiting, due_ms: int) -> None:
        """An attempt failed; the next one is due then."""
        change = "UPDATE waiting SET attempts = attempts + 1, due_ms = ? WHERE id = ?"
        await self._do(lambda: self._write(change, [(due_ms, alert.id)]))

    def close(self) -> None:
        """Ends after what is being written."""
        self._thread.shutdown()
        self._db.close()

    def _write(self, statement: str, rows: Sequence[tuple[object, ...]]) -> None:
        with self._db:
            self._db.executemany(statement, rows)

    async def _do(self, work: Callable[[], Result]) -> Result:
        return await asyncio.get_running_loop().run_in_executor(self._thread, work)


def _open(path: str) -> sqlite3.Connection:
    db = sqlite3.connect(path, check_same_thread=False)
    db.execute("PRAGMA journal_mode=WAL")
    # FULL: what was raised must be told after a power cut too.
    db.execute("PRAGMA synchronous=FULL")
    (version,) = db.execute("PRAGMA user_version").fetchone()
    if version > VERSION:
        raise ValueError("a newer Headgate wrote it; start that one")
    with db:
        for statement in _SCHEMA:
            db.execute(statement)
        db.execute(f"PRAGMA user_version = {VERSION}")
    return db
