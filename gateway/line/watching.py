"""Which answers are looked at for drift, and how they leave the worker: as they are, and only if nobody
waits.

Whether one is looked at is decided before its first byte goes to the caller, by a coarse clock and not by
what it says. Only whole answers with a good end are sent: what a caller or a provider cut is no answer.
"""

from __future__ import annotations

import random
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from gateway.clock import now_s
from gateway.http.message import Answer
from gateway.link.answers import pack
from gateway.policy.snapshot import Watching
from gateway.telemetry.meters import Meters

if TYPE_CHECKING:
    from gateway.line.exchange import Exchange

REQUEST_BYTES = 128 << 10
"""Of longer requests the answer is not looked at: nothing could be said of its kind."""
ANSWER_BYTES = 512 << 10
"""Of a longer stream only so much is kept: 2,500 tokens, each an event of 200 bytes."""
HELD_BYTES = 16 << 20
"""What all streams under way may keep."""
_ENDPOINTS = frozenset({"chat", "completions"})


class Unwatched:
    """No answers are looked at."""

    def plain(self, exchange: Exchange, answer: Answer, body: bytes) -> None:
        """An answer that was read whole is about to be written."""

    def stream(self, exchange: Exchange, answer: Answer) -> Taken | None:
        """What is to take down the stream that begins now; None: nothing."""

    def ended(self, exchange: Exchange, ended_s: float) -> None:
        """The call is over."""


class Taken:
    """An answer that will be looked at: its first `ANSWER_BYTES`, and how long it is."""

    __slots__ = ("_watched", "headers", "kept", "parts", "size")

    def __init__(self, watched: Watched, headers: dict[str, str]) -> None:
        self._watched = watched
        self.headers = headers
        self.parts: list[bytes] = []
        self.size = self.kept = 0

    def add(self, block: bytes) -> None:
        """The next piece."""
        self.size += len(block)
        if self.size <= ANSWER_BYTES and self._watched.held < HELD_BYTES:
            self.parts.append(block)
            self.kept += len(block)
            self._watched.held += len(block)

    def close(self) -> None:
        """Nobody needs it any more."""
        self._watched.held -= self.kept
        self.kept = 0


class Watched(Unwatched):
    """Answers by one policy; `send` takes one, packed, and never waits."""

    def __init__(self, rule: Watching, workers: int, meters: Meters, send: Callable[[bytes], None]) -> None:
        self._models = rule.models
        self._share = rule.share
        self._apart_s = workers / rule.max_per_second
        self._headers = [(name, name.encode()) for name in rule.headers]
        self._meters = meters
        self._send = send
        self._next_s = float("-inf")
        self._passed_over = 0
        """Above the rate, since the last that was taken."""
        self.held = 0
        """Bytes that streams under way keep."""

    def _is_taken(self, exchange: Exchange) -> bool:
        model, call = exchange.model, exchange.call
        if model is None or call is None or model.name not in self._models or call.endpoint not in _ENDPOINTS:
            return False
        now_s = exchange.line.wheel.now_s
        if now_s < self._next_s:
            # Told with the next that is taken: told each for itself it would be half of what this costs.
            self._passed_over += 1
            return False
        if self._share < 1.0 and random.random() >= self._share:
            return False
        if self._passed_over:
            self._meters.unwatched("rate", self._passed_over)
            self._passed_over = 0
        # The wheel's clock is coarse: what it lags behind is made up for, but no burst is saved up.
        self._next_s = max(self._next_s + self._apart_s, now_s - 1.0)
        return True

    def plain(self, exchange: Exchange, answer: Answer, body: bytes) -> None:
        if self._is_taken(exchange):
            exchange.taken = taken = Taken(self, self._told(answer))
            taken.add(body)

    def stream(self, exchange: Exchange, answer: Answer) -> Taken | None:
        if not self._is_taken(exchange):
            return None
        exchange.taken = taken = Taken(self, self._told(answer))
        return taken

    def _told(self, answer: Answer) -> dict[str, str]:
        found = ((name, answer.headers.get(key)) for name, key in self._headers)
        return {name: value.decode("latin-1")[:256] for name, value in found if value is not None}

    def ended(self, exchange: Exchange, ended_s: float) -> None:
        taken = exchange.taken
        if taken is None:
            return
        parts = taken.parts
        taken.close()
        if exchange.outcome != "ok" or exchange.attempt_outcome:
            self._meters.unwatched("failed")
            return
        request = exchange.request.body
        if len(request) > REQUEST_BYTES or not parts:
            self._meters.unwatched("too_long")
            return
        self._send(pack(_head(exchange, taken, ended_s), request, b"".join(parts)))


def _head(exchange: Exchange, taken: Taken, ended_s: float) -> dict[str, Any]:
    model, target, call, usage = exchange.model, exchange.target, exchange.call, exchange.usage
    assert model is not None and target is not None and call is not None
    head: dict[str, Any] = {
        "model": model.name,
        "target": target.name,
        "endpoint": call.endpoint,
        "stream": call.stream,
        "at": now_s(),
        "took_s": ended_s - exchange.upstream_s,
    }
    if call.own is not None:
        head["dialect"] = exchange.admission.endpoint.dialect.name
    if call.stream:
        head["first_s"] = exchange.first_answer_s - exchange.upstream_s
    if usage is not None and not usage.estimated:
        head["input"], head["output"] = usage.total_input, usage.total_output
        head["reasoning"] = usage.reasoning
    if taken.size > len(b"".join(taken.parts)):
        head["bytes"] = taken.size
    if taken.headers:
        head["headers"] = taken.headers
    return head


def watched_of(
    rule: Watching | None, workers: int, meters: Meters, send: Callable[[bytes], None]
) -> Unwatched:
    """What a policy asks for."""
    return Unwatched() if rule is None or not rule.models else Watched(rule, workers, meters, send)
