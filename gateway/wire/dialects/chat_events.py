"""OpenAI's chat completions: the chunks of a stream, read into the neutral form and written from it."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from gateway.usage import Usage
from gateway.wire import answered
from gateway.wire.answered import (
    Began,
    Cited,
    Closed,
    Done,
    Ended,
    Event,
    Failed,
    Opened,
    Piece,
    Pieces,
    Said,
    Sealed,
    Used,
)
from gateway.wire.citation import PLACE, annotations_of, citations_of
from gateway.wire.conversation import Refusal, Text, Thinking, ToolCall
from gateway.wire.dialects.chat_answer import REASONS, WORDS, parts_in, sealed_in, write_usage
from gateway.wire.dialects.openai_chat import read_error_object, read_usage, status_of
from gateway.wire.glance import MARK, Around, around_mark
from gateway.wire.json import dumps, try_object
from gateway.wire.logprobs import with_bytes
from gateway.wire.shape import objects, table, text

_DONE = b"data: [DONE]\n\n"


class EventReader:
    """Events of one provider's stream of one choice, read one by one."""

    __slots__ = ("_began", "_finished", "_kind", "_last", "_next", "_open", "_texts", "_tools", "unknown")

    def __init__(self) -> None:
        self._began = self._finished = False
        self._kind: type | None = None
        """What the open part is; None if none is open."""
        self._open = -1
        self._next = 0
        self._texts = 0
        """How many texts were opened."""
        self._tools: dict[int, tuple[int, str]] = {}
        """A tool call's own index → its part's, and its id."""
        self._last = 0
        """The own index of the call that was told of last."""
        self.unknown: dict[str, int] = {}

    def read(self, data: bytes) -> Iterator[Event]:
        """What one event's data says; nothing for what is no JSON object."""
        if data == b"[DONE]":
            yield from self._close()
            yield Done()
            return
        fields = try_object(data)
        if fields is None:
            return
        failure = fields.get("error")
        if failure:
            yield Failed(read_error_object(failure, status_of(failure)))
            return
        choices = fields.get("choices")
        if not self._began and choices:
            self._began = True
            created = fields.get("created")
            yield Began(
                text(fields.get("id")), text(fields.get("model")), created if type(created) is int else 0
            )
        for choice in objects(choices):
            if choice.get("index", 0) == 0:
                yield from self._choice(choice)
        usage = read_usage(fields)
        if usage is not None:
            yield Used(usage)

    def _choice(self, choice: Mapping[str, Any]) -> Iterator[Event]:
        delta = table(choice.get("delta"))
        thought = delta.get("reasoning_content") or delta.get("reasoning")
        if type(thought) is str and thought:
            yield from self._more(Thinking, thought)
        odds = choice.get("logprobs")
        odds = table(odds) if odds else {}
        content, told = delta.get("content"), _odds(odds, "content")
        if type(content) is str and (content or told):
            yield from self._more(Text, content, told)
        for part in parts_in(content):
            if part.text:
                yield from self._more(type(part), part.text)
        refusal = delta.get("refusal")
        if type(refusal) is str and refusal:
            yield from self._more(Refusal, refusal, _odds(odds, "refusal"))
        if self._kind is Text:
            for citation in citations_of(delta.get("annotations"), ""):
                if self._texts > 1:
                    # Its place is one in all texts: where this one begins among them is not known here.
                    citation.pop(PLACE, None)
                yield Cited(self._open, citation)
        for call in objects(delta.get("tool_calls")):
            yield from self._tool(call)
        reason = text(choice.get("finish_reason"))
        if reason and not self._finished:
            self._finished = True
            yield from self._close()
            yield Ended(REASONS.get(reason, answered.STOP))

    def _more(
        self,
        kind: type[Text] | type[Thinking] | type[Refusal],
        piece: str,
        odds: list[dict[str, Any]] | None = None,
    ) -> Iterator[Event]:
        if self._kind is not kind:
            yield from self._close()
            yield self._opened(kind(""))
        yield Piece(self._open, piece, odds)

    def _tool(self, call: Mapping[str, Any]) -> Iterator[Event]:
        at, function = call.get("index"), table(call.get("function"))
        id_, name = text(call.get("id")), text(function.get("name"))
        if type(at) is not int:
            at = self._last if self._tools and not (id_ or name) else len(self._tools)
        index, known_id = self._tools.get(at, (-1, ""))
        # Gemini's OpenAI-compatible API gives all calls one index: another id with a name is another call.
        if index < 0 or (name and id_ and id_ != known_id):
            yield from self._close()
            yield self._opened(ToolCall(id_, name, ""))
            index = self._open
            self._tools[at] = index, id_
        self._last = at
        arguments = text(function.get("arguments"))
        if arguments:
            yield Piece(index, arguments)

    def _opened(self, part: Said) -> Opened:
        self._kind, self._open = type(part), self._next
        self._next += 1
        self._texts += self._kind is Text
        return Opened(self._open, part)

    def _close(self) -> Iterator[Event]:
        if self._kind is not None:
            self._kind = None
            yield Closed(self._open)


