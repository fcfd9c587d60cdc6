"""Keep-alive pools: connections to one origin, reused last-in first-out, expired when idle, capped."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass

from gateway.clock import monotonic_s
from gateway.http.dial import CannotConnect, Origin, dial
from gateway.http.outbox import Outbox
from gateway.http.upstream import UpstreamConnection
from gateway.http.wheel import Wheel

Connected = Callable[[UpstreamConnection | None], None]
"""Told the connection, or None if there was none to be had."""


@dataclass(slots=True)
class _Waiter:
    """Somebody who waits for a connection; `told` is None once it left."""

    told: Connected | None
    timeout_s: float


class Pool:
    """The connections to one origin. Never more than `max_connections` open or opening."""

    __slots__ = (
        "_dials",
        "_idle",
        "_idle_s",
        "_max",
        "_open",
        "_retired",
        "_waiters",
        "origin",
        "outbox",
        "wheel",
    )

    def __init__(self, origin: Origin, wheel: Wheel, *, max_connections: int, idle_s: float) -> None:
        self.origin = origin
        self.wheel = wheel
        self.outbox = Outbox()
        self._max = max_connections
        self._idle_s = idle_s
        self._idle: list[UpstreamConnection] = []
        self._open = 0
        self._waiters: deque[_Waiter] = deque()
        self._dials: set[asyncio.Task[None]] = set()
        self._retired = False

    def take(self) -> UpstreamConnection | None:
        """An idle connection, the one used last: the others may then expire."""
        idle = self._idle
        while idle:
            connection = idle.pop()
            if not connection.closed:
                return connection
        return None

    def connect(self, told: Connected, timeout_s: float) -> Callable[[], None]:
        """Opens a connection, or waits for one when the cap is reached; `told` gets it or None.

        Returns what to call when nobody wants it any more; the connection then serves the next one.
        """
        waiter = _Waiter(told, timeout_s)
        self._waiters.append(waiter)
        if self._open < self._max:
            self._start_dial(timeout_s)

        def leave() -> None:
            waiter.told = None

        return leave

    def release(self, connection: UpstreamConnection) -> None:
        """Takes a connection back whose answer was read whole; a waiter gets it at once."""
        if self._tell(connection):
            return
        if self._retired:
            connection.close()
            return
        self._idle.append(connection)
        connection.idle.set(monotonic_s() + self._idle_s)

    def lost(self, connection: UpstreamConnection) -> None:
        """A connection closed. Its place goes to a waiter, if one is left without a dial of its own."""
        if not connection.adopted:
            return  # still being dialled: `_dial` gives its place back
        self._open -= 1
        if connection in self._idle:
            self._idle.remove(connection)
        while self._waiters and self._waiters[0].told is None:
            self._waiters.popleft()
        if len(self._waiters) > len(self._dials) and self._open < self._max:
            self._start_dial(self._waiters[0].timeout_s)

    def configure(self, *, max_connections: int, idle_s: float) -> None:
        """Takes up the settings of another policy; what is open above the cap closes when it is lost."""
        self._max = max_connections
        self._idle_s = idle_s

    def retire(self) -> None:
        """The policy no longer names this origin: idle connections close, busy ones after their answer."""
        self._retired = True
        for connection in list(self._idle):
            connection.close()

    def _start_dial(self, timeout_s: float) -> None:
        self._open += 1
        task = asyncio.get_running_loop().create_task(self._dial(timeout_s))
        self._dials.add(task)
        task.add_done_callback(self._dials.discard)

    async def _dial(self, timeout_s: float) -> None:
        connection: UpstreamConnection | None = None
        try:
            async with asyncio.timeout(timeout_s):
                connection = await dial(self.origin, lambda: UpstreamConnection(self))
        except (TimeoutError, CannotConnect):
            connection = None
        finally:
            if connection is None or connection.closed:
                self._open -= 1
        if connection is None or connection.closed:
            self._tell(None)
            return
        connection.adopted = True
        self.release(connection)

    def _tell(self, connection: UpstreamConnection | None) -> bool:
        while self._waiters:
            told = self._waiters.popleft().told
            if told is not None:
                told(connection)
                return True
        return False
