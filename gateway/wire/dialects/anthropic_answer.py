"""Anthropic's Messages API: whole answers, read into the neutral form and written from it.

Facts: Anthropic's API reference (messages).
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from gateway.usage import FAST, IN_US, Usage
from gateway.wire import answered
from gateway.wire.answered import (
    Answer,
    Candidate,
    Said,
)
from gateway.wire.citation import anthropic_of
from gateway.wire.conversation import Refusal, Text, Thinking, ToolCall
from gateway.wire.dialects.anthropic_request import NAME, arguments_of
from gateway.wire.json import dumps
from gateway.wire.seal import seal_for
from gateway.wire.shape import counted, objects, table, text

MAX_TOKENS = 10**8
"""A usage above this is not believed: ten times the longest context window there is."""

REASONS: Mapping[str, str] = {
    "end_turn": answered.STOP,
    "stop_sequence": answered.STOP,
    "max_tokens": answered.LENGTH,
    "model_context_window_exceeded": answered.LENGTH,
    "tool_use": answered.TOOL_CALLS,
    "refusal": answered.REFUSED,
    "pause_turn": answered.PAUSED,
}
_WORDS: Mapping[str, str] = {
    answered.STOP: "end_turn",
    answered.LENGTH: "max_tokens",
    answered.TOOL_CALLS: "tool_use",
    answered.FILTERED: "refusal",
    answered.REFUSED: "refusal",
    answered.PAUSED: "pause_turn",
}
_NOTHING = Usage()
_TIERS: Mapping[str, str] = {"standard": "default", "default": "standard"}


def read_usage(fields: Mapping[str, Any], before: Usage | None = None) -> Usage | None:
    """Usage of an answer, or of an event that tells only some of its numbers: `before` has the rest. None if
    there is none or its numbers cannot be true. `input_tokens` counts neither cache reads nor writes."""
    told = fields.get("usage")
    if type(told) is not dict or not ("input_tokens" in told or "output_tokens" in told):
        return None
    details = table(told.get("output_tokens_details"))
    known = before or _NOTHING
    new = _tokens(told.get("input_tokens"), known.input)
    cached = _tokens(told.get("cache_read_input_tokens"), known.cached_input)
    written = _tokens(told.get("cache_creation_input_tokens"), known.cache_write)
    output = _tokens(told.get("output_tokens"), known.output + known.reasoning)
    thought = _tokens(details.get("thinking_tokens", details.get("reasoning_tokens")), known.reasoning)
    if new is None or cached is None or written is None or output is None or thought is None:
        return None
    thought = min(thought, output)
    longer = counted(table(told.get("cache_creation")).get("ephemeral_1h_input_tokens"), written)
    # Fast answers, and those of the US alone, have prices of their own.
    tier = text(told.get("service_tier"))
    if told.get("speed") == FAST:
        tier = FAST
    elif told.get("inference_geo") == IN_US:
        tier = IN_US
    searches = counted(table(told.get("server_tool_use")).get("web_search_requests"), MAX_TOKENS)
    return Usage(
        input=new,
        cached_input=cached,
        cache_write=written,
        output=output - thought,
        reasoning=thought,
        hour_cache_write=longer or known.hour_cache_write,
        service_tier=_TIERS.get(tier, tier) or known.service_tier,
        searches=searches or known.searches,
    )


def _tokens(value: Any, known: int) -> int | None:
    return known if value is None else counted(value, MAX_TOKENS)


def write_usage(usage: Usage | None) -> dict[str, Any]:
    """The usage object; all zero for an answer whose provider told none."""
    told = usage or Usage()
    fields: dict[str, Any] = {
        "input_tokens": told.input + told.audio_input,
        "cache_creation_input_tokens": told.cache_write,
        "cache_read_input_tokens": told.cached_input,
        "output_tokens": told.total_output,
    }
    if told.reasoning:
        fields["output_tokens_details"] = {"thinking_tokens": told.reasoning}
    if told.service_tier:
        fields["service_tier"] = _TIERS.get(told.service_tier, told.service_tier)
    return fields


def model_object(name: str) -> dict[str, Any]:
    """One entry of the list of models."""
    return {
        "id": name,
        "type": "model",
        "display_name": name,
        "created_at": "1970-01-01T00:00:00Z",
        "lifecycle": "active",
    }


# whole answers


def read_answer(fields: Mapping[str, Any]) -> Answer | None:
    """A provider's answer; None if it is none."""
    content = fields.get("content")
    if type(content) is not list or fields.get("type") != "message":
        return None
    try:
        parts = [part for block in objects(content) if (part := said_of(block)) is not None]
    except TypeError:
        # A tool's input that is nested more deeply than could be written again.
        return None
    reason = REASONS.get(text(fields.get("stop_reason")), answered.STOP)
    return Answer(
        text(fields.get("id")),
        text(fields.get("model")),
        [Candidate(parts, reason, text(fields.get("stop_sequence")))],
        read_usage(fields),
    )


def said_of(block: Mapping[str, Any]) -> Said | None:
    """A block of an answer; None for those of tools that run at the provider, whose results are in the
    text."""
    kind = block.get("type")
    if kind == "text":
        return Text(text(block.get("text")), citations=block.get("citations") or None)
    if kind == "tool_use":
        return ToolCall(
            text(block.get("id")), text(block.get("name")), dumps(block.get("input") or {}).decode()
        )
    if kind == "thinking":
        return Thinking(text(block.get("thinking")), text(block.get("signature")), dialect=NAME)
    if kind == "redacted_thinking":
        return Thinking("", redacted=text(block.get("data")), dialect=NAME)
    return None


def write_answer(answer: Answer) -> dict[str, Any]:
    """The answer for a caller: its first candidate."""
    candidate = answer.candidates[0] if answer.candidates else Candidate()
    return {
        "id": message_id(answer.id),
        "type": "message",
        "role": "assistant",
        "model": answer.model,
        "content": [block for part in candidate.parts if (block := _block(part)) is not None],
        "stop_reason": stop_reason_of(
            candidate.reason,
            candidate.stop_sequence,
            calls=any(type(part) is ToolCall for part in candidate.parts),
            refuses=any(type(part) is Refusal for part in candidate.parts),
        ),
        "stop_sequence": candidate.stop_sequence or None,
        "usage": write_usage(answer.usage),
    }


def message_id(id_: str) -> str:
    return id_ if id_.startswith("msg_") else f"msg_{id_}"


def stop_reason_of(reason: str, stop_sequence: str, *, calls: bool, refuses: bool) -> str:
    if reason == answered.STOP:
        # OpenAI ends a call that was forced by name with "stop".
        if calls:
            return "tool_use"
        if refuses:
            return "refusal"
        if stop_sequence:
            return "stop_sequence"
    return _WORDS.get(reason, "end_turn")


def _block(part: Said) -> dict[str, Any] | None:
    if isinstance(part, Text):
        block: dict[str, Any] = {"type": "text", "text": part.text}
        if part.citations:
            block["citations"] = [anthropic_of(citation) for citation in part.citations]
        return block if part.text else None
    if isinstance(part, ToolCall):
        return {
            "type": "tool_use",
            "id": part.id,
            "name": part.name,
            "input": arguments_of(part.arguments),
        }
    if isinstance(part, Thinking):
        if part.redacted and part.dialect == NAME:
            return {"type": "redacted_thinking", "data": part.redacted}
        if not part.text and not part.signature:
            return None
        return {"type": "thinking", "thinking": part.text, "signature": seal_for(part, NAME)}
    return {"type": "text", "text": part.text}
