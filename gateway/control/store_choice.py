"""Which store a gateway uses, and how it is opened."""

from __future__ import annotations

import secrets
import sqlite3
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from gateway.clock import now_s
from gateway.quota.contract import Store
from gateway.stores.embedded import EmbeddedStore
from gateway.stores.tables import NewerState

EMBEDDED, REDIS = "embedded", "redis"
RECALL_S = {EMBEDDED: 0.005, REDIS: 0.025}
"""How long owners may take to return what is idle: on one host, or on several."""


class CannotOpen(Exception):
    """The store cannot be opened at all, now or later: a sentence for the operator."""


def kind_of(table: Mapping[str, Any]) -> str:
    """The kind of store that a policy's `store` table names."""
    return REDIS if table.get("redis") else EMBEDDED


async def open_store(table: Mapping[str, Any], state: Path) -> Store:
    """Opens the store that a policy's `store` table names. Raises `StoreDown` if it cannot be opened now,
    `CannotOpen`."""
    if kind_of(table) == REDIS:
        return _redis(table, state)
    path = state / "ledger.db"
    try:
        return EmbeddedStore(path, wall_ms)
    except NewerState as error:
        raise CannotOpen(str(error)) from None
    except sqlite3.Error as error:
        raise CannotOpen(f"The ledger {path} cannot be opened: {error}.") from None


def _redis(table: Mapping[str, Any], state: Path) -> Store:
    try:
        # Only where it is chosen: it brings 20 MB that the embedded store does not need.
        from gateway.stores.redis import RedisStore  # type: ignore[import-not-found, unused-ignore]
    except ModuleNotFoundError as error:
        raise CannotOpen(f"The policy's store is Redis, and {error.name} is not installed.") from None
    try:
        store: Store = RedisStore(
            table["redis"],
            host_id=host_id(state),
            copy=state / "redis-copy.db",
        )
    except ValueError as error:
        raise CannotOpen(f"The address of the policy's Redis cannot be used: {error}.") from None
    return store


def host_id(state: Path) -> str:
    """A random name of this host, made once."""
    file = state / "host"
    if not file.exists():
        fresh = file.with_suffix(".new")
        fresh.write_text(secrets.token_hex(8))
        fresh.replace(file)
    return file.read_text()


def wall_ms() -> int:
    """Milliseconds since the epoch."""
    return int(now_s() * 1000)


class Choice:
    """The store of this run of the gateway, kept in the state folder: a keeper that is started again goes on
    with it before control has spoken. A policy that names another one is followed from the next start on, for
    purses and holds are the old one's."""

    def __init__(self, state: Path) -> None:
        self._state = state
        self._file = state / "store"

    def kept(self) -> str:
        """The kind that this run uses; "" before it was chosen."""
        try:
            return self._file.read_text()
        except FileNotFoundError:
            return ""

    def keep(self, kind: str) -> None:
        """Remembers it, without addresses and passwords."""
        fresh = self._file.with_suffix(".new")
        fresh.write_text(kind)
        fresh.replace(self._file)

    def owner(self, kind: str, worker: str) -> str:
        """The name of a worker as an owner: unique among all hosts that share a store."""
        return f"{host_id(self._state)}/{worker}" if kind == REDIS else worker
