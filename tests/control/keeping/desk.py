"""A keeper with the embedded store, rules of a real policy, and calls that are booked in it; the time is the
test's."""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from gateway.policy.compile import compile_policy
from gateway.policy.load import load_text, secret_reader
from gateway.pricing.catalogue import Catalogue
from gateway.quota.contract import Terms
from gateway.quota.row import Row
from gateway.stores.embedded import EmbeddedStore
from tests.control.keeping.house import House, living
from tests.control.keeping.purse import Purse, want
from tests.running import policy_for

NOW_MS = int(datetime(2026, 11, 25, 13, 45, 10, tzinfo=UTC).timestamp() * 1000)
RULES = """
limits:
  - {name: rate, per: key, requests: 600/min}
budgets:
  - {name: month, per: team, usd: 500, every: month, timezone: Europe/Berlin, alert_at: [50%, 80%]}
  - {name: all, usd: 10, rolling: 24h, alert_at: 90%}
  - {name: users, per: [team, user], usd: 1, every: day, mode: shadow}
alerts: {webhook: "http://127.0.0.1:1/hook"}
"""
USD = 1_000_000_000


class Desk(House):
    """`now_ms` is the time of the store and of whoever is given `now`."""

    def __init__(self, folder: Path) -> None:
        super().__init__(folder)
        self.now_ms = NOW_MS
        self.store = EmbeddedStore(folder / "ledger.db", self.now)
        self.rules: Sequence[Mapping[str, Any]] = ()
        self.alerts: Mapping[str, Any] | None = None

    def now(self) -> int:
        return self.now_ms

    async def rule(self, text: str = RULES) -> None:
        """Puts a policy with these rules in force."""
        tables = tables_of(text)
        self.rules, self.alerts = tables["rules"], tables["alerts"]
        await self.policy(*self.rules)

    async def spender(self, name: str = "worker-7") -> Spender:
        """A worker that books calls."""
        return Spender(await Purse(self.socket, name).up(), self.rules, self.now)


class Spender:
    """Books calls as a worker does: it wants what they may cost, then says what they did."""

    def __init__(self, purse: Purse, rules: Sequence[Mapping[str, Any]], now: Any) -> None:
        self.purse = purse
        self._rules = {rule["name"]: rule for rule in rules}
        self._now = now
        self._used: dict[str, int] = {}
        self._held: dict[str, int] = {}
        self._number = 0

    async def hold(self, nanousd: int, *buckets: str) -> None:
        """A call under way that may cost so much."""
        self._number += 1
        for bucket in buckets:
            self._held[bucket] = self._held.get(bucket, 0) + nanousd
        reply = await self.purse.exchange(
            terms={bucket: self._terms(bucket) for bucket in buckets},
            wants=[want(self._number, dict.fromkeys(buckets, nanousd))],
            held=self._held,
        )
        assert reply.granted == [self._number], reply

    async def spend(self, nanousd: int, *buckets: str, **row: Any) -> None:
        """A call that cost so much, with its usage row."""
        await self.hold(nanousd, *buckets)
        slices = {bucket: self._account(bucket) for bucket in buckets}
        for bucket, account in slices.items():
            self._held[bucket] -= nanousd
            self._used[account] = self._used.get(account, 0) + nanousd
        charges = dict.fromkeys(slices.values(), nanousd)
        await self.purse.exchange(
            used=self._used,
            held=self._held,
            rows=[row_of(self._now(), f"r{self._number}", nanousd, charges, **row)],
        )

    def _terms(self, bucket: str) -> Terms:
        rule = self._rules[bucket.partition("|")[0]]
        window_ms = rule["window_ms"]
        return Terms(rule["kind"], rule["limit"], rule["burst"], window_ms, rule["mode"] == "shadow", 1)

    def _account(self, bucket: str) -> str:
        rule = self._rules[bucket.partition("|")[0]]
        return f"{bucket}#{self._now() // (rule['window_ms'] // 60)}" if rule["kind"] == "rolling" else bucket


def row_of(time_ms: int, request: str, nanousd: int | None, charges: Mapping[str, int], **more: Any) -> Row:
    """A usage row; what is not given is that of a plain call."""
    plain: dict[str, Any] = {
        "time_ms": time_ms,
        "request_id": request,
        "attempt": 1,
        "key": "app",
        "team": "search",
        "model": "fast",
        "target": "upstream/gpt-4o-mini",
        "status": 200,
        "outcome": "ok",
        **dict.fromkeys(("cached_input", "cache_write", "audio_input", "reasoning", "audio_output"), 0),
        "input": 100,
        "output": 20,
        "estimated": 0,
    }
    return Row(**{**plain, **more}, nanousd=nanousd, charges=charges)


def tables_of(text: str, *, models: str = "", **environ: str) -> dict[str, Any]:
    """The compiled tables of a policy with these rules."""
    environ["UPSTREAM_KEY"] = "x"
    return compile_policy(
        load_text(policy_for("http://127.0.0.1:1/v1", rest=text, models=models), environ),
        secret_of=secret_reader(environ),
        row_of=lambda _: 0,
        catalogue=Catalogue(),
        at=datetime(2026, 11, 20, tzinfo=UTC),
    ).tables


@asynccontextmanager
async def desk(folder: Path, rules: str = RULES) -> AsyncIterator[Desk]:
    """A desk with a policy in force."""
    made = Desk(folder)
    async with living(made):
        await made.rule(rules)
        yield made
