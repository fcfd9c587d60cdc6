"""From a target's answer to the caller: written whole, or copied as it comes. The commit point is here."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping

from gateway.clock import monotonic_s, now_s
from gateway.errors import (
    UPSTREAM_BAD_ANSWER,
    UPSTREAM_LOST,
    UPSTREAM_STALLED,
    UPSTREAM_TIMEOUT,
    CallerGone,
    GatewayError,
    Kind,
    ProviderError,
)
from gateway.http.caller import CallerConnection
from gateway.http.message import STATUS_200, Answer, chunk
from gateway.http.upstream import UpstreamConnection, UpstreamFailed
from gateway.line.attempt import LONGEST_BYTES, Attempt
from gateway.line.attempts import NOT_THE_TARGETS, error_of
from gateway.line.exchange import SUSPEND, DeadlinePassed, Exchange, Pausable
from gateway.line.keepalive import stream_framing
from gateway.line.outbound import dropped_line, to_caller
from gateway.money import usd
from gateway.telemetry.diagnostics import say_once
from gateway.usage import Usage, estimated_usage
from gateway.wire.dialects.openai_chat import usage_in_tail
from gateway.wire.speech import Stream
from gateway.wire.sse import BadStream, has_data

TAIL_BYTES = 8 * 1024
"""How much of the end of a long plain answer is kept to find its usage in."""


async def relay(exchange: Exchange, attempt: Attempt) -> None:
    """Brings the answer to the caller; afterwards `exchange.usage` is known."""
    if attempt.stream is not None:
        await _relay_stream(exchange, attempt, attempt.stream)
    elif attempt.told is not None:
        _write_plain(exchange, attempt)
    else:
        await _relay_long(exchange, attempt)


def answer_head(exchange: Exchange, answer: Answer, framing: bytes, line: bytes = STATUS_200) -> bytes:
    """Status line and headers up to and with the blank line."""
    target = exchange.target
    assert target is not None
    head = b"%b%bx-request-id: %b\r\nx-headgate-request-id: %b\r\nx-headgate-attempts: %d\r\n%b%b" % (
        line,
        framing,
        exchange.request_id,
        exchange.request_id,
        exchange.attempts,
        exchange.line.target_lines(target, exchange.snapshot),
        exchange.own_lines
        + to_caller(answer.headers, rates=not exchange.tells_rates)
        + (dropped_line(exchange.dropped) if exchange.dropped else b""),
    )
    head = exchange.admission.endpoint.dialect.lines_for_caller(head, now_s())
    return head + (b"\r\n" if exchange.request.keep_alive else b"connection: close\r\n\r\n")


def _write_plain(exchange: Exchange, attempt: Attempt) -> None:
    """An answer that was read whole: one write, with its length and its cost."""
    told, call, answer = attempt.told, exchange.call, attempt.answer
    assert told is not None and call is not None and answer is not None
    body = told.body
    exchange.usage = usage = told.usage or estimated_usage(call.size, len(body))
    exchange.answer = told.fields
    exchange.output_bytes = len(body)
    exchange.line.watched.plain(exchange, answer, body)
    cost = exchange.price(usage)
    framing = b"content-type: application/json\r\ncontent-length: %d\r\n" % len(body)
    if cost is not None:
        framing += b"x-headgate-cost-usd: %b\r\n" % usd(cost)
    exchange.mark_written()
    exchange.caller.write(answer_head(exchange, answer, framing) + body)
    exchange.caller.finish(keep_alive=exchange.request.keep_alive)


class _Copy(Pausable):
    """Copies a body as it comes; the part that streams and long answers share."""

    __slots__ = (
        "_caller",
        "_connection",
        "_exchange",
        "_is_ended",
        "chunked",
        "failure",
        "has_stalled",
        "unread",
    )

    def __init__(self, exchange: Exchange, connection: UpstreamConnection) -> None:
        self._exchange = exchange
        self._caller: CallerConnection = exchange.caller
        self._connection = connection
        self.chunked = exchange.request.head.version == "1.1"
        """False for HTTP/1.0, where the end of the body is the end of the connection."""
        self._is_ended = False
        self.has_stalled = False
        """True once the caller did not keep up: much may have been generated since that did not come."""
        self.failure: Kind | None = None
        """What the copy ended of; None if the body came whole."""
        self.unread = 0
        """Bytes that had come and were not read when the copy was broken off."""

    def pause(self) -> None:
        self.has_stalled = True
        if not self._connection.closed:
            self._connection.transport.pause_reading()
        caller = self._caller
        caller.deadline.set(min(monotonic_s() + caller.times.write_stall_s, self._exchange.total_at_s))

    def resume(self) -> None:
        if not self._connection.closed:
            self._connection.transport.resume_reading()
        self.keep_going()

    def keep_going(self) -> None:
        """Something came: whatever deadline is in force starts anew."""
        self._caller.deadline.set(self._exchange.total_at_s)

    def framed(self, block: bytes, *, last: bool = False) -> bytes:
        """A block of the body as it goes out; `last`: nothing comes after it."""
        if not self.chunked:
            return block
        self._is_ended = last
        return chunk(block, last=last)

    def write(self, block: bytes) -> None:
        """Writes one block of the body."""
        if block:
            self._caller.write(self.framed(block))

    def answered(self, answer: Answer) -> None:
        """The head came before the copy began."""

    def received(self, block: bytes) -> None:
        """One read's worth of the body."""
        raise NotImplementedError

    def ended(self) -> None:
        self._exchange.wake(None)

    def failed(self, failure: UpstreamFailed) -> None:
        self.failure = UPSTREAM_LOST if failure.what == "closed" else UPSTREAM_BAD_ANSWER
        self._exchange.wake(None)

    def _stop(self, failure: Kind | None) -> None:
        self.failure = failure
        self._connection.close()
        self._exchange.wake(None)

    async def run(self, answer: Answer) -> None:
        """Copies until the upstream's body ends, one way or the other."""
        if answer.complete or self.is_whole():
            return
        self._connection.hand_on(self, self._caller.backlog)
        self._exchange.relay = self
        if self._caller.paused:
            self.pause()
        else:
            self.keep_going()
        try:
            await SUSPEND
        except DeadlinePassed as passed:
            if self._caller.paused and not passed.total:
                # The caller, not the provider, stands still; an event would not reach it either.
                self._caller.cut()
                raise CallerGone from None
            self.failure = UPSTREAM_TIMEOUT if passed.total else UPSTREAM_STALLED
        except GatewayError as error:
            self.failure = error.kind
        finally:
            # The call holds us and we hold it, a cycle that the collector would find very late.
            del self._exchange.relay
            self._connection.forget_caller()
            if self._connection.receiver is self:
                self.unread = self._connection.unread()
                self._connection.close()

    def is_whole(self) -> bool:
        """True if nothing more is to come, though the upstream has not ended its body."""
        return False

    def finish(self) -> None:
        """Ends the answer."""
        if self.chunked and not self._is_ended:
            self._caller.write(chunk(b"", last=True))
        self._caller.finish(keep_alive=self._exchange.request.keep_alive)


