"""A provider that does exactly what a test says, byte for byte."""

from __future__ import annotations

import asyncio
import enum
import socket
import struct
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import pairwise

from gateway.http.message import chunk

_RST = struct.pack("ii", 1, 0)
"""SO_LINGER with zero seconds: closing sends RST instead of FIN."""


class Act(enum.Enum):
    """What a provider does besides sending bytes."""

    CLOSE = "closes the connection (FIN)"
    RESET = "resets the connection (RST)"
    STALL = "sends nothing more, and waits until the gateway leaves"
    WAIT = "waits for `go`: a reset throws away what was sent but not read"


@dataclass(frozen=True)
class Drip:
    """Sends `data` again and again until the gateway leaves."""

    data: bytes
    every_s: float


Step = bytes | Act | Drip
CLOSE, RESET, STALL, WAIT = Act.CLOSE, Act.RESET, Act.STALL, Act.WAIT


class Scripted:
    """Answers every request with the same steps, or with those of `turns` as long as there are any.

    `asked` counts requests, `connections` connections; `url` is its OpenAI base URL; `go` is what
    `WAIT` waits for.
    """

    def __init__(self, *steps: Step, turns: Iterable[Sequence[Step]] = ()) -> None:
        self.steps: Sequence[Step] = steps
        self.turns = list(turns)
        self.asked = self.connections = 0
        self.url = ""
        self.go = asyncio.Event()
        self.left = asyncio.Event()
        """Set once the gateway has closed a connection before the answer was over."""
        self._writers: set[asyncio.StreamWriter] = set()
        self._server: asyncio.Server | None = None

    async def start(self) -> None:
        self._server = await asyncio.start_server(self._serve, "127.0.0.1", 0)
        self.url = f"http://127.0.0.1:{self._server.sockets[0].getsockname()[1]}/v1"

    async def stop(self) -> None:
        assert self._server is not None
        self._server.close()
        for writer in self._writers:
            writer.transport.abort()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.connections += 1
        self._writers.add(writer)
        try:
            while await self._request(reader):
                self.asked += 1
                steps = self.turns.pop(0) if self.turns else self.steps
                if not await self._answer(steps, reader, writer):
                    break
        except ConnectionError:
            self.left.set()
        finally:
            self._writers.discard(writer)
            writer.close()

    async def _request(self, reader: asyncio.StreamReader) -> bool:
        try:
            head = await reader.readuntil(b"\r\n\r\n")
        except asyncio.IncompleteReadError:
            return False
        await reader.readexactly(int(head.lower().partition(b"content-length: ")[2].partition(b"\r")[0]))
        return True

    async def _answer(
        self, steps: Sequence[Step], reader: asyncio.StreamReader, writer: asyncio.StreamWriter
    ) -> bool:
        """False if the connection is over."""
        for step in steps:
            if isinstance(step, bytes):
                writer.write(step)
                await writer.drain()
                # Lets the gateway read this before the next is written.
                await asyncio.sleep(0)
            elif step is WAIT:
                await self.go.wait()
            elif step is RESET:
                writer.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RST)
                writer.transport.abort()
                return False
            elif step is CLOSE:
                return False
            else:
                await self._until_left(reader, writer, step)
                return False
        return True

    async def _until_left(
        self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, step: Act | Drip
    ) -> None:
        gone = asyncio.ensure_future(reader.read())
        while not gone.done():
            if isinstance(step, Drip):
                writer.write(step.data)
            await asyncio.wait([gone], timeout=step.every_s if isinstance(step, Drip) else None)
        # A reset is as good as a goodbye.
        gone.exception()
        self.left.set()


def answer(
    body: bytes, status: int = 200, *headers: str, kind: str = "application/json", length: int | None = None
) -> bytes:
    """A whole plain answer; `length` is what Content-Length says if not the truth."""
    lines = [f"HTTP/1.1 {status} Scripted", f"content-type: {kind}", *headers]
    lines.append(f"content-length: {len(body) if length is None else length}")
    return "\r\n".join([*lines, "", ""]).encode("latin-1") + body


STREAM_HEAD = b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\ntransfer-encoding: chunked\r\n\r\n"
STREAM_END = chunk(b"", last=True)


def streamed(*blocks: bytes) -> bytes:
    """A whole streamed answer; each block is an HTTP chunk of its own."""
    return STREAM_HEAD + b"".join(map(chunk, blocks)) + STREAM_END


def split(data: bytes, cuts: Iterable[int]) -> list[bytes]:
    """`data` in pieces, cut at these places."""
    return [data[begin:end] for begin, end in pairwise([0, *sorted(set(cuts)), len(data)]) if begin < end]
