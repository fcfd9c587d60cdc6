"""Sending an answer over the wire, at its pace and with its fault."""

from __future__ import annotations

import asyncio
import re
import socket
import struct
import zlib
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field

import orjson
from aiohttp import web

from gateway.clock import monotonic_s
from gateway.simulator.settings import Directions
from gateway.simulator.shapes import Event

_RESET = struct.pack("ii", 1, 0)
"""SO_LINGER with zero seconds: closing sends RST instead of FIN."""
_BIG_BYTES = 1_100_000
"""Just above 1 MiB."""
_MISSING_BYTES = 64
_ERROR = orjson.dumps(
    {
        "error": {
            "message": "The server had an error while processing your request. Sorry about that!",
            "type": "server_error",
            "param": None,
            "code": None,
        }
    }
)
_FILTERED = orjson.dumps(
    {
        "error": {
            "message": "The response was filtered: the prompt triggered the content policy (simulated).",
            "type": None,
            "param": "prompt",
            "code": "content_filter",
            "status": 400,
            "innererror": {"code": "ResponsibleAIPolicyViolation", "content_filter_result": {}},
        }
    }
)
_ERRORS = {"error_event": _ERROR, "filter_event": _FILTERED}
_DONE = b"[DONE]"
_BOM = b"\xef\xbb\xbf"
_PING = b": keep-alive\n\n"
_PING_S = 0.1
_ENDS_EARLY = ("cut", "cut_reset", "stall", "pings", "error_event", "filter_event")
_HTML = b"<!doctype html>\n<html><head><title>Welcome</title></head><body>Not an API.</body></html>\n"


@dataclass(slots=True)
class Progress:
    """How far an answer came: what is billed if it breaks off."""

    chunks: int = 0
    output_tokens: int = 0
    complete: bool = False
    """True once the last byte of the answer was handed to the connection."""


@dataclass(slots=True)
class Delivery:
    """One answer on its way: the request it belongs to, how it is to be sent, and how far it came."""

    request: web.Request
    headers: dict[str, str]
    directions: Directions
    progress: Progress
    errors: Mapping[str, bytes] = field(default_factory=lambda: _ERRORS)
    """What stands in an answer by the faults that put an error there."""
    ends: bool = True
    """True if `[DONE]` ends a stream."""
    named: bool = False
    """True if every event has a line with its type, as its data says it."""

    @property
    def fault(self) -> str | None:
        """The name of the fault, if any."""
        return self.directions.fault.name if self.directions.fault else None

    async def instead(self) -> web.StreamResponse:
        """What is sent, or done, by a fault that comes before anything is generated."""
        if self.fault in ("reset", "close"):
            hang_up(self.request, reset=self.fault == "reset")
            # The connection is gone, so this is never sent: aiohttp wants to be handed something.
            return web.Response()
        if self.fault == "hang":
            await _for_ever()
        if self.fault == "redirect":
            return web.Response(status=302, headers={**self.headers, "location": "/v1/redirected"})
        if self.fault == "status_204":
            return web.Response(status=204, headers=self.headers)
        return web.Response(body=_HTML, headers=self.headers, content_type="text/html")

    async def plain(self, body: bytes, output_tokens: int) -> web.StreamResponse:
        """Send a whole JSON answer after the time its generation takes."""
        pace = self.directions
        started_s = monotonic_s()
        try:
            await asyncio.sleep(pace.first_token_ms / 1000)
            if pace.tokens_per_s:
                await asyncio.sleep(output_tokens / pace.tokens_per_s)
        except asyncio.CancelledError:
            spent_s = monotonic_s() - started_s - pace.first_token_ms / 1000
            self.progress.output_tokens = min(output_tokens, max(0, int(spent_s * pace.tokens_per_s)))
            raise
        self.progress.output_tokens = output_tokens
        body = self._spoilt(body)
        headers = {**self.headers, "content-type": "application/json"}
        if self.fault == "gzip":
            headers["content-encoding"] = "gzip"
        if self.fault == "truncated":
            return await self._broken_body(body, headers, len(body) + _MISSING_BYTES, reset=False)
        if self.fault in ("cut", "cut_reset", "stall", "pings"):
            return await self._broken_body(
                body[: len(body) // 2], headers, len(body), reset=self.fault == "cut_reset"
            )
        if self.directions.split:
            response = web.StreamResponse(headers=headers)
            response.enable_chunked_encoding()
            await self._open(response)
            await self._write(response, body)
            await response.write_eof()
        else:
            response = web.Response(body=body, headers=headers)
            await self._open(response)
            await response.write_eof()
        self.progress.complete = True
        return response

    async def stream(self, events: Iterable[Event]) -> web.StreamResponse:
        """Send server-sent events at the pace asked for."""
        pace = self.directions
        await asyncio.sleep(pace.first_token_ms / 1000)
        headers = {
            **self.headers,
            "content-type": "text/event-stream; charset=utf-8",
            "cache-control": "no-cache",
        }
        if self.fault == "gzip":
            headers["content-encoding"] = "gzip"
        if self.fault == "truncated":
            return await self._truncated_stream(events, headers)
        response = web.StreamResponse(headers=headers)
        response.enable_chunked_encoding()
        await self._open(response)
        started_s = monotonic_s()
        framing = _Framing(self.fault, named=self.named)
        for event in self._spoiled(events):
            if event is None:
                return await self._break_off(response)
            if pace.tokens_per_s and event.step:
                await asyncio.sleep(max(0.0, started_s + event.step / pace.tokens_per_s - monotonic_s()))
            else:
                # A caller who left is only noticed by the loop.
                await asyncio.sleep(0)
            if self.fault == "comments":
                await self._write(response, _PING)
            await self._write(response, framing.event(event.data))
            self.progress.chunks += 1
            self.progress.output_tokens += event.tokens
        for data in _endings(self.fault) if self.ends else ():
            await self._write(response, framing.event(data))
        await response.write_eof(framing.end())
        self.progress.complete = True
        return response

    def _spoilt(self, body: bytes) -> bytes:
        fault = self.fault
        if fault == "gzip":
            packer = zlib.compressobj(wbits=31)
            return packer.compress(body) + packer.flush()
        if fault is not None and fault in self.errors:
            return self.errors[fault]
        return body if fault is None else _spoil_event(body, fault)

    def _spoiled(self, events: Iterable[Event]) -> Iterator[Event | None]:
        """The events with those a fault changes; None is where the stream breaks off."""
        fault = self.directions.fault
        if fault is None:
            yield from events
            return
        for at, event in enumerate(events):
            if at == fault.after_chunks:
                if fault.name in _ENDS_EARLY:
                    yield None
                event = Event(_spoil_event(event.data, fault.name), event.tokens, event.step)
            yield event
        if fault.name in _ENDS_EARLY:
            # The answer was shorter than `after_chunks`: it breaks off before [DONE].
            yield None

    async def _break_off(self, response: web.StreamResponse) -> web.StreamResponse:
        if self.fault == "stall":
            await _for_ever()
        while self.fault == "pings":
            await self._write(response, _PING)
            await asyncio.sleep(_PING_S)
        fault = self.fault
        if fault is not None and fault in self.errors:
            framing = _Framing(None, named=self.named)
            await self._write(response, framing.event(self.errors[fault]))
            await response.write_eof()
            return response
        hang_up(self.request, reset=self.fault == "cut_reset")
        return response

    async def _broken_body(
        self, body: bytes, headers: Mapping[str, str], length: int, *, reset: bool
    ) -> web.StreamResponse:
        response = web.StreamResponse(headers=headers)
        response.content_length = length
        await self._open(response)
        await response.write(body)
        if self.fault in ("stall", "pings"):
            await _for_ever()
        hang_up(self.request, reset=reset)
        return response

    async def _truncated_stream(
        self, events: Iterable[Event], headers: Mapping[str, str]
    ) -> web.StreamResponse:
        framing = _Framing(None, named=self.named)
        kept = list(events)
        self.progress.output_tokens += sum(event.tokens for event in kept)
        self.progress.chunks = len(kept)
        body = b"".join(framing.event(event.data) for event in kept)
        return await self._broken_body(body, headers, len(body) + _MISSING_BYTES, reset=False)

    async def _open(self, response: web.StreamResponse) -> None:
        """Send the headers now: a stream that breaks at once has still begun."""
        writer = await response.prepare(self.request)
        if writer is None:
            raise ConnectionResetError("the caller has left")
        if not isinstance(response, web.Response):
            writer.send_headers()

    async def _write(self, response: web.StreamResponse, data: bytes) -> None:
        size = self.directions.split or len(data)
        for at in range(0, len(data), size):
            await response.write(data[at : at + size])


def hang_up(request: web.Request, *, reset: bool) -> None:
    """Close the connection at once: RST, or FIN after what was written."""
    transport = request.transport
    if transport is None:
        return
    if reset:
        transport.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RESET)
        transport.abort()
    else:
        transport.close()


