"""Exchanges of workers with the store: in order for each worker; wants that wait are decided in order too."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence

from gateway.clock import monotonic_s
from gateway.control.kept_store import KeptStore
from gateway.control.refusals import Refusals
from gateway.control.waiting import Parked, Waiting
from gateway.link.keeper_end import LedgerEnd
from gateway.quota.contract import Event, Exchange, Refusal, Reply, Want

_NEVER = 1 << 62
"""No exchange has this number: an owner of another host acknowledges by an event."""


class Exchanges:
    """The workers that are connected, by the names that the store knows them by."""

    def __init__(self, store: KeptStore) -> None:
        self._store = store
        self._owners: dict[str, LedgerEnd] = {}
        self._waiting = Waiting()
        self._refusals = Refusals()
        self._due: deque[Parked] = deque()
        self._deciding: asyncio.Task[None] | None = None
        self._timer: asyncio.TimerHandle | None = None
        self.recall_s = 0.005
        """How long owners may take to return what is idle: 25 ms where they are on other hosts."""

    def is_here(self, owner: str, epoch: int) -> bool:
        """True if the worker is connected, in this life."""
        end = self._owners.get(owner)
        return end is not None and end.epoch == epoch

    async def serve(self, owner: str, end: LedgerEnd, before: Callable[[], Awaitable[None]]) -> None:
        """Handles a connection, after `before`, until it is closed and what it said is booked. What the store
        does not take any more then stands in the worker's journal, or is said again."""
        self._owners[owner] = end

        def is_open() -> bool:
            return end.is_open

        async def greet(store: object) -> bool:
            await before()
            await self._store.ask(lambda store: store.hello(owner, end.epoch, end.got))
            return True

        try:
            if not await self._store.insist(greet, is_open):
                return
            while (exchange := await end.next()) is not None:
                reply = await self._exchanged(owner, exchange, is_open)
                if reply is None:
                    return
                self._booked(owner, end, exchange, reply)
        finally:
            if self._owners.get(owner) is end:
                del self._owners[owner]

    async def _exchanged(self, owner: str, exchange: Exchange, is_wanted: Callable[[], bool]) -> Reply | None:
        exchange.owner = owner
        return await self._store.insist(lambda store: store.exchange(exchange), is_wanted)

    def _booked(self, owner: str, end: LedgerEnd, exchange: Exchange, reply: Reply) -> None:
        now_s = monotonic_s()
        if exchange.returned:
            self._tell_wet(self._refusals.freed(exchange.returned, now_s, by=owner))
        if reply.parked:
            self._park(owner, exchange, reply, now_s)
        self._note(owner, reply.refused, now_s)
        end.answer(reply)
        if self._waiting.told(owner, exchange.seq, (*exchange.acks, *exchange.returned)) or reply.parked:
            self._look()

    # wants that wait

    def _park(self, owner: str, exchange: Exchange, reply: Reply, now_s: float) -> None:
        deadline_s = now_s + self.recall_s
        asked: dict[LedgerEnd, list[str]] = {}
        for bucket, others in reply.recalls.items():
            for other in others:
                end = self._owners.get(other)
                self._waiting.recall(other, bucket, _NEVER if end is None else end.sure_seq(), deadline_s)
                if end is not None:
                    asked.setdefault(end, []).append(bucket)
        for end, buckets in asked.items():
            end.recall(buckets)
        for want in exchange.wants:
            if want.id in reply.parked:
                short = frozenset(reply.parked[want.id])
                self._waiting.park(Parked(owner, exchange.epoch, want, short, deadline_s))

    def _look(self) -> None:
        """Some wants may be due: by an answer, or by time."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        now_s = monotonic_s()
        self._due += self._waiting.due(now_s)
        loop = asyncio.get_running_loop()
        if self._due and self._deciding is None:
            self._deciding = loop.create_task(self._decide())
        deadline_s = self._waiting.deadline_s()
        if deadline_s is not None:
            self._timer = loop.call_later(max(0.0, deadline_s - now_s), self._look)

    async def _decide(self) -> None:
        """All that is due, one after the other; wants of one worker that follow each other at once."""
        try:
            while self._due:
                first = self._due.popleft()
                wants = [first.want]
                while self._due and self._due[0][:2] == first[:2]:
                    wants.append(self._due.popleft().want)
                await self._decide_for(first.owner, first.epoch, wants)
        finally:
            self._deciding = None

    async def _decide_for(self, owner: str, epoch: int, wants: Sequence[Want]) -> None:
        """What is granted to a worker that has gone meanwhile is not lost: it is in the store's account of
        what it was given, and goes back when it greets again or is buried."""
        if not self.is_here(owner, epoch):
            return
        last = Exchange(owner, epoch, 0, wants=wants, final=True)
        reply = await self._exchanged(owner, last, lambda: self.is_here(owner, epoch))
        if reply is not None and self.is_here(owner, epoch):
            self._note(owner, reply.refused, monotonic_s())
            self._owners[owner].decided(reply)

    # what workers are told unasked

    def happened(self, event: Event) -> None:
        """An owner of another host did something."""
        if event.kind == "recall" and event.owner in self._owners:
            self._owners[event.owner].recall(event.buckets)
        elif event.kind == "acked" and self._waiting.told(event.owner, 0, event.buckets):
            self._look()
        elif event.kind == "wet":
            self._tell_wet(self._refusals.freed(event.buckets, monotonic_s()))

    def edited(self, buckets: Sequence[str]) -> None:
        """Buckets were lowered or raised: nobody keeps anything of the old limit idle, nobody refuses by
        it."""
        for end in self._owners.values():
            end.recall(buckets)
            end.wet(buckets)
        self._refusals.freed(buckets, monotonic_s())

    def filled(self) -> None:
        """An operator gave buckets something."""
        self._tell_wet(self._refusals.everything_freed(monotonic_s()))

    def settled(self, owners: Iterable[str]) -> None:
        """Owners are dead, and what they had is spent or free again."""
        for owner in owners:
            if self._waiting.gone(owner):
                self._look()
        self._tell_wet(self._refusals.everything_freed(monotonic_s()))

    def _note(self, owner: str, refused: Sequence[Refusal], now_s: float) -> None:
        for refusal in refused:
            if refusal.dry_ms:
                self._refusals.note(owner, refusal.bucket, now_s + refusal.dry_ms / 1000, now_s)

    def _tell_wet(self, told: Mapping[str, Sequence[str]]) -> None:
        for owner, buckets in told.items():
            end = self._owners.get(owner)
            if end is not None:
                end.wet(buckets)
