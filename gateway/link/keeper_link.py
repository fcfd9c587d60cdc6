"""A worker's end of the ledger link: one exchange under way, said again until it is answered.

All by callbacks, in the order in which the keeper spoke; an exchange costs no task. The worker never waits
for the keeper: `send` takes an exchange whether or not the keeper is there.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import suppress
from typing import Any, Protocol, cast

import orjson

from gateway.clock import monotonic_s
from gateway.link.frames import FrameReader, frame
from gateway.link.ledger import ANSWER, EXCHANGE, OWNER, RECALL, STORE, WET, encode, reply_of
from gateway.quota.contract import Exchange, Reply
from gateway.telemetry.diagnostics import report

RECONNECT_S = 0.02
"""Between attempts to connect: the supervisor holds the socket, so they succeed while a keeper starts."""
CLOSE_S = 2.0


class Handler(Protocol):
    """What is told to a worker. It may call `send` at once, from within any of these."""

    def on_connected(self) -> None:
        """The keeper takes messages; if an exchange is under way, it has been sent again. Also the first
        time."""

    def on_lost(self, dropped: Sequence[int]) -> None:
        """The keeper has gone. The wants in `dropped` were parked: nothing is given for them any more, and
        they may be asked anew, by other numbers. The exchange under way stays under way."""

    def on_reply(self, reply: Reply) -> None:
        """The exchange under way is answered, and the next may be sent; or (`seq` 0) parked wants are decided
        and none other: each once. All of an answered exchange's wants are granted, refused or parked."""

    def on_recall(self, seq: int, buckets: Sequence[str]) -> None:
        """These are shut now: what is idle of them by answers up to `seq` is to be returned, and named in
        `acks` of the next exchange, also if there is nothing. A bucket of which a later answer had a slice is
        not meant. An answer up to `seq` that comes only now opens none of them."""

    def on_wet(self, buckets: Sequence[str]) -> None:
        """Something may have come back to these, so nobody should refuse by memory."""

    def on_store(self, is_up: bool, why: str) -> None:
        """Whether the store answers; `why` it may not be used for strict budgets, "" if it may. False before
        the keeper has said so; not called when the keeper goes (`on_lost`)."""


