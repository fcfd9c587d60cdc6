"""How the simulator counts tokens: four characters are one token, and there is always at least one.

The rule is the same for prompts and answers, so a bill can be checked with a calculator. An image part
counts `IMAGE_TOKENS`, an audio part `AUDIO_TOKENS`; token arrays count their length.
"""

from __future__ import annotations

from typing import Any

import orjson

CHARACTERS_PER_TOKEN = 4
IMAGE_TOKENS = 85
"""What OpenAI charges for a low-detail image."""
AUDIO_TOKENS = 100
CACHE_FLOOR_TOKENS, CACHE_STEP_TOKENS = 1_024, 128
"""OpenAI caches prompts of 1,024 tokens or more and reports what it read in steps of 128."""


def count(text: str) -> int:
    """Tokens of a text, at least 1."""
    return max(1, -(-len(text) // CHARACTERS_PER_TOKEN))


def pieces(text: str) -> list[str]:
    """The text cut into its tokens: `len(pieces(text)) == count(text)` for any text that is not empty."""
    return [text[at : at + CHARACTERS_PER_TOKEN] for at in range(0, len(text), CHARACTERS_PER_TOKEN)]


def cached(prompt_tokens: int) -> int:
    """How much of a prompt that was seen before is read from the cache."""
    if prompt_tokens < CACHE_FLOOR_TOKENS:
        return 0
    return prompt_tokens // CACHE_STEP_TOKENS * CACHE_STEP_TOKENS


def chat_prompt(body: dict[str, Any]) -> int:
    """Tokens of a chat request: all text of its messages, its tool calls, its tools and its media."""
    texts: list[str] = []
    media_tokens = 0
    for message in body.get("messages") or ():
        if not isinstance(message, dict):
            continue
        texts.append(message_text(message))
        media_tokens += _media(message.get("content"))
        if message.get("tool_calls"):
            texts.append(orjson.dumps(message["tool_calls"]).decode())
    if body.get("tools"):
        texts.append(orjson.dumps(body["tools"]).decode())
    return count("".join(texts)) + media_tokens


def message_text(message: dict[str, Any]) -> str:
    """The text of one message, whether its content is a string, a list of parts or absent."""
    content = message.get("content")
    if isinstance(content, str):
        return content
    if not isinstance(content, list):
        return ""
    return "".join(str(part.get("text", "")) for part in content if isinstance(part, dict))


def _media(content: object) -> int:
    if not isinstance(content, list):
        return 0
    kinds = [part.get("type") for part in content if isinstance(part, dict)]
    return IMAGE_TOKENS * kinds.count("image_url") + AUDIO_TOKENS * kinds.count("input_audio")


def inputs(value: object) -> list[str | list[int]]:
    """The inputs of an embeddings call or the prompts of a legacy completion, as a list.

    A string, token ids, or a list of these; anything else raises `ValueError`.
    """
    if isinstance(value, str):
        return [value]
    if isinstance(value, list) and value:
        if _is_token_ids(value):
            return [value]
        if all(isinstance(item, str) or _is_token_ids(item) for item in value):
            return list(value)
    raise ValueError("neither text nor token ids")


def _is_token_ids(value: object) -> bool:
    return isinstance(value, list) and bool(value) and all(type(item) is int for item in value)


def count_input(value: str | list[int]) -> int:
    """Tokens of one of `inputs`."""
    return count(value) if isinstance(value, str) else len(value)
