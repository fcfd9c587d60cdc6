"""tiktoken's own counts, from the locked vocabularies: the truth that bounds and ratios are compared with."""

from __future__ import annotations

from functools import cache
from pathlib import Path
from tempfile import mkdtemp
from typing import Any

from tiktoken import Encoding

from gateway.control.vocabulary import encoding

NAMES = ("o200k_base", "cl100k_base")


@cache
def loaded(name: str) -> Encoding:
    return encoding(name, Path(mkdtemp()))


def counted(name: str, text: str) -> int:
    """Tokens of a text; what looks like a special token is text, as at providers."""
    return len(loaded(name).encode(text, disallowed_special=()))


def prompt_tokens(name: str, body: dict[str, Any]) -> int:
    """Input tokens of a chat by OpenAI's recipe (cookbook, "How to count tokens with tiktoken"): 3 for each
    message, 1 for each name, 3 for the answer's start, and all text of its tools and formats."""
    tokens = 3
    for message in body["messages"]:
        tokens += 3
        for field, value in message.items():
            if isinstance(value, str):
                tokens += counted(name, value) + (field == "name")
            elif field == "content":
                tokens += sum(counted(name, part["text"]) for part in value)
    for field in ("tools", "response_format"):
        tokens += sum(counted(name, text) for text in _strings(body.get(field)))
    return tokens


def _strings(value: object) -> list[str]:
    if isinstance(value, str):
        return [value]
    if isinstance(value, dict):
        return [text for pair in value.items() for item in pair for text in _strings(item)]
    return [text for item in value for text in _strings(item)] if isinstance(value, list) else []
