"""An upstream that keeps every byte it receives, and a caller that reads answers strictly."""

from __future__ import annotations

import asyncio
import json
import re
from dataclasses import dataclass
from typing import Any, cast

_ANSWER_HEAD = re.compile(rb"HTTP/1\.1 (\d{3}) [^\r\n]*\r\n((?:[\w-]+: [^\r\n]*\r\n)*)\r\n")


class Recorder:
    """A provider that echoes the first message of each chat call, and has what it received, head and body."""

    def __init__(self) -> None:
        self.requests: list[bytes] = []
        self.connections: set[_Connection] = set()
        self.url = ""

    async def start(self) -> asyncio.Server:
        loop = asyncio.get_running_loop()
        server = await loop.create_server(lambda: _Connection(self), "127.0.0.1", 0)
        self.url = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}/v1"
        return server

    def unread(self) -> bytes:
        """What came that was no whole request: must be nothing."""
        return b"".join(bytes(connection.buffer) for connection in self.connections)

    def reference(self, body: bytes, secret: str) -> bytes:
        """The one form in which a call with this body may arrive."""
        host = self.url.removeprefix("http://").removesuffix("/v1")
        lines = [
            "POST /v1/chat/completions HTTP/1.1",
            f"host: {host}",
            "user-agent: headgate",
            "accept: application/json, text/event-stream",
            "accept-encoding: identity",
            "content-type: application/json",
            f"authorization: Bearer {secret}",
            f"content-length: {len(body)}",
        ]
        return "\r\n".join(lines).encode() + b"\r\n\r\n" + body


class _Connection(asyncio.Protocol):
    def __init__(self, recorder: Recorder) -> None:
        self._recorder = recorder
        self.buffer = bytearray()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)
        self._recorder.connections.add(self)

    def connection_lost(self, exc: Exception | None) -> None:
        self._recorder.connections.discard(self)

    def data_received(self, data: bytes) -> None:
        self.buffer += data
        while (end := self.buffer.find(b"\r\n\r\n") + 4) > 3:
            length = re.search(rb"\r\ncontent-length: (\d+)\r\n", self.buffer[:end])
            whole = end + (int(length[1]) if length else 0)
            if len(self.buffer) < whole:
                return
            request, self.buffer = bytes(self.buffer[:whole]), self.buffer[whole:]
            self._recorder.requests.append(request)
            self._transport.write(_echo(request[end:]))


def _echo(body: bytes) -> bytes:
    try:
        content = json.loads(body)["messages"][0]["content"]
    except (ValueError, LookupError, TypeError):
        content = "not a call"
    choice = {"index": 0, "message": {"role": "assistant", "content": content}, "finish_reason": "stop"}
    answer = json.dumps({"id": "x", "object": "chat.completion", "model": "m", "choices": [choice]}).encode()
    return b"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: %d\r\n\r\n%b" % (
        len(answer),
        answer,
    )


class NotFramed(Exception):
    """What came is no answer of HTTP/1.1."""


@dataclass(frozen=True, slots=True)
class Answer:
    """An answer as a caller read it."""

    status: int
    headers: dict[str, str]
    body: bytes

    @property
    def content(self) -> Any:
        return json.loads(self.body)["choices"][0]["message"]["content"]

    @property
    def error(self) -> Any:
        """The error object, which has its four fields."""
        error = json.loads(self.body)["error"]
        assert {"message", "type", "param", "code"} <= error.keys()
        return error


class Caller:
    """One raw connection."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._reader, self._writer = reader, writer

    @classmethod
    async def connect(cls, port: int) -> Caller:
        return cls(*await asyncio.open_connection("127.0.0.1", port, limit=1 << 20))

    def send(self, data: bytes) -> None:
        self._writer.write(data)

    async def answer(self, within_s: float = 5.0) -> Answer | None:
        """The next answer, interim ones passed over; None at the end of the connection. Anything else that
        comes raises `NotFramed`."""
        async with asyncio.timeout(within_s):
            while True:
                try:
                    raw = await self._reader.readuntil(b"\r\n\r\n")
                except asyncio.IncompleteReadError as end:
                    if end.partial:
                        raise NotFramed(end.partial) from None
                    return None
                except ConnectionResetError:
                    return None
                head = _ANSWER_HEAD.fullmatch(raw)
                if head is None:
                    raise NotFramed(raw)
                if head[1][:1] == b"1":
                    continue
                lines = head[2].decode().split("\r\n")[:-1]
                headers = {name.lower(): value for name, value in (line.split(": ", 1) for line in lines)}
                if "chunked" in headers.get("transfer-encoding", ""):
                    return Answer(int(head[1]), headers, await self._in_chunks())
                length = int(headers["content-length"])
                return Answer(int(head[1]), headers, await self._reader.readexactly(length))

    async def _in_chunks(self) -> bytes:
        body = b""
        while size := int(await self._reader.readuntil(b"\r\n"), 16):
            body += (await self._reader.readexactly(size + 2))[:-2]
        assert await self._reader.readexactly(2) == b"\r\n"
        return body

    async def answers(self) -> list[Answer]:
        """All answers up to the end of the connection."""
        found = []
        while (answer := await self.answer()) is not None:
            found.append(answer)
        return found

    def close(self) -> None:
        self._writer.close()
