"""An owner that tells a store what a test says, and the buckets that tests share."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from typing import Any, Protocol

from gateway.quota.contract import (
    MONEY,
    RATE,
    Balance,
    Exchange,
    Reply,
    Store,
    Terms,
    Want,
)

MINUTE = 60_000
DAY, TEAM = "day|key=app|2026-11-01", "team|team=search|2026-11-01"
ROLL, RPM, RUNNING = "roll|key=app|rolling", "rate.requests|key=app|", "rate.concurrent|key=app|"
MONEY_1000 = Terms(MONEY, 1000)
TEN_A_SECOND = Terms(RATE, 600, burst=10, window_ms=MINUTE)


class Clock(Protocol):
    """The store's time."""

    @property
    def now_ms(self) -> int: ...
    async def advance(self, ms: int) -> None: ...


class HandClock:
    """A clock that a test moves."""

    def __init__(self) -> None:
        self.now_ms = 1_764_000_000_000

    async def advance(self, ms: int) -> None:
        self.now_ms += ms


MakeStore = Callable[[], Awaitable[Store]]
"""A fresh, empty store; the file may have been another's before."""


class Teller:
    """An owner: numbers its exchanges and sums what it reports, as a worker does."""

    def __init__(self, store: Store, name: str, epoch: int = 1) -> None:
        self.store, self.name, self.epoch = store, name, epoch
        self.seq = self.want = 0
        self.used: dict[str, int] = {}
        self.returned: dict[str, int] = {}
        self.last: Exchange | None = None

    def exchange(
        self,
        needs: Mapping[str, int] | None = None,
        *,
        terms: Mapping[str, Terms] | None = None,
        used: Mapping[str, int] | None = None,
        returned: Mapping[str, int] | None = None,
        who: str = "app",
        deposit: Mapping[str, int] | None = None,
        **more: Any,
    ) -> Exchange:
        """The next exchange. `used` and `returned`: what comes to what was told before."""
        self.seq += 1
        for told, news in ((self.used, used), (self.returned, {**(returned or {}), **(deposit or {})})):
            for name, amount in (news or {}).items():
                told[name] = told.get(name, 0) + amount
        wants = []
        if needs is not None:
            self.want += 1
            wants.append(Want(self.want, who, needs, deposit or {}))
        self.last = Exchange(
            self.name,
            self.epoch,
            self.seq,
            terms=terms or {},
            used={name: self.used[name] for name in used or {}},
            returned={name: self.returned[name] for name in {**(returned or {}), **(deposit or {})}},
            wants=wants,
            **more,
        )
        return self.last

    async def tell(self, needs: Mapping[str, int] | None = None, **more: Any) -> Reply:
        return await self.store.exchange(self.exchange(needs, **more))

    async def again(self) -> Reply:
        """The last one, as after a lost reply."""
        assert self.last is not None
        return await self.store.exchange(self.last)

    async def finally_(self) -> Reply:
        """The last one's wants, as the keeper asks after a recall."""
        assert self.last is not None
        wants = self.last.wants
        return await self.store.exchange(Exchange(self.name, self.epoch, 0, wants=wants, final=True))


async def balance(store: Store, bucket: str) -> Balance:
    return next(each for each in await store.balances() if each.bucket == bucket)


async def free(store: Store, bucket: str) -> int:
    return (await balance(store, bucket)).free


def row(charges: Mapping[str, int], request: str = "r1", time_ms: int = 1_000, **more: Any) -> list[Any]:
    """A usage row that cost what it charges."""
    fields: dict[str, Any] = {
        "time_ms": time_ms,
        "request_id": request,
        "attempt": 1,
        "key": "app",
        "team": "search",
        "model": "fast",
        "target": "openai/gpt-4o",
        "status": 200,
        "outcome": "ok",
        "input": 10,
        "cached_input": 0,
        "cache_write": 0,
        "audio_input": 0,
        "output": 5,
        "reasoning": 0,
        "audio_output": 0,
        "nanousd": max(charges.values(), default=0),
        "estimated": 0,
        "charges": dict(charges),
    }
    return list({**fields, **more}.values())


async def opened(store: Store, name: str, bucket: str, terms: Terms, slice_: int) -> tuple[Teller, int]:
    """An owner with an open purse of a bucket, and what is in it."""
    owner = Teller(store, name)
    await owner.tell({bucket: 1}, terms={bucket: terms})
    reply = await owner.tell(returned={bucket: 1}, held={bucket: 0}, wishes={bucket: slice_})
    assert reply.slices.get(bucket), reply
    return owner, reply.slices[bucket]
