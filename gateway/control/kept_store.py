"""The store as the keeper has it: opened when it is known which, asked, and known to be up or down."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import TypeVar

from gateway.clock import monotonic_s
from gateway.quota.contract import Event, Store, StoreDown, StoreLate
from gateway.telemetry.diagnostics import report, say
from gateway.telemetry.meters import KeeperMeters

T = TypeVar("T")
Call = Callable[[Store], Awaitable[T]]

FIRST_RETRY_S, LONGEST_RETRY_S = 0.1, 0.25
REPORT_S = 5.0
"""An error that is no outage is reported as often, however often it comes again."""


class KeptStore:
    """One store. `on_change` is called when it goes down or comes up, or may not be used or may again."""

    def __init__(self, meters: KeeperMeters, on_change: Callable[[], None]) -> None:
        self._meters = meters
        self._on_change = on_change
        self._store: Store | None = None
        self._is_up = False
        self._why = ""
        self._reported_s = -REPORT_S
        meters.store_is_up(False)

    @property
    def why(self) -> str:
        """Why it may not be used for strict budgets; "" if it may."""
        return self._why

    @property
    def is_open(self) -> bool:
        return self._store is not None

    def state(self) -> dict[str, bool | str]:
        """What workers and control are told (`link.ledger.STORE`)."""
        return {"up": self._is_up, "why": self._why}

    async def open(self, opened: Callable[[], Awaitable[Store]]) -> None:
        """Opens it, again and again while it is down. Raises what else prevents that."""
        self._store = await self._opened(opened)

    def use(self) -> None:
        """It is open, examined, and up until it turns out not to be."""
        self._set(True)

    async def ask(self, call: Call[T], *, is_reading: bool = False) -> T:
        """One question. Raises `StoreDown`, also if the store is not open yet. One that only reads does not
        show that the store is up: it may be read-only, or full."""
        if self._store is None:
            raise StoreDown("the store is not open")
        self._meters.round_trip()
        asked_s = monotonic_s()
        try:
            answer = await call(self._store)
        except StoreLate:
            raise
        except StoreDown as error:
            self._set(False, str(error))
            raise
        self._meters.answered(monotonic_s() - asked_s)
        if not is_reading:
            self._set(True)
        return answer

    async def insist(self, ask: Callable[[], Awaitable[T]], is_wanted: Callable[[], bool]) -> T | None:
        """Asks (`ask`) once, and again and again until the store answers; None when nobody wants it any more.
        It must be a question that may be asked twice. Raises KeyError.

        A store that is late was waited for already: those whose calls wait are told that it is down when it
        is so several times. (A race of 1,000 callers on two cores: 592 of 6,000 calls were refused when Redis
        took 0.1 s once.)"""
        wait_s = FIRST_RETRY_S
        while True:
            try:
                return await ask()
            except StoreLate:
                if is_wanted():
                    continue
            except StoreDown:
                pass
            except KeyError:
                raise
            except Exception as error:
                # A bug, or a disk that fails in a new way: whatever it is, what workers said is not lost.
                self._complain(error)
            if not is_wanted():
                return None
            await asyncio.sleep(wait_s)
            wait_s = min(LONGEST_RETRY_S, 1.5 * wait_s)

    async def examine(self, *, must_last: bool) -> None:
        """Asks whether what is written here lasts, where it must: for strict budgets. They are refused if it
        does not; all else goes on."""
        if self._store is None:
            return
        try:
            unfit = await self._store.unfit() if must_last else ""
        except StoreDown:
            return  # it is examined again
        if unfit == self._why:
            return
        self._why = unfit
        if unfit:
            say(
                f"strict budgets are refused, for the store may lose what it is told: {unfit}. Change "
                "its settings, or accept it as it is: `accept_lossy_store: true` under `store` of the policy"
            )
        else:
            say("the store keeps what it is told: strict budgets are in force again")
        self._on_change()

    def events(self) -> AsyncIterator[Event]:
        """What owners of other hosts caused; of an open store."""
        assert self._store is not None
        return self._store.events()

    async def close(self) -> None:
        """Closes it, if it was opened."""
        if self._store is not None:
            await self._store.close()

    @staticmethod
    async def _opened(opened: Callable[[], Awaitable[Store]]) -> Store:
        wait_s = FIRST_RETRY_S
        while True:
            try:
                return await opened()
            except StoreDown:
                await asyncio.sleep(wait_s)
                wait_s = min(LONGEST_RETRY_S, 1.5 * wait_s)

    def _complain(self, error: Exception) -> None:
        now_s = monotonic_s()
        if now_s - self._reported_s >= REPORT_S:
            self._reported_s = now_s
            report(error)

    def _set(self, is_up: bool, why: str = "") -> None:
        if is_up == self._is_up:
            return
        self._is_up = is_up
        self._meters.store_is_up(is_up)
        if not is_up:
            self._meters.outage()
            say(f"the store of limits and budgets does not answer{why and f': {why}'}")
        self._on_change()