class _StreamCopy(_Copy):
    """Copies an event stream; only whole, well-formed events go on."""

    __slots__ = ("_stall_s", "_stream")

    def __init__(self, exchange: Exchange, connection: UpstreamConnection, stream: Stream) -> None:
        super().__init__(exchange, connection)
        self._stream = stream
        assert exchange.model is not None
        self._stall_s = exchange.model.timeouts.stall_s

    def keep_going(self) -> None:
        exchange = self._exchange
        stall_at_s = exchange.line.wheel.now_s + self._stall_s
        total_at_s = exchange.total_at_s
        self._caller.deadline.set(stall_at_s if stall_at_s < total_at_s else total_at_s)

    def received(self, block: bytes) -> None:
        stream = self._stream
        try:
            out = stream.feed(block)
        except BadStream:
            self._stop(UPSTREAM_BAD_ANSWER)
            return
        if out:
            # The end of the body goes with the last event: a write of its own costs 15 µs.
            self._caller.write(self.framed(out, last=stream.done))
            # A provider that only says it is there stalls too. Most blocks begin with the d of data.
            if not self._caller.paused and (out[0] == 0x64 or has_data(out)):
                self.keep_going()
        if stream.error is not None or stream.overrun:
            self._stop(None)
        elif stream.done:
            # The answer is whole; the caller need not wait for the provider to end its body.
            self._connection.drain()
            self._exchange.wake(None)

    def is_whole(self) -> bool:
        stream = self._stream
        if stream.overrun or stream.error is not None:
            self._connection.close()
        elif stream.done:
            self._connection.drain()
        else:
            return False
        return True

    def ended(self) -> None:
        if not self._stream.done and self._stream.error is None:
            try:
                self.write(self._stream.finish())
            except BadStream:
                self.failure = UPSTREAM_BAD_ANSWER
        self._exchange.wake(None)


