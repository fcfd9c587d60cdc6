"""The commonest events of a stream, known for what they are without being read: more pieces of one text.

Pieces of one part differ in nothing but their text. So what stands around the text of one is compared with
what stands around the next, and the text, a JSON string, which is the same in every dialect, is handed on as
it is: a run of pieces takes 1 µs an event, one that is read 8.
"""

from __future__ import annotations

import re
from typing import NamedTuple

from gateway.wire.answered import Pieces
from gateway.wire.json import dumps, loads

_PIECE = re.compile(
    rb'("(?!")[^"\\\x00-\x1f]*(?:\\(?:["\\/bfnrt]|u(?:[0-9a-cA-CefEF][0-9a-fA-F]{3}|[dD][0-7][0-9a-fA-F]{2}))'
    rb'[^"\\\x00-\x1f]*)*")([^\n]*)\} *\n\n'
).match
"""A JSON string (RFC 8259 7) and the rest of its event. Not an empty one: some readers pass over those; and
none with surrogates: whether they come in pairs is for a reader to say."""
_OBFUSCATED = re.compile(rb'(.*),"obfuscation":"\w*"').fullmatch
"""OpenAI's padding: another in each event, and it says nothing. Anthropic pads with blanks before the last
brace, as recorded streams show."""
_MOST_IN_VAIN = 16
"""Some providers count their events, so no two are alike: learning from each takes 2 µs and gives nothing."""
MARK = "\x00here\x00"
"""A text to write in order to see what is written around it (`around_mark`)."""
_QUOTED_MARK = dumps(MARK)


class Around(NamedTuple):
    """What a dialect writes around the text of each piece of one part."""

    before: bytes
    between: bytes
    after: bytes

    def put(self, quoted: list[bytes]) -> bytes:
        """An event for each of the texts."""
        return self.before + self.between.join(quoted) + self.after


def around_mark(event: bytes) -> Around:
    """What stands around `MARK` in an event that was written with it."""
    before, _, after = event.rpartition(_QUOTED_MARK)
    return Around(before, after + before, after)


class Glance:
    """What stands around the text of the last piece; nothing, if the last event was another one."""

    __slots__ = ("_after", "_before", "_index", "_size", "_vain", "several")

    def __init__(self) -> None:
        self._before = self._after = b""
        self._size = self._index = 0
        self._vain = 0
        """How many events in a row were learned from, and the next one was another all the same."""
        self.several = Pieces(0, "", [])
        """What was seen last."""

    def learn(self, event: bytes, index: int, text: str) -> None:
        """This event was read, and says but one piece of a text. Without effect if it cannot be told where
        the text stands, or once that has been of no use for too long."""
        self._size = 0
        self._vain += 1
        if self._vain > _MOST_IN_VAIN:
            return
        quoted = dumps(text)
        at = event.find(quoted)
        # With a backslash around it, the text could stand elsewhere in other letters.
        if at < 0 or event.rfind(quoted) != at or b"\\" in event[:at] or b"\\" in event[at + len(quoted) :]:
            return
        piece = _PIECE(event, at)
        if piece is not None and piece.end() == len(event):
            self._before, self._size, self._after = event[:at], at, _unpadded(piece[2])
            self._index = index

    def forget(self) -> None:
        """The last event said something else: what comes next may have another meaning."""
        self._size = 0

    def seen(self, block: bytes, start: int) -> int:
        """Where the pieces end that begin at `start`; `several` then is what they say. 0: what is there has
        to be read."""
        before, size, after = self._before, self._size, self._after
        quoted = []
        end, last = start, len(block)
        while size and end < last and block.startswith(before, end):
            piece = _PIECE(block, end + size)
            if piece is None:
                break
            text, rest = piece.groups()
            if rest != after and rest.rstrip(b" ") != after and _unpadded(rest) != after:
                break
            quoted.append(text)
            end = piece.end()
        if not quoted:
            return 0
        self._vain = 0
        self.several = Pieces(self._index, _said(quoted), quoted)
        return end


def _unpadded(rest: bytes) -> bytes:
    """What follows a text, up to the last brace, without padding."""
    rest = rest.rstrip(b" ")
    padded = _OBFUSCATED(rest)
    return rest if padded is None else padded[1]


def _said(quoted: list[bytes]) -> str:
    return loads(quoted[0]) if len(quoted) == 1 else "".join(loads(b"[%b]" % b",".join(quoted)))
