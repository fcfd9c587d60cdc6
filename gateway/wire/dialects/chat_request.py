"""OpenAI's chat completions: a request, read into the neutral form and written from it.

Facts: openai-openapi 2.3.0 and recorded traffic. `reasoning_content` is DeepSeek's word, `thinking_blocks`
(with Anthropic's seals, to be sent back) and `cache_control` on parts are LiteLLM's and OpenRouter's.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

from gateway.wire.conversation import (
    Conversation,
    Foreign,
    Form,
    Leftovers,
    Media,
    Part,
    Reasoning,
    Refusal,
    Text,
    Thinking,
    Tool,
    ToolCall,
    ToolChoice,
    ToolResult,
    Toward,
    Turn,
)
from gateway.wire.seal import unmarked
from gateway.wire.shape import asked_objects, asked_text, bad, objects, table, text

_KNOWN = frozenset(
    {
        "max_completion_tokens",
        "max_tokens",
        "messages",
        "model",
        "parallel_tool_calls",
        "reasoning_effort",
        "response_format",
        "stop",
        "stream",
        "stream_options",
        "tool_choice",
        "tools",
    }
)
_OPTIONS = frozenset(
    {
        "audio",
        "frequency_penalty",
        "logit_bias",
        "logprobs",
        "metadata",
        "modalities",
        "n",
        "prediction",
        "presence_penalty",
        "prompt_cache_key",
        "prompt_cache_options",
        "prompt_cache_retention",
        "safety_identifier",
        "seed",
        "service_tier",
        "stop",
        "store",
        "temperature",
        "top_logprobs",
        "top_p",
        "user",
        "verbosity",
        "web_search_options",
    }
)
"""What chat itself can say of `Conversation.options`."""
_AUDIO_TYPES: Mapping[str, str] = {"mp3": "audio/mpeg", "wav": "audio/wav"}
_AUDIO_FORMATS: Mapping[str, str] = {"audio/mpeg": "mp3", "audio/mp3": "mp3", "audio/wav": "wav"}


# reading


def read_request(fields: Mapping[str, Any]) -> Conversation:
    """A caller's request. Raises `GatewayError` (400) where its shape is wrong; ranges are the provider's."""
    found = Conversation(asked_text(fields, "model"), stream=fields.get("stream") is True)
    for at, message in enumerate(asked_objects(fields.get("messages"), "messages")):
        _read_message(message, at, found)
    for tool in asked_objects(fields.get("tools"), "tools"):
        function = tool.get("function")
        if tool.get("type", "function") != "function" or type(function) is not dict:
            found.foreign_tools.append(text(tool.get("type")))
            continue
        parameters, strict = function.get("parameters"), function.get("strict")
        found.tools.append(
            Tool(
                text(function.get("name")),
                text(function.get("description")),
                parameters if type(parameters) is dict else None,
                strict if type(strict) is bool else None,
                tool.get("cache_control") or function.get("cache_control"),
            )
        )
    _read_choice(fields, found)
    tokens, newer = fields.get("max_tokens"), fields.get("max_completion_tokens")
    found.cap_tokens = tokens if newer is None else newer
    if newer is not None:
        found.cap_field = "max_completion_tokens"
    form = table(fields.get("response_format"))
    if form.get("type") == "json_object":
        found.form = Form("json_object")
    elif form.get("type") == "json_schema":
        described = table(form.get("json_schema"))
        strict = described.get("strict")
        found.form = Form(
            "json_schema",
            text(described.get("name")),
            table(described.get("schema")),
            strict if type(strict) is bool else None,
            text(described.get("description")),
        )
    effort = text(fields.get("reasoning_effort"))
    if effort:
        found.reasoning = Reasoning(effort)
    found.options = {
        name: value for name, value in fields.items() if name not in _KNOWN and value is not None
    }
    stop = fields.get("stop")
    if stop:
        found.options["stop"] = [stop] if type(stop) is str else stop
    return found


def _read_message(message: Mapping[str, Any], at: int, found: Conversation) -> None:
    role, content = message.get("role"), message.get("content")
    if type(role) is not str:
        role = asked_text(message, "role", f"messages[{at}].role")
    parts: list[Part]
    if type(content) is str:
        parts = [Text(content)] if content else []
    else:
        parts = [_part(part) for part in asked_objects(content, f"messages[{at}].content")]
    if role in ("system", "developer"):
        if not found.turns:
            found.system += [part for part in parts if isinstance(part, Text)]
            parts = [part for part in parts if not isinstance(part, Text)]
        if parts:
            found.turns.append(Turn("system", parts))
    elif role == "tool":
        result = ToolResult(text(message.get("tool_call_id")), parts, cache=message.get("cache_control"))
        if found.turns and found.turns[-1].role == "user":
            found.turns[-1].parts.append(result)
        else:
            found.turns.append(Turn("user", [result]))
    elif role == "assistant":
        found.turns.append(Turn("assistant", [*_thoughts(message), *parts, *_calls(message)]))
    elif role == "user":
        found.turns.append(Turn("user", parts))
    else:
        found.turns.append(Turn("user", [Foreign(f"messages[].role {role[:32]!r}")]))


def _part(part: Mapping[str, Any]) -> Part:
    kind, cache = part.get("type"), part.get("cache_control")
    if kind == "text":
        return Text(text(part.get("text")), cache)
    if kind == "image_url":
        image = part.get("image_url")
        url = text(image.get("url") if type(image) is dict else image)
        found = media_of_url("image", url, cache)
        found.detail = text(table(image).get("detail"))
        return found
    if kind == "input_audio":
        audio = table(part.get("input_audio"))
        format_ = text(audio.get("format"))
        type_ = _AUDIO_TYPES.get(format_, f"audio/{format_}")
        return Media("audio", type_, text(audio.get("data")), cache=cache)
    if kind == "file":
        file = table(part.get("file"))
        found = media_of_url("file", text(file.get("file_data")), cache)
        found.file_id, found.name = text(file.get("file_id")), text(file.get("filename"))
        return found
    if kind == "refusal":
        return Refusal(text(part.get("refusal")))
    return Foreign(f"messages[].content[].{text(kind)[:64] or 'type'}")


def media_of_url(kind: str, url: str, cache: Mapping[str, Any] | None = None) -> Media:
    """Media at an address; what is in a `data:` URL is taken out of it (RFC 2397, base64 alone)."""
    head, comma, data = url.partition(";base64,")
    if comma and head[:5].lower() == "data:":
        return Media(kind, head[5:], data, cache=cache)
    return Media(kind, url=url, cache=cache)


def _thoughts(message: Mapping[str, Any]) -> Iterator[Part]:
    sealed = False
    for block in objects(message.get("thinking_blocks")):
        sealed = True
        if block.get("type") == "redacted_thinking":
            yield Thinking("", redacted=text(block.get("data")), dialect="anthropic")
        else:
            yield unmarked(text(block.get("signature")), text(block.get("thinking")), "anthropic")
    thought = text(message.get("reasoning_content"))
    if thought and not sealed:
        yield Thinking(thought)


def _calls(message: Mapping[str, Any]) -> Iterator[Part]:
    if message.get("refusal"):
        yield Refusal(text(message["refusal"]))
    for call in objects(message.get("tool_calls")):
        function = call.get("function")
        if type(function) is dict:
            yield ToolCall(text(call.get("id")), text(function.get("name")), text(function.get("arguments")))
        else:
            yield Foreign(f"messages[].tool_calls[].{text(call.get('type'))[:64]}")
    if message.get("function_call") is not None:
        yield Foreign("messages[].function_call")
    if message.get("audio") is not None:
        yield Foreign("messages[].audio")


def _read_choice(fields: Mapping[str, Any], found: Conversation) -> None:
    if fields.get("parallel_tool_calls") is not None:
        found.parallel = fields["parallel_tool_calls"] is not False
    choice = fields.get("tool_choice")
    if choice is None:
        return
    if choice in ("auto", "none", "required"):
        found.tool_choice = ToolChoice(choice)
        return
    if type(choice) is not dict:
        raise bad("tool_choice", "auto, none, required or an object")
    function = choice.get("function")
    if choice.get("type") == "function" and type(function) is dict:
        found.tool_choice = ToolChoice("named", text(function.get("name")))
    else:
        found.rest["tool_choice"] = choice


# writing


def write_request(
    said: Conversation, toward: Toward, cap_tokens: int | None, left: Leftovers
) -> dict[str, Any]:
    """The request for a target. `cap_tokens`: what limits want written instead of the caller's cap. Raises
    `GatewayError` (400) for what cannot be said (`Leftovers`)."""
    fields: dict[str, Any] = {"model": toward.model, "messages": list(_messages(said, left))}
    cap = said.cap_tokens if cap_tokens is None else cap_tokens
    if cap is not None:
        fields[toward.cap_field] = cap
    if said.stream:
        fields["stream"] = True
        if toward.asks_usage:
            fields["stream_options"] = {"include_usage": True}
    _write_tools(said, fields, left)
    form = said.form
    if form is not None and form.mode == "json_schema":
        described: dict[str, Any] = {"name": form.name or "answer", "schema": form.schema or {}}
        if form.strict is not None:
            described["strict"] = form.strict
        if form.description:
            described["description"] = form.description
        fields["response_format"] = {"type": "json_schema", "json_schema": described}
    elif form is not None:
        fields["response_format"] = {"type": "json_object"}
    if said.reasoning is not None:
        _write_reasoning(said.reasoning, toward, fields, left)
    for name, value in said.options.items():
        if name in _OPTIONS:
            fields[name] = value
        else:
            left.field(name, value)
    for name, value in said.rest.items():
        left.field(name, value)
    return fields


def _messages(said: Conversation, left: Leftovers) -> Iterator[dict[str, Any]]:
    if said.system:
        yield {"role": "system", "content": _joined(said.system, left)}
    for turn in said.turns:
        if turn.role == "assistant":
            yield _assistant(turn.parts, left)
        elif turn.role == "system":
            texts = [part for part in turn.parts if isinstance(part, Text)]
            others = [part for part in turn.parts if not isinstance(part, Text)]
            yield {"role": "system", "content": _with(_joined(texts, left), others, left)}
        else:
            yield from _user(turn.parts, left)


def _joined(texts: list[Text], left: Leftovers) -> str:
    _unmark(texts, left)
    return "\n\n".join(part.text for part in texts)


def _unmark(parts: Iterable[Part | Tool], left: Leftovers) -> None:
    """Chat has no word for marks for caches."""
    if any(getattr(part, "cache", None) is not None for part in parts):
        left.drop("cache_control")


def _with(content: str | None, others: Sequence[Part], left: Leftovers) -> Any:
    """A turn's content, and what shows that there is more, if anything does."""
    shown = [found for part in others if (found := left.misplaced(part)) is not None]
    return [{"type": "text", "text": content or ""}, *shown] if shown else content


