"""One attempt: a request to one target, up to the point where its answer may go to the caller.

Holds back a stream until its first content, so that everything before the commit point can be tried again.
"""

from __future__ import annotations

from gateway.clock import monotonic_s, now_s
from gateway.errors import (
    UPSTREAM_BAD_ANSWER,
    UPSTREAM_LOST,
    UPSTREAM_STALLED,
    UPSTREAM_TIMEOUT,
    UPSTREAM_UNREACHABLE,
    CallerGone,
    Kind,
    ProviderError,
)
from gateway.http.message import Answer
from gateway.http.pool import Pool
from gateway.http.upstream import UpstreamConnection, UpstreamFailed
from gateway.line.claim import Claim
from gateway.line.exchange import SUSPEND, DeadlinePassed, Exchange
from gateway.line.reading_on import ReadingOn
from gateway.policy.snapshot import Model, ProviderKey, Target
from gateway.quota.cap import written
from gateway.wire.dialect import CHAT
from gateway.wire.dialects.openai_chat import Call
from gateway.wire.json import try_object
from gateway.wire.speech import Speech, Stream, Told, speech_of
from gateway.wire.sse import BadStream

HOLD_BYTES = 64 * 1024
"""A stream is held back for its first content up to here, then it is committed as it is."""
WHOLE_BYTES = 1 << 20
"""A plain answer up to this size is read whole and checked; a longer one is relayed as it comes."""
LONGEST_BYTES = 64 << 20
"""A plain answer above this size is not relayed; one whose length is not known before is cut there."""


_CHAT_TO_CHAT = speech_of(CHAT, CHAT)


class AttemptFailed(Exception):
    """An attempt did not bring an answer for the caller. `reason` is one of `FALLBACK_REASONS`, or "".
    `ends_call`: the time of the whole call is up, so no other attempt follows."""

    def __init__(
        self,
        reason: str,
        kind: Kind,
        provider_error: ProviderError | None = None,
        *,
        ends_call: bool = False,
        status: int = 0,
    ) -> None:
        super().__init__(kind.error_type)
        self.status = status
        """Of an answer that refused the call, and came whole; else 0."""
        self.ends_call = ends_call
        self.reason = reason
        self.kind = kind
        self.provider_error = provider_error
        self.quota = provider_error is not None and provider_error.quota


async def connect(exchange: Exchange, pool: Pool, model: Model) -> UpstreamConnection:
    """A fresh connection. Raises `AttemptFailed`, or what ends the call itself."""
    leave = pool.connect(exchange.wake, model.timeouts.connect_s)
    exchange.set_deadline(model.timeouts.connect_s)
    asked_s = exchange.dialled_s = monotonic_s()
    try:
        connection: UpstreamConnection | None = await SUSPEND
    except DeadlinePassed as passed:
        if passed.total:
            raise AttemptFailed("connect", UPSTREAM_TIMEOUT, ends_call=True) from None
        connection = None
    finally:
        leave()
    if exchange.target is not None:
        waited_s = monotonic_s() - asked_s
        exchange.line.meters.waited_for_connection(exchange.target.provider.name, waited_s)
    if connection is None:
        raise AttemptFailed("connect", UPSTREAM_UNREACHABLE)
    exchange.caller.deadline.set(exchange.total_at_s)
    return connection


