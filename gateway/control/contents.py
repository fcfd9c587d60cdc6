"""What was asked and answered in a call, as the GenAI conventions write messages, without what the policy
redacts. Only of calls by keys that the policy names."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from typing import Any

import orjson

from gateway.wire.in_chat import answer_in_chat, request_in_chat
from gateway.wire.sse import events

REDACTED = "[redacted]"


class Contents:
    """One policy's rule: whose content may be kept, and what never may."""

    def __init__(self, table: Mapping[str, Any]) -> None:
        self._keys = frozenset(table["keys"])
        self._patterns = [re.compile(pattern) for pattern in table["redact"]]

    def attributes(self, record: Mapping[str, Any]) -> dict[str, str]:
        """The attributes of a record's span: JSON, as spans hold it."""
        if "request" not in record or record["key"] not in self._keys:
            return {}
        dialect, answer = record.get("dialect", ""), record["answer"].encode()
        asked = list(_asked(_object(request_in_chat(dialect, record["request"].encode()))))
        if record["stream"]:
            answered = list(_streamed(answer_in_chat(dialect, answer, streamed=True)))
        else:
            # A plain answer leaves the worker as chat would say it, whatever its caller speaks.
            answered = list(_answered(_object(answer)))
        found = {"gen_ai.input.messages": asked, "gen_ai.output.messages": answered}
        return {name: orjson.dumps(self._clean(told)).decode() for name, told in found.items() if told}

    def _clean(self, value: Any) -> Any:
        """The same without what must not be seen, however deep it stands."""
        if isinstance(value, str):
            for pattern in self._patterns:
                value = pattern.sub(REDACTED, value)
            return value
        if isinstance(value, list):
            return [self._clean(item) for item in value]
        if isinstance(value, dict):
            return {name: self._clean(item) for name, item in value.items()}
        return value


def _object(text: bytes) -> dict[str, Any]:
    """A JSON object; empty if the text was too long to be kept, or is none."""
    try:
        value = orjson.loads(text)
    except ValueError:
        return {}
    return value if isinstance(value, dict) else {}


def _asked(fields: Mapping[str, Any]) -> Iterator[dict[str, Any]]:
    messages = fields.get("messages")
    if isinstance(messages, list):
        yield from (_message(message) for message in messages if isinstance(message, dict))
        return
    texts = fields.get("prompt", fields.get("input"))
    for text in texts if isinstance(texts, list) else [texts]:
        if isinstance(text, str):
            yield {"role": "user", "parts": [{"type": "text", "content": text}]}


def _answered(fields: Mapping[str, Any]) -> Iterator[dict[str, Any]]:
    for choice in _objects(fields.get("choices")):
        message = choice.get("message")
        told = message if isinstance(message, dict) else {"content": choice.get("text")}
        yield {**_message({"role": "assistant", **told}), "finish_reason": str(choice.get("finish_reason"))}


def _streamed(text: bytes) -> Iterator[dict[str, Any]]:
    """Each choice of a stream, its pieces put together."""
    choices: dict[Any, dict[str, Any]] = {}
    for _, data in events(text):
        for piece in _objects(_object(data).get("choices")):
            index = piece.get("index")
            whole = choices.setdefault(
                index if isinstance(index, int) else 0,
                {"message": {"content": "", "tool_calls": {}}, "finish_reason": None},
            )
            delta = piece.get("delta")
            _add(whole["message"], delta if isinstance(delta, dict) else {"content": piece.get("text")})
            whole["finish_reason"] = piece.get("finish_reason") or whole["finish_reason"]
    for _, choice in sorted(choices.items()):
        choice["message"]["tool_calls"] = list(choice["message"]["tool_calls"].values())
    yield from _answered({"choices": [choice for _, choice in sorted(choices.items())]})


def _add(message: dict[str, Any], delta: Mapping[str, Any]) -> None:
    text = delta.get("content")
    if isinstance(text, str):
        message["content"] += text
    for piece in _objects(delta.get("tool_calls")):
        call = message["tool_calls"].setdefault(str(piece.get("index")), {"function": {"arguments": ""}})
        function = piece.get("function")
        given = function if isinstance(function, dict) else {}
        call["id"] = piece.get("id") or call.get("id")
        call["function"]["name"] = given.get("name") or call["function"].get("name")
        call["function"]["arguments"] += given.get("arguments") or ""


def _message(message: Mapping[str, Any]) -> dict[str, Any]:
    """One message: its text, the tools it calls or answers for; of anything else only that it was there."""
    content, role = message.get("content"), str(message.get("role"))
    parts: list[dict[str, Any]] = []
    if role == "tool":
        return {
            "role": role,
            "parts": [{"type": "tool_call_response", "id": message.get("tool_call_id"), "response": content}],
        }
    for part in [{"type": "text", "text": content}] if isinstance(content, str) else _objects(content):
        if part.get("type") == "text":
            if part.get("text"):
                parts.append({"type": "text", "content": part["text"]})
        else:
            parts.append({"type": str(part.get("type"))})
    for call in _objects(message.get("tool_calls")):
        function = call.get("function")
        given = function if isinstance(function, dict) else {}
        parts.append(
            {
                "type": "tool_call",
                "id": call.get("id"),
                "name": given.get("name"),
                "arguments": given.get("arguments"),
            }
        )
    return {"role": role, "parts": parts}


def _objects(value: Any) -> list[dict[str, Any]]:
    return [item for item in value if isinstance(item, dict)] if isinstance(value, list) else []
