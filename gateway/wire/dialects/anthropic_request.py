"""Anthropic's Messages API: a request, read into the neutral form and written from it.

Facts: Anthropic's API reference for `anthropic-version` 2023-06-01, and recorded traffic.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from typing import Any

from gateway.errors import BAD_JSON, GatewayError
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
    merged_turns,
)
from gateway.wire.json import text_of, try_object
from gateway.wire.seal import unmarked
from gateway.wire.shape import asked_objects, asked_text, bad, table, text

NAME = "anthropic"
_SAME = ("temperature", "top_p", "top_k")
"""Options that chat calls by the same name."""
_KNOWN = frozenset(
    {
        *_SAME,
        "max_tokens",
        "messages",
        "metadata",
        "model",
        "output_config",
        "service_tier",
        "stop_sequences",
        "stream",
        "system",
        "thinking",
        "tool_choice",
        "tools",
    }
)
_NO_SAMPLING = re.compile(
    r"claude-(opus-4-([7-9]|\d\d)|(opus|sonnet|haiku|fable|mythos)-([5-9]|\d\d))(?!\d)"
).search
"""Models that answer `temperature`, `top_p` and `top_k` with 400 (deprecated from Opus 4.7 on).
A date may stand where a minor version would: `claude-opus-4-20250514` is Opus 4."""
_ADAPTIVE = re.compile(
    r"claude-((opus|sonnet)-4-([6-9]|\d\d)|(opus|sonnet|haiku|fable|mythos)-([5-9]|\d\d))(?!\d)"
).search
"""Models that think as much as an `effort` says; older ones take a budget of tokens."""
_BUDGETS: Mapping[str, int] = {"minimal": 1024, "low": 2048, "medium": 8192, "high": 16384, "xhigh": 32768}
"""Tokens to think for an effort, where a model takes a budget; at least 1,024 by the reference."""
_LEAST_BUDGET = 1024
_EFFORTS: Mapping[str, str] = {"minimal": "low", "xhigh": "max"}
DEFAULT_CAP_TOKENS = 4096
"""`max_tokens` is required; this stands for a caller who gave none, where no policy says more."""
_NO_PARAMETERS: Mapping[str, Any] = {"type": "object", "properties": {}}


# reading


def read_request(fields: Mapping[str, Any]) -> Conversation:
    """A caller's request. Raises `GatewayError` (400) where its shape is wrong; ranges are the provider's."""
    found = Conversation(asked_text(fields, "model"), stream=fields.get("stream") is True)
    system = fields.get("system")
    if type(system) is str:
        found.system = [Text(system)] if system else []
    else:
        blocks = asked_objects(system, "system")
        found.system = [Text(text(block.get("text")), block.get("cache_control")) for block in blocks]
    for at, message in enumerate(asked_objects(fields.get("messages"), "messages")):
        role, parts = asked_text(message, "role", f"messages[{at}].role"), list(_parts_of(message, at))
        if role not in ("user", "assistant", "system"):
            parts.append(Foreign(f"messages[].role {role[:32]!r}"))
        found.turns.append(Turn(role, parts))
    _read_tools(fields, found)
    cap = fields.get("max_tokens")
    found.cap_tokens = cap if type(cap) is int else None
    found.options = {name: fields[name] for name in _SAME if fields.get(name) is not None}
    if fields.get("stop_sequences"):
        found.options["stop"] = fields["stop_sequences"]
    user = table(fields.get("metadata")).get("user_id")
    if type(user) is str:
        found.options["user"] = user
    tier = fields.get("service_tier")
    if tier is not None and fields.get("speed") is None:
        found.options["service_tier"] = "default" if tier == "standard_only" else tier
    _read_thinking(fields, found)
    found.rest = {name: value for name, value in fields.items() if name not in _KNOWN}
    return found


def _parts_of(message: Mapping[str, Any], at: int) -> Iterator[Part]:
    content = message.get("content")
    if type(content) is str:
        if content:
            yield Text(content)
        return
    for block in asked_objects(content, f"messages[{at}].content"):
        yield _part(block)


def _part(block: Mapping[str, Any]) -> Part:
    kind, cache = block.get("type"), block.get("cache_control")
    if kind == "text":
        return Text(text(block.get("text")), cache, block.get("citations") or None)
    if kind in ("image", "document"):
        return _media(block, "image" if kind == "image" else "file")
    if kind == "tool_use":
        arguments = text_of(block.get("input") or {})
        if not arguments:
            raise GatewayError(BAD_JSON, "The body is nested more than 254 levels deep.")
        return ToolCall(text(block.get("id")), text(block.get("name")), arguments, cache)
    if kind == "tool_result":
        content = block.get("content")
        inner: list[Part] = [Text(content)] if type(content) is str else []
        if type(content) is list:
            inner = [_inner(one) for one in content if type(one) is dict]
        return ToolResult(text(block.get("tool_use_id")), inner, block.get("is_error") is True, cache)
    if kind == "thinking":
        return unmarked(text(block.get("signature")), text(block.get("thinking")), NAME)
    if kind == "redacted_thinking":
        return Thinking("", redacted=text(block.get("data")), dialect=NAME)
    return Foreign(f"messages[].content[].{text(kind) or 'type'}")


def _inner(block: Mapping[str, Any]) -> Part:
    """A block in a tool's result. A result in a result is none: they could nest without end."""
    if block.get("type") == "tool_result":
        return Foreign("messages[].content[].content[].tool_result")
    return _part(block)