class _RecordedCopy(_StreamCopy):
    """As it goes out, it is also taken down, once for whoever wants it."""

    __slots__ = ("_add",)

    def __init__(
        self,
        exchange: Exchange,
        connection: UpstreamConnection,
        stream: Stream,
        add: Callable[[bytes], None],
    ) -> None:
        super().__init__(exchange, connection, stream)
        self._add = add

    def framed(self, block: bytes, *, last: bool = False) -> bytes:
        self._add(block)
        return super().framed(block, last=last)


def _copy_of(
    exchange: Exchange, connection: UpstreamConnection, stream: Stream, answer: Answer
) -> _StreamCopy:
    recording = exchange.recording = exchange.line.tracer.recording(exchange)
    taken = exchange.line.watched.stream(exchange, answer)
    if recording is None and taken is None:
        return _StreamCopy(exchange, connection, stream)
    if recording is None or taken is None:
        one = recording or taken
        assert one is not None
        return _RecordedCopy(exchange, connection, stream, one.add)

    def both(block: bytes) -> None:
        recording.add(block)
        taken.add(block)

    return _RecordedCopy(exchange, connection, stream, both)


async def _relay_stream(exchange: Exchange, attempt: Attempt, stream: Stream) -> None:
    connection, call, answer = attempt.connection, exchange.call, attempt.answer
    assert connection is not None and call is not None and answer is not None
    copy = _copy_of(exchange, connection, stream, answer)
    exchange.stream = stream
    meters = exchange.line.meters
    has_begun = exchange.keep_alive is not None and exchange.keep_alive.has_begun
    head = b"" if has_begun else answer_head(exchange, answer, stream_framing(chunked=copy.chunked))
    exchange.mark_written()
    exchange.first_token_s = exchange.first_written_s
    exchange.caller.write(head + copy.framed(attempt.take_body(), last=stream.done))
    meters.streams_open(1)
    try:
        await copy.run(answer)
    finally:
        meters.streams_open(-1)
        exchange.usage = usage = stream.usage or stream.estimate(call.size)
        if usage.estimated and exchange.is_counted and not copy.has_stalled:
            exchange.output_bytes = stream.most_tokens(copy.unread)
        exchange.price(usage)
    failure = _stream_failure(exchange, copy, stream)
    _judge(exchange, None if failure is None else failure.kind, stream.error)
    if stream.unknown:
        _tell_unknown(exchange, stream.unknown)
    if failure is not None:
        exchange.failed_after_commit(failure.kind.error_type)
        copy.write(exchange.admission.endpoint.dialect.error_event(failure))
    copy.finish()


def _tell_unknown(exchange: Exchange, unknown: Mapping[str, int]) -> None:
    """What of a stream Headgate has no word for: counted, and named to the operator."""
    target, model = exchange.target, exchange.model
    assert target is not None and model is not None
    exchange.line.meters.unknown_events(model.name, target.name, sum(unknown.values()))
    for kind in unknown:
        named = kind if _KIND(kind) else "of no proper name"
        say_once(f"note: {target.name} sends events or parts that are not known and are passed over: {named}")


