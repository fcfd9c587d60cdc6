"""The load of a soak, in a process of its own: calls of every kind at a steady rate, and bad callers.

One JSON line a second on stdout says how far it is; the last one (`"over": true`) is the whole account.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import random
import socket
import sys
from collections import Counter
from collections.abc import Coroutine
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import urlsplit

import aiohttp

from gateway.simulator.faults import NAMES
from tests.running import KEY
from tests.soak.verdict import STRANGER

FAULTS, LEAVERS, STRANGERS = 0.05, 0.02, 0.02
"""Shares of calls with a fault of the provider's, of callers that leave, of models that there are not."""
STREAMS = 0.25
STREAM_S = (2.0, 4.0)
TOKENS_PER_S = 10
SLOW_READER_EVERY_S, IDLE_EVERY_S, HALF_OPEN_EVERY_S = 10.0, 5.0, 7.0
_MOST_WORDS = 20


@dataclass
class Account:
    """What was sent and what came back."""

    sent: int = 0
    """Requests of which the gateway owes a log line."""
    open: int = 0
    answers: Counter[str] = field(default_factory=Counter)
    """By kind of call and status."""
    unexpected: list[str] = field(default_factory=list)
    unexpected_count: int = 0
    over: bool = False

    def answered(self, kind: str, status: int, wrong: str = "") -> None:
        """An answer came; `wrong` says what should not be."""
        self.answers[f"{kind} {status}"] += 1
        if wrong:
            self.unexpected_count += 1
            if len(self.unexpected) < _MOST_WORDS:
                self.unexpected.append(f"{kind}: {wrong} (status {status})")


