"""The head of a caller's request: what is strict about it, and how one seen before is known again.

An SDK sends the same head with every call of a connection, but for the length of the body. The same bytes
have the same meaning, so they are parsed once: 0.7 µs instead of 6 for the twelve headers of an SDK.
"""

from __future__ import annotations

import re
from collections.abc import Iterable

from gateway.errors import BAD_HTTP, HEADERS_TOO_LARGE, TOO_LARGE, Kind

MAX_HEADERS = 100
MAX_HEAD_BYTES = 64 * 1024

Headers = list[tuple[bytes, bytes]]
"""(lower-case name, value) in the order received."""

_KNOWN = frozenset(
    {
        b"host",
        b"authorization",
        b"x-api-key",
        b"api-key",
        b"content-length",
        b"transfer-encoding",
        b"content-type",
        b"content-encoding",
        b"expect",
        b"upgrade",
        b"traceparent",
        b"tracestate",
        b"openai-beta",
        b"x-headgate-tags",
        b"x-client-request-id",
        b"anthropic-beta",
        b"anthropic-version",
    }
)
_HOST = re.compile(rb"[\w.~!$&'()*+,;=%:\[\]-]*")
"""What RFC 3986 3.2.2 lets into a host and port, but for the order; anything else is 400 (RFC 9112 3.2)."""
_LENGTH = b"\r\ncontent-length:"
_LONGEST_LENGTH = 8
"""Digits of a body that comes whole with its head: a read is 256 KB at most."""


class Head:
    """A head as parsed; shared by the requests of a connection that came with the same bytes."""

    __slots__ = ("headers", "keep_alive", "known", "memo", "method", "target", "version")

    def __init__(self) -> None:
        self.method = b""
        self.target = b""
        self.version = "1.1"
        self.headers: Headers = []
        self.known: dict[bytes, bytes] = {}
        """The headers we act on; each came once, or the request was refused."""
        self.keep_alive = True
        self.memo: object = None
        """What the line worked out from this head, for the next request that has it."""

    def check(self, max_body_bytes: int, max_form_bytes: int) -> Kind | None:
        """What is wrong with a head that llhttp let through; None if nothing. Fills `known`.

        Forms may be larger than other bodies: they are passed on as they come.
        """
        headers, known, version = self.headers, self.known, self.version
        size = len(self.target) + sum([len(name) + len(value) for name, value in headers])
        if len(headers) > MAX_HEADERS or size > MAX_HEAD_BYTES:
            return HEADERS_TOO_LARGE
        for name, value in headers:
            if name in _KNOWN:
                if name not in known:
                    known[name] = value
                elif name in (b"tracestate", b"traceparent"):
                    # The one may come in parts (W3C Trace Context 3.3.1.1), the other is then none (3.2.2.5).
                    known[name] += b"," + value
                else:
                    return BAD_HTTP
        if not self.target.startswith(b"/") or version not in ("1.0", "1.1"):
            return BAD_HTTP
        host = known.get(b"host")
        if version == "1.1" if host is None else not _HOST.fullmatch(host):
            return BAD_HTTP
        encoding = known.get(b"transfer-encoding")
        if encoding is not None and (version == "1.0" or encoding.lower() != b"chunked"):
            return BAD_HTTP
        expect = known.get(b"expect")
        if expect is not None and expect.lower() != b"100-continue":
            return BAD_HTTP
        length = known.get(b"content-length")
        if length is not None and int(length) > max_body_bytes:
            is_form = known.get(b"content-type", b"").lower().startswith(b"multipart/")
            if not is_form or int(length) > max_form_bytes:
                return TOO_LARGE
        return None

    def written(self) -> bytes:
        """The head as bytes, up to and with the blank line."""
        return self._with(self.headers)

    def without_upgrade(self) -> bytes:
        """The head as bytes, without its question for another protocol."""
        asks = (b"upgrade", b"connection", b"http2-settings")
        headers = [header for header in self.headers if header[0] not in asks]
        return self._with(headers if self.keep_alive else [*headers, (b"connection", b"close")])

    def _with(self, headers: Iterable[tuple[bytes, bytes]]) -> bytes:
        line = b"%b %b HTTP/%b\r\n" % (self.method, self.target, self.version.encode())
        return line + b"".join([name + b": " + value + b"\r\n" for name, value in headers]) + b"\r\n"


class SeenHead:
    """A head and its bytes before and after the digits of Content-Length."""

    __slots__ = ("_after", "_before", "head")

    def __init__(self, head: Head, before: bytes, after: bytes) -> None:
        self.head = head
        self._before = before
        self._after = after

    def body_of(self, data: bytes) -> bytes | None:
        """The body, if `data` is this head with a whole body and nothing else; None if it is not.

        Then its framing is as unambiguous as that of the first: only the digits differ.
        """
        before, after = self._before, self._after
        if not data.startswith(before):
            return None
        start = len(before)
        end = data.find(b"\r", start, start + _LONGEST_LENGTH + 1)
        if end < 0 or not data.startswith(after, end):
            return None
        length = data[start:end]
        body = data[end + len(after) :]
        return body if length.isdigit() and int(length) == len(body) else None


def see(head: Head, data: bytes) -> SeenHead | None:
    """What to know a head by; `data` is the whole request, as one read brought it. None if its body was
    framed in another way, or had more to it."""
    if b"content-length" not in head.known or b"expect" in head.known or not head.keep_alive:
        return None
    end = data.find(b"\r\n\r\n")
    at = data.lower().find(_LENGTH, 0, end + 2) + len(_LENGTH)
    if end < 0 or at < len(_LENGTH):
        return None
    while data[at : at + 1] in (b" ", b"\t"):
        at += 1
    seen = SeenHead(head, data[:at], data[data.find(b"\r", at) : end + 4])
    return seen if seen.body_of(data) is not None else None
