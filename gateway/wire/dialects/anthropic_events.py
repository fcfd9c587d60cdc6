"""Anthropic's Messages API: the events of a stream, read into the neutral form and written from it.

Facts: Anthropic's API reference (streaming) and recorded streams. Blanks hide how long a text is:
`{…}   }`.
"""

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
from gateway.wire.citation import anthropic_of
from gateway.wire.conversation import Refusal, Text, Thinking, ToolCall
from gateway.wire.dialects.anthropic_answer import (
    REASONS,
    message_id,
    read_usage,
    said_of,
    stop_reason_of,
    write_usage,
)
from gateway.wire.dialects.anthropic_failure import event_of_error, read_error_object
from gateway.wire.dialects.anthropic_request import NAME
from gateway.wire.glance import MARK, Around, around_mark
from gateway.wire.json import dumps, text_of, try_object
from gateway.wire.seal import seal_for
from gateway.wire.shape import table, text


class EventReader:
    """Events of one provider's stream, read one by one. `unknown` counts types that it has no word for."""

    __slots__ = ("_opened", "_skipped", "_usage", "unknown")

    def __init__(self) -> None:
        self._usage: Usage | None = None
        self._opened: set[int] = set()
        self._skipped: set[int] = set()
        """Blocks of tools that run at the provider."""
        self.unknown: dict[str, int] = {}

    def read(self, data: bytes) -> Iterator[Event]:
        """What one event's data says; nothing for what is no JSON object."""
        fields = try_object(data)
        if fields is None:
            return
        kind = text(fields.get("type"))
        if kind == "content_block_delta":
            yield from self._delta(fields)
        elif kind == "content_block_start":
            yield from self._start(fields)
        elif kind == "content_block_stop":
            index = _index(fields)
            if index not in self._skipped:
                yield Closed(index)
        elif kind == "message_start":
            message = table(fields.get("message"))
            self._usage = read_usage(message)
            # Its output is that of the first token: no usage of an answer that is cut later.
            yield Began(text(message.get("id")), text(message.get("model")), usage=self._usage)
        elif kind == "message_delta":
            yield from self._message_delta(fields)
        elif kind == "message_stop":
            yield Done()
        elif kind == "error":
            yield Failed(read_error_object(fields.get("error"), 0))
        elif kind != "ping":
            self._note(kind)

    def _start(self, fields: Mapping[str, Any]) -> Iterator[Event]:
        index, block = _index(fields), table(fields.get("content_block"))
        part = said_of({**block, "input": None})
        if part is None:
            self._skipped.add(index)
            self._note(text(block.get("type")))
            return
        self._skipped.discard(index)
        self._opened.add(index)
        begun = seal = ""
        if isinstance(part, ToolCall):
            part.arguments = ""
            if block.get("input"):
                begun = text_of(block["input"])
        elif isinstance(part, (Text, Thinking)):
            begun, part.text = part.text, ""
        if isinstance(part, Thinking):
            seal, part.signature = part.signature, ""
        yield Opened(index, part)
        if begun:
            yield Piece(index, begun)
        if seal:
            yield Sealed(index, seal)

    def _delta(self, fields: Mapping[str, Any]) -> Iterator[Event]:
        index, delta = _index(fields), table(fields.get("delta"))
        kind = delta.get("type")
        if index in self._skipped:
            return
        if index not in self._opened:
            # Its start was left out. Text and thoughts are kept all the same; a call has no name.
            if kind not in ("text_delta", "thinking_delta"):
                self._note(text(kind))
                return
            self._opened.add(index)
            yield Opened(index, Text("") if kind == "text_delta" else Thinking("", dialect=NAME))
        if kind == "text_delta":
            yield Piece(index, text(delta.get("text")))
        elif kind == "input_json_delta":
            yield Piece(index, text(delta.get("partial_json")))
        elif kind == "thinking_delta":
            yield Piece(index, text(delta.get("thinking")))
        elif kind == "signature_delta":
            yield Sealed(index, text(delta.get("signature")))
        elif kind == "citations_delta" and type(delta.get("citation")) is dict:
            yield Cited(index, delta["citation"])
        else:
            self._note(text(kind))

    def _message_delta(self, fields: Mapping[str, Any]) -> Iterator[Event]:
        usage = read_usage(fields, self._usage)
        if usage is not None and fields["usage"].get("output_tokens") is not None:
            self._usage = usage
            yield Used(usage)
        delta = table(fields.get("delta"))
        reason = text(delta.get("stop_reason"))
        if reason:
            yield Ended(REASONS.get(reason, answered.STOP), text(delta.get("stop_sequence")))

    def _note(self, kind: str) -> None:
        self.unknown[kind[:64]] = self.unknown.get(kind[:64], 0) + 1


def _index(fields: Mapping[str, Any]) -> int:
    index = fields.get("index")
    return index if type(index) is int else 0


