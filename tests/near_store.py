"""The store of limits and budgets in this process: the book itself, without a keeper, a file or a socket.

For tests of what is in front of the link. Messages are encoded and decoded as on the link, and arrive in the
loop's next turn. `link.keeper_link.KeeperLink` is what workers have.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import replace

from gateway.clock import monotonic_s, now_s
from gateway.link.keeper_link import Handler
from gateway.link.ledger import encode, exchange_of, reply_of
from gateway.quota.book import Book
from gateway.quota.contract import Exchange, Reply


class NearStore:
    """A book and the links to it."""

    def __init__(self) -> None:
        self.book = Book()
        self.links: dict[str, NearLink] = {}
        self.rows: list[Sequence[object]] = []
        self.is_up = True

    def link(self, owner: str, handler: Handler) -> NearLink:
        """A worker's link."""
        link = self.links[owner] = NearLink(self, owner, handler)
        asyncio.get_running_loop().call_soon(link.greet)
        return link

    def now_ms(self) -> int:
        return int(now_s() * 1000)

    def put(self, *, up: bool) -> None:
        """The store goes, or comes back."""
        self.is_up = up
        for link in self.links.values():
            link.handler.on_store(up, "")
            if up:
                link.go_on()

    def exchange(self, exchange: Exchange) -> Reply:
        """Decides; what would wait for a recall is recalled at once and decided again."""
        self.rows += exchange.rows
        return reply_of(encode(self.book.exchange(exchange, self.now_ms())))

    def free(self, bucket: str) -> int:
        """What is free of a bucket."""
        return self.book.balance(bucket, self.now_ms()).free

    def spent(self, bucket: str) -> int:
        """What is spent of it."""
        return self.book.balance(bucket, self.now_ms()).spent


class NearLink:
    """As `KeeperLink`, to a `NearStore`."""

    def __init__(self, store: NearStore, owner: str, handler: Handler) -> None:
        self._store = store
        self._owner = owner
        self.handler = handler
        self._seq = 0
        self._under_way: Exchange | None = None
        self._parked: dict[int, asyncio.TimerHandle] = {}
        self.is_connected = True
        self.renewed_s = -float("inf")
        self._sent_s = 0.0

    @property
    def is_free(self) -> bool:
        return self._under_way is None

    def greet(self) -> None:
        """The connection stands."""
        self.handler.on_store(self._store.is_up, "")
        self.handler.on_connected()

    def send(self, exchange: Exchange) -> None:
        assert self._under_way is None
        self._seq += 1
        said = replace(exchange, owner=self._owner, epoch=1, seq=self._seq)
        self._under_way = exchange_of(encode(said))
        self.go_on()

    def go_on(self) -> None:
        """Says what is under way, if the store is there."""
        if self._under_way is not None and self._store.is_up:
            self._sent_s = monotonic_s()
            asyncio.get_running_loop().call_soon(self._answer)

    def _answer(self) -> None:
        exchange = self._under_way
        if exchange is None or not self._store.is_up:
            return
        reply = self._store.exchange(exchange)
        self._under_way = None
        self.renewed_s = self._sent_s
        for bucket, recalls in reply.recalls.items():
            for recall in recalls:
                self._store.links[recall.owner].handler.on_recall(recall.seq, [bucket])
        wants = {want.id: want for want in exchange.wants}
        loop = asyncio.get_running_loop()
        for number in reply.parked:
            last = Exchange(self._owner, 1, 0, wants=[wants[number]], final=True)
            loop.call_later(0.002, lambda said=last: self.handler.on_reply(self._store.exchange(said)))
        reply.recalls = {}
        self.handler.on_reply(reply)
