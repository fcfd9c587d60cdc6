"""How the gateway stands at this moment, as the console is told it."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from importlib.metadata import version
from typing import Any, Protocol

from gateway.clock import now_ms
from gateway.control.budgets import Budgets
from gateway.control.first_call import first_call
from gateway.errors import ALL_KINDS
from gateway.link.keeper_queries import KeeperQueries

MOST_BUDGETS = 100
"""Budgets and limits that are shown, the fullest first."""
_DRIFT = (
    *("model", "target", "state", "performance_state", "evidence", "answers", "reference", "arms_at"),
    *("channels", "alarm", "action"),
)
"""What is shown of a stream of answers (`control.drift.judge.Judge.told`)."""
MEANINGS: Mapping[str, str] = {kind.error_type: kind.message for kind in reversed(ALL_KINDS)}
"""What each error says to callers, by error type."""


class Gateway(Protocol):
    """What is asked of control: the answers of its admin API."""

    def not_ready(self) -> list[str]: ...

    def policy(self) -> dict[str, Any]: ...

    def targets(self) -> list[dict[str, Any]]: ...

    def workers(self) -> list[dict[str, Any]]: ...


class Present:
    """`workers` is how many were asked for, `tables` gives the compiled policy, None before the first,
    `drift` how each target's answers stand."""

    def __init__(
        self,
        gateway: Gateway,
        budgets: Budgets,
        keeper: KeeperQueries,
        tables: Callable[[], Mapping[str, Any] | None],
        drift: Callable[[], list[dict[str, Any]]],
        *,
        workers: int,
        listen: str,
    ) -> None:
        self._gateway = gateway
        self._budgets = budgets
        self._keeper = keeper
        self._tables = tables
        self._drift = drift
        self._workers = workers
        self._listen = listen
        self._version = version("headgate")

    def told(self) -> dict[str, Any]:
        """All of it, as JSON. Who asks is somebody who looks, so balances are kept fresh from now on."""
        self._budgets.look()
        tables = self._tables()
        return {
            "version": self._version,
            "not_ready": self._gateway.not_ready(),
            "policy": self._gateway.policy(),
            "targets": self._gateway.targets(),
            "workers": {"asked": self._workers, "running": self._gateway.workers()},
            "budgets": self._standings(),
            "store": self._store(tables),
            "drift": [{name: stream[name] for name in _DRIFT} for stream in self._drift()],
            "first_call": None if tables is None else first_call(self._listen, tables)._asdict(),
            "meanings": MEANINGS,
        }

    def _standings(self) -> dict[str, Any]:
        fullest = sorted(self._budgets.standings(), key=lambda each: (-each.used_share, each.bucket))
        now = now_ms()
        return {
            "rows": [each.as_json(now) for each in fullest[:MOST_BUDGETS]],
            "left_out": len(fullest[MOST_BUDGETS:]),
        }

    def _store(self, tables: Mapping[str, Any] | None) -> dict[str, Any]:
        return {"used": bool(tables and tables["rules"]), "up": self._keeper.is_up, "why": self._keeper.why}