def _odds(told: Mapping[str, Any], of: str) -> list[dict[str, Any]] | None:
    """The logprobs in a choice's; None if there are none."""
    return ([*objects(told.get(of))] or None) if told else None


class EventWriter:
    """Writes one stream for a caller. `wants_usage`: it asked for the usage chunk."""

    __slots__ = (
        "_around",
        "_calls",
        "_head",
        "_parts",
        "_size",
        "_starts",
        "_tools",
        "_usage",
        "_wants_usage",
    )

    def __init__(self, *, wants_usage: bool) -> None:
        self._wants_usage = wants_usage
        self._head: dict[str, Any] = {}
        self._parts: dict[int, Said] = {}
        self._tools: dict[int, int] = {}
        """Index of a part → its place among the calls."""
        self._calls = 0
        self._around: dict[int, Around] = {}
        """Index of a part → what is written around each piece of it."""
        self._size = 0
        """Characters of the content so far."""
        self._starts: dict[int, int] = {}
        """Index of a text → where in the content it begins."""
        self._usage: Usage | None = None

    def write(self, event: Event) -> bytes:
        """The bytes of whole events; b"" for what says nothing to this caller."""
        if isinstance(event, Piece):
            return self._piece(event)
        if isinstance(event, Opened):
            return self._opened(event)
        if isinstance(event, Sealed):
            return self._sealed(event)
        if isinstance(event, Cited):
            start = self._starts.get(event.index, 0)
            cited = [*annotations_of([event.citation], start, self._size)]
            return self._chunk({"annotations": cited}) if cited else b""
        if isinstance(event, Began):
            return self._began(event)
        if isinstance(event, Ended):
            return self._chunk({}, WORDS.get(event.reason, "stop"))
        if isinstance(event, Used):
            self._usage = event.usage
        elif isinstance(event, Done):
            return self._done()
        return b""

    def pieces(self, several: Pieces) -> bytes:
        """The bytes of an event for each of them."""
        index = several.index
        around = self._around.get(index)
        if around is None:
            around = self._around[index] = around_mark(self._chunk(self._delta(index, MARK)))
        self._take(index, several.text)
        return around.put(several.quoted)

    def _began(self, event: Began) -> bytes:
        self._around.clear()
        self._head = {
            "id": event.id,
            "object": "chat.completion.chunk",
            "created": event.created_s,
            "model": event.model,
        }
        return self._chunk({"role": "assistant", "content": ""})

    def _opened(self, event: Opened) -> bytes:
        part = self._parts[event.index] = event.part
        self._around.pop(event.index, None)
        if isinstance(part, ToolCall):
            at = self._tools[event.index] = self._calls
            self._calls += 1
            function = {"name": part.name, "arguments": ""}
            return self._chunk(
                {"tool_calls": [{"index": at, "id": part.id, "type": "function", "function": function}]}
            )
        self._starts[event.index] = self._size
        if isinstance(part, Thinking) and part.redacted:
            return self._chunk({"thinking_blocks": sealed_in(part)})
        return b""

    def _piece(self, event: Piece) -> bytes:
        self._take(event.index, event.text)
        delta = self._delta(event.index, event.text)
        if event.logprobs is None:
            return self._chunk(delta)
        odds: dict[str, Any] = {"content": None, "refusal": None}
        odds["refusal" if "refusal" in delta else "content"] = [*with_bytes(event.logprobs, None)]
        return self._chunk(delta, logprobs=odds)

    def _take(self, index: int, piece: str) -> None:
        """Keeps what is asked for later: thoughts, for their seal, and how long the content is."""
        part = self._parts.get(index)
        if part is None or type(part) is Text:
            self._size += len(piece)
        elif type(part) is Thinking:
            part.text += piece

    def _delta(self, index: int, piece: str) -> dict[str, Any]:
        part = self._parts.get(index)
        if type(part) is ToolCall:
            return {"tool_calls": [{"index": self._tools[index], "function": {"arguments": piece}}]}
        if type(part) is Thinking:
            return {"reasoning_content": piece}
        return {"refusal" if type(part) is Refusal else "content": piece}

    def _sealed(self, event: Sealed) -> bytes:
        part = self._parts.get(event.index)
        if not isinstance(part, Thinking):
            return b""
        # Whole, so that a caller can send it back as it is: a seal without its text is worth nothing.
        part.signature = event.signature
        return self._chunk({"thinking_blocks": sealed_in(part)})

    def _chunk(
        self, delta: dict[str, Any], reason: str | None = None, logprobs: dict[str, Any] | None = None
    ) -> bytes:
        choice = {"index": 0, "delta": delta, "logprobs": logprobs, "finish_reason": reason}
        return b"data: %b\n\n" % dumps({**self._head, "choices": [choice]})

    def _done(self) -> bytes:
        if not self._wants_usage or self._usage is None:
            return _DONE
        told = {**self._head, "choices": [], "usage": write_usage(self._usage)}
        if self._usage.service_tier:
            told["service_tier"] = self._usage.service_tier
        return b"data: %b\n\n%b" % (dumps(told), _DONE)
