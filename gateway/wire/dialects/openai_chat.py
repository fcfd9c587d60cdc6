"""OpenAI's API as it is spoken by callers and by most providers: chat, legacy completions, embeddings.

Facts: openai-openapi 2.3.0 and recorded traffic. Fields we act on are read here, all others stay as
they are; a chunk's bytes pass untouched unless something in them matters to us.
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from gateway.errors import BAD_REQUEST, GatewayError, Kind, ProviderError
from gateway.usage import Usage, split_usage
from gateway.wire.json import dumps, read_object, try_object
from gateway.wire.sse import Scanner, data_of, events

ENDPOINTS: Mapping[str, str] = {
    "chat": "/chat/completions",
    "completions": "/completions",
    "embeddings": "/embeddings",
}
"""Endpoint → its path below the base URL."""

OPERATIONS: Mapping[str, str] = {"chat": "chat", "completions": "text_completion", "embeddings": "embeddings"}
"""Endpoint → `gen_ai.operation.name` (OpenTelemetry GenAI conventions)."""

MAX_TOKENS = 10**12
"""A usage above this is not believed."""

_CAPS = ("max_tokens", "max_completion_tokens", "n")
_QUOTA_CODES = frozenset(
    {
        "insufficient_quota",
        "credit_balance_exhausted",
        "organization_spend_limit_exceeded",
        "project_spend_limit_exceeded",
        "organization_usage_limit_exceeded",
        "billing_hard_limit_reached",
        "billing_not_active",
        "enforced_spend_limit_reached",
    }
)
_NO_DETAILS: Mapping[str, Any] = {}
_ERROR_FIELDS = frozenset({"message", "type", "code", "param"})
_FILTER_CODES = frozenset({"content_filter", "content_policy_violation", "ResponsibleAIPolicyViolation"})


_HAS_USAGE = re.compile(rb'"usage"\s*:\s*[^\sn]').search
"""Finds usage that is not null."""
_LAST_EVENTS = 8 * 1024
"""The end of a block of events, in which an error or usage may stand."""


@dataclass(slots=True)
class Call:
    """A request as read. `fields` holds the whole body; the rest is what we act on."""

    endpoint: str
    fields: dict[str, Any]
    model: str
    stream: bool
    wants_usage: bool
    """True if the caller asked for the usage chunk of a stream itself."""
    size: int
    """Bytes of the body as it came."""

    @property
    def metadata(self) -> Mapping[str, object]:
        """The caller's own labels, for `match`; empty if it sent none."""
        found = self.fields.get("metadata")
        return found if isinstance(found, dict) else {}


def _bad(field: str, must: str) -> GatewayError:
    return GatewayError(BAD_REQUEST, f"'{field}' must be {must}.", param=field)


def read_call(endpoint: str, body: bytes, model: str | None = None) -> Call:
    """The body of a request. `model` is given where the path names it (Azure) and then wins.

    Raises `GatewayError` (400) for what no provider could read; ranges are theirs to judge.
    """
    fields = read_object(body)
    named = fields.get("model") if model is None else model
    if type(named) is not str or not named:
        raise _bad("model", "a string with a model's name")
    stream = fields.get("stream")
    if stream is None:
        stream = False
    elif stream is not True and stream is not False:
        raise _bad("stream", "true or false")
    for cap in _CAPS:
        value = fields.get(cap)
        if value is not None and (type(value) is not int or value < 0):
            raise _bad(cap, "a whole number, not negative")
    wants_usage = False
    if stream:
        options = fields.get("stream_options")
        if options is not None:
            if type(options) is not dict:
                raise _bad("stream_options", "an object")
            wants_usage = options.get("include_usage") is True
        if endpoint == "embeddings":
            raise GatewayError(
                BAD_REQUEST, "Embeddings are not streamed; leave out 'stream'.", param="stream"
            )
    return Call(endpoint, fields, named, stream, wants_usage, len(body))


def write_body(call: Call, model: str, *, asks_usage: bool = True) -> bytes:
    """The body for a target: every field of the caller's, the target's model name, and for a stream the
    usage chunk asked for (unless `asks_usage` is False: providers that send usage unasked and refuse
    `stream_options`)."""
    fields = call.fields
    fields["model"] = model
    if call.stream and not call.wants_usage:
        if not asks_usage:
            fields.pop("stream_options", None)
        else:
            options = fields.get("stream_options")
            fields["stream_options"] = (
                {**options, "include_usage": True} if options else {"include_usage": True}
            )
    return dumps(fields)


