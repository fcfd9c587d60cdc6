"""What a row of the framing tables is, and the bytes that rows are put together from."""

from __future__ import annotations

from dataclasses import dataclass

from tests.running import KEY

BODY = b'{"model":"gpt-4o-mini","messages":[{"role":"user","content":"payload"}]}'
"""Of every call in the tables: what goes upstream is the same, however it was framed."""
AUTH = b"Authorization: Bearer " + KEY.encode() + b"\r\n"
HOST = b"Host: gateway.example\r\n"
LENGTH = b"Content-Length: %d\r\n" % len(BODY)
CHUNKED = b"Transfer-Encoding: chunked\r\n"
CLOSE = b"Connection: close\r\n"


@dataclass(frozen=True, slots=True)
class Payload:
    """Bytes of one connection, and what comes of them: `serves` answers 200, one upstream request each, then,
    if not 0, one answer `status` without any."""

    name: str
    data: bytes
    serves: int = 0
    status: int = 0
    closes: bool = True
    sequel: bytes = b""
    """A whole request that follows, and that no refusal may let through."""
    proxied: int = 0
    """Requests that a proxy may make of it that tidies up what it is sent, where `serves` are fewer."""


def refused(name: str, data: bytes, status: int = 400, *, after: int = 0, proxied: int = 0) -> Payload:
    """Answered with an error, closed, and nothing of it goes upstream, nor of the request that follows it."""
    return Payload(name, data, after, status, sequel=SMUGGLED, proxied=proxied)


def waits(name: str, data: bytes, *, after: int = 0) -> Payload:
    """Not whole: refused when its time is up."""
    return Payload(name, data, after, 408)


def served(name: str, data: bytes, *, calls: int = 1, closes: bool = False, proxied: int = 0) -> Payload:
    """Makes exactly this many upstream requests."""
    return Payload(name, data, calls, closes=closes, proxied=proxied)


def unheard(name: str, data: bytes, status: int, *, proxied: int = 0) -> Payload:
    """One whole request that is no call: an error, and the connection goes on."""
    return Payload(name, data, 0, status, closes=False, proxied=proxied)


def head(
    *lines: bytes,
    method: bytes = b"POST",
    target: bytes = b"/v1/chat/completions",
    version: bytes = b"HTTP/1.1",
    host: bytes = HOST,
    auth: bytes = AUTH,
) -> bytes:
    """A head that may call, with further lines (each with its line end)."""
    return b"%b %b %b\r\n%b%b%b\r\n" % (method, target, version, host, auth, b"".join(lines))


def call(*lines: bytes, body: bytes = BODY, content: str = "") -> bytes:
    """A whole call, framed by its length."""
    if content:
        body = BODY.replace(b"payload", content.encode())
    return head(*lines, b"Content-Length: %d\r\n" % len(body)) + body


def chunks(*sizes: int, extension: bytes = b"", body: bytes = BODY) -> bytes:
    """The body in chunks of these sizes, the rest in one more; without the last chunk."""
    out, at = b"", 0
    for size in (*sizes, len(body) - sum(sizes)):
        if size:
            out += b"%x%b\r\n%b\r\n" % (size, extension, body[at : at + size])
            at += size
    return out


def in_chunks(*lines: bytes, coding: bytes = CHUNKED, end: bytes = b"0\r\n\r\n") -> bytes:
    """A whole call in one chunk; `coding` is its Transfer-Encoding line, `end` the last chunk."""
    return head(coding, *lines) + chunks() + end


SMUGGLED = call(content="smuggled")
"""Follows what is refused: it must not be heard."""
