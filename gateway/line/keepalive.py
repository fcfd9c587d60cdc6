"""What the caller of a stream is sent while one attempt after another fails: signs of life, so that neither
its own patience nor that of the proxies in between runs out.

The answer's head then goes out before there is an answer: its status is 200 and it names no target, so it
waits until silence has become a risk. The commit point stays where it is, at the first content.
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

from gateway.clock import monotonic_s, now_s
from gateway.errors import GatewayError
from gateway.http.message import STATUS_200, chunk

if TYPE_CHECKING:
    from gateway.line.exchange import Exchange

COMMENT = b": keep-alive\n\n"
"""A comment, which readers pass over (HTML standard 9.2.7 advises one every 15 s or so). Its blank line is
for proxies that wait for whole events."""


def stream_framing(*, chunked: bool) -> bytes:
    """The header lines of a streamed answer that say how its body comes."""
    lines = b"content-type: text/event-stream; charset=utf-8\r\ncache-control: no-cache\r\n"
    return lines + b"transfer-encoding: chunked\r\n" if chunked else lines


class KeepAlive:
    """The signs of life of one call, from its second attempt on. Never made for a call that needs but one."""

    __slots__ = (
        "_caller",
        "_chunked",
        "_error_event",
        "_head",
        "_interval_s",
        "_keep_alive",
        "_timer",
        "has_begun",
    )

    def __init__(self, exchange: Exchange, interval_s: float) -> None:
        # Not the exchange itself: it holds this, and a call leaves no cycles.
        self._caller = exchange.caller
        self._error_event = exchange.admission.endpoint.dialect.error_event
        self._keep_alive = exchange.request.keep_alive
        self._chunked = exchange.request.head.version == "1.1"
        self._head = _head(exchange, chunked=self._chunked)
        self._interval_s = interval_s
        self.has_begun = False
        """True once the answer's head was sent."""
        wait_s = exchange.started_s + interval_s - monotonic_s()
        self._timer = asyncio.get_running_loop().call_later(max(0.0, wait_s), self._beat)

    def stop(self) -> None:
        """An answer has come, or the call has ended."""
        self._timer.cancel()

    def fail(self, error: GatewayError) -> None:
        """Ends the answer that has begun with an error event, and no `[DONE]`."""
        event = self._error_event(error)
        self._caller.write(chunk(event, last=True) if self._chunked else event)
        self._caller.finish(keep_alive=self._keep_alive)

    def _beat(self) -> None:
        self._timer = asyncio.get_running_loop().call_later(self._interval_s, self._beat)
        comment = chunk(COMMENT) if self._chunked else COMMENT
        if not self.has_begun:
            self.has_begun = True
            self._caller.write(self._head + comment)
        elif not self._caller.paused:
            self._caller.write(comment)


def _head(exchange: Exchange, *, chunked: bool) -> bytes:
    assert exchange.snapshot is not None
    head = b"%b%bx-request-id: %b\r\nx-headgate-request-id: %b\r\nx-headgate-policy: %b\r\n" % (
        STATUS_200,
        stream_framing(chunked=chunked),
        exchange.request_id,
        exchange.request_id,
        exchange.snapshot.hash.encode(),
    )
    head = exchange.admission.endpoint.dialect.lines_for_caller(head, now_s())
    return head + (b"\r\n" if exchange.request.keep_alive else b"connection: close\r\n\r\n")
