"""A worker's side of the ledger link as a worker uses it: `KeeperLink` and what it was told."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from gateway.link.keeper_link import KeeperLink
from gateway.quota.contract import Exchange, Reply, Terms, Want
from gateway.quota.row import Row

SLOTS = Terms("slots", 10)
MONEY = Terms("money", 1000)


class Purse:
    """Keeps every word of the keeper, in order: (what, details). Answers recalls with `idle`."""

    def __init__(self, socket: Path, owner: str, epoch: int = 1, journal: Path | str = "") -> None:
        self.link = KeeperLink(str(socket), owner, epoch, str(journal), self)
        self.told: list[tuple[str, Any]] = []
        self.replies: list[Reply] = []
        self.returned: dict[str, int] = {}
        self.idle: dict[str, int] = {}
        self.answers_recalls = True
        self._news = asyncio.Event()
        self._decided = 0

    def on_connected(self) -> None:
        self._note("connected", None)

    def on_lost(self, dropped: Sequence[int]) -> None:
        self._note("lost", list(dropped))

    def on_reply(self, reply: Reply) -> None:
        self.replies.append(reply)
        self._note("reply", reply)

    def on_recall(self, seq: int, buckets: Sequence[str]) -> None:
        self._note("recall", list(buckets))
        for bucket in buckets:
            self.returned[bucket] = self.returned.get(bucket, 0) + self.idle.pop(bucket, 0)
        if self.answers_recalls:
            self.link.send(Exchange("", 0, 0, returned=self.returned, acks=buckets))

    def on_wet(self, buckets: Sequence[str]) -> None:
        self._note("wet", list(buckets))

    def on_store(self, is_up: bool, why: str) -> None:
        self._note("store", (is_up, why))

    def _note(self, what: str, details: Any) -> None:
        self.told.append((what, details))
        self._news.set()

    async def until(self, holds: Callable[[], object]) -> None:
        """Waits until something that was told makes `holds` true."""
        async with asyncio.timeout(10):
            while not holds():
                self._news.clear()
                await self._news.wait()

    def heard(self, what: str) -> list[Any]:
        """The details of all words of a kind."""
        return [details for found, details in self.told if found == what]

    async def hears(self, what: str, times: int = 1) -> Any:
        """Waits until something was told so many times in all; that time's details."""
        await self.until(lambda: len(self.heard(what)) >= times)
        return self.heard(what)[times - 1]

    async def up(self) -> Purse:
        """Starts, and waits until the store is up."""
        await self.link.start()
        await self.until(lambda: (True, "") in self.heard("store"))
        return self

    async def exchange(self, **said: Any) -> Reply:
        """One exchange and its reply."""
        count = len(self.replies)
        self.link.send(Exchange("", 0, 0, **said))
        await self.until(lambda: any(reply.seq for reply in self.replies[count:]))
        return next(reply for reply in self.replies[count:] if reply.seq)

    async def decided(self) -> Reply:
        """The next answer to parked wants."""
        count = self._decided
        self._decided += 1
        await self.until(lambda: len([reply for reply in self.replies if not reply.seq]) > count)
        return [reply for reply in self.replies if not reply.seq][count]

    async def hoards(self, bucket: str, amount: int) -> None:
        """Has that much of a budget idle in its purse, which is open."""
        reply = await self.exchange(terms=money(bucket), wishes={bucket: amount})
        assert reply.slices == {bucket: amount}, reply
        self.idle[bucket] = amount

    async def close(self) -> None:
        await self.link.close()


def want(number: int, needs: dict[str, int], deposit: dict[str, int] | None = None) -> Want:
    return Want(number, "app", needs, deposit or {})


def money(*buckets: str) -> dict[str, Terms]:
    """The terms of budgets of 1,000."""
    return dict.fromkeys(buckets, MONEY)


def slots(*buckets: str) -> dict[str, Terms]:
    """The terms of buckets of ten calls at once."""
    return dict.fromkeys(buckets, SLOTS)


def row(number: int, bucket: str, charge: int = 1) -> Row:
    """The usage row of a call that cost so many nano-dollars, posted to one budget."""
    tokens = (10, 0, 0, 0, 5, 0, 0)
    names = ("app", "search", "fast", "openai/gpt-4o")
    return Row(1000 + number, f"{bucket}{number}", 1, *names, 200, "ok", *tokens, charge, 0, {bucket: charge})
