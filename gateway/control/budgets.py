"""The balances of budgets and limits that the keeper told last, kept fresh while somebody looks at them."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Iterable, Sequence
from typing import Any, Protocol

from gateway.clock import monotonic_s
from gateway.control.exposition import Sample
from gateway.control.standing import Standing, Table, gauges, limit_gauges, standings, window_gauges
from gateway.link.keeper_queries import NoAnswer
from gateway.telemetry.diagnostics import report

POLL_S = 1.0
SHARE = 20
"""A poll is followed by a pause of 20 times what it took: with 50,000 buckets, 0.3 s, that is 6 s, and the
keeper spends less than 5 % of its time on it."""
MOST_LIMITS = 50
"""Limits whose fill is asked for: each is a question."""
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
        self._limits: Sequence[Standing] = ()

    def look(self) -> None:
        """Somebody looks at `samples`. Returns at once."""
        self._looked_s = monotonic_s()
        self._looked.set()

    def samples(self) -> Iterable[Sample]:
        """The gauges as of the last poll. May be called from any thread."""
        now_ms = self._now_ms()
        found = self.standings()
        return [*gauges(found, now_ms), *window_gauges(self._rules(), now_ms), *limit_gauges(found)]

    def standings(self) -> list[Standing]:
        """Budgets in their windows under way, and limits, as of the last poll; of the policy in force."""
        now_ms, names = self._now_ms(), {rule["name"] for rule in self._rules()}
        return [
            each
            for each in (*self._last, *self._limits)
            if each.rule["name"] in names and each.is_current(now_ms)
        ]

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
        rules = self._rules()
        if any(_is_money(rule) for rule in rules):
            self._last = await self._standings(
                [rule for rule in rules if _is_money(rule)], rule="", money=True
            )
            await self._seen(self._last)
        limits = [rule for rule in rules if not _is_money(rule) and not _OF_MANY.intersection(rule["per"])]
        found: list[Standing] = []
        for rule in limits[:MOST_LIMITS]:
            found += await self._standings([rule], rule=rule["name"], money=False)
        self._limits = found

    async def _standings(self, rules: Sequence[Table], **query: Any) -> list[Standing]:
        balances = await self._keeper.ask("balances", **query)
        return await asyncio.to_thread(lambda: list(standings(rules, balances, self._now_ms())))

    def _is_wanted(self) -> bool:
        return bool(self._rules()) and (self._is_watching() or monotonic_s() - self._looked_s < LOOKED_S)

    async def _somebody_looks(self) -> None:
        """Until then, or for a second: a policy may have brought budgets."""
        self._looked.clear()
        try:
            async with asyncio.timeout(POLL_S):
                await self._looked.wait()
        except TimeoutError:
            return


_OF_MANY = frozenset({"user", "tag"})
"""Subjects that callers make up: a limit per user may have 10,000 buckets."""


def _is_money(rule: Table) -> bool:
    return bool(rule["measure"] == "usd")
