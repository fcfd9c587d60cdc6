"""Which store a gateway uses, and how it is opened."""

from __future__ import annotations

import secrets
from collections.abc import Mapping
from importlib import import_module
from pathlib import Path
from typing import Any, cast

from gateway.clock import now_s
from gateway.control.burials import Journaled, Journals
from gateway.quota.contract import Store, StoreDown

EMBEDDED, REDIS = "embedded", "redis"
RECALL_S = {EMBEDDED: 0.005, REDIS: 0.025}
"""How long owners may take to return what is idle: on one host, or on several."""
_CLASSES = {
    EMBEDDED: ("gateway.stores.embedded", "EmbeddedStore"),
    REDIS: ("gateway.stores.redis", "RedisStore"),
}
"""Loaded when chosen: each brings a library that the other does not need."""


def kind_of(table: Mapping[str, Any]) -> str:
    """The kind of store that a policy's `store` table names."""
    return REDIS if table.get("redis") else EMBEDDED


async def open_store(table: Mapping[str, Any], state: Path) -> Store:
    """Opens it. Raises `StoreDown` if it cannot be opened now."""
    kind = kind_of(table)
    module, name = _CLASSES[kind]
    try:
        chosen = getattr(import_module(module), name)
    except ModuleNotFoundError as error:
        if error.name != module:
            raise
        raise StoreDown(f"there is no {kind} store in this version") from None
    store: Store = chosen(dict(table)) if kind == REDIS else chosen(state / "ledger.db", now_ms=wall_ms)
    return store


def abandoned_journals() -> Journals:
    """The reader of journals (`quota.journal`)."""
    try:
        return cast(Journals, import_module("gateway.quota.journal"))
    except ModuleNotFoundError:
        return NoJournals()


class NoJournals:
    """Where workers keep none."""

    def read_journal(self, path: Path, /) -> Journaled:
        raise ValueError("not a journal")

    def is_abandoned(self, path: Path, /) -> bool:
        return False


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
        return f"{self._host()}/{worker}" if kind == REDIS else worker

    def _host(self) -> str:
        """A random name of this host, made once."""
        file = self._state / "host"
        if not file.exists():
            fresh = file.with_suffix(".new")
            fresh.write_text(secrets.token_hex(8))
            fresh.replace(file)
        return file.read_text()
