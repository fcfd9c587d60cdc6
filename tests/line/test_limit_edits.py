"""A policy's limits change while calls are under way, and windows end."""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime
from typing import Any

import pytest

from gateway.policy.decide import Facts
from gateway.quota.contract import Terms
from gateway.quota.plan import Plan, Planner
from gateway.quota.purse import AMOUNTS, Purse, Spent
from gateway.quota.share import Share
from gateway.simulator.server import Simulator
from tests.line.conftest import StartRelay
from tests.line.ledgers import DAY, bill, governed, overshoot, posted, settle, used
from tests.relaying import CHAT, Relay


def use(relay: Relay, policy: str, stamp: int) -> None:
    """Puts a policy in force here and at the store, as the keeper does."""
    relay.use(policy, stamp=stamp)
    snapshot = relay.line.snapshot
    assert snapshot is not None
    terms: dict[str, Terms] = {rule.name: rule.terms(stamp) for rule in snapshot.rules}
    relay.store.book.set_terms(terms, relay.store.now_ms())


async def under_way(relay: Relay, simulator: Simulator, count: int, **more: Any) -> list[asyncio.Task[Any]]:
    """So many calls that have reached the provider and are not answered yet."""
    before = simulator.requests.total
    calls = [
        asyncio.create_task(relay.post({**CHAT, **more, "simulate": {"first_token_ms": 150}}))
        for _ in range(count)
    ]
    await simulator.requests.wait(before + count)
    return calls


RULES = [
    ("limits: [{{name: r, requests: {}/hour, burst: {}}}]\n", "requests"),
    ("limits: [{{name: r, concurrent: {}}}]\n", "concurrent"),
    ("budgets: [{{name: r, usd: 0.00{:04}, every: day}}]\n", "money"),
    ("budgets: [{{name: r, usd: 0.00{:04}, rolling: 24h}}]\n", "rolling"),
]


@pytest.mark.parametrize("rule", [rule for rule, _ in RULES], ids=[name for _, name in RULES])
async def test_lowered_and_raised_under_way(start: StartRelay, simulator: Simulator, rule: str) -> None:
    wide, none = (governed(simulator.url, rule.format(amount, amount)) for amount in (90, 1))
    if "usd" in rule:
        none = governed(simulator.url, rule.format(1, 1))
        wide = governed(simulator.url, rule.format(9000, 9000))
    relay = await start(wide)
    calls = await under_way(relay, simulator, 3, max_tokens=20)
    use(relay, none, 2)
    refused = await relay.post({**CHAT, "max_tokens": 20})
    assert refused.status == 429, "the new limit is used up by what is under way"
    assert {answer.status for answer in await asyncio.gather(*calls)} == {200}
    use(relay, wide, 3)
    assert (await relay.post({**CHAT, "max_tokens": 20})).status == 200
    await settle(relay)
    if "usd" in rule:
        assert posted(relay, "r") == bill(relay, simulator)
    assert overshoot(relay) == 0


@pytest.mark.parametrize("rule", [rule for rule, _ in RULES], ids=[name for _, name in RULES])
async def test_removed_and_back_again(start: StartRelay, simulator: Simulator, rule: str) -> None:
    amount = 9000 if "usd" in rule else 5
    limited = governed(simulator.url, rule.format(amount, amount))
    relay = await start(limited)
    calls = await under_way(relay, simulator, 3, max_tokens=20)
    use(relay, governed(simulator.url, ""), 2)
    free = await under_way(relay, simulator, 2)
    await asyncio.gather(*calls)
    use(relay, limited, 3)
    assert {answer.status for answer in await asyncio.gather(*free)} == {200}
    assert (await relay.post({**CHAT, "max_tokens": 20})).status == 200
    await settle(relay)
    if "usd" in rule:
        assert posted(relay, "r") == sum(row[-3] for row in relay.store.rows if row[-1])
        assert len([row for row in relay.store.rows if row[-1]]) == 4, "the two in between were free"
    elif "requests" in rule:
        assert used(relay, "r.requests") == 4
    else:
        assert relay.store.free("r.concurrent|all|") == 5


async def test_added_under_way(start: StartRelay, simulator: Simulator) -> None:
    relay = await start(governed(simulator.url, ""))
    calls = await under_way(relay, simulator, 2)
    use(relay, governed(simulator.url, DAY), 2)
    assert (await relay.post()).status == 200
    await asyncio.gather(*calls)
    await settle(relay)
    assert posted(relay) == sum(row[-3] for row in relay.store.rows if row[-1]) > 0
    assert len([row for row in relay.store.rows if row[-1]]) == 1


DAY_MS = 86_400_000


@pytest.mark.parametrize(
    ("window", "period_ms"), [("every: day", DAY_MS), ("rolling: 24h", DAY_MS // 60)], ids=["day", "rolling"]
)
async def test_hold_settles_in_the_window_that_it_was_taken_in(
    start: StartRelay, simulator: Simulator, window: str, period_ms: int
) -> None:
    relay = await start(governed(simulator.url, DAY.replace("every: day", window)))
    snapshot, purses = relay.line.snapshot, relay.line.ledger.purses
    assert snapshot is not None
    planner = Planner(purses, stamp=1)
    (key,) = snapshot.keys.values()
    model = snapshot.models["gpt-4o-mini"]
    (target,) = model.targets
    ends_ms = (relay.store.now_ms() // period_ms + 1) * period_ms

    def plan(wall_ms: int) -> Plan:
        return planner.plan(key, model, target, Facts(key, "gpt-4o-mini"), {}, wall_ms)

    def shares(plan: Plan) -> dict[Purse, Share]:
        return {purse: purse.own_share(1, 0.0) for purse, _ in plan.first}

    amounts = [1_000] * AMOUNTS
    old = plan(ends_ms - 1)
    assert old.until_ms == ends_ms
    first = purses.uncovered(old.first, amounts, shares(old))
    new = plan(ends_ms)
    assert new is not old
    assert plan(ends_ms - 1) is new, "a clock that steps back begins no old window"
    second = purses.uncovered(new.first, amounts, shares(new))
    (before, posted_before), *_ = purses.settle(first, Spent(1, 1, 0, 700))[0].items()
    (after, posted_after), *_ = purses.settle(second, Spent(1, 1, 0, 900))[0].items()
    assert (posted_before, posted_after) == (700, 900)
    day = datetime.fromtimestamp((ends_ms - 1) / 1000, UTC).strftime("%Y-%m-%d")
    part = ends_ms // period_ms
    expected = f"day|all|{day}" if "every" in window else f"day|all|rolling#{part - 1}"
    assert before == expected
    assert after > before
