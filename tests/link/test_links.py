"""Policies reach every worker, also one that was slow, and only the newest counts."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import orjson
import pytest

from gateway.link import control_end, worker_end
from gateway.link.control_end import WorkerLinks
from gateway.link.frames import (
    HELLO,
    KEEPER,
    LOG,
    LOGGED,
    PREPARE,
    PREPARED,
    SWITCH,
    SWITCHED,
    TRACE,
    FrameReader,
    frame,
)
from gateway.link.worker_end import ControlLink
from tests.running import eventually


async def no_answer(question: dict[str, Any]) -> dict[str, Any]:
    return {}


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
    links = WorkerLinks(lambda lines, settled: settled(), no_answer)
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


class SlowControl:
    """Control's end, in hand: it says what it has written when it is told to."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._server: asyncio.Server | None = None
        self.connections: asyncio.Queue[tuple[asyncio.StreamReader, asyncio.StreamWriter]] = asyncio.Queue()

    async def __aenter__(self) -> SlowControl:
        self._server = await asyncio.start_unix_server(self._connected, self._path)
        return self

    async def __aexit__(self, *_: object) -> None:
        assert self._server is not None
        self._server.close()

    async def _connected(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await self.connections.put((reader, writer))


async def lines_of(reader: asyncio.StreamReader, count: int) -> list[bytes]:
    """The lines that a worker sends, once there are `count`."""
    frames, lines = FrameReader(), b""
    while lines.count(b"\n") < count:
        for kind, payload in frames.feed(await asyncio.wait_for(reader.read(65536), 5)):
            lines += payload if kind == LOG else b""
    return lines.splitlines(keepends=True)


async def test_lines_that_a_dead_control_had_not_written_go_to_the_next(tmp_path: Path) -> None:
    dropped: list[int] = []
    link = ControlLink(str(tmp_path / "link"), 0, lambda tables: None, lambda hash_: None, dropped.append)
    async with SlowControl(tmp_path / "link") as control:
        await link.start()
        reader, writer = await control.connections.get()
        for line in (b"one\n", b"two\n", b"three\n"):
            link.log(line)
        assert await lines_of(reader, 3) == [b"one\n", b"two\n", b"three\n"]
        writer.write(frame(LOGGED, b"1"))
        await writer.drain()
        await eventually(lambda: link._sent == [b"two\n", b"three\n"])
        writer.close()
        link.log(b"four\n")
        reader, writer = await control.connections.get()
        assert await lines_of(reader, 3) == [b"two\n", b"three\n", b"four\n"]
        writer.write(frame(LOGGED, b"3"))
        await link.close()
        writer.close()
    assert dropped == []


async def test_lines_that_are_never_written_are_counted_at_the_end(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(worker_end, "CLOSE_S", 0.05)
    dropped: list[int] = []
    link = ControlLink(str(tmp_path / "link"), 0, lambda tables: None, lambda hash_: None, dropped.append)
    async with SlowControl(tmp_path / "link") as control:
        await link.start()
        reader, writer = await control.connections.get()
        link.log(b"one\n")
        await lines_of(reader, 1)
        link.log(b"two\n")
        await link.close()
        writer.close()
    assert dropped == [2]


async def test_policy_with_the_same_hash_and_other_secrets_is_taken_up(
    links: WorkerLinks, tmp_path: Path
) -> None:
    worker = await join(tmp_path)
    await links.switch({"hash": "same", "secret": "old"})
    worker.says(HELLO, index=0, pid=1)
    for secret in ("old", "new"):
        assert await worker.next() == (PREPARE, {"hash": "same", "secret": secret})
        worker.says(PREPARED, hash="same")
        assert await worker.next() == (SWITCH, {"hash": "same"})
        worker.says(SWITCHED, hash="same")
        if secret == "old":
            await asyncio.wait_for(links.all_switched(1), 5)
            switching = asyncio.ensure_future(links.switch({"hash": "same", "secret": "new"}))
    assert await switching == []


async def test_each_gets_only_the_secrets_it_needs(links: WorkerLinks, tmp_path: Path) -> None:
    worker, keeper = await join(tmp_path), await join(tmp_path)
    worker.says(HELLO, index=0, pid=1)
    keeper.says(HELLO, index=KEEPER, pid=2)
    await eventually(lambda: len(links.in_force()) == 1)
    tables = {
        "hash": "h1", "stamp": 5, "rules": [], "providers": [{"key": "sk-1"}],
        "store": {"redis": "redis://:pw@h"}, "alerts": {"secret": "s3cret"},
    }  # fmt: skip
    switching = asyncio.create_task(links.switch(tables))
    kind, told = await worker.next()
    assert (kind, set(told)) == (PREPARE, {"hash", "stamp", "rules", "providers"})
    kind, told = await keeper.next()
    assert (kind, set(told)) == (PREPARE, {"hash", "stamp", "rules", "store"})
    await switching


async def frames_of(reader: asyncio.StreamReader, kind: int, size: int) -> bytes:
    """The payloads of a kind that a worker sends, once they have this size."""
    frames, got = FrameReader(), b""
    while len(got) < size:
        for found, payload in frames.feed(await asyncio.wait_for(reader.read(65536), 5)):
            got += payload if found == kind else b""
    return got


async def test_traces_are_dropped_long_before_lines_of_the_log_and_are_sent_once(tmp_path: Path) -> None:
    dropped: list[int] = []
    lost: list[int] = []
    path = str(tmp_path / "link")
    link = ControlLink(path, 0, lambda tables: None, lambda hash_: None, dropped.append, lost.append)
    line = b"x" * 1023 + b"\n"
    for _ in range(2 << 10):
        link.trace(line)
        link.log(line)
    assert (sum(lost), dropped) == (1 << 10, [])
    async with SlowControl(tmp_path / "link") as control:
        await link.start()
        reader, writer = await control.connections.get()
        assert await frames_of(reader, TRACE, 1 << 20) == line * (1 << 10)
        writer.close()
        reader, writer = await control.connections.get()
        link.trace(b"after\n")
        assert await frames_of(reader, TRACE, 6) == b"after\n"
        writer.write(frame(LOGGED, b"%d" % (2 << 10)))
        await link.close()
    assert (sum(lost), dropped) == (1 << 10, [])
