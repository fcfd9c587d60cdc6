"""A request of one dialect as the other has it, and what was left out on the way."""

from __future__ import annotations

from typing import Any

from gateway.wire.conversation import Leftovers, Toward
from gateway.wire.dialect import ANTHROPIC, CHAT

SCHEMA = {"type": "object", "properties": {"name": {"type": "string"}}, "required": ["name"]}
HI = [{"role": "user", "content": "Hi"}]
TOOLS = [{"type": "function", "function": {"name": "f"}}]
OLDER, NEWER = "claude-sonnet-4-5", "claude-opus-4-8"
"""One takes sampling and a budget of tokens to think, one neither."""


def to_anthropic(
    fields: dict[str, Any], model: str = OLDER, cap: int | None = None, **toward: Any
) -> tuple[dict[str, Any], list[str]]:
    """A chat request for Anthropic, and what was left out."""
    left = Leftovers("it")
    said = CHAT.read_request({"model": "m", "messages": HI, **fields})
    return ANTHROPIC.write_request(said, Toward(model, **toward), cap, left), left.dropped


def to_chat(fields: dict[str, Any], **toward: Any) -> tuple[dict[str, Any], list[str]]:
    """An Anthropic request for chat, and what was left out."""
    left = Leftovers("it")
    said = ANTHROPIC.read_request({"model": "m", "max_tokens": 9, "messages": HI, **fields})
    return CHAT.write_request(said, Toward("gpt-5", **toward), None, left), left.dropped


def called(id_: str, name: str, arguments: str) -> dict[str, Any]:
    return {"id": id_, "type": "function", "function": {"name": name, "arguments": arguments}}
