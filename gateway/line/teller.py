"""The worker's dealings with the keeper: when what is said. Calls that wait share an exchange."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import Protocol

from gateway.clock import monotonic_s, now_s
from gateway.quota.contract import Exchange, Reply
from gateway.quota.purses import Purses
from gateway.telemetry.diagnostics import report

TICK_S = 0.1
NEWS_S = 0.05
"""Rows and use are told after this long at most: reports are as old."""
REFUND_S = 0.005
"""What a shut purse got back leaves after this long: somebody else may need it."""
CLOSE_EVERY = 600
"""Ticks between looks for windows that ended."""
TIMEOUTS = 3
"""Asks in a row that were not answered in time: from then on nobody waits until something is."""


class Link(Protocol):
    """The worker's end of the ledger link (`link.keeper_line.LedgerLink`)."""

    is_up: bool
    """True if the keeper is there, and says that the store answers."""

    def send(self, exchange: Exchange) -> None: ...


class Teller:
    """Sends exchanges of one worker's purses, one at a time."""

    def __init__(self, loop: asyncio.AbstractEventLoop, purses: Purses) -> None:
        self._loop = loop
        self._purses = purses
        self._link: Link | None = None
        self._timer: asyncio.TimerHandle | None = None
        self._due_s = 0.0
        self._is_hurried = False
        self._late = 0
        self._ticks = 0
        self._tick = loop.call_later(TICK_S, self._on_tick)

    def join(self, link: Link) -> None:
        """From now on this is the link."""
        self._link = link

    @property
    def is_up(self) -> bool:
        """False if asking is of no use now."""
        return self._link is not None and self._link.is_up and self._late < TIMEOUTS

    def hurry(self) -> None:
        """A call waits: what is to be said goes out when the callbacks of this turn have run, so that calls
        that came together share it."""
        if not self._is_hurried:
            self._is_hurried = True
            self._loop.call_soon(self._send)

    def later(self, delay_s: float = NEWS_S) -> None:
        """There is something to say, within this time."""
        due_s = self._loop.time() + delay_s
        if self._timer is None:
            self._due_s = due_s
            self._timer = self._loop.call_later(delay_s, self._on_time)
        elif due_s < self._due_s - 0.001:
            self._timer.cancel()
            self._due_s = due_s
            self._timer = self._loop.call_later(delay_s, self._on_time)

    def too_late(self) -> None:
        """An ask was not answered in its time."""
        self._late += 1

    # what the link tells

    def on_connected(self) -> dict[str, int]:
        """The link stands: what we were given in all, by bucket, for the greeting."""
        return self._purses.connected()

    def on_greeted(self) -> Exchange | None:
        """The greeting went out: the exchange that was under way, to be sent again; else the next one."""
        self._late = 0
        return self._purses.again() or self._purses.exchange(monotonic_s())

    def on_reply(self, reply: Reply) -> None:
        """The store answered."""
        if reply.seq:
            self._late = 0
        for ask, outcome in self._purses.answered(reply, monotonic_s()):
            decided, ask.decided = ask.decided, None
            if decided is not None:
                try:
                    decided(outcome)
                except Exception as error:
                    report(error)
        if self._purses.is_hurried:
            self._send()

    def on_recall(self, buckets: Sequence[str]) -> None:
        """Somebody waits for these."""
        self._purses.recalled(buckets)
        self._send()

    def on_wet(self, buckets: Sequence[str]) -> None:
        """There may be something of these again."""
        self._purses.wet(buckets)

    # when things are sent

    def _on_time(self) -> None:
        self._timer = None
        self._send()

    def _on_tick(self) -> None:
        self._tick = self._loop.call_later(TICK_S, self._on_tick)
        wall_ms = int(now_s() * 1000)
        self._purses.tick(monotonic_s(), wall_ms)
        self._ticks += 1
        if self._ticks % CLOSE_EVERY == 0:
            self._purses.close_windows(wall_ms)
        self._send()

    def _send(self) -> None:
        self._is_hurried = False
        if self._link is None or not self._link.is_up:
            return
        exchange = self._purses.exchange(monotonic_s())
        if exchange is not None:
            self._link.send(exchange)

    async def close(self) -> None:
        """Says what is left to say, for at most a second."""
        self._tick.cancel()
        deadline_s = self._loop.time() + 1.0
        self._purses.give_all_back()
        while self._purses.is_behind and self._loop.time() < deadline_s:
            self._send()
            await asyncio.sleep(0.005)
        if self._timer is not None:
            self._timer.cancel()
