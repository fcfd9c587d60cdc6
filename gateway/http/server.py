"""What the connections of one worker share: their handler, their limits, and the end of all of them."""

from __future__ import annotations

import asyncio
from typing import Protocol

from gateway.errors import Kind
from gateway.http.caller import CallerConnection
from gateway.http.message import Request
from gateway.http.outbox import Outbox
from gateway.http.wheel import Wheel


class Handler(Protocol):
    """What the line offers to connections."""

    def begin(self, caller: CallerConnection, request: Request) -> None:
        """Starts a call whose head has come. It sets `caller.exchange` before it waits for anything."""

    def refusal(self, kind: Kind) -> bytes:
        """A whole answer, head and body, with `connection: close`."""


class CallerServer:
    """What all connections of one worker share."""

    __slots__ = (
        "closing",
        "connections",
        "draining",
        "empty",
        "handler",
        "held_bytes",
        "max_body_bytes",
        "max_connections",
        "max_held_bytes",
        "max_requests",
        "outbox",
        "wheel",
    )

    def __init__(
        self,
        handler: Handler,
        wheel: Wheel,
        *,
        max_body_bytes: int = 32 << 20,
        max_held_bytes: int = 256 << 20,
        max_connections: int = 16_384,
        max_requests: int = 0,
    ) -> None:
        self.handler = handler
        self.wheel = wheel
        self.max_body_bytes = max_body_bytes
        self.max_held_bytes = max_held_bytes
        self.max_connections = max_connections
        self.max_requests = max_requests
        """Requests per connection before it is closed politely (0: no cap): few long-lived connections
        share badly over SO_REUSEPORT."""
        self.connections: set[CallerConnection] = set()
        self.held_bytes = 0
        self.closing = False
        """True: every answer says `connection: close`, and so is its connection's last."""
        self.draining = False
        self.empty = asyncio.Event()
        """Set, after `drain`, when no connection is left."""
        self.outbox = Outbox()

    def __call__(self) -> CallerConnection:
        return CallerConnection(self)

    def drain(self) -> None:
        """No new requests on old connections: idle ones close, busy ones after their answer. One that has
        not asked anything yet gets 1 s to do so."""
        self.closing = self.draining = True
        for connection in list(self.connections):
            connection.close_if_idle()
        self.left()

    def left(self) -> None:
        """A connection has ended: the last one, perhaps."""
        if self.draining and not self.connections:
            self.empty.set()
