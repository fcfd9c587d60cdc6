"""Requests and answers as parsed, and the bytes of heads. HTTP/1.1 as RFC 9112 has it."""

from __future__ import annotations

from http import HTTPStatus

Headers = list[tuple[bytes, bytes]]
"""(lower-case name, value) in the order received."""

REASONS: dict[int, bytes] = {status.value: status.phrase.encode() for status in HTTPStatus}


class Request:
    """One request of a caller. The body is there once `complete` is True."""

    __slots__ = (
        "body",
        "complete",
        "headers",
        "keep_alive",
        "known",
        "method",
        "received_s",
        "target",
        "version",
    )

    def __init__(self) -> None:
        self.method = b""
        self.target = b""
        self.version = "1.1"
        self.headers: Headers = []
        self.known: dict[bytes, bytes] = {}
        """The headers we act on; each came once, or the request was refused."""
        self.keep_alive = True
        self.body: bytes = b""
        self.complete = False
        self.received_s = 0.0
        """When the last byte was read (`monotonic_s`); 0 until then."""


class Answer:
    """A provider's answer: its head, and what is there of its body."""

    __slots__ = ("body", "complete", "first_byte_s", "headers", "status", "streamed")

    def __init__(self, status: int, headers: dict[bytes, bytes], first_byte_s: float) -> None:
        self.status = status
        self.headers = headers
        """By lower-case name; of a name that came twice the last."""
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


def chunk(data: bytes) -> bytes:
    """One chunk of a chunked body."""
    return b"%x\r\n%b\r\n" % (len(data), data)


LAST_CHUNK = b"0\r\n\r\n"
