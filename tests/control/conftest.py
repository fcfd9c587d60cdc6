"""Admin ports in front of a gateway that is not there."""

from __future__ import annotations

import hashlib
import socket
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any

import pytest

from gateway.clock import now_ms
from gateway.control.admin import build_app
from gateway.control.admin_port import AdminPort
from gateway.control.budget_routes import BudgetRoutes
from gateway.control.console_routes import ConsoleRoutes
from gateway.control.exposition import Exposition
from gateway.link.keeper_queries import NoAnswer
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
        self.scrapes = 0

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

    def scraped(self) -> None:
        self.scrapes += 1


class NoKeeper:
    """A keeper that does not answer."""

    async def ask(self, what: str, *, within_s: float = 5, **details: Any) -> Any:
        raise NoAnswer("The keeper does not answer: it is being started again.")


def no_budgets() -> BudgetRoutes:
    """The routes of budgets, with nobody to ask."""
    return BudgetRoutes(
        NoKeeper(), lambda: [{"policy_name": "month", "name": "month", "measure": "usd"}], now_ms
    )


class NoPast:
    """A gateway that has just begun."""

    async def told(self, since_ms: int) -> dict[str, Any]:
        return {"series": {"since": since_ms}}


def console() -> ConsoleRoutes:
    """The routes of the console, with nothing to show."""
    return ConsoleRoutes(NoPast(), lambda: {"version": "0"})


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
            port = AdminPort(
                build_app(
                    fake, Exposition(tmp_path, lambda: ()), [no_budgets(), console()], loopback=loopback
                )
            )
            listener = socket.create_server(("127.0.0.1", 0))
            await port.start(listener)
            stack.push_async_callback(port.close)
            return f"http://127.0.0.1:{listener.getsockname()[1]}"

        yield start
