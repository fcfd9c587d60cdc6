"""What the simulated provider's Responses API is asked: what it refuses, and the same question in chat."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from gateway.simulator.answers import is_reasoning
from gateway.simulator.judge import RefusedError, refuse

SEAL = "seal-"
"""What `encrypted_content` of this provider begins with."""
ENCRYPTED = "reasoning.encrypted_content"
LEAST_OUTPUT_TOKENS = 16
"""OpenAI refuses a lower `max_output_tokens`."""
_FIELDS = frozenset(
    {
        "background",
        "context_management",
        "conversation",
        "include",
        "input",
        "instructions",
        "max_output_tokens",
        "max_tool_calls",
        "metadata",
        "model",
        "moderation",
        "parallel_tool_calls",
        "previous_response_id",
        "prompt",
        "prompt_cache_key",
        "prompt_cache_options",
        "prompt_cache_retention",
        "reasoning",
        "safety_identifier",
        "service_tier",
        "simulate",
        "store",
        "stream",
        "stream_options",
        "temperature",
        "text",
        "tool_choice",
        "tools",
        "top_logprobs",
        "top_p",
        "truncation",
        "user",
    }
)
_MOVED: Mapping[str, str] = {
    "max_completion_tokens": "max_output_tokens",
    "max_tokens": "max_output_tokens",
    "messages": "input",
    "reasoning_effort": "reasoning.effort",
    "response_format": "text.format",
    "verbosity": "text.verbosity",
}
_SAME = ("metadata", "parallel_tool_calls", "service_tier", "simulate", "stream", "temperature", "top_p")
_INPUTS = ("input_audio", "input_file", "input_image", "input_text")
_OUTPUTS = ("output_text", "refusal")


def as_chat(body: object, before: Mapping[str, Any] | None) -> dict[str, Any]:
    """The same question as a chat request. Raises `RefusedError` for what OpenAI refuses."""
    if not isinstance(body, dict):
        raise refuse(400, "We could not parse the JSON body of your request.")
    for name in body:
        if name in _MOVED:
            message = f"Unsupported parameter: '{name}'. In the Responses API, this parameter has moved to "
            raise refuse(400, f"{message}'{_MOVED[name]}'.", code="unsupported_parameter", param=name)
        if name not in _FIELDS:
            raise refuse(400, f"Unknown parameter: '{name}'.", code="unknown_parameter", param=name)
    if body.get("input") is None and not body.get("prompt"):
        raise _missing("input")
    chat: dict[str, Any] = {"model": body.get("model"), "messages": []}
    chat |= {name: body[name] for name in _SAME if body.get(name) is not None}
    if body.get("instructions"):
        chat["messages"].append({"role": "system", "content": body["instructions"]})
    chat["messages"] += _messages(body.get("input") or "", before)
    cap = body.get("max_output_tokens")
    if type(cap) is int and cap < LEAST_OUTPUT_TOKENS:
        message = f"integer below minimum value. Expected a value >= {LEAST_OUTPUT_TOKENS}, but got {cap}"
        raise refuse(
            400,
            f"Invalid 'max_output_tokens': {message} instead.",
            code="integer_below_min_value",
            param="max_output_tokens",
        )
    if cap is not None:
        chat["max_completion_tokens"] = cap
    _tools(body, chat)
    _reasoning(body, chat)
    form = (body.get("text") or {}).get("format") or {}
    if form.get("type") == "json_schema":
        for name in ("name", "schema"):
            if not form.get(name):
                raise _missing(f"text.format.{name}")
        chat["response_format"] = {"type": "json_schema", "json_schema": {"schema": form["schema"]}}
    elif form.get("type") == "json_object":
        chat["response_format"] = {"type": "json_object"}
    return chat


def _missing(param: str) -> RefusedError:
    message = f"Missing required parameter: '{param}'."
    return refuse(400, message, code="missing_required_parameter", param=param)


def _invalid(param: str, value: object, supported: tuple[str, ...]) -> RefusedError:
    names = ", ".join(f"'{name}'" for name in supported)
    message = f"Invalid value: '{value}'. Supported values are: {names}."
    return refuse(400, message, code="invalid_value", param=param)


def _messages(asked: Any, before: Mapping[str, Any] | None) -> Iterator[dict[str, Any]]:
    called: set[Any] = set()
    if before is not None:
        for item in before["output"]:
            called.add(item.get("call_id"))
            for part in item.get("content") or ():
                yield {"role": "assistant", "content": part.get("text", "")}
    if isinstance(asked, str):
        yield {"role": "user", "content": asked}
        return
    for at, item in enumerate(asked):
        kind, where = item.get("type", "message"), f"input[{at}]"
        if kind == "message":
            yield _message(item, where)
        elif kind == "function_call":
            called.add(item["call_id"])
            function = {"name": item["name"], "arguments": item["arguments"]}
            yield {"role": "assistant", "content": None, "tool_calls": [{"function": function}]}
        elif kind == "function_call_output":
            if item["call_id"] not in called:
                message = f"No tool call found for function call output with call_id {item['call_id']}."
                raise refuse(400, message, param="input")
            content, id_ = _content(item["output"], f"{where}.output", _INPUTS), item["call_id"]
            yield {"role": "tool", "tool_call_id": id_, "content": content}
        elif kind == "reasoning":
            _check_seal(item)
        else:
            raise _invalid(f"{where}.type", kind, ("message", "function_call", "function_call_output"))


def _check_seal(item: Mapping[str, Any]) -> None:
    seal = item.get("encrypted_content")
    if seal is not None and not seal.startswith(SEAL):
        message = f"The encrypted content for item {item.get('id')} could not be verified."
        raise refuse(400, message, code="invalid_encrypted_content")


def _message(item: Mapping[str, Any], where: str) -> dict[str, Any]:
    role = item.get("role")
    if role not in ("assistant", "developer", "system", "user"):
        raise _invalid(f"{where}.role", role, ("assistant", "system", "developer", "user"))
    supported = _OUTPUTS if role == "assistant" else _INPUTS
    return {"role": role, "content": _content(item.get("content"), f"{where}.content", supported)}


def _content(content: Any, where: str, supported: tuple[str, ...]) -> Any:
    """A content as chat has it; a text alone as a string."""
    if content is None:
        raise _missing(where)
    if isinstance(content, str):
        return content
    parts: list[dict[str, Any]] = []
    for at, part in enumerate(content):
        kind = part.get("type")
        if kind not in supported:
            raise _invalid(f"{where}[{at}]", kind, supported)
        if kind in ("input_text", "output_text"):
            parts.append({"type": "text", "text": part["text"]})
        elif kind == "refusal":
            parts.append({"type": "text", "text": part["refusal"]})
        elif kind == "input_image":
            parts.append({"type": "image_url", "image_url": {"url": part.get("image_url") or "file"}})
        else:
            parts.append({"type": "input_audio" if kind == "input_audio" else "file"})
    return parts[0]["text"] if len(parts) == 1 and "text" in parts[0] else parts


def _tools(body: Mapping[str, Any], chat: dict[str, Any]) -> None:
    """The functions; what else there is runs here and leaves no trace."""
    functions = []
    for at, tool in enumerate(body.get("tools") or ()):
        if tool.get("type") == "function":
            if not tool.get("name"):
                raise _missing(f"tools[{at}].name")
            parameters = tool.get("parameters") or {"type": "object", "properties": {}}
            function = {"name": tool["name"], "parameters": parameters}
            functions.append({"type": "function", "function": function})
    if functions:
        chat["tools"] = functions
    choice = body.get("tool_choice")
    if isinstance(choice, dict):
        chat["tool_choice"] = {"type": "function", "function": {"name": choice.get("name")}}
    elif choice is not None:
        chat["tool_choice"] = choice


def _reasoning(body: Mapping[str, Any], chat: dict[str, Any]) -> None:
    asked = body.get("reasoning") or {}
    if not is_reasoning(str(body.get("model"))):
        for name in ("effort", "summary"):
            if asked.get(name) is not None:
                param = f"reasoning.{name}"
                message = f"Unsupported parameter: '{param}' is not supported with this model."
                raise refuse(400, message, code="unsupported_parameter", param=param)
        if ENCRYPTED in (body.get("include") or ()):
            raise refuse(400, "Encrypted content is not supported with this model.", param="include")
    if asked.get("effort") is not None:
        chat["reasoning_effort"] = asked["effort"]
