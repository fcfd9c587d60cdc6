"""Anthropic's Messages API as the simulated provider speaks it: what it refuses, and the shapes it answers
in.

What it says is what the model says to the same question in chat, so that a bill can be compared.
"""

from __future__ import annotations

import uuid
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

import orjson
from aiohttp import web

from gateway.simulator import tokens
from gateway.simulator.answers import Choice
from gateway.simulator.call import Call
from gateway.simulator.door import admit
from gateway.simulator.faults import Refusal
from gateway.simulator.judge import refuse
from gateway.simulator.memory import Memory
from gateway.simulator.shapes import ABSURD_TOKENS, Counts, Event

_THOUGHT = "I look at what was asked, and at what is known."
_THOUGHT_TOKENS = tokens.count(_THOUGHT)
_TYPES: Mapping[int, str] = {
    400: "invalid_request_error",
    401: "authentication_error",
    402: "billing_error",
    403: "permission_error",
    404: "not_found_error",
    409: "conflict_error",
    413: "request_too_large",
    429: "rate_limit_error",
    500: "api_error",
    504: "timeout_error",
    529: "overloaded_error",
}
_FIELDS = frozenset(
    {
        "max_tokens",
        "messages",
        "metadata",
        "model",
        "output_config",
        "service_tier",
        "simulate",
        "stop_sequences",
        "stream",
        "system",
        "temperature",
        "thinking",
        "tool_choice",
        "tools",
        "top_k",
        "top_p",
    }
)
_REASONS = {"stop": "end_turn", "length": "max_tokens", "tool_calls": "tool_use"}
_OVERLOADED = orjson.dumps({"type": "error", "error": {"type": "overloaded_error", "message": "Overloaded"}})
_REFUSED = orjson.dumps(
    {
        "type": "error",
        "error": {"type": "invalid_request_error", "message": "Output blocked by content filter"},
    }
)


def new_headers() -> dict[str, str]:
    """The headers of one answer, with a `request-id` of its own."""
    return {
        "request-id": f"req_{uuid.uuid4().hex}",
        "anthropic-ratelimit-requests-limit": "4000",
        "anthropic-ratelimit-requests-remaining": "3999",
        "anthropic-ratelimit-requests-reset": "2030-01-01T00:00:00Z",
        "anthropic-ratelimit-input-tokens-limit": "400000",
        "anthropic-ratelimit-input-tokens-remaining": "399000",
        "anthropic-ratelimit-input-tokens-reset": "2030-01-01T00:00:00Z",
    }


def refusal_answer(refusal: Refusal, headers: dict[str, str]) -> web.Response:
    """A refusal as an HTTP answer."""
    kind = _TYPES.get(refusal.status, "api_error" if refusal.status >= 500 else "invalid_request_error")
    message = "prompt is too long" if refusal.code == "context_length_exceeded" else refusal.message
    fields = {"type": "error", "error": {"type": kind, "message": message}}
    body = orjson.dumps({**fields, "request_id": headers.get("request-id")})
    return web.Response(status=refusal.status, body=body, headers=headers, content_type="application/json")


def count_tokens(request: web.Request, memory: Memory, body: object) -> int:
    """The input tokens of a request. Raises `RefusedError`."""
    admit(request, memory.settings)
    return tokens.chat_prompt(_as_chat(request, body, needs_cap=False))


