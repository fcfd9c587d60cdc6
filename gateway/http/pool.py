"""Keep-alive pools: connections to one origin, reused last-in first-out, expired when idle, capped."""

from __future__ import annotations

import asyncio
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass

from gateway.clock import monotonic_s
from gateway.http.dial import CannotConnect, Origin, dial
from gateway.http.outbox import Outbox
from gateway.http.upstream import UpstreamConnection
from gateway.http.wheel import Wheel

Connected = Callable[[UpstreamConnection | None], None]
"""Told the connection, or None if there was none to be had."""


@dataclass(slots=True, eq=False)
class _Waiter:
    """Somebody who waits for a connection. `dials`: one is being opened on its behalf, though whoever waits
    longest gets it."""

    told: Connected
    timeout_s: float
    dials: bool = False


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
        self._waiters: OrderedDict[_Waiter, None] = OrderedDict()
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
        self._waiters[waiter] = None
        if self._open < self._max:
            self._start_dial(waiter)
        return lambda: self._leave(waiter)

    def release(self, connection: UpstreamConnection) -> None:
        """Takes a connection back whose answer was read whole; a waiter gets it at once."""
        if self._waiters:
            self._waiters.popitem(last=False)[0].told(connection)
        elif self._retired:
            connection.close()
        else:
            self._idle.append(connection)
            connection.idle.set(monotonic_s() + self._idle_s)

    def lost(self, connection: UpstreamConnection) -> None:
        """A connection closed. Its place goes to a waiter, if one is left without a dial of its own."""
        if not connection.adopted:
            return  # still being dialled: `_dial` gives its place back
        self._open -= 1
        if connection in self._idle:
            self._idle.remove(connection)
        self._dial_for_waiters()

    def configure(self, *, max_connections: int, idle_s: float) -> None:
        """Takes up the settings of another policy; what is open above the cap closes when it is lost."""
        self._max = max_connections
        self._idle_s = idle_s
        self._dial_for_waiters()

    def retire(self) -> None:
        """The policy no longer names this origin: idle connections close, busy ones after their answer."""
        self._retired = True
        for connection in list(self._idle):
            connection.close()

    def _leave(self, waiter: _Waiter) -> None:
        self._waiters.pop(waiter, None)

    def _dial_for_waiters(self) -> None:
        for waiter in self._waiters:
            if self._open >= self._max:
                break
            if not waiter.dials:
                self._start_dial(waiter)

    def _start_dial(self, waiter: _Waiter) -> None:
        self._open += 1
        waiter.dials = True
        task = asyncio.get_running_loop().create_task(self._dial(waiter))
        self._dials.add(task)
        task.add_done_callback(self._dials.discard)

    async def _dial(self, waiter: _Waiter) -> None:
        connection: UpstreamConnection | None = None
        try:
            async with asyncio.timeout(waiter.timeout_s):
                connection = await dial(self.origin, lambda: UpstreamConnection(self))
        except (TimeoutError, CannotConnect):
            connection = None
        finally:
            waiter.dials = False
            if connection is None or connection.closed:
                self._open -= 1
        if connection is not None and not connection.closed:
            connection.adopted = True
            self.release(connection)
            return
        # Only its own waiter hears of a dial that failed; one that was served or has left needs none.
        still_waits = waiter in self._waiters
        self._leave(waiter)
        self._dial_for_waiters()
        if still_waits:
            waiter.told(None)
