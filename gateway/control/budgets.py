"""The balances that the keeper told last, kept fresh while somebody looks at them."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Iterable, Sequence
from typing import Any, Protocol

from gateway.clock import monotonic_s
from gateway.control.exposition import Sample
from gateway.control.standing import Standing, Table, gauges, standings
from gateway.link.keeper_queries import NoAnswer
from gateway.telemetry.diagnostics import report

POLL_S = 1.0
SHARE = 20
"""A poll is followed by a pause of 20 times what it took: with 50,000 buckets, 0.3 s, that is 6 s, and the
keeper spends less than 5 % of its time on it."""
LOOKED_S = 120.0
"""How long after a scrape balances are kept fresh: twice the usual longest interval of scrapers."""


class Asks(Protocol):
    """The way to the keeper; `link.keeper_queries.KeeperQueries` is one."""

    async def ask(self, what: str, *, within_s: float = ..., **details: Any) -> Any:
        """Its answer to a query of `link.ledger`. Raises `NoAnswer`."""


class Budgets:
    """Polls the balances of budgets, at most once a second.

    `rules` gives the rules in force; `now_ms` the time; `seen` is told every poll's standings, and asked for
    whether it wants polls although nobody looks.
    """

    def __init__(
        self,
        keeper: Asks,
        rules: Callable[[], Sequence[Table]],
        now_ms: Callable[[], int],
        seen: Callable[[Sequence[Standing]], Awaitable[None]],
        is_watching: Callable[[], bool],
    ) -> None:
        self._keeper = keeper
        self._rules = rules
        self._now_ms = now_ms
        self._seen = seen
        self._is_watching = is_watching
        self._looked = asyncio.Event()
        self._looked_s = float("-inf")
        self._last: Sequence[Standing] = ()

    def look(self) -> None:
        """Somebody looks at `samples`. Returns at once."""
        self._looked_s = monotonic_s()
        self._looked.set()

    def samples(self) -> Iterable[Sample]:
        """The gauges as of the last poll. May be called from any thread."""
        return gauges(self._last, self._now_ms())

    async def run(self) -> None:
        """For ever. While the keeper does not answer, what it told last stays."""
        while True:
            began_s = monotonic_s()
            try:
                if self._is_wanted():
                    await self.poll()
            except NoAnswer:
                pass
            except Exception as error:
                report(error)
            took_s = monotonic_s() - began_s
            if self._is_wanted():
                await asyncio.sleep(max(POLL_S, SHARE * took_s) - took_s)
            else:
                await self._somebody_looks()

    async def poll(self) -> None:
        """Asks once. Raises `NoAnswer`."""
        balances = await self._keeper.ask("balances", rule="", money=True)
        money = [rule for rule in self._rules() if rule["measure"] == "usd"]
        self._last = await asyncio.to_thread(lambda: list(standings(money, balances, self._now_ms())))
        await self._seen(self._last)

    def _is_wanted(self) -> bool:
        has_budgets = any(rule["measure"] == "usd" for rule in self._rules())
        return has_budgets and (self._is_watching() or monotonic_s() - self._looked_s < LOOKED_S)

    async def _somebody_looks(self) -> None:
        """Until then, or for a second: a policy may have brought budgets."""
        self._looked.clear()
        try:
            async with asyncio.timeout(POLL_S):
                await self._looked.wait()
        except TimeoutError:
            return
