"""OpenAI's Responses API: errors, read from a provider and written for a caller.

Refusals are those of chat. A response that failed has an `error` with a code and no type; in a stream the
`error` event has its fields at the top by the reference, and in an object by what is seen: both are read, and
both are written, so that any SDK finds what it looks for.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from gateway.errors import GatewayError, ProviderError
from gateway.wire.dialects.openai_chat import error_object, read_error_object, status_of
from gateway.wire.failure import QUOTA_CODES
from gateway.wire.json import dumps
from gateway.wire.shape import table, text

_STATUS: Mapping[str, int] = {
    "rate_limit_exceeded": 429,
    "slow_down": 429,
    "server_is_overloaded": 503,
    "vector_store_timeout": 504,
}
"""What a code inside a 200 stands for."""
_OF_REQUEST = re.compile(r"invalid_|unsupported_|context_length|image|_policy").search
"""Codes that only the caller can mend."""
_TOP = ("code", "message", "param")


def read_failure(failure: object) -> ProviderError:
    """The `error` of a response that failed, or of an event."""
    code = text(table(failure).get("code"))
    status = status_of(failure)
    if code in QUOTA_CODES:
        status = 429
    elif code and status == 500:
        status = 400 if _OF_REQUEST(code) else _STATUS.get(code, 500)
    return read_error_object(failure, status)


def error_in_answer(fields: Mapping[str, Any]) -> ProviderError | None:
    """The error inside a 200; None if it is none."""
    failure = fields.get("error")
    if failure or fields.get("status") == "failed":
        return read_failure(failure or {})
    return None


def failure_in_event(fields: Mapping[str, Any]) -> ProviderError:
    """What an `error` event says."""
    return read_failure(
        fields.get("error") or {name: fields.get(name) for name in ("code", "message", "param")}
    )


def error_event(error: GatewayError) -> bytes:
    """The event that ends a stream after the commit point. Its number is not known here."""
    fields = {"code": error.kind.code, "message": error.message, "param": error.param}
    told = {"type": "error", **fields, "sequence_number": 0}
    inner = error_object(error.kind, error.message, error.param)
    return b"event: error\ndata: " + dumps({**told, **inner}) + b"\n\n"
