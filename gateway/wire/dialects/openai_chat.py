"""OpenAI's API as it is spoken by callers and by most providers: chat, legacy completions, embeddings.

Facts: openai-openapi 2.3.0 and recorded traffic. Fields we act on are read here, all others stay as
they are; a chunk's bytes pass untouched unless something in them matters to us.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from gateway.errors import BAD_JSON, BAD_REQUEST, BELOW_MINIMUM, WRONG_TYPE, GatewayError, Kind, ProviderError
from gateway.usage import Usage, split_usage
from gateway.wire.conversation import Conversation
from gateway.wire.failure import QUOTA_CODES, reason_of, retry_after_s
from gateway.wire.json import dumps, read_object, text_of, try_object

ENDPOINTS: Mapping[str, str] = {
    "chat": "/chat/completions",
    "completions": "/completions",
    "embeddings": "/embeddings",
}
"""Endpoint → its path below the base URL."""

OPERATIONS: Mapping[str, str] = {"chat": "chat", "completions": "text_completion", "embeddings": "embeddings"}
"""Endpoint → `gen_ai.operation.name` (OpenTelemetry GenAI conventions)."""

MAX_TOKENS = 10**8
"""A usage above this is not believed: ten times the longest context window there is."""

CAP_FIELDS = ("max_tokens", "max_completion_tokens")
"""Fields of a body that cap the output of each choice."""
_COUNTS = (*CAP_FIELDS, "n", "best_of")
_NO_DETAILS: Mapping[str, Any] = {}
_ERROR_FIELDS = frozenset({"message", "type", "code", "param"})
_FILTER_CODES = frozenset({"content_filter", "content_policy_violation", "ResponsibleAIPolicyViolation"})


@dataclass(slots=True)
class Call:
    """A request as read. `fields` holds the whole body; the rest is what we act on."""

    endpoint: str
    fields: dict[str, Any] = field(repr=False)
    model: str
    stream: bool
    wants_usage: bool
    """True if the caller asked for the usage chunk of a stream itself."""
    size: int
    """Bytes of the body as it came."""
    own: Mapping[str, Any] | None = field(default=None, repr=False)
    """The body as its caller sent it, if that is not chat's: `fields` then says the same as chat would."""
    said: Conversation | None = field(default=None, repr=False)
    """The same in the neutral form, once something asked for that."""

    @property
    def metadata(self) -> Mapping[str, object]:
        """The caller's own labels, for `match`; empty if it sent none."""
        found = self.fields.get("metadata")
        return found if isinstance(found, dict) else {}


def _bad(field: str, must: str, kind: Kind = WRONG_TYPE) -> GatewayError:
    return GatewayError(kind, f"'{field}' must be {must}.", param=field)


def read_call(endpoint: str, body: bytes, model: str | None = None) -> Call:
    """The body of a request. `model` is given where the path names it (Azure) and then wins.

    Raises `GatewayError` (400) for what no provider could read; ranges are theirs to judge.
    """
    fields = read_object(body)
    named = fields.get("model") if model is None else model
    if type(named) is not str or not named:
        raise _bad("model", "a string with a model's name", BAD_REQUEST if not named else WRONG_TYPE)
    stream = fields.get("stream")
    if stream is None:
        stream = False
    elif stream is not True and stream is not False:
        raise _bad("stream", "true or false")
    for count in _COUNTS:
        value = fields.get(count)
        if value is not None and (type(value) is not int or value < 0):
            kind = BELOW_MINIMUM if type(value) is int else WRONG_TYPE
            raise _bad(count, "a whole number, not negative", kind)
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


def write_body(
    call: Call, model: str, *, asks_usage: bool = True, cap: tuple[str, int] | None = None
) -> bytes:
    """The body for a target: every field of the caller's, the target's model name, and for a stream the
    usage chunk asked for (unless `asks_usage` is False: providers that send usage unasked and refuse
    `stream_options`). `cap`: the field that caps the output and its tokens, instead of the caller's.

    Raises `GatewayError` (400) if it is nested too deeply: orjson reads 1,024 levels and writes 254. To count
    brackets when the body is read would cost 2.4 µs per KiB; this costs nothing.
    """
    fields = call.fields
    fields["model"] = model
    if call.stream:
        options = fields.get("stream_options")
        if not asks_usage:
            # A copy: the call's next target may want them.
            fields = {name: value for name, value in fields.items() if name != "stream_options"}
        elif not call.wants_usage:
            fields["stream_options"] = (
                {**options, "include_usage": True} if options else {"include_usage": True}
            )
    if cap is not None:
        # A copy here too: another target may have another cap.
        fields = {name: value for name, value in fields.items() if name not in CAP_FIELDS}
        fields[cap[0]] = cap[1]
    try:
        return dumps(fields)
    except TypeError:
        raise GatewayError(BAD_JSON, "The body is nested more than 254 levels deep.") from None


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
    if not (total_input or total_output or "prompt_tokens" in table or "completion_tokens" in table):
        # A table in other words than these is not a usage of zero, which would cost nothing.
        return None
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


