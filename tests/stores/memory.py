"""A store over the book alone: what the embedded one does, without a file."""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping, Sequence
from typing import Any

from gateway.quota.book import Book
from gateway.quota.changes import EXPLAINED, Changes
from gateway.quota.contract import Balance, Event, Exchange, Reply, Terms
from tests.stores.teller import Clock


class MemoryStore:
    """`contract.Store`; rows are only summed, and `spend` is not there."""

    def __init__(self, clock: Clock) -> None:
        self.book = Book()
        self._clock = clock
        self._rows: set[tuple[Any, ...]] = set()
        self._differences: dict[str, int] = {}

    async def hello(self, owner: str, epoch: int, got: Mapping[str, int]) -> None:
        self.book.hello(owner, epoch, got, self._clock.now_ms)

    async def exchange(self, exchange: Exchange) -> Reply:
        return self.book.exchange(exchange, self._clock.now_ms)

    async def bury(
        self,
        owner: str,
        epoch: int,
        used: Mapping[str, int],
        holds: Mapping[str, int],
        rows: Sequence[Any] = (),
    ) -> dict[str, int]:
        self._sum()
        rows = [row for row in rows if tuple(row[:3]) not in self._rows]
        return self.book.bury(owner, epoch, used, holds, self._clock.now_ms, rows)

    async def expire(self) -> list[str]:
        return self.book.expire(self._clock.now_ms)

    async def set_terms(self, terms: Mapping[str, Terms]) -> list[str]:
        return self.book.set_terms(terms, self._clock.now_ms)

    async def balances(self, rule: str = "") -> list[Balance]:
        return self.book.balances(self._clock.now_ms, rule)

    async def adjust(self, bucket: str, amount: int, audit: Mapping[str, Any]) -> Balance:
        return self.book.adjust(bucket, amount, audit, self._clock.now_ms)

    async def spend(self, by: Sequence[str], since_ms: int, until_ms: int) -> list[dict[str, Any]]:
        raise NotImplementedError

    async def verify(self) -> list[str]:
        self._sum()
        return [f"{account}: {amount}" for account, amount in self._differences.items() if amount]

    async def unfit(self) -> str:
        return ""

    async def events(self) -> AsyncIterator[Event]:
        nobody: list[Event] = []
        for event in nobody:
            yield event

    async def close(self) -> None: ...

    def _sum(self) -> None:
        changes, self.book.changes = self.book.changes, Changes()
        told = [*changes.posted.items()]
        for row in changes.rows:
            self._rows.add(tuple(row[:3]))
            told += [(account, -amount) for account, amount in row[-1].items()]
        told += [(entry.account, -entry.amount) for entry in changes.entries if entry.kind in EXPLAINED]
        for account, amount in told:
            self._differences[account] = self._differences.get(account, 0) + amount
