"""The book in SQLite: its tables, what is read when they are opened, what is written after a step."""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Iterable, Iterator, Sequence
from functools import lru_cache
from typing import Any

from gateway.link.ledger import encode, reply_of
from gateway.quota.book import Book
from gateway.quota.bucket import Bucket, Out
from gateway.quota.changes import Changes
from gateway.quota.contract import Terms
from gateway.quota.owners import ALIVE, LEASE_MS, Owner

SCHEMA = 1
"""Of all tables of the file, the ledger's too. A file of a newer one is refused."""

TABLES = """
CREATE TABLE IF NOT EXISTS meta (name TEXT PRIMARY KEY, value INTEGER NOT NULL);
CREATE TABLE IF NOT EXISTS rules (name TEXT PRIMARY KEY, terms TEXT NOT NULL);
CREATE TABLE IF NOT EXISTS owners (
    key TEXT PRIMARY KEY, name TEXT NOT NULL, epoch INTEGER NOT NULL, state TEXT NOT NULL,
    ended_ms INTEGER NOT NULL, seq INTEGER NOT NULL, reply BLOB, is_back INTEGER NOT NULL);
CREATE TABLE IF NOT EXISTS forgotten (name TEXT PRIMARY KEY, epoch INTEGER NOT NULL);
CREATE TABLE IF NOT EXISTS buckets (
    id TEXT PRIMARY KEY, kind TEXT NOT NULL, terms TEXT NOT NULL, total INTEGER NOT NULL,
    at_ms INTEGER NOT NULL, rest INTEGER NOT NULL, spent INTEGER NOT NULL, adjusted INTEGER NOT NULL,
    hold REAL NOT NULL, parts TEXT NOT NULL, adjustments TEXT NOT NULL, touched_ms INTEGER NOT NULL,
    is_live INTEGER NOT NULL);
CREATE INDEX IF NOT EXISTS live_buckets ON buckets (id) WHERE is_live;
CREATE TABLE IF NOT EXISTS outs (
    bucket TEXT NOT NULL, owner TEXT NOT NULL, given INTEGER NOT NULL, used INTEGER NOT NULL,
    returned INTEGER NOT NULL, out INTEGER NOT NULL, written TEXT NOT NULL, parts TEXT NOT NULL,
    held INTEGER NOT NULL, open INTEGER NOT NULL, PRIMARY KEY (bucket, owner)) WITHOUT ROWID;
CREATE INDEX IF NOT EXISTS outs_by_owner ON outs (owner);
"""


class NewerState(Exception):
    """The file was written by a later version."""


def open_tables(connection: sqlite3.Connection, tables: str) -> None:
    """Makes the tables that are missing. Raises `NewerState`."""
    known = connection.execute("SELECT 1 FROM sqlite_master WHERE name = 'meta'").fetchone()
    found = known and connection.execute("SELECT value FROM meta WHERE name = 'schema'").fetchone()
    if found and found[0] > SCHEMA:
        raise NewerState(
            f"The ledger has schema {found[0]}, this version knows {SCHEMA}: start the one that wrote it, "
            "or move the file away to begin with empty budgets."
        )
    connection.executescript(tables)
    connection.execute("INSERT OR REPLACE INTO meta VALUES ('schema', ?)", (SCHEMA,))


def load(connection: sqlite3.Connection, book: Book, now_ms: int) -> None:
    """Fills an empty book. Leases begin anew: while there was no store nobody could renew one."""
    book.rules.update(
        (name, Terms(*json.loads(terms))) for name, terms in connection.execute("SELECT * FROM rules")
    )
    book.forgotten.update(connection.execute("SELECT name, epoch FROM forgotten").fetchall())
    book.newest.update(book.forgotten)
    for _, name, epoch, state, ended_ms, seq, reply, is_back in connection.execute("SELECT * FROM owners"):
        owner = Owner(name, epoch, now_ms + LEASE_MS, state, ended_ms, seq, is_back=bool(is_back))
        owner.reply = reply_of(reply) if reply is not None else None
        book.owners[owner.key] = owner
        book.newest[name] = max(epoch, book.newest.get(name, -1))
    for bucket in _buckets(connection, "is_live"):
        book.add(bucket)
    query = "SELECT outs.* FROM outs JOIN buckets ON buckets.id = outs.bucket AND is_live"
    for row in connection.execute(query):
        _add_out(book, book.buckets[row[0]], row)


