"""OpenAI's Responses API: the events of a stream, written for a caller.

Facts: openai-openapi 2.3.0 and recorded streams. Whatever is told in pieces is told again whole when it ends,
and all of it in the last event: so the text of an answer is kept until then.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from gateway.usage import Usage
from gateway.wire import answered
from gateway.wire.answered import (
    Answer,
    Began,
    Cited,
    Closed,
    Done,
    Ended,
    Event,
    Opened,
    Piece,
    Pieces,
    Said,
    Sealed,
    Used,
)
from gateway.wire.citation import PLACE, part_annotations_of
from gateway.wire.conversation import Refusal, Text, Thinking, ToolCall
from gateway.wire.dialects.responses_answer import (
    INCOMPLETE,
    content_of,
    item_id,
    item_of,
    reason_for,
    response,
)
from gateway.wire.json import dumps, loads, try_object
from gateway.wire.logprobs import with_bytes


class _Item:
    """A part on its way."""

    __slots__ = ("id", "is_open", "logprobs", "part", "place", "status", "texts")

    def __init__(self, part: Said, id_: str, place: int) -> None:
        self.part, self.id, self.place = part, id_, place
        self.texts: list[str] = []
        self.logprobs: list[dict[str, Any]] = []
        self.is_open = True
        self.status = "completed"

    def whole(self) -> Said:
        """The part with all its text."""
        text = "".join(self.texts)
        if isinstance(self.part, ToolCall):
            self.part.arguments = text or "{}"
        else:
            self.part.text = text
        return self.part

    def told(self) -> dict[str, Any]:
        """The item as it ended."""
        item = item_of(self.whole(), self.id, self.status)
        if self.logprobs:
            item["content"][0]["logprobs"] = self.logprobs
        return item

    def is_whole(self) -> bool:
        """False for a call whose arguments break off: a provider may tell those of several by turns."""
        return not isinstance(self.part, ToolCall) or try_object("".join(self.texts).encode()) is not None


class EventWriter:
    """Writes one stream for a caller. An item ends when the next one begins or the answer ends: only then is
    it known whether it is whole."""

    __slots__ = ("_answer", "_closing", "_items", "_number", "_order", "_reason", "_refuses", "_usage")

    def __init__(self) -> None:
        self._answer = Answer("", "")
        self._items: dict[int, _Item] = {}
        """Index of a part → its item."""
        self._order: list[_Item] = []
        self._closing: list[_Item] = []
        """Those of which nothing more comes, and that were not ended yet."""
        self._number = 0
        self._reason = answered.STOP
        self._refuses = False
        self._usage: Usage | None = None

    def pieces(self, several: Pieces) -> bytes:
        """The bytes of an event for each of them: they are numbered, so each is written for itself."""
        return b"".join([self.write(Piece(several.index, loads(quoted))) for quoted in several.quoted])

    def write(self, event: Event) -> bytes:
        """The bytes of whole events; b"" for what says nothing yet."""
        return b"".join(self._events(event))

    def _events(self, event: Event) -> Iterator[bytes]:
        if isinstance(event, Piece):
            yield from self._piece(event)
        elif isinstance(event, Opened):
            yield from self._end_items(may_go_on=isinstance(event.part, ToolCall))
            yield from self._opened(event)
        elif isinstance(event, Closed):
            item = self._items.get(event.index)
            if item is not None and item.is_open:
                item.is_open = False
                self._closing.append(item)
        elif isinstance(event, Sealed):
            item = self._items.get(event.index)
            if item is not None and isinstance(item.part, Thinking):
                item.part.signature = event.signature
        elif isinstance(event, Cited):
            yield from self._cited(event)
        elif isinstance(event, Began):
            self._answer = Answer(event.id, event.model, created_s=event.created_s, repeats=event.repeats)
            begun = response(self._answer, [], None, None)
            yield self._event("response.created", {"response": begun})
            yield self._event("response.in_progress", {"response": begun})
        elif isinstance(event, Ended):
            self._reason = reason_for(event.reason, refuses=self._refuses)
        elif isinstance(event, Used):
            self._usage = event.usage
        elif isinstance(event, Done):
            yield from self._done()

    def _opened(self, event: Opened) -> Iterator[bytes]:
        part = event.part
        place = len(self._order)
        item = self._items[event.index] = _Item(part, item_id(part, self._answer.id, place), place)
        self._order.append(item)
        self._refuses |= isinstance(part, Refusal)
        yield self._about(item, "response.output_item.added", item=item_of(part, item.id, "in_progress"))
        if isinstance(part, Text | Refusal):
            begun = content_of(type(part)(""))
            yield self._within(item, "response.content_part.added", part=begun)

    def _piece(self, event: Piece) -> Iterator[bytes]:
        item = self._items.get(event.index)
        if item is None or not (event.text or event.logprobs):
            return
        is_first = not item.texts
        item.texts.append(event.text)
        part = item.part
        if isinstance(part, Text):
            odds = [*with_bytes(event.logprobs, [])] if event.logprobs else []
            item.logprobs += odds
            yield self._within(item, "response.output_text.delta", delta=event.text, logprobs=odds)
        elif isinstance(part, Refusal):
            yield self._within(item, "response.refusal.delta", delta=event.text)
        elif isinstance(part, ToolCall):
            yield self._of(item, "response.function_call_arguments.delta", delta=event.text)
        else:
            if is_first:
                begun = {"type": "summary_text", "text": ""}
                yield self._of(item, "response.reasoning_summary_part.added", summary_index=0, part=begun)
            yield self._of(item, "response.reasoning_summary_text.delta", summary_index=0, delta=event.text)

    def _cited(self, event: Cited) -> Iterator[bytes]:
        item = self._items.get(event.index)
        if item is None or not isinstance(item.part, Text):
            return
        size = sum(map(len, item.texts))
        known = item.part.citations = item.part.citations or []
        for annotation in part_annotations_of([event.citation], size):
            place = annotation["start_index"], annotation["end_index"]
            known.append({**event.citation, PLACE: place})
            number, kind = len(known) - 1, "response.output_text.annotation.added"
            yield self._within(item, kind, annotation_index=number, annotation=annotation)

    def _end_items(self, last_status: str = "completed", *, may_go_on: bool = False) -> Iterator[bytes]:
        """Ends the items of which nothing more comes; `may_go_on`: but for calls that are not whole."""
        closing, self._closing = self._closing, []
        for item in closing:
            if may_go_on and not item.is_whole():
                self._closing.append(item)
                continue
            item.status = last_status if item is self._order[-1] else "completed"
            yield from self._end_item(item)

    def _end_item(self, item: _Item) -> Iterator[bytes]:
        part = item.whole()
        if isinstance(part, Text):
            odds = item.logprobs
            yield self._within(item, "response.output_text.done", text=part.text, logprobs=odds)
            (content,) = item.told()["content"]
            yield self._within(item, "response.content_part.done", part=content)
        elif isinstance(part, Refusal):
            yield self._within(item, "response.refusal.done", refusal=part.text)
            yield self._within(item, "response.content_part.done", part=content_of(part))
        elif isinstance(part, ToolCall):
            name, arguments = part.name, part.arguments
            yield self._of(item, "response.function_call_arguments.done", name=name, arguments=arguments)
        elif part.text:
            summary = {"type": "summary_text", "text": part.text}
            yield self._of(item, "response.reasoning_summary_text.done", summary_index=0, text=part.text)
            yield self._of(item, "response.reasoning_summary_part.done", summary_index=0, part=summary)
        yield self._about(item, "response.output_item.done", item=item.told())

    def _done(self) -> Iterator[bytes]:
        is_whole = self._reason not in INCOMPLETE
        self._closing += [item for item in self._order if item.is_open]
        yield from self._end_items("completed" if is_whole else "incomplete")
        items = [item.told() for item in self._order]
        told = response(self._answer, items, self._reason, self._usage)
        yield self._event("response.completed" if is_whole else "response.incomplete", {"response": told})

    # events

    def _within(self, item: _Item, kind: str, /, **fields: Any) -> bytes:
        """An event about the content of a message."""
        return self._of(item, kind, content_index=0, **fields)

    def _of(self, item: _Item, kind: str, /, **fields: Any) -> bytes:
        """An event about what is in an item."""
        return self._about(item, kind, item_id=item.id, **fields)

    def _about(self, item: _Item, kind: str, /, **fields: Any) -> bytes:
        return self._event(kind, {"output_index": item.place, **fields})

    def _event(self, kind: str, fields: dict[str, Any]) -> bytes:
        numbered = {"type": kind, "sequence_number": self._number, **fields}
        self._number += 1
        return b"event: %b\ndata: %b\n\n" % (kind.encode(), dumps(numbered))
