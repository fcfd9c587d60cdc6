"""The keeper's end of the ledger link: one connection for each worker, and control's.

What a worker says is queued and handled one after the other; what is said to it is written at once. Nothing
waits here: who does not read is not told of recalls any more, and they have a deadline.
"""

from __future__ import annotations

import asyncio
import socket
from collections import deque
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from itertools import count
from typing import Any, Protocol, cast

import orjson

from gateway.link.frames import FrameReader, frame
from gateway.link.ledger import (
    ANSWER,
    EXCHANGE,
    OWNER,
    PART,
    QUERY,
    RECALL,
    RESULT,
    STORE,
    WET,
    encode,
    exchange_of,
)
from gateway.quota.contract import Exchange, Reply
from gateway.telemetry.diagnostics import report

UNREAD_BYTES = 1 << 20
"""Recalls and wet buckets are not pushed to a worker that has as much unread: it stands still."""
BUCKETS_PER_PUSH = 1000
QUEUED = 64
"""Exchanges that may wait of one worker; a worker has one under way, and repeats it after a reconnect."""


_NUMBERS = count(1)


class Listener(Protocol):
    """Who is told what comes in."""

    def joined(self, end: LedgerEnd) -> None:
        """A worker said who it is."""

    def left(self, end: LedgerEnd) -> None:
        """A connection closed; what it said before may still be queued."""

    def asked(self, end: LedgerEnd, question: dict[str, Any]) -> None:
        """Control asks."""


class LedgerServer:
    """Takes connections on the Unix socket that the supervisor keeps open."""

    def __init__(self, listener: Listener) -> None:
        self._listener = listener
        self._server: asyncio.Server | None = None
        self.ends: set[LedgerEnd] = set()

    async def start(self, bound: socket.socket) -> None:
        """From now on."""
        loop = asyncio.get_running_loop()
        self._server = await loop.create_unix_server(lambda: LedgerEnd(self._listener, self.ends), sock=bound)

    def close(self) -> None:
        """Takes no more connections and closes those there are."""
        if self._server is not None:
            self._server.close()
        for end in list(self.ends):
            end.close()


class LedgerEnd(asyncio.Protocol):
    """One connection."""

    def __init__(self, listener: Listener, ends: set[LedgerEnd]) -> None:
        self._listener = listener
        self._ends = ends
        self._reader = FrameReader()
        self._transport: asyncio.Transport = cast(asyncio.Transport, None)
        self._queue: deque[Exchange] = deque()
        self._wake: asyncio.Future[None] | None = None
        self._is_full: asyncio.Future[None] | None = None
        """Done when it reads again."""
        self._came = 0
        """The number of the newest exchange that came."""
        self._said = 0
        """What was said of the store, so often."""
        self.newest_seq = 0
        """Of the newest exchange that the worker has sent, as far as it is known here."""
        self.number = 0
        """Connections in the order in which they were made."""
        self.owner = ""
        """As the worker calls itself; "" of control."""
        self.epoch = 0
        self.journal = ""
        self.got: Mapping[str, int] = {}
        self.is_open = False
        self.is_control = False

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)
        self._ends.add(self)
        self.number = next(_NUMBERS)
        self.is_open = True

    def connection_lost(self, exc: Exception | None) -> None:
        self._ends.discard(self)
        self.is_open = False
        self._woken()
        self.resume_writing()
        self._listener.left(self)

    def data_received(self, data: bytes) -> None:
        try:
            for kind, payload in self._reader.feed(data):
                self._take(kind, payload)
        except (ValueError, TypeError, KeyError) as error:
            # Nobody but our own processes can connect: this is a bug, and the other end says it again.
            report(error)
            self._transport.abort()

    def _take(self, kind: int, payload: bytes) -> None:
        if kind == EXCHANGE:
            self._queued(exchange_of(payload))
        elif kind == OWNER:
            if not self.owner:
                said = orjson.loads(payload)
                self.epoch, self.journal, self.got = said["epoch"], said["journal"], said["got"]
                self.owner, self.newest_seq = said["owner"], said["seq"]
                self._listener.joined(self)
        elif kind == QUERY:
            self.is_control = True
            self._listener.asked(self, orjson.loads(payload))
        else:
            raise ValueError("a message that is not for the keeper")

    def _queued(self, exchange: Exchange) -> None:
        if not self.owner or exchange.epoch != self.epoch or len(self._queue) >= QUEUED:
            raise ValueError("an exchange of nobody, of another life, or one too many")
        if exchange.seq <= self._came:
            # On one connection each is answered once: wants parked a second time would be decided again.
            return
        self._came = self.newest_seq = exchange.seq
        self._queue.append(exchange)
        self._woken()

    def _woken(self) -> None:
        if self._wake is not None and not self._wake.done():
            self._wake.set_result(None)

    # what the keeper does with it

    async def next(self) -> Exchange | None:
        """The next exchange in the order in which they came; None when the connection is closed and all that
        it said has been given out."""
        while not self._queue:
            if not self.is_open:
                return None
            self._wake = asyncio.get_running_loop().create_future()
            await self._wake
        return self._queue.popleft()

    def answer(self, reply: Reply) -> None:
        """The reply to the exchange that was given out last."""
        self._reply(reply)

    def decided(self, reply: Reply) -> None:
        """What became of wants that were parked."""
        self._reply(replace(reply, seq=0))

    def _reply(self, reply: Reply) -> None:
        # Whom the store recalls from is the keeper's business.
        self._write(ANSWER, encode(replace(reply, recalls={}) if reply.recalls else reply))

    def recall(self, seq: int, buckets: Sequence[str]) -> None:
        """Asks for what lies idle of these buckets by answers up to `seq`."""
        for some in self._pushed(buckets):
            self._write(RECALL, orjson.dumps([seq, some]))

    def wet(self, buckets: Sequence[str]) -> None:
        """There may be something again of these buckets."""
        for some in self._pushed(buckets):
            self._write(WET, orjson.dumps(some))

    def store(self, state: Mapping[str, Any]) -> None:
        """Whether the store answers."""
        self._said += 1
        self._write(STORE, orjson.dumps({**state, "n": self._said}))

    def part(self, payload: bytes) -> None:
        """Some rows of what control asked for."""
        self._write(PART, payload)

    def result(self, payload: bytes) -> None:
        """What control asked for, or the rest of it."""
        self._write(RESULT, payload)

    async def has_read(self) -> None:
        """Until it has read most of what was written, or has gone."""
        if self._is_full is not None:
            await self._is_full

    def pause_writing(self) -> None:
        self._is_full = asyncio.get_running_loop().create_future()

    def resume_writing(self) -> None:
        if self._is_full is not None and not self._is_full.done():
            self._is_full.set_result(None)
        self._is_full = None

    def close(self) -> None:
        self._transport.close()

    def _pushed(self, buckets: Sequence[str]) -> Iterator[Sequence[str]]:
        if self.is_open and self._transport.get_write_buffer_size() < UNREAD_BYTES:
            for at in range(0, len(buckets), BUCKETS_PER_PUSH):
                yield buckets[at : at + BUCKETS_PER_PUSH]

    def _write(self, kind: int, payload: bytes) -> None:
        if self.is_open:
            self._transport.write(frame(kind, payload))
