"""A streamed answer in a dialect other than chat's, or on its way into another: read event by event.

It stands in the line where `openai_stream.AnswerStream` does, which copies chat to chat by blocks.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace
from typing import Any, Protocol

from gateway.errors import ProviderError
from gateway.usage import Usage, estimated_usage
from gateway.wire.answered import Began, Done, Ended, Event, Failed, Piece, Pieces, Used, is_content
from gateway.wire.glance import Glance
from gateway.wire.json import dumps
from gateway.wire.sse import Scanner, data_of
from gateway.wire.stored_id import Renaming

UNSEEN_TOKENS = 256
"""How many tokens a provider may have generated that had not come when a stream was cut: two seconds' worth
at a usual pace."""


class Reader(Protocol):
    """Reads a provider's events; `unknown` counts, by their type, those it has no word for."""

    unknown: dict[str, int]

    def read(self, data: bytes) -> Iterator[Event]:
        """What one event's data says."""


class Writer(Protocol):
    """Writes a caller's events."""

    def write(self, event: Event) -> bytes:
        """The bytes of whole events."""

    def pieces(self, several: Pieces) -> bytes:
        """The same for each of several pieces."""


class EventStream:
    """One streamed answer that passes as it came, once it was read."""

    __slots__ = (
        "_began",
        "_ended",
        "_glance",
        "_reader",
        "_scanner",
        "bytes_in",
        "committed",
        "content_bytes",
        "done",
        "error",
        "model",
        "overrun",
        "usage",
    )

    def __init__(self, reader: Reader) -> None:
        self._reader = reader
        self._scanner = Scanner()
        self._glance = Glance()
        self._ended = ""
        self._began: Usage | None = None
        self.committed = False
        """True once content or the end was seen: the commit point."""
        self.done = False
        """True once the last event was seen."""
        self.overrun = False
        """True if the provider went on after its end; its connection is not clean."""
        self.error: ProviderError | None = None
        self.usage: Usage | None = None
        self.model: object = None
        """What the stream names as its model."""
        self.bytes_in = 0
        """Of whole events."""
        self.content_bytes = 0
        """Of text, thoughts and arguments, without what is around them."""

    @property
    def unknown(self) -> dict[str, int]:
        """Events that were passed over, by their type."""
        return self._reader.unknown

    def feed(self, block: bytes) -> bytes:
        """What may go on to the caller of the events that `block` completes. Raises `sse.BadStream`."""
        whole = self._scanner.feed(block)
        return self._passed(whole) if whole else b""

    def finish(self) -> bytes:
        """At the regular end of the upstream's body: what was left, if it is a whole event, and the end of an
        answer that gave a reason but no last event. Raises `sse.BadStream`."""
        out = self._passed(self._scanner.finish())
        if not self.done and self.error is None and self._ended:
            self.done = True
            out += self._end()
        return out

    def estimate(self, input_bytes: int) -> Usage:
        """Usage of a stream that was cut, from its content: four bytes a token. Its input is known if the
        stream began by telling it."""
        guess, began = estimated_usage(input_bytes, self.content_bytes), self._began
        return guess if began is None else replace(began, output=guess.output, reasoning=0, estimated=True)

    def most_tokens(self, unread: int) -> int:
        """The most tokens that can have been generated of a stream that was cut: one for each byte of its
        content, and what had not come yet. `unread` bytes had come and did not pass: of them as many are
        content as of those before."""
        coming = unread * self.content_bytes // self.bytes_in if self.content_bytes else unread
        return self.content_bytes + coming + UNSEEN_TOKENS

    def finish_reasons(self) -> list[str]:
        """Why the answer ended, in chat's words."""
        return [self._ended] if self._ended else []

    def _passed(self, whole: bytes) -> bytes:
        size = len(whole)
        self.bytes_in += size
        out = []
        start = 0
        glance = self._glance
        while start < size:
            end = glance.seen(whole, start)
            if end:
                several = glance.several
                self._count(several.text)
                out.append(self._more(whole[start:end], several))
            else:
                end = whole.find(b"\n\n", start) + 2
                end = end if end > 1 else size
                out.append(self._look(whole[start:end]))
            start = end
        return out[0] if len(out) == 1 else b"".join(out)

    def _more(self, raw: bytes, several: Pieces) -> bytes:
        """What of events goes on that say more of a text and nothing else: themselves."""
        return raw

    def _count(self, text: str) -> None:
        self.content_bytes += len(text) if text.isascii() else len(text.encode())

    def _look(self, raw: bytes) -> bytes:
        """What of one event goes on, read."""
        data = data_of(raw)
        if self.done or self.error is not None:
            self.overrun = self.overrun or bool(data)
            return b""
        said = list(self._reader.read(data))
        if len(said) == 1 and type(piece := said[0]) is Piece and piece.text and piece.logprobs is None:
            self._glance.learn(raw, piece.index, piece.text)
            self.committed = True
            self._count(piece.text)
            return self._more(raw, Pieces(piece.index, piece.text, [dumps(piece.text)]))
        self._glance.forget()
        out = b"".join(map(self._say, said))
        return b"" if self.error is not None else self._of(raw, out)

    def _of(self, raw: bytes, said: bytes) -> bytes:
        """What of an event goes on: itself."""
        return raw

    def _say(self, event: Event) -> bytes:
        """Takes note of one thing that an event says."""
        if isinstance(event, Piece):
            self._count(event.text)
        elif isinstance(event, Used):
            self.usage = event.usage
        elif isinstance(event, Began):
            self.model, self._began = event.model, event.usage
        elif isinstance(event, Ended):
            self._ended = event.reason
        elif isinstance(event, Done):
            self.done = True
        elif isinstance(event, Failed):
            self.error = event.error
        self.committed = self.committed or is_content(event)
        return b""

    def _end(self) -> bytes:
        """The last event of a provider that has left it out."""
        return b""


class StoredStream(EventStream):
    """One whose provider may store the answer: the caller gets an id of its own for it. `named` takes the
    provider's."""

    __slots__ = ("_named", "_names")

    def __init__(self, reader: Reader, named: Callable[[str], Renaming]) -> None:
        super().__init__(reader)
        self._named = named
        self._names = Renaming()

    def _look(self, raw: bytes) -> bytes:
        out = super()._look(raw)
        return self._names.whole(out)

    def _say(self, event: Event) -> bytes:
        if isinstance(event, Began):
            self._names = self._named(event.id)
        return super()._say(event)


class TranslatedStream(EventStream):
    """One streamed answer that its caller gets in another dialect than it came in."""

    __slots__ = ("_created_s", "_repeats", "_writer")

    def __init__(
        self,
        reader: Reader,
        writer: Writer,
        *,
        created_s: int = 0,
        repeats: Mapping[str, Any] | None = None,
    ) -> None:
        super().__init__(reader)
        self._writer = writer
        self._created_s = created_s
        """When it was made (seconds since 1970), if its provider does not say."""
        self._repeats = repeats
        """What the caller is told again of its request."""

    def _of(self, raw: bytes, said: bytes) -> bytes:
        return said

    def _more(self, raw: bytes, several: Pieces) -> bytes:
        return self._writer.pieces(several)

    def _say(self, event: Event) -> bytes:
        super()._say(event)
        if isinstance(event, Began):
            event.created_s, event.repeats = event.created_s or self._created_s, self._repeats
        return self._writer.write(event)

    def _end(self) -> bytes:
        return self._writer.write(Done())
