"""OpenAI's Responses API: whole answers, read into the neutral form and written from it.

Facts: openai-openapi 2.3.0 and recorded traffic. An answer is a list of items; each part of the neutral form
is one item.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from gateway.usage import Usage, split_usage
from gateway.wire import answered
from gateway.wire.answered import Answer, Candidate, Said
from gateway.wire.citation import citations_of, part_annotations_of
from gateway.wire.conversation import Refusal, Text, Thinking, ToolCall
from gateway.wire.dialects.openai_chat import MAX_TOKENS
from gateway.wire.dialects.responses_repeated import DEFAULTS
from gateway.wire.dialects.responses_request import NAME, thought_in
from gateway.wire.logprobs import with_bytes
from gateway.wire.seal import seal_for
from gateway.wire.shape import counted, objects, table, text

_MAX_S = 2**40
"""A later time is not believed."""
UNFINISHED = ("queued", "in_progress")
"""The status of an answer that is still to come."""
INCOMPLETE: Mapping[str, str] = {
    answered.LENGTH: "max_output_tokens",
    answered.FILTERED: "content_filter",
    answered.REFUSED: "content_filter",
}
"""Why an answer is not whole."""


def read_usage(fields: Mapping[str, Any]) -> Usage | None:
    """Usage of an answer; None if there is none or its numbers cannot be true."""
    told = fields.get("usage")
    if type(told) is not dict:
        return None
    of_input, of_output = table(told.get("input_tokens_details")), table(told.get("output_tokens_details"))
    total_input = counted(told.get("input_tokens"), MAX_TOKENS)
    total_output = counted(told.get("output_tokens"), MAX_TOKENS)
    parts = [
        counted(value or 0, MAX_TOKENS)
        for value in (
            of_input.get("cached_tokens"),
            of_input.get("cache_write_tokens"),
            of_output.get("reasoning_tokens"),
        )
    ]
    if total_input is None or total_output is None or None in parts:
        return None
    cached, written, reasoning = (part or 0 for part in parts)
    usage = split_usage(total_input, total_output, cached=cached, written=written, reasoning=reasoning)
    usage.service_tier = text(fields.get("service_tier"))
    return usage


def write_usage(usage: Usage) -> dict[str, Any]:
    """The usage object."""
    return {
        "input_tokens": usage.total_input,
        "input_tokens_details": {
            "cached_tokens": usage.cached_input,
            "cache_write_tokens": usage.cache_write,
        },
        "output_tokens": usage.total_output,
        "output_tokens_details": {"reasoning_tokens": usage.reasoning},
        "total_tokens": usage.total_input + usage.total_output,
    }


# reading


def read_answer(fields: Mapping[str, Any]) -> Answer | None:
    """A provider's answer; None if it is none, or is still to come."""
    output = fields.get("output")
    if type(output) is not list or text(fields.get("status")) in UNFINISHED:
        return None
    parts: list[Said] = []
    logprobs: list[Any] = []
    for item in objects(output):
        parts += _parts_of(item)
        for part in objects(item.get("content")):
            logprobs += [*objects(part.get("logprobs"))]
    candidate = Candidate(parts, reason_of(fields, calls=any(type(part) is ToolCall for part in parts)))
    if logprobs:
        candidate.logprobs = {"content": logprobs, "refusal": None}
    return Answer(
        text(fields.get("id")),
        text(fields.get("model")),
        [candidate],
        read_usage(fields),
        made_s(fields),
    )


def made_s(response: Mapping[str, Any]) -> int:
    """When a response was made (seconds since 1970); 0 if it does not say."""
    created: Any = response.get("created_at")
    return int(created) if type(created) in (int, float) and 0 <= created < _MAX_S else 0


def _parts_of(item: Mapping[str, Any]) -> Iterator[Said]:
    """The parts of an item; none of what tools did that run at the provider: the text has their results."""
    kind = item.get("type")
    if kind == "message":
        for part in objects(item.get("content")):
            if part.get("type") == "output_text":
                said = text(part.get("text"))
                yield Text(said, citations=[*citations_of(part.get("annotations"), said)] or None)
            elif part.get("type") == "refusal":
                yield Refusal(text(part.get("refusal")))
    elif kind == "function_call":
        yield ToolCall(text(item.get("call_id")), text(item.get("name")), text(item.get("arguments")))
    elif kind == "reasoning":
        thought, seal = thought_in(item), text(item.get("encrypted_content"))
        if thought or seal:
            yield Thinking(thought, seal, dialect=NAME, id=text(item.get("id")))


