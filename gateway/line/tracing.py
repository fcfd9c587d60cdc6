"""What becomes of a call as a trace: the context that its attempts carry, and the record made at its end.

Whether a call is sampled follows from its trace id, so it is known to all from the beginning; whether it
failed or was slow is known at the end, where the record is made. A call that is not kept pays for one header
and one comparison. Nothing that a caller or a provider wrote gets into a record but numbers, words of closed
lists and the name of the model that answered; unless the policy has the caller's key in `telemetry.content`.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

from gateway.clock import monotonic_s, now_s
from gateway.policy.snapshot import Target, Traces
from gateway.telemetry.meters import Meters
from gateway.telemetry.trace_context import KEPT_STATE_BYTES, context_lines, threshold
from gateway.wire.dialects.openai_chat import OPERATIONS
from gateway.wire.json import dumps

if TYPE_CHECKING:
    from gateway.line.attempt import Attempt, AttemptFailed
    from gateway.line.exchange import Exchange

_NEVER_S = float("inf")
_NUMBERS = frozenset(
    {
        "temperature",
        "top_p",
        "top_k",
        "max_tokens",
        "max_completion_tokens",
        "frequency_penalty",
        "presence_penalty",
        "seed",
        "n",
        "dimensions",
    }
)
"""Fields of a request that are told if they are numbers."""
_CHOICES = {
    "service_tier": frozenset({"auto", "default", "flex", "scale", "priority"}),
    "reasoning_effort": frozenset({"none", "minimal", "low", "medium", "high", "xhigh"}),
}
"""Fields of a request that are told if they hold one of these words."""
_TOLD = _NUMBERS | _CHOICES.keys()
_REASONS = frozenset({"stop", "length", "tool_calls", "content_filter", "function_call"})
_MODEL = re.compile(r"[A-Za-z0-9][A-Za-z0-9._:/@+-]{0,127}").fullmatch


class Untraced:
    """Nobody takes traces: what callers send of a trace goes on to providers as it came."""

    def context(self, exchange: Exchange) -> bytes:
        """The header lines that an attempt carries."""
        return exchange.admission.context

    def failed(self, exchange: Exchange, attempt: Attempt, failure: AttemptFailed, step: str) -> None:
        """An attempt failed, and `step` (of `routing.retry`) follows."""

    def skipped(self, exchange: Exchange, target: Target, reason: str) -> None:
        """No attempt is made at a target, and the next one follows: its limits let none through, or it cannot
        be told what the call says."""

    def recording(self, exchange: Exchange) -> Recording | None:
        """What is to take down the stream that begins now; None for nearly all."""

    def ended(self, exchange: Exchange, ended_s: float) -> None:
        """The call is over."""


class Recording:
    """A stream as it went to its caller; empty and `too_long` above `most` bytes."""

    __slots__ = ("_most", "_parts", "_size", "too_long")

    def __init__(self, most: int) -> None:
        self._most = most
        self._parts: list[bytes] = []
        self._size = 0
        self.too_long = False

    def add(self, block: bytes) -> None:
        """The next piece."""
        self._size += len(block)
        if self._size <= self._most:
            self._parts.append(block)
        else:
            self._parts, self.too_long = [], True

    @property
    def data(self) -> bytes:
        """All of it."""
        return b"".join(self._parts)


class Traced(Untraced):
    """Traces by one policy; `send` takes a record, as a line, and never waits."""

    def __init__(self, rule: Traces, meters: Meters, send: Callable[[bytes], None]) -> None:
        self._below = threshold(rule.ratio)
        self._parent_based = rule.parent_based
        self._kept_outcomes = frozenset({"refused", "upstream_failed"} if rule.errors else ())
        self._slow_s = rule.slow_s or _NEVER_S
        self._meters = meters
        self._send = send
        self._places: dict[tuple[Target, str], dict[str, object]] = {}

    def context(self, exchange: Exchange) -> bytes:
        parent, request_id = exchange.parent, exchange.request_id
        span_id = attempt_span(request_id, exchange.attempts)
        if parent is None:
            return context_lines(request_id, span_id, b"", sampled=request_id[16:] < self._below)
        return context_lines(parent.trace_id, span_id, parent.state, sampled=self._is_sampled(exchange))

    def _is_sampled(self, exchange: Exchange) -> bool:
        parent = exchange.parent
        if parent is None:
            return exchange.request_id[16:] < self._below
        return parent.sampled if self._parent_based else parent.trace_id[16:] < self._below

    def failed(self, exchange: Exchange, attempt: Attempt, failure: AttemptFailed, step: str) -> None:
        story = exchange.story
        ended_s = monotonic_s()
        after_s = exchange.started_s + story[-1]["end"] if story else exchange.started_s
        assert exchange.target is not None and exchange.call is not None
        told = {
            "number": exchange.attempts,
            "to": self._place(exchange.target, exchange.call.endpoint),
            "start": _began_s(exchange, after_s) - exchange.started_s,
            "end": ended_s - exchange.started_s,
            "outcome": failure.reason or "refused",
            "status": 0 if attempt.answer is None else attempt.answer.status,
            "then": step,
        }
        exchange.story = [*story, told]

    def skipped(self, exchange: Exchange, target: Target, reason: str) -> None:
        at = monotonic_s() - exchange.started_s
        told = {"target": target.name, "end": at, "outcome": reason, "then": "fall_back"}
        exchange.story = [*exchange.story, told]

    def ended(self, exchange: Exchange, ended_s: float) -> None:
        if self._is_sampled(exchange):
            why = "sampled"
        elif exchange.outcome in self._kept_outcomes:
            why = "error"
        elif ended_s - exchange.started_s > self._slow_s:
            why = "slow"
        else:
            return
        if exchange.key is None or exchange.admission.endpoint.kind == "models":
            # Who is not known, or asks no model, is in the log and the metrics: a flood of such would be all
            # that traces show.
            return
        self._meters.traced(why)
        record = self._record(exchange, ended_s)
        self._add_content(exchange, record, why)
        self._send(dumps(record) + b"\n")

    def _add_content(self, exchange: Exchange, record: dict[str, Any], why: str) -> None:
        """Nobody's."""

    def _place(self, target: Target, endpoint: str) -> dict[str, object]:
        """Where an attempt goes; made once per policy."""
        found = self._places.get((target, endpoint))
        if found is None:
            provider = target.provider
            found = self._places[target, endpoint] = {
                "target": target.name,
                "model": target.model,
                "provider": provider.otel_name,
                "host": provider.host,
                "port": provider.port,
                "url": f"{provider.scheme}://{provider.authority}{provider.base_path}"
                + (provider.speaks.path_of(endpoint) or ""),
            }
        return found

    def _record(self, exchange: Exchange, ended_s: float) -> dict[str, Any]:
        """Times are seconds since the call's start, but for `ended`, which is the time of day."""
        key, call, target, usage = exchange.key, exchange.call, exchange.target, exchange.usage
        parent, started_s = exchange.parent, exchange.started_s
        request_id = exchange.request_id.decode()
        assert key is not None and exchange.snapshot is not None
        endpoint = exchange.admission.endpoint.kind if call is None else call.endpoint
        record: dict[str, Any] = {
            "trace": request_id,
            "span": request_id[16:],
            "first": request_id[:16],
            "ended": now_s(),
            "took": ended_s - started_s,
            "operation": OPERATIONS.get(endpoint, endpoint),
            "model": exchange.model_label,
            "team": key.team,
            "key": key.name,
            "policy": exchange.snapshot.hash,
            "outcome": exchange.outcome,
            "error": exchange.error_type,
            "status": exchange.status,
            "attempts": exchange.attempts,
            "cost_nanousd": exchange.cost_nanousd,
        }
        if parent is not None:
            record["request_id"] = request_id
            record["trace"] = parent.trace_id.decode()
            record["parent"] = parent.span_id.decode()
            if parent.state and len(parent.state) <= KEPT_STATE_BYTES:
                record["state"] = parent.state.decode("latin-1")
        if call is not None:
            record["stream"] = call.stream
            record["asked"] = _asked(call.fields)
        if exchange.admission.endpoint.passing is not None:
            record["method"] = exchange.request.head.method.decode()
        if exchange.story:
            record["story"] = exchange.story
        if target is not None:
            after_s = started_s + exchange.story[-1]["end"] if exchange.story else started_s
            record["to"] = self._place(target, endpoint)
            record["start"] = _began_s(exchange, after_s) - started_s
            record["last"] = exchange.attempt_outcome
        if exchange.first_token_s:
            record["first_token"] = exchange.first_token_s - started_s
        if usage is not None:
            record["estimated"] = usage.estimated
            record["usage"] = usage.by_kind()
            if usage.service_tier in _CHOICES["service_tier"]:
                record["tier"] = usage.service_tier
        if target is not None:
            _add_answer(exchange, target, record)
        return record


