"""An event loop whose time is virtual, and the link between workers and the keeper as a model.

The code of both ends runs as it is; only the socket between them is played. A connection loses what was on
its way when it breaks, and delays each message at random. One that does not keep the order (`Pipe.in_order`)
lets them overtake each other, except the greeting, which opens it. What is lost without a break is found out:
a stream that has a hole breaks soon after, but for what nobody counts on (recalls, wet buckets). What both
ends do about all that (greetings, the same exchange again) is theirs.
"""

from __future__ import annotations

import asyncio
import random
from collections.abc import Callable, Sequence
from itertools import count
from typing import Any

from gateway.link.ledger import RECALL, WET

Guard = Callable[[Callable[[], None]], None]
"""Runs something in a process, if that lives."""
Fate = Callable[[int], Sequence[float]]
"""A message's kind → after how many seconds each copy of it comes; none: it is lost."""

PUSHES = (RECALL, WET)
HOLE_S = (0.0, 0.002, 0.02)
"""After so long a stream that lost something breaks."""


class VirtualLoop(asyncio.BaseEventLoop):
    """Runs what is due, then lets time pass to what is next: an hour takes as long as what happens in it."""

    def __init__(self) -> None:
        super().__init__()
        self._now_s = 1_000.0
        self._selector = self
        self.keepers: dict[str, Callable[[Any], Any]] = {}
        """Path → connects a protocol to a keeper; without an entry nobody listens."""

    def time(self) -> float:
        return self._now_s

    def select(self, timeout: float | None) -> list[Any]:
        """As a selector's: there is nothing but timers."""
        if timeout is None:
            raise RuntimeError("nothing will ever happen again")
        self._now_s += max(0.0, timeout)
        return []

    def _process_events(self, event_list: list[Any]) -> None:
        pass

    def run_in_executor(  # type: ignore[override]
        self, executor: Any, func: Callable[..., Any], *args: Any
    ) -> asyncio.Future[Any]:
        """Threads take no time."""
        done = self.create_future()
        done.set_result(func(*args))
        return done

    def finish(self) -> None:
        """Ends what still runs."""
        self.set_exception_handler(lambda loop, context: None)
        tasks = asyncio.all_tasks(self)
        for task in tasks:
            task.cancel()
        self.run_until_complete(asyncio.gather(*tasks, return_exceptions=True))
        self.close()

    async def create_unix_connection(  # type: ignore[override]
        self, protocol_factory: Callable[[], Any], path: str
    ) -> tuple[Any, Any]:
        """To the keeper at `path`, if there is one."""
        connect = self.keepers.get(path)
        if connect is None:
            raise ConnectionRefusedError(path)
        protocol = protocol_factory()
        return connect(protocol), protocol


class Side:
    """One end of a connection, as its transport."""

    def __init__(self, pipe: Pipe, guard: Guard) -> None:
        self._pipe = pipe
        self._guard = guard
        self.protocol: Any = None
        self.peer: Side = self
        self.is_lost = False
        self._earliest_s = 0.0
        """Nothing that is written now comes before this: the message before it, or at least the greeting."""
        self.coming: dict[int, bytes] = {}
        """What is on its way, in the order in which it was written."""
        self._numbers = count()

    def write(self, data: bytes) -> None:
        if not (self._pipe.is_broken or self.is_lost):
            self.peer._carry(data)

    def get_write_buffer_size(self) -> int:
        return 1 << 30 if self._pipe.is_stalled else 0

    def abort(self) -> None:
        self._pipe.gave_up()
        self._pipe.break_()

    def close(self) -> None:
        self._pipe.break_()

    def _carry(self, data: bytes) -> None:
        pipe, loop = self._pipe, self._pipe.loop
        number, kind = next(self._numbers), data[4]
        delays_s = pipe.fate(kind)
        if not delays_s and kind not in PUSHES:
            if number:
                loop.call_later(pipe.dice.choice(HOLE_S), pipe.break_)
            else:
                delays_s = (0.0,)
        for place, delay_s in enumerate(delays_s):
            arrives_s = max(self._earliest_s, loop.time() + delay_s)
            if pipe.in_order or number == place == 0:
                # Timers of one moment keep no order.
                self._earliest_s = arrives_s + 1e-6
            # Each copy has a number of its own, after those of earlier messages.
            copy = next(self._numbers)
            self.coming[copy] = data
            loop.call_at(arrives_s, self._arrive, None if pipe.in_order else copy)

    def _arrive(self, copy: int | None) -> None:
        if copy is None:
            copy = next(iter(self.coming), None)
        if copy in self.coming and not self.is_lost:
            data = self.coming.pop(copy)
            self._guard(lambda: self.protocol.data_received(data))

    def lose(self, dice: random.Random, *, loses: bool) -> None:
        """The other end is gone: some of what it wrote last never comes, then this end hears of it."""
        for _ in range(dice.randint(0, len(self.coming)) if loses else 0):
            self.coming.popitem()
        loop = self._pipe.loop
        self._earliest_s = max(self._earliest_s, loop.time() + dice.choice((0.0, 0.001, 0.04)))
        loop.call_at(self._earliest_s + 1e-6, self._lost)

    def _lost(self) -> None:
        if not self.is_lost:
            while self.coming:
                self._arrive(None)
            self.is_lost = True
            self._guard(lambda: self.protocol.connection_lost(None))


class Pipe:
    """A connection. `near` is the worker's end, `far` the keeper's."""

    def __init__(
        self,
        loop: VirtualLoop,
        dice: random.Random,
        fate: Fate,
        failed: Callable[[str], None],
        *,
        in_order: bool,
    ) -> None:
        self.loop, self.dice, self.fate, self.in_order = loop, dice, fate, in_order
        self._failed = failed
        self.is_broken = self.is_stalled = False

    def join(self, near: Any, near_guard: Guard, far: Any, far_guard: Guard) -> Side:
        self.near, self.far = Side(self, near_guard), Side(self, far_guard)
        self.near.protocol, self.far.protocol = near, far
        self.near.peer, self.far.peer = self.far, self.near
        far_guard(lambda: far.connection_made(self.far))
        near_guard(lambda: near.connection_made(self.near))
        return self.near

    def break_(self, *, loses: bool = True) -> None:
        """Neither end sends any more. `loses`: perhaps not all arrives that was sent."""
        if not self.is_broken:
            self.is_broken = True
            self.near.lose(self.dice, loses=loses)
            self.far.lose(self.dice, loses=loses)

    def gave_up(self) -> None:
        self._failed("an end gave up its connection: it did not understand what it was told")
