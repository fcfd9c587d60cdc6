"""Control's end of the links to the workers: ships policies in two phases, takes log lines."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Awaitable, Callable, Mapping
from contextlib import suppress
from functools import partial
from typing import Any, cast

import orjson

from gateway.link.frames import (
    ASK,
    DRIFT,
    HELLO,
    KEEPER,
    LOG,
    LOGGED,
    PREPARE,
    PREPARED,
    REPLY,
    SWITCH,
    SWITCHED,
    TRACE,
    FrameReader,
    frame,
)

Answerer = Callable[[dict[str, Any]], Awaitable[dict[str, Any]]]
"""Answers a worker's question; may be asked the same one twice."""

KEEPERS = ("hash", "stamp", "rules", "store")
"""The tables that the keeper is given: keys of providers are not in them."""
SECRETS = ("store", "alerts", "drift_watch")
"""The tables that workers are not given: the password of the store, the secrets of alerts and of hashes."""

PREPARE_S = 2.0
"""How long a worker may take to build a snapshot; one that takes longer gets it when it answers."""


class WorkerLinks:
    """The workers that are connected, and the policy that all of them should have.

    `on_log` takes whole lines and what it is to call, from any thread, when they are settled; `on_trace`
    whole lines, each the trace of a call; `on_answers` answers to be looked at (`link.answers`).
    """

    def __init__(
        self,
        on_log: Callable[[bytes, Callable[[], None]], None],
        answerer: Answerer,
        on_trace: Callable[[bytes], None] = lambda lines: None,
        on_answers: Callable[[bytes], None] = lambda payload: None,
    ) -> None:
        self._on_log = on_log
        self.trace = on_trace
        self.answers = on_answers
        self._answerer = answerer
        self._answering: set[asyncio.Task[None]] = set()
        self._ends: set[_End] = set()
        self._tables = self._keepers = b""
        self._hash = ""
        self._server: asyncio.Server | None = None
        self._switched = asyncio.Event()

    async def start(self, listener: socket.socket) -> None:
        """Takes connections on the Unix socket that the supervisor keeps open."""
        loop = asyncio.get_running_loop()
        self._server = await loop.create_unix_server(lambda: _End(self), sock=listener)

    async def close(self) -> None:
        """Stops taking connections and closes those there are."""
        if self._server is not None:
            self._server.close()
        for end in list(self._ends):
            end.close()

    async def switch(self, tables: Mapping[str, Any]) -> list[int]:
        """Two phases: every worker, and the keeper, builds what it needs of the policy, then all take it up.

        Returns the indexes of workers that did not build it in time; they get it when they do.
        """
        self._hash = tables["hash"]
        self._tables = orjson.dumps({name: table for name, table in tables.items() if name not in SECRETS})
        self._keepers = orjson.dumps({name: tables[name] for name in KEEPERS if name in tables})
        # The keeper first: workers that go by the new policy should find its limits there.
        ends = sorted((end for end in self._ends if end.index is not None), key=lambda end: end.is_worker)
        waits = [end.prepare(self._tables_of(end), self._hash) for end in ends]
        if waits:
            await asyncio.wait(waits, timeout=PREPARE_S)
        for end in ends:
            if end.prepared == self._hash:
                end.switch(self._hash)
            else:
                end.wants_switch = True
        return sorted(
            end.index
            for end in ends
            if end.index is not None and end.is_worker and end.prepared != self._hash
        )

    def in_force(self) -> dict[int, str]:
        """Worker index → hash of the policy it uses ("" before its first)."""
        ends = list(self._ends)  # metrics are read in another thread
        return {end.index: end.switched for end in ends if end.index is not None and end.is_worker}

    def processes(self) -> list[tuple[str, int]]:
        """(what it is, process id) of everybody who is connected."""
        return [
            ("worker" if end.is_worker else "keeper", end.pid)
            for end in list(self._ends)
            if end.index is not None
        ]

    def keeper_in_force(self) -> str:
        """The hash of the policy that the keeper uses; "" before its first, and while there is no keeper."""
        return next((end.switched for end in self._ends if end.index == KEEPER), "")

    async def all_switched(self, workers: int) -> None:
        """Waits until that many workers use the policy that was shipped last."""
        while sum(used == self._hash for used in self.in_force().values()) < workers:
            self._switched.clear()
            await self._switched.wait()

    def switched(self) -> None:
        """A worker took up a policy."""
        self._switched.set()

    def joined(self, end: _End) -> None:
        """A worker said who it is: it gets the policy in force."""
        if self._tables:
            end.prepare(self._tables_of(end), self._hash)
            end.wants_switch = True

    def _tables_of(self, end: _End) -> bytes:
        return self._keepers if end.index == KEEPER else self._tables

    def add(self, end: _End) -> None:
        self._ends.add(end)

    def discard(self, end: _End) -> None:
        self._ends.discard(end)

    def log(self, lines: bytes, settled: Callable[[], None]) -> None:
        self._on_log(lines, settled)

    def ask(self, end: _End, question: dict[str, Any]) -> None:
        """Has a worker's question answered, in a task of its own."""
        task = asyncio.get_running_loop().create_task(self._answer(end, question))
        self._answering.add(task)
        task.add_done_callback(self._answering.discard)

    async def _answer(self, end: _End, question: dict[str, Any]) -> None:
        end.reply({**await self._answerer(question), "n": question["n"]})


