"""A keeper in the test's own process, between real sockets: control's and its own."""

from __future__ import annotations

import json
import socket
from argparse import Namespace
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

from gateway.control.keeper import Keeper, Opener
from gateway.link.control_end import WorkerLinks
from gateway.link.keeper_queries import KeeperQueries
from gateway.quota.contract import Store
from gateway.telemetry.slots import SlotFile, read_slots
from tests.control.keeping.store import MemoryStore
from tests.control.keeping.worker import Worker
from tests.running import eventually


class House:
    """`keeper` and what stands around it; `store` is what it keeps."""

    def __init__(self, folder: Path, opener: Opener | None = None) -> None:
        self.folder = folder
        self.journals = folder / "journal"
        self.journals.mkdir(exist_ok=True)
        self.store: Any = MemoryStore(folder)
        self.links = WorkerLinks(lambda lines, settled: settled(), _no_answer)
        self.link = KeeperQueries(str(self.socket))
        SlotFile.create(folder / "slots", slots=64)
        self._opener = opener or self._open
        self.workers: list[Worker] = []
        self._policies = 0
        self.keeper = self._new_keeper()

    @property
    def socket(self) -> Path:
        return self.folder / "keeper.sock"

    def _new_keeper(self) -> Keeper:
        options = Namespace(
            state=str(self.folder),
            control_socket=str(self.folder / "control.sock"),
            keeper_socket_fd=_bound(self.socket).detach(),
            journals=str(self.journals),
            slots=str(self.folder / "slots"),
            recall_s=0.0,
        )
        return Keeper(options, self._opener)

    async def _open(self, table: Mapping[str, Any], state: Path) -> Store:
        return self.store

    async def policy(self, *rules: Mapping[str, Any], **store: Any) -> None:
        """Control puts these rules in force, and the keeper has taken them up."""
        self._policies += 1
        tables = {"hash": f"h{self._policies}", "stamp": self._policies, "rules": rules, "store": store}
        await self.links.switch(tables)
        await eventually(lambda: self.links.keeper_in_force() == tables["hash"])

    async def again(self) -> None:
        """The keeper ends and another takes its place; control lives on."""
        await self.keeper.finish()
        self.socket.unlink()
        self.keeper = self._new_keeper()
        await self.keeper.start()

    async def worker(self, name: str = "worker-0", epoch: int = 1, **how: Any) -> Worker:
        """One that is connected."""
        self.workers.append(await Worker.join(self.socket, name, epoch, **how))
        return self.workers[-1]

    def calls(self, call: str) -> list[dict[str, Any]]:
        """What the store was asked so far, of one kind."""
        file = self.folder / "calls.jsonl"
        lines = file.read_text().splitlines() if file.exists() else []
        return [said for said in map(json.loads, lines) if said.pop("call") == call]

    def metric(self, name: str) -> int:
        """A counter of the keeper's slots."""
        return next(values[0] for found, _, values in read_slots(self.folder / "slots") if found == name)


@asynccontextmanager
async def house(folder: Path, opener: Opener | None = None) -> AsyncIterator[House]:
    """A keeper that keeps a store, with no rules yet: one in memory, or what `opener` opens."""
    async with living(House(folder, opener)) as home:
        await home.policy()
        yield home


@asynccontextmanager
async def living(home: House) -> AsyncIterator[House]:
    """A house whose keeper runs; it has no policy yet."""
    await home.links.start(_bound(home.folder / "control.sock"))
    await home.keeper.start()
    home.link.start()
    yield home
    for worker in home.workers:
        worker.leave()
    await home.link.close()
    await home.keeper.finish()
    await home.links.close()


def rule(name: str, limit: int, **more: Any) -> dict[str, Any]:
    """A row of a policy's `rules` table: calls at once."""
    plain = {"kind": "slots", "burst": limit, "window_ms": 0, "mode": "enforce", "strict": False}
    return {"name": name, "limit": limit, **plain, **more}


def _bound(path: Path) -> socket.socket:
    listener = socket.socket(socket.AF_UNIX)
    listener.bind(str(path))
    listener.listen()
    return listener


async def _no_answer(question: dict[str, Any]) -> dict[str, Any]:
    return {}