class Load:
    """Callers of one gateway."""

    def __init__(self, url: str, http: aiohttp.ClientSession, draw: random.Random) -> None:
        self.account = Account()
        self._url = url
        self._http = http
        self._draw = draw
        where = urlsplit(url)
        self._host, self._port = where.hostname or "", where.port or 0
        self._tasks: set[asyncio.Task[None]] = set()

    async def run(self, rate: float, seconds: float) -> None:
        """Calls at this rate for so long, then waits until every one has ended."""
        loop = asyncio.get_running_loop()
        start_s = loop.time()
        every = {
            1.0: self._say,
            SLOW_READER_EVERY_S: lambda: self._go(self.slow_reader()),
            IDLE_EVERY_S: lambda: self._go(self.idle()),
            HALF_OPEN_EVERY_S: lambda: self._go(self.half_open()),
        }
        due = dict.fromkeys(every, start_s)
        calls = 0
        while (now_s := loop.time()) < start_s + seconds:
            for period_s, act in every.items():
                if now_s >= due[period_s]:
                    due[period_s] += period_s
                    act()
            while calls < (now_s - start_s) * rate:
                calls += 1
                self._go(self._any_call())
            await asyncio.sleep(0.5 / rate)
        while self._tasks:
            await asyncio.wait(self._tasks, timeout=1.0)
            self._say()

    def _go(self, caller: Coroutine[Any, Any, None]) -> None:
        task = asyncio.get_running_loop().create_task(caller)
        self._tasks.add(task)
        task.add_done_callback(self._ended)

    def _ended(self, task: asyncio.Task[None]) -> None:
        self._tasks.discard(task)
        if not task.cancelled() and (error := task.exception()) is not None:
            self.account.answered("caller", 0, f"{type(error).__name__}: {error}")

    def _say(self) -> None:
        self.account.open = len(self._tasks)
        account = self.account
        print(
            json.dumps({"sent": account.sent, "open": account.open, "unexpected": account.unexpected_count})
        )
        sys.stdout.flush()

    # callers

    def _any_call(self) -> Coroutine[Any, Any, None]:
        draw = self._draw
        streams = draw.random() < STREAMS
        fields = self._chat(streams)
        lot = draw.random()
        if lot < FAULTS:
            fault = draw.choice(NAMES)
            fields["simulate"] |= {"fault": fault, "fault_after_chunks": draw.randrange(6)}
            return self.call(f"fault {'streamed' if streams else 'plain'}", fields, faulty=True)
        if lot < FAULTS + LEAVERS:
            return self.leaver(fields)
        if lot < FAULTS + LEAVERS + STRANGERS:
            fields["model"] = f"{STRANGER}{draw.getrandbits(64):x}"
            return self.call("stranger", fields, wanted=404)
        if not streams and draw.random() < 0.1:
            fields = {"model": "text-embedding-3-small", "input": "river " * draw.randrange(1, 200)}
            return self.call("embeddings", fields, path="/embeddings")
        return self.call("streamed" if streams else "plain", fields)

    def _chat(self, streams: bool) -> dict[str, Any]:
        draw = self._draw
        asked: dict[str, Any] = {"output_tokens": draw.randrange(1, 200)}
        if streams:
            tokens = int(draw.uniform(*STREAM_S) * TOKENS_PER_S)
            asked = {
                "output_tokens": tokens,
                "tokens_per_s": TOKENS_PER_S,
                "first_token_ms": draw.randrange(100),
            }
        messages = [
            {"role": "user", "content": "Where is the river? " * draw.randrange(1, 100) + f"{draw.random()}"}
        ]
        return {"model": "gpt-4o-mini", "messages": messages, "stream": streams, "simulate": asked}

    async def call(
        self,
        kind: str,
        fields: dict[str, Any],
        *,
        path: str = "/chat/completions",
        wanted: int = 200,
        faulty: bool = False,
    ) -> None:
        """One call, read to its end. What comes of a faulty provider is the gateway's to say: but no 500."""
        headers = {"authorization": f"Bearer {KEY}"}
        self.account.sent += 1
        body, cut = b"", False
        async with self._http.post(self._url + path, json=fields, headers=headers) as answer:
            try:
                async for block in answer.content.iter_any():
                    body = body[-4096:] + block
            except aiohttp.ClientPayloadError:
                cut = True
        wrong = ""
        if faulty:
            wrong = "an internal error" if answer.status == 500 else ""
        elif answer.status != wanted:
            wrong = f"{wanted} was due"
        elif cut or (fields.get("stream") and wanted == 200 and not body.endswith(b"data: [DONE]\n\n")):
            wrong = "the answer broke off"
        self.account.answered(kind, answer.status, wrong)

    async def leaver(self, fields: dict[str, Any]) -> None:
        """Asks, and leaves at a random moment."""
        _, writer = await asyncio.open_connection(self._host, self._port)
        writer.write(self._raw(fields))
        self.account.sent += 1
        await asyncio.sleep(self._draw.choice((0.0, self._draw.random() * 0.05, self._draw.random() * 3)))
        writer.transport.abort()
        self.account.answers["leaver -"] += 1

    async def slow_reader(self) -> None:
        """A long stream, of which little is taken for three seconds."""
        fields = self._chat(streams=True)
        fields["simulate"] = {"output_tokens": 6000, "tokens_per_s": 0}
        narrow = socket.socket()
        narrow.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        narrow.setblocking(False)
        await asyncio.get_running_loop().sock_connect(narrow, (self._host, self._port))
        reader, writer = await asyncio.open_connection(sock=narrow, limit=4096)
        writer.write(self._raw(fields, b"connection: close\r\n"))
        self.account.sent += 1
        got = await reader.read(2048)
        status = int(got[9:12])
        for _ in range(30):
            await asyncio.sleep(0.1)
            got = got[-64:] + await reader.read(2048)
        while block := await reader.read(65_536):
            got = got[-64:] + block
        writer.close()
        whole = got.endswith(b"0\r\n\r\n") and b"[DONE]" in got
        self.account.answered("slow reader", status, "" if whole else "the answer broke off")

    async def idle(self) -> None:
        """Connects and says nothing."""
        _, writer = await asyncio.open_connection(self._host, self._port)
        await asyncio.sleep(self._draw.uniform(0, 6))
        writer.close()
        self.account.answers["idle -"] += 1

    async def half_open(self) -> None:
        """Half a head and then nothing: it leaves before the deadline."""
        _, writer = await asyncio.open_connection(self._host, self._port)
        writer.write(self._raw({})[: self._draw.randrange(1, 40)])
        await asyncio.sleep(self._draw.uniform(0, 6))
        writer.close()
        self.account.answers["half-open -"] += 1

    def _raw(self, fields: dict[str, Any], more: bytes = b"") -> bytes:
        body = json.dumps(fields).encode()
        head = f"POST /v1/chat/completions HTTP/1.1\r\nhost: x\r\nauthorization: Bearer {KEY}\r\n"
        return head.encode() + more + b"content-length: %d\r\n\r\n" % len(body) + body


async def main(url: str, rate: float, seconds: float, seed: int) -> None:
    connector = aiohttp.TCPConnector(limit=0)
    async with aiohttp.ClientSession(connector=connector, timeout=aiohttp.ClientTimeout(60)) as http:
        load = Load(url, http, random.Random(seed))
        await load.run(rate, seconds)
    load.account.over = True
    print(json.dumps(vars(load.account)))


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("url")
    parser.add_argument("--rate", type=float, required=True)
    parser.add_argument("--seconds", type=float, required=True)
    parser.add_argument("--seed", type=int, default=1)
    options = parser.parse_args()
    asyncio.run(main(options.url, options.rate, options.seconds, options.seed))
