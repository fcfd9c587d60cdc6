"""OpenAI's Responses API as the simulated provider speaks it: the shapes it answers in.

What it says is what the model says to the same question in chat, so that a bill can be compared.
"""

from __future__ import annotations

import uuid
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

import orjson
from aiohttp import web

from gateway.clock import now_s
from gateway.simulator import tokens
from gateway.simulator.answers import Choice, ToolCall
from gateway.simulator.call import Call
from gateway.simulator.door import admit
from gateway.simulator.memory import Memory
from gateway.simulator.responses_asked import ENCRYPTED, SEAL, as_chat
from gateway.simulator.shapes import ABSURD_TOKENS, Counts, Event

_THOUGHT = "I look at what was asked, and at what is known."
_ECHOED: Mapping[str, Any] = {
    "instructions": None,
    "max_output_tokens": None,
    "metadata": {},
    "parallel_tool_calls": True,
    "previous_response_id": None,
    "reasoning": {"effort": None, "summary": None},
    "store": True,
    "temperature": 1.0,
    "text": {"format": {"type": "text"}},
    "tool_choice": "auto",
    "tools": [],
    "top_p": 1.0,
    "truncation": "disabled",
    "user": None,
}
"""What a response repeats of its request, and what stands there if it says nothing."""


def _error_event(type_: str, code: str, message: str) -> bytes:
    error = {"type": type_, "code": code, "message": message, "param": None}
    return orjson.dumps({"type": "error", "sequence_number": 99, "error": error})


_ERRORS = {
    "error_event": _error_event("server_error", "server_error", "The server had an error (simulated)."),
    "filter_event": _error_event(
        "invalid_request_error", "content_filter", "Output blocked by content filter (simulated)."
    ),
}


