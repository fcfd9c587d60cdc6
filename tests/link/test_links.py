"""Policies reach every worker, also one that was slow, and only the newest counts."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import AsyncIterator
from pathlib import Path

import orjson
import pytest

from gateway.link import control_end
from gateway.link.control_end import WorkerLinks
from gateway.link.frames import HELLO, PREPARE, PREPARED, SWITCH, SWITCHED, FrameReader, frame


class SlowWorker:
    """A worker that answers when it is told to."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._reader, self._writer = reader, writer
        self._frames = FrameReader()
        self._got: list[tuple[int, bytes]] = []

    async def next(self) -> tuple[int, dict[str, str]]:
        while not self._got:
            self._got += self._frames.feed(await asyncio.wait_for(self._reader.read(65536), 5))
        kind, payload = self._got.pop(0)
        return kind, orjson.loads(payload)

    def says(self, kind: int, **message: object) -> None:
        self._writer.write(frame(kind, orjson.dumps(message)))


@pytest.fixture
async def links(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[WorkerLinks]:
    monkeypatch.setattr(control_end, "PREPARE_S", 0.05)
    links = WorkerLinks(lambda lines, settled: settled())
    listener = socket.socket(socket.AF_UNIX)
    listener.bind(str(tmp_path / "link"))
    listener.listen()
    await links.start(listener)
    yield links
    await links.close()


async def join(tmp_path: Path) -> SlowWorker:
    return SlowWorker(*await asyncio.open_unix_connection(tmp_path / "link"))


async def test_slow_worker_takes_the_policy_up_when_it_is_ready(links: WorkerLinks, tmp_path: Path) -> None:
    worker = await join(tmp_path)
    await links.switch({"hash": "first"})
    worker.says(HELLO, index=0, pid=1)
    assert await worker.next() == (PREPARE, {"hash": "first"})
    assert await links.switch({"hash": "second"}) == [0]
    assert await worker.next() == (PREPARE, {"hash": "second"})
    worker.says(PREPARED, hash="first")
    worker.says(PREPARED, hash="second")
    assert await worker.next() == (SWITCH, {"hash": "second"})
    worker.says(SWITCHED, hash="second")
    await asyncio.wait_for(links.all_switched(1), 5)
    assert links.in_force() == {0: "second"}
