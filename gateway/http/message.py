"""Requests and answers as parsed, and the bytes of heads. HTTP/1.1 as RFC 9112 has it."""

from __future__ import annotations

from collections.abc import Mapping
from http import HTTPStatus

from gateway.http.head import Head

REASONS: dict[int, bytes] = {status.value: status.phrase.encode() for status in HTTPStatus}


class Request:
    """One request of a caller. The body is there once `complete` is True."""

    __slots__ = ("body", "complete", "head", "keep_alive", "received_s")

    def __init__(self, head: Head, body: bytes = b"", received_s: float = 0.0) -> None:
        self.head = head
        self.body = body
        self.complete = received_s > 0.0
        self.keep_alive = head.keep_alive
        self.received_s = received_s
        """When the last byte was read (`monotonic_s`); 0 until then."""


_NAMES_NOTHING = frozenset({b"keep-alive", b"Keep-Alive", b"close", b"Close"})
"""What `Connection` says nearly always."""
_FRAMING = frozenset({b"content-type", b"content-length", b"transfer-encoding"})
"""Read before anything is dropped: whoever names these would have a body begin elsewhere."""
_KEPT = frozenset(
    {
        b"connection",
        b"content-type",
        b"content-length",
        b"content-encoding",
        b"transfer-encoding",
        b"retry-after",
        b"retry-after-ms",
        b"x-request-id",
        b"request-id",
        b"apim-request-id",
        b"openai-processing-ms",
        b"openai-version",
        b"openai-model",
        *(
            b"x-ratelimit-" + part + b"-" + kind
            for part in (b"limit", b"remaining", b"reset")
            for kind in (b"requests", b"tokens", b"input-images")
        ),
        *(
            b"anthropic-ratelimit-" + kind + b"-" + part
            for part in (b"limit", b"remaining", b"reset")
            for kind in (b"requests", b"tokens", b"input-tokens", b"output-tokens")
        ),
    }
)
_MOST_NAMES = 1000


class _Names(dict[bytes, bytes]):
    """Header names as providers spell them → lower case, or b"" for those nobody reads. A lookup costs half
    of `lower` and a look into `_KEPT`; a provider that invents names does not fill it."""

    def __missing__(self, name: bytes) -> bytes:
        lower = name.lower()
        kept = lower if lower in _KEPT else b""
        if len(self) < _MOST_NAMES:
            self[name] = kept
        return kept


_names = _Names()


def kept_headers(raw: Mapping[bytes, bytes]) -> dict[bytes, bytes]:
    """Of an answer's headers those that are read or handed on, by lower-case name."""
    headers = {}
    for name, value in raw.items():
        kept = _names[name]
        if kept:
            headers[kept] = value
    connection = headers.pop(b"connection", None)
    if connection is not None and connection not in _NAMES_NOTHING:
        for name in named_by(connection) - _FRAMING:
            headers.pop(name, None)
    return headers


def named_by(connection: bytes) -> frozenset[bytes]:
    """The headers that a `Connection` header says are for the next hop alone (RFC 9110 7.6.1)."""
    return frozenset(name.strip() for name in connection.lower().split(b","))


class Answer:
    """A provider's answer: its head, and what is there of its body."""

    __slots__ = ("body", "complete", "first_byte_s", "headers", "status", "streamed")

    def __init__(self, status: int, headers: dict[bytes, bytes], first_byte_s: float) -> None:
        self.status = status
        self.headers = headers
        """By lower-case name, those of `kept_headers`; of a name that came twice the last."""
        self.first_byte_s = first_byte_s
        """When the first byte came (`monotonic_s`)."""
        self.streamed = False
        """True if the content type is text/event-stream."""
        self.body: bytes = b""
        self.complete = False


def status_line(status: int) -> bytes:
    """The first line of an answer, with its line end."""
    return b"HTTP/1.1 %d %s\r\n" % (status, REASONS.get(status, b""))


STATUS_200 = status_line(200)


def chunk(data: bytes, *, last: bool = False) -> bytes:
    """One chunk of a chunked body; `last`: with the end of the body, in the same write."""
    if not data:
        return LAST_CHUNK if last else b""
    return (b"%x\r\n%b\r\n0\r\n\r\n" if last else b"%x\r\n%b\r\n") % (len(data), data)


LAST_CHUNK = b"0\r\n\r\n"