def _user(parts: list[Part], left: Leftovers) -> Iterator[dict[str, Any]]:
    own: list[Part] = []
    for part in parts:
        if not isinstance(part, ToolResult):
            own.append(part)
            continue
        texts = [inner for inner in part.parts if isinstance(inner, Text)]
        _unmark([part, *texts], left)
        # A tool's message takes text alone: what else it gave follows as the user's.
        own += [inner for inner in part.parts if not isinstance(inner, Text)]
        if part.is_error:
            left.drop("is_error")
        content = "\n".join(inner.text for inner in texts)
        yield {"role": "tool", "tool_call_id": part.call_id, "content": content}
    if own:
        yield {"role": "user", "content": _content(own, left)}


def _content(parts: list[Part], left: Leftovers) -> Any:
    _unmark(parts, left)
    if all(type(part) is Text for part in parts) and len(parts) == 1:
        return _joined([part for part in parts if type(part) is Text], left)
    return [written for part in parts if (written := _written(part, left)) is not None]


def _written(part: Part, left: Leftovers) -> dict[str, Any] | None:
    if isinstance(part, (Text, Refusal)):
        return {"type": "text", "text": part.text}
    return _written_media(part, left) if isinstance(part, Media) else left.misplaced(part)


def _written_media(part: Media, left: Leftovers) -> dict[str, Any] | None:
    type_ = part.media_type or ("image/png" if part.kind == "image" else "application/pdf")
    data = f"data:{type_};base64,{part.data}"
    if part.kind == "image" and not part.file_id:
        image = {"url": part.url or data}
        if part.detail:
            image["detail"] = part.detail
        return {"type": "image_url", "image_url": image}
    if part.kind == "audio":
        format_ = _AUDIO_FORMATS.get(part.media_type, part.media_type.partition("/")[2])
        return {"type": "input_audio", "input_audio": {"data": part.data, "format": format_}}
    if part.kind == "file" and part.file_id:
        return {"type": "file", "file": {"file_id": part.file_id}}
    if part.kind == "file" and not part.url:
        return {"type": "file", "file": {"filename": part.name or "document.pdf", "file_data": data}}
    return left.foreign(f"messages[].content[].{part.kind}.{'file_id' if part.file_id else 'url'}")


