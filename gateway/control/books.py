"""What operators ask the keeper: balances, sums of use, proofs, top-ups. In slices, so that grants go on."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import Any

import orjson

from gateway.control.kept_store import KeptStore
from gateway.quota.contract import MONEY, ROLLING, Balance, StoreDown
from gateway.telemetry.diagnostics import report

AT_ONCE = 4
"""Queries under way; more wait."""
ROWS_PER_SLICE = 200
"""Rows that are encoded before others have their turn: 0.3 ms."""


class Books:
    """Answers the queries of `link.ledger.QUERY`, all but "state"."""

    def __init__(self, store: KeptStore) -> None:
        self._store = store
        self._turns = asyncio.Semaphore(AT_ONCE)

    async def answer(self, question: dict[str, Any]) -> bytes:
        """The payload of a RESULT."""
        number = b'{"n":%d,' % question["n"]
        wrong = b""
        async with self._turns:
            try:
                return number + b'"result":' + await self._result(question) + b"}"
            except StoreDown:
                error = "The store does not answer."
            except LookupError as unknown:
                wrong = b'"wrong":true,'
                error = f"There is no {unknown.args[0] if unknown.args else 'such thing'}."
            except Exception as bug:
                report(bug)
                error = "The keeper failed. Its log says why."
        return number + wrong + b'"error":' + orjson.dumps(error) + b"}"

    async def _result(self, question: dict[str, Any]) -> bytes:
        what = question["what"]
        if what == "balances":
            rule = question.get("rule", "")
            found = await self._store.ask(lambda store: store.balances(rule))
            if question.get("money"):
                found = [balance for balance in found if balance.terms.kind in (MONEY, ROLLING)]
            return await _encoded(found)
        if what == "spend":
            by, since_ms, until_ms = question["by"], question["since_ms"], question["until_ms"]
            return await _encoded(await self._store.ask(lambda store: store.spend(by, since_ms, until_ms)))
        if what == "verify":
            return await _encoded(await self._store.ask(lambda store: store.verify()))
        if what == "adjust":
            return orjson.dumps(_row(await self._adjust(question["bucket"], question["amount"], question)))
        if what == "reset":
            return await self._reset(question)
        raise LookupError(f"query {what!r}")

    async def _adjust(self, bucket: str, amount: int, question: dict[str, Any]) -> Balance:
        audit = {name: question.get(name, "") for name in ("what", "who", "note")}
        try:
            return await self._store.ask(lambda store: store.adjust(bucket, amount, audit))
        except KeyError:
            raise LookupError(f"bucket {bucket!r}") from None

    async def _reset(self, question: dict[str, Any]) -> bytes:
        """Fills the live buckets of a rule, or of one subject of it. Holds and purses stay what they are: the
        total includes them."""
        rule, subject = question["rule"], question.get("subject", "")
        found = [
            balance
            for balance in await self._store.ask(lambda store: store.balances(rule))
            if not subject or balance.bucket.split("|")[1] == subject
        ]
        if not found:
            raise LookupError(f"bucket of {rule!r}" + (f" and {subject!r}" if subject else ""))
        full = []
        for balance in found:
            lacks = balance.terms.most - (balance.free + balance.held + balance.idle)
            full.append(await self._adjust(balance.bucket, lacks, question) if lacks else balance)
            await asyncio.sleep(0)
        return await _encoded(full)


async def _encoded(rows: Sequence[Any]) -> bytes:
    """A list as JSON, with a turn for others after every slice."""
    parts = []
    for at in range(0, len(rows), ROWS_PER_SLICE):
        parts.append(orjson.dumps([_row(row) for row in rows[at : at + ROWS_PER_SLICE]])[1:-1])
        await asyncio.sleep(0)
    return b"[" + b",".join(parts) + b"]"


def _row(row: Any) -> Any:
    if isinstance(row, Balance):
        return {**row._asdict(), "terms": row.terms._asdict()}
    return row
