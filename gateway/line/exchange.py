"""One call on its way through the line, and how it waits.

The line is written as coroutines, but no Task runs them: a call steps on when a connection, a timer or
the caller wakes it, straight from that callback (a Task and its Future cost 2.3 µs a call, this 0.3).
Deadlines and a leaving caller arrive as exceptions at the point where the call waits.
"""

from __future__ import annotations

import asyncio
import random
from collections.abc import Coroutine, Generator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from gateway.clock import monotonic_s
from gateway.errors import CallerGone, GatewayError, Kind
from gateway.telemetry.meters import NONE, OTHER

if TYPE_CHECKING:
    from gateway.http.caller import CallerConnection
    from gateway.http.message import Request
    from gateway.line.admission import Admission
    from gateway.line.claim import Claim
    from gateway.line.keepalive import KeepAlive
    from gateway.line.stored import Pinned
    from gateway.line.tracing import Recording
    from gateway.line.watching import Taken
    from gateway.line.worker import Line
    from gateway.policy.decide import Facts
    from gateway.policy.snapshot import Key, Model, Snapshot, Target
    from gateway.quota.bound import Bound
    from gateway.quota.hold import Hold
    from gateway.telemetry.trace_context import Parent
    from gateway.usage import Usage
    from gateway.wire.dialects.openai_chat import Call
    from gateway.wire.speech import Stream


class DeadlinePassed(Exception):
    """A deadline came while the call waited. `total` is True if it was that of the whole call."""

    def __init__(self, *, total: bool) -> None:
        super().__init__("deadline")
        self.total = total


class _Suspend:
    """`await SUSPEND` gives up control until `Exchange.wake`."""

    __slots__ = ()

    def __await__(self) -> Generator[None, Any, Any]:
        return (yield)


SUSPEND = _Suspend()


class Pausable:
    """What a slow caller stops: the relay of its answer."""

    __slots__ = ()

    def pause(self) -> None:
        """The caller takes nothing more for now."""

    def resume(self) -> None:
        """The caller takes again."""


_NOTHING = Pausable()


