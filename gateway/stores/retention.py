"""Retention: what is older than some days leaves the ledger in SQLite, a few hundred rows at a time.

For every account, posted = charges of its rows + entries, before and after each step: what pruned rows
charged is added to one entry of kind `pruned` for each account. A bucket leaves when it is out of memory and
every owner that had something of it is forgotten, for what owners report are sums; an account, with its
entries, when nothing of it is newer and its bucket is gone.
"""

from __future__ import annotations

import sqlite3
from itertools import takewhile

from gateway.quota.changes import EXPLAINED, PRUNED

DAY_MS = 86_400_000
ROWS_AT_ONCE = 300
"""Rows of usage that one step deletes, with their charges: about 2 ms."""
MOST_ROWS_AT_ONCE = 5_000
LOOKED_AT = 300
"""Buckets, and accounts, that one step looks at."""


class Retention:
    """Prunes what is older than `keep_days`. Remembers only where it goes on."""

    def __init__(self, connection: sqlite3.Connection, keep_days: int) -> None:
        self._connection = connection
        self._keep_ms = keep_days * DAY_MS
        self._next_bucket, self._next_account = "", 0
        self._rows = 0

    def step(self, now_ms: int, rows: int) -> None:
        """One small step, in the caller's transaction. `rows`: how many were ever written. Twice as many as
        since the step before may leave, so that it keeps up."""
        before_ms = now_ms - self._keep_ms
        most = min(MOST_ROWS_AT_ONCE, max(ROWS_AT_ONCE, 2 * (rows - self._rows)))
        self._rows = rows
        if self._prune_rows(before_ms, most, now_ms):
            # Only when no older row is left: an account must not go before its charges.
            self._prune_entries(before_ms, now_ms)
            self._prune_buckets(before_ms - DAY_MS)
            self._prune_accounts(before_ms - DAY_MS)

    def _prune_rows(self, before_ms: int, most: int, now_ms: int) -> bool:
        """Rows in the order in which they were written, up to the first that is to be kept. Whether that was
        reached."""
        found = self._connection.execute("SELECT row, time_ms FROM usage ORDER BY row LIMIT ?", (most,))
        old = [row for row, _ in takewhile(lambda each: each[1] < before_ms, found.fetchall())]
        if not old:
            return True
        last = old[-1]
        query = "SELECT account, sum(amount) FROM charges WHERE row <= ? GROUP BY account"
        sums = dict(self._connection.execute(query, (last,)))
        self._connection.execute("DELETE FROM charges WHERE row <= ?", (last,))
        self._connection.execute("DELETE FROM usage WHERE row <= ?", (last,))
        for account, amount in sums.items():
            self._fold(account, amount, now_ms)
        return len(old) < most

    def _prune_entries(self, before_ms: int, now_ms: int) -> None:
        """Entries that say what no row does; those of adjustments stay as long as their account."""
        found = self._connection.execute(
            "SELECT rowid, account, amount FROM entries "
            f"WHERE time_ms < ? AND kind IN {EXPLAINED} AND kind != ? ORDER BY time_ms LIMIT ?",
            (before_ms, PRUNED, ROWS_AT_ONCE),
        ).fetchall()
        for rowid, account, amount in found:
            self._connection.execute("DELETE FROM entries WHERE rowid = ?", (rowid,))
            self._fold(account, amount, now_ms)

    def _prune_buckets(self, before_ms: int) -> None:
        found = self._connection.execute(
            "SELECT id, is_live, touched_ms FROM buckets WHERE id > ? ORDER BY id LIMIT ?",
            (self._next_bucket, LOOKED_AT),
        ).fetchall()
        self._next_bucket = found[-1][0] if len(found) == LOOKED_AT else ""
        for bucket, is_live, touched_ms in found:
            had = "SELECT 1 FROM outs WHERE bucket = ?"
            if is_live or touched_ms >= before_ms or self._connection.execute(had, (bucket,)).fetchone():
                continue
            self._connection.execute("DELETE FROM buckets WHERE id = ?", (bucket,))

    def _prune_accounts(self, before_ms: int) -> None:
        found = self._connection.execute(
            "SELECT id, name, posted_ms FROM accounts WHERE id > ? ORDER BY id LIMIT ?",
            (self._next_account, LOOKED_AT),
        ).fetchall()
        self._next_account = found[-1][0] if len(found) == LOOKED_AT else 0
        for account, name, posted_ms in found:
            if posted_ms >= before_ms or self._has_bucket(name):
                continue
            self._connection.execute("DELETE FROM entries WHERE account = ?", (account,))
            self._connection.execute("DELETE FROM accounts WHERE id = ?", (account,))

    def _has_bucket(self, account: str) -> bool:
        """Of a slice of a rolling window nothing but its sum is kept, so it does not need its bucket."""
        known = "SELECT 1 FROM buckets WHERE id = ?"
        return "#" not in account and self._connection.execute(known, (account,)).fetchone() is not None

    def _fold(self, account: int, amount: int, time_ms: int) -> None:
        """Adds to the account's entry of what was pruned."""
        if not self._connection.execute(
            "UPDATE entries SET amount = amount + ?, time_ms = ? WHERE account = ? AND kind = ?",
            (amount, time_ms, account, PRUNED),
        ).rowcount:
            self._connection.execute(
                "INSERT INTO entries VALUES (?, ?, ?, ?, '', '')", (time_ms, account, PRUNED, amount)
            )