class Attempt:
    """The receiver of one answer until it is handed on."""

    __slots__ = (
        "_exchange",
        "_failure",
        "_parts",
        "_size",
        "_streams",
        "_woke",
        "answer",
        "connection",
        "speech",
        "stream",
        "told",
    )

    def __init__(self, exchange: Exchange, call: Call) -> None:
        self._exchange = exchange
        self._parts: list[bytes] = []
        self._size = 0
        self._woke = False
        self._streams = call.stream
        self._failure: UpstreamFailed | None = None
        self.answer: Answer | None = None
        self.connection: UpstreamConnection | None = None
        self.told: Told | None = None
        """The plain answer, if it was read whole."""
        self.speech: Speech = _CHAT_TO_CHAT
        self.stream: Stream | None = None

    # Receiver

    def answered(self, answer: Answer) -> None:
        self.answer = answer
        if not answer.streamed or answer.status != 200:
            self.stream = None
        if b"content-encoding" in answer.headers:
            self._check_encoding(answer)

    def _check_encoding(self, answer: Answer) -> None:
        """We asked for identity and unpack nothing: 1 MB may become 1 GB. An error's status says enough."""
        if answer.status == 200 and answer.headers[b"content-encoding"].lower() != b"identity":
            self.failed(UpstreamFailed("compressed"))

    def received(self, block: bytes) -> None:
        if self._woke:
            return
        stream = self.stream
        if stream is not None:
            try:
                block = stream.feed(block)
            except BadStream:
                self._failure = UpstreamFailed("malformed")
                self._wake()
                return
        self._parts.append(block)
        self._size += len(block)
        if stream is None:
            if self._size > (LONGEST_BYTES if self.speech.holds_all else WHOLE_BYTES):
                self._wake()
        elif stream.committed or stream.error is not None or self._size > HOLD_BYTES:
            self._wake()

    def ended(self) -> None:
        if self.answer is not None:
            self.answer.complete = True
        if self.stream is not None and not self._woke:
            try:
                self._parts.append(self.stream.finish())
            except BadStream:
                self._failure = UpstreamFailed("malformed")
        self._wake()

    def failed(self, failure: UpstreamFailed) -> None:
        self._failure = failure
        self._wake()

    def _wake(self) -> None:
        if not self._woke:
            self._woke = True
            self._exchange.wake(None)

    # the attempt

    async def make(self, target: Target, key: ProviderKey | None, model: Model) -> None:
        """Sends the request and waits until the answer may go on; then `answer`, `body` and, for a stream,
        `stream` are there. Raises `AttemptFailed`, or what ends the call itself."""
        exchange = self._exchange
        line = exchange.line
        call = exchange.call
        assert call is not None
        provider = target.provider
        admission = exchange.admission
        caller = admission.endpoint.dialect
        speech = speech_of(caller, provider.spoken_by(caller))
        self.speech = speech = speech.at(target.name, "" if key is None else key.secret, admission.key.team)
        if call.stream:
            self.stream = speech.stream(call, now_s())
        cap = exchange.claim.cap if exchange.claim is not None else None
        cap_written = None if cap is None else written(call, cap, provider.cap_field)
        body, exchange.dropped = speech.body(call, target.toward, cap_written)
        head = line.outbound.head(target, key, speech.target, call.endpoint)
        told = (admission.forwarded if speech.relays else b"") + line.tracer.context(exchange)
        request = b"%b%d\r\n%b\r\n%b" % (head, len(body), told, body)
        pool = line.outbound.pool(provider)
        connection = pool.take()
        may_be_stale = True
        while True:
            if connection is None:
                connection = await connect(exchange, pool, model)
            self.connection = connection
            connection.send(request, self)
            if call.stream:
                exchange.set_deadline(model.timeouts.first_token_s)
            try:
                await SUSPEND
            except DeadlinePassed as passed:
                connection.close()
                raise self._timed_out(passed) from None
            except CallerGone:
                # A plain answer may be read on for what it costs (`reads_on`).
                if self._streams:
                    connection.close()
                raise
            except BaseException:
                connection.close()
                raise
            finally:
                exchange.upstream_s = connection.sent_s
                exchange.first_sent_s = exchange.first_sent_s or connection.sent_s
            if may_be_stale and self._failure is not None and self._failure.stale:
                # A kept connection that the provider had closed: the request was not read, so this costs
                # nothing and counts as no retry.
                self._failure, self._woke, connection, may_be_stale = None, False, None, False
                continue
            break
        answer = self.answer
        if answer is not None:
            exchange.first_answer_s = answer.first_byte_s
            answer.headers = speech.headers(answer.headers, now_s())
        self._check()

    def reads_on(self, claim: Claim) -> bool:
        """After the caller has left: True if the answer is read on, which settles its claim; else nothing
        more comes of it."""
        connection = self.connection
        if connection is None or connection.closed:
            return False
        if claim.need is None or self._streams:
            connection.close()
            return False
        reading = ReadingOn(self._exchange, claim, connection, self.take_body(), self.speech)
        if self.answer is not None:
            reading.answered(self.answer)
        return True

    @property
    def body(self) -> bytes:
        """What has come of the body, ready to go on."""
        return self._parts[0] if len(self._parts) == 1 else b"".join(self._parts)

    def take_body(self) -> bytes:
        """The same, which is then no longer here: it would stay as long as the stream."""
        body, self._parts = self.body, []
        return body

    def _timed_out(self, passed: DeadlinePassed) -> AttemptFailed:
        if passed.total:
            return AttemptFailed("timeout", UPSTREAM_TIMEOUT, ends_call=True)
        if self.answer is not None:
            return AttemptFailed("stall", UPSTREAM_STALLED)
        return AttemptFailed("first_token", UPSTREAM_TIMEOUT)

    def _check(self) -> None:
        """Raises `AttemptFailed` unless what came is an answer for the caller."""
        failure, answer, stream = self._failure, self.answer, self.stream
        if failure is not None or answer is None:
            self._drop()
            if failure is not None and failure.what == "closed":
                raise AttemptFailed("server_error", UPSTREAM_LOST)
            raise AttemptFailed("bad_answer", UPSTREAM_BAD_ANSWER)
        if answer.status != 200:
            self._refused(answer)
        if stream is not None:
            if stream.error is not None and not stream.committed:
                self._drop()
                raise AttemptFailed(stream.error.reason, UPSTREAM_BAD_ANSWER, stream.error)
            if answer.complete and not stream.committed:
                raise AttemptFailed("bad_answer", UPSTREAM_BAD_ANSWER)
            return
        if not answer.complete:
            self._check_long(answer)
            return
        body = self.body
        fields = try_object(body)
        if fields is not None:
            error = self.speech.target.error_in_answer(fields)
            if error is not None:
                raise AttemptFailed(error.reason, UPSTREAM_BAD_ANSWER, error)
            self.told = self.speech.told(fields, body, now_s())
        if self.told is None or self._streams:
            raise AttemptFailed("bad_answer", UPSTREAM_BAD_ANSWER)

    def _check_long(self, answer: Answer) -> None:
        """What can be said of a plain answer of which only the beginning is there."""
        is_object = self.body.lstrip()[:1] == b"{"
        if (
            self._streams
            or self.speech.holds_all
            or not is_object
            or int(answer.headers.get(b"content-length", 0)) > LONGEST_BYTES
        ):
            self._drop()
            raise AttemptFailed("bad_answer", UPSTREAM_BAD_ANSWER)

    def _refused(self, answer: Answer) -> None:
        """An answer that is not 200."""
        if not answer.complete:
            self._drop()
        if answer.status < 400:
            # Redirects are not followed: targets come from the policy alone.
            raise AttemptFailed("bad_answer", UPSTREAM_BAD_ANSWER)
        error = self.speech.target.read_error(answer.status, answer.headers, self.body, now_s())
        status = answer.status if answer.complete else 0
        raise AttemptFailed(error.reason, UPSTREAM_BAD_ANSWER, error, status=status)

    def _drop(self) -> None:
        if self.connection is not None:
            self.connection.close()
