"""The worker's end of the ledger link, in hand: what it says and what it is told."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import orjson

from gateway.link.frames import FrameReader, frame
from gateway.link.ledger import ANSWER, EXCHANGE, OWNER, STORE, encode, reply_of
from gateway.quota.contract import Exchange, Reply, Want

BUCKET = "calls|all|"


class Worker:
    """One connection. Messages are read in the order in which they come."""

    def __init__(
        self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, name: str, epoch: int
    ) -> None:
        self._reader, self._writer = reader, writer
        self._frames = FrameReader()
        self._got: list[tuple[int, bytes]] = []
        self.name, self.epoch, self.seq = name, epoch, 0

    @classmethod
    async def join(
        cls, path: Path, name: str = "worker-0", epoch: int = 1, *, journal: Path | str = "", up: bool = True
    ) -> Worker:
        """Connects, says who it is, and waits until it is told that the store is up (or down)."""
        worker = cls(*await asyncio.open_unix_connection(path), name, epoch)
        said = {"owner": name, "epoch": epoch, "journal": str(journal or "/nowhere"), "got": {}, "seq": 0}
        worker.say(OWNER, said)
        while (await worker.told(STORE))["up"] is not up:
            pass
        return worker

    def say(self, kind: int, message: object) -> None:
        self._writer.write(frame(kind, orjson.dumps(message)))

    def send(self, *, again: bool = False, **said: Any) -> int:
        """An exchange, without waiting for its answer; its number."""
        self.seq += not again
        self._writer.write(frame(EXCHANGE, encode(Exchange(self.name, self.epoch, self.seq, **said))))
        return self.seq

    async def exchange(self, **said: Any) -> Reply:
        """An exchange and its answer."""
        self.send(**said)
        return await self.answer()

    async def wants(self, number: int, **needs: int) -> Reply:
        """Asks for `bucket=amount`."""
        return await self.exchange(wants=[want(number, needs)])

    async def next(self) -> tuple[int, bytes]:
        """The next message, whatever it is."""
        while not self._got:
            data = await asyncio.wait_for(self._reader.read(1 << 16), 5)
            if not data:
                raise EOFError
            self._got += self._frames.feed(data)
        return self._got.pop(0)

    async def answer(self) -> Reply:
        """The next message, which is an answer."""
        kind, payload = await self.next()
        assert kind == ANSWER, (kind, payload)
        return reply_of(payload)

    async def told(self, kind: int) -> Any:
        """The next message, which is of this kind."""
        found, payload = await self.next()
        assert found == kind, (found, payload)
        said = orjson.loads(payload)
        if kind == STORE:
            del said["n"]
        return said

    async def is_told_nothing(self) -> bool:
        """True if nothing came before the answer to an exchange that is sent now."""
        self.send()
        return (await self.next())[0] == ANSWER

    def leave(self) -> None:
        self._writer.transport.abort()


def want(number: int, needs: Mapping[str, int], deposit: Mapping[str, int] | None = None) -> Want:
    """A want of the key `app`; a bucket is named by its rule alone."""
    return Want(number, "app", full(needs), full(deposit or {}))


def full(amounts: Mapping[str, int]) -> dict[str, int]:
    """Rule → amount as bucket → amount."""
    return {f"{rule}|all|": amount for rule, amount in amounts.items()}


def named(rules: Sequence[str]) -> list[str]:
    """Buckets by the names of their rules."""
    return [f"{rule}|all|" for rule in rules]