async def _for_ever() -> None:
    """Until the caller leaves or the simulator stops: both cancel the handler."""
    await asyncio.get_running_loop().create_future()


_TYPE = re.compile(rb'"type":"([\w.]+)"').search


class _Framing:
    """How data becomes an event: with the line ends of the fault, compressed in one go over all events."""

    def __init__(self, fault: str | None, *, named: bool) -> None:
        self._named = named
        self._end = {"crlf": b"\r\n", "cr": b"\r"}.get(fault or "", b"\n")
        self._packer = zlib.compressobj(wbits=31) if fault == "gzip" else None
        self._start = _BOM if fault == "bom" else b""

    def event(self, data: bytes) -> bytes:
        """One event as it goes out."""
        name = b""
        if self._named and (found := _TYPE(data)):
            name = b"event: " + found[1] + self._end
        plain, self._start = self._start + name + b"data: " + data + self._end + self._end, b""
        if self._packer is None:
            return plain
        return self._packer.compress(plain) + self._packer.flush(zlib.Z_SYNC_FLUSH)

    def end(self) -> bytes:
        """What must follow the last event: the end of the compressed body."""
        return b"" if self._packer is None else self._packer.flush()


def _endings(fault: str | None) -> list[bytes]:
    if fault == "no_done":
        return []
    if fault == "double_done":
        return [_DONE, _DONE]
    if fault == "after_done":
        late = {"id": "late", "object": "chat.completion.chunk", "created": 0, "model": "late"}
        choice = {"index": 0, "delta": {"content": "late"}, "finish_reason": None}
        return [_DONE, orjson.dumps({**late, "choices": [choice]})]
    return [_DONE]


def _spoil_event(data: bytes, fault: str) -> bytes:
    if fault == "not_json":
        return data[: len(data) // 2]
    if fault == "bad_utf8":
        return _with_bad_byte(data)
    if fault == "big_event":
        return _with_padding(data)
    return data


def _with_bad_byte(data: bytes) -> bytes:
    """0xFF at the start of the first text of the answer, else in the model's name."""
    for names in (rb"content|refusal|text", rb"model"):
        spoiled, done = re.subn(rb'("(?:' + names + rb')":")', rb"\1" + b"\xff", data, count=1)
        if done:
            return spoiled
    return data


def _with_padding(data: bytes) -> bytes:
    return data[:-1] + b',"padding":"' + b"x" * _BIG_BYTES + b'"}'
