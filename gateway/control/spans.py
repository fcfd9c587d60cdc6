"""Records of calls → spans, as the OpenTelemetry GenAI conventions have them.

One span for a call with all its attempts, and under it one for each request to a provider. Names are those of
v1.41 but for `cache_write`, which the next version renames to; what has no standard name is `headgate.*`.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from importlib.metadata import version
from typing import Any

from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import Event, ReadableSpan
from opentelemetry.sdk.util.instrumentation import InstrumentationScope
from opentelemetry.trace import SpanContext, SpanKind, TraceFlags
from opentelemetry.trace.span import TraceState
from opentelemetry.trace.status import Status, StatusCode

from gateway.control.contents import Contents
from gateway.usage import KINDS

Record = Mapping[str, Any]
Attributes = dict[str, Any]

SCOPE = InstrumentationScope("headgate", version("headgate"))
_ASKED = {
    "temperature": "gen_ai.request.temperature",
    "top_p": "gen_ai.request.top_p",
    "top_k": "gen_ai.request.top_k",
    "max_tokens": "gen_ai.request.max_tokens",
    "max_completion_tokens": "gen_ai.request.max_tokens",
    "frequency_penalty": "gen_ai.request.frequency_penalty",
    "presence_penalty": "gen_ai.request.presence_penalty",
    "seed": "gen_ai.request.seed",
    "dimensions": "gen_ai.embeddings.dimension.count",
    "service_tier": "openai.request.service_tier",
    "reasoning_effort": "gen_ai.request.reasoning.level",
}
"""Fields of a request → their attributes."""
_WHOLE = frozenset({"top_k", "max_tokens", "max_completion_tokens", "seed", "dimensions"})
_EVENTS = {"retry": "headgate.retry", "other_key": "headgate.retry", "fall_back": "headgate.fallback"}
"""What followed a failed attempt → the event on the call's span."""
_FAILED = frozenset({"refused", "upstream_failed"})


class SpanMaker:
    """Makes spans; `contents` gives the rule of the policy in force, None if there is none."""

    def __init__(self, resource: Resource, contents: Callable[[], Contents | None]) -> None:
        self._resource = resource
        self._contents = contents

    def spans(self, record: Record) -> list[ReadableSpan]:
        """The call's span, then those of its attempts in order."""
        times = _Times(record)
        parent = None
        state = TraceState.from_header([record["state"]]) if "state" in record else None
        if "parent" in record:
            parent = _context(record["trace"], record["parent"], state, is_remote=True)
        context = _context(record["trace"], record["span"], state)
        contents = self._contents()
        attributes = _attributes(record)
        if contents is not None:
            attributes |= contents.attributes(record)
        model = attributes.get("gen_ai.request.model")
        root = ReadableSpan(
            name=f"{record['operation']} {model}" if model else record["operation"],
            context=context,
            parent=parent,
            resource=self._resource,
            attributes=attributes,
            events=_events(record, times),
            kind=SpanKind.CLIENT,
            status=Status(StatusCode.ERROR if record["outcome"] in _FAILED else StatusCode.UNSET),
            start_time=times.at(0.0),
            end_time=times.at(record["took"]),
            instrumentation_scope=SCOPE,
        )
        return [root, *self._attempts(record, times, context)]

    def _attempts(self, record: Record, times: _Times, parent: SpanContext) -> list[ReadableSpan]:
        failed = [told for told in record.get("story", ()) if "number" in told]
        spans = [
            self._attempt(record, times, parent, told, told["outcome"], told["status"], told["end"])
            for told in failed
        ]
        if record["attempts"] > len(failed) and "to" in record:
            is_ok = record["outcome"] == "ok"
            last = {"number": record["attempts"], "to": record["to"], "start": record["start"]}
            outcome = record["last"] or ("" if is_ok else record["error"])
            status = record["status"] if is_ok else 0
            spans.append(self._attempt(record, times, parent, last, outcome, status, record["took"]))
        return spans

    def _attempt(
        self,
        record: Record,
        times: _Times,
        parent: SpanContext,
        told: Mapping[str, Any],
        outcome: str,
        status: int,
        ended: float,
    ) -> ReadableSpan:
        to, number, method = told["to"], told["number"], record.get("method", "POST")
        attributes: Attributes = {
            "http.request.method": method,
            "url.full": to["url"],
            "server.address": to["host"],
            "server.port": to["port"],
            "headgate.target": to["target"],
        }
        if status:
            attributes["http.response.status_code"] = status
        if outcome:
            attributes["error.type"] = outcome
        if number > 1:
            attributes["http.request.resend_count"] = number - 1
        span_id = (int(record["first"], 16) + number - 1) % 2**64
        return ReadableSpan(
            name=method,
            context=_context(record["trace"], f"{span_id:016x}", parent.trace_state),
            parent=parent,
            resource=self._resource,
            attributes=attributes,
            kind=SpanKind.CLIENT,
            status=Status(StatusCode.ERROR if outcome and outcome != "caller_gone" else StatusCode.UNSET),
            start_time=times.at(told["start"]),
            end_time=times.at(ended),
            instrumentation_scope=SCOPE,
        )


