"""What can go wrong on demand: the closed list of faults, and the bodies of those that are refusals."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import orjson


@dataclass(frozen=True, slots=True)
class Refusal:
    """An answer with an error status: OpenAI's four fields."""

    status: int
    type: str
    code: str | None
    message: str
    param: str | None = None

    def body(self) -> bytes:
        """The error object as OpenAI sends it."""
        fields = {"message": self.message, "type": self.type, "param": self.param, "code": self.code}
        return orjson.dumps({"error": fields}, option=orjson.OPT_INDENT_2)


_BAD = "invalid_request_error"

REFUSALS: Mapping[str, Refusal] = {
    "status_400": Refusal(400, _BAD, "invalid_value", "Invalid value (simulated).", "messages"),
    "status_401": Refusal(401, _BAD, "invalid_api_key", "Incorrect API key provided: sk-simu****ated."),
    "status_402": Refusal(402, "insufficient_quota", None, "Insufficient balance (simulated)."),
    "status_403": Refusal(
        403,
        "request_forbidden",
        "unsupported_country_region_territory",
        "Country, region, or territory not supported",
    ),
    "status_404": Refusal(
        404, _BAD, "model_not_found", "The model does not exist or you do not have access to it (simulated)."
    ),
    "status_408": Refusal(408, _BAD, "request_timeout", "The request timed out (simulated)."),
    "status_409": Refusal(409, _BAD, "conflict", "The request conflicts with another one (simulated)."),
    "status_422": Refusal(
        422, _BAD, "unprocessable_entity", "The request could not be followed (simulated)."
    ),
    "status_429": Refusal(
        429, "requests", "rate_limit_exceeded", "Rate limit reached (simulated). Please try again in 20ms."
    ),
    "status_429_quota": Refusal(
        429,
        "insufficient_quota",
        "insufficient_quota",
        "You exceeded your current quota, please check your plan and billing details (simulated).",
    ),
    "status_500": Refusal(
        500, "server_error", None, "The server had an error while processing your request. Sorry about that!"
    ),
    "status_502": Refusal(502, "server_error", None, "Bad gateway (simulated)."),
    "status_503": Refusal(
        503, "service_unavailable_error", "server_is_overloaded", "The server is overloaded (simulated)."
    ),
    "status_504": Refusal(504, "server_error", None, "Gateway timeout (simulated)."),
    "status_529": Refusal(529, "overloaded_error", None, "Overloaded (simulated)."),
    "context_window": Refusal(
        400,
        _BAD,
        "context_length_exceeded",
        "This model's maximum context length is 128000 tokens. Please reduce the length of the messages.",
        "messages",
    ),
    "content_filter": Refusal(
        400,
        _BAD,
        "content_filter",
        "The prompt was stopped by the provider's content filter (simulated).",
        "prompt",
    ),
}
"""Faults that are one plain answer with an error status. Nothing is generated and nothing billed."""

DISRUPTIONS: Mapping[str, str] = {
    "reset": "the connection is reset (RST) before any byte of the answer",
    "close": "the connection is closed (FIN) before any byte of the answer",
    "hang": "no answer at all; the connection stays open",
    "redirect": "302 to another path",
    "status_204": "204 without a body",
    "html": "200 with an HTML page",
    "not_json": "the answer, or an event of the stream, is not JSON",
    "truncated": "the connection closes 64 bytes short of content-length",
    "bad_utf8": "the text holds a byte that is not UTF-8",
    "cut": "closed (FIN) after some events, or half of a plain body",
    "cut_reset": "reset (RST) after some events, or half of a plain body",
    "stall": "silent after some events, or half of a plain body; the connection stays open",
    "pings": "after some events nothing but ': keep-alive' lines, without end; plain: as stall",
    "error_event": "an error object after some events, then the end without [DONE]; plain: 200 with it",
    "filter_event": "the same with the error of Azure's content filter",
    "bom": "the stream begins with a byte order mark",
    "crlf": "line ends of the stream are CRLF",
    "cr": "line ends of the stream are CR",
    "split_bytes": "every byte of the answer is an HTTP chunk of its own",
    "no_usage": "usage is missing",
    "absurd_usage": "usage far beyond what anybody could have consumed",
    "negative_usage": "usage below zero",
    "no_done": "the stream ends properly but without [DONE]",
    "double_done": "[DONE] comes twice",
    "after_done": "an event follows [DONE]",
    "comments": "': keep-alive' lines before every event",
    "big_event": "one event, or a plain answer, of more than 1 MiB",
    "gzip": "the body is compressed though nobody asked",
}
"""Faults in the way an answer is sent, with what each does. Those of streams spare plain answers."""

NAMES: tuple[str, ...] = (*REFUSALS, *DISRUPTIONS)
UNBILLED = frozenset(REFUSALS) | {"reset", "close", "hang", "redirect", "status_204", "html"}
"""Faults that come before anything is generated."""

DEFAULT_AFTER_CHUNKS = 3
"""Where a stream breaks if nobody says: after the role event and two pieces of text."""


@dataclass(frozen=True, slots=True)
class Fault:
    """One fault of the closed list `NAMES`; another name raises `ValueError`.

    `after_chunks` is how many events of a stream are sent before it happens: 0 is after the headers,
    1 after the role event (still before any content). `retry_after…` are headers of a refusal.
    """

    name: str
    after_chunks: int = DEFAULT_AFTER_CHUNKS
    retry_after: str | None = None
    retry_after_ms: str | None = None

    def __post_init__(self) -> None:
        if self.name not in REFUSALS and self.name not in DISRUPTIONS:
            raise ValueError(f"There is no fault of that name; use one of: {', '.join(NAMES)}.")

    def headers(self) -> dict[str, str]:
        """The `retry-after` headers asked for."""
        wanted = {"retry-after": self.retry_after, "retry-after-ms": self.retry_after_ms}
        return {name: value for name, value in wanted.items() if value is not None}

    @classmethod
    def read(cls, value: Any) -> Fault | None:
        """A fault from JSON: null, a name, or an object with `fault` and more. Raises `ValueError`."""
        if value is None or isinstance(value, Fault):
            return value
        if isinstance(value, str):
            return cls(value) if value else None
        if not isinstance(value, dict) or not isinstance(value.get("fault"), str):
            raise ValueError("A fault is null, a name, or an object with a field 'fault'.")
        unknown = set(value) - {"fault", "after_chunks", "retry_after", "retry_after_ms"}
        if unknown:
            raise ValueError("A fault has the fields fault, after_chunks, retry_after and retry_after_ms.")
        after_chunks = value.get("after_chunks", DEFAULT_AFTER_CHUNKS)
        if type(after_chunks) is not int or after_chunks < 0:
            raise ValueError("after_chunks is a whole number, 0 or more.")
        delays = [
            None if value.get(key) is None else str(value[key]) for key in ("retry_after", "retry_after_ms")
        ]
        return cls(value["fault"], after_chunks, *delays)