def status_of(failure: object) -> int:
    """The status that an error inside a 200 stands for: OpenRouter and Groq give one, else 500."""
    if type(failure) is dict:
        for name in ("status_code", "code", "status"):
            value = failure.get(name)
            if type(value) is int and 400 <= value <= 599:
                return value
        if failure.get("type") in ("rate_limit_error", "tokens", "requests"):
            return 429
        if failure.get("type") == "invalid_request_error" or _is_filtered(failure):
            return 400
    return 500


def read_error(status: int, headers: Mapping[bytes, bytes], body: bytes, now_s: float) -> ProviderError:
    """A provider's answer that is not 200, in any of the shapes that OpenAI-speaking providers use.

    `now_s` is the time of day (seconds since the epoch), for a Retry-After that is a date.
    """
    found = try_object(body) or {}
    failure: object = found.get("error")
    if not failure:
        # vLLM and Mistral put message, type and code at the top; FastAPI has a list in `detail`.
        detail = found.get("message", found.get("detail", ""))
        text = detail if isinstance(detail, str) else text_of(detail)
        failure = {"message": text, **{name: found.get(name) for name in ("type", "code", "param")}}
    error = read_error_object(failure, status)
    return ProviderError(
        status=status,
        reason=error.reason,
        message=error.message,
        type=error.type,
        code=error.code,
        param=error.param,
        retry_after_s=retry_after_s(headers, now_s),
        quota=error.quota,
        details=error.details,
    )


def error_in_answer(fields: Mapping[str, Any]) -> ProviderError:
    """The error inside a 200 (OpenRouter sends such): its status is the one it names, else 500."""
    failure = fields["error"]
    return read_error_object(failure, status_of(failure))


def read_error_object(failure: object, status: int) -> ProviderError:
    """The `error` of a body or of an event."""
    table: dict[str, Any]
    if type(failure) is dict:
        table = failure
    else:
        table = {"message": failure if type(failure) is str else text_of(failure)}
    message, kind, code, param = (table.get(name) for name in ("message", "type", "code", "param"))
    message = message if isinstance(message, str) else ""
    kind = kind if isinstance(kind, str) else None
    code = code if isinstance(code, (str, int)) else None
    # 402 is what providers with prepaid balances say (DeepSeek, OpenRouter).
    quota = status == 402 or code in QUOTA_CODES or kind in QUOTA_CODES
    return ProviderError(
        status=status,
        reason=reason_of(status, code, message, quota=quota, filtered=_is_filtered(table)),
        message=message,
        type=kind,
        code=code,
        param=param if isinstance(param, str) else None,
        quota=quota,
        details={name: value for name, value in table.items() if name not in _ERROR_FIELDS},
    )


def _is_filtered(failure: Mapping[str, Any]) -> bool:
    """True if a content filter spoke: Azure names its own inside, OpenRouter (403) shows what was flagged."""
    inner, metadata = failure.get("innererror"), failure.get("metadata")
    codes = [failure.get("code"), failure.get("type"), inner.get("code") if type(inner) is dict else None]
    return any(type(code) is str and code in _FILTER_CODES for code in codes) or (
        type(metadata) is dict and "flagged_input" in metadata
    )


def error_object(
    kind: Kind, message: str, param: str | None, details: Mapping[str, object] | None = None
) -> dict[str, object]:
    """OpenAI's error object; all four fields are always there."""
    fields = {"message": message, "type": kind.type, "param": param, "code": kind.code}
    return {"error": {**details, **fields} if details else fields}


def error_body(error: GatewayError) -> bytes:
    """The body of a refusal."""
    try:
        return dumps(error_object(error.kind, error.message, error.param, error.details))
    except TypeError:
        # A provider's own fields, nested more than 254 levels deep.
        return dumps(error_object(error.kind, error.message, error.param))


def error_event(error: GatewayError) -> bytes:
    """The event that ends a stream after the commit point: SDKs raise on a truthy `error`. No `[DONE]`."""
    return b"data: " + error_body(error) + b"\n\n"


def model_object(name: str) -> dict[str, Any]:
    """One entry of `GET /v1/models`."""
    return {"id": name, "object": "model", "created": 0, "owned_by": "headgate"}


def usage_in_tail(
    tail: bytes, read: Callable[[Mapping[str, Any]], Usage | None] = read_usage
) -> Usage | None:
    """Usage from the end of an answer too long to hold; None if it is not there."""
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
                return None if table is None else read({"usage": table})
    return None
