"""A steady load of chat calls on kept connections, and what came of every call."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field
from typing import Any

from tests.processes.caller import Caller, Reply


@dataclass(slots=True)
class Failed:
    """A call without a good answer. Seconds of `time.monotonic`."""

    begun_s: float
    ended_s: float
    what: str


@dataclass
class Load:
    """Calls per second at an address (HOST:PORT) by a number of connections, each with one call at a time.

    `check` is given every good answer; what it raises ends the load.
    """

    address: str
    per_s: float
    connections: int = 16
    fields: dict[str, Any] = field(default_factory=dict)
    check: Callable[[Reply], None] = lambda reply: None
    answered: int = 0
    failed: list[Failed] = field(default_factory=list)
    seconds: float = 0.0

    @asynccontextmanager
    async def running(self) -> AsyncIterator[Load]:
        """Loads while the body runs; every call that was begun is waited for."""
        stopping = asyncio.Event()
        begun_s = time.monotonic()
        async with asyncio.TaskGroup() as tasks:
            for number in range(self.connections):
                tasks.create_task(self._keep_calling(number, stopping))
            try:
                yield self
            finally:
                stopping.set()
        self.seconds = time.monotonic() - begun_s

    @property
    def reached_per_s(self) -> float:
        return self.answered / self.seconds

    async def _keep_calling(self, number: int, stopping: asyncio.Event) -> None:
        every_s = self.connections / self.per_s
        next_s = time.monotonic() + every_s * number / self.connections
        caller: Caller | None = None
        while not stopping.is_set():
            with suppress(TimeoutError):
                await asyncio.wait_for(stopping.wait(), max(0.0, next_s - time.monotonic()))
                break
            # What could not be sent in time is not made up for: the rate that was reached is told.
            next_s = max(next_s + every_s, time.monotonic())
            begun_s = time.monotonic()
            try:
                if caller is None or caller.has_ended():
                    caller = await Caller.at(self.address)
                reply = await asyncio.wait_for(caller.call(**self.fields), 20)
            except (OSError, EOFError, TimeoutError) as error:
                self.failed.append(Failed(begun_s, time.monotonic(), type(error).__name__))
                caller = None
                continue
            if reply.status == 200:
                self.answered += 1
                self.check(reply)
            else:
                self.failed.append(Failed(begun_s, time.monotonic(), f"{reply.status} {reply.body[:200]!r}"))
            if reply.closes:
                caller.close()
                caller = None
        if caller is not None:
            caller.close()
