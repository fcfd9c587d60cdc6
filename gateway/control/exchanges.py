"""Exchanges of workers with the store: in order for each worker; wants that wait are decided in order too."""

from __future__ import annotations

import asyncio
import operator
from collections import deque
from collections.abc import Awaitable, Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import replace
from functools import partial

from gateway.clock import monotonic_s
from gateway.control.kept_store import KeptStore
from gateway.control.refusals import Refusals
from gateway.control.waiting import Parked, Waiting
from gateway.link.keeper_end import LedgerEnd
from gateway.quota.contract import Event, Exchange, Recall, Refusal, Reply, Want

WITHHELD_DRY_MS = 250
"""How long an owner may refuse by itself what the store may not be used for."""

Wanted = Callable[[], bool]


class Exchanges:
    """The workers that are connected, by the names that the store knows them by. `clock`: seconds that never
    step."""

    def __init__(self, store: KeptStore, clock: Callable[[], float] = monotonic_s) -> None:
        self._store = store
        self._clock = clock
        self._owners: dict[str, LedgerEnd] = {}
        self._serving: dict[str, asyncio.Future[None]] = {}
        """Owner → done when its last connection so far is handled."""
        self._latest: dict[str, int] = {}
        """Owner → the number of its latest connection."""
        self._waiting = Waiting()
        self._refusals = Refusals()
        self._due: deque[Parked] = deque()
        self._deciding: asyncio.Task[None] | None = None
        self._one_at_a_time: dict[str, asyncio.Lock] = {}
        """Owner → for a last decision, or a greeting."""
        self._timer: asyncio.TimerHandle | None = None
        self.recall_s = 0.005
        """How long owners may take to return what is idle: 25 ms where they are on other hosts."""
        self.withheld: Collection[str] = ()
        """Rules of which nothing is given: strict budgets, while the store may lose what it is told."""

    def is_here(self, owner: str, epoch: int) -> bool:
        """True if the worker is connected, in this life."""
        end = self._owners.get(owner)
        return end is not None and end.epoch == epoch

    async def serve(self, owner: str, end: LedgerEnd, before: Callable[[], Awaitable[None]]) -> None:
        """Handles a connection, after `before`, until it is closed and what it said is booked. What the store
        does not take any more then stands in the worker's journal, or is said again.

        A connection that the worker had given up before it made its latest one is not handled: its greeting
        tells of less than the worker has got since."""
        if end.number < self._latest.get(owner, 0):
            return
        self._latest[owner] = end.number
        self._owners[owner] = end
        earlier = self._serving.get(owner)
        done = self._serving[owner] = asyncio.get_running_loop().create_future()

        def is_open() -> bool:
            return end.is_open

        try:
            if earlier is not None:
                await earlier  # what it said on its last connection comes before what it says on this one
            if not await self._greet(owner, end, before):
                return
            while (exchange := await end.next()) is not None:
                if not await self._exchange(owner, end, exchange, is_open):
                    return
        finally:
            done.set_result(None)
            if self._owners.get(owner) is end:
                del self._owners[owner]
                self._drop_parked(owner)
            if self._serving.get(owner) is done:
                del self._serving[owner]
                self._one_at_a_time.pop(owner, None)

    async def _greet(self, owner: str, end: LedgerEnd, before: Callable[[], Awaitable[None]]) -> bool:
        """False if it went away meanwhile. What it had parked is void: the worker asks for it anew."""

        async def greet() -> bool:
            await before()
            await self._store.ask(lambda store: store.hello(owner, end.epoch, end.got))
            return True

        self._drop_parked(owner)
        async with self._lock(owner):
            return bool(await self._store.insist(greet, lambda: end.is_open))

    def _lock(self, owner: str) -> asyncio.Lock:
        lock = self._one_at_a_time.get(owner)
        if lock is None:
            lock = self._one_at_a_time[owner] = asyncio.Lock()
        return lock

    async def _exchange(self, owner: str, end: LedgerEnd, exchange: Exchange, is_open: Wanted) -> bool:
        exchange.owner = owner
        # What it returns is waited for by others, whose wants came before those that it brings.
        comes_late = bool(exchange.wants) and self._waiting.comes_late(
            owner, exchange.epoch, exchange.seq, exchange.acks, exchange.returned, exchange.wants
        )
        asked = replace(exchange, wants=()) if comes_late else exchange
        reply = await self._asked(asked, is_open)
        if reply is None:
            return False
        self._booked(owner, end, exchange, reply)
        return True

    async def _asked(self, exchange: Exchange, is_wanted: Wanted) -> Reply | None:
        """What the store answers; None when nobody wants it any more. What a want names and the store was
        never told of is not asked for."""
        refused: list[Refusal] = []
        if self.withheld:
            exchange, refused = _without(exchange, lambda bucket: bucket.partition("|")[0] in self.withheld)
        while True:
            try:
                reply = await self._store.insist(partial(self._told, exchange), is_wanted)
            except KeyError as unknown:
                less, more = _without(exchange, partial(operator.eq, unknown.args[0]))
                if not more and less.wishes == exchange.wishes:
                    raise
                exchange, refused = less, refused + more
                continue
            if reply is not None and refused:
                reply = replace(reply, refused=[*reply.refused, *refused])
            return reply

    async def _told(self, exchange: Exchange) -> Reply:
        return await self._store.ask(lambda store: store.exchange(exchange))

    def _booked(self, owner: str, end: LedgerEnd, exchange: Exchange, reply: Reply) -> None:
        now_s = self._clock()
        if exchange.returned:
            self._tell_wet(self._refusals.freed(exchange.returned, now_s, by=owner))
        reply = self._parked(owner, end, exchange, reply, now_s)
        self._note(owner, reply.refused, now_s)
        end.answer(reply)
        if self._waiting.told(owner, exchange.epoch, exchange.seq, exchange.acks) or reply.parked:
            self._look()

    # wants that wait

    def _parked(self, owner: str, end: LedgerEnd, exchange: Exchange, reply: Reply, now_s: float) -> Reply:
        """Parks wants that wait for recalls, and those that the store said nothing of: they came late, or
        were decided in a reply that was lost. The reply with all of them in `parked`."""
        named = {*reply.granted, *(refusal.id for refusal in reply.refused), *reply.parked}
        unnamed = {want.id: list(want.needs) for want in exchange.wants if want.id not in named}
        if not unnamed and not reply.parked:
            return reply
        deadline_s = now_s + self.recall_s
        self._recall(reply.recalls, deadline_s)
        parked = {**reply.parked, **unnamed}
        for want in exchange.wants:
            if want.id in parked:
                short = frozenset(parked[want.id])
                self._waiting.park(Parked(owner, end.number, want, short, deadline_s))
        # The store's own reply stays as it is: it may be given again.
        return replace(reply, parked=parked)

    def _recall(self, recalls: Mapping[str, Sequence[Recall]], deadline_s: float) -> None:
        asked: dict[Recall, list[str]] = {}
        for bucket, others in recalls.items():
            for recall in others:
                self._waiting.recall(bucket, recall, deadline_s)
                asked.setdefault(recall, []).append(bucket)
        for recall, buckets in asked.items():
            self._tell_recall(recall, buckets)

    def _tell_recall(self, recall: Recall, buckets: Sequence[str]) -> None:
        """To the worker, if it is here and the one that is meant: the next one counts anew."""
        end = self._owners.get(recall.owner)
        if end is not None and end.epoch == recall.epoch:
            end.recall(recall.seq, buckets)

    def _drop_parked(self, owner: str) -> None:
        self._waiting.drop(owner)
        self._due = deque(parked for parked in self._due if parked.owner != owner)

    def _look(self) -> None:
        """Some wants may be due: by an answer, or by time."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        now_s = self._clock()
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
                await self._decide_for(first.owner, first.connection, wants)
        finally:
            self._deciding = None

    async def _decide_for(self, owner: str, connection: int, wants: Sequence[Want]) -> None:
        """What is granted to a worker that has gone meanwhile is not lost: it is in the store's account of
        what it was given, and goes back when it greets again or is buried."""
        end = self._owners.get(owner)
        if end is None or end.number != connection:
            return

        def is_here() -> bool:
            return self._owners.get(owner) is end

        async with self._lock(owner):
            last = Exchange(owner, end.epoch, 0, wants=wants, final=True)
            reply = await self._asked(last, is_here) if is_here() else None
        if reply is None or not is_here():
            return
        named = {*reply.granted, *(refusal.id for refusal in reply.refused)}
        nothing = [_refused(want) for want in wants if want.id not in named]
        reply = replace(reply, refused=[*reply.refused, *nothing])
        self._note(owner, reply.refused, self._clock())
        end.decided(reply)

    # what workers are told unasked

    def happened(self, event: Event) -> None:
        """An owner of another host did something."""
        if event.kind == "recall":
            self._tell_recall(Recall(event.owner, event.epoch, event.seq), event.buckets)
        elif event.kind == "acked":
            if self._waiting.told(event.owner, event.epoch, event.seq, event.buckets):
                self._look()
        elif event.kind == "wet":
            self._tell_wet(self._refusals.freed(event.buckets, self._clock()))

    def edited(self, buckets: Sequence[str]) -> None:
        """Buckets were lowered or raised: nobody keeps anything of the old limit idle, nobody refuses by
        it."""
        for end in self._owners.values():
            end.recall(end.newest_seq, buckets)
            end.wet(buckets)
        self._refusals.freed(buckets, self._clock())

    def filled(self) -> None:
        """An operator gave buckets something."""
        self._tell_wet(self._refusals.everything_freed(self._clock()))

    def settled(self, owners: Iterable[str]) -> None:
        """Owners are dead, and what they had is spent or free again."""
        for owner in owners:
            if self._waiting.gone(owner):
                self._look()
        self._tell_wet(self._refusals.everything_freed(self._clock()))

    def _note(self, owner: str, refused: Sequence[Refusal], now_s: float) -> None:
        for refusal in refused:
            if refusal.dry_ms:
                self._refusals.note(owner, refusal.bucket, now_s + refusal.dry_ms / 1000, now_s)

    def _tell_wet(self, told: Mapping[str, Sequence[str]]) -> None:
        for owner, buckets in told.items():
            end = self._owners.get(owner)
            if end is not None:
                end.wet(buckets)


def _refused(want: Want, bucket: str = "", dry_ms: int = 0) -> Refusal:
    """A refusal that is none of the store's: the caller may try again."""
    return Refusal(want.id, bucket or next(iter(want.needs)), -1, dry_ms, is_held=True)


def _without(exchange: Exchange, is_withheld: Callable[[str], bool]) -> tuple[Exchange, list[Refusal]]:
    """An exchange that asks for nothing of some buckets, and the refusals of what it asked."""
    wants, refused = [], []
    for want in exchange.wants:
        bucket = next((bucket for bucket in want.needs if is_withheld(bucket)), None)
        if bucket is None:
            wants.append(want)
        else:
            refused.append(_refused(want, bucket, WITHHELD_DRY_MS))
    wishes = {bucket: wish for bucket, wish in exchange.wishes.items() if not is_withheld(bucket)}
    return replace(exchange, wants=wants, wishes=wishes), refused
