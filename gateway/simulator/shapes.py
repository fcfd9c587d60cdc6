"""Answers and stream events in the very shapes OpenAI sends (field order as recorded in 2025)."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import zip_longest
from typing import Any

import orjson

from gateway.simulator.answers import Choice
from gateway.simulator.tokens import pieces

ABSURD_TOKENS = 10**15
_PADDING = "WuQNXIPio8PDeczEmdPrt9Kx"


@dataclass(slots=True)
class Counts:
    """Tokens of one call. `output` includes `reasoning`, `input` includes `cached`; `unseen` is output beside
    it."""

    input: int
    cached: int
    output: int
    reasoning: int
    unseen: int = 0

    @property
    def billed_output(self) -> int:
        """What is told, and billed for a whole answer."""
        return self.output + self.unseen


@dataclass(frozen=True, slots=True)
class Event:
    """One event of a stream: its data, the tokens it brings, the step of the model it comes from (from 0)."""

    data: bytes
    tokens: int
    step: int


@dataclass(frozen=True, slots=True)
class Frame:
    """What all events and the answer of one call have in common."""

    id: str
    created: int
    model: str
    fingerprint: str
    service_tier: str
    wants_usage: bool = False
    padded: bool = False
    """Chat chunks carry OpenAI's `obfuscation`: padding that hides the length of tokens from listeners."""
    azure: bool = False
    """The stream starts with Azure's own event: no choices, empty model, results of the prompt filter."""


def usage(counts: Counts, fault: str | None, *, details: bool = True) -> dict[str, Any] | None:
    """The usage object; None when a fault withholds it."""
    if fault == "no_usage":
        return None
    told = counts
    if fault == "absurd_usage":
        told = Counts(ABSURD_TOKENS, 2 * ABSURD_TOKENS, ABSURD_TOKENS, 2 * ABSURD_TOKENS)
    elif fault == "negative_usage":
        told = Counts(-counts.input, -1, -counts.billed_output, -1)
    fields: dict[str, Any] = {
        "prompt_tokens": told.input,
        "completion_tokens": told.billed_output,
        "total_tokens": told.input + told.billed_output,
    }
    if details:
        fields["prompt_tokens_details"] = {"cached_tokens": told.cached, "audio_tokens": 0}
        fields["completion_tokens_details"] = {
            "reasoning_tokens": told.reasoning,
            "audio_tokens": 0,
            "accepted_prediction_tokens": 0,
            "rejected_prediction_tokens": 0,
        }
    return fields


def chat_answer(frame: Frame, choices: list[Choice], told: dict[str, Any] | None) -> dict[str, Any]:
    """A whole chat completion."""
    answer: dict[str, Any] = {
        "id": frame.id,
        "object": "chat.completion",
        "created": frame.created,
        "model": frame.model,
        "choices": [_chat_choice(choice) for choice in choices],
    }
    if told is not None:
        answer["usage"] = told
    return {**answer, "service_tier": frame.service_tier, "system_fingerprint": frame.fingerprint}


def _chat_choice(choice: Choice) -> dict[str, Any]:
    message: dict[str, Any] = {"role": "assistant", "content": choice.content}
    if choice.tool_calls:
        message["tool_calls"] = [
            {"id": call.id, "type": "function", "function": {"name": call.name, "arguments": call.arguments}}
            for call in choice.tool_calls
        ]
    message |= {"refusal": choice.refusal, "annotations": []}
    return {
        "index": choice.index,
        "message": message,
        "logprobs": None,
        "finish_reason": choice.finish_reason,
    }


def chat_events(frame: Frame, choices: list[Choice], told: dict[str, Any] | None) -> Iterator[Event]:
    """The events of a streamed chat completion, without `[DONE]`."""
    if frame.azure:
        yield Event(_azure_head(), 0, 0)
    for choice in choices:
        text = None if choice.tool_calls else ""
        delta = {"role": "assistant", "content": text, "refusal": None}
        yield Event(_chat_chunk(frame, choice.index, delta, None), 0, 0)
    for step, deltas in enumerate(zip_longest(*(choice.deltas() for choice in choices))):
        for choice, delta_and_tokens in zip(choices, deltas, strict=True):
            if delta_and_tokens is not None:
                delta, counted = delta_and_tokens
                yield Event(_chat_chunk(frame, choice.index, delta, None), counted, step)
    last = max(choice.visible_tokens for choice in choices)
    for choice in choices:
        yield Event(_chat_chunk(frame, choice.index, {}, choice.finish_reason), 0, last)
    if frame.wants_usage and told is not None:
        yield Event(_chat_chunk(frame, None, {}, None, told), 0, last)