def read_usage(answer: Mapping[str, Any]) -> Usage | None:
    """Usage of a plain answer or of a chunk; None if there is none or its numbers cannot be true.

    Knows the dialects of the dialect: Groq's `x_groq.usage`, DeepSeek's `prompt_cache_hit_tokens`,
    Mistral's `num_cached_tokens`, and providers (xAI) whose total counts reasoning beside completion.
    """
    table = answer.get("usage")
    if type(table) is not dict:
        groq = answer.get("x_groq")
        table = groq.get("usage") if type(groq) is dict else None
        if type(table) is not dict:
            return None
    given = table.get("prompt_tokens_details")
    of_input: Mapping[str, Any] = given if type(given) is dict else _NO_DETAILS
    given = table.get("completion_tokens_details")
    of_output: Mapping[str, Any] = given if type(given) is dict else _NO_DETAILS
    counts = (
        table.get("prompt_tokens") or 0,
        table.get("completion_tokens") or 0,
        table.get("total_tokens") or 0,
        of_input.get("cached_tokens")
        or table.get("prompt_cache_hit_tokens")
        or table.get("num_cached_tokens")
        or 0,
        of_input.get("cache_write_tokens") or 0,
        of_input.get("audio_tokens") or 0,
        of_output.get("reasoning_tokens") or 0,
        of_output.get("audio_tokens") or 0,
    )
    for count in counts:
        if type(count) is not int or not 0 <= count <= MAX_TOKENS:
            return None
    total_input, total_output, total, cached, written, audio_in, reasoning, audio_out = counts
    if reasoning and total == total_input + total_output + reasoning:
        total_output += reasoning
    if cached or written or audio_in or reasoning or audio_out:
        usage = split_usage(
            total_input,
            total_output,
            cached=cached,
            written=written,
            audio_in=audio_in,
            reasoning=reasoning,
            audio_out=audio_out,
        )
    else:
        usage = Usage(total_input, output=total_output)
    tier = answer.get("service_tier")
    if type(tier) is str:
        usage.service_tier = tier
    return usage


