"""OpenAI's Responses API: a request, written from the neutral form."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from gateway.wire.conversation import (
    Conversation,
    Leftovers,
    Media,
    Part,
    Reasoning,
    Refusal,
    Text,
    Thinking,
    Tool,
    ToolCall,
    ToolResult,
    Toward,
)
from gateway.wire.dialects.responses_request import (
    CAP_FIELD,
    ENCRYPTED,
    LEAST_CAP_TOKENS,
    LOGPROBS,
    NAME,
    SAME,
)

_AUDIO_FORMATS: Mapping[str, str] = {"audio/mpeg": "mp3", "audio/mp3": "mp3", "audio/wav": "wav"}
_SUFFIXES: Mapping[str, str] = {"application/pdf": ".pdf", "text/plain": ".txt", "text/markdown": ".md"}
"""OpenAI goes by the name of a file."""
_NO_PARAMETERS: Mapping[str, Any] = {"type": "object", "properties": {}}


def write_cap(fields: dict[str, Any], cap_tokens: int) -> None:
    """Caps the output of a request, which the caller itself may have capped lower: a cap that is too low is
    for the provider to refuse, in its own words."""
    own = fields.get(CAP_FIELD)
    if type(own) is not int or not 0 < own < cap_tokens:
        fields[CAP_FIELD] = cap_tokens


def write_request(
    said: Conversation, toward: Toward, cap_tokens: int | None, left: Leftovers
) -> dict[str, Any]:
    """The request for a target. `cap_tokens`: what limits want written instead of the caller's cap. Raises
    `GatewayError` (400) for what cannot be said (`Leftovers`). Nothing is stored unless the caller wants it:
    nobody could ask for it here."""
    fields: dict[str, Any] = {"model": toward.model, "input": list(_items(said, left)), "store": False}
    if said.system:
        fields["instructions"] = _joined(said.system, left)
    if said.cap_tokens is not None and said.cap_tokens < LEAST_CAP_TOKENS:
        left.refuse(said.cap_field, f"below {LEAST_CAP_TOKENS}")
    cap = said.cap_tokens if cap_tokens is None else cap_tokens
    if cap is not None:
        fields[CAP_FIELD] = max(cap, LEAST_CAP_TOKENS)
    if said.stream:
        fields["stream"] = True
    _write_tools(said, fields, left)
    _write_form(said, fields)
    if said.reasoning is not None:
        _write_reasoning(said.reasoning, toward, fields, left)
    _write_options(said, toward, fields, left)
    for name, value in said.rest.items():
        left.field(name, value)
    return fields


def _items(said: Conversation, left: Leftovers) -> Iterator[dict[str, Any]]:
    for turn in said.turns:
        if turn.role == "assistant":
            yield from _assistant(turn.parts, left)
        elif turn.role == "system":
            texts = [part for part in turn.parts if isinstance(part, Text)]
            _refuse_others(turn.parts, left)
            yield {"role": "system", "content": _joined(texts, left)}
        else:
            yield from _user(turn.parts, left)


def _refuse_others(parts: Sequence[Part], left: Leftovers) -> None:
    for part in parts:
        if not isinstance(part, Text):
            _misplaced(part, left)


def _misplaced(part: Part, left: Leftovers) -> None:
    """A part that cannot stand where it stands."""
    left.foreign(getattr(part, "what", f"messages[].content[].{type(part).__name__.lower()}"))


def _joined(texts: Sequence[Text], left: Leftovers) -> str:
    _unmark(texts, left)
    return "\n\n".join(part.text for part in texts)


def _unmark(parts: Sequence[Part | Tool], left: Leftovers) -> None:
    """Marks for caches are Anthropic's alone."""
    if any(getattr(part, "cache", None) is not None for part in parts):
        left.drop("cache_control")


def _user(parts: Sequence[Part], left: Leftovers) -> Iterator[dict[str, Any]]:
    _unmark(parts, left)
    own: list[Part] = []
    for part in parts:
        if not isinstance(part, ToolResult):
            own.append(part)
            continue
        if part.is_error:
            left.drop("is_error")
        output: Any = _content(part.parts, left) or ""
        yield {"type": "function_call_output", "call_id": part.call_id, "output": output}
    if own:
        yield {"role": "user", "content": _content(own, left)}


def _content(parts: Sequence[Part], left: Leftovers) -> Any:
    """A text alone as it is, all else as a list."""
    _unmark(parts, left)
    if len(parts) == 1 and isinstance(parts[0], Text):
        return parts[0].text
    return [written for part in parts if (written := _written(part, left)) is not None]


def _written(part: Part, left: Leftovers) -> dict[str, Any] | None:
    if isinstance(part, Text | Refusal):
        return {"type": "input_text", "text": part.text}
    if isinstance(part, Media):
        return _media(part, left)
    _misplaced(part, left)
    return None