def _media(block: Mapping[str, Any], kind: str) -> Part:
    source = table(block.get("source"))
    of, type_ = source.get("type"), text(source.get("media_type"))
    found = Media(kind, type_, name=text(block.get("title")), cache=block.get("cache_control"))
    if of == "base64":
        found.data = text(source.get("data"))
    elif of == "url":
        found.url = text(source.get("url"))
    elif of == "file":
        found.file_id = text(source.get("file_id"))
    elif of == "text":
        return Text(text(source.get("data")), found.cache)
    else:
        return Foreign(f"messages[].content[].source.{text(of) or 'type'}")
    return found


def _read_tools(fields: Mapping[str, Any], found: Conversation) -> None:
    for tool in asked_objects(fields.get("tools"), "tools"):
        kind = tool.get("type")
        if kind not in (None, "custom"):
            found.foreign_tools.append(text(kind))
            continue
        strict = tool.get("strict")
        schema = tool.get("input_schema")
        found.tools.append(
            Tool(
                text(tool.get("name")),
                text(tool.get("description")),
                schema if type(schema) is dict else None,
                strict if type(strict) is bool else None,
                tool.get("cache_control"),
            )
        )
    choice = fields.get("tool_choice")
    if choice is None:
        return
    if type(choice) is not dict:
        raise bad("tool_choice", "an object")
    mode = {"auto": "auto", "any": "required", "none": "none", "tool": "named"}.get(text(choice.get("type")))
    if mode is None:
        raise bad("tool_choice.type", "auto, any, tool or none")
    found.tool_choice = ToolChoice(mode, text(choice.get("name")))
    if choice.get("disable_parallel_tool_use") is True:
        found.parallel = False


def _read_thinking(fields: Mapping[str, Any], found: Conversation) -> None:
    thinking, config = table(fields.get("thinking")), table(fields.get("output_config"))
    effort = text(config.get("effort"))
    mode, budget = thinking.get("type"), thinking.get("budget_tokens")
    if mode == "disabled":
        effort = "none"
    elif effort == "max":
        effort = "xhigh"
    if mode is not None or effort:
        found.reasoning = Reasoning(effort, budget if type(budget) is int else None)
    form = table(config.get("format"))
    if form.get("type") == "json_schema":
        found.form = Form("json_schema", "answer", table(form.get("schema")), strict=True)


# writing


def write_request(
    said: Conversation, toward: Toward, cap_tokens: int | None, left: Leftovers
) -> dict[str, Any]:
    """The request for a target. `cap_tokens`: what limits want written instead of the caller's cap; one is
    always written. Raises `GatewayError` (400) for what cannot be said
    (`Leftovers`)."""
    model = toward.model
    caps = (cap_tokens, said.cap_tokens, toward.max_output, DEFAULT_CAP_TOKENS)
    cap = next(given for given in caps if given is not None)
    turns = merged_turns([turn for turn in said.turns if turn.role != "system"])
    fields: dict[str, Any] = {
        "model": model,
        "max_tokens": cap,
        "messages": [
            {"role": "assistant" if turn.role == "assistant" else "user", "content": content}
            for turn in turns
            if (content := _content(turn.parts, left))
        ],
    }
    # Instructions amid a conversation are put with the first: Anthropic's own OpenAI-compatible API does so.
    system = list(said.system)
    for part in (part for turn in said.turns if turn.role == "system" for part in turn.parts):
        if isinstance(part, Text):
            system.append(part)
        else:
            left.misplaced(part)
    if system:
        fields["system"] = _system(system)
    if said.stream:
        fields["stream"] = True
    _write_tools(said, fields, left)
    _write_thinking(said, model, cap, fields, left)
    _write_options(said, model, fields, left)
    for name, value in said.rest.items():
        left.field(name, value)
    return fields


