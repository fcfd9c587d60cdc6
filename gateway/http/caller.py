"""A caller's connection: bytes → requests, answers → bytes. One request at a time, strictly framed.

Parsed by llhttp (httptools) without leniency; what llhttp lets through and we must not is checked in
`Head.check`: two credentials, absolute-form, transfer-encoding on HTTP/1.0. A head that a connection has
seen before is not parsed again.
While an answer is due the socket stays read, else a leaving caller would go unseen.
"""

from __future__ import annotations

import asyncio
import sys
from collections import deque
from fcntl import ioctl
from termios import TIOCOUTQ
from typing import TYPE_CHECKING, Any, cast

import httptools

from gateway.clock import monotonic_s
from gateway.errors import (
    BAD_HTTP,
    BODIES_FULL,
    BODY_TIMEOUT,
    HEADERS_TOO_LARGE,
    TOO_LARGE,
    TOO_MANY_CONNECTIONS,
    UPGRADE,
    Kind,
)
from gateway.http.body import Body, BodySink
from gateway.http.head import MAX_HEAD_BYTES, MAX_HEADERS, Head, Headers, SeenHead, see
from gateway.http.message import Request
from gateway.http.wheel import Deadline

if TYPE_CHECKING:
    from gateway.http.server import CallerServer, Exchange

MAX_AHEAD_BYTES = 64 * 1024
"""What a caller may send ahead while an answer is due; above it we stop reading."""
MAX_STRANGE = 4
"""A connection whose heads differ so many times in a row has none that is worth remembering."""
MAX_FRAMING = 8
"""Bytes on the wire per byte of a chunked body, beyond `MAX_HEAD_BYTES` that are free: a chunk of one byte
costs six. What weighs more is chunk extensions or trailers, which nobody reads."""
FIRST_S = 1.0
"""How long a connection that has asked nothing yet may take to, once the worker drains: its request may be
on its way, and its caller cannot know."""
WRITE_HIGH_WATER = 4 * 1024
"""Above this much unsent the upstream is paused, so that a slow reader of a stream costs one read more."""