def estimated_usage(input_bytes: int, output_bytes: int) -> Usage:
    """For an answer whose provider reports nothing: four bytes a token (OpenAI's rule of thumb)."""
    return Usage(input=-(-input_bytes // 4), output=-(-output_bytes // 4), estimated=True)


def has_content(chunk: Mapping[str, Any]) -> bool:
    """True if a chunk carries an answer's content (text, reasoning, refusal, tool call, audio) or its end."""
    choices = chunk.get("choices")
    if type(choices) is not list:
        return False
    for choice in choices:
        if type(choice) is not dict:
            continue
        if choice.get("text") or choice.get("finish_reason"):
            return True
        delta = choice.get("delta")
        if type(delta) is dict and any(value and name != "role" for name, value in delta.items()):
            return True
    return False


def _text_of(chunk: Mapping[str, Any]) -> str:
    """The text of a chunk's first choice, to tell content from the JSON around it."""
    choice = chunk["choices"][0]
    delta = choice.get("delta") if type(choice) is dict else None
    text = (delta.get("content") if type(delta) is dict else None) or choice.get("text")
    return text if type(text) is str else ""


class AnswerStream:
    """One streamed answer as it passes: what of it goes on, and what it told us.

    Until the first content every event is read; from then on a block is looked into only from the
    first place that may hold usage, an error or the end.
    """

    __slots__ = (
        "_blocks",
        "_content_size",
        "_event_size",
        "_last",
        "_scanner",
        "_strips_usage",
        "bytes_passed",
        "committed",
        "done",
        "error",
        "overrun",
        "service_tier",
        "usage",
    )

    def __init__(self, *, strips_usage: bool) -> None:
        self._strips_usage = strips_usage
        self._scanner = Scanner()
        self._blocks = 0
        self._event_size = 0
        self._content_size = 0
        self._last = b""
        self.committed = False
        """True once content or the end was seen: the commit point."""
        self.done = False
        """True once `[DONE]` was seen."""
        self.overrun = False
        """True if the provider went on after its end; its connection is not clean."""
        self.error: ProviderError | None = None
        self.usage: Usage | None = None
        self.service_tier = ""
        self.bytes_passed = 0

    def feed(self, block: bytes) -> bytes:
        """What may go on to the caller of the events that `block` completes. Raises `sse.BadStream`."""
        whole = self._scanner.feed(block)
        return self._passed(self._look(whole)) if whole else b""

    def finish(self) -> bytes:
        """At the regular end of the upstream's body: what was left, if it is a whole event, and the
        `[DONE]` of a provider that gave a finish reason but has no `[DONE]`. Raises `sse.BadStream`."""
        out = self._passed(self._look(self._scanner.finish()))
        if not self.done and self.error is None and self._has_finished():
            self.done = True
            out += b"data: [DONE]\n\n"
        return out

    def estimate(self, input_bytes: int) -> Usage:
        """Usage of a stream that was cut, from what passed: as many events as the first one with content goes
        into the bytes, each of as many tokens as its text suggests."""
        if not self._event_size:
            return estimated_usage(input_bytes, 0)
        count = max(self._blocks, self.bytes_passed // self._event_size)
        return estimated_usage(input_bytes, 4 * count * max(1, self._content_size // 4))

    def _passed(self, out: bytes) -> bytes:
        if out:
            self._blocks += 1
            self.bytes_passed += len(out)
            self._last = out
        return out

    def _look(self, block: bytes) -> bytes:
        """What of a block of whole events goes on: the block itself, if it is all."""
        start = self._news(block, 0) if self.committed and not self.done else 0
        kept: list[bytes] = []
        size = len(block)
        at = passed = start
        while at < size:
            end = block.find(b"\n\n", at) + 2
            committed = self.committed
            if not self._goes_on(data_of(block[at:end])):
                kept.append(block[passed:at])
                passed = end
            at = end if committed or not self.committed else self._news(block, end)
        if passed == start and not kept:
            return block
        return b"".join((block[:start], *kept, block[passed:]))

    def _news(self, block: bytes, start: int) -> int:
        """After the commit point: where the first event begins, from `start` on, that must be read.

        Searches, no parse: 5 µs for a hundred events. Text cannot fake the marks: inside a JSON string the
        quotes are escaped, and `[DONE]` is compared whole. An error is an answer's last event, and usage
        one of the last, so they are looked for at the block's end; but usage that must not go on everywhere.
        """
        first = size = len(block)
        end = max(start, size - _LAST_EVENTS)
        for mark, begin in (
            (b"[DONE]", start),
            (b'"error"', end),
            (b'"usage":{', start if self._strips_usage else end),
            (b'"usage": {', start if self._strips_usage else end),
        ):
            at = block.find(mark, begin, first)
            if at >= 0:
                first = at
        if first == size:
            return size
        at = block.rfind(b"\n\n", start, first) + 2
        return at if at > 1 else start

    def _goes_on(self, data: bytes) -> bool:
        """Reads one event's data; False if the event is not for the caller."""
        if self.done or self.error is not None:
            self.overrun = True
            return False
        if data == b"[DONE]":
            self.done = self.committed = True
            if self.usage is None:
                self._usage_of_last()
            return True
        if self.committed and b'"error"' not in data and not _HAS_USAGE(data):
            return True
        chunk = try_object(data)
        return chunk is None or self._chunk_goes_on(chunk, len(data))

    def _chunk_goes_on(self, chunk: dict[str, Any], size: int) -> bool:
        failure = chunk.get("error")
        if failure:
            self.error = read_error_object(failure, _status_of(failure))
            return False
        tier = chunk.get("service_tier")
        if type(tier) is str:
            self.service_tier = tier
        if not self.committed and has_content(chunk):
            self.committed = True
            self._event_size = size + len("data: \n\n")
            self._content_size = len(_text_of(chunk))
        usage = read_usage(chunk)
        if usage is None:
            return True
        usage.service_tier = usage.service_tier or self.service_tier
        self.usage = usage
        return not self._strips_usage or bool(chunk.get("choices"))

    def _usage_of_last(self) -> None:
        """Usage written with blanks that the search does not know: read from the last events that passed."""
        for _, data in events(self._last[-4096:]):
            if b'"usage"' in data and (chunk := try_object(data)) is not None:
                self.usage = read_usage(chunk) or self.usage

    def _has_finished(self) -> bool:
        for _, data in events(self._last[-4096:]):
            chunk = try_object(data)
            if chunk is not None and any(
                type(choice) is dict and choice.get("finish_reason") for choice in chunk.get("choices") or ()
            ):
                return True
        return False


def _status_of(failure: object) -> int:
    """The status that an error inside a 200 stands for: OpenRouter and Groq give one, else 500."""
    if type(failure) is dict:
        for name in ("status_code", "code", "status"):
            value = failure.get(name)
            if type(value) is int and 400 <= value <= 599:
                return value
        if failure.get("type") in ("rate_limit_error", "tokens", "requests"):
            return 429
        if failure.get("type") == "invalid_request_error":
            return 400
    return 500


def read_error(status: int, headers: Mapping[bytes, bytes], body: bytes) -> ProviderError:
    """A provider's answer that is not 200, in any of the shapes that OpenAI-speaking providers use."""
    found = try_object(body) or {}
    failure: object = found.get("error")
    if not failure:
        # vLLM and Mistral put message, type and code at the top; FastAPI has a list in `detail`.
        detail = found.get("message", found.get("detail", ""))
        text = detail if isinstance(detail, str) else dumps(detail).decode()
        failure = {"message": text, **{name: found.get(name) for name in ("type", "code", "param")}}
    error = read_error_object(failure, status)
    return ProviderError(
        status=status,
        reason=error.reason,
        message=error.message,
        type=error.type,
        code=error.code,
        param=error.param,
        retry_after_s=_retry_after_s(headers),
        quota=error.quota,
        details=error.details,
    )


def error_in_answer(fields: Mapping[str, Any]) -> ProviderError:
    """The error inside a 200 (OpenRouter sends such): its status is the one it names, else 500."""
    failure = fields["error"]
    return read_error_object(failure, _status_of(failure))


def read_error_object(failure: object, status: int) -> ProviderError:
    """The `error` of a body or of an event."""
    table: dict[str, Any] = failure if type(failure) is dict else {"message": str(failure)}
    message, kind, code, param = (table.get(name) for name in ("message", "type", "code", "param"))
    message = message[:4096] if isinstance(message, str) else ""
    code = code if isinstance(code, (str, int)) else None
    quota = code in _QUOTA_CODES or kind in _QUOTA_CODES
    return ProviderError(
        status=status,
        reason=_reason(status, code, message, quota=quota),
        message=message,
        type=kind if isinstance(kind, str) else None,
        code=code,
        param=param if isinstance(param, str) else None,
        quota=quota,
        details={name: value for name, value in table.items() if name not in _ERROR_FIELDS},
    )


def _reason(status: int, code: str | int | None, message: str, *, quota: bool) -> str:
    if status in (401, 403):
        return "auth"
    if status == 429:
        return "rate_limited"
    if status in (408, 504):
        return "timeout"
    if status >= 500:
        return "server_error"
    if status < 400:
        return "bad_answer"
    if code == "context_length_exceeded" or "maximum context length" in message:
        return "context_window"
    if code in _FILTER_CODES:
        return "content_filter"
    return "rate_limited" if quota else ""


def _retry_after_s(headers: Mapping[bytes, bytes]) -> float | None:
    """Seconds from `retry-after-ms` or `retry-after`; HTTP dates are left to the caller's own SDK."""
    for name, unit_s in ((b"retry-after-ms", 0.001), (b"retry-after", 1.0)):
        try:
            seconds = float(headers[name]) * unit_s
        except (KeyError, ValueError):
            continue
        if 0.0 <= seconds < math.inf:
            return seconds
    return None


def error_object(
    kind: Kind, message: str, param: str | None, details: Mapping[str, object] | None = None
) -> dict[str, object]:
    """OpenAI's error object; all four fields are always there."""
    fields = {"message": message, "type": kind.type, "param": param, "code": kind.code}
    return {"error": {**details, **fields} if details else fields}


def error_body(error: GatewayError) -> bytes:
    """The body of a refusal."""
    return dumps(error_object(error.kind, error.message, error.param, error.details))


def error_event(error: GatewayError) -> bytes:
    """The event that ends a stream after the commit point: SDKs raise on a truthy `error`. No `[DONE]`."""
    return b"data: " + error_body(error) + b"\n\n"


def model_object(name: str) -> dict[str, object]:
    """One entry of `GET /v1/models`."""
    return {"id": name, "object": "model", "created": 0, "owned_by": "headgate"}


def usage_in_tail(tail: bytes) -> Usage | None:
    """Usage from the end of a plain answer too long to hold; None if it is not there."""
    at = tail.rfind(b'"usage"')
    begin = tail.find(b"{", at)
    if at < 0 or begin < 0:
        return None
    depth = 0
    for index in range(begin, len(tail)):
        byte = tail[index]
        if byte == 0x7B:
            depth += 1
        elif byte == 0x7D:
            depth -= 1
            if depth == 0:
                table = try_object(tail[begin : index + 1])
                return None if table is None else read_usage({"usage": table})
    return None