class _End(asyncio.Protocol):
    """One worker's connection, or the keeper's."""

    def __init__(self, links: WorkerLinks) -> None:
        self._links = links
        self._reader = FrameReader()
        self._loop = asyncio.get_running_loop()
        self._transport: asyncio.Transport = cast(asyncio.Transport, None)
        self._answer: asyncio.Future[None] | None = None
        self._asked = ""
        self.index: int | None = None
        self.pid = 0
        self.prepared = ""
        self.switched = ""
        self.wants_switch = False

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)
        self._links.add(self)

    def connection_lost(self, exc: Exception | None) -> None:
        self._links.discard(self)
        self._answered()

    def data_received(self, data: bytes) -> None:
        try:
            for kind, payload in self._reader.feed(data):
                self._take(kind, payload)
        except ValueError:
            self._transport.abort()

    def _take(self, kind: int, payload: bytes) -> None:
        if kind == LOG:
            self._links.log(payload, partial(self._settled, payload.count(b"\n")))
            return
        if kind == TRACE:
            self._links.trace(payload)
            return
        if kind == DRIFT:
            self._links.answers(payload)
            return
        message = orjson.loads(payload)
        if kind == HELLO:
            self.index, self.pid = message["index"], message["pid"]
            self._links.joined(self)
        elif kind == PREPARED:
            if message["hash"] != self._asked:
                return  # an answer to a policy that was overtaken by the next
            if "error" not in message:
                self.prepared = message["hash"]
            self._answered()
            if self.wants_switch and self.prepared:
                self.switch(self.prepared)
        elif kind == ASK:
            self._links.ask(self, message)
        elif kind == SWITCHED:
            self.switched = message["hash"]
            self._links.switched()

    @property
    def is_worker(self) -> bool:
        return self.index is not None and self.index != KEEPER

    def prepare(self, tables: bytes, hash_: str) -> asyncio.Future[None]:
        """Sends a policy; done when the worker answered or left."""
        self._answered()
        self._answer = answer = asyncio.get_running_loop().create_future()
        self._asked = hash_
        self.prepared, self.wants_switch = "", False
        self._transport.write(frame(PREPARE, tables))
        return answer

    def switch(self, hash_: str) -> None:
        """Has the worker take up what it prepared."""
        self.wants_switch = False
        self._transport.write(frame(SWITCH, orjson.dumps({"hash": hash_})))

    def reply(self, answer: dict[str, Any]) -> None:
        """Answers a question, if the worker is still there; another connection of its would ask again."""
        if not self._transport.is_closing():
            self._transport.write(frame(REPLY, orjson.dumps(answer)))

    def _settled(self, lines: int) -> None:
        """Called by the thread that writes the log, perhaps when this one has ended."""
        with suppress(RuntimeError):
            self._loop.call_soon_threadsafe(self._acknowledge, lines)

    def _acknowledge(self, lines: int) -> None:
        if not self._transport.is_closing():
            self._transport.write(frame(LOGGED, b"%d" % lines))

    def close(self) -> None:
        self._transport.close()

    def _answered(self) -> None:
        if self._answer is not None and not self._answer.done():
            self._answer.set_result(None)
