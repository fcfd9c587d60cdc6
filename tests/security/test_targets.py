"""Calls go where the policy says, whatever a caller sends: every connection that is opened is looked at.

uvloop connects in C, which raises no audit event; so the table runs on asyncio's loop, where each connect
and each look-up of a name is one, and once more on the workers' loop, before a trap.
"""

from __future__ import annotations

import asyncio
import sys
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import AsyncExitStack, contextmanager
from functools import cache
from pathlib import Path
from typing import Any

import pytest

from gateway.pricing.catalogue import Catalogue
from tests.line.conftest import StartRelay
from tests.relaying import Relay, start_relay
from tests.running import SECRET, policy_for
from tests.security.listening import Listening
from tests.security.payloads import CHAT, request, requests

WATCHED = ("socket.connect", "socket.getaddrinfo", "socket.gethostbyname", "socket.sendto", "urllib.Request",
           "subprocess.Popen", "os.posix_spawn", "os.exec", "os.system")  # fmt: skip
_watchers: list[Callable[[str, tuple[Any, ...]], None]] = []


def _hook(event: str, args: tuple[Any, ...]) -> None:
    for watch in _watchers:
        watch(event, args)


@cache
def _install() -> None:
    # Audit hooks stay for good; so there is one, and it is told whom to tell.
    sys.addaudithook(_hook)


@contextmanager
def watched() -> Iterator[list[tuple[str, Any]]]:
    """Every event of `WATCHED` in this process: its name, and where it goes."""
    _install()
    seen: list[tuple[str, Any]] = []

    def watch(event: str, args: tuple[Any, ...]) -> None:
        if event in WATCHED:
            seen.append((event, args[1][:2] if event == "socket.connect" else args[0]))

    _watchers.append(watch)
    try:
        yield seen
    finally:
        _watchers.remove(watch)


class Client:
    """Sends requests one by one, over one connection as long as it lasts; counts those it opened."""

    def __init__(self, relay: Relay) -> None:
        self._relay = relay
        self._open: tuple[asyncio.StreamReader, asyncio.StreamWriter] | None = None
        self.opened = 0

    async def ask(self, data: bytes) -> int:
        """The status."""
        if self._open is None:
            self._open = await self._relay.connect()
            self.opened += 1
        reader, writer = self._open
        writer.write(data)
        head = (await asyncio.wait_for(reader.readuntil(b"\r\n\r\n"), 5)).lower()
        length = int(head.partition(b"\r\ncontent-length: ")[2].partition(b"\r")[0])
        await reader.readexactly(length)
        if b"\r\nconnection: close" in head:
            self.close()
        return int(head.split()[1])

    def close(self) -> None:
        if self._open is not None:
            self._open[1].close()
            self._open = None


async def try_all(relay: Relay, trap: Listening) -> tuple[Counter[int], int]:
    """Statuses of the whole table, and how many connections the caller opened for it."""
    client = Client(relay)
    statuses = Counter([await client.ask(data) for data in requests(trap.port)])
    client.close()
    return statuses, client.opened


def check_heads(provider: Listening, line: bytes = b"POST /v1/chat/completions HTTP/1.1") -> None:
    for head in provider.heads:
        lines = head.split(b"\r\n")
        assert lines[0] == line
        assert [name for name in lines if name.lower().startswith(b"host:")] == [
            b"host: 127.0.0.1:%d" % provider.port
        ]


DEPLOYMENT = b"POST /openai/deployments/%b/chat/completions?api-version=2024-10-21 HTTP/1.1"


@pytest.mark.parametrize("azure", [False, True], ids=["openai", "azure"])
def test_no_connection_is_opened_that_the_policy_does_not_name(
    tmp_path: Path, catalogue: Catalogue, azure: bool
) -> None:
    async def run() -> None:
        provider, trap = Listening(), Listening()
        await provider.start()
        await trap.start()
        url = provider.url.removesuffix("/v1") if azure else provider.url
        policy = policy_for(url)
        if azure:
            policy = policy.replace("base_url", "dialect: azure, api_version: 2024-10-21, base_url", 1)
        async with AsyncExitStack() as stack:
            relay = await start_relay(stack, tmp_path / "line", catalogue, policy)
            with watched() as seen:
                statuses, opened = await try_all(relay, trap)
        ours, theirs = (relay.host, relay.port), ("127.0.0.1", provider.port)
        assert {event for event, _ in seen} == {"socket.connect"}, "no name was looked up, no process started"
        where = Counter(address for _, address in seen)
        assert where.keys() == {ours, theirs}
        assert where[ours] == opened, "nor did the gateway call itself"
        assert statuses[200] > 1000 and statuses.keys() <= {200, 400, 404, 405}
        assert sum(statuses.values()) > 1200 and len(provider.heads) == statuses[200]
        assert not trap.heads
        if azure:
            paths = {head.partition(b"\r\n")[0] for head in provider.heads}
            assert paths == {DEPLOYMENT % name for name in (b"gpt-4o-mini", b"gpt-4o")}
        else:
            check_heads(provider)
        await provider.stop()
        await trap.stop()

    asyncio.run(run())


def test_watch_sees_what_the_line_opens(tmp_path: Path, catalogue: Catalogue) -> None:
    """The proof that the test above can fail: a policy that names the trap, by address and by name."""

    async def run(host: str) -> None:
        trap = Listening()
        await trap.start()
        url = f"http://{host}:{trap.port}/v1"
        async with AsyncExitStack() as stack:
            relay = await start_relay(stack, tmp_path / host, catalogue, policy_for(url))
            with watched() as seen:
                assert await Client(relay).ask(request(CHAT)) == 200
        assert ("socket.connect", ("127.0.0.1", trap.port)) in seen
        assert (("socket.getaddrinfo", "localhost") in seen) == (host == "localhost")
        await trap.stop()

    for host in ("127.0.0.1", "localhost"):
        asyncio.run(run(host))


async def test_on_the_workers_loop_nobody_else_is_called_either(
    start: StartRelay, provider: Listening
) -> None:
    trap = Listening()
    await trap.start()
    relay = await start(policy_for(provider.url))
    statuses, _ = await try_all(relay, trap)
    assert statuses[200] > 1000 and not trap.heads
    check_heads(provider)
    secret = b"\r\nauthorization: Bearer " + SECRET.encode()
    assert all(head.count(b"authorization") == head.count(secret) == 1 for head in provider.heads)
    assert any(b"169.254" in body for body in provider.bodies), "what is not ours to judge is passed on"
    relay.use(policy_for(trap.url))
    assert await Client(relay).ask(request(CHAT)) == 200
    assert len(trap.heads) == 1, "and the trap works"
    await trap.stop()
