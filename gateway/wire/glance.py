"""The commonest event of a stream, known for what it is without being read: one more piece of a text.

Pieces of one part differ in nothing but their text. So what stands around the text of one is compared with
what stands around the next, and the text, a JSON string, which is the same in every dialect, is handed on as
it is: 2 µs an event instead of 7.
"""

from __future__ import annotations

import re

from gateway.wire.json import dumps, loads

_STRING = re.compile(
    rb'"(?!")[^"\\\x00-\x1f]*(?:\\(?:["\\/bfnrt]|u(?:[0-9a-cA-CefEF][0-9a-fA-F]{3}|[dD][0-7][0-9a-fA-F]{2}))'
    rb'[^"\\\x00-\x1f]*)*"'
).match
"""A JSON string (RFC 8259 7), not empty: some readers pass over those; and without surrogates: whether they
come in pairs is for a reader to say."""
_PADDED = re.compile(rb'(.*?)(?:,"obfuscation":"\w*")?\}( *)\n\n', re.DOTALL).fullmatch
_PADDING = re.compile(rb'(?:,"obfuscation":"\w*")?\} *\n\n').match
"""What varies from event to event and says nothing: OpenAI's `obfuscation`, blanks at Anthropic."""


class Glance:
    """What stands around the text of the last piece; nothing, if the last event was another one."""

    __slots__ = ("_after", "_before", "_size", "index", "quoted")

    def __init__(self) -> None:
        self._before = self._after = b""
        self._size = 0
        self.index = 0
        """The part that the last piece was of."""
        self.quoted = b""
        """The text of the piece that was seen last, as a JSON string."""

    @property
    def size(self) -> int:
        """Bytes of the text of the piece that was seen last."""
        quoted = self.quoted
        return len(loads(quoted).encode()) if b"\\" in quoted else len(quoted) - 2

    def learn(self, event: bytes, index: int, text: str) -> None:
        """This event was read, and says but one piece of a text. Without effect if it cannot be told where
        the text stands."""
        quoted = dumps(text)
        at = event.find(quoted)
        padded = _PADDED(event, at + len(quoted)) if at >= 0 and event.count(quoted) == 1 else None
        if padded is None:
            self.forget()
            return
        self._before, self._size, self._after, self.index = event[:at], at, padded.group(1), index

    def forget(self) -> None:
        """The last event said something else: what comes next may have another meaning."""
        self._size = 0

    def seen(self, block: bytes, start: int) -> int:
        """Where the event ends that begins at `start`, if it is one more piece; `quoted` then is its text.
        0: it has to be read."""
        if not self._size or not block.startswith(self._before, start):
            return 0
        match = _STRING(block, start + self._size)
        if match is None or not block.startswith(self._after, end := match.end()):
            return 0
        padding = _PADDING(block, end + len(self._after))
        if padding is None:
            return 0
        self.quoted = match.group()
        return padding.end()
