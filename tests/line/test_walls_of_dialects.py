"""Budgets are walls whatever a caller and a provider speak: what is posted is never under the bill, nobody
spends above the limit, and what is held is written as the cap."""

from __future__ import annotations

import asyncio
import json
import random
from typing import Any

import pytest

from gateway.simulator.server import Simulator
from tests.conftest import StartSimulator
from tests.line.conftest import StartRelay
from tests.line.ledgers import ALL, charge, governed, of_user, overshoot, prices, settle
from tests.line.test_departures import leave
from tests.relaying import Relay
from tests.running import KEY, eventually

CLAUDE = 'providers:\n  claude: {{base_url: "{url}", auth: none, dialect: anthropic}}'
PRICES = "prices:\n  claude/*: {input: 1, cached_input: 0.1, cache_write: 1.25, output: 5}"
MODELS = "  writes: {targets: [claude/claude-haiku-4-5]}\n"
PATHS = {"chat": "/chat/completions", "messages": "/messages"}
TARGETS = ("gpt-4o-mini", "writes")


def asked(speaks: str, model: str, user: str, **more: Any) -> dict[str, Any]:
    fields = {"model": model, "max_tokens": 1_000, "messages": [{"role": "user", "content": "Tell me."}]}
    told = {"user": user} if speaks == "chat" else {"metadata": {"user_id": user}}
    return {**fields, **told, **more}


async def started(start: StartRelay, simulator: Simulator, rules: str = ALL) -> Relay:
    policy = governed(simulator.url, rules, models=MODELS).replace("prices:", PRICES, 1)
    return await start(policy.replace("providers:", CLAUDE.format(url=simulator.url), 1))


@pytest.mark.parametrize("model", TARGETS)
@pytest.mark.parametrize("speaks", list(PATHS))
@pytest.mark.parametrize("stream", [False, True], ids=["plain", "stream"])
async def test_whole_answers_are_posted_to_the_nano_dollar(
    start: StartRelay, simulator: Simulator, speaks: str, model: str, stream: bool
) -> None:
    relay = await started(start, simulator)
    thinks: dict[str, Any] = {}
    if model == "writes":
        thinks = {"reasoning_effort": "low"} if speaks == "chat" else {"thinking": {"type": "adaptive"}}
    for number in range(6):
        fields = asked(speaks, model, f"u{number}", max_tokens=4_000, stream=stream, **thinks)
        assert (await relay.post(fields, PATHS[speaks])).status == 200
    await settle(relay)
    entries = list(simulator.bill.entries)
    assert len(entries) == 6
    assert all(entry.reasoning_tokens > 0 for entry in entries) == (model == "writes")
    for number, entry in enumerate(entries):
        assert of_user(relay, "day", f"u{number}") == charge(prices(relay)[entry.model], entry)
    assert overshoot(relay) == 0


@pytest.mark.parametrize("model", TARGETS)
@pytest.mark.parametrize("speaks", list(PATHS))
async def test_streams_that_their_callers_leave(
    start: StartRelay, simulate: StartSimulator, speaks: str, model: str
) -> None:
    simulator = await simulate(output_tokens=900, tokens_per_s=5_000)
    relay, moments, calls = await started(start, simulator), random.Random(7), 10
    for _ in range(calls):
        body = json.dumps(asked(speaks, model, "u", stream=True)).encode()
        head = b"POST /v1%b HTTP/1.1\r\nhost: h\r\nx-api-key: %b\r\ncontent-length: %d\r\n\r\n"
        head %= (PATHS[speaks].encode(), KEY.encode(), len(body))
        await leave(relay, head + body, moments.random() * 0.06)
    await settle(relay)
    await eventually(lambda: len(simulator.bill.entries) >= calls - 3)
    truth = sum(charge(prices(relay)[entry.model], entry) for entry in simulator.bill.entries)
    assert of_user(relay, "day", "u") >= truth > 0
    assert overshoot(relay) == 0


async def test_nobody_spends_above_a_budget_by_changing_the_dialect(
    start: StartRelay, simulator: Simulator
) -> None:
    limit_usd = 0.02
    relay = await started(start, simulator, f"budgets: [{{name: day, usd: {limit_usd}, every: day}}]\n")
    calls = [
        relay.post(asked(speaks, model, "u", stream=stream), PATHS[speaks])
        for _ in range(8)
        for speaks in PATHS
        for model in TARGETS
        for stream in (False, True)
    ]
    statuses = [got.status for got in await asyncio.gather(*calls)]
    await settle(relay)
    truth = sum(charge(prices(relay)[entry.model], entry) for entry in simulator.bill.entries)
    assert truth <= limit_usd * 1e9
    assert 0 < statuses.count(200) < len(statuses)
    assert set(statuses) == {200, 429}


@pytest.mark.parametrize("speaks", list(PATHS))
async def test_what_is_held_is_written_as_the_cap(
    start: StartRelay, simulator: Simulator, speaks: str
) -> None:
    relay = await started(start, simulator, "budgets: [{name: day, usd: 0.01, every: day}]\n")
    got = await relay.post(asked(speaks, "writes", "u", max_tokens=60_000), PATHS[speaks])
    assert got.status == 200
    written = json.loads(list(simulator.requests)[-1].raw)["max_tokens"]
    assert written == int(got.headers["x-headgate-max-tokens"]) < 2_000
