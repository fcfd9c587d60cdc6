"""OpenAI's Responses API: what a response repeats of its request, for answers that came in another dialect.

Facts: openai-openapi 2.3.0 and the `Response` of openai-python, which has some of it as always there.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from gateway.wire.json import dumps
from gateway.wire.shape import objects, table

DEFAULTS: Mapping[str, Any] = {
    "background": False,
    "instructions": None,
    "max_output_tokens": None,
    "metadata": {},
    "parallel_tool_calls": True,
    "previous_response_id": None,
    "reasoning": {"effort": None, "summary": None},
    # Nothing is stored of what is translated, whatever was asked for.
    "store": False,
    "temperature": 1.0,
    "text": {"format": {"type": "text"}},
    "tool_choice": "auto",
    "tools": [],
    "top_p": 1.0,
    "truncation": "disabled",
    "user": None,
}
"""What stands there if the request says nothing."""
_AS_ASKED = (
    *("instructions", "max_output_tokens", "metadata", "temperature", "tool_choice", "top_p", "truncation"),
    *("max_tool_calls", "prompt_cache_key", "prompt_cache_retention", "safety_identifier", "top_logprobs"),
    "user",
)
"""What is repeated as it was said; those without a default only if it was."""


def repeated(asked: Mapping[str, Any]) -> Mapping[str, Any]:
    """What the response to a request repeats of it."""
    found = {**DEFAULTS, **{name: asked[name] for name in _AS_ASKED if asked.get(name) is not None}}
    found["parallel_tool_calls"] = asked.get("parallel_tool_calls") is not False
    found["reasoning"] = {**DEFAULTS["reasoning"], **table(asked.get("reasoning"))}
    found["text"] = {**DEFAULTS["text"], **table(asked.get("text"))}
    found["tools"] = [_tool(tool) for tool in objects(asked.get("tools"))]
    try:
        # It stands in an event's response: two levels more than here, of 254 that can be written.
        dumps([[found]])
    except TypeError:
        return DEFAULTS
    return found


def _tool(tool: Mapping[str, Any]) -> Mapping[str, Any]:
    """A tool with what is always there of a function. One that does not say so is not strict where it was
    translated to."""
    if tool.get("type") != "function":
        return tool
    return {"description": None, "parameters": None, **tool, "strict": tool.get("strict") is True}
