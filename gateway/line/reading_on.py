"""An answer whose caller has left and that is paid for all the same: read to its end, for its usage.

A plain answer comes whole or not at all, so cancelling it saves little, and what it costs is known only when
it is there. A stream is cancelled: what was generated of it is seen.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from gateway.clock import monotonic_s
from gateway.http.message import Answer
from gateway.http.upstream import UpstreamConnection, UpstreamFailed
from gateway.http.wheel import Deadline
from gateway.usage import Usage
from gateway.wire.dialects.openai_chat import usage_in_tail
from gateway.wire.json import try_object

if TYPE_CHECKING:
    from gateway.line.claim import Claim
    from gateway.line.exchange import Exchange
    from gateway.wire.speech import Speech

WHOLE_BYTES = 1 << 20
TAIL_BYTES = 8 * 1024
"""Of a longer answer its end is kept, in which its usage stands."""


class Left:
    """What a claim needs of a call that is over. Not the call itself: its body would stay in memory."""

    __slots__ = (
        "attempts",
        "bound",
        "cost_nanousd",
        "key",
        "line",
        "model",
        "output_bytes",
        "request_id",
        "target",
        "usage",
    )

    def __init__(self, exchange: Exchange) -> None:
        self.line = exchange.line
        self.key = exchange.key
        self.model = exchange.model
        self.target = exchange.target
        self.request_id = exchange.request_id
        self.attempts = exchange.attempts
        self.bound = exchange.bound
        self.usage: Usage | None = None
        self.cost_nanousd: int | None = None
        self.output_bytes: int | None = None

    def price(self, usage: Usage) -> int | None:
        """The cost of the answer in nano-dollars; None if the target has no price."""
        price = self.target.price if self.target is not None else None
        if self.bound is not None and self.bound.searches:
            usage.searches = self.bound.searches
        self.cost_nanousd = None if price is None else price.cost_nanousd(usage)
        return self.cost_nanousd


class ReadingOn:
    """The receiver of an answer that nobody waits for any more. Ends at the call's own deadline."""

    __slots__ = ("_body", "_claim", "_connection", "_deadline", "_is_long", "_left", "_read_usage", "_status")

    def __init__(
        self,
        exchange: Exchange,
        claim: Claim,
        connection: UpstreamConnection,
        begun: bytes,
        speech: Speech,
    ) -> None:
        self._read_usage = speech.target.read_usage
        self._left = Left(exchange)
        self._claim = claim
        self._connection = connection
        self._body = begun
        self._is_long = False
        self._status = 0
        self._deadline = Deadline(exchange.line.wheel, self._give_up)
        self._deadline.set(max(exchange.total_at_s, monotonic_s()))
        connection.receiver = self

    def answered(self, answer: Answer) -> None:
        self._status = answer.status

    def received(self, block: bytes) -> None:
        self._body += block
        if len(self._body) > WHOLE_BYTES or self._is_long:
            self._is_long = True
            self._body = self._body[-TAIL_BYTES:]

    def ended(self) -> None:
        self._deadline.retire()
        claim, left = self._claim, self._left
        if self._status >= 400 and self._status not in (408, 504):
            claim.unused(left, self._status, "refused")
            return
        if self._is_long:
            left.usage = usage_in_tail(self._body, self._read_usage)
        else:
            left.usage = self._read_usage(try_object(self._body) or {})
        if left.usage is not None:
            left.price(left.usage)
            self._count(left.usage)
        claim.used(left, self._status, "caller_gone")

    def failed(self, failure: UpstreamFailed) -> None:
        self._deadline.retire()
        self._claim.unknown(self._left, self._status, "caller_gone")

    def _give_up(self) -> None:
        """The call's own time is up. A connection that we close tells nobody."""
        self._connection.close()
        self._claim.unknown(self._left, self._status, "caller_gone")

    def _count(self, usage: Usage) -> None:
        """Its tokens and money, which the call's own end could not know."""
        left = self._left
        for (key, model, target, _), kept in left.line.kept.items():
            if key is left.key and model is left.model and target is left.target:
                kept.meters.answered(usage, left.cost_nanousd)
                return
