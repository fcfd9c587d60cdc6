"""A server of caller connections whose handler answers with what it got."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack
from dataclasses import dataclass, field

import pytest

from gateway.errors import Kind
from gateway.http.caller import CallerConnection
from gateway.http.message import Request, status_line
from gateway.http.server import CallerServer
from gateway.http.wheel import Wheel


class Echo:
    """One request on its way: answers with its body as soon as that is there."""

    def __init__(self, caller: CallerConnection, request: Request, asked: Asked) -> None:
        self.caller, self.request, self.asked = caller, request, asked
        self.left = asyncio.Event()

    def body_arrived(self) -> None:
        request = self.request
        self.asked.requests.append(request)
        close = b"" if request.keep_alive else b"connection: close\r\n"
        head = b"content-length: %d\r\n%b\r\n" % (len(request.body), close)
        self.caller.write(status_line(200) + head + request.body)
        self.caller.finish(keep_alive=request.keep_alive)

    def body_failed(self, kind: Kind) -> None:
        self.caller.write(self.asked.refusal(kind))
        self.caller.finish(keep_alive=False)

    def caller_left(self) -> None:
        self.left.set()

    def deadline_passed(self) -> None:
        self.caller.cut()

    def pause(self) -> None: ...

    def resume(self) -> None: ...


@dataclass
class Asked:
    """What callers asked; the handler of the server. `holds`: answers wait until `answer()`."""

    requests: list[Request] = field(default_factory=list)
    refused: list[Kind] = field(default_factory=list)
    waiting: list[Echo] = field(default_factory=list)
    holds: bool = False
    host: str = ""
    port: int = 0
    server: CallerServer | None = None

    def begin(self, caller: CallerConnection, request: Request) -> None:
        caller.exchange = echo = Echo(caller, request, self)
        if self.holds:
            self.waiting.append(echo)
        elif request.complete:
            echo.body_arrived()
        else:
            caller.send_continue(request)

    def refusal(self, kind: Kind) -> bytes:
        self.refused.append(kind)
        return status_line(kind.status) + b"content-length: 0\r\nconnection: close\r\n\r\n"

    async def exchange(self, *parts: bytes, until_close: bool = True) -> bytes:
        """Everything a new connection gets back for these writes."""
        reader, writer = await asyncio.open_connection(self.host, self.port)
        try:
            for part in parts:
                writer.write(part)
                await writer.drain()
                # Lets the server read this part before the next one is written.
                await asyncio.sleep(0)
            return await asyncio.wait_for(reader.read(), 5)
        finally:
            writer.close()


StartEcho = Callable[..., Awaitable[Asked]]


@pytest.fixture
async def echo() -> AsyncIterator[StartEcho]:
    """`await echo(max_body_bytes=10)`: such a server with these limits."""
    async with AsyncExitStack() as stack:

        async def start(**limits: int) -> Asked:
            loop = asyncio.get_running_loop()
            asked, wheel = Asked(), Wheel(loop)
            asked.server = CallerServer(asked, wheel, **limits)
            listener = await loop.create_server(asked.server, "127.0.0.1", 0)
            stack.callback(wheel.close)
            stack.callback(listener.close)
            asked.host, asked.port = listener.sockets[0].getsockname()
            return asked

        yield start
