"""A provider's answer to a call that is passed through, up to where it may go on to the caller."""

from __future__ import annotations

from gateway.clock import now_s
from gateway.errors import UPSTREAM_BAD_ANSWER, UPSTREAM_LOST, UPSTREAM_TIMEOUT
from gateway.http.message import Answer
from gateway.http.upstream import UpstreamConnection, UpstreamFailed
from gateway.line.attempt import WHOLE_BYTES, AttemptFailed, connect
from gateway.line.exchange import SUSPEND, DeadlinePassed, Exchange
from gateway.line.upload import Upload
from gateway.policy.snapshot import Passage
from gateway.wire.dialects.openai_chat import read_error

EVENT_BYTES = 64 * 1024
"""A stream is held for its first event, which names the object it makes, up to here."""


class Reply:
    """The receiver of one answer: JSON whole up to `limit`, a stream's first event, of others the head."""

    def __init__(self, exchange: Exchange, connection: UpstreamConnection, limit: int) -> None:
        self._exchange = exchange
        self._limit = limit or WHOLE_BYTES
        self._parts: list[bytes] = []
        self._size = 0
        self._woke = False
        self._failure: UpstreamFailed | None = None
        self._answer: Answer | None = None
        self.connection = connection
        self.is_json = self.streamed = self.complete = False

    @property
    def answer(self) -> Answer:
        assert self._answer is not None
        return self._answer

    @property
    def body(self) -> bytes:
        """What has come of the body."""
        return self._parts[0] if len(self._parts) == 1 else b"".join(self._parts)

    # http.upstream.Receiver

    def answered(self, answer: Answer) -> None:
        self._answer = answer
        type_ = answer.headers.get(b"content-type", b"").partition(b";")[0].strip().lower()
        self.streamed = type_ == b"text/event-stream"
        self.is_json = type_ == b"application/json"

    def received(self, block: bytes) -> None:
        self._parts.append(block)
        self._size += len(block)
        if self.streamed:
            enough = self._size > EVENT_BYTES or b"\n\n" in self.body or b"\r\n\r\n" in self.body
        else:
            # An error is read whole, so that it is known for one.
            enough = self._size > (self._limit if self.is_json or self.answer.status >= 400 else 0)
        if enough and not self._woke:
            # Whatever is asked before it goes on, nothing piles up meanwhile.
            self.connection.transport.pause_reading()
            self._wake()

    def ended(self) -> None:
        self.complete = self.answer.complete = True
        self.resume()  # the connection may serve another call
        self._wake()

    def failed(self, failure: UpstreamFailed) -> None:
        self._failure = failure
        self._wake()

    def _wake(self) -> None:
        if not self._woke:
            self._woke = True
            self._exchange.wake(None)

    # the call

    def resume(self) -> None:
        """The rest may come."""
        if not self.connection.closed:
            self.connection.transport.resume_reading()

    def close(self) -> None:
        """Nothing more is wanted."""
        self.connection.close()

    @property
    def is_stale(self) -> bool:
        """True if a kept connection turned out to be closed: nothing was read of the request."""
        return self._failure is not None and self._failure.stale

    def check(self) -> None:
        """Raises `AttemptFailed` unless this is an answer for the caller."""
        failure, answer = self._failure, self._answer
        if failure is not None or answer is None:
            self.close()
            if failure is not None and failure.what == "closed":
                raise AttemptFailed("server_error", UPSTREAM_LOST)
            raise AttemptFailed("bad_answer", UPSTREAM_BAD_ANSWER)
        if 200 <= answer.status < 300:
            if answer.headers.get(b"content-encoding", b"identity").lower() != b"identity":
                # Not asked for, and what is in it could not be read.
                self.close()
                raise AttemptFailed("bad_answer", UPSTREAM_BAD_ANSWER)
            return
        if not self.complete:
            self.close()
        if answer.status < 400:
            # Redirects are not followed: targets come from the policy alone.
            raise AttemptFailed("bad_answer", UPSTREAM_BAD_ANSWER)
        error = read_error(answer.status, answer.headers, self.body, now_s())
        status = answer.status if self.complete else 0
        raise AttemptFailed(error.reason, UPSTREAM_BAD_ANSWER, error, status=status)


async def fetch(
    exchange: Exchange, passage: Passage, head: bytes, body: bytes | Upload, *, limit: int = 0
) -> Reply:
    """Sends a request and waits for what of the answer must be there before it goes on; `limit` is the most
    bytes of JSON that are read whole (0: 1 MiB). Raises `AttemptFailed`, or what ends the call itself."""
    pool = exchange.line.outbound.pool(passage.target.provider)
    # A form is sent as it comes and cannot be sent again: a kept connection, which may have closed, won't do.
    connection = None if isinstance(body, Upload) else pool.take()
    while True:
        if connection is None:
            connection = await connect(exchange, pool, passage.model)
        reply = Reply(exchange, connection, limit)
        _send(exchange, connection, reply, head, body)
        try:
            await SUSPEND
        except DeadlinePassed:
            connection.close()
            raise AttemptFailed("timeout", UPSTREAM_TIMEOUT, ends_call=True) from None
        except BaseException:
            connection.close()
            raise
        finally:
            exchange.upstream_s = connection.sent_s
            exchange.first_sent_s = exchange.first_sent_s or connection.sent_s
        if not reply.is_stale:
            break
        connection = None
    reply.check()
    exchange.first_answer_s = reply.answer.first_byte_s
    return reply


def _send(
    exchange: Exchange, connection: UpstreamConnection, reply: Reply, head: bytes, body: bytes | Upload
) -> None:
    if not isinstance(body, Upload):
        connection.send(b"%bcontent-length: %d\r\n\r\n%b" % (head, len(body), body), reply)
        exchange.caller.deadline.set(exchange.total_at_s)
        return
    length = exchange.request.head.known.get(b"content-length")
    framing = b"transfer-encoding: chunked" if length is None else b"content-length: %b" % length
    connection.send(b"%b%b\r\n\r\n" % (head, framing), reply)
    body.flow(connection, chunked=length is None)
