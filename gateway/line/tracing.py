"""What becomes of a call as a trace: the context that its attempts carry, and the record made at its end.

Whether a call is sampled follows from its trace id, so it is known to all from the beginning; whether it
failed or was slow is known at the end, where the record is made. A call that is not kept pays for one header
and one comparison. Nothing that a caller or a provider wrote gets into a record but numbers, words of closed
lists and the name of the model that answered; unless the policy has the caller's key in `telemetry.content`.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from gateway.clock import monotonic_s, now_s
from gateway.link.traces import Answered, Origin, Same, last_began_s, pack, same
from gateway.policy.snapshot import Key, Model, Target, Traces
from gateway.telemetry.meters import Meters
from gateway.telemetry.trace_context import KEPT_STATE_BYTES, Parent, context_lines, threshold
from gateway.wire.dialects.openai_chat import OPERATIONS
from gateway.wire.json import dumps

if TYPE_CHECKING:
    from gateway.line.attempt import Attempt, AttemptFailed
    from gateway.line.exchange import Exchange
    from gateway.wire.dialect import Dialect

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
_TIERS = frozenset({"auto", "default", "flex", "scale", "priority"})
_CHOICES = {
    "service_tier": _TIERS,
    "reasoning_effort": frozenset({"none", "minimal", "low", "medium", "high", "xhigh"}),
}
"""Fields of a request that are told if they hold one of these words."""
_TOLD = _NUMBERS | _CHOICES.keys() | {"response_format"}
_REASONS = frozenset({"stop", "length", "tool_calls", "content_filter", "function_call"})
_MODEL = re.compile(r"[A-Za-z0-9][A-Za-z0-9._:/@+-]{0,127}").fullmatch
_MODELS_KNOWN, _LONGEST_MODEL = 64, 128
"""Names of answering models that need not be looked at again, for each target: 0.1 µs instead of 0.8."""
_NO_ANSWER: Answered = ("", ())
_SAMPLED, _NOT_SAMPLED = (b"traceparent: 00-%%b-%%.16b-%b\r\n" % flags for flags in (b"01", b"00"))
"""Of a first attempt in a trace of our own: its span id is the first half of the trace id."""


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


class _Shared:
    """What all calls of one key, model, target and endpoint have in common; made once per policy."""

    __slots__ = ("models", "written")

    def __init__(self, written: Same) -> None:
        self.written = written
        self.models: dict[str, str] = {}
        """A name that an answer gave for its model → the same if it may be told, else ""."""


class Traced(Untraced):
    """Traces by one policy; `send` takes a record, as a line, and never waits."""

    def __init__(self, rule: Traces, meters: Meters, send: Callable[[bytes], None]) -> None:
        self._below = threshold(rule.ratio)
        self._parent_based = rule.parent_based
        self._kept_outcomes = frozenset({"refused", "upstream_failed"} if rule.errors else ())
        self._slow_s = rule.slow_s or _NEVER_S
        self._meters = meters
        self._send = send
        self._places: dict[tuple[Target, Dialect, str], Same] = {}
        self._shared: dict[tuple[Key | None, Model | str, Target | None, Dialect, str], _Shared] = {}

    def context(self, exchange: Exchange) -> bytes:
        request_id, number = exchange.request_id, exchange.attempts
        if exchange.parent is None and number < 2:
            # Nearly all: 0.2 µs, the way below 0.4.
            return (_SAMPLED if request_id[16:] < self._below else _NOT_SAMPLED) % (request_id, request_id)
        is_sampled = self._is_sampled(exchange)
        span_id = attempt_span(request_id, number)
        if exchange.parent is None:
            return context_lines(request_id, span_id, b"", sampled=is_sampled)
        return context_lines(exchange.parent.trace_id, span_id, exchange.parent.state, sampled=is_sampled)

    def _is_sampled(self, exchange: Exchange) -> bool:
        parent = exchange.parent
        if parent is None:
            return exchange.request_id[16:] < self._below
        return parent.sampled if self._parent_based else parent.trace_id[16:] < self._below

    def failed(self, exchange: Exchange, attempt: Attempt, failure: AttemptFailed, step: str) -> None:
        ended_s = monotonic_s()
        assert exchange.target is not None and exchange.call is not None
        told = {
            "number": exchange.attempts,
            "to": self._place(exchange.target, exchange.admission.endpoint.dialect, exchange.call.endpoint),
            "start": last_began_s(exchange.started_s, exchange.dialled_s, exchange.upstream_s, exchange.story)
            - exchange.started_s,
            "end": ended_s - exchange.started_s,
            "outcome": failure.reason or "refused",
            "status": 0 if attempt.answer is None else attempt.answer.status,
            "then": step,
        }
        exchange.story = [*exchange.story, told]

    def skipped(self, exchange: Exchange, target: Target, reason: str) -> None:
        at = monotonic_s() - exchange.started_s
        told = {"target": target.name, "end": at, "outcome": reason, "then": "fall_back"}
        exchange.story = [*exchange.story, told]

    def ended(self, exchange: Exchange, ended_s: float) -> None:
        if exchange.request_id[16:] < self._below if exchange.parent is None else self._is_sampled(exchange):
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
        self._send(self._packed(exchange, ended_s, why))

    def _more(self, exchange: Exchange, why: str) -> dict[str, Any] | None:
        """What few records have."""
        passes = exchange.admission.endpoint.passing is not None
        if not exchange.story and not passes:
            return None
        more: dict[str, Any] = {}
        if exchange.story:
            more["story"] = exchange.story
        if passes:
            more["method"] = exchange.request.head.method.decode()
        return more

    def _place(self, target: Target, caller: Dialect, endpoint: str) -> Same:
        """Where an attempt goes; made once per policy."""
        found = self._places.get((target, caller, endpoint))
        if found is None:
            provider = target.provider
            url = f"{provider.scheme}://{provider.authority}{provider.base_path}"
            found = self._places[target, caller, endpoint] = same(
                {
                    "target": target.name,
                    "model": target.model,
                    "provider": provider.otel_name,
                    "host": provider.host,
                    "port": provider.port,
                    "url": url + (provider.spoken_by(caller).path_of(endpoint) or ""),
                }
            )
        return found

    def _share(self, exchange: Exchange, endpoint: str) -> _Shared:
        key, target, caller = exchange.key, exchange.target, exchange.admission.endpoint.dialect
        assert key is not None and exchange.snapshot is not None
        members: dict[str, Any] = {
            "operation": OPERATIONS.get(endpoint, endpoint),
            "model": exchange.model_label,
            "team": key.team,
            "key": key.name,
            "policy": exchange.snapshot.hash,
        }
        if target is not None:
            members["to"] = self._place(target, caller, endpoint)
        index = (key, exchange.model or exchange.model_label, target, caller, endpoint)
        found = self._shared[index] = _Shared(same(members))
        return found

    def _packed(self, exchange: Exchange, ended_s: float, why: str) -> bytes:
        # As few calls as can be: between the other things that a call does each costs twice of what it does
        # in a loop of its own.
        parent, call, usage, target = exchange.parent, exchange.call, exchange.usage, exchange.target
        asked = exchange.admission.endpoint
        endpoint = asked.kind if call is None else call.endpoint
        index = (exchange.key, exchange.model or exchange.model_label, target, asked.dialect, endpoint)
        shared = self._shared.get(index) or self._share(exchange, endpoint)
        began_s, first_s = exchange.started_s, exchange.first_token_s
        return pack(
            (
                shared.written,
                exchange.request_id.decode(),
                now_s(),
                (began_s, exchange.dialled_s, exchange.upstream_s, first_s, ended_s),
                exchange.outcome,
                exchange.error_type,
                exchange.attempt_outcome,
                exchange.status,
                exchange.attempts,
                exchange.cost_nanousd,
                None if parent is None else _origin(parent),
                None if call is None else (call.stream, _asked(call.fields)),
                None
                if usage is None
                else (
                    usage.estimated,
                    usage.by_kind(),
                    usage.service_tier if usage.service_tier in _TIERS else "",
                ),
                _NO_ANSWER if target is None else _answered(exchange, target, shared.models),
                self._more(exchange, why),
            )
        )


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

    def _more(self, exchange: Exchange, why: str) -> dict[str, Any] | None:
        more = super()._more(exchange, why)
        if exchange.key is None or exchange.key.name not in self._keys or why != "sampled":
            return more
        if exchange.call is None or not exchange.call.fields:
            return more
        more = more or {}
        asked, recording = exchange.request.body, exchange.recording
        if exchange.call.own is not None:
            more["dialect"] = exchange.admission.endpoint.dialect.name
        answered = b"" if exchange.answer is None else dumps(exchange.answer)
        if recording is not None:
            answered = recording.data
        too_long = len(asked) > self._most or len(answered) > self._most
        if too_long or (recording is not None and recording.too_long):
            more["too_long"] = True
        more["request"] = asked.decode(errors="replace") if len(asked) <= self._most else ""
        more["answer"] = answered.decode(errors="replace") if len(answered) <= self._most else ""
        return more


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


def _origin(parent: Parent) -> Origin:
    state = parent.state.decode("latin-1") if len(parent.state) <= KEPT_STATE_BYTES else ""
    return parent.trace_id.decode(), parent.span_id.decode(), state


def _asked(fields: Mapping[str, Any]) -> dict[str, object]:
    """What a call asked for besides its content."""
    asked: dict[str, object] = {}
    for name in fields:
        if name in _TOLD:
            value = fields[name]
            if name in _NUMBERS:
                if type(value) is int or type(value) is float:
                    asked[name] = value
            elif name == "response_format":
                if type(value) is dict and value.get("type") in ("json_object", "json_schema"):
                    asked["json"] = True
            elif type(value) is str and value in _CHOICES[name]:
                asked[name] = value
    return asked


def _answered(exchange: Exchange, target: Target, models: dict[str, str]) -> Answered:
    """Which model answered, and why it stopped."""
    answer, stream = exchange.answer, exchange.stream
    reasons: Sequence[str]
    if answer is not None:
        model: object = answer.get("model")
        choices = answer.get("choices")
        if type(choices) is list and len(choices) == 1 and type(choices[0]) is dict:
            # Nearly all.
            reason = choices[0].get("finish_reason")
            reasons = (reason,) if type(reason) is str and reason in _REASONS else ()
        else:
            reasons = _reasons(choices)
    elif stream is not None:
        model = stream.model
        reasons = [reason for reason in stream.finish_reasons() if reason in _REASONS]
    else:
        return _NO_ANSWER
    if type(model) is not str:
        return "", reasons
    told = models.get(model)
    return (_may_be_told(model, target, models) if told is None else told), reasons


def _reasons(choices: object) -> list[str]:
    """Of several choices; whatever else is there is passed over."""
    told = choices if type(choices) is list else ()
    found = [choice.get("finish_reason") for choice in told if type(choice) is dict]
    return [reason for reason in found if type(reason) is str and reason in _REASONS]


def _may_be_told(model: str, target: Target, models: dict[str, str]) -> str:
    """The name of a model if it looks like one; "" if not, or if a secret of its provider's is in it."""
    is_name = _MODEL(model) and not any(secret in model for secret in target.provider.secrets)
    told = model if is_name else ""
    if len(models) < _MODELS_KNOWN and len(model) <= _LONGEST_MODEL:
        models[model] = told
    return told
