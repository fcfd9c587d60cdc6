"""What a provider says in the table of faults: a good answer, its pieces, and errors."""

from __future__ import annotations

import json

from tests.scripted import answer


def event(fields: object) -> bytes:
    """One event, as compact as providers send it."""
    return b"data: " + json.dumps(fields, separators=(",", ":"), ensure_ascii=False).encode() + b"\n\n"


def delta(text: str | None = None, *, finish: str | None = None) -> bytes:
    """A chunk of a chat stream."""
    inner = {} if text is None else {"content": text}
    choice = {"index": 0, "delta": inner, "finish_reason": finish}
    return event({"id": "c", "object": "chat.completion.chunk", "choices": [choice]})


USAGE = {"prompt_tokens": 7, "completion_tokens": 3, "total_tokens": 10}
GOOD = {
    "id": "c",
    "object": "chat.completion",
    "choices": [{"index": 0, "message": {"role": "assistant", "content": "Grüße"}, "finish_reason": "stop"}],
    "usage": USAGE,
}
GOOD_BODY = json.dumps(GOOD, ensure_ascii=False).encode()
ROLE = event({"id": "c", "choices": [{"index": 0, "delta": {"role": "assistant", "content": ""}}]})
TOLD = event({"id": "c", "choices": [], "usage": USAGE})
DONE = b"data: [DONE]\n\n"
CONTENT = ROLE + delta("Grü") + delta("ße") + delta(finish="stop")
GOOD_STREAM = CONTENT + TOLD + DONE


def error_body(code: str | int | None = "x_code", kind: str = "x_error", **more: object) -> bytes:
    """An error object, with further fields of the provider's own."""
    error = {"message": "Words.", "type": kind, "param": "p", "code": code, **more}
    return json.dumps({"error": error}).encode()


def error_event(code: str | int | None = "x_code", kind: str = "server_error", **more: object) -> bytes:
    """The same as an event."""
    return b"data: " + error_body(code, kind, **more) + b"\n\n"


def refusal(status: int, code: str | int | None = "x_code", /, *headers: str, **more: object) -> bytes:
    """An answer with an error status."""
    return answer(error_body(code, **more), status, *headers)