def write_cap(fields: dict[str, Any], cap_tokens: int) -> None:
    """Caps the output of a request. A budget to think must be below it and at least 1,024 tokens; where that
    leaves none, there is no thinking."""
    fields["max_tokens"] = cap_tokens
    thinking = table(fields.get("thinking"))
    budget = thinking.get("budget_tokens")
    if type(budget) is not int or budget < cap_tokens:
        return
    if cap_tokens > _LEAST_BUDGET:
        fields["thinking"] = {**thinking, "budget_tokens": cap_tokens - 1}
    else:
        del fields["thinking"]


def _system(texts: list[Text]) -> Any:
    if len(texts) == 1 and texts[0].cache is None:
        return texts[0].text
    return [_with_cache({"type": "text", "text": part.text}, part.cache) for part in texts if part.text]


def _with_cache(block: dict[str, Any], cache: Mapping[str, Any] | None) -> dict[str, Any]:
    if cache is not None:
        block["cache_control"] = cache
    return block


def _content(parts: list[Part], left: Leftovers) -> Any:
    """A turn's content; "" and [] if there is nothing in it: Anthropic refuses empty texts."""
    if len(parts) == 1:
        only = parts[0]
        if type(only) is Text and only.cache is None:
            return only.text
    # Results come first in a turn: "tool_result blocks must come first in the content array".
    ordered = sorted(parts, key=lambda part: type(part) is not ToolResult) if len(parts) > 1 else parts
    return [block for part in ordered if (block := _block(part, left)) is not None]


def _block(part: Part, left: Leftovers) -> dict[str, Any] | None:
    if isinstance(part, Text):
        return _with_cache({"type": "text", "text": part.text}, part.cache) if part.text else None
    if isinstance(part, Media):
        return _media_block(part, left)
    if isinstance(part, ToolCall):
        called = {"type": "tool_use", "id": part.id, "name": part.name, "input": arguments_of(part.arguments)}
        return _with_cache(called, part.cache)
    if isinstance(part, ToolResult):
        return _result_block(part, left)
    if isinstance(part, Refusal):
        return {"type": "text", "text": part.text} if part.text else None
    if isinstance(part, Thinking):
        if part.dialect != NAME or not (part.signature or part.redacted):
            left.drop("reasoning")
            return None
        if part.redacted:
            return {"type": "redacted_thinking", "data": part.redacted}
        return {"type": "thinking", "thinking": part.text, "signature": part.signature}
    return left.foreign(part.what)


def arguments_of(arguments: str) -> dict[str, Any]:
    """Arguments as the object that Anthropic wants; what a model wrote that is none, as its only member."""
    if not arguments.strip():
        return {}
    found = try_object(arguments.encode())
    return {"arguments": arguments} if found is None else found


def _result_block(part: ToolResult, left: Leftovers) -> dict[str, Any]:
    block: dict[str, Any] = {"type": "tool_result", "tool_use_id": part.call_id}
    content = _content(part.parts, left)
    if content:
        block["content"] = content
    if part.is_error:
        block["is_error"] = True
    return _with_cache(block, part.cache)


def _media_block(part: Media, left: Leftovers) -> dict[str, Any] | None:
    if part.kind == "audio":
        return left.foreign("messages[].content[].input_audio")
    source: dict[str, Any]
    if part.file_id:
        source = {"type": "file", "file_id": part.file_id}
    elif part.url:
        source = {"type": "url", "url": part.url}
    elif part.kind == "file" and part.media_type not in ("application/pdf", ""):
        return left.foreign(f"messages[].content[].file of type {part.media_type[:64]!r}")
    else:
        type_ = part.media_type or ("image/png" if part.kind == "image" else "application/pdf")
        source = {"type": "base64", "media_type": type_, "data": part.data}
    block: dict[str, Any] = {"type": "image" if part.kind == "image" else "document", "source": source}
    if part.kind == "file" and part.name:
        block["title"] = part.name
    return _with_cache(block, part.cache)