def _chat_chunk(
    frame: Frame,
    index: int | None,
    delta: dict[str, Any],
    finish: str | None,
    told: dict[str, Any] | None = None,
) -> bytes:
    choice = {"index": index, "delta": delta, "logprobs": None, "finish_reason": finish}
    chunk: dict[str, Any] = {
        "id": frame.id,
        "object": "chat.completion.chunk",
        "created": frame.created,
        "model": frame.model,
        "service_tier": frame.service_tier,
        "system_fingerprint": frame.fingerprint,
        "choices": [] if index is None else [choice],
    }
    if frame.wants_usage:
        chunk["usage"] = told
    if frame.padded:
        chunk["obfuscation"] = _PADDING[
            : hashlib.blake2b(orjson.dumps(delta), digest_size=1).digest()[0] % 24
        ]
    return orjson.dumps(chunk)


def _azure_head() -> bytes:
    safe = {
        name: {"filtered": False, "severity": "safe"} for name in ("hate", "self_harm", "sexual", "violence")
    }
    results = [{"prompt_index": 0, "content_filter_results": safe}]
    return orjson.dumps(
        {"choices": [], "created": 0, "id": "", "model": "", "object": "", "prompt_filter_results": results}
    )


def completion_answer(frame: Frame, choices: list[Choice], told: dict[str, Any] | None) -> dict[str, Any]:
    """A whole legacy completion."""
    answer: dict[str, Any] = {
        "id": frame.id,
        "object": "text_completion",
        "created": frame.created,
        "model": frame.model,
        "choices": [
            _text_choice(choice.index, choice.echo + (choice.content or ""), choice.finish_reason)
            for choice in choices
        ],
    }
    if told is not None:
        answer["usage"] = told
    return answer


def _text_choice(index: int, text: str, finish: str | None) -> dict[str, Any]:
    return {"text": text, "index": index, "logprobs": None, "finish_reason": finish}


def completion_events(frame: Frame, choices: list[Choice], told: dict[str, Any] | None) -> Iterator[Event]:
    """The events of a streamed legacy completion, without `[DONE]`; there is no role event."""
    texts = [pieces(choice.content or "") for choice in choices]
    for choice in choices:
        if choice.echo:
            yield Event(_text_chunk(frame, [_text_choice(choice.index, choice.echo, None)]), 0, 0)
    for step, parts in enumerate(zip_longest(*texts)):
        for choice, part in zip(choices, parts, strict=True):
            if part is not None:
                yield Event(_text_chunk(frame, [_text_choice(choice.index, part, None)]), 1, step)
    last = max(map(len, texts))
    for choice in choices:
        yield Event(_text_chunk(frame, [_text_choice(choice.index, "", choice.finish_reason)]), 0, last)
    if frame.wants_usage and told is not None:
        yield Event(_text_chunk(frame, [], told), 0, last)


def _text_chunk(frame: Frame, choices: list[dict[str, Any]], told: dict[str, Any] | None = None) -> bytes:
    chunk: dict[str, Any] = {
        "id": frame.id,
        "object": "text_completion",
        "created": frame.created,
        "choices": choices,
        "model": frame.model,
    }
    if frame.wants_usage:
        chunk["usage"] = told
    return orjson.dumps(chunk)


def embeddings_answer(
    model: str, vectors: list[Any], prompt_tokens: int, fault: str | None
) -> dict[str, Any]:
    """A whole embeddings answer; `vectors` are lists of floats or base64 texts."""
    data = [{"object": "embedding", "index": at, "embedding": vector} for at, vector in enumerate(vectors)]
    answer: dict[str, Any] = {"object": "list", "data": data, "model": model}
    told = usage(Counts(prompt_tokens, 0, 0, 0), fault, details=False)
    if told is not None:
        answer["usage"] = {"prompt_tokens": told["prompt_tokens"], "total_tokens": told["prompt_tokens"]}
    return answer


def models_answer(names: tuple[str, ...], created: int) -> dict[str, Any]:
    """`GET /v1/models`."""
    return {"object": "list", "data": [model_answer(name, created) for name in names]}


def model_answer(name: str, created: int) -> dict[str, Any]:
    """`GET /v1/models/{id}`."""
    return {"id": name, "object": "model", "created": created, "owned_by": "simulator"}