class MessagesCall(Call):
    """One call of `POST /v1/messages`."""

    def __init__(self, memory: Memory, request: web.Request, headers: dict[str, str], body: object) -> None:
        admit(request, memory.settings)
        super().__init__(memory, request, "chat", headers, _as_chat(request, body, needs_cap=True))
        assert isinstance(body, dict)
        self.id = f"msg_{uuid.uuid4().hex[:24]}"
        self._thinks = (body.get("thinking") or {}).get("type") in ("enabled", "adaptive")
        self.delivery.errors = {"error_event": _OVERLOADED, "filter_event": _REFUSED}
        self.delivery.ends, self.delivery.named = False, True

    def refused(self, refusal: Refusal, headers: dict[str, str]) -> web.Response:
        return refusal_answer(refusal, headers)

    def _choices(self, prompts: list[str | list[int]]) -> list[Choice]:
        choices = super()._choices(prompts)
        for choice in choices:
            choice.reasoning_tokens = _THOUGHT_TOKENS if self._thinks else 0
        return choices

    def _usage(self, counts: Counts) -> dict[str, Any] | None:
        fault = self.delivery.fault
        if fault == "no_usage":
            return None
        told = [counts.input - counts.cached, counts.cached, counts.billed_output]
        if fault == "absurd_usage":
            told = [ABSURD_TOKENS] * 3
        elif fault == "negative_usage":
            told = [-1, -1, -1]
        return {
            "input_tokens": told[0],
            "cache_creation_input_tokens": 0,
            "cache_read_input_tokens": told[1],
            "output_tokens": told[2],
            "service_tier": "standard",
        }

    def _whole(self, choices: list[Choice], prompts: list[str | list[int]], counts: Counts) -> bytes:
        choice = choices[0]
        content: list[dict[str, Any]] = []
        if self._thinks:
            content.append({"type": "thinking", "thinking": _THOUGHT, "signature": self._seal()})
        if text := choice.content or choice.refusal:
            content.append({"type": "text", "text": text})
        for call in choice.tool_calls:
            named = {"type": "tool_use", "id": _tool_id(call.id), "name": call.name}
            content.append({**named, "input": _arguments(call.arguments)})
        answer = self._message(content, choice)
        if (told := self._usage(counts)) is not None:
            answer["usage"] = told
        return orjson.dumps(answer)

    def _message(self, content: list[dict[str, Any]], choice: Choice | None) -> dict[str, Any]:
        return {
            "model": self.model,
            "id": self.id,
            "type": "message",
            "role": "assistant",
            "content": content,
            "stop_reason": None if choice is None else _reason(choice),
            "stop_sequence": None,
        }

    def _seal(self) -> str:
        return f"seal-{self.id}"

    def _events(self, choices: list[Choice], counts: Counts) -> Iterable[Event]:
        return self._streamed(choices[0], counts)

    def _streamed(self, choice: Choice, counts: Counts) -> Iterator[Event]:
        told = self._usage(counts)
        message = self._message([], None)
        if told is not None:
            message["usage"] = {**told, "output_tokens": 1}
        yield _event({"type": "message_start", "message": message})
        yield _event({"type": "ping"})
        index = 0
        if self._thinks:
            thinking = {"type": "thinking", "thinking": "", "signature": ""}
            deltas: list[dict[str, Any]] = [
                {"type": "thinking_delta", "thinking": piece} for piece in tokens.pieces(_THOUGHT)
            ]
            deltas.append({"type": "signature_delta", "signature": self._seal()})
            yield from _block(index, thinking, deltas, counted=0)
            index += 1
        if text := choice.content or choice.refusal:
            begun: dict[str, Any] = {"type": "text", "text": ""}
            yield from _block(
                index, begun, [{"type": "text_delta", "text": piece} for piece in tokens.pieces(text)]
            )
            index += 1
        for call in choice.tool_calls:
            begun = {"type": "tool_use", "id": _tool_id(call.id), "name": call.name, "input": {}}
            pieces = [
                {"type": "input_json_delta", "partial_json": piece} for piece in tokens.pieces(call.arguments)
            ]
            yield from _block(index, begun, pieces, opening=tokens.count(call.name))
            index += 1
        ended: dict[str, Any] = {
            "type": "message_delta",
            "delta": {"stop_reason": _reason(choice), "stop_sequence": None},
        }
        if told is not None:
            # With the input again, as Claude has it since 2025: LangChain reads it here alone.
            ended["usage"] = {name: count for name, count in told.items() if name != "service_tier"}
        last = choice.visible_tokens
        yield _event(ended, step=last)
        yield _event({"type": "message_stop"}, step=last)


def _block(
    index: int, begun: dict[str, Any], deltas: list[dict[str, Any]], *, counted: int = 1, opening: int = 0
) -> Iterator[Event]:
    yield _event({"type": "content_block_start", "index": index, "content_block": begun}, opening)
    for step, delta in enumerate(deltas):
        yield _event({"type": "content_block_delta", "index": index, "delta": delta}, counted, step)
    yield _event({"type": "content_block_stop", "index": index}, step=len(deltas))


def _event(fields: dict[str, Any], counted: int = 0, step: int = 0) -> Event:
    return Event(orjson.dumps(fields), counted, step)


def _reason(choice: Choice) -> str:
    if choice.tool_calls and choice.finish_reason != "length":
        return "tool_use"
    return "refusal" if choice.refusal else _REASONS[choice.finish_reason]


def _tool_id(id_: str) -> str:
    return "toolu_" + id_.removeprefix("call_")


def _arguments(text: str) -> Any:
    try:
        return orjson.loads(text)
    except orjson.JSONDecodeError:
        return {}


# what it is asked