_KIND = re.compile(r"[A-Za-z0-9_.-]{1,64}").fullmatch
"""What a provider wrote stands in no log, unless it can be nothing but a name."""


def _judge(exchange: Exchange, kind: Kind | None, error: ProviderError | None = None) -> None:
    """Tells the target's health how an answer ended that was handed on before its end."""
    target, model, health = exchange.target, exchange.model, exchange.line.health
    assert target is not None and model is not None
    if kind is None:
        health.succeeded(target.row)
        return
    reason = _REASONS.get(kind, "") if error is None else error.reason
    if reason not in NOT_THE_TARGETS:
        health.failed(target.row, model.health)
    if reason or error is not None:
        exchange.attempt_outcome = reason or "refused"


_REASONS = {
    UPSTREAM_TIMEOUT: "timeout",
    UPSTREAM_STALLED: "stall",
    UPSTREAM_LOST: "server_error",
    UPSTREAM_BAD_ANSWER: "bad_answer",
}
"""What an attempt failed of after the commit point; what is not here is no provider's fault."""


def _stream_failure(exchange: Exchange, copy: _StreamCopy, stream: Stream) -> GatewayError | None:
    """What the stream failed of after the commit point; None if it ended with `[DONE]`."""
    if stream.error is not None:
        return error_of(exchange, stream.error)
    if stream.done:
        return None
    return GatewayError(copy.failure or UPSTREAM_LOST)


class TailCopy(_Copy):
    """Copies whatever comes, and keeps its end for the usage."""

    __slots__ = ("size", "tail")

    def __init__(self, exchange: Exchange, connection: UpstreamConnection, begun: bytes) -> None:
        super().__init__(exchange, connection)
        self.size = len(begun)
        self.tail = begun[-TAIL_BYTES:]

    def received(self, block: bytes) -> None:
        self.size += len(block)
        self.tail = (self.tail + block)[-TAIL_BYTES:]
        self.write(self.passed(block))

    def passed(self, block: bytes) -> bytes:
        """What of a block may go on now."""
        return block


class _LongCopy(TailCopy):
    """Copies a plain JSON answer that is too long to hold."""

    __slots__ = ()

    def received(self, block: bytes) -> None:
        if self.size + len(block) > LONGEST_BYTES:
            self._stop(UPSTREAM_BAD_ANSWER)
            return
        super().received(block)

    def ended(self) -> None:
        # A body without a length ends with its connection, whether it is whole or not.
        if not self.tail.rstrip().endswith(b"}"):
            self.failure = UPSTREAM_BAD_ANSWER
        super().ended()


async def _relay_long(exchange: Exchange, attempt: Attempt) -> None:
    connection, call, answer = attempt.connection, exchange.call, attempt.answer
    assert connection is not None and call is not None and answer is not None
    begun = attempt.body
    copy = _LongCopy(exchange, connection, begun)
    length = answer.headers.get(b"content-length")
    framing = b"content-type: application/json\r\n"
    if length is not None:
        copy.chunked = False
        framing += b"content-length: %b\r\n" % length
    elif copy.chunked:
        framing += b"transfer-encoding: chunked\r\n"
    exchange.mark_written()
    exchange.caller.write(answer_head(exchange, answer, framing))
    copy.write(begun)
    try:
        await copy.run(answer)
    finally:
        usage: Usage = usage_in_tail(copy.tail, attempt.speech.target.read_usage) or estimated_usage(
            call.size, copy.size
        )
        exchange.usage = usage
        exchange.output_bytes = None if copy.failure is not None else copy.size
        exchange.price(usage)
    _judge(exchange, copy.failure)
    if copy.failure is not None:
        exchange.failed_after_commit(copy.failure.error_type)
        exchange.caller.cut()
        return
    copy.finish()