class CallerConnection(asyncio.Protocol):
    """One connection. The line writes answers through it and ends each with `finish`."""

    __slots__ = (
        "_ahead",
        "_body",
        "_body_waits",
        "_broken",
        "_closing",
        "_current",
        "_cut_at_s",
        "_feeding",
        "_head_bytes",
        "_headers",
        "_held",
        "_incoming",
        "_next_due",
        "_parser",
        "_queue",
        "_requests",
        "_seen",
        "_server",
        "_sink",
        "_started_s",
        "_strange",
        "address",
        "closed",
        "deadline",
        "exchange",
        "on_body",
        "paused",
        "times",
        "transport",
    )

    def __init__(self, server: CallerServer) -> None:
        self._server = server
        self._body = Body()
        self._body_waits = False
        """True while it is us who do not read the body."""
        self.on_body = self._body.add
        self._parser: Any = httptools.HttpRequestParser(self)
        self._queue: deque[Request] = deque()
        self._incoming: Request | None = None
        self._headers: Headers = []
        self._head_bytes = 0
        self._feeding = 0
        self._held = 0
        self._ahead = b""
        self._next_due = False
        self._requests = 0
        self._seen: SeenHead | None = None
        self._strange = 0
        self._started_s = 0.0
        self._closing = False
        self._cut_at_s = 0.0
        self._broken = False
        self._current: Request | None = None
        self._sink: BodySink | None = None
        self.times = server.times
        self.address = ""
        """The peer's, if connections are counted by it."""
        self.closed = False
        self.paused = False
        self.exchange: Exchange | None = None
        self.transport: asyncio.Transport = cast(asyncio.Transport, None)
        self.deadline = Deadline(server.wheel, self._deadline_passed)

    # asyncio.Protocol

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = cast(asyncio.Transport, transport)
        self.transport.set_write_buffer_limits(high=WRITE_HIGH_WATER)
        if self._server.joined(self):
            self.deadline.set(monotonic_s() + self.times.idle_s)
        else:
            self._refuse(TOO_MANY_CONNECTIONS)

    def connection_lost(self, exc: Exception | None) -> None:
        self.closed = True
        self._server.left(self)
        self._release_held()
        self.deadline.retire()
        self._queue.clear()
        # llhttp holds our methods and we hold it, a cycle that the collector would find very late: what a
        # caller sent must not stay because it left (300 bodies of 1 MB stayed for minutes).
        self._parser = self._seen = self._incoming = self._current = self._sink = None
        self._body.clear()
        self._headers = []
        self._ahead = b""
        exchange, self.exchange = self.exchange, None
        if exchange is not None:
            exchange.caller_left()

    def eof_received(self) -> bool:
        # A caller that half-closes will not read an answer either: every SDK closes both ways.
        return False

    def pause_writing(self) -> None:
        self.paused = True
        if self.exchange is not None:
            self.exchange.pause()
        else:
            self._next_due = True  # once it has taken the answers it has

    def resume_writing(self) -> None:
        self.paused = False
        if self.exchange is not None:
            self.exchange.resume()
        elif self._next_due:
            self._next()

    def data_received(self, data: bytes) -> None:
        if self._closing:
            return
        if self._next_due or self._ahead or (self._current is not None and self._current.complete):
            self._ahead += data
            if len(self._ahead) > MAX_AHEAD_BYTES:
                self.transport.pause_reading()
            return
        seen = self._seen
        if seen is not None and self._current is None and self._incoming is None and not self._queue:
            body = seen.body_of(data)
            if body is not None:
                self._strange = 0
                self._serve(Request(seen.head, body, monotonic_s()))
                return
        self._feed(data)

    # llhttp

    def on_message_begin(self) -> None:
        self._incoming = Request(Head())
        self._headers = self._incoming.head.headers

    def on_url(self, target: bytes) -> None:
        incoming = self._incoming
        assert incoming is not None
        incoming.head.target += target

    def on_header(self, name: bytes, value: bytes) -> None:
        self._headers.append((name.lower(), value))

    def on_headers_complete(self) -> None:
        incoming = self._incoming
        assert incoming is not None
        parser, head = self._parser, incoming.head
        head.method = parser.get_method()
        head.version = parser.get_http_version()
        head.keep_alive = incoming.keep_alive = parser.should_keep_alive()
        # What follows the body (trailers, RFC 9110 6.5.1) is no part of the head: it must not authenticate.
        self._headers = []
        self._queue.append(incoming)

    def on_message_complete(self) -> None:
        incoming = self._incoming
        assert incoming is not None
        if len(self._headers) > MAX_HEADERS:
            raise ValueError("too many trailers")
        incoming.body = self._body.take()
        incoming.complete = True
        incoming.received_s = monotonic_s()
        self._incoming = None
        # The rest of this read belongs to the next head, but how much of it is known to llhttp alone.
        self._head_bytes = -self._feeding

    # requests

    def _feed(self, data: bytes) -> None:
        fresh = self._incoming is None
        if fresh:
            self._head_bytes = 0
        self._feeding = len(data)
        try:
            self._parser.feed_data(data)
        except httptools.HttpParserUpgrade as upgrade:
            asking, rest = self._queue.pop(), data[upgrade.args[0] :]
            if self._current is None and not self._queue:
                self._without_upgrade(asking, rest)
                return
            # Behind another request: it is read again, alone, when its turn comes.
            self._parser, self._incoming = httptools.HttpRequestParser(self), None
            self._ahead = asking.head.written() + rest
        except httptools.HttpParserError:
            if self._current is not None:
                self._body_failed(BAD_HTTP)
                return
            if not (self._queue and self._queue[0].complete):
                self._refuse(BAD_HTTP)
                return
            # The request before the garbage is whole and gets its answer; then the connection closes.
            self._incoming = None
            self._broken = True
        if self._incoming is not None and not self._within_limits(len(data)):
            return
        if self._current is None:
            if self._queue:
                self._begin(self._queue.popleft(), data if fresh else b"")
        elif self._sink is not None:
            self._pass_on(self._sink)
        elif self._current.complete and self.exchange is not None:
            self.deadline.clear()
            self.exchange.body_arrived()

    def _begin(self, request: Request, data: bytes = b"") -> None:
        """`data` is what one read brought, if it began with this request."""
        head = request.head
        wrong = head.check(self._server.max_body_bytes, self._server.max_form_bytes)
        if wrong is not None:
            self._refuse(wrong)
            return
        if head.version == "1.0":
            head.keep_alive = request.keep_alive = False
        if data and request.complete and self._strange < MAX_STRANGE:
            self._strange += 1
            self._seen = see(head, data)
        self._serve(request)

    def _serve(self, request: Request) -> None:
        server = self._server
        self._requests += 1
        if self._broken or server.closing or self._requests == server.max_requests:
            request.keep_alive = False
        if request.complete:
            self.deadline.clear()
        self._current = request
        server.handler.begin(self, request)

    def _within_limits(self, size: int) -> bool:
        """True unless an unfinished request is too large or too slow; then it is refused."""
        server, incoming = self._server, cast(Request, self._incoming)
        started = self._started_s if self._head_bytes > 0 else monotonic_s()
        self._started_s = started
        self._head_bytes += size
        if incoming is not self._current and incoming not in self._queue:
            if self._head_bytes > MAX_HEAD_BYTES:
                self._refuse(HEADERS_TOO_LARGE)
                return False
            self.deadline.set(started + self.times.head_s)
            return True
        times = self.times
        self.deadline.set(started + times.body_s + self._head_bytes / times.min_body_bytes_per_s)
        if len(self._headers) > MAX_HEADERS:
            self._body_failed(HEADERS_TOO_LARGE)
            return False
        if self._sink is not None:
            self._pass_on(self._sink)
            return False
        self._held += size
        server.held_bytes += size
        self._body.tidy()
        if self._head_bytes > server.max_body_bytes and self._body.size() > server.max_body_bytes:
            self._body_failed(TOO_LARGE)
            return False
        more = self._head_bytes - MAX_HEAD_BYTES
        if (
            more > 0
            and b"transfer-encoding" in incoming.head.known
            and more > MAX_FRAMING * self._body.size()
        ):
            self._body_failed(BAD_HTTP)
            return False
        if server.held_bytes > server.max_held_bytes:
            self._body_failed(BODIES_FULL)
            return False
        return True

    def _body_failed(self, kind: Kind) -> None:
        if self.exchange is not None:
            self.exchange.body_failed(kind)
        else:
            self._refuse(kind)

    def _without_upgrade(self, request: Request, rest: bytes) -> None:
        """llhttp stops at a request that asks for an upgrade. Websockets are refused; any other is answered
        as if it had not asked (RFC 9110 7.8), by feeding its head again without the question."""
        if request.head.method == b"CONNECT":
            self._refuse(BAD_HTTP)
            return
        if any(name == b"upgrade" and b"websocket" in value.lower() for name, value in request.head.headers):
            self._refuse(UPGRADE)
            return
        self._parser = httptools.HttpRequestParser(self)
        self._incoming = None
        self._body.clear()
        self._feed(request.head.without_upgrade() + rest)

    @property
    def max_form_bytes(self) -> int:
        """The most that a body may have that is streamed."""
        return self._server.max_form_bytes

    def stream_body(self, sink: BodySink) -> None:
        """From now on the body of the current request goes to `sink`, what is there of it at once."""
        self._sink = sink
        self._release_held()
        self._pass_on(sink)

    def pause_body(self, until_s: float) -> None:
        """Reads nothing more of the body for now; `until_s` is the deadline meanwhile."""
        self._body_waits = True
        self.transport.pause_reading()
        self.deadline.set(until_s)

    def resume_body(self) -> None:
        """Reads on. The caller was not slow, so its time starts anew."""
        self._body_waits = False
        if self.closed:
            return
        self.transport.resume_reading()
        if self._sink is not None:
            self._started_s = monotonic_s()
            self._head_bytes = 1
            self.deadline.set(self._started_s + self.times.body_s)

    def _pass_on(self, sink: BodySink) -> None:
        """Hands on what came of the body, and its end."""
        current = self._current
        assert current is not None
        block = self._body.take()
        if current.complete:
            block, current.body = current.body, b""
        if block:
            sink.part(block)
        if current.complete and self._sink is sink:
            self._sink = None
            sink.end()

    def send_continue(self, request: Request) -> None:
        """Tells a caller that waits for it to send its body (RFC 9110 10.1.1)."""
        if request.complete or request.head.version == "1.0":
            return
        if (request.head.known.get(b"expect") or b"").lower() == b"100-continue":
            self.write(b"HTTP/1.1 100 Continue\r\n\r\n")

    # answers

    def backlog(self) -> int:
        """Bytes of the answer that the caller's machine has not taken yet (tcp(7), SIOCOUTQ)."""
        if self.closed:
            return 0
        unacknowledged = ioctl(self.transport.get_extra_info("socket").fileno(), TIOCOUTQ, b"\0\0\0\0")
        return self.transport.get_write_buffer_size() + int.from_bytes(unacknowledged, sys.byteorder)

    def write(self, data: bytes) -> None:
        """Writes a part of the answer, at the end of this turn of the event loop."""
        self._server.outbox.write(self._write, data)

    def _write(self, data: bytes) -> None:
        # uvloop raises on a write after an abort, which may have come since.
        if not self.transport.is_closing():
            self.transport.write(data)

    def finish(self, *, keep_alive: bool) -> None:
        """The answer is written whole. The next request begins, or the connection closes politely."""
        whole = self._current is not None and self._current.complete
        self.exchange = self._current = self._sink = None
        self._release_held()
        if self.closed:
            return
        if not keep_alive or not whole or self._broken or self._server.draining:
            self._close_politely()
            return
        now_s, times = self._server.wheel.now_s, self.times
        if self._incoming is None:
            self.deadline.set(now_s + times.idle_s)
        else:
            # Of a pipelined request a part was read long ago: its time begins now.
            self._started_s = now_s
            self.deadline.set(now_s + times.body_s)
        if self._queue or self._ahead or self.paused:
            self._next_due = True
            # From the loop, not from here: a caller that pipelines must not deepen the stack.
            asyncio.get_running_loop().call_soon(self._next)

    def _next(self) -> None:
        if self.paused:
            return  # a caller that reads no answers gets no more of them
        self._next_due = False
        if self.closed or self._closing or self._current is not None:
            return
        if self._queue:
            request = self._queue.popleft()
            self._begin(request)
            if request.complete or request is not self._current:
                return
        # What came since belongs to the request that has begun, or is the next.
        ahead, self._ahead = self._ahead, b""
        if ahead:
            if len(ahead) > MAX_AHEAD_BYTES:
                self.transport.resume_reading()
            self._feed(ahead)

    def cut(self) -> None:
        """Closes at once, whatever was written: after an answer that cannot be completed."""
        self._closing = True
        if not self.closed:
            self.transport.abort()

    def close_if_idle(self) -> None:
        """Closes a connection that carries no request; see `FIRST_S`."""
        if self._current is not None or self._queue or self._incoming is not None or self._closing:
            return
        if self._requests:
            self._close_politely()
        else:
            self.deadline.set(monotonic_s() + FIRST_S)

    def _refuse(self, kind: Kind) -> None:
        self._queue.clear()
        self.write(self._server.handler.refusal(kind))
        self._close_politely()

    def _close_politely(self) -> None:
        """Half-closes and reads on for up to 2 s, or until the caller has taken what was written: closing
        with unread input would reset the connection and take the answer with it."""
        self._closing = True
        self._release_held()
        self._ahead = b""
        if self.transport.is_closing():
            return
        self._server.outbox.flush()
        if self.transport.can_write_eof():
            self.transport.write_eof()
        self.transport.resume_reading()
        now_s = monotonic_s()
        self._cut_at_s = now_s + self.times.write_stall_s
        self.deadline.set(now_s + self.times.linger_s)

    def _release_held(self) -> None:
        self._server.held_bytes -= self._held
        self._held = 0

    def _deadline_passed(self) -> None:
        if self._closing:
            if monotonic_s() < self._cut_at_s and self.transport.get_write_buffer_size():
                self.deadline.set(self._cut_at_s)
            else:
                self.transport.abort()
        elif self._current is not None:
            if not (self._current.complete or self._body_waits):
                self._body_failed(BODY_TIMEOUT)
            elif self.exchange is not None:
                self.exchange.deadline_passed()
        elif self._incoming is not None:
            self._refuse(BODY_TIMEOUT)
        else:
            self._close_politely()
