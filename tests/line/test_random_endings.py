"""Calls of every kind and end, many at once, under rules of every kind: the books agree, the wall holds."""

from __future__ import annotations

import asyncio
import json
import random
from typing import Any

import pytest

from gateway.simulator.server import Simulator
from tests.conftest import StartSimulator
from tests.line.conftest import StartRelay
from tests.line.ledgers import bill, overshoot, posted, settle, used
from tests.line.test_leaving_callers import HEAD
from tests.relaying import CHAT, Relay
from tests.running import policy_for

LIMIT = 3_000_000
"""Nano-dollars: about half of what the calls would cost."""
RULES = f"""limits:
  - {{name: all, requests: 100k/min, tokens: 100m/min, concurrent: 40}}
  - {{name: strict, tokens: 100m/min, strict: true, per: key}}
  - {{name: shadow, requests: 60/min, mode: shadow}}
  - {{name: user, requests: 100k/min, per: user}}
budgets:
  - {{name: day, usd: {LIMIT / 1e9:.9f}, every: day}}
  - {{name: month, usd: 1, rolling: 30d, per: team}}
  - {{name: guess, usd: 1, every: hour, class: estimate, per: model}}
"""
FAULTS = [
    *["none"] * 12,
    "status_500",
    "status_429",
    "status_504",
    "close",
    "reset",
    "not_json",
    "truncated",
    "cut",
    "cut_reset",
    "error_event",
    "no_usage",
    "html",
]


def policy(cheap: Simulator, dear: Simulator) -> str:
    keys = "teams:" + policy_for("http://unused").split("teams:")[1]
    return f"""version: 1
providers:
  cheap: {{base_url: "{cheap.url}"}}
  dear: {{base_url: "{dear.url}"}}
models:
  m:
    targets: [cheap/a, dear/b]
    retries: {{attempts: 1}}
    fallback_on: [server_error, bad_answer, rate_limited]
prices:
  cheap/*: {{input: 0.1, output: 1}}
  dear/*: {{input: 0.3, output: 3}}
{keys}{RULES}"""


async def one(relay: Relay, choose: random.Random) -> int:
    """One call; its status, 0 if its caller left."""
    simulated = {
        "output_tokens": choose.randint(1, 60),
        "first_token_ms": choose.choice([0, 0, 10]),
        "tokens_per_s": choose.choice([0, 0, 2_000]),
        "by_model": {"a": {"fault": choose.choice(FAULTS)}, "b": {"fault": choose.choice(FAULTS)}},
    }
    asked: dict[str, Any] = {**CHAT, "model": "m", "stream": choose.random() < 0.5, "simulate": simulated}
    asked["max_tokens"] = choose.choice([10, 60, 300])
    if choose.random() < 0.5:
        asked["user"] = choose.choice(["ann", "bob"])
    if choose.random() < 0.75:
        return (await relay.post(asked)).status
    body = json.dumps(asked).encode()
    reader, writer = await relay.connect()
    writer.write(HEAD + b"content-length: %d\r\n\r\n%b" % (len(body), body))
    reading = asyncio.ensure_future(reader.read())
    await asyncio.wait([reading], timeout=choose.random() * 0.03)
    reading.cancel()
    writer.close()
    return 0


@pytest.mark.parametrize("seed", [1, 2])
async def test_books_and_bill(start: StartRelay, simulate: StartSimulator, seed: int) -> None:
    choose = random.Random(seed)
    cheap, dear = await simulate(), await simulate()
    relay = await start(policy(cheap, dear))

    async def caller() -> list[int]:
        return [await one(relay, choose) for _ in range(8)]

    statuses = [status for found in await asyncio.gather(*(caller() for _ in range(20))) for status in found]
    await settle(relay)
    truth = bill(relay, cheap, dear)
    assert truth <= posted(relay, "day") <= LIMIT
    assert posted(relay, "day") == posted(relay, "month") == posted(relay, "guess")
    assert overshoot(relay) == 0
    total = [simulator.bill.total() for simulator in (cheap, dear)]
    tokens = sum(each.input_tokens + each.output_tokens for each in total)
    assert used(relay, "all.tokens") == used(relay, "strict.tokens") >= tokens
    assert relay.store.free("all.concurrent|all|") + idle(relay, "all.concurrent|all|") == 40
    assert {200, 429} <= set(statuses), "some get in, and some are refused"
    assert 500 not in statuses, "never our own fault"


def idle(relay: Relay, bucket: str) -> int:
    """What the worker has of a bucket."""
    return relay.line.ledger.purses._purses[bucket].balance
