"""A connection to a provider: one request at a time, the answer handed to a `Receiver` as it comes."""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Callable, Mapping
from fcntl import ioctl
from termios import FIONREAD
from typing import TYPE_CHECKING, Any, Protocol, cast

import httptools

from gateway.clock import monotonic_s
from gateway.http.message import Answer, kept_headers
from gateway.http.wheel import Deadline

if TYPE_CHECKING:
    from gateway.http.pool import Pool

MAX_HEAD_BYTES = 64 * 1024
"""Of an answer's head, with what 1xx answers came before it; and of all that follows the last piece of its
body: trailers, chunk extensions."""
MAX_HEADERS = 200
DRAIN_S = 1.0
LARGE_READ, SMALL_READ = 256 * 1024, 24 * 1024
"""The most that one read brings, in bytes. What was read must go somewhere, so of an answer whose caller does
not keep up little is read at a time: a thousand callers that stopped reading were 546 MB, and are 78."""
MAX_BACKLOG = 64 * 1024
"""A caller with more than this on its way to it does not keep up."""
_large = memoryview(bytearray(LARGE_READ))
"""What every connection reads into: llhttp has copied what it needs of it when a read has been seen to."""
_small = _large[:SMALL_READ]


class UpstreamFailed(Exception):
    """The connection ended or broke. `stale` is True if it was a reused one that closed before any byte of
    an answer: the request may be sent again on a fresh one (RFC 9112 9.3.1)."""

    def __init__(self, what: str, *, stale: bool = False) -> None:
        super().__init__(what)
        self.what = what
        """"closed", or which part of the answer was malformed."""
        self.stale = stale


class Receiver(Protocol):
    """Whoever waits for an answer. Called from the event loop, in this order; `failed` may come any time."""

    def answered(self, answer: Answer) -> None:
        """The head has come. `answer.status` is final: 1xx answers are passed over."""

    def received(self, block: bytes) -> None:
        """All that one read brought of the body."""

    def ended(self) -> None:
        """The body is complete."""

    def failed(self, failure: UpstreamFailed) -> None:
        """Nothing more comes."""


class Upload(Protocol):
    """A body on its way to a provider; told when the provider takes no more of it for now."""

    def pause(self) -> None: ...
    def resume(self) -> None: ...


class _Drain:
    """Waits for the end of a body of which nothing more may come."""

    __slots__ = ("_connection",)

    def __init__(self, connection: UpstreamConnection) -> None:
        self._connection = connection

    def answered(self, answer: Answer) -> None:
        """The head came long ago."""

    def received(self, block: bytes) -> None:
        self._connection.close()

    def ended(self) -> None:
        """Back in the pool."""

    def failed(self, failure: UpstreamFailed) -> None:
        """Closed; nobody waits."""


