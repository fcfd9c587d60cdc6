"""OpenAI's Responses API: a request, read into the neutral form. `responses_asked` writes it.

Facts: openai-openapi 2.3.0 and the types of openai-python. What keeps state at a provider (`STATE`, items
that only refer to others) has no neutral form: it stays in `rest`, or is `Foreign`, and is refused by name.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from gateway.errors import UNSUPPORTED, GatewayError
from gateway.wire.conversation import (
    Conversation,
    Foreign,
    Form,
    Media,
    Part,
    Reasoning,
    Refusal,
    Text,
    Tool,
    ToolCall,
    ToolChoice,
    ToolResult,
    Turn,
)
from gateway.wire.dialects.chat_request import media_of_url
from gateway.wire.seal import unmarked
from gateway.wire.shape import asked_objects, asked_text, bad, objects, table, text

NAME = "responses"
CAP_FIELD = "max_output_tokens"
LEAST_CAP_TOKENS = 16
"""OpenAI refuses a lower one."""
LOGPROBS = "message.output_text.logprobs"
"""Of `include`: chat's `logprobs: true`."""
ENCRYPTED = "reasoning.encrypted_content"
"""Of `include`: the seals of what a model thought, for turns that keep no state."""
SAME = frozenset(
    {
        "metadata",
        "prompt_cache_key",
        "prompt_cache_options",
        "prompt_cache_retention",
        "safety_identifier",
        "service_tier",
        "store",
        "temperature",
        "top_p",
        "user",
    }
)
"""Options that chat calls by the same name."""
STATE = ("conversation", "prompt")
"""Fields that name what a provider stores, beside the response that a call follows."""
_KNOWN = frozenset(
    {
        *SAME,
        CAP_FIELD,
        "include",
        "input",
        "instructions",
        "model",
        "parallel_tool_calls",
        "reasoning",
        "stream",
        "text",
        "tool_choice",
        "tools",
        "top_logprobs",
    }
)
_AUDIO_TYPES: Mapping[str, str] = {"mp3": "audio/mpeg", "wav": "audio/wav"}
_OWN_TOOLS = ("function", "custom")
"""Tools that the caller runs."""


def read_request(fields: Mapping[str, Any]) -> Conversation:
    """A caller's request. Raises `GatewayError` (400) where its shape is wrong; ranges are the provider's."""
    found = Conversation(asked_text(fields, "model"), stream=fields.get("stream") is True)
    instructions = asked_text(fields, "instructions")
    if instructions:
        found.system = [Text(instructions)]
    asked = fields.get("input")
    if type(asked) is str:
        found.turns = [Turn("user", [Text(asked)])]
    else:
        for at, item in enumerate(asked_objects(asked, "input")):
            _read_item(item, at, found)
    found.rest = {name: value for name, value in fields.items() if name not in _KNOWN}
    _read_tools(fields, found)
    cap = fields.get(CAP_FIELD)
    if cap is not None and type(cap) is not int:
        raise bad(CAP_FIELD, "a whole number")
    found.cap_tokens, found.cap_field = cap, CAP_FIELD
    found.options = {name: fields[name] for name in SAME if fields.get(name) is not None}
    _read_form(fields, found)
    _read_reasoning(fields, found)
    _read_include(fields, found)
    return found


def _read_item(item: Mapping[str, Any], at: int, found: Conversation) -> None:
    kind, where = kind_of(item), f"input[{at}]"
    if kind == "message":
        _read_message(item, where, found)
    elif kind == "function_call":
        call = ToolCall(text(item.get("call_id")), text(item.get("name")), text(item.get("arguments")))
        _say("assistant", [call], found)
    elif kind == "function_call_output":
        result = ToolResult(text(item.get("call_id")), list(_parts_of(item.get("output"), f"{where}.output")))
        _answer(result, found)
    elif kind == "reasoning":
        seal, id_ = text(item.get("encrypted_content")), text(item.get("id"))
        _say("assistant", [unmarked(seal, thought_in(item), NAME, id_)], found)
    else:
        found.turns.append(Turn("user", [Foreign(f"input[].{text(kind)[:64] or 'type'}")]))