class _Times:
    """Seconds since a call's start → nanoseconds since 1970."""

    def __init__(self, record: Record) -> None:
        self._start_ns: int = round(record["ended"] * 1e9) - round(record["took"] * 1e9)

    def at(self, seconds: float) -> int:
        return self._start_ns + round(seconds * 1e9)


def _context(trace: str, span: str, state: TraceState | None, *, is_remote: bool = False) -> SpanContext:
    return SpanContext(int(trace, 16), int(span, 16), is_remote, TraceFlags(TraceFlags.SAMPLED), state)


def _attributes(record: Record) -> Attributes:
    to = record.get("to")
    found: Attributes = {
        "gen_ai.operation.name": record["operation"],
        # Required by the conventions; a call that reached nobody was answered by Headgate.
        "gen_ai.provider.name": to["provider"] if to else "headgate",
        "headgate.request_id": record.get("request_id", record["trace"]),
        "headgate.team": record["team"],
        "headgate.key": record["key"],
        "headgate.policy": record["policy"],
        "headgate.outcome": record["outcome"],
        "headgate.attempts": record["attempts"],
    }
    if record["operation"] == "chat":
        found["openai.api.type"] = "chat_completions"
    if record["model"] != "_none":
        found["gen_ai.request.model"] = found["headgate.model"] = record["model"]
    if to:
        found |= {"server.address": to["host"], "server.port": to["port"], "headgate.target": to["target"]}
        found["gen_ai.request.model"] = to["model"]
    if record["outcome"] in _FAILED:
        found["error.type"] = record["error"]
    if record["cost_nanousd"] is not None:
        found["headgate.cost_usd"] = record["cost_nanousd"] / 1e9
    return found | _requested(record) | _answered(record)


def _requested(record: Record) -> Attributes:
    asked = record.get("asked", {})
    found: Attributes = {}
    for name, attribute in _ASKED.items():
        if name in asked:
            found[attribute] = int(asked[name]) if name in _WHOLE else asked[name]
    for name in ("temperature", "top_p", "frequency_penalty", "presence_penalty"):
        if name in asked:
            found[_ASKED[name]] = float(asked[name])
    if asked.get("n", 1) != 1:
        found["gen_ai.request.choice.count"] = int(asked["n"])
    if asked.get("json"):
        found["gen_ai.output.type"] = "json"
    if record.get("stream"):
        found["gen_ai.request.stream"] = True
    return found


def _answered(record: Record) -> Attributes:
    found: Attributes = {}
    for name, attribute in (
        ("answered_by", "gen_ai.response.model"),
        ("reasons", "gen_ai.response.finish_reasons"),
        ("tier", "openai.response.service_tier"),
        ("first_token", "gen_ai.response.time_to_first_chunk"),
        ("too_long", "headgate.content_too_long"),
    ):
        if name in record:
            found[attribute] = record[name]
    if "usage" in record:
        found["headgate.usage_source"] = "estimated" if record["estimated"] else "provider"
        if not record["estimated"]:
            # Guesses are no usage (conventions: MUST NOT report); what they cost is told all the same.
            found |= _usage(dict(zip(KINDS, record["usage"], strict=True)))
    return found


def _usage(tokens: Mapping[str, int]) -> Attributes:
    """Input with what was read from and written to caches, output with reasoning."""
    found = {
        "gen_ai.usage.input_tokens": sum(
            tokens[kind] for kind in ("input", "cached_input", "cache_write", "audio_input")
        ),
        "gen_ai.usage.output_tokens": sum(tokens[kind] for kind in ("output", "reasoning", "audio_output")),
    }
    for kind, attribute in (
        ("cached_input", "gen_ai.usage.cache_read.input_tokens"),
        ("cache_write", "gen_ai.usage.cache_write.input_tokens"),
        ("reasoning", "gen_ai.usage.reasoning.output_tokens"),
    ):
        if tokens[kind]:
            found[attribute] = tokens[kind]
    return found


def _events(record: Record, times: _Times) -> list[Event]:
    found = []
    for told in record.get("story", ()):
        if told["then"] in _EVENTS:
            to = told["to"]["target"] if "to" in told else told["target"]
            attributes = {"headgate.target": to, "headgate.reason": told["outcome"]}
            if told["then"] == "other_key":
                attributes["headgate.other_key"] = True
            found.append(Event(_EVENTS[told["then"]], attributes, times.at(told["end"])))
    if record["outcome"] == "refused":
        attributes = {"error.type": record["error"]}
        found.append(Event("headgate.refusal", attributes, times.at(record["took"])))
    return found