class UpstreamConnection(asyncio.BufferedProtocol):
    """One connection, kept alive by its pool."""

    __slots__ = (
        "_announced",
        "_answer",
        "_backlog",
        "_complete",
        "_first_byte_s",
        "_heard_bytes",
        "_parser",
        "_parts",
        "_pool",
        "_raw_headers",
        "_reusable",
        "_room",
        "_until_close",
        "adopted",
        "closed",
        "idle",
        "on_body",
        "on_header",
        "receiver",
        "sent_s",
        "transport",
        "upload",
        "used",
    )

    def __init__(self, pool: Pool) -> None:
        self._pool = pool
        self._parts: list[bytes] = []
        self.on_body = self._parts.append
        """llhttp's callback: a burst of a hundred HTTP chunks costs a hundred C calls, no Python frame."""
        self._raw_headers: dict[bytes, bytes] = {}
        self.on_header = self._raw_headers.__setitem__
        """llhttp's callback, in C too: a provider sends a dozen headers, at 0.06 µs each instead of 0.25."""
        # After the callbacks above: the parser looks them up once, here.
        self._parser: Any = httptools.HttpResponseParser(self)
        self._heard_bytes = 0
        """Since the last piece of the body, or since the request was sent."""
        self._first_byte_s = 0.0
        self._answer: Answer | None = None
        self._announced = False
        self._complete = False
        self._reusable = False
        self._until_close = False
        self.receiver: Receiver | None = None
        """Whom the answer goes to; may be exchanged while it comes."""
        self.closed = False
        self.adopted = False
        """True once the pool counts it as open: its dial has succeeded."""
        self.sent_s = 0.0
        """When the request was written (`monotonic_s`)."""
        self.used = False
        """True once an answer was read whole: from then on the connection is a reused one."""
        self._room = _small
        self._backlog: Callable[[], int] | None = None
        self.upload: Upload | None = None
        """The body that is still being sent; until its end the connection cannot be used again."""
        self.idle = Deadline(pool.wheel, self.close)
        self.transport: asyncio.Transport = cast(asyncio.Transport, None)

    # asyncio.BufferedProtocol

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = cast(asyncio.Transport, transport)

    def connection_lost(self, exc: Exception | None) -> None:
        self.closed = True
        self.idle.retire()
        # llhttp holds our methods and we hold it: a cycle that the collector would find very late.
        self._parser = None
        self._pool.lost(self)
        if self.receiver is None:
            return
        if self._until_close and exc is None:
            self._end()
        else:
            self._fail("closed", stale=self.used and not self._heard_bytes)

    def eof_received(self) -> bool:
        return False

    def pause_writing(self) -> None:
        if self.upload is not None:
            self.upload.pause()

    def resume_writing(self) -> None:
        if self.upload is not None:
            self.upload.resume()

    def get_buffer(self, sizehint: int) -> memoryview:
        return self._room

    def buffer_updated(self, nbytes: int) -> None:
        if self.receiver is None:
            # Bytes nobody asked for: the connection is out of step and must not be used again.
            self.close()
            return
        if not self._heard_bytes:
            self._first_byte_s = monotonic_s()
        self._heard_bytes += nbytes
        broken = False
        try:
            self._parser.feed_data(_large[:nbytes])
        except (httptools.HttpParserError, httptools.HttpParserUpgrade):
            broken = True
        self._hand_over(broken=broken)
        if nbytes >= SMALL_READ:
            # There is more than a small read brings; asked only then, so a paced stream pays nothing.
            is_slow = self._backlog is not None and self._backlog() > MAX_BACKLOG
            self._room = _small if is_slow else _large

    # llhttp

    def on_message_begin(self) -> None:
        if self._complete:
            raise ValueError("a second answer to one request")

    def on_headers_complete(self) -> None:
        status = self._parser.get_status_code()
        raw = self._raw_headers
        if self._heard_bytes > MAX_HEAD_BYTES and _size_of(raw) > MAX_HEAD_BYTES:
            raise ValueError("a head that came whole, but too large")
        if len(raw) > MAX_HEADERS:
            raise ValueError("too many headers")
        headers = kept_headers(raw)
        raw.clear()
        if status < 200:
            return
        self._answer = answer = Answer(status, headers, self._first_byte_s)
        answer.streamed = headers.get(b"content-type", b"")[:17].lower() == b"text/event-stream"
        self._until_close = b"content-length" not in headers and b"transfer-encoding" not in headers

    def on_message_complete(self) -> None:
        self._raw_headers.clear()  # trailers
        if self._answer is not None:
            self._complete = True
            self._reusable = self._parser.should_keep_alive()

    # one answer

    def send(self, data: bytes, receiver: Receiver) -> None:
        """Sends one request, head and body, and hands its answer to `receiver`."""
        self.receiver = receiver
        self.sent_s = 0.0
        self.idle.clear()
        self._heard_bytes = 0
        self._answer = None
        self._announced = self._complete = self._until_close = False
        self._pool.outbox.write(self._write, data)

    def hand_on(self, receiver: Receiver, backlog: Callable[[], int]) -> None:
        """The rest of the answer goes to another receiver, and on to a caller who may be slow.

        `backlog` tells how many bytes are on their way to it.
        """
        self.receiver = receiver
        self._backlog = backlog
        self._room = _small

    def forget_caller(self) -> None:
        """What comes from now on goes to none."""
        self._backlog = None

    def send_more(self, data: bytes) -> None:
        """Sends a further part of the request's body."""
        self._pool.outbox.write(self._write_more, data)

    def _write_more(self, data: bytes) -> None:
        if not self.transport.is_closing():
            self.transport.write(data)

    def _write(self, data: bytes) -> None:
        self.sent_s = monotonic_s()
        # uvloop raises on a write after an abort, which may have come since.
        if not self.transport.is_closing():
            self.transport.write(data)

    def unread(self) -> int:
        """Bytes of the answer that have come to this machine and were not read yet (tcp(7), SIOCINQ)."""
        if self.closed or self.transport.is_closing():
            return 0
        waiting = ioctl(self.transport.get_extra_info("socket").fileno(), FIONREAD, b"\0\0\0\0")
        return int.from_bytes(waiting, sys.byteorder)

    def drain(self) -> None:
        """The answer is known to be whole: waits up to 1 s for the body's end, to keep the connection."""
        self.receiver = _Drain(self)
        self.idle.set(monotonic_s() + DRAIN_S)

    def close(self) -> None:
        """Closes at once: a provider must see a caller that left, and nothing is owed to it."""
        self.receiver = None
        if not self.closed:
            self.transport.abort()

    def _hand_over(self, *, broken: bool) -> None:
        answer = self._answer
        if answer is None:
            if broken or self._heard_bytes > MAX_HEAD_BYTES:
                self._fail("malformed head")
            return
        if not self._announced:
            self._announced = True
            if self.receiver is not None:
                self.receiver.answered(answer)
        parts = self._parts
        if parts:
            block = parts[0] if len(parts) == 1 else b"".join(parts)
            parts.clear()
            self._heard_bytes = 1  # not 0: an answer has begun
            if self.receiver is not None:
                self.receiver.received(block)
        elif self._heard_bytes > MAX_HEAD_BYTES:
            broken = True
        if self.receiver is None:
            return
        if self._complete:
            self._reusable = self._reusable and not broken
            self._end()
        elif broken:
            self._fail("malformed")

    def _end(self) -> None:
        receiver, self.receiver = self.receiver, None
        assert receiver is not None
        self.used = True
        if self._reusable and not self.closed and not self._until_close and self.upload is None:
            self._pool.release(self)
        else:
            self.close()
        receiver.ended()

    def _fail(self, what: str, *, stale: bool = False) -> None:
        receiver, self.receiver = self.receiver, None
        assert receiver is not None
        self.close()
        receiver.failed(UpstreamFailed(what, stale=stale))


def _size_of(headers: Mapping[bytes, bytes]) -> int:
    return sum(map(len, headers)) + sum(map(len, headers.values()))
