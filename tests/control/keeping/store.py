"""A store in memory, small enough to be seen through: what the keeper asks of it is what it does."""

from __future__ import annotations

import asyncio
import json
from collections import defaultdict
from collections.abc import AsyncIterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from gateway.quota.contract import (
    Balance,
    Event,
    Exchange,
    Recall,
    Refusal,
    Reply,
    StoreDown,
    StoreLate,
    Terms,
    Want,
)

LIMIT = Terms("slots", 10)


class MemoryStore:
    """Buckets of `LIMIT` until terms say otherwise. A file `down` in its folder takes it down; `unfit` says
    why it does not last; it is `late` so many times; everything it was asked stands in `calls.jsonl`."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self.late = 0
        self.terms: dict[str, Terms] = {}
        self.given: defaultdict[tuple[str, str], int] = defaultdict(int)
        self.returned: defaultdict[tuple[str, str], int] = defaultdict(int)
        self.used: defaultdict[tuple[str, str], int] = defaultdict(int)
        self.shut: set[tuple[str, str]] = set()
        self.added: defaultdict[str, int] = defaultdict(int)
        self.heard: dict[str, tuple[int, int]] = {}
        """Owner → epoch and number of its last exchange."""
        self.replies: dict[tuple[str, int, int], Reply] = {}
        self.expired: list[str] = []
        self.happened: asyncio.Queue[Event] = asyncio.Queue()

    def free(self, bucket: str) -> int:
        """What nobody has."""
        limit = self.terms.get(bucket.partition("|")[0], LIMIT).limit
        return (
            limit
            + self.added[bucket]
            - sum(
                given - self.returned[owner, named]
                for (owner, named), given in list(self.given.items())
                if named == bucket
            )
        )

    async def hello(self, owner: str, epoch: int, got: Mapping[str, int]) -> None:
        self._note("hello", owner=owner, epoch=epoch)

    async def exchange(self, exchange: Exchange) -> Reply:
        self._note("exchange", owner=exchange.owner, seq=exchange.seq, final=exchange.final)
        owner, known = exchange.owner, (exchange.owner, exchange.epoch, exchange.seq)
        if exchange.seq and known in self.replies:
            return self.replies[known]
        for bucket, amount in exchange.returned.items():
            self.returned[owner, bucket] = amount
        if exchange.seq:
            self.heard[owner] = exchange.epoch, exchange.seq
        reply = Reply(exchange.seq)
        for want in exchange.wants:
            self._decide(owner, want, exchange.final, reply)
        for bucket, wish in exchange.wishes.items():
            reply.slices[bucket] = min(wish, self.free(bucket))
            self.given[owner, bucket] += reply.slices[bucket]
            self.shut.discard((owner, bucket))
        self.replies[known] = reply
        return reply

    def _decide(self, owner: str, want: Want, final: bool, reply: Reply) -> None:
        short = [bucket for bucket, need in want.needs.items() if self.free(bucket) < need]
        if not short:
            for bucket, need in want.needs.items():
                self.given[owner, bucket] += need
            reply.granted.append(want.id)
            return
        idle = {
            bucket: sorted(
                other
                for other, named in self.given
                if named == bucket
                and other != owner
                and (other, bucket) not in self.shut
                and self.given[other, bucket] > self.returned[other, bucket]
            )
            for bucket in short
        }
        if final or not any(idle.values()):
            reply.refused.append(Refusal(want.id, short[0], -1, 5000, False))
            return
        reply.parked[want.id] = short
        for bucket, others in idle.items():
            reply.recalls[bucket] = [Recall(other, *self.heard.get(other, (1, 0))) for other in others]
            self.shut |= {(other, bucket) for other in others}

    async def bury(
        self,
        owner: str,
        epoch: int,
        used: Mapping[str, int],
        holds: Mapping[str, int],
        rows: Sequence[Any] = (),
    ) -> dict[str, int]:
        self._note("bury", owner=owner, epoch=epoch, used=dict(used), holds=dict(holds), rows=list(rows))
        for named in [named for named in self.given if named[0] == owner]:
            self.returned[named] = self.given[named]
        return dict(holds)

    async def expire(self) -> list[str]:
        self._check()
        expired, self.expired = self.expired, []
        return expired

    async def set_terms(self, terms: Mapping[str, Terms]) -> list[str]:
        self._note("set_terms", terms=list(terms))
        changed = [rule for rule, new in terms.items() if self.terms.get(rule, LIMIT).limit != new.limit]
        self.terms.update(terms)
        return sorted({bucket for _, bucket in self.given if bucket.partition("|")[0] in changed})

    async def balances(self, rule: str = "") -> list[Balance]:
        self._check()
        buckets = sorted({bucket for _, bucket in self.given if not rule or bucket.startswith(f"{rule}|")})
        return [
            Balance(
                bucket, LIMIT, 0, 0, LIMIT.limit + self.added[bucket] - self.free(bucket), self.free(bucket)
            )
            for bucket in buckets
        ]

    async def spend(self, by: Sequence[str], since_ms: int, until_ms: int) -> list[dict[str, Any]]:
        self._check()
        return [{**dict.fromkeys(by, "x"), "calls": number} for number in range(since_ms, until_ms)]

    async def verify(self) -> list[str]:
        self._check()
        return []

    async def adjust(self, bucket: str, amount: int, audit: Mapping[str, Any]) -> Balance:
        self._note("adjust", bucket=bucket, amount=amount, audit=dict(audit))
        if all(bucket != named for _, named in self.given):
            raise KeyError(bucket)
        self.added[bucket] += amount
        return next(found for found in await self.balances() if found.bucket == bucket)

    async def unfit(self) -> str:
        file = self._folder / "unfit"
        return file.read_text() if file.exists() else ""

    async def events(self) -> AsyncIterator[Event]:
        while True:
            yield await self.happened.get()

    async def close(self) -> None:
        with (self._folder / "calls.jsonl").open("a") as file:
            file.write('{"call": "close"}\n')

    def _note(self, call: str, **details: Any) -> None:
        self._check()
        with (self._folder / "calls.jsonl").open("a") as file:
            file.write(json.dumps({"call": call, **details}) + "\n")

    def _check(self) -> None:
        if (self._folder / "down").exists():
            raise StoreDown
        if self.late:
            self.late -= 1
            raise StoreLate