class KeeperLink:
    """Connects to the keeper, again and again for ever.

    `owner` is the worker's name (`worker-0`), `epoch` the milliseconds of its start, `journal` the path of
    its journal ("" if it keeps none). It counts what was given to the worker (`got`), which the keeper
    compares with the store when they meet again: what was lost on the way goes back. `clock`: seconds that
    never step.
    """

    def __init__(
        self,
        path: str,
        owner: str,
        epoch: int,
        journal: str,
        handler: Handler,
        clock: Callable[[], float] = monotonic_s,
    ) -> None:
        self._clock = clock
        self._path = path
        self._owner = owner
        self._epoch = epoch
        self._journal = journal
        self._handler = handler
        self._end: _End | None = None
        self._dial: asyncio.Task[None] | None = None
        self._seq = 0
        self._under_way: bytes | None = None
        """The frame of the exchange that is not answered yet."""
        self._sent_s = 0.0
        self._idle: asyncio.Future[None] | None = None
        self._asked: dict[int, Mapping[str, int]] = {}
        """Want → its needs, of the exchange under way."""
        self._parked: dict[int, Mapping[str, int]] = {}
        self._told_of_store = 0
        """The number of the newest word about the store, on this connection."""
        self._early: list[Reply] = []
        """Decisions that overtook the answer which says that their wants were parked."""
        self.got: dict[str, int] = {}
        """Bucket → given in this epoch, in all; of windows that may still be used."""
        self.renewed_s = -float("inf")
        """When the last exchange that was answered had been sent (`clock.monotonic_s`): the lease runs from
        then on at the earliest."""

    @property
    def is_connected(self) -> bool:
        return self._end is not None

    @property
    def is_free(self) -> bool:
        """True if `send` may be called: no exchange is under way."""
        return self._under_way is None

    async def start(self) -> None:
        """Begins to connect; returns at once."""
        self._dial = asyncio.get_running_loop().create_task(self._keep_connected())

    def send(self, exchange: Exchange) -> None:
        """Says it, now or as soon as the keeper is there. Its `owner`, `epoch` and `seq` are set here. Raises
        RuntimeError if another one is under way."""
        if self._under_way is not None:
            raise RuntimeError("an exchange is under way")
        self._seq += 1
        exchange.owner, exchange.epoch, exchange.seq = self._owner, self._epoch, self._seq
        self._asked = {want.id: want.needs for want in exchange.wants}
        self._under_way = frame(EXCHANGE, encode(exchange))
        self._write()

    def forget(self, buckets: Iterable[str]) -> None:
        """Nothing is given of these any more, and what was has been used or returned: to the store, which has
        been told, nothing is missing if we do not tell it again."""
        for bucket in buckets:
            self.got.pop(bucket, None)

    async def close(self) -> None:
        """Closes when the exchange under way is answered (2 s at most, and only if the keeper is there)."""
        if self._under_way is not None and self._end is not None:
            self._idle = asyncio.get_running_loop().create_future()
            await asyncio.wait([self._idle], timeout=CLOSE_S)
        if self._dial is not None:
            self._dial.cancel()
        if self._end is not None:
            self._end.transport.abort()
            with suppress(TimeoutError):
                async with asyncio.timeout(CLOSE_S):
                    await self._end.lost.wait()

    async def _keep_connected(self) -> None:
        loop = asyncio.get_running_loop()
        while True:
            try:
                _, end = await loop.create_unix_connection(lambda: _End(self), self._path)
            except OSError:
                await asyncio.sleep(RECONNECT_S)
                continue
            await end.lost.wait()

    def _write(self) -> None:
        if self._end is not None and self._under_way is not None:
            self._sent_s = self._clock()
            self._end.transport.write(self._under_way)

    # what the connection tells

    def connected(self, end: _End) -> None:
        """A keeper is there: it is told who speaks, and what it may have missed."""
        said = {
            "owner": self._owner,
            "epoch": self._epoch,
            "journal": self._journal,
            "got": self.got,
            "seq": self._seq,
        }
        self._end, self._told_of_store = end, 0
        end.transport.write(frame(OWNER, orjson.dumps(said)))
        self._write()
        self._handler.on_connected()

    def lost(self) -> None:
        """The keeper has gone, and with it what waited there."""
        self._end = None
        dropped, self._parked, self._early = list(self._parked), {}, []
        if self._idle is not None and not self._idle.done():
            self._idle.set_result(None)
        self._handler.on_lost(dropped)

    def take(self, kind: int, payload: bytes) -> None:
        """One message of the keeper's."""
        if kind == ANSWER:
            self._answered(reply_of(payload))
        elif kind == RECALL:
            self._handler.on_recall(*orjson.loads(payload))
        elif kind == WET:
            self._handler.on_wet(orjson.loads(payload))
        elif kind == STORE:
            said: dict[str, Any] = orjson.loads(payload)
            if said["n"] > self._told_of_store:
                self._told_of_store = said["n"]
                self._handler.on_store(said["up"], said["why"])

    def _answered(self, reply: Reply) -> None:
        if reply.seq == 0:
            decided = [*reply.granted, *(refusal.id for refusal in reply.refused)]
            if not all(want in self._parked for want in decided):
                if any(want in self._asked for want in decided):
                    self._early.append(reply)
                return  # or it was decided before, and counted then
            self._count(reply, self._parked)
        elif reply.seq == self._seq and self._under_way is not None:
            self.renewed_s = self._sent_s
            self._under_way = None
            self._count(reply, self._asked)
            self._parked.update({want: self._asked[want] for want in reply.parked if want in self._asked})
            if self._idle is not None and not self._idle.done():
                self._idle.set_result(None)
        else:
            return
        early, self._early = (self._early, []) if reply.seq else ([], self._early)
        self._handler.on_reply(reply)
        for decided_before in early:
            self._answered(decided_before)

    def _count(self, reply: Reply, asked: dict[int, Mapping[str, int]]) -> None:
        got = self.got
        given = [asked.pop(want) for want in reply.granted]
        for refusal in reply.refused:
            del asked[refusal.id]
        for amounts in (*given, reply.slices, reply.back):
            for bucket, amount in amounts.items():
                got[bucket] = got.get(bucket, 0) + amount


class _End(asyncio.Protocol):
    """One connection to the keeper."""

    def __init__(self, link: KeeperLink) -> None:
        self._link = link
        self._reader = FrameReader()
        self.transport: asyncio.Transport = cast(asyncio.Transport, None)
        self.lost = asyncio.Event()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = cast(asyncio.Transport, transport)
        self._link.connected(self)

    def connection_lost(self, exc: Exception | None) -> None:
        self.lost.set()
        self._link.lost()

    def data_received(self, data: bytes) -> None:
        try:
            for kind, payload in self._reader.feed(data):
                self._link.take(kind, payload)
        except Exception as error:
            # A bug of ours: where the two now differ, the next greeting settles it.
            report(error)
            self.transport.abort()
