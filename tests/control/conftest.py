"""Admin ports in front of a gateway that is not there."""

from __future__ import annotations

import hashlib
import socket
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any

import pytest

from gateway.control.admin import build_app
from gateway.control.admin_port import AdminPort
from gateway.control.exposition import Exposition
from gateway.telemetry import table
from gateway.telemetry.slots import SlotFile

KEY = "hg-admin"


class Fake:
    """What control would say."""

    def __init__(self) -> None:
        self.keys = [hashlib.sha256(KEY.encode()).hexdigest()]
        self.reasons: list[str] = []
        self.accepts = True
        self.reloads = 0

    def not_ready(self) -> list[str]:
        return self.reasons

    def policy(self) -> dict[str, Any]:
        return {"hash": "abc"}

    def targets(self) -> list[dict[str, Any]]:
        return [{"model": "m"}]

    def workers(self) -> list[dict[str, Any]]:
        return [{"index": 0}]

    def admin_keys(self) -> Iterable[str]:
        return self.keys

    async def reload(self) -> bool:
        self.reloads += 1
        return self.accepts


Serve = Callable[..., Awaitable[str]]


@pytest.fixture
def fake() -> Fake:
    return Fake()


@pytest.fixture
async def serve_admin(fake: Fake, tmp_path: Path) -> AsyncIterator[Serve]:
    """`await serve_admin(loopback=False)`: the URL of an admin port."""
    slots = SlotFile.create(tmp_path / "worker-0")
    slots.values[slots.series(table.RETRIES, ("m", "a/x"))] += 3
    async with AsyncExitStack() as stack:

        async def start(*, loopback: bool = True) -> str:
            port = AdminPort(build_app(fake, Exposition(tmp_path, lambda: ()), loopback=loopback))
            listener = socket.create_server(("127.0.0.1", 0))
            await port.start(listener)
            stack.push_async_callback(port.close)
            return f"http://127.0.0.1:{listener.getsockname()[1]}"

        yield start
