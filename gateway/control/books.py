"""What operators ask the keeper: balances, sums of use, proofs, top-ups. In slices, so that grants go on."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import Any, Protocol

import orjson

from gateway.control.kept_store import KeptStore
from gateway.quota.contract import MONEY, ROLLING, Balance, StoreDown
from gateway.telemetry.diagnostics import report

AT_ONCE = 4
"""Queries under way; more wait."""
ROWS_PER_SLICE = 200
"""Rows that are encoded before others have their turn: 0.3 ms."""
LOOKED_AT_ONCE = 5_000
"""Balances that are looked at before others have their turn: 0.4 ms."""


class Asker(Protocol):
    """Who asks: control's connection."""

    def part(self, payload: bytes) -> None: ...
    def result(self, payload: bytes) -> None: ...
    async def has_read(self) -> None:
        """Until most of what was said to it is read."""


class Books:
    """Answers the queries of `link.ledger.QUERY`, all but "state"."""

    def __init__(self, store: KeptStore) -> None:
        self._store = store
        self._turns = asyncio.Semaphore(AT_ONCE)

    async def answer(self, question: dict[str, Any], asker: Asker) -> None:
        """Says the PARTs and the RESULT."""
        number = b'{"n":%d,' % question["n"]
        async with self._turns:
            try:
                result = await self._result(question)
                if isinstance(result, list):
                    result = await self._last_rows(number, result, asker)
                said = b'"result":' + orjson.dumps(result)
            except StoreDown:
                said = _error("The store does not answer.")
            except LookupError as unknown:
                said = _wrong(f"There is no {unknown.args[0] if unknown.args else 'such thing'}.")
            except ValueError as wrong:
                said = _wrong(str(wrong))
            except Exception as bug:
                report(bug)
                said = _error("The keeper failed. Its log says why.")
        asker.result(number + said + b"}")

    async def _last_rows(self, number: bytes, rows: list[Any], asker: Asker) -> list[Any]:
        """Says all but the last rows, with a turn for others after every slice."""
        at = 0
        while len(rows) - at > ROWS_PER_SLICE:
            part = [_row(row) for row in rows[at : at + ROWS_PER_SLICE]]
            asker.part(number + b'"rows":' + orjson.dumps(part) + b"}")
            at += ROWS_PER_SLICE
            await asyncio.sleep(0)
            await asker.has_read()
        return [_row(row) for row in rows[at:]]

    async def _result(self, question: dict[str, Any]) -> Any:
        what = question["what"]
        if what == "balances":
            rule = question.get("rule", "")
            found = await self._store.ask(lambda store: store.balances(rule), is_reading=True)
            return await _money(found) if question.get("money") else found
        if what == "spend":
            by, since_ms, until_ms = question["by"], question["since_ms"], question["until_ms"]
            return await self._store.ask(lambda store: store.spend(by, since_ms, until_ms), is_reading=True)
        if what == "verify":
            return await self._store.ask(lambda store: store.verify(), is_reading=True)
        if what == "adjust":
            return _row(await self._adjust(question["bucket"], question["amount"], question))
        if what == "reset":
            return await self._reset(question)
        raise LookupError(f"query {what!r}")

    async def _adjust(self, bucket: str, amount: int, question: dict[str, Any]) -> Balance:
        audit = {name: question.get(name, "") for name in ("what", "who", "note")}
        try:
            return await self._store.ask(lambda store: store.adjust(bucket, amount, audit))
        except KeyError:
            raise LookupError(f"bucket {bucket!r}") from None

    async def _reset(self, question: dict[str, Any]) -> list[Balance]:
        """Fills the live buckets of a rule, or of one subject of it. Holds and purses stay what they are: the
        total includes them."""
        rule, subject = question["rule"], question.get("subject", "")
        found = [
            balance
            for balance in await self._store.ask(lambda store: store.balances(rule), is_reading=True)
            if not subject or balance.bucket.split("|")[1] == subject
        ]
        if not found:
            raise LookupError(f"bucket of {rule!r}" + (f" and {subject!r}" if subject else ""))
        full = []
        for balance in found:
            lacks = balance.terms.most - (balance.free + balance.held + balance.idle)
            full.append(await self._adjust(balance.bucket, lacks, question) if lacks else balance)
            await asyncio.sleep(0)
        return full


async def _money(balances: Sequence[Balance]) -> list[Balance]:
    """Those of budgets."""
    found: list[Balance] = []
    for at in range(0, len(balances), LOOKED_AT_ONCE):
        some = balances[at : at + LOOKED_AT_ONCE]
        found += [balance for balance in some if balance.terms.kind in (MONEY, ROLLING)]
        await asyncio.sleep(0)
    return found


def _error(sentence: str) -> bytes:
    return b'"error":' + orjson.dumps(sentence)


def _wrong(sentence: str) -> bytes:
    return b'"wrong":true,' + _error(sentence)


def _row(row: Any) -> Any:
    if isinstance(row, Balance):
        return {**row._asdict(), "terms": row.terms._asdict()}
    return row
