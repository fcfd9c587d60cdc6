"""A caller that has its connections in hand: when they open, what they carry, who closes them."""

from __future__ import annotations

import asyncio
import json
from dataclasses import dataclass
from typing import Any

from tests.relaying import CHAT
from tests.running import KEY, Gateway


@dataclass
class Reply:
    """One answer; `headers` by lower-case name."""

    status: int
    headers: dict[str, str]
    body: bytes

    @property
    def closes(self) -> bool:
        return self.headers.get("connection") == "close"

    @property
    def events(self) -> list[str]:
        """The data of each event of a stream."""
        return [block.removeprefix("data: ") for block in self.body.decode().split("\n\n") if block]


class Caller:
    """One connection to a gateway."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._reader, self._writer = reader, writer

    @classmethod
    async def of(cls, gateway: Gateway) -> Caller:
        """A new one."""
        return await cls.at(gateway.running()["listen"])

    @classmethod
    async def at(cls, address: str) -> Caller:
        """A new one to HOST:PORT."""
        host, _, port = address.rpartition(":")
        return cls(*await asyncio.open_connection(host, int(port)))

    def ask(self, **fields: Any) -> None:
        """Sends a chat call, in one write."""
        body = json.dumps({**CHAT, **fields}).encode()
        head = f"POST /v1/chat/completions HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {KEY}\r\n"
        self._writer.write(head.encode() + b"Content-Length: %d\r\n\r\n%b" % (len(body), body))

    async def head(self) -> Reply:
        """The head of the next answer."""
        lines = (await self._reader.readuntil(b"\r\n\r\n")).decode().split("\r\n")
        headers = dict(line.split(": ", 1) for line in lines[1:] if line)
        return Reply(int(lines[0].split()[1]), {name.lower(): value for name, value in headers.items()}, b"")

    async def chunk(self) -> bytes:
        """The next chunk of a chunked body; b"" is its end."""
        size = int(await self._reader.readline(), 16)
        return (await self._reader.readexactly(size + 2))[:-2]

    async def rest(self, reply: Reply | None = None) -> Reply:
        """The answer with its whole body, or what is left of a chunked one."""
        reply = reply or Reply(200, {}, b"")
        if "content-length" in reply.headers:
            reply.body = await self._reader.readexactly(int(reply.headers["content-length"]))
            return reply
        while chunk := await self.chunk():
            reply.body += chunk
        return reply

    async def answer(self) -> Reply:
        """The next answer, whole."""
        return await self.rest(await self.head())

    async def call(self, **fields: Any) -> Reply:
        """Asks, and the answer."""
        self.ask(**fields)
        return await self.answer()

    async def is_closed(self) -> bool:
        """Waits until the gateway closes; False if it sends something instead."""
        return await self._reader.read(1) == b""

    def has_ended(self) -> bool:
        """True if the gateway has closed already."""
        return self._reader.at_eof()

    def close(self) -> None:
        self._writer.close()