def _assistant(parts: list[Part], left: Leftovers) -> dict[str, Any]:
    texts, calls, refusals, others = [], [], [], []
    _unmark(parts, left)
    for part in parts:
        if isinstance(part, Text):
            texts.append(part)
        elif isinstance(part, ToolCall):
            function = {"name": part.name, "arguments": part.arguments or "{}"}
            calls.append({"id": part.id, "type": "function", "function": function})
        elif isinstance(part, Refusal):
            refusals.append(part.text)
        elif isinstance(part, Thinking):
            left.drop("thinking")
        else:
            others.append(part)
    content = _with(_joined(texts, left) if texts else None, others, left)
    message: dict[str, Any] = {"role": "assistant", "content": content}
    if calls:
        message["tool_calls"] = calls
    if refusals:
        message["refusal"] = "\n".join(refusals)
    return message


def _write_tools(said: Conversation, fields: dict[str, Any], left: Leftovers) -> None:
    tools = []
    _unmark(said.tools, left)
    for tool in said.tools:
        function: dict[str, Any] = {"name": tool.name}
        if tool.description:
            function["description"] = tool.description
        if tool.parameters is not None:
            function["parameters"] = tool.parameters
        if tool.strict is not None:
            function["strict"] = tool.strict
        tools.append({"type": "function", "function": function})
    tools += [shown for kind in said.foreign_tools if (shown := left.foreign_tool(kind)) is not None]
    if not tools:
        return
    fields["tools"] = tools
    choice = said.tool_choice
    if choice is not None:
        named = {"type": "function", "function": {"name": choice.name}}
        fields["tool_choice"] = named if choice.mode == "named" else choice.mode
    if said.parallel is not None:
        fields["parallel_tool_calls"] = said.parallel


def _write_reasoning(reasoning: Reasoning, toward: Toward, fields: dict[str, Any], left: Leftovers) -> None:
    """An effort, for a model that reasons: others answer it with 400."""
    if reasoning.summary:
        left.drop("reasoning.summary")
    effort = reasoning.effort
    if not effort and reasoning.budget_tokens is not None:
        effort = (
            "low"
            if reasoning.budget_tokens < 4096
            else "medium"
            if reasoning.budget_tokens < 16384
            else "high"
        )
    if toward.reasons and effort:
        fields["reasoning_effort"] = effort
    elif effort != "none":
        left.drop("thinking")
