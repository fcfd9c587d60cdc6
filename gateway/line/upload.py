"""A form on its way from a caller to a provider: checked as it passes, never held whole.

What was not checked does not go on, and a form that fails a check is never completed: the provider's
connection closes before its last boundary.
"""

from __future__ import annotations

from collections.abc import Callable

from gateway.errors import BAD_FORM, TOO_LARGE, GatewayError
from gateway.http.message import chunk
from gateway.http.upstream import UpstreamConnection
from gateway.line.exchange import SUSPEND, Exchange
from gateway.wire.form import BadForm, FormScanner

HOLD_BYTES = 64 * 1024
"""So much of a form is waited for before its provider hears of it: what is refused early costs nothing."""


class Upload:
    """One form. `check` is asked of every (name, value) field and raises `GatewayError`."""

    def __init__(
        self, exchange: Exchange, boundary: bytes, check: Callable[[str, str], None], *, max_bytes: int
    ) -> None:
        self._exchange = exchange
        self._scanner = FormScanner(boundary, plain=frozenset({b"model"}))
        self._check = check
        self._max_bytes = max_bytes
        self._held: list[bytes] = []
        self._connection: UpstreamConnection | None = None
        self._chunked = False
        self._begun = False
        self._waiting = False
        self._error: GatewayError | None = None
        self.size = 0
        """Bytes so far."""
        self.ended = False

    async def begin(self) -> None:
        """Takes the body over and waits until enough of it is there. Raises what is wrong with it."""
        caller = self._exchange.caller
        caller.send_continue(self._exchange.request)
        caller.stream_body(self)
        self._begun = True
        if self._error is not None:
            raise self._error
        if not self.ended and self.size <= HOLD_BYTES:
            self._waiting = True
            await SUSPEND
        if not self.ended:
            caller.pause_body(self._exchange.total_at_s)

    def flow(self, connection: UpstreamConnection, *, chunked: bool) -> None:
        """The head is sent: from now on all goes to the provider."""
        self._connection, self._chunked = connection, chunked
        held, self._held = b"".join(self._held), []
        if not self.ended:
            connection.upload = self
        self._send(held, last=self.ended)
        self.resume()

    # http.caller.BodySink

    def part(self, block: bytes) -> None:
        self.size += len(block)
        try:
            if self.size > self._max_bytes:
                raise GatewayError(TOO_LARGE)
            for name, value in self._scanner.feed(block):
                self._check(name, value)
        except BadForm as bad:
            self._fail(GatewayError(BAD_FORM, f"The body is not a valid form: {bad}."))
        except GatewayError as error:
            self._fail(error)
        else:
            if self._connection is None:
                self._held.append(block)
                if self.size > HOLD_BYTES:
                    self._ready()
            else:
                self._send(block, last=False)

    def end(self) -> None:
        if not self._scanner.ended:
            self._fail(GatewayError(BAD_FORM, "The body is not a valid form: its end is missing."))
            return
        self.ended = True
        self._exchange.caller.deadline.set(self._exchange.total_at_s)
        if self._connection is None:
            self._ready()
        else:
            self._connection.upload = None
            self._send(b"", last=True)

    # http.upstream.Upload

    def pause(self) -> None:
        if not self.ended:
            self._exchange.caller.pause_body(self._exchange.total_at_s)

    def resume(self) -> None:
        if not self.ended:
            self._exchange.caller.resume_body()

    def _send(self, block: bytes, *, last: bool) -> None:
        data = chunk(block, last=last) if self._chunked else block
        if data and self._connection is not None:
            self._connection.send_more(data)

    def _ready(self) -> None:
        if self._waiting:
            self._waiting = False
            self._exchange.wake(None)

    def _fail(self, error: GatewayError) -> None:
        if self._error is not None:
            return
        self._error = error
        # Before the call waits it runs: it looks for itself.
        if self._begun:
            self._exchange.fail(error)