class TracedWithContent(Traced):
    """As `Traced`, and the sampled calls of some keys are kept with what was asked and answered."""

    def __init__(self, rule: Traces, meters: Meters, send: Callable[[bytes], None]) -> None:
        super().__init__(rule, meters, send)
        self._keys = rule.content_keys
        self._most = rule.content_bytes

    def recording(self, exchange: Exchange) -> Recording | None:
        key = exchange.key
        is_kept = key is not None and key.name in self._keys and self._is_sampled(exchange)
        return Recording(self._most) if is_kept else None

    def _add_content(self, exchange: Exchange, record: dict[str, Any], why: str) -> None:
        if exchange.key is None or exchange.key.name not in self._keys or why != "sampled":
            return
        if exchange.call is None or not exchange.call.fields:
            return
        asked, recording = exchange.request.body, exchange.recording
        if exchange.call.own is not None:
            record["dialect"] = exchange.admission.endpoint.dialect.name
        answered = b"" if exchange.answer is None else dumps(exchange.answer)
        if recording is not None:
            answered = recording.data
        too_long = len(asked) > self._most or len(answered) > self._most
        if too_long or (recording is not None and recording.too_long):
            record["too_long"] = True
        record["request"] = asked.decode(errors="replace") if len(asked) <= self._most else ""
        record["answer"] = answered.decode(errors="replace") if len(answered) <= self._most else ""


