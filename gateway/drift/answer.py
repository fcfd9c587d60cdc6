"""What was asked and what was answered, of any dialect, as far as drift looks at it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

HEAD_CHARS, TAIL_CHARS = 3072, 1024
"""Of a longer text only its beginning and its end are looked at: that bounds the work to 0.2 ms."""


@dataclass(frozen=True, slots=True)
class Asked:
    """A prompt. `system` is what does not come from a user, `texts` all texts in order, `last` the last
    user's.

    `tools` is whatever stands for tools and for the form of the answer, as bytes; `temperature` None if not
    given.
    """

    system: str
    texts: tuple[str, ...]
    last: str
    tools: bytes
    temperature: float | None
    has_tools: bool = False
    wants_json: bool = False
    schema: Mapping[str, Any] | None = None


@dataclass(frozen=True, slots=True)
class Answered:
    """An answer. `chars` is how long its text is, also where only a part of it was kept; tokens None where
    the provider did not say."""

    text: str
    chars: int
    finish_reason: str = ""
    tool_names: tuple[str, ...] = ()
    tool_arguments: tuple[str, ...] = ()
    first_logprob: float | None = None
    identity: Mapping[str, str] = field(default_factory=dict)


def clipped(text: str) -> str:
    """The part of a text that is looked at."""
    if len(text) <= HEAD_CHARS + TAIL_CHARS:
        return text
    return text[:HEAD_CHARS] + text[-TAIL_CHARS:]
