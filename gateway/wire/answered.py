"""What a model answers, whatever dialect it was said in: whole, or as the events of a stream."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from gateway.errors import ProviderError
from gateway.usage import Usage
from gateway.wire.conversation import Refusal, Text, Thinking, ToolCall

STOP, LENGTH, TOOL_CALLS, FILTERED, REFUSED, PAUSED = (
    "stop",
    "length",
    "tool_calls",
    "content_filter",
    "refusal",
    "pause",
)
"""Why an answer ended: it was complete, its cap or the window was reached, it calls tools, a filter spoke,
the model refused, the provider paused a long turn."""

Said = Text | Thinking | ToolCall | Refusal
"""A part of an answer."""


@dataclass(slots=True)
class Candidate:
    """One answer of the `n` that were asked for."""

    parts: list[Said] = field(default_factory=list)
    reason: str = STOP
    stop_sequence: str = ""
    logprobs: Any = None


@dataclass(slots=True)
class Answer:
    """A whole answer. `usage` None: the provider told none."""

    id: str
    model: str
    candidates: list[Candidate] = field(default_factory=list)
    usage: Usage | None = None
    created_s: int = 0
    fingerprint: str = ""
    repeats: Mapping[str, Any] | None = None
    """What it repeats of its request, where the caller's dialect does that (`Dialect.repeated`)."""


@dataclass(slots=True)
class Began:
    """The stream's first event: whose answer it is."""

    id: str
    model: str
    created_s: int = 0
    usage: Usage | None = None
    """What is known of the input by now."""
    repeats: Mapping[str, Any] | None = None
    """As in `Answer`."""


@dataclass(slots=True)
class Opened:
    """A part begins; it has no text yet but a tool call's id and name. `index` counts parts from 0. One is
    open at a time, but for tool calls: of those several may be."""

    index: int
    part: Said


@dataclass(slots=True)
class Piece:
    """More text of a part that was opened: of its text, thoughts, refusal, or a tool's arguments. `logprobs`
    are of its tokens (`wire.logprobs`)."""

    index: int
    text: str
    logprobs: list[dict[str, Any]] | None = None


@dataclass(slots=True)
class Pieces:
    """Pieces of one part that came together, of the commonest kind: none is empty (`wire.glance`)."""

    index: int
    text: str
    """Of all of them."""
    quoted: list[bytes]
    """Each as a JSON string."""


@dataclass(slots=True)
class Sealed:
    """The provider's seal of a thinking part."""

    index: int
    signature: str


@dataclass(slots=True)
class Cited:
    """Where a text comes from (`wire.citation`)."""

    index: int
    citation: dict[str, Any]


@dataclass(slots=True)
class Closed:
    """Nothing more comes of a part."""

    index: int


@dataclass(slots=True)
class Ended:
    """The answer is complete, but for its usage."""

    reason: str
    stop_sequence: str = ""


@dataclass(slots=True)
class Used:
    """What it consumed; of several the last holds."""

    usage: Usage


@dataclass(slots=True)
class Done:
    """The stream's last event."""


@dataclass(slots=True)
class Failed:
    """The provider failed in mid-stream."""

    error: ProviderError


Event = Began | Opened | Piece | Sealed | Cited | Closed | Ended | Used | Done | Failed


def is_content(event: Event) -> bool:
    """True for what commits a stream: content, or the end."""
    kind = type(event)
    if kind is Piece:
        return bool(event.text)  # type: ignore[union-attr]
    return kind is Ended or kind is Done or (kind is Opened and type(event.part) is ToolCall)  # type: ignore[union-attr]
