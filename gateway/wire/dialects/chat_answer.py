"""OpenAI's chat completions: whole answers, read into the neutral form and written from it."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from gateway.usage import Usage
from gateway.wire import answered
from gateway.wire.answered import (
    Answer,
    Candidate,
    Said,
)
from gateway.wire.citation import annotations_of, citations_of
from gateway.wire.conversation import Refusal, Text, Thinking, ToolCall
from gateway.wire.dialects.openai_chat import read_usage
from gateway.wire.seal import seal_for
from gateway.wire.shape import objects, table, text

REASONS: Mapping[str, str] = {
    "stop": answered.STOP,
    "length": answered.LENGTH,
    "tool_calls": answered.TOOL_CALLS,
    "function_call": answered.TOOL_CALLS,
    "content_filter": answered.FILTERED,
}
WORDS: Mapping[str, str] = {
    answered.STOP: "stop",
    answered.LENGTH: "length",
    answered.TOOL_CALLS: "tool_calls",
    answered.FILTERED: "content_filter",
    answered.REFUSED: "content_filter",
    answered.PAUSED: "stop",
}


def write_usage(usage: Usage) -> dict[str, Any]:
    """The usage object."""
    return {
        "prompt_tokens": usage.total_input,
        "completion_tokens": usage.total_output,
        "total_tokens": usage.total_input + usage.total_output,
        "prompt_tokens_details": {
            "cached_tokens": usage.cached_input,
            "cache_write_tokens": usage.cache_write,
            "audio_tokens": usage.audio_input,
        },
        "completion_tokens_details": {
            "reasoning_tokens": usage.reasoning,
            "audio_tokens": usage.audio_output,
        },
    }


# whole answers


def read_answer(fields: Mapping[str, Any]) -> Answer | None:
    """A provider's answer; None if it is none."""
    choices = fields.get("choices")
    if type(choices) is not list or not choices:
        return None
    created = fields.get("created")
    return Answer(
        text(fields.get("id")),
        text(fields.get("model")),
        [_candidate(choice) for choice in objects(choices)],
        read_usage(fields),
        created if type(created) is int else 0,
        text(fields.get("system_fingerprint")),
    )


def _candidate(choice: Mapping[str, Any]) -> Candidate:
    message = table(choice.get("message"))
    parts: list[Said] = []
    thought = text(message.get("reasoning_content")) or text(message.get("reasoning"))
    if thought:
        parts.append(Thinking(thought))
    content = message.get("content")
    if type(content) is str and content:
        cited = [*citations_of(message.get("annotations"), content)]
        parts.append(Text(content, citations=cited or None))
    parts += parts_in(content)
    if message.get("refusal"):
        parts.append(Refusal(text(message["refusal"])))
    for call in objects(message.get("tool_calls")):
        function = table(call.get("function"))
        parts.append(
            ToolCall(text(call.get("id")), text(function.get("name")), text(function.get("arguments")))
        )
    reason = REASONS.get(text(choice.get("finish_reason")), answered.STOP)
    return Candidate(parts, reason, logprobs=choice.get("logprobs"))


def parts_in(content: Any) -> Iterator[Text | Thinking]:
    """What is in a content that is a list: Mistral's reasoning models answer so, streamed too."""
    for part in objects(content):
        if part.get("type") == "text":
            yield Text(text(part.get("text")))
        elif part.get("type") == "thinking":
            yield Thinking("".join(text(inner.get("text")) for inner in objects(part.get("thinking"))))


def write_answer(answer: Answer) -> dict[str, Any]:
    """The answer for a caller."""
    fields: dict[str, Any] = {
        "id": answer.id,
        "object": "chat.completion",
        "created": answer.created_s,
        "model": answer.model,
        "choices": [_choice(index, candidate) for index, candidate in enumerate(answer.candidates)],
    }
    if answer.usage is not None:
        fields["usage"] = write_usage(answer.usage)
        if answer.usage.service_tier:
            fields["service_tier"] = answer.usage.service_tier
    if answer.fingerprint:
        fields["system_fingerprint"] = answer.fingerprint
    return fields


def _choice(index: int, candidate: Candidate) -> dict[str, Any]:
    texts, thoughts, refusals, calls, sealed = [], [], [], [], []
    cited: list[dict[str, Any]] = []
    size = 0
    for part in candidate.parts:
        if isinstance(part, Text):
            texts.append(part.text)
            cited += annotations_of(part.citations or (), size, size + len(part.text))
            size += len(part.text)
        elif isinstance(part, ToolCall):
            function = {"name": part.name, "arguments": part.arguments}
            calls.append({"id": part.id, "type": "function", "function": function})
        elif isinstance(part, Refusal):
            refusals.append(part.text)
        else:
            thoughts.append(part.text)
            sealed += sealed_in(part)
    message: dict[str, Any] = {
        "role": "assistant",
        "content": "".join(texts) if texts or not (calls or refusals) else None,
        "refusal": "".join(refusals) or None,
    }
    if cited:
        message["annotations"] = cited
    if calls:
        message["tool_calls"] = calls
    if any(thoughts):
        message["reasoning_content"] = "".join(thoughts)
    if sealed:
        message["thinking_blocks"] = sealed
    return {
        "index": index,
        "message": message,
        "logprobs": candidate.logprobs,
        "finish_reason": WORDS.get(candidate.reason, "stop"),
    }


def sealed_in(part: Thinking) -> list[dict[str, Any]]:
    if part.redacted:
        return [{"type": "redacted_thinking", "data": part.redacted}]
    if part.signature:
        return [{"type": "thinking", "thinking": part.text, "signature": seal_for(part, "anthropic")}]
    return []
