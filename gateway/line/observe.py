"""The end of a call: counted, logged, forgotten. Nothing here waits for anything."""

from __future__ import annotations

import time

from gateway.clock import monotonic_s, now_s
from gateway.line.exchange import Exchange
from gateway.policy.snapshot import Key, Model, Target
from gateway.telemetry.meters import NONE, CallLabels
from gateway.wire.dialects.openai_chat import OPERATIONS
from gateway.wire.json import dumps

_second = (0, b"")
"""The last whole second and its text: formatting a time costs 1 µs, this 0.1."""


def timestamp(at_s: float) -> bytes:
    """RFC 3339 in UTC with milliseconds."""
    global _second
    whole = int(at_s)
    if whole != _second[0]:
        _second = (whole, time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(whole)).encode())
    return b"%b.%03dZ" % (_second[1], (at_s - whole) * 1000)


class Kept:
    """What all calls of one key, model, target and endpoint share when they end; made once per policy."""

    __slots__ = ("meters", "names")

    def __init__(
        self, exchange: Exchange, key: Key, model: Model, target: Target, endpoint: str, asked: str
    ) -> None:
        labels = CallLabels(
            key.team,
            key.name,
            model.name,
            target.name,
            target.model,
            target.provider.otel_name,
            OPERATIONS.get(endpoint, endpoint),
        )
        self.meters = exchange.line.meters.of_calls(labels)
        self.names = _names(key, model.name, target, endpoint, asked)
        """The names of the call as JSON members, escaped."""


def _kept(exchange: Exchange) -> Kept | None:
    """None for a call that reached no target."""
    target, call, key, model = exchange.target, exchange.call, exchange.key, exchange.model
    if target is None or call is None or key is None or model is None:
        return None
    kept = exchange.line.kept
    kind = call.endpoint
    if call.model != model.name:
        # A route, or a spent budget, led elsewhere than the caller asked for.
        kind = f"{kind} {exchange.asked_label}"
    index = (key, model, target, kind)
    found = kept.get(index)
    if found is None:
        asked = exchange.asked_label
        found = kept[index] = Kept(exchange, key, model, target, call.endpoint, asked)
    return found


def observe(exchange: Exchange) -> None:
    """Counts and logs a call that has ended, whichever way."""
    line = exchange.line
    line.exchanges.discard(exchange)
    ended_s = monotonic_s()
    kept = _kept(exchange)
    overhead_s = None
    if exchange.first_written_s and exchange.first_sent_s:
        overhead_s = _overhead_s(exchange)
        line.meters.overhead.observe(overhead_s)
    if kept is None:
        _count_refused(exchange)
    else:
        _count(exchange, kept, ended_s)
    line.log(_record(exchange, kept, ended_s - exchange.started_s, overhead_s))
    line.tracer.ended(exchange, ended_s)
    line.watched.ended(exchange, ended_s)


def _count(exchange: Exchange, kept: Kept, ended_s: float) -> None:
    """A call that reached a target."""
    meters, usage = kept.meters, exchange.usage
    duration_s = ended_s - exchange.started_s
    if usage is not None:
        meters.answered(usage, exchange.cost_nanousd)
    elif exchange.cost_nanousd:
        meters.charged(exchange.cost_nanousd)
    if usage is not None or exchange.first_written_s:
        if exchange.attempt_outcome:
            labels = meters.labels
            exchange.line.meters.attempt_failed(labels.model, labels.target, exchange.attempt_outcome)
            if exchange.attempt_outcome == "stall":
                exchange.line.meters.stalled(labels.model, labels.target)
        else:
            meters.attempted()
        if usage is not None and exchange.first_token_s:
            later = usage.total_output - 1
            per_token_s = (ended_s - exchange.first_token_s) / later if later > 0 else None
            meters.streamed(exchange.first_token_s - exchange.started_s, per_token_s)
    if exchange.outcome == "ok":
        meters.finished(duration_s, ended_s - exchange.upstream_s)
        return
    labels, failed = meters.labels, exchange.line.meters
    failed.failed_operation(labels, exchange.error_type, duration_s)
    failed.failed(labels.team, labels.key, labels.model, labels.target, exchange.outcome, exchange.error_type)


