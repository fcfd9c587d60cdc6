"""A worker's line in this process, with real sockets on both sides: a test costs milliseconds."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable, Mapping
from contextlib import AsyncExitStack
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import aiohttp

from gateway.control.objects import StoredObjects
from gateway.http.server import CallerServer
from gateway.line.limits import Ledger
from gateway.line.teller import Teller
from gateway.line.worker import Ask, Line
from gateway.link.journal import Journal
from gateway.link.target_table import TargetTable
from gateway.link.traces import unpack
from gateway.policy.compile import compile_policy
from gateway.policy.load import load_text, secret_reader
from gateway.policy.sampling import Sampling
from gateway.pricing.catalogue import Catalogue
from gateway.quota.purses import Purses
from gateway.telemetry.slots import SlotFile, read_slots
from tests.near_store import NearStore
from tests.running import KEY, SECRET, eventually

AT = datetime(2026, 11, 20, 12, tzinfo=UTC)
CHAT = {"model": "gpt-4o-mini", "messages": [{"role": "user", "content": "Where is the river?"}]}


@dataclass(slots=True)
class Answered:
    """An answer as the caller got it. `cut`: its body ended before it was complete."""

    status: int
    headers: Mapping[str, str]
    body: bytes
    cut: bool = False

    @property
    def json(self) -> Any:
        return json.loads(self.body)

    @property
    def error(self) -> dict[str, Any]:
        """The error object; its four fields must be there."""
        error: dict[str, Any] = self.json["error"]
        assert {"message", "type", "param", "code"} <= error.keys()
        return error

    @property
    def events(self) -> list[str]:
        """The data of each event of a stream."""
        blocks = self.body.decode().split("\n\n")
        assert blocks[-1] == "", "a stream ends with a blank line"
        return [block.removeprefix("data: ") for block in blocks[:-1]]


@dataclass
class Relay:
    """A line that serves. `url` is the OpenAI base URL."""

    line: Line
    server: CallerServer
    host: str
    port: int
    slots: Path
    catalogue: Catalogue
    http: aiohttp.ClientSession
    store: NearStore
    """What keeps its limits and budgets."""
    lines: list[bytes] = field(default_factory=list)
    traces: list[bytes] = field(default_factory=list)
    sampling: Sampling | None = None
    """None: nobody takes traces."""

    @property
    def url(self) -> str:
        return f"http://{self.host}:{self.port}/v1"

    def use(self, policy: str, environ: Mapping[str, str] | None = None, *, stamp: int = 1) -> None:
        """Puts a policy in force, accepted at `stamp` (milliseconds)."""
        environ = {"UPSTREAM_KEY": SECRET, **(environ or {})}
        compiled = compile_policy(
            load_text(policy, environ),
            secret_of=secret_reader(environ),
            row_of=self._table.row,
            catalogue=self.catalogue,
            at=AT,
            simulated_url="http://127.0.0.1:1/v1",
            sampling=self.sampling,
        )
        compiled.tables["stamp"] = stamp
        self.line.prepare(compiled.tables)
        self.line.switch(compiled.tables["hash"])

    _table: TargetTable = field(init=False)

    async def post(
        self,
        fields: Mapping[str, Any] | bytes = CHAT,
        path: str = "/chat/completions",
        *,
        key: str | None = KEY,
        headers: Mapping[str, str] | None = None,
        began: asyncio.Event | None = None,
    ) -> Answered:
        """One call, read to its end; `began` is set when the first of its body has come."""
        body = fields if isinstance(fields, bytes) else json.dumps(fields).encode()
        sent = {"content-type": "application/json", **(headers or {})}
        if key is not None:
            sent["authorization"] = f"Bearer {key}"
        url = path if path.startswith("http") else self.url + path
        async with self.http.post(url, data=body, headers=sent) as answer:
            got, cut = b"", False
            try:
                async for piece in answer.content.iter_any():
                    got += piece
                    if began is not None:
                        began.set()
            except aiohttp.ClientPayloadError:
                cut = True
            return Answered(answer.status, answer.headers, got, cut)

    async def stream(self, fields: Mapping[str, Any] | None = None, **more: Any) -> Answered:
        """One streamed chat call."""
        return await self.post({**CHAT, **(fields or {}), "stream": True}, **more)

    async def get(self, path: str) -> Answered:
        """A GET by the caller's key."""
        async with self.http.get(self.url + path, headers={"authorization": f"Bearer {KEY}"}) as answer:
            return Answered(answer.status, answer.headers, await answer.read())

    async def logged(self, count: int = 1) -> list[dict[str, Any]]:
        """The log, once it has at least `count` lines."""
        await eventually(lambda: len(self.lines) >= count)
        return [json.loads(line) for line in self.lines]

    def traced(self) -> list[dict[str, Any]]:
        """The records of calls that became traces."""
        return [unpack(line) for line in self.traces]

    def counted(self, name: str, *labels: str) -> int:
        """The raw value of a series: of a histogram how many values it has."""
        found = 0
        for metric, has, values in read_slots(self.slots):
            if metric == name and (has == labels or not labels):
                found += values[0] if len(values) == 1 else sum(values[:-1])
        return found

    async def connect(self) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        """A raw connection of a caller's."""
        return await asyncio.open_connection(self.host, self.port)


def _asker(stack: AsyncExitStack, file: Path) -> Ask:
    """As control answers over the link. The file is made when something is asked: most tests ask nothing."""
    found: list[StoredObjects] = []
    running: set[asyncio.Task[None]] = set()

    def ask(question: dict[str, Any], told: Callable[[dict[str, Any]], None]) -> Callable[[], None]:
        wanted = [told]

        async def answer() -> None:
            if not found:
                found.append(StoredObjects(file))
                stack.callback(found[0].close)
            reply = await found[0].answer(question)
            for one in wanted:
                one(reply)

        task = asyncio.get_running_loop().create_task(answer())
        running.add(task)
        task.add_done_callback(running.discard)
        return wanted.clear

    return ask


async def start_relay(
    stack: AsyncExitStack,
    folder: Path,
    catalogue: Catalogue,
    policy: str,
    *,
    sampling: Sampling | None = None,
    **limits: Any,
) -> Relay:
    """A line that serves `policy` until `stack` is closed. `limits` are those of `CallerServer`."""
    loop = asyncio.get_running_loop()
    folder.mkdir(exist_ok=True)
    table = TargetTable.create(folder / "targets", 1)
    journal = Journal(folder / "journal", "worker-0", 1)
    purses = Purses(journal)
    teller = Teller(loop, purses)
    line = Line(loop, SlotFile.create(folder / "slots"), table, 0, Ledger(purses, teller))
    store = NearStore()
    teller.join(store.link("worker-0", teller))
    stack.callback(journal.close)
    stack.callback(teller.close)
    server = CallerServer(line, line.wheel, **limits)
    listener = await loop.create_server(server, "127.0.0.1", 0)
    stack.callback(line.wheel.close)
    stack.callback(line.outbound.close)
    stack.callback(line.health.close)
    stack.callback(listener.close)
    http = await stack.enter_async_context(aiohttp.ClientSession(auto_decompress=False))
    host, port = listener.sockets[0].getsockname()
    relay = Relay(line, server, host, port, folder / "slots", catalogue, http, store)
    relay._table = table
    relay.sampling = sampling
    line.log, line.trace = relay.lines.append, relay.traces.append
    line.ask = _asker(stack, folder / "objects.db")
    relay.use(policy)
    return relay
