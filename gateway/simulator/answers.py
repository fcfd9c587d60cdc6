"""What the simulated model says: a pure function of seed, request and style.

The same question gets the same answer whether it is streamed or not and however often it is asked;
`simulate`, `stream` and `stream_options` are not part of the question.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from random import Random
from typing import Any

import orjson

from gateway.simulator import tokens
from gateway.simulator.prose import refusal, write
from gateway.simulator.schema_value import value_for

_ONE_NAME = {"max_completion_tokens": "max_tokens"}
"""The same question under two names."""
_NOT_THE_QUESTION = frozenset(
    {"simulate", "stream", "stream_options", "n", "user", "metadata", "store", "service_tier"}
)
_REASONING = ("o1", "o3", "o4", "gpt-5")
_REASONING_STEP_TOKENS = 64
"""OpenAI reports reasoning tokens in steps of 64."""


@dataclass(frozen=True, slots=True)
class ToolCall:
    """One call of a function; `arguments` is JSON text."""

    id: str
    name: str
    arguments: str


@dataclass(slots=True)
class Choice:
    """One of the `n` answers to a call, as a neutral record."""

    index: int
    content: str | None = None
    refusal: str | None = None
    tool_calls: list[ToolCall] = field(default_factory=list)
    finish_reason: str = "stop"
    reasoning_tokens: int = 0
    echo: str = ""
    """The prompt, put before the content of a legacy completion; it was not generated."""

    @property
    def visible_tokens(self) -> int:
        """Tokens the caller sees, as the stream counts them: one per piece."""
        return sum(counted for _, counted in self.deltas())

    def deltas(self) -> Iterator[tuple[dict[str, Any], int]]:
        """The deltas of a chat stream after the role, each with its tokens."""
        for piece in tokens.pieces(self.content or ""):
            yield {"content": piece}, 1
        for piece in tokens.pieces(self.refusal or ""):
            yield {"refusal": piece}, 1
        for at, call in enumerate(self.tool_calls):
            function = {"name": call.name, "arguments": ""}
            head = {"index": at, "id": call.id, "type": "function", "function": function}
            yield {"tool_calls": [head]}, tokens.count(call.name)
            for piece in tokens.pieces(call.arguments):
                yield {"tool_calls": [{"index": at, "function": {"arguments": piece}}]}, 1


def question_hash(seed: int, body: Mapping[str, Any]) -> bytes:
    """32 bytes that depend on the seed and on all of the request that may shape its answer."""
    question = {_ONE_NAME.get(key, key): value for key, value in body.items() if key not in _NOT_THE_QUESTION}
    text = orjson.dumps(question, option=orjson.OPT_SORT_KEYS)
    return hashlib.blake2b(text, digest_size=32, key=str(seed).encode()).digest()


def chat(seed: int, body: Mapping[str, Any], style: str, output_tokens: int, says: str = "") -> list[Choice]:
    """The choices of a chat completion; `says` is what they say, if they call no tool."""
    digest = question_hash(seed, body)
    cap = body.get("max_completion_tokens") or body.get("max_tokens")
    return [
        _chat_choice(Random(digest + bytes([at])), at, body, style, output_tokens, cap, says)
        for at in range(_n(body))
    ]


def completion(
    seed: int, body: Mapping[str, Any], prompt: str | list[int], style: str, output_tokens: int
) -> list[Choice]:
    """The choices of a legacy completion for one of its prompts; indexes count from 0 for each prompt."""
    digest = question_hash(seed, {**body, "prompt": prompt})
    # 16 is the API's default for max_tokens.
    cap = 16 if body.get("max_tokens") is None else body["max_tokens"]
    choices = []
    for at in range(_n(body)):
        choice = Choice(at, content=write(Random(digest + bytes([at])), style, output_tokens))
        _stop(choice, body.get("stop"))
        _cap(choice, cap)
        if body.get("echo") and isinstance(prompt, str):
            choice.echo = prompt
        choices.append(choice)
    return choices


def _n(body: Mapping[str, Any]) -> int:
    return body.get("n") or 1


def _chat_choice(
    random: Random,
    index: int,
    body: Mapping[str, Any],
    style: str,
    output_tokens: int,
    cap: int | None,
    says: str,
) -> Choice:
    choice = Choice(index, reasoning_tokens=_reasoning(random, body))
    schema = None if says else _wanted_schema(body)
    if called := _called_tools(random, body):
        choice.tool_calls = [_call(random, tool) for tool in called]
        # A call that was forced by name ends with "stop": so OpenAI has it.
        choice.finish_reason = "stop" if isinstance(body.get("tool_choice"), dict) else "tool_calls"
    elif schema is not None and style == "refusing":
        choice.refusal = refusal(random)
    elif schema is not None:
        choice.content = orjson.dumps(value_for(schema, random)).decode()
    else:
        choice.content = says or write(random, style, output_tokens)
        _stop(choice, body.get("stop"))
    if cap is not None:
        choice.reasoning_tokens = min(choice.reasoning_tokens, cap)
        _cap(choice, cap - choice.reasoning_tokens)
    return choice


def is_reasoning(model: str) -> bool:
    """Whether a model thinks before it answers, by its name."""
    return model.rsplit("/", 1)[-1].startswith(_REASONING)


def _reasoning(random: Random, body: Mapping[str, Any]) -> int:
    if not is_reasoning(str(body.get("model", ""))) or body.get("reasoning_effort") in ("none", "minimal"):
        return 0
    return _REASONING_STEP_TOKENS * random.randint(1, 5)


def _wanted_schema(body: Mapping[str, Any]) -> Any:
    """The schema of a structured answer; None when plain text is wanted."""
    wanted = body.get("response_format")
    if not isinstance(wanted, dict):
        return None
    if wanted.get("type") == "json_schema":
        return (wanted.get("json_schema") or {}).get("schema") or {"type": "object"}
    if wanted.get("type") == "json_object":
        text = {"type": "string"}
        return {"type": "object", "properties": {"answer": text, "reason": text}}
    return None


def _called_tools(random: Random, body: Mapping[str, Any]) -> list[dict[str, Any]]:
    """The tools this answer calls: the named one, those the question mentions, any one if required."""
    functions = [
        tool["function"] for tool in body.get("tools") or () if isinstance(tool, dict) and "function" in tool
    ]
    wanted = body.get("tool_choice", "auto")
    if not functions or wanted == "none":
        return []
    if isinstance(wanted, dict):
        name = (wanted.get("function") or {}).get("name")
        return [function for function in functions if function.get("name") == name][:1]
    last = (body.get("messages") or [{}])[-1]
    text = tokens.message_text(last) if isinstance(last, dict) and last.get("role") == "user" else ""
    mentioned = [function for function in functions if str(function.get("name")) in text]
    if body.get("parallel_tool_calls") is False:
        mentioned = mentioned[:1]
    if not mentioned and wanted == "required":
        return [random.choice(functions)]
    return mentioned


def _call(random: Random, function: Mapping[str, Any]) -> ToolCall:
    arguments = value_for(function.get("parameters") or {"type": "object"}, random)
    identity = f"call_{random.getrandbits(96):024x}"
    return ToolCall(identity, str(function.get("name")), orjson.dumps(arguments).decode())


def _stop(choice: Choice, stop: Any) -> None:
    """Cut the text before the first of the stop sequences."""
    for sequence in [stop] if isinstance(stop, str) else stop or ():
        if isinstance(sequence, str) and sequence and sequence in (choice.content or ""):
            choice.content = (choice.content or "").split(sequence, 1)[0]


def _cap(choice: Choice, room: int) -> None:
    """Cut what is visible to so many tokens."""
    if choice.visible_tokens <= room:
        return
    choice.finish_reason = "length"
    for name in ("content", "refusal"):
        if (text := getattr(choice, name)) is not None:
            setattr(choice, name, text[: tokens.CHARACTERS_PER_TOKEN * room])
    kept: list[ToolCall] = []
    for call in choice.tool_calls:
        room -= tokens.count(call.name)
        if room < 0:
            break
        arguments = call.arguments[: tokens.CHARACTERS_PER_TOKEN * room]
        kept.append(ToolCall(call.id, call.name, arguments))
        room -= len(tokens.pieces(arguments))
    choice.tool_calls = kept
    if choice.content is None and not kept and choice.refusal is None:
        choice.content = ""