def _media(part: Media, left: Leftovers) -> dict[str, Any] | None:
    data = f"data:{part.media_type or 'application/pdf'};base64,{part.data}"
    if part.kind == "image":
        image = {"type": "input_image", "detail": part.detail or "auto"}
        return image | ({"file_id": part.file_id} if part.file_id else {"image_url": part.url or data})
    if part.kind == "audio":
        format_ = _AUDIO_FORMATS.get(part.media_type, part.media_type.removeprefix("audio/"))
        if not part.data:
            return left.foreign("messages[].content[].audio.url")
        return {"type": "input_audio", "input_audio": {"data": part.data, "format": format_}}
    if part.file_id:
        return {"type": "input_file", "file_id": part.file_id}
    if part.url:
        return {"type": "input_file", "file_url": part.url}
    name = part.name or f"file{_SUFFIXES.get(part.media_type or 'application/pdf', '')}"
    return {"type": "input_file", "filename": name, "file_data": data}


def _assistant(parts: Sequence[Part], left: Leftovers) -> Iterator[dict[str, Any]]:
    _unmark(parts, left)
    for part in parts:
        if isinstance(part, Text):
            if part.text:
                yield {"role": "assistant", "content": part.text}
        elif isinstance(part, Refusal):
            refusal = {"type": "refusal", "refusal": part.text}
            yield {"type": "message", "role": "assistant", "content": [refusal]}
        elif isinstance(part, ToolCall):
            call = {"type": "function_call", "call_id": part.id, "name": part.name}
            yield {**call, "arguments": part.arguments or "{}"}
        elif not isinstance(part, Thinking):
            _misplaced(part, left)
        elif part.dialect == NAME and part.signature:
            yield _reasoning(part)
        else:
            left.drop("thinking")


def _reasoning(part: Thinking) -> dict[str, Any]:
    item: dict[str, Any] = {"type": "reasoning", "summary": [], "encrypted_content": part.signature}
    if part.id:
        item["id"] = part.id
    if part.text:
        item["summary"] = [{"type": "summary_text", "text": part.text}]
    return item


def _write_tools(said: Conversation, fields: dict[str, Any], left: Leftovers) -> None:
    for kind in said.foreign_tools:
        left.foreign_tool(kind)
    if not said.tools:
        return
    _unmark(said.tools, left)
    fields["tools"] = [_tool(tool) for tool in said.tools]
    choice = said.tool_choice
    if choice is not None:
        named = {"type": "function", "name": choice.name}
        fields["tool_choice"] = named if choice.mode == "named" else choice.mode
    if said.parallel is not None:
        fields["parallel_tool_calls"] = said.parallel


def _tool(tool: Tool) -> dict[str, Any]:
    found: dict[str, Any] = {"type": "function", "name": tool.name}
    if tool.description:
        found["description"] = tool.description
    found["parameters"] = tool.parameters or _NO_PARAMETERS
    # What says nothing is strict here, and is not in other dialects.
    found["strict"] = tool.strict is True
    return found


def _write_form(said: Conversation, fields: dict[str, Any]) -> None:
    form = said.form
    if form is None:
        return
    written: dict[str, Any] = {"type": form.mode}
    if form.mode == "json_schema":
        written |= {"name": form.name or "answer", "schema": form.schema or {}}
        if form.strict is not None:
            written["strict"] = form.strict
        if form.description:
            written["description"] = form.description
    fields["text"] = {"format": written}


def _write_reasoning(reasoning: Reasoning, toward: Toward, fields: dict[str, Any], left: Leftovers) -> None:
    """An effort, for a model that reasons: others answer it with 400. A summary only if it was asked for:
    OpenAI shows it to verified organisations alone."""
    effort, budget = reasoning.effort, reasoning.budget_tokens
    if not effort and budget is not None:
        effort = "low" if budget < 4096 else "medium" if budget < 16384 else "high"
    if toward.reasons:
        wanted = {"effort": effort, "summary": reasoning.summary}
        if any(wanted.values()):
            fields["reasoning"] = {name: value for name, value in wanted.items() if value}
    elif effort != "none":
        left.drop("thinking")


def _write_options(said: Conversation, toward: Toward, fields: dict[str, Any], left: Leftovers) -> None:
    include = [ENCRYPTED] if toward.reasons else []
    for name, value in said.options.items():
        if name == "store":
            fields["store"] = value is True
        elif name in SAME:
            fields[name] = value
        elif name == "verbosity":
            fields.setdefault("text", {})["verbosity"] = value
        elif name == "logprobs" and value is True:
            include.append(LOGPROBS)
        elif name == "top_logprobs" and said.options.get("logprobs") is True:
            fields["top_logprobs"] = value
        else:
            left.field(name, value)
    if include:
        fields["include"] = include
