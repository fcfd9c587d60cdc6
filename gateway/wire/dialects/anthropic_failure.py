"""Anthropic's errors and rate-limit headers, read from a provider and written for a caller.

Facts: Anthropic's API reference (errors, rate limits). 529 is its word for being overloaded.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from gateway.errors import GatewayError, ProviderError
from gateway.wire.failure import QUOTA_CODES, reason_of, retry_after_s
from gateway.wire.json import dumps, try_object
from gateway.wire.shape import table, text

_STATUS: Mapping[str, int] = {
    "invalid_request_error": 400,
    "authentication_error": 401,
    "billing_error": 402,
    "permission_error": 403,
    "not_found_error": 404,
    "conflict_error": 409,
    "request_too_large": 413,
    "rate_limit_error": 429,
    "api_error": 500,
    "timeout_error": 504,
    "overloaded_error": 529,
}
_TYPES: Mapping[int, str] = {status: type_ for type_, status in _STATUS.items()} | {503: "overloaded_error"}


def read_error(status: int, headers: Mapping[bytes, bytes], body: bytes, now_s: float) -> ProviderError:
    """A provider's answer that is not 200. `now_s` is the time of day, for a Retry-After that is a date."""
    found = try_object(body) or {}
    failure = found.get("error") or {"message": found.get("message")}
    return read_error_object(failure, status, retry_after_s(headers, now_s))


def read_error_object(failure: object, status: int, wait_s: float | None = None) -> ProviderError:
    """The `error` of a body or of an event; `status` 0: an event's, which has none but by its type."""
    fields = table(failure)
    # A text in its place is what others say who speak Anthropic's dialect.
    kind, message = text(fields.get("type")), text(failure) or text(fields.get("message"))
    status = status or _STATUS.get(kind, 500)
    code = text(table(fields.get("details")).get("error_code"))
    quota = status == 402 or code in QUOTA_CODES
    return ProviderError(
        status=status,
        reason=reason_of(status, code, message, quota=quota, filtered=False),
        message=message,
        type=kind or None,
        code=code or None,
        retry_after_s=wait_s,
        quota=quota,
    )


def error_in_answer(fields: Mapping[str, Any]) -> ProviderError | None:
    """The error inside a 200; None if it is none."""
    return read_error_object(fields.get("error"), 0) if fields.get("type") == "error" else None


def error_type(status: int) -> str:
    """Anthropic's word for a status."""
    return _TYPES.get(status) or ("api_error" if status >= 500 else "invalid_request_error")


def error_body(error: GatewayError, request_id: bytes = b"") -> bytes:
    """The body of a refusal."""
    told = {
        "type": "error",
        "error": {"type": error_type(error.kind.status), "message": error.message},
        "request_id": request_id.decode() or None,
    }
    return dumps(told)


def error_event(error: GatewayError) -> bytes:
    """The event that ends a stream after the commit point."""
    return b"event: error\ndata: " + error_body(error) + b"\n\n"


def event_of_error(error: ProviderError) -> bytes:
    """A provider's error as the event that ends a stream."""
    told = {"type": "error", "error": {"type": error_type(error.status), "message": error.message}}
    return b"event: error\ndata: " + dumps(told) + b"\n\n"
