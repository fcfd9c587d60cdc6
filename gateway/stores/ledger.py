"""The ledger in SQLite: usage rows, what each charged to which account, and entries that are no rows.

For every account: posted = charges of its rows + entries of the kinds in `EXPLAINED`. A row is written in the
transaction that posts its use, so an exchange that comes twice writes it once.

Rows with two charges each go in at 42,000 a second, 20 a transaction with the exchange that brings them;
`verify` over 10^6 rows takes 0.9 s, `spend` by four columns 3.1 s, in a thread.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Sequence
from typing import Any

from gateway.quota.changes import EXPLAINED, Changes
from gateway.quota.contract import MONEY
from gateway.quota.row import TOKENS, Row

_COLUMNS = Row._fields[:-1]
TABLES = f"""
CREATE TABLE IF NOT EXISTS usage (row INTEGER PRIMARY KEY, {", ".join(_COLUMNS)});
CREATE INDEX IF NOT EXISTS usage_by_time ON usage (time_ms);
CREATE TABLE IF NOT EXISTS accounts (
    id INTEGER PRIMARY KEY, name TEXT NOT NULL UNIQUE, posted INTEGER NOT NULL,
    posted_ms INTEGER NOT NULL);
CREATE TABLE IF NOT EXISTS charges (row INTEGER NOT NULL, account INTEGER NOT NULL, amount INTEGER NOT NULL);
CREATE INDEX IF NOT EXISTS charges_by_row ON charges (row);
CREATE TABLE IF NOT EXISTS entries (
    time_ms INTEGER NOT NULL, account INTEGER NOT NULL, kind TEXT NOT NULL, amount INTEGER NOT NULL,
    who TEXT NOT NULL, note TEXT NOT NULL);
CREATE INDEX IF NOT EXISTS entries_by_account ON entries (account);
CREATE INDEX IF NOT EXISTS entries_by_time ON entries (time_ms);
"""
GROUPS = {
    **{name: name for name in ("key", "team", "model", "target", "status", "outcome", "request_id")},
    "provider": "substr(target, 1, instr(target || '/', '/') - 1)",
    "day": "strftime('%Y-%m-%d', time_ms / 1000, 'unixepoch')",
    "hour": "strftime('%Y-%m-%dT%H', time_ms / 1000, 'unixepoch')",
}
"""What `spend` can group by → its SQL. Days and hours are of UTC."""

_ACCOUNTS = 100_000
"""Names whose numbers are remembered; windows end, so they are all forgotten from time to time."""


class Ledger:
    """Writes the ledger's tables, in the transactions of who calls."""

    def __init__(self, connection: sqlite3.Connection) -> None:
        self._connection = connection
        self._accounts: dict[str, int] = {}
        self._row: int = connection.execute("SELECT coalesce(max(row), 0) FROM usage").fetchone()[0]

    def write(self, changes: Changes, now_ms: int) -> None:
        """Rows, entries and what is posted."""
        first = self._row + 1
        self._row += len(changes.rows)
        if changes.rows:
            self._connection.executemany(
                f"INSERT INTO usage VALUES (?{', ?' * len(_COLUMNS)})",
                [(first + place, *row[:-1]) for place, row in enumerate(changes.rows)],
            )
            self._connection.executemany(
                "INSERT INTO charges VALUES (?, ?, ?)",
                [
                    (first + place, self._account(account, now_ms), amount)
                    for place, row in enumerate(changes.rows)
                    for account, amount in row[-1].items()
                ],
            )
        if changes.entries:
            self._connection.executemany(
                "INSERT INTO entries VALUES (?, ?, ?, ?, ?, ?)",
                [
                    (entry.time_ms, self._account(entry.account, now_ms), *entry[2:])
                    for entry in changes.entries
                ],
            )
        if changes.posted:
            self._connection.executemany(
                "UPDATE accounts SET posted = posted + ?, posted_ms = ? WHERE id = ?",
                [
                    (amount, now_ms, self._account(account, now_ms))
                    for account, amount in changes.posted.items()
                    if amount
                ],
            )

    def unknown(self, rows: Sequence[Sequence[Any]]) -> list[Sequence[Any]]:
        """Those of a dead worker's last rows that are not written yet."""
        query = "SELECT 1 FROM usage WHERE time_ms = ? AND request_id = ? AND attempt = ?"
        return [row for row in rows if not self._connection.execute(query, tuple(row[:3])).fetchone()]

    def forget_accounts(self) -> None:
        """Some may have been deleted."""
        self._accounts.clear()

    @property
    def rows(self) -> int:
        """The number of the last row: grows with every one that is written."""
        return self._row

    def _account(self, name: str, now_ms: int) -> int:
        found = self._accounts.get(name)
        if found is None:
            if len(self._accounts) >= _ACCOUNTS:
                self._accounts.clear()
            row = self._connection.execute("SELECT id FROM accounts WHERE name = ?", (name,)).fetchone()
            if row is None:
                cursor = self._connection.execute(
                    "INSERT INTO accounts (name, posted, posted_ms) VALUES (?, 0, ?)", (name, now_ms)
                )
                found = cursor.lastrowid or 0
            else:
                found = int(row[0])
            self._accounts[name] = found
        return found


def spend(
    connection: sqlite3.Connection, by: Sequence[str], since_ms: int, until_ms: int
) -> list[dict[str, Any]]:
    """See `contract.Store.spend`; "calls" counts attempts. `ValueError`: `by` names something else than
    `GROUPS`."""
    if unknown := [name for name in by if name not in GROUPS]:
        raise ValueError(f"cannot group by {', '.join(unknown)}; there are {', '.join(GROUPS)}")
    sums = [f"sum({name}) AS {name}" for name in TOKENS]
    columns = [f"{GROUPS[name]} AS by_{name}" for name in by]
    columns += ["count(*)", *sums, "coalesce(sum(nanousd), 0)"]
    query = f"SELECT {', '.join(columns)} FROM usage WHERE time_ms >= ? AND time_ms < ?"
    if by:
        groups = ", ".join(f"by_{name}" for name in by)
        query += f" GROUP BY {groups} ORDER BY {groups}"
    names = (*by, "calls", *TOKENS, "nanousd")
    rows = connection.execute(query, (since_ms, until_ms))
    return [dict(zip(names, row, strict=True)) for row in rows if row[len(by)]]


def verify(connection: sqlite3.Connection) -> list[str]:
    """What does not agree, one sentence each."""
    sums: dict[int, int] = {}
    explained = f"SELECT account, sum(amount) FROM entries WHERE kind IN {EXPLAINED} GROUP BY account"
    for query in ("SELECT account, sum(amount) FROM charges GROUP BY account", explained):
        for account, amount in connection.execute(query):
            sums[account] = sums.get(account, 0) + amount
    wrong = []
    posted: dict[str, int] = {}
    for account, name, amount in connection.execute("SELECT id, name, posted FROM accounts"):
        posted[name] = amount
        if (rows := sums.pop(account, 0)) != amount:
            wrong.append(f"{name}: {amount} nano-dollars are posted, rows and entries say {rows}.")
    wrong += [f"Account {account} has charges and no name." for account in sums]
    for bucket, spent in connection.execute("SELECT id, spent FROM buckets WHERE kind = ?", (MONEY,)):
        if posted.get(bucket, 0) != spent:
            wrong.append(f"{bucket}: its balance says {spent} spent, its account {posted.get(bucket, 0)}.")
    return wrong