def tracer_of(rule: Traces | None, meters: Meters, send: Callable[[bytes], None]) -> Untraced:
    """What a policy asks for."""
    if rule is None:
        return Untraced()
    return (TracedWithContent if rule.content_keys else Traced)(rule, meters, send)


def attempt_span(request_id: bytes, number: int) -> bytes:
    """The span id of an attempt, counted from 1. The call's own is the other half of its request id."""
    if number < 2:
        return request_id[:16]
    return b"%016x" % ((int(request_id[:16], 16) + number - 1) % 2**64)


def _began_s(exchange: Exchange, after_s: float) -> float:
    """When the last attempt began that followed `after_s`: it dialled, or had a connection and sent."""
    for at_s in (exchange.dialled_s, exchange.upstream_s):
        if at_s >= after_s:
            return at_s
    return after_s


def _asked(fields: Mapping[str, Any]) -> dict[str, object]:
    """What a call asked for besides its content."""
    asked: dict[str, object] = {}
    for name in fields.keys() & _TOLD:
        value = fields[name]
        if name in _NUMBERS:
            if type(value) in (int, float):
                asked[name] = value
        elif type(value) is str and value in _CHOICES[name]:
            asked[name] = value
    form = fields.get("response_format")
    if type(form) is dict and form.get("type") in ("json_object", "json_schema"):
        asked["json"] = True
    return asked


def _add_answer(exchange: Exchange, target: Target, record: dict[str, Any]) -> None:
    """Which model answered, and why it stopped."""
    answer, stream = exchange.answer, exchange.stream
    if answer is not None:
        model: object = answer.get("model")
        choices = answer.get("choices")
        reasons: list[Any] = [
            choice.get("finish_reason")
            for choice in (choices if type(choices) is list else ())
            if type(choice) is dict
        ]
    elif stream is not None:
        model, reasons = stream.model, stream.finish_reasons()
    else:
        return
    if (
        type(model) is str
        and _MODEL(model)
        and not any(secret in model for secret in target.provider.secrets)
    ):
        record["answered_by"] = model
    told = [reason for reason in reasons if type(reason) is str and reason in _REASONS]
    if told:
        record["reasons"] = told