def kind_of(item: Mapping[str, Any]) -> Any:
    """The type of an item: messages and references need not say theirs."""
    kind = item.get("type")
    if kind is None:
        return "message" if "role" in item or item.get("id") is None else "item_reference"
    return kind


def thought_in(item: Mapping[str, Any]) -> str:
    """The text of a reasoning item: its summary, else what was thought."""
    for name in ("summary", "content"):
        texts = [text(part.get("text")) for part in objects(item.get(name))]
        if any(texts):
            return "\n\n".join(texts)
    return ""


def _say(role: str, parts: list[Part], found: Conversation) -> None:
    """A turn is several items here: neighbours of the model's are one."""
    if role == "assistant" and found.turns and found.turns[-1].role == role:
        found.turns[-1].parts += parts
    else:
        found.turns.append(Turn(role, parts))


def _answer(result: ToolResult, found: Conversation) -> None:
    """Results that follow each other are one turn."""
    last = found.turns[-1] if found.turns else None
    if last is not None and last.role == "user" and all(type(part) is ToolResult for part in last.parts):
        last.parts.append(result)
    else:
        found.turns.append(Turn("user", [result]))


def _read_message(item: Mapping[str, Any], where: str, found: Conversation) -> None:
    role = asked_text(item, "role", f"{where}.role")
    parts = list(_parts_of(item.get("content"), f"{where}.content"))
    if role in ("system", "developer"):
        texts: list[Part] = [part for part in parts if type(part) is Text]
        if len(texts) < len(parts):
            found.turns.append(Turn("user", [Foreign(f"input[].content[] of role {role!r}")]))
        if found.turns:
            found.turns.append(Turn("system", texts))
        else:
            found.system += [part for part in parts if type(part) is Text]
    elif role in ("user", "assistant"):
        _say(role, parts, found)
    else:
        found.turns.append(Turn("user", [Foreign(f"input[].role {role[:32]!r}")]))


def _parts_of(content: Any, where: str) -> Iterator[Part]:
    if content is None:
        return
    if type(content) is str:
        if content:
            yield Text(content)
        return
    for part in asked_objects(content, where):
        yield _part(part)


def _part(part: Mapping[str, Any]) -> Part:
    kind = part.get("type")
    if kind in ("input_text", "output_text"):
        return Text(text(part.get("text")))
    if kind == "refusal":
        return Refusal(text(part.get("refusal")))
    if kind == "input_image":
        found = media_of_url("image", text(part.get("image_url")))
        found.file_id, detail = text(part.get("file_id")), text(part.get("detail"))
        # It must be given here, and "auto" is what would hold anyway.
        found.detail = "" if detail == "auto" else detail
        return found
    if kind == "input_file":
        return _file(part)
    if kind == "input_audio":
        audio = table(part.get("input_audio"))
        format_ = text(audio.get("format"))
        return Media("audio", _AUDIO_TYPES.get(format_, f"audio/{format_}"), text(audio.get("data")))
    return Foreign(f"input[].content[].{text(kind)[:64] or 'type'}")


def _file(part: Mapping[str, Any]) -> Media:
    data = text(part.get("file_data"))
    if data[:5].lower() == "data:":
        found = media_of_url("file", data)
    else:
        found = Media("file", data=data, url=text(part.get("file_url")))
    found.file_id, found.name = text(part.get("file_id")), text(part.get("filename"))
    return found


def _read_tools(fields: Mapping[str, Any], found: Conversation) -> None:
    for tool in asked_objects(fields.get("tools"), "tools"):
        if tool.get("type") != "function":
            found.foreign_tools.append(text(tool.get("type")))
            continue
        parameters, strict = tool.get("parameters"), tool.get("strict")
        found.tools.append(
            Tool(
                text(tool.get("name")),
                text(tool.get("description")),
                parameters if type(parameters) is dict else None,
                strict if type(strict) is bool else None,
            )
        )
    if fields.get("parallel_tool_calls") is not None:
        found.parallel = fields["parallel_tool_calls"] is not False
    choice = fields.get("tool_choice")
    if choice is None:
        return
    if type(choice) is str and choice in ("auto", "none", "required"):
        found.tool_choice = ToolChoice(choice)
    elif type(choice) is not dict:
        raise bad("tool_choice", "auto, none, required or an object")
    elif choice.get("type") == "function":
        found.tool_choice = ToolChoice("named", text(choice.get("name")))
    else:
        found.rest["tool_choice"] = choice


