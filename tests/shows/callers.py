"""Callers of a gateway: raw HTTP over kept connections, cheap enough not to be what is measured."""

from __future__ import annotations

import asyncio
import hashlib
import json
import os
import time
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any


def secret_of(key: str) -> str:
    """The secret of a key, from its name."""
    return "hg-" + hashlib.sha256(key.encode()).hexdigest()[:43]


def digest_of(key: str) -> str:
    """What a policy says of the key."""
    return hashlib.sha256(secret_of(key).encode()).hexdigest()


@dataclass(slots=True)
class Answer:
    """One answer. `status` 0: the connection broke. Seconds of `time.monotonic`."""

    status: int
    headers: dict[str, str]
    body: bytes
    begun_s: float
    ended_s: float
    document: dict[str, Any] = field(default_factory=dict)

    @property
    def code(self) -> str:
        """Of the error; "" if it is none."""
        return str((self.document.get("error") or {}).get("code") or "")

    @property
    def wait_s(self) -> float:
        """What it tells a caller to wait."""
        if "retry-after-ms" in self.headers:
            return int(self.headers["retry-after-ms"]) / 1000
        return float(self.headers.get("retry-after", "0"))


class Line:
    """One connection, for one call at a time; opened anew when it has closed."""

    def __init__(self, address: str, key: str) -> None:
        self._host, _, port = address.rpartition(":")
        self._port = int(port)
        self._head = (
            f"POST /v1/chat/completions HTTP/1.1\r\nhost: x\r\nauthorization: Bearer {secret_of(key)}"
        )
        self._reader: asyncio.StreamReader | None = None
        self._writer: asyncio.StreamWriter | None = None

    async def connect(self) -> None:
        """Opens it. Raises OSError."""
        self._reader, self._writer = await asyncio.open_connection(self._host, self._port)

    @property
    def port(self) -> int:
        """Our end's."""
        assert self._writer is not None
        return int(self._writer.get_extra_info("sockname")[1])

    def close(self) -> None:
        """Closes it, whatever is under way."""
        if self._writer is not None:
            self._writer.close()
        self._reader = self._writer = None

    async def leave(self, body: bytes, after_s: float) -> None:
        """Asks, and goes away without having read anything."""
        with suppress(OSError):
            if self._writer is None:
                await self.connect()
            self._send(body)
            await asyncio.sleep(after_s)
        self.close()

    async def call(self, body: bytes) -> Answer:
        """Asks, and the whole answer."""
        begun_s = time.monotonic()
        try:
            if self._writer is None or (self._reader is not None and self._reader.at_eof()):
                self.close()
                await self.connect()
            self._send(body)
            return await self._answer(begun_s)
        except (OSError, EOFError, asyncio.LimitOverrunError):
            self.close()
            return Answer(0, {}, b"", begun_s, time.monotonic())

    def _send(self, body: bytes) -> None:
        assert self._writer is not None
        self._writer.write(b"%b\r\ncontent-length: %d\r\n\r\n%b" % (self._head.encode(), len(body), body))

    async def _answer(self, begun_s: float) -> Answer:
        reader = self._reader
        assert reader is not None
        first, *lines = (await reader.readuntil(b"\r\n\r\n")).decode().split("\r\n")
        headers = {name.lower(): value for name, _, value in (line.partition(": ") for line in lines if line)}
        status = int(first.split()[1])
        if "content-length" in headers:
            content = await reader.readexactly(int(headers["content-length"]))
        else:
            content = b""
            while size := int(await reader.readline(), 16):
                content += (await reader.readexactly(size + 2))[:-2]
            await reader.readline()
        answer = Answer(status, headers, content, begun_s, time.monotonic())
        if headers.get("content-type", "").startswith("application/json"):
            answer.document = json.loads(content)
        if headers.get("connection") == "close":
            self.close()
        return answer


def body_of(model: str, text: str, max_tokens: int, **fields: Any) -> bytes:
    """A chat call."""
    messages = [{"role": "user", "content": text}]
    said = {"model": model, "max_tokens": max_tokens, "messages": messages, **fields}
    return json.dumps(said).encode()


def worst_nanousd(body: bytes, max_tokens: int, input_nanousd: int, output_nanousd: int) -> int:
    """The most that a call of text may cost: each byte of its body a token, and 256 for the template."""
    # Each part of a price is rounded up: 1 more.
    return (len(body) + 256) * input_nanousd + max_tokens * output_nanousd + 1


async def lines_to_workers(address: str, key: str, pids: list[int]) -> list[Line]:
    """A connection to each worker: the kernel chooses who gets one, so they are opened until all have."""
    found: dict[int, Line] = {}
    while len(found) < len(pids):
        line = Line(address, key)
        await line.connect()
        owner = None
        while owner is None:
            await asyncio.sleep(0.005)  # until the worker has accepted it
            owner = _owner(int(address.rpartition(":")[2]), line.port, pids)
        if owner in found:
            line.close()
        else:
            found[owner] = line
    return [found[pid] for pid in pids]


def _owner(local: int, remote: int, pids: list[int]) -> int | None:
    """The process that has the connection from a port of this host to another."""
    wanted = f":{local:04X}", f":{remote:04X}"
    inode = ""
    with open("/proc/net/tcp") as table:
        for row in table:
            columns = row.split()
            if columns[1].endswith(wanted[0]) and columns[2].endswith(wanted[1]):
                inode = columns[9]
    if inode in ("", "0"):
        return None
    for pid in pids:
        folder = f"/proc/{pid}/fd"
        for fd in os.listdir(folder):
            with suppress(OSError):
                if os.readlink(f"{folder}/{fd}") == f"socket:[{inode}]":
                    return pid
    return None