class Exchange:
    """Everything learnt about one call, filled in along the line.

    Times are seconds of `monotonic_s`, 0.0 if that point was not reached.
    """

    # In slots, what every call has; the rest is attributes, of which CPython 3.11 keeps up to 30 of a class
    # in the object itself: with more it makes each call a dictionary of 2 KB (0.5 µs, and slower to read).
    __slots__ = (
        "__dict__",
        "_coroutine",
        "admission",
        "caller",
        "facts",
        "limits",
        "line",
        "request",
        "request_id",
        "snapshot",
        "started_s",
    )
    # Class attributes are defaults: what a call does not reach is not paid for (0.03 µs each).
    call: Call | None = None
    key: Key | None = None
    model: Model | None = None
    target: Target | None = None
    usage: Usage | None = None
    cost_nanousd: int | None = None
    attempts = retries = fallbacks = 0
    status = 0
    outcome = "ok"
    error_type = ""
    attempt_outcome = ""
    """What the last attempt failed of after the commit point; "" if it did not."""
    first_sent_s = first_answer_s = first_written_s = first_token_s = upstream_s = total_at_s = 0.0
    relay: Pausable = _NOTHING
    claim: Claim | None = None
    """What the attempt under way has of limits and budgets."""
    slots: Hold | None = None
    """The calls at once that this call is one of, until it ends."""
    is_counted = False
    """True once the call has been counted as one, by its first attempt that was let through."""
    bound: Bound | None = None
    """How much its input can be at most, once something asked for that."""
    pinned: Pinned | None = None
    """Where the stored answer is that it follows: it goes there only."""
    output_bytes: int | None = None
    """The content of an answer whose usage is not known: at most so many tokens came. None: not known."""
    dropped: tuple[str, ...] = ()
    """Names of what could not be said to the target, and was left out."""
    own_lines = b""
    """Headers for the caller that tell what limits did to the call."""
    tells_rates = False
    """True if `own_lines` tell what is left of rates; the provider's are not the caller's then."""
    is_degraded = False
    """True once it was let through without the store."""
    keep_alive: KeepAlive | None = None
    """The signs of life of a stream whose first attempt failed."""
    parent: Parent | None = None
    """The caller's own span that this call belongs to."""
    answer: Mapping[str, Any] | None = None
    """The plain answer as parsed, if it was read whole."""
    stream: Stream | None = None
    recording: Recording | None = None
    """The stream as it went out, for a trace with content."""
    taken: Taken | None = None
    """The answer, if it is to be looked at for drift."""
    story: Sequence[dict[str, Any]] = ()
    """Attempts that failed and targets that were full, for a trace."""
    dialled_s = 0.0
    """When an attempt last asked for a new connection."""
    admission: Admission
    facts: Facts

    def __init__(self, line: Line, caller: CallerConnection, request: Request) -> None:
        self.line = line
        self.caller = caller
        self.request = request
        self.snapshot: Snapshot | None = line.snapshot
        self.limits = line.limits
        self.request_id = b"%032x" % random.getrandbits(128)
        self.started_s = request.received_s or monotonic_s()
        self._coroutine: Coroutine[None, Any, None] | None = None

    @property
    def model_label(self) -> str:
        """The model's name where names come from the policy alone: a name that the caller gave, if the policy
        knows it (it may be refused to this caller)."""
        return self.asked_label if self.model is None else self.model.name

    @property
    def asked_label(self) -> str:
        """The same of the name that the caller gave, whatever became of it."""
        call, snapshot = self.call, self.snapshot
        if call is None or snapshot is None or not call.model:
            return NONE
        return call.model if call.model in snapshot.models else OTHER

    def mark_written(self) -> None:
        """The answer's first byte goes to the caller now: the commit point."""
        self.first_written_s = monotonic_s()
        self.status = 200

    def price(self, usage: Usage) -> int | None:
        """The cost of the answer in nano-dollars, kept for the log; None if the target has no price."""
        price = self.target.price if self.target is not None else None
        if self.bound is not None and self.bound.searches:
            usage.searches = self.bound.searches
        self.cost_nanousd = None if price is None else price.cost_nanousd(usage)
        return self.cost_nanousd

    def failed_after_commit(self, error_type: str) -> None:
        """The provider failed, or we had to stop, when the status was already sent."""
        self.outcome = "upstream_failed" if error_type.startswith("provider_") else "refused"
        self.error_type = error_type

    # how a call waits

    def run(self, coroutine: Coroutine[None, Any, None]) -> None:
        """Runs the call up to its first wait."""
        self._coroutine = coroutine
        self.wake(None)

    def wake(self, value: object) -> None:
        """Goes on where the call waits; `value` is what its `await SUSPEND` returns."""
        if self._coroutine is not None:
            try:
                self._coroutine.send(value)
            except StopIteration:
                self._coroutine = None
            except BaseException:
                self._coroutine = None
                raise

    def fail(self, error: BaseException) -> None:
        """Goes on where the call waits, with an exception."""
        if self._coroutine is not None:
            try:
                self._coroutine.throw(error)
            except StopIteration:
                self._coroutine = None
            except BaseException:
                self._coroutine = None
                raise

    async def sleep(self, seconds: float) -> None:
        """Waits. Ends early, with their exception, when the caller leaves or the deadline passes."""
        timer = asyncio.get_running_loop().call_later(seconds, self.wake, None)
        try:
            await SUSPEND
        finally:
            timer.cancel()

    async def body(self) -> bytes:
        """The whole body of the request. Raises `GatewayError` (408, 413, 503) or `CallerGone`."""
        request = self.request
        if not request.complete:
            self.caller.send_continue(request)
            await SUSPEND
            self.started_s = request.received_s
        return request.body

    def set_deadline(self, seconds: float) -> None:
        """The next wait may take this long; the deadline of the whole call stays in force."""
        at_s = monotonic_s() + seconds
        self.caller.deadline.set(min(at_s, self.total_at_s))

    # what the caller's connection tells

    def body_arrived(self) -> None:
        self.wake(None)

    def body_failed(self, kind: Kind) -> None:
        self.fail(GatewayError(kind))

    def caller_left(self) -> None:
        self.fail(CallerGone())

    def deadline_passed(self) -> None:
        total = monotonic_s() >= self.total_at_s - 0.05
        self.fail(DeadlinePassed(total=total))

    def pause(self) -> None:
        self.relay.pause()

    def resume(self) -> None:
        self.relay.resume()
