"""What a call says, whatever dialect it was said in: the neutral form that every dialect reads and writes.

A dialect reads its own request into a `Conversation` and writes a `Conversation` as its own request, so N
callers' dialects and M providers' are N + M files. Same dialect on both sides never comes here: the body is
relayed."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from gateway.errors import UNSUPPORTED, GatewayError

Cache = Mapping[str, Any]
"""Anthropic's `cache_control` as it is: a mark that what comes up to here may be cached."""


@dataclass(slots=True)
class Text:
    """Text of a caller or a model; `citations` as `wire.citation` has them."""

    text: str
    cache: Cache | None = None
    citations: list[dict[str, Any]] | None = None


@dataclass(slots=True)
class Media:
    """An image, a document or a sound: `data` is base64, or `url` says where it is, or `file_id` names a file
    that the provider stores. `kind` is "image", "file" or "audio"; `media_type` as in MIME, "" if not
    said."""

    kind: str
    media_type: str = ""
    data: str = field(default="", repr=False)
    url: str = ""
    file_id: str = ""
    name: str = ""
    detail: str = ""
    cache: Cache | None = None


@dataclass(slots=True)
class Thinking:
    """What a model thought. `signature` (or `redacted`, where the text is hidden) is the provider's seal,
    which it wants back in the next turn; `dialect` is whose seal it is, for nobody else can read it."""

    text: str
    signature: str = ""
    redacted: str = ""
    dialect: str = ""
    id: str = ""


@dataclass(slots=True)
class ToolCall:
    """A model calls a tool. `arguments` is JSON text as the model wrote it."""

    id: str
    name: str
    arguments: str = "{}"
    cache: Cache | None = None


@dataclass(slots=True)
class ToolResult:
    """What a tool gave, for the call of that id."""

    call_id: str
    parts: list[Part] = field(default_factory=list)
    is_error: bool = False
    cache: Cache | None = None


@dataclass(slots=True)
class Refusal:
    """A model's words in which it refuses."""

    text: str


@dataclass(slots=True)
class Foreign:
    """A part that the neutral form has no word for; `what` is its place and kind, for an error."""

    what: str


Part = Text | Media | Thinking | ToolCall | ToolResult | Refusal | Foreign


@dataclass(slots=True)
class Turn:
    """One turn; `role` is "user", "assistant" or, amid a conversation, "system"."""

    role: str
    parts: list[Part] = field(default_factory=list)


@dataclass(slots=True)
class Tool:
    """A function that the caller runs. `parameters` is a JSON schema; `strict` None: not said."""

    name: str
    description: str = ""
    parameters: Mapping[str, Any] | None = None
    strict: bool | None = None
    cache: Cache | None = None


@dataclass(slots=True)
class ToolChoice:
    """`mode` is "auto", "none", "required" or "named"; `name` of the tool for the last."""

    mode: str
    name: str = ""


@dataclass(slots=True)
class Form:
    """The form that an answer must have: `mode` is "json_object" or "json_schema"."""

    mode: str
    name: str = ""
    schema: Mapping[str, Any] | None = None
    strict: bool | None = None
    description: str = ""


@dataclass(slots=True)
class Reasoning:
    """How much a model is to think: an effort ("none" … "xhigh") or a budget; "" and None: not said.
    `summary` is the Responses API's wish for a summary of it."""

    effort: str = ""
    budget_tokens: int | None = None
    summary: str = ""


@dataclass(slots=True)
class Conversation:
    """A call for an answer. `options` holds what has the same meaning in all dialects that know it, by chat's
    own name (`temperature`, `top_p`, `stop` as a list …); `rest` what the caller's dialect has and the
    neutral form has not, by the caller's own name."""

    model: str
    system: list[Text] = field(default_factory=list)
    turns: list[Turn] = field(default_factory=list)
    tools: list[Tool] = field(default_factory=list)
    foreign_tools: list[str] = field(default_factory=list)
    """Kinds of tools that run at the caller's own provider, or that have no neutral form."""
    tool_choice: ToolChoice | None = None
    parallel: bool | None = None
    """False: one tool at a time."""
    cap_tokens: int | None = None
    cap_field: str = "max_tokens"
    """The field that the cap was read from, for what its caller is told of it."""
    form: Form | None = None
    reasoning: Reasoning | None = None
    stream: bool = False
    options: dict[str, Any] = field(default_factory=dict)
    rest: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Toward:
    """Whom a request is written for."""

    model: str
    """At the provider."""
    max_output: int | None = None
    """The most tokens of an answer, if the policy says so: the cap of a call that has none, where the dialect
    wants one."""
    cap_field: str = "max_completion_tokens"
    asks_usage: bool = True
    """False for providers that send usage unasked and refuse `stream_options`."""
    reasons: bool = False
    """True if the model is known to reason."""
    drops: bool = False
    """True if what cannot be said is left out, whatever it is (`on_unsupported: drop`)."""