class EventWriter:
    """Writes one stream for a caller. The end is told at `Done`: chat tells usage after the reason. One block
    follows the other here: what comes of a call while another is open waits until that is closed."""

    __slots__ = (
        "_around",
        "_calls",
        "_ended",
        "_has_refused",
        "_held",
        "_open",
        "_parts",
        "_places",
        "_usage",
    )

    def __init__(self) -> None:
        self._open: int | None = None
        """The part that is open."""
        self._held: dict[int, list[Event]] = {}
        """Index of a part that waits → what has come of it."""
        self._parts: dict[int, Said] = {}
        self._around: dict[int, Around] = {}
        """Index of a part → what is written around each piece of it."""
        self._places: dict[int, int] = {}
        """Index of a part → its place among those that were written."""
        self._ended = Ended(answered.STOP)
        self._usage: Usage | None = None
        self._calls = self._has_refused = False

    def write(self, event: Event) -> bytes:
        """The bytes of whole events; b"" for what says nothing yet."""
        if self._held and self._holds(event):
            return b""
        if type(event) is Piece:
            return self._piece(event)
        out = self._written(event)
        return out + self._released() if self._held else out

    def _written(self, event: Event) -> bytes:
        if isinstance(event, Piece):
            return self._piece(event)
        if isinstance(event, Opened):
            if self._open is not None:
                self._held[event.index] = [event]
                return b""
            return self._opened(event)
        if isinstance(event, Closed):
            if event.index == self._open:
                self._open = None
            return self._about(event.index, {"type": "content_block_stop"})
        if isinstance(event, Sealed):
            return self._sealed(event)
        if isinstance(event, Cited):
            told = {"type": "citations_delta", "citation": anthropic_of(event.citation)}
            return self._about(event.index, {"type": "content_block_delta", "delta": told})
        if isinstance(event, Began):
            return self._began(event)
        if isinstance(event, Ended):
            self._ended = event
        elif isinstance(event, Used):
            self._usage = event.usage
        elif isinstance(event, Done):
            return self._done()
        elif isinstance(event, Failed):
            return event_of_error(event.error)
        return b""

    def pieces(self, several: Pieces) -> bytes:
        """The bytes of an event for each of them."""
        if self._held and self._holds(Piece(several.index, several.text)):
            return b""
        around = self._around.get(several.index)
        if around is None:
            if several.index not in self._places:
                return b""
            around = around_mark(self._piece(Piece(several.index, MARK)))
            self._around[several.index] = around
        return around.put(several.quoted)

    def _began(self, event: Began) -> bytes:
        self._usage = event.usage
        message: dict[str, Any] = {
            "id": message_id(event.id),
            "type": "message",
            "role": "assistant",
            "model": event.model,
            "content": [],
            "stop_reason": None,
            "stop_sequence": None,
            "usage": write_usage(event.usage),
        }
        return _event("message_start", {"type": "message_start", "message": message})

    def _holds(self, event: Event) -> bool:
        """True if it is of a part that waits, and now waits too."""
        if isinstance(event, Opened | Piece | Sealed | Cited | Closed) and event.index in self._held:
            self._held[event.index].append(event)
            return True
        return False

    def _released(self) -> bytes:
        """What has waited, until a part is open again."""
        out = b""
        while self._held and self._open is None:
            held = self._held.pop(next(iter(self._held)))
            out += b"".join([self._written(event) for event in held])
        return out

    def _opened(self, event: Opened) -> bytes:
        part = event.part
        self._open = event.index
        block: dict[str, Any]
        if isinstance(part, ToolCall):
            self._calls = True
            block = {"type": "tool_use", "id": part.id, "name": part.name, "input": {}}
        elif isinstance(part, Thinking):
            if part.redacted:
                block = {"type": "redacted_thinking", "data": part.redacted}
            else:
                block = {"type": "thinking", "thinking": "", "signature": ""}
        else:
            self._has_refused |= isinstance(part, Refusal)
            block = {"type": "text", "text": ""}
        self._parts[event.index] = part
        self._around.pop(event.index, None)
        self._places[event.index] = len(self._places)
        return self._about(event.index, {"type": "content_block_start", "content_block": block})

    def _piece(self, event: Piece) -> bytes:
        part = self._parts.get(event.index)
        delta: dict[str, Any]
        if type(part) is ToolCall:
            delta = {"type": "input_json_delta", "partial_json": event.text}
        elif type(part) is Thinking:
            delta = {"type": "thinking_delta", "thinking": event.text}
        else:
            delta = {"type": "text_delta", "text": event.text}
        return self._about(event.index, {"type": "content_block_delta", "delta": delta})

    def _sealed(self, event: Sealed) -> bytes:
        part = self._parts.get(event.index)
        if not isinstance(part, Thinking):
            return b""
        part.signature = event.signature
        delta = {"type": "signature_delta", "signature": seal_for(part, NAME)}
        return self._about(event.index, {"type": "content_block_delta", "delta": delta})

    def _about(self, index: int, fields: dict[str, Any]) -> bytes:
        place = self._places.get(index)
        if place is None:
            return b""
        fields["index"] = place
        return _event(fields["type"], fields)

    def _done(self) -> bytes:
        waited = b""
        while self._held and self._open is not None:
            waited += self._written(Closed(self._open)) + self._released()
        ended = self._ended
        delta = {
            "stop_reason": stop_reason_of(
                ended.reason, ended.stop_sequence, calls=self._calls, refuses=self._has_refused
            ),
            "stop_sequence": ended.stop_sequence or None,
        }
        told = {"type": "message_delta", "delta": delta, "usage": write_usage(self._usage)}
        end = _event("message_delta", told) + _event("message_stop", {"type": "message_stop"})
        return waited + end


def _event(name: str, fields: dict[str, Any]) -> bytes:
    return b"event: %b\ndata: %b\n\n" % (name.encode(), dumps(fields))