class ResponsesCall(Call):
    """One call of `POST /v1/responses`. `before` is the response that it follows, if it names one."""

    def __init__(
        self,
        memory: Memory,
        request: web.Request,
        headers: dict[str, str],
        body: object,
        before: Mapping[str, Any] | None = None,
    ) -> None:
        admit(request, memory.settings)
        super().__init__(memory, request, "chat", headers, as_chat(body, before))
        assert isinstance(body, dict)
        self.id = f"resp_{uuid.uuid4().hex}"
        self.made: dict[str, Any] = {}
        """The response, once it is whole."""
        self._asked: Mapping[str, Any] = body
        self._seals = ENCRYPTED in (body.get("include") or ())
        self._tells = bool((body.get("reasoning") or {}).get("summary"))
        self.delivery.errors = _ERRORS
        self.delivery.ends, self.delivery.named = False, True

    def _whole(self, choices: list[Choice], prompts: list[str | list[int]], counts: Counts) -> bytes:
        choice = choices[0]
        output = [self._item(part, at) for at, part in enumerate(self._parts(choice))]
        self.made = self._response(output, choice, self._told(counts))
        if self._asked.get("background") is True:
            return orjson.dumps({**self.made, "status": "queued", "output": [], "usage": None})
        return orjson.dumps(self.made)

    def _parts(self, choice: Choice) -> list[ToolCall | str]:
        """What the answer is made of: "thoughts", "content" and calls."""
        found: list[ToolCall | str] = ["thoughts"] if choice.reasoning_tokens else []
        if choice.content is not None:
            found.append(f"text {choice.content}")
        if choice.refusal is not None:
            found.append(f"refusal {choice.refusal}")
        return [*found, *choice.tool_calls]

    def _item(self, part: ToolCall | str, at: int, *, status: str = "completed") -> dict[str, Any]:
        """A part as an item; of one that is in progress nothing is there yet."""
        begun = status == "in_progress"
        id_ = f"{self.id.removeprefix('resp_')}{at}"
        if isinstance(part, ToolCall):
            arguments = "" if begun else part.arguments
            named = {"id": f"fc_{id_}", "type": "function_call", "status": status, "arguments": arguments}
            return {**named, "call_id": part.id, "name": part.name}
        if part == "thoughts":
            item: dict[str, Any] = {"id": f"rs_{id_}", "type": "reasoning", "summary": []}
            if self._tells and not begun:
                item["summary"] = [{"type": "summary_text", "text": _THOUGHT}]
            if self._seals:
                item["encrypted_content"] = "" if begun else f"{SEAL}{self.id}"
            return item
        content = [] if begun else [_content(part)]
        message = {"id": f"msg_{id_}", "type": "message", "status": status, "content": content}
        return {**message, "role": "assistant"}

    def _response(
        self, output: list[dict[str, Any]], choice: Choice | None, told: dict[str, Any] | None
    ) -> dict[str, Any]:
        status = "in_progress"
        if choice is not None:
            status = "incomplete" if choice.finish_reason == "length" else "completed"
        fields: dict[str, Any] = {
            "id": self.id,
            "object": "response",
            "created_at": int(now_s()),
            "status": status,
            "background": self._asked.get("background") is True,
            "error": None,
            "incomplete_details": {"reason": "max_output_tokens"} if status == "incomplete" else None,
            "model": self.model,
            "output": output,
            "service_tier": self._tier() if choice is not None else "auto",
            **{name: self._asked.get(name, default) for name, default in _ECHOED.items()},
        }
        if choice is None or told is not None:
            fields["usage"] = told
        return fields

    def _told(self, counts: Counts) -> dict[str, Any] | None:
        """The usage object; None when a fault withholds it."""
        fault = self.delivery.fault
        if fault == "no_usage":
            return None
        told = [counts.input, counts.cached, counts.billed_output, counts.reasoning]
        if fault == "absurd_usage":
            told = [ABSURD_TOKENS] * 4
        elif fault == "negative_usage":
            told = [-1] * 4
        return {
            "input_tokens": told[0],
            "input_tokens_details": {"cached_tokens": told[1]},
            "output_tokens": told[2],
            "output_tokens_details": {"reasoning_tokens": told[3]},
            "total_tokens": told[0] + told[2],
        }

    # streams

    def _events(self, choices: list[Choice], counts: Counts) -> Iterable[Event]:
        for number, (fields, counted, step) in enumerate(self._streamed(choices[0], counts)):
            kind = fields.pop("type")
            yield Event(orjson.dumps({"type": kind, "sequence_number": number, **fields}), counted, step)

    def _streamed(self, choice: Choice, counts: Counts) -> Iterator[tuple[dict[str, Any], int, int]]:
        begun = self._response([], None, None)
        yield {"type": "response.created", "response": begun}, 0, 0
        yield {"type": "response.in_progress", "response": begun}, 0, 0
        output = []
        step = 0
        for at, part in enumerate(self._parts(choice)):
            opening = tokens.count(part.name) if isinstance(part, ToolCall) else 0
            added = self._item(part, at, status="in_progress")
            yield {"type": "response.output_item.added", "output_index": at, "item": added}, opening, step
            of = {"output_index": at, "item_id": added["id"]}
            for kind, fields, counted in self._inside(part):
                yield {"type": f"response.{kind}", **of, **fields}, counted, step
                step += counted
            output.append(self._item(part, at))
            done = {"type": "response.output_item.done", "output_index": at, "item": output[-1]}
            yield done, 0, step
        self.made = self._response(output, choice, self._told(counts))
        yield {"type": f"response.{self.made['status']}", "response": self.made}, 0, choice.visible_tokens

    def _inside(self, part: ToolCall | str) -> Iterator[tuple[str, dict[str, Any], int]]:
        """The events of one part, with the tokens that each one brings."""
        if isinstance(part, ToolCall):
            for piece in tokens.pieces(part.arguments):
                yield "function_call_arguments.delta", {"delta": piece}, 1
            yield "function_call_arguments.done", {"arguments": part.arguments, "name": part.name}, 0
        elif part == "thoughts":
            if self._tells:
                yield from _thoughts()
        else:
            yield from _texts(part)


def _thoughts() -> Iterator[tuple[str, dict[str, Any], int]]:
    first = {"summary_index": 0}
    yield "reasoning_summary_part.added", {**first, "part": {"type": "summary_text", "text": ""}}, 0
    for piece in tokens.pieces(_THOUGHT):
        yield "reasoning_summary_text.delta", {**first, "delta": piece}, 0
    yield "reasoning_summary_text.done", {**first, "text": _THOUGHT}, 0
    yield "reasoning_summary_part.done", {**first, "part": {"type": "summary_text", "text": _THOUGHT}}, 0


def _texts(part: str) -> Iterator[tuple[str, dict[str, Any], int]]:
    kind, _, text = part.partition(" ")
    first: dict[str, Any] = {"content_index": 0}
    more: dict[str, Any] = {"logprobs": []} if kind == "text" else {}
    name = "output_text" if kind == "text" else "refusal"
    yield "content_part.added", {**first, "part": _content(f"{kind} ")}, 0
    for piece in tokens.pieces(text):
        yield f"{name}.delta", {**first, "delta": piece, **more}, 1
    yield f"{name}.done", {**first, kind: text, **more}, 0
    yield "content_part.done", {**first, "part": _content(part)}, 0


def _content(part: str) -> dict[str, Any]:
    kind, _, text = part.partition(" ")
    if kind == "refusal":
        return {"type": "refusal", "refusal": text}
    return {"type": "output_text", "annotations": [], "logprobs": [], "text": text}
