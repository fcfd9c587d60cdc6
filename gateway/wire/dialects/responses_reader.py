"""OpenAI's Responses API: the events of a stream, read into the neutral form.

Facts: openai-openapi 2.3.0 and recorded streams. Items come one after the other, but for calls, whose
arguments may come by turns; what a tool does that runs at the provider is passed over.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

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
    Said,
    Sealed,
    Used,
)
from gateway.wire.citation import citations_of
from gateway.wire.conversation import Refusal, Text, Thinking, ToolCall
from gateway.wire.dialects.responses_answer import made_s, read_usage, reason_of
from gateway.wire.dialects.responses_failure import failure_in_event
from gateway.wire.dialects.responses_request import NAME
from gateway.wire.json import try_object
from gateway.wire.shape import objects, table, text

_PARTS: Mapping[str, type[Text] | type[Refusal]] = {"output_text": Text, "refusal": Refusal}
_OURS = frozenset({"message", "function_call", "reasoning"})
_SILENT = frozenset(
    {
        "response.reasoning_summary_part.added",
        "response.reasoning_summary_part.done",
        "response.reasoning_summary_text.done",
        "response.reasoning_text.done",
    }
)
"""Events that say nothing that others do not."""

_Key = tuple[int, int]
"""(index of an item, index of its content; -1 for what has none)"""


class EventReader:
    """Events of one provider's stream, read one by one. `unknown` counts types that it has no word for."""

    __slots__ = ("_began", "_calls", "_cited", "_next", "_open", "_parts", "_said", "_thoughts", "unknown")

    def __init__(self) -> None:
        self._began = self._calls = False
        self._parts: dict[_Key, int] = {}
        self._open: dict[int, type] = {}
        """The parts that are open, and what they are: several only of calls."""
        self._cited: set[int] = set()
        """Texts of which a citation has come."""
        self._next = 0
        self._said: set[int] = set()
        """Parts of which some text has come."""
        self._thoughts: dict[int, tuple[str, int]] = {}
        """Index of a reasoning item → what its thoughts are of, summary or content, and which of several."""
        self.unknown: dict[str, int] = {}

    def read(self, data: bytes) -> Iterator[Event]:
        """What one event's data says; nothing for what is no JSON object."""
        fields = try_object(data)
        if fields is None:
            return
        kind = text(fields.get("type"))
        read = _READERS.get(kind)
        if read is not None:
            yield from read(self, fields)
        elif fields.get("error"):
            yield Failed(failure_in_event(fields))
        elif kind not in _SILENT:
            self._note(kind)

    def _begin(self, fields: Mapping[str, Any]) -> Iterator[Event]:
        response = table(fields.get("response"))
        if not self._began:
            self._began = True
            yield Began(text(response.get("id")), text(response.get("model")), made_s(response))

    # items and parts

    def _item_added(self, fields: Mapping[str, Any]) -> Iterator[Event]:
        item, at = table(fields.get("item")), _index(fields, "output_index")
        kind = text(item.get("type"))
        if kind == "function_call":
            yield from self._open_call(item, at)
        elif kind not in _OURS:
            self._note(kind)

    def _open_call(self, item: Mapping[str, Any], at: int) -> Iterator[Event]:
        self._calls = True
        call = ToolCall(text(item.get("call_id")), text(item.get("name")), "")
        yield from self._opened((at, -1), call)
        yield from self._more((at, -1), text(item.get("arguments")))

    def _item_done(self, fields: Mapping[str, Any]) -> Iterator[Event]:
        item, at = table(fields.get("item")), _index(fields, "output_index")
        kind = text(item.get("type"))
        if kind == "function_call":
            if (at, -1) not in self._parts:
                yield from self._open_call(item, at)
            yield from self._rest((at, -1), text(item.get("arguments")))
            yield from self._close((at, -1))
        elif kind == "reasoning":
            seal = text(item.get("encrypted_content"))
            if seal:
                yield from self._thinking(fields, text(item.get("id")))
                yield Sealed(self._parts[(at, -1)], seal)
            yield from self._close((at, -1))

    def _part_added(self, fields: Mapping[str, Any]) -> Iterator[Event]:
        part = table(fields.get("part"))
        kind = text(part.get("type"))
        if kind in _PARTS:
            yield from self._text(fields, _PARTS[kind], text(part.get("text")))
        elif kind != "reasoning_text":
            self._note(kind)

    def _part_done(self, fields: Mapping[str, Any]) -> Iterator[Event]:
        index, part = self._parts.get(_place(fields)), table(fields.get("part"))
        if index is not None and index not in self._cited:
            yield from self._cite(index, part.get("annotations"), text(part.get("text")))
        yield from self._close(_place(fields))

    def _annotation(self, fields: Mapping[str, Any]) -> Iterator[Event]:
        index = self._parts.get(_place(fields))
        if index is not None:
            yield from self._cite(index, [fields.get("annotation")], "")

    def _cite(self, index: int, annotations: Any, content: str) -> Iterator[Event]:
        if self._open.get(index) is Text:
            for citation in citations_of(annotations, content):
                self._cited.add(index)
                yield Cited(index, citation)

    # text

    def _text_delta(self, fields: Mapping[str, Any]) -> Iterator[Event]:
        odds = fields.get("logprobs")
        yield from self._text(fields, Text, text(fields.get("delta")), odds)

    def _refusal_delta(self, fields: Mapping[str, Any]) -> Iterator[Event]:
        yield from self._text(fields, Refusal, text(fields.get("delta")))

    def _text(
        self, fields: Mapping[str, Any], kind: type[Text] | type[Refusal], piece: str, odds: Any = None
    ) -> Iterator[Event]:
        key = _place(fields)
        # What goes on after another item began is a part of its own: a part that ended does not go on.
        if key not in self._parts or (piece and self._parts[key] not in self._open):
            yield from self._opened(key, kind(""))
        yield from self._more(key, piece, [*objects(odds)] or None if odds else None)

    def _text_done(self, fields: Mapping[str, Any]) -> Iterator[Event]:
        yield from self._whole_text(fields, Text, text(fields.get("text")), fields.get("logprobs"))

    def _refusal_done(self, fields: Mapping[str, Any]) -> Iterator[Event]:
        yield from self._whole_text(fields, Refusal, text(fields.get("refusal")))

    def _whole_text(
        self, fields: Mapping[str, Any], kind: type[Text] | type[Refusal], whole: str, odds: Any = None
    ) -> Iterator[Event]:
        """The whole text, for who was told none of it in pieces."""
        if self._parts.get(_place(fields)) not in self._said:
            yield from self._text(fields, kind, whole, odds)

    # arguments

    def _arguments_delta(self, fields: Mapping[str, Any]) -> Iterator[Event]:
        yield from self._more((_index(fields, "output_index"), -1), text(fields.get("delta")))

    def _arguments_done(self, fields: Mapping[str, Any]) -> Iterator[Event]:
        yield from self._rest((_index(fields, "output_index"), -1), text(fields.get("arguments")))

    def _rest(self, key: _Key, whole: str) -> Iterator[Event]:
        """The whole text of a part of which nothing has come."""
        if self._parts.get(key) not in self._said:
            yield from self._more(key, whole)

    # thoughts

    def _summary_delta(self, fields: Mapping[str, Any]) -> Iterator[Event]:
        yield from self._thought(fields, "summary", _index(fields, "summary_index"))

    def _content_delta(self, fields: Mapping[str, Any]) -> Iterator[Event]:
        yield from self._thought(fields, "content", _index(fields, "content_index"))

    def _thought(self, fields: Mapping[str, Any], of: str, number: int) -> Iterator[Event]:
        """A piece of a summary or of what was thought: of an item that tells both, what comes first."""
        at, piece = _index(fields, "output_index"), text(fields.get("delta"))
        was_of, was_number = self._thoughts.setdefault(at, (of, number))
        if was_of != of or not piece:
            return
        if was_number != number:
            self._thoughts[at] = of, number
            piece = f"\n\n{piece}"
        yield from self._thinking(fields, text(fields.get("item_id")))
        yield from self._more((at, -1), piece)

    def _thinking(self, fields: Mapping[str, Any], id_: str) -> Iterator[Event]:
        """Opens the part of a reasoning item, unless it is there: most tell nothing."""
        key = (_index(fields, "output_index"), -1)
        if self._parts.get(key) not in self._open:
            yield from self._opened(key, Thinking("", dialect=NAME, id=id_))

    # the end

    def _end(self, fields: Mapping[str, Any]) -> Iterator[Event]:
        response = table(fields.get("response"))
        yield from self._close_all()
        yield Ended(reason_of(response, calls=self._calls))
        usage = read_usage(response)
        if usage is not None:
            yield Used(usage)
        yield Done()

    def _failed(self, fields: Mapping[str, Any]) -> Iterator[Event]:
        response = table(fields.get("response"))
        usage = read_usage(response)
        if usage is not None:
            yield Used(usage)
        yield Failed(failure_in_event(response))

    def _error(self, fields: Mapping[str, Any]) -> Iterator[Event]:
        yield Failed(failure_in_event(fields))

    # the parts

    def _opened(self, key: _Key, part: Said) -> Iterator[Event]:
        if {type(part), *self._open.values()} != {ToolCall}:
            yield from self._close_all()
        index = self._parts[key] = self._next
        self._open[index] = type(part)
        self._next += 1
        yield Opened(index, part)

    def _more(self, key: _Key, piece: str, odds: list[dict[str, Any]] | None = None) -> Iterator[Event]:
        index = self._parts.get(key)
        if (piece or odds) and index in self._open:
            self._said.add(index)
            yield Piece(index, piece, odds)

    def _close(self, key: _Key) -> Iterator[Event]:
        index = self._parts.get(key)
        if index in self._open:
            del self._open[index]
            yield Closed(index)

    def _close_all(self) -> Iterator[Event]:
        for index in self._open:
            yield Closed(index)
        self._open = {}

    def _note(self, kind: str) -> None:
        self.unknown[kind[:64]] = self.unknown.get(kind[:64], 0) + 1


