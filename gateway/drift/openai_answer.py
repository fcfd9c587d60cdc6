"""OpenAI's chat and text completions, read for drift: plain and streamed, and whatever else comes in their
place.

Nothing here may raise: what is no JSON, cut, of other types or absurdly deep gives None or a part.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from gateway.drift.answer import Answered, Asked
from gateway.wire.json import dumps, try_object
from gateway.wire.sse import events

_IDENTITY = ("model", "system_fingerprint")
_MOST_PARTS = 512
_CONTENT = re.compile(rb'"(?:content|text)": ?"((?:[^"\\\\]|\\\\.)*)"')
_FINISH = re.compile(rb'"finish_reason": ?"(\w{1,40})"')
_NOT_PLAIN = (
    b'"tool_calls"',
    b'"function_call"',
    b'"refusal":"',
    b'"refusal": "',
    b'"token',
    b'"index":1',
    b'"index": 1',
)
"""Streams with any of these are read event by event: three times the work of a stream that is but text."""


def read_asked(request: bytes) -> Asked | None:
    """From a request's body."""
    fields = try_object(request)
    if fields is None:
        return None
    system, texts, last = [], [], ""
    for message in _objects(fields.get("messages")):
        text, role = _text(message.get("content")), message.get("role")
        if role in ("system", "developer"):
            system.append(text)
        else:
            texts.append(text)
            if role == "user":
                last = text
    prompt = fields.get("prompt")
    prompts = [text for text in (prompt if isinstance(prompt, list) else [prompt]) if isinstance(text, str)]
    texts += prompts
    last = prompts[-1] if prompts else last
    form = fields.get("response_format")
    form = form if isinstance(form, dict) else {}
    described = form.get("json_schema")
    schema = described.get("schema") if isinstance(described, dict) else None
    tools = fields.get("tools", fields.get("functions"))
    return Asked(
        system="\n".join(system),
        texts=tuple(texts),
        last=last,
        tools=dumps([tools, form, fields.get("tool_choice")]) if tools or form else b"",
        temperature=_number(fields.get("temperature")),
        has_tools=bool(tools),
        wants_json=form.get("type") in ("json_object", "json_schema"),
        schema=schema if isinstance(schema, dict) else None,
    )


def read_answered(answer: bytes, *, streamed: bool, size: int) -> Answered | None:
    """From an answer's body; `size` is how many bytes it had, if these are not all."""
    read = _streamed(answer) if streamed else _plain(answer)
    if read is None:
        return None
    text, finish, names, arguments, logprob, identity = read
    chars = len(text) if size <= len(answer) else round(len(text) * size / max(len(answer), 1))
    return Answered(text, chars, finish, tuple(names), tuple(arguments), logprob, identity)


_Read = tuple[str, str, list[str], list[str], float | None, dict[str, str]]


def _plain(answer: bytes) -> _Read | None:
    fields = try_object(answer)
    if fields is None:
        return None
    choice = next(iter(_objects(fields.get("choices"))), None)
    if choice is None:
        return None
    message = choice.get("message")
    if not isinstance(message, dict):
        message = {"content": choice.get("text")}
    text = _text(message.get("content")) or _text(message.get("refusal"))
    calls = _objects(message.get("tool_calls"))
    functions = [call.get("function") for call in calls] + [message.get("function_call")]
    called = [function for function in functions if isinstance(function, dict)]
    return (
        text,
        _word(choice.get("finish_reason")),
        [_word(function.get("name")) for function in called],
        [_word(function.get("arguments")) for function in called],
        _logprob(choice.get("logprobs")),
        _identity(fields),
    )


def _streamed(answer: bytes) -> _Read | None:
    if b"\r" in answer:
        answer = answer.replace(b"\r\n", b"\n").replace(b"\r", b"\n")
    if not any(word in answer for word in _NOT_PLAIN):
        return _streamed_text(answer)
    return _streamed_parts(answer)


def _streamed_text(answer: bytes) -> _Read | None:
    """A stream of text alone: all pieces are cut out at once and unescaped together."""
    first = next((fields for _, data in events(answer) if (fields := try_object(data)) is not None), None)
    if first is None or not isinstance(first.get("choices"), list):
        return None
    pieces = try_object(b'{"text":"%b"}' % b"".join(_CONTENT.findall(answer)))
    if pieces is None:
        # A piece that ends in half a pair of surrogates, or what only looks like one.
        return _streamed_parts(answer)
    finish = _FINISH.findall(answer[-4096:])
    return _text(pieces["text"]), finish[-1].decode() if finish else "", [], [], None, _identity(first)


def _streamed_parts(answer: bytes) -> _Read | None:
    texts: list[str] = []
    names: dict[int, str] = {}
    arguments: dict[int, list[str]] = {}
    finish, found = "", False
    logprob: float | None = None
    identity: dict[str, str] = {}
    for _, data in events(answer):
        fields = try_object(data)
        if fields is None:
            continue
        if not identity:
            identity = _identity(fields)
        for choice in _objects(fields.get("choices")):
            if choice.get("index", 0) != 0:
                continue
            found = True
            delta = choice.get("delta")
            if not isinstance(delta, dict):
                delta = {"content": choice.get("text")}
            for part in (delta.get("content"), delta.get("refusal")):
                if isinstance(part, str):
                    texts.append(part)
            for call in _objects(delta.get("tool_calls"))[:_MOST_PARTS]:
                index, function = call.get("index"), call.get("function")
                if isinstance(function, dict):
                    at = index if isinstance(index, int) else 0
                    names[at] = names.get(at) or _word(function.get("name"))
                    arguments.setdefault(at, []).append(_word(function.get("arguments")))
            finish = _word(choice.get("finish_reason")) or finish
            if logprob is None:
                logprob = _logprob(choice.get("logprobs"))
    if not found:
        return None
    order = sorted(names)
    told = ["".join(arguments.get(at, ())) for at in order]
    return "".join(texts), finish, [names[at] for at in order], told, logprob, identity


def _identity(fields: Mapping[str, Any]) -> dict[str, str]:
    told = {name: fields.get(name) for name in _IDENTITY}
    return {name: value[:128] for name, value in told.items() if isinstance(value, str) and value}


def _logprob(told: Any) -> float | None:
    """The logarithm of the first token's probability."""
    if not isinstance(told, dict):
        return None
    tokens = told.get("content", told.get("token_logprobs"))
    if not isinstance(tokens, list) or not tokens:
        return None
    first = tokens[0]
    return _number(first.get("logprob") if isinstance(first, dict) else first)


def _number(value: Any) -> float | None:
    return float(value) if isinstance(value, int | float) and -1e6 < value < 1e6 else None


def _text(content: Any) -> str:
    if isinstance(content, str):
        return content
    parts = [part.get("text") for part in _objects(content)[:_MOST_PARTS]]
    return "\n".join(part for part in parts if isinstance(part, str))


def _word(value: Any) -> str:
    return value if isinstance(value, str) else ""


def _objects(value: Any) -> list[dict[str, Any]]:
    return [item for item in value if isinstance(item, dict)] if isinstance(value, list) else []