def _write_tools(said: Conversation, fields: dict[str, Any], left: Leftovers) -> None:
    for kind in said.foreign_tools:
        left.foreign_tool(kind)
    if not said.tools:
        return
    fields["tools"] = [_tool(tool) for tool in said.tools]
    choice = said.tool_choice
    mode = "auto" if choice is None else choice.mode
    written: dict[str, Any] = {
        "type": {"auto": "auto", "required": "any", "none": "none", "named": "tool"}[mode]
    }
    if choice is not None and mode == "named":
        written["name"] = choice.name
    if said.parallel is False and mode != "none":
        written["disable_parallel_tool_use"] = True
    if choice is not None or len(written) > 1:
        fields["tool_choice"] = written


def _tool(tool: Tool) -> dict[str, Any]:
    found: dict[str, Any] = {"name": tool.name}
    if tool.description:
        found["description"] = tool.description
    found["input_schema"] = tool.parameters or _NO_PARAMETERS
    if tool.strict is not None:
        found["strict"] = tool.strict
    return _with_cache(found, tool.cache)


def _write_thinking(
    said: Conversation, model: str, cap: int, fields: dict[str, Any], left: Leftovers
) -> None:
    config: dict[str, Any] = {}
    form, reasoning = said.form, said.reasoning
    if form is not None and form.mode == "json_schema":
        config["format"] = {"type": "json_schema", "schema": form.schema or {"type": "object"}}
    elif form is not None:
        left.refuse("response_format", "with a type of 'json_object'")
    if reasoning is not None and reasoning.effort != "none":
        if reasoning.summary:
            left.drop("reasoning.summary")
        if said.tool_choice is not None and said.tool_choice.mode in ("required", "named"):
            # "Thinking may not be enabled when tool_choice forces tool use."
            left.drop("reasoning_effort")
        elif _ADAPTIVE(model) and reasoning.budget_tokens is None:
            fields["thinking"] = {"type": "adaptive"}
            if reasoning.effort:
                config["effort"] = _EFFORTS.get(reasoning.effort, reasoning.effort)
        elif _lacks_thoughts(fields["messages"]):
            # "When `thinking` is enabled, a final `assistant` message must start with a thinking block": many
            # clients of other dialects do not send back what was thought before their tools were called.
            left.drop("reasoning_effort")
        else:
            budget = reasoning.budget_tokens or _BUDGETS.get(reasoning.effort, _BUDGETS["medium"])
            budget = min(budget, cap - 1)
            if budget >= _LEAST_BUDGET:
                fields["thinking"] = {"type": "enabled", "budget_tokens": budget}
            else:
                left.drop("reasoning_effort")
    if config:
        fields["output_config"] = config


def _lacks_thoughts(messages: list[dict[str, Any]]) -> bool:
    """Whether the last turn has results of tools that a turn without sealed thoughts called."""
    if len(messages) < 2 or type(results := messages[-1]["content"]) is not list:
        return False
    called = messages[-2]["content"]
    thought = type(called) is list and called[0]["type"] in ("thinking", "redacted_thinking")
    return bool(results[0]["type"] == "tool_result") and not thought


def _write_options(said: Conversation, model: str, fields: dict[str, Any], left: Leftovers) -> None:
    for name, value in said.options.items():
        if name in _SAME:
            _write_sampling(name, value, model, fields, left)
        elif name == "stop":
            if value:
                fields["stop_sequences"] = value
        elif name == "user":
            fields["metadata"] = {"user_id": value}
        elif name == "service_tier" and value in ("auto", "default"):
            fields["service_tier"] = "standard_only" if value == "default" else "auto"
        else:
            left.field(name, value)


def _write_sampling(name: str, value: Any, model: str, fields: dict[str, Any], left: Leftovers) -> None:
    if _NO_SAMPLING(model) or ("thinking" in fields and name != "top_p"):
        left.drop(name)
    elif name == "temperature" and type(value) in (int, float) and value > 1:
        left.refuse(name, "above 1")
    else:
        fields[name] = value