def _index(fields: Mapping[str, Any], name: str) -> int:
    index = fields.get(name)
    return index if type(index) is int else 0


def _place(fields: Mapping[str, Any]) -> _Key:
    return _index(fields, "output_index"), _index(fields, "content_index")


_READERS = {
    "response.created": EventReader._begin,
    "response.in_progress": EventReader._begin,
    "response.queued": EventReader._begin,
    "response.output_item.added": EventReader._item_added,
    "response.output_item.done": EventReader._item_done,
    "response.content_part.added": EventReader._part_added,
    "response.content_part.done": EventReader._part_done,
    "response.output_text.delta": EventReader._text_delta,
    "response.output_text.done": EventReader._text_done,
    "response.output_text.annotation.added": EventReader._annotation,
    "response.refusal.delta": EventReader._refusal_delta,
    "response.refusal.done": EventReader._refusal_done,
    "response.function_call_arguments.delta": EventReader._arguments_delta,
    "response.function_call_arguments.done": EventReader._arguments_done,
    "response.reasoning_summary_text.delta": EventReader._summary_delta,
    "response.reasoning_text.delta": EventReader._content_delta,
    "response.completed": EventReader._end,
    "response.incomplete": EventReader._end,
    "response.failed": EventReader._failed,
    "error": EventReader._error,
}