def _read_form(fields: Mapping[str, Any], found: Conversation) -> None:
    wanted = _asked_table(fields, "text")
    form = table(wanted.get("format"))
    strict, kind = form.get("strict"), form.get("type")
    if kind == "json_schema":
        found.form = Form(
            "json_schema",
            text(form.get("name")),
            table(form.get("schema")),
            strict if type(strict) is bool else None,
            text(form.get("description")),
        )
    elif kind == "json_object":
        found.form = Form("json_object")
    elif kind not in (None, "text"):
        found.rest["text.format"] = form
    if wanted.get("verbosity") is not None:
        found.options["verbosity"] = wanted["verbosity"]
    _keep_unknown(wanted, "text", ("format", "verbosity"), found)


def _read_reasoning(fields: Mapping[str, Any], found: Conversation) -> None:
    wanted = _asked_table(fields, "reasoning")
    effort = text(wanted.get("effort"))
    summary = text(wanted.get("summary")) or text(wanted.get("generate_summary"))
    if effort or summary:
        found.reasoning = Reasoning(effort, summary=summary)
    _keep_unknown(wanted, "reasoning", ("effort", "summary", "generate_summary"), found)


def _asked_table(fields: Mapping[str, Any], name: str) -> dict[str, Any]:
    value = fields.get(name)
    if value is not None and type(value) is not dict:
        raise bad(name, "an object")
    return value or {}


def _keep_unknown(wanted: Mapping[str, Any], where: str, known: tuple[str, ...], found: Conversation) -> None:
    for name, value in wanted.items():
        if name not in known:
            found.rest[f"{where}.{name}"] = value


def _read_include(fields: Mapping[str, Any], found: Conversation) -> None:
    """What an answer is to hold besides: seals need no asking elsewhere, chat has a word for logprobs."""
    include = fields.get("include")
    if include is not None and type(include) is not list:
        raise bad("include", "a list")
    others = [name for name in include or () if name not in (LOGPROBS, ENCRYPTED)]
    if others:
        found.rest["include"] = others
    most = fields.get("top_logprobs")
    if most or LOGPROBS in (include or ()):
        found.options["logprobs"] = True
    if most:
        found.options["top_logprobs"] = most


def followed(fields: Mapping[str, Any]) -> str | None:
    """The id of the stored response that a call follows; None if it follows none."""
    return asked_text(fields, "previous_response_id") or None


def check_relayed(fields: Mapping[str, Any]) -> None:
    """Raises `GatewayError` (400) for what a provider stores and whose it is cannot be told here, as it can
    where the API is passed through; and for a stream that goes on after its end in the background: it would
    be counted twice."""
    for name in STATE:
        if fields.get(name) is not None:
            raise _stateful(name)
    if fields.get("background") is True and fields.get("stream") is True:
        raise GatewayError(
            UNSUPPORTED,
            "'background' is not streamed here: leave out 'stream' and ask for the response.",
            param="stream",
        )
    for item in objects(fields.get("input")):
        if kind_of(item) == "item_reference":
            raise _stateful("input[].item_reference")
    for tool in objects(fields.get("tools")):
        if tool.get("type") not in _OWN_TOOLS:
            _check_tool(tool)


def _check_tool(tool: Mapping[str, Any]) -> None:
    """A tool that runs at the provider may look into what is stored there."""
    if type(tool.get("container")) is str:
        raise _stateful("tools[].container")
    for inner in (tool, table(tool.get("container")), table(tool.get("environment"))):
        for name in ("container_id", "file_ids", "vector_store_ids"):
            if inner.get(name):
                raise _stateful(f"tools[].{name}")


def _stateful(name: str) -> GatewayError:
    return GatewayError(
        UNSUPPORTED,
        f"'{name}' refers to what a provider stores, which this gateway does not follow; send the whole"
        " conversation in 'input'.",
        param=name,
    )
