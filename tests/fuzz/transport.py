"""Connections without a network: a transport that keeps what is written, and an event loop for a target."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Mapping
from typing import Any, cast

import uvloop

from gateway.http.wheel import Wheel


class Transport:
    """What a connection asks of its transport; keeps what is written."""

    def __init__(self) -> None:
        self.written = bytearray()
        self.aborted = self.half_closed = False
        self.reads = True

    def set_write_buffer_limits(self, high: int) -> None: ...

    def write(self, data: bytes) -> None:
        self.written += data

    def write_eof(self) -> None:
        self.half_closed = True

    def can_write_eof(self) -> bool:
        return True

    def is_closing(self) -> bool:
        return self.aborted

    def abort(self) -> None:
        self.aborted = True

    def pause_reading(self) -> None:
        self.reads = False

    def resume_reading(self) -> None:
        self.reads = True


def deliver(protocol: asyncio.BufferedProtocol, transport: Transport, data: bytes) -> None:
    """What one or more reads bring, as large as the protocol has room for."""
    while data and not transport.aborted:
        room = protocol.get_buffer(-1)
        size = min(len(room), len(data))
        room[:size] = data[:size]
        protocol.buffer_updated(size)
        data = data[size:]


def given_to(protocol: asyncio.BaseProtocol) -> Transport:
    """The transport of a connection that was made."""
    transport = Transport()
    protocol.connection_made(cast(asyncio.Transport, transport))
    return transport


class Loop:
    """A target with an event loop of its own, in which whatever escapes a callback is a failure."""

    def __init__(self) -> None:
        self.runner = asyncio.Runner(loop_factory=uvloop.new_event_loop)
        self.escaped: list[Mapping[str, Any]] = []
        self.loop = self.runner.get_loop()
        self.loop.set_exception_handler(lambda _, context: self.escaped.append(context))
        self.wheel = Wheel(self.loop)

    def check(self, data: bytes, draw: random.Random) -> None:
        self.runner.run(self.checked(data, draw))
        escaped, self.escaped = self.escaped, []
        assert not escaped, escaped

    async def checked(self, data: bytes, draw: random.Random) -> None:
        """The target's own check."""
        raise NotImplementedError

    def close(self) -> None:
        self.wheel.close()
        self.runner.close()


async def turn() -> None:
    """Lets the loop do what connections have asked for."""
    for _ in range(3):
        await asyncio.sleep(0)