def _as_chat(request: web.Request, body: object, *, needs_cap: bool) -> dict[str, Any]:
    """The same question as a chat request. Raises `RefusedError` for what Anthropic refuses."""
    if not isinstance(body, dict):
        raise refuse(400, "The request body is not valid JSON")
    version = request.headers.get("anthropic-version")
    if version is None:
        raise refuse(400, "anthropic-version: header is required")
    for name in body:
        if name not in _FIELDS:
            raise refuse(400, f"{name}: Extra inputs are not permitted")
    for name in ("model", "messages", "max_tokens") if needs_cap else ("model", "messages"):
        if body.get(name) is None:
            raise refuse(400, f"{name}: Field required")
    temperature = body.get("temperature")
    if temperature is not None and (version > "2026" or not 0 <= temperature <= 1):
        raise refuse(400, "temperature: range: 0..1")
    chat: dict[str, Any] = {"model": body["model"], "messages": []}
    for name in ("stream", "simulate"):
        if name in body:
            chat[name] = body[name]
    if needs_cap:
        if type(body["max_tokens"]) is not int or body["max_tokens"] < 1:
            raise refuse(400, "max_tokens: Input should be greater than or equal to 1")
        chat["max_tokens"] = body["max_tokens"]
    if body.get("system"):
        chat["messages"].append({"role": "system", "content": _text(body["system"], "system")})
    if not isinstance(body["messages"], list) or not body["messages"]:
        raise refuse(400, "messages: at least one message is required")
    for at, message in enumerate(body["messages"]):
        chat["messages"] += _messages(message, f"messages.{at}")
    if (body.get("thinking") or {}).get("type") == "enabled":
        _check_thoughts(body["messages"])
    if body.get("stop_sequences"):
        chat["stop"] = body["stop_sequences"]
    _tools(body, chat)
    form = (body.get("output_config") or {}).get("format")
    if form:
        chat["response_format"] = {"type": "json_schema", "json_schema": {"schema": form["schema"]}}
    return chat


def _text(content: Any, where: str) -> str:
    if isinstance(content, str):
        return content
    texts = []
    for at, block in enumerate(content):
        if block.get("type") == "text":
            if not block.get("text"):
                raise refuse(400, f"{where}.{at}: text content blocks must be non-empty")
            texts.append(block["text"])
    return "".join(texts)


def _messages(message: Any, where: str) -> Iterator[dict[str, Any]]:
    role = message.get("role") if isinstance(message, dict) else None
    if role not in ("user", "assistant"):
        raise refuse(400, f"{where}.role: Input should be 'user' or 'assistant'")
    content = message.get("content")
    if not content:
        raise refuse(400, f"{where}: content must be non-empty")
    blocks = [] if isinstance(content, str) else content
    for at, block in enumerate(blocks):
        if block["type"] == "tool_result":
            if at and blocks[at - 1]["type"] != "tool_result":
                raise refuse(400, f"{where}: tool_result blocks must come first in the content array")
            inner = block.get("content") or ""
            yield {
                "role": "tool",
                "tool_call_id": block["tool_use_id"],
                "content": _text(inner, f"{where}.content.{at}"),
            }
    calls = [
        {"function": {"name": block["name"], "arguments": orjson.dumps(block["input"]).decode()}}
        for block in blocks
        if block["type"] == "tool_use"
    ]
    parts: list[dict[str, Any]] = [
        {"type": "image_url", "image_url": {"url": "data:"}} for block in blocks if block["type"] == "image"
    ]
    if text := _text(content, f"{where}.content"):
        parts.append({"type": "text", "text": text})
    found: dict[str, Any] = {"role": role, "content": text if len(parts) == 1 and text else parts}
    if calls:
        found["tool_calls"] = calls
    if parts or calls:
        yield found


def _check_thoughts(messages: list[dict[str, Any]]) -> None:
    """A model that thinks by a budget wants its thoughts back with the results of what it called."""
    kinds = [
        message["content"][0]["type"] if isinstance(message["content"], list) else "text"
        for message in messages
    ]
    if kinds[-1] == "tool_result" and kinds[-2] not in ("thinking", "redacted_thinking"):
        where = f"messages.{len(messages) - 2}.content.0.type"
        found = f"Expected `thinking` or `redacted_thinking`, but found `{kinds[-2]}`"
        rule = "When `thinking` is enabled, a final `assistant` message must start with a thinking block"
        raise refuse(400, f"{where}: {found}. {rule}")


def _tools(body: Mapping[str, Any], chat: dict[str, Any]) -> None:
    tools = body.get("tools")
    if not tools:
        return
    chat["tools"] = [
        {"type": "function", "function": {"name": tool["name"], "parameters": tool["input_schema"]}}
        for tool in tools
    ]
    choice = body.get("tool_choice") or {"type": "auto"}
    if choice["type"] == "tool":
        chat["tool_choice"] = {"type": "function", "function": {"name": choice["name"]}}
    else:
        chat["tool_choice"] = {"auto": "auto", "any": "required", "none": "none"}[choice["type"]]
    if choice.get("disable_parallel_tool_use"):
        chat["parallel_tool_calls"] = False
