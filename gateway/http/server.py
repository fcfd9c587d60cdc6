"""What the connections of one worker share: their handler, their limits, and the end of all of them."""

from __future__ import annotations

import asyncio
from collections import Counter
from dataclasses import dataclass
from typing import Protocol

from gateway.errors import Kind
from gateway.http.caller import CallerConnection
from gateway.http.message import Request
from gateway.http.outbox import Outbox
from gateway.http.wheel import Wheel


class Exchange(Protocol):
    """What a connection tells the call that it carries."""

    def body_arrived(self) -> None: ...
    def body_failed(self, kind: Kind) -> None: ...
    def caller_left(self) -> None: ...
    def deadline_passed(self) -> None: ...
    def pause(self) -> None: ...
    def resume(self) -> None: ...


class Handler(Protocol):
    """What the line offers to connections."""

    def begin(self, caller: CallerConnection, request: Request) -> None:
        """Starts a call whose head has come. It sets `caller.exchange` before it waits for anything."""

    def refusal(self, kind: Kind) -> bytes:
        """A whole answer, head and body, with `connection: close`."""


@dataclass(frozen=True, slots=True)
class CallerTimes:
    """How long a caller may take; seconds."""

    head_s: float = 10.0
    """For a head, from its first byte to its last."""
    body_s: float = 30.0
    """For a body, beside the time that its bytes take at `min_body_bytes_per_s`."""
    min_body_bytes_per_s: float = 1024.0
    idle_s: float = 75.0
    """Between requests."""
    write_stall_s: float = 60.0
    """To take what is buffered for it while its stream is paused, or when its connection is closing."""
    linger_s: float = 2.0
    """To end a connection whose last answer it has taken."""


class CallerServer:
    """What all connections of one worker share."""

    __slots__ = (
        "_by_address",
        "closing",
        "connections",
        "draining",
        "empty",
        "handler",
        "held_bytes",
        "max_body_bytes",
        "max_connections",
        "max_connections_per_address",
        "max_form_bytes",
        "max_held_bytes",
        "max_requests",
        "outbox",
        "times",
        "wheel",
    )

    def __init__(
        self,
        handler: Handler,
        wheel: Wheel,
        *,
        max_body_bytes: int = 32 << 20,
        max_form_bytes: int = 512 << 20,
        max_held_bytes: int = 256 << 20,
        max_connections: int = 16_384,
        max_connections_per_address: int = 0,
        max_requests: int = 0,
        times: CallerTimes = CallerTimes(),
    ) -> None:
        self.handler = handler
        self.wheel = wheel
        self.max_body_bytes = max_body_bytes
        self.max_form_bytes = max_form_bytes
        """What may be streamed through; nothing of it is held."""
        self.max_held_bytes = max_held_bytes
        self.max_connections = max_connections
        self.max_connections_per_address = max_connections_per_address
        """0: no cap, for behind a load balancer all callers have one address."""
        self.max_requests = max_requests
        """Requests per connection before it is closed politely (0: no cap): few long-lived connections
        share badly over SO_REUSEPORT."""
        self.times = times
        self.connections: set[CallerConnection] = set()
        self._by_address: Counter[str] = Counter()
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
        self._note_if_empty()

    def joined(self, connection: CallerConnection) -> bool:
        """A connection was made; False if there are too many, in all or from its address."""
        self.connections.add(connection)
        if len(self.connections) > self.max_connections:
            return False
        if not self.max_connections_per_address:
            return True
        connection.address = address = str(connection.transport.get_extra_info("peername")[0])
        self._by_address[address] += 1
        return self._by_address[address] <= self.max_connections_per_address

    def left(self, connection: CallerConnection) -> None:
        """A connection has ended: the last one, perhaps."""
        self.connections.discard(connection)
        address = connection.address
        if address:
            self._by_address[address] -= 1
            if not self._by_address[address]:
                del self._by_address[address]
        self._note_if_empty()

    def _note_if_empty(self) -> None:
        if self.draining and not self.connections:
            self.empty.set()
