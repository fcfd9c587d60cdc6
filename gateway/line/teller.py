"""The worker's dealings with the keeper: when what is said. Calls that wait share an exchange."""

from __future__ import annotations

import asyncio
import math
from collections.abc import Callable, Sequence

from gateway.clock import monotonic_s, now_s
from gateway.link.keeper_link import KeeperLink
from gateway.quota.contract import Reply
from gateway.quota.hold import UNDECIDED, Hold
from gateway.quota.purse import UNUSED
from gateway.quota.purses import Purses

TICK_S = 0.1
NEWS_S = 0.05
"""Rows and use are told after this long at most: reports are as old."""
REFUND_S = 0.005
"""What a shut purse got back leaves after this long: somebody else may need it."""
CLOSE_EVERY = 600
"""Ticks between looks for windows that ended."""
TIMEOUTS = 3
"""Asks in a row that were not answered in time: from then on nobody waits until something is."""
RESTART_S = 1.0
"""A keeper that went is there again after this long, so that calls wait for it rather than be refused."""


class Teller:
    """Sends exchanges of one worker's purses, one at a time. `clock`: seconds that never step; `wall`: of the
    day."""

    def __init__(
        self,
        loop: asyncio.AbstractEventLoop,
        purses: Purses,
        clock: Callable[[], float] = monotonic_s,
        wall: Callable[[], float] = now_s,
    ) -> None:
        self._clock = clock
        self._wall = wall
        self._loop = loop
        self._purses = purses
        self._link: KeeperLink | None = None
        self._store_is_up = False
        self._lost_s = -math.inf
        """When a keeper went whose store was up."""
        self.has_store = asyncio.Event()
        """Set once the store was up."""
        self.why_unfit = ""
        """Why strict budgets may not be used; "" if they may."""
        self._timer: asyncio.TimerHandle | None = None
        self._due_s = 0.0
        self._is_hurried = False
        self._late = 0
        self._ticks = 0
        self._tick = loop.call_later(TICK_S, self._on_tick)

    def join(self, link: KeeperLink) -> None:
        """From now on this is the link."""
        self._link = link

    @property
    def is_up(self) -> bool:
        """False if asking is of no use now."""
        if self._late >= TIMEOUTS:
            return False
        return self._store_is_up or self._clock() < self._lost_s + RESTART_S

    def hurry(self) -> None:
        """A call waits: what is to be said goes out when the callbacks of this turn have run, so that calls
        that came together share it."""
        if not self._is_hurried:
            self._is_hurried = True
            self._loop.call_soon(self._send)

    def later(self, delay_s: float = NEWS_S) -> None:
        """There is something to say, within this time."""
        if self._timer is not None and delay_s == NEWS_S:
            return
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

    def on_connected(self) -> None:
        self._late = 0
        self._purses.connected()
        self._send()

    def on_lost(self, dropped: Sequence[int]) -> None:
        if self._store_is_up:
            self._lost_s = self._clock()
        self._store_is_up = False
        self._purses.dropped(dropped)

    def on_store(self, is_up: bool, why: str) -> None:
        self._store_is_up, self.why_unfit = is_up, why
        self._lost_s = -math.inf
        if is_up:
            self._late = 0
            self.has_store.set()
            return
        for ask in self._purses.undecided():
            decided, ask.decided = ask.decided, None
            if decided is not None:
                decided(UNDECIDED)

    def on_reply(self, reply: Reply) -> None:
        link = self._link
        assert link is not None
        if reply.seq:
            self._late = 0
        for ask, outcome in self._purses.answered(reply, link.renewed_s, self._clock()):
            decided, ask.decided = ask.decided, None
            if decided is not None:
                decided(outcome)
            elif type(outcome) is Hold:
                # Whoever waited left while another was told.
                self._purses.settle(outcome, UNUSED)
        if self._purses.is_hurried:
            self._send()
        elif self._purses.has_refunds:
            self.later(REFUND_S)

    def on_recall(self, seq: int, buckets: Sequence[str]) -> None:
        self._purses.recalled(seq, buckets)
        self._send()

    def on_wet(self, buckets: Sequence[str]) -> None:
        self._purses.wet(buckets)

    # when things are sent

    def _on_time(self) -> None:
        self._timer = None
        self._send()

    def _on_tick(self) -> None:
        self._tick = self._loop.call_later(TICK_S, self._on_tick)
        wall_ms = int(self._wall() * 1000)
        self._purses.tick(self._clock(), wall_ms)
        self._ticks += 1
        if self._ticks % CLOSE_EVERY == 0 and self._link is not None:
            self._link.forget(self._purses.close_windows(wall_ms))
        self._send()

    def _send(self) -> None:
        self._is_hurried = False
        link = self._link
        if link is None or not link.is_free:
            return  # Its answer brings us here again, or the tick.
        exchange = self._purses.exchange(self._clock())
        if exchange is not None:
            link.send(exchange)

    def close(self) -> None:
        """The worker ends: what is left is said, and given back."""
        self._tick.cancel()
        if self._timer is not None:
            self._timer.cancel()
        self._purses.give_all_back()
        self._send()
