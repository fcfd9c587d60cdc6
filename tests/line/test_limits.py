"""Limits and budgets on the line: what is let through, what is held, what is settled, what is refused."""

from __future__ import annotations

import asyncio
from typing import Any

from gateway.simulator.server import Simulator
from tests.line.conftest import StartRelay
from tests.relaying import CHAT, Relay
from tests.running import eventually, policy_for
from tests.stores.invariants import broken

SHORT = {**CHAT, "max_tokens": 20}


def governed(url: str, rules: str, **more: Any) -> str:
    """The usual policy with limits and budgets."""
    return policy_for(url, **more) + rules


async def settled(relay: Relay, rows: int) -> list[Any]:
    """The rows, once the store has so many."""
    await eventually(lambda: len(relay.store.rows) >= rows)
    await eventually(lambda: not relay.line.ledger.purses.has_news)
    return relay.store.rows


async def test_requests_are_limited_and_the_ticket_is_honoured(
    start: StartRelay, simulator: Simulator
) -> None:
    relay = await start(governed(simulator.url, "limits: [{name: calls, requests: 600/min, burst: 3}]\n"))
    answers = [await relay.post() for _ in range(4)]
    assert [answer.status for answer in answers] == [200, 200, 200, 429]
    refused = answers[-1]
    assert refused.error["code"] == "rate_limit_exceeded"
    assert refused.error["type"] == "requests"
    assert "calls" in refused.error["message"]
    wait_ms = int(refused.headers["retry-after-ms"])
    assert 1 <= wait_ms <= 100
    assert refused.headers["retry-after"] == "1"
    await asyncio.sleep(wait_ms / 1000)
    assert (await relay.post()).status == 200
    assert relay.counted("headgate_limit_refused_total", "calls", "enforce") == 1


async def test_budget_is_a_wall(start: StartRelay, simulator: Simulator) -> None:
    relay = await start(governed(simulator.url, "budgets: [{name: day, usd: 0.0001, every: day}]\n"))
    answers = []
    while not answers or answers[-1].status == 200:
        answers.append(await relay.post(SHORT))
        assert len(answers) < 100
    refused = answers[-1]
    assert refused.status == 429
    assert refused.error["type"] == refused.error["code"] == "insufficient_quota"
    assert refused.headers["x-should-retry"] == "false"
    assert refused.error["budget"] == "day"
    assert refused.error["resets_at"].endswith("T00:00:00Z")
    rows = await settled(relay, len(answers) - 1)
    bucket = next(iter(relay.store.book.buckets))
    assert 0 < relay.store.spent(bucket) <= 100_000
    assert relay.store.spent(bucket) == sum(row[-1][bucket] for row in rows)
    assert broken(relay.store.book) == []