def recover(connection: sqlite3.Connection, book: Book, bucket_id: str) -> Bucket | None:
    """A bucket that left memory."""
    for bucket in _buckets(connection, "id = ?", (bucket_id,)):
        for row in connection.execute("SELECT * FROM outs WHERE bucket = ?", (bucket_id,)):
            _add_out(book, bucket, row)
        book.changes.buckets.add(bucket_id)
        return bucket
    return None


def _buckets(connection: sqlite3.Connection, where: str, values: Iterable[str] = ()) -> Iterator[Bucket]:
    for row in connection.execute(f"SELECT * FROM buckets WHERE {where}", tuple(values)):
        id_, _, terms, total, at_ms, rest, spent, adjusted, hold, parts, adjustments, touched_ms, _ = row
        yield Bucket(
            id_,
            Terms(*json.loads(terms)),
            total,
            at_ms,
            rest=rest,
            spent=spent,
            adjusted=adjusted,
            hold=hold,
            parts=_parts(parts),
            adjustments=_parts(adjustments),
            touched_ms=touched_ms,
        )


def _add_out(book: Book, bucket: Bucket, row: Sequence[Any]) -> None:
    _, key, given, used, returned, out, written, parts, held, is_open = row
    owner = book.owners.get(key)
    if owner is None:
        return
    bucket.outs[owner.key] = Out(
        given,
        used,
        returned,
        out,
        _parts(written),
        _parts(parts),
        held,
        bool(is_open),
    )
    bucket.out += out
    owner.buckets.add(bucket.id)
    if out and not is_open and owner.state == ALIVE:
        owner.untold.add(bucket.id)  # Whether it was told is not kept: twice does no harm.


def write(connection: sqlite3.Connection, book: Book, changes: Changes) -> None:
    """Writes what a step changed, within the caller's transaction."""
    connection.executemany(
        "INSERT OR REPLACE INTO rules VALUES (?, ?)",
        [(rule, _terms(book.rules[rule])) for rule in changes.rules],
    )
    connection.executemany(
        "INSERT OR REPLACE INTO buckets VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, 1)",
        [
            (
                bucket.id,
                bucket.terms.kind,
                _terms(bucket.terms),
                bucket.total,
                bucket.at_ms,
                bucket.rest,
                bucket.spent,
                bucket.adjusted,
                bucket.hold,
                _text(bucket.parts),
                _text(bucket.adjustments),
                bucket.touched_ms,
            )
            for bucket in map(book.buckets.get, changes.buckets)
            if bucket is not None
        ],
    )
    connection.executemany(
        "INSERT INTO outs VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?) ON CONFLICT DO UPDATE SET "
        "given = excluded.given, used = excluded.used, returned = excluded.returned, out = excluded.out, "
        "written = excluded.written, parts = excluded.parts, held = excluded.held, open = excluded.open",
        [
            (
                bucket.id,
                key,
                out.given,
                out.used,
                out.returned,
                out.out,
                _text(out.written),
                _text(out.parts),
                out.held,
                out.open,
            )
            for bucket_id, key in changes.outs
            if (bucket := book.buckets.get(bucket_id)) is not None
            and (out := bucket.outs.get(key)) is not None
        ],
    )
    connection.executemany(
        "INSERT OR REPLACE INTO owners VALUES (?, ?, ?, ?, ?, ?, ?, ?)",
        [
            (
                owner.key,
                owner.name,
                owner.epoch,
                owner.state,
                owner.ended_ms,
                owner.seq,
                encode(owner.reply) if owner.reply is not None and owner.state == ALIVE else None,
                owner.is_back,
            )
            for owner in map(book.owners.get, changes.owners)
            if owner is not None
        ],
    )
    for bucket_id in changes.evicted:
        connection.execute("UPDATE buckets SET is_live = 0 WHERE id = ?", (bucket_id,))
    for key in changes.forgotten:
        name = key.rpartition("@")[0]
        connection.execute("INSERT OR REPLACE INTO forgotten VALUES (?, ?)", (name, book.forgotten[name]))
        connection.execute("DELETE FROM owners WHERE key = ?", (key,))
        connection.execute("DELETE FROM outs WHERE owner = ?", (key,))


@lru_cache(10_000)
def _terms(terms: Terms) -> str:
    return json.dumps(terms)


def _text(parts: dict[int, int]) -> str:
    return json.dumps(parts) if parts else ""


def _parts(text: str) -> dict[int, int]:
    return {int(part): amount for part, amount in json.loads(text).items()} if text else {}