HINTS = frozenset(
    {
        "metadata",
        "prompt_cache_key",
        "prompt_cache_options",
        "prompt_cache_retention",
        "safety_identifier",
        "seed",
        "service_tier",
        "store",
        "user",
    }
)
"""What may be left unsaid to a provider that does not know it: the answer is as good without."""

DEFAULTS: Mapping[str, tuple[Any, ...]] = {
    "background": (False,),
    "best_of": (1,),
    "echo": (False,),
    "frequency_penalty": (0,),
    "include": ([],),
    "logit_bias": ({},),
    "logprobs": (False,),
    "modalities": (["text"],),
    "n": (1,),
    "parallel_tool_calls": (True,),
    "presence_penalty": (0,),
    "stop": ([],),
    "suffix": ("",),
    "stream_options": ({}, {"include_usage": True}, {"include_usage": False}, {"include_obfuscation": False}),
    "temperature": (1,),
    "text": ({}, {"format": {"type": "text"}}),
    "top_logprobs": (0,),
    "top_p": (1,),
    "truncation": ("disabled",),
    "verbosity": ("medium",),
}
"""Values that say what would hold anyway, by OpenAI's reference."""


_KINDS: Mapping[type, str] = {
    Text: "text",
    Media: "media",
    Thinking: "thinking",
    ToolCall: "tool_call",
    ToolResult: "tool_result",
    Refusal: "refusal",
}


class Leftovers:
    """What a target cannot be told: dropped and named if nothing is lost with it, else the call is refused;
    or all of it dropped, where the policy says `on_unsupported: drop`."""

    __slots__ = ("_drops_all", "_where", "dropped")

    def __init__(self, where: str, *, drops_all: bool = False) -> None:
        self._where = where
        self._drops_all = drops_all
        self.dropped: list[str] = []
        """Names of fields, for `x-headgate-dropped`."""

    def drop(self, name: str) -> None:
        """Leaves out a field that is only a hint."""
        if name not in self.dropped:
            self.dropped.append(name)

    def refuse(self, name: str, what: str = "") -> None:
        """Leaves out a field that changes the answer, or raises `GatewayError` (400) naming it."""
        if not self._drops_all:
            raise GatewayError(
                UNSUPPORTED,
                f"'{name}'{' ' + what if what else ''} cannot be said to {self._where}; leave it out, or the"
                " gateway's operator can set 'on_unsupported: drop' on the model.",
                param=name,
            )
        self.drop(name)

    def foreign(self, what: str) -> dict[str, Any] | None:
        """What stands for a part that has no neutral form: nothing."""
        self.refuse(what)
        return None

    def misplaced(self, part: Part) -> dict[str, Any] | None:
        """What stands for a part that a turn of its role cannot hold: nothing."""
        what = part.what if isinstance(part, Foreign) else f"messages[].content[].{_KINDS[type(part)]}"
        return self.foreign(what)

    def foreign_tool(self, kind: str) -> dict[str, Any] | None:
        """What stands for a tool that has no neutral form: nothing."""
        self.refuse("tools[].type", repr(kind[:64]))
        return None

    def field(self, name: str, value: Any) -> None:
        """Leaves out a field by what it is: a hint or a default is dropped, all else refused."""
        if value is None:
            return
        if name in HINTS or any(_same(value, known) for known in DEFAULTS.get(name, ())):
            self.drop(name)
        else:
            self.refuse(name)


class Judged(Leftovers):
    """For the chat form that limits, budgets and drift look at: nothing is refused, and what has no form
    shows that it is there."""

    __slots__ = ()

    def __init__(self) -> None:
        super().__init__("limits", drops_all=True)

    def foreign(self, what: str) -> dict[str, Any] | None:
        return {"type": what}

    def foreign_tool(self, kind: str) -> dict[str, Any] | None:
        return {"type": kind}


def _same(value: Any, known: Any) -> bool:
    # 1 == True in Python; a caller's true is no temperature of 1.
    return isinstance(value, bool) is isinstance(known, bool) and bool(value == known)


def merged_turns(turns: list[Turn]) -> list[Turn]:
    """The same turns, neighbours of one role as one: some dialects want them to alternate."""
    found: list[Turn] = []
    for turn in turns:
        if found and found[-1].role == turn.role:
            found[-1] = Turn(turn.role, [*found[-1].parts, *turn.parts])
        else:
            found.append(turn)
    return found