def _count_refused(exchange: Exchange) -> None:
    """A call that reached none: refused, or answered by Headgate itself."""
    key = exchange.key
    exchange.line.meters.failed(
        NONE if key is None else key.team,
        NONE if key is None else key.name,
        exchange.model_label,
        NONE,
        exchange.outcome,
        exchange.error_type,
    )


def _overhead_s(exchange: Exchange) -> float:
    """What Headgate itself added: from the last byte of the request to the first byte sent upstream, and
    from the first byte of the answer to the first byte for the caller."""
    return (exchange.first_sent_s - exchange.started_s) + (exchange.first_written_s - exchange.first_answer_s)


def _record(exchange: Exchange, kept: Kept | None, duration_s: float, overhead_s: float | None) -> bytes:
    """The log line: names, numbers and closed lists; nothing that a caller or a provider wrote.

    Put together from a template: 1 µs instead of 2.5 for a dict and its serialisation.
    """
    usage, cost = exchange.usage, exchange.cost_nanousd
    return b"""{"time":"%b","request_id":"%b"%b,%b,"status":%d,"outcome":"%b","error_type":%b,"stream":%b,\
"attempts":%d,%b,"cost_nanousd":%b,"usage_source":"%b","duration_ms":%.3f,"first_token_ms":%b,\
"overhead_ms":%b}
""" % (
        timestamp(now_s()),
        exchange.request_id,
        b"" if exchange.parent is None else b',"trace_id":"%b"' % exchange.parent.trace_id,
        _names_of(exchange) if kept is None else kept.names,
        exchange.status,
        exchange.outcome.encode(),
        b'"%b"' % exchange.error_type.encode() if exchange.error_type else b"null",
        b"true" if exchange.call is not None and exchange.call.stream else b"false",
        exchange.attempts,
        _NO_TOKENS
        if usage is None
        else _TOKENS % (usage.total_input, usage.total_output, usage.cached_input, usage.reasoning),
        b"null" if cost is None else b"%d" % cost,
        b"none" if usage is None else b"estimated" if usage.estimated else b"provider",
        duration_s * 1000,
        _ms(exchange.first_token_s - exchange.started_s) if exchange.first_token_s else b"null",
        b"null" if overhead_s is None else _ms(overhead_s),
    )


def refusal_record(request_id: str, status: int, error_type: str) -> bytes:
    """The log line of what was refused before it was a call: bad HTTP, too large, too many connections."""
    members = {
        "time": timestamp(now_s()).decode(),
        "request_id": request_id,
        **dict.fromkeys(("key", "team", "model", "asked", "endpoint", "target", "provider")),
        "status": status,
        "outcome": "refused",
        "error_type": error_type,
        "stream": False,
        "attempts": 0,
        **dict.fromkeys(("input_tokens", "output_tokens", "cached_input_tokens", "reasoning_tokens")),
        "cost_nanousd": None,
        "usage_source": "none",
        **dict.fromkeys(("duration_ms", "first_token_ms", "overhead_ms")),
    }
    return dumps(members) + b"\n"


_TOKENS = b'"input_tokens":%d,"output_tokens":%d,"cached_input_tokens":%d,"reasoning_tokens":%d'
_NO_TOKENS = b'"input_tokens":null,"output_tokens":null,"cached_input_tokens":null,"reasoning_tokens":null'


def _names_of(exchange: Exchange) -> bytes:
    """Of a call that reached no target."""
    call = exchange.call
    endpoint = None if call is None else call.endpoint
    return _names(exchange.key, exchange.model_label, None, endpoint, exchange.asked_label)


def _names(key: Key | None, model: str, target: Target | None, endpoint: str | None, asked: str) -> bytes:
    """`asked` is the model that the caller named, if the policy knows it; `model` the one that was used."""
    members = {
        "key": None if key is None else key.name,
        "team": None if key is None else key.team,
        "model": model,
        "asked": asked,
        "endpoint": endpoint,
        "target": None if target is None else target.name,
        "provider": None if target is None else target.provider.name,
    }
    return dumps(members)[1:-1]


def _ms(seconds: float) -> bytes:
    return b"%.3f" % (seconds * 1000)