def reason_of(response: Mapping[str, Any], *, calls: bool) -> str:
    """Why an answer ended."""
    if response.get("status") == "incomplete":
        is_filtered = table(response.get("incomplete_details")).get("reason") == "content_filter"
        return answered.FILTERED if is_filtered else answered.LENGTH
    return answered.TOOL_CALLS if calls else answered.STOP


# writing


def write_answer(answer: Answer) -> dict[str, Any]:
    """The answer for a caller: its first candidate."""
    candidate = answer.candidates[0] if answer.candidates else Candidate()
    reason = reason_for(candidate.reason, refuses=any(type(part) is Refusal for part in candidate.parts))
    parts = [part for part in candidate.parts if not _is_empty(part)]
    items = []
    for at, part in enumerate(parts):
        is_last = at == len(parts) - 1
        status = "incomplete" if is_last and reason in INCOMPLETE else "completed"
        items.append(item_of(part, item_id(part, answer.id, at), status))
    logprobs = [*with_bytes(objects(table(candidate.logprobs).get("content")), [])]
    for item in items:
        if logprobs and item["type"] == "message":
            item["content"][0]["logprobs"] = logprobs
            break
    return response(answer, items, reason, answer.usage)


def _is_empty(part: Said) -> bool:
    return type(part) is Thinking and not (part.text or part.signature or part.redacted)


def reason_for(reason: str, *, refuses: bool) -> str:
    """Why an answer ended, for a caller: words in which a model refuses are a whole answer."""
    return answered.STOP if reason == answered.REFUSED and refuses else reason


def item_id(part: Said, answer_id: str, at: int) -> str:
    """The id of the item that is number `at` of an answer."""
    if isinstance(part, Thinking):
        return part.id or f"rs_{answer_id}_{at}"
    return f"{'fc' if isinstance(part, ToolCall) else 'msg'}_{answer_id}_{at}"


def item_of(part: Said, id_: str, status: str) -> dict[str, Any]:
    """A part as an item. `status` is "in_progress" (nothing is in it yet), "completed" or "incomplete"."""
    item: dict[str, Any] = {"id": id_}
    is_begun = status == "in_progress"
    if isinstance(part, ToolCall):
        item |= {
            "type": "function_call",
            "status": status,
            "arguments": "" if is_begun else part.arguments or "{}",
        }
        return item | {"call_id": part.id, "name": part.name}
    if isinstance(part, Thinking):
        item |= {"type": "reasoning", "summary": []}
        if not is_begun and part.text:
            item["summary"] = [{"type": "summary_text", "text": part.text}]
        seal = "" if is_begun else seal_for(part, NAME)
        return item | ({"encrypted_content": seal} if seal else {})
    content = [] if is_begun else [content_of(part)]
    return item | {"type": "message", "status": status, "content": content, "role": "assistant"}


def content_of(part: Text | Refusal) -> dict[str, Any]:
    """A text as the content of a message."""
    if isinstance(part, Refusal):
        return {"type": "refusal", "refusal": part.text}
    cited = [*part_annotations_of(part.citations or (), len(part.text))]
    return {"type": "output_text", "annotations": cited, "logprobs": [], "text": part.text}


def response(
    answer: Answer, items: list[dict[str, Any]], reason: str | None, usage: Usage | None
) -> dict[str, Any]:
    """The response object; `reason` None: it has only begun."""
    why = INCOMPLETE.get(reason or "")
    status = "in_progress" if reason is None else "completed" if why is None else "incomplete"
    fields: dict[str, Any] = {
        "id": response_id(answer.id),
        "object": "response",
        "created_at": answer.created_s,
        "status": status,
        "error": None,
        "incomplete_details": None if why is None else {"reason": why},
        "model": answer.model,
        "output": items,
        "usage": None if usage is None else write_usage(usage),
        **(DEFAULTS if answer.repeats is None else answer.repeats),
    }
    if usage is not None and usage.service_tier:
        fields["service_tier"] = usage.service_tier
    return fields


def response_id(id_: str) -> str:
    """An answer's id as this API has them."""
    return id_ if id_.startswith("resp_") else f"resp_{id_}"
