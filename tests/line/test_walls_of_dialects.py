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

PROVIDERS = """providers:
  claude: {{base_url: "{url}", auth: none, dialect: anthropic}}
  responding: {{base_url: "{url}", auth: none, dialect: responses}}
  both: {{base_url: "{url}", auth: none, responses: true}}"""
PRICES = """prices:
  claude/*: {input: 1, cached_input: 0.1, cache_write: 1.25, output: 5}
  responding/*: {input: 0.15, cached_input: 0.075, output: 0.60}
  both/*: {input: 0.15, cached_input: 0.075, output: 0.60}"""
MODELS = """  writes: {targets: [claude/claude-haiku-4-5]}
  responds: {targets: [responding/gpt-4o-mini]}
  both: {targets: [both/gpt-4o-mini]}
  drops: {on_unsupported: drop, targets: [responding/gpt-4o-mini]}
  low: {targets: [{provider: responding, model: gpt-4o-mini, max_output: 9}]}
  either: {targets: [responding/gpt-4o-mini, claude/claude-haiku-4-5]}
"""
PATHS = {"chat": "/chat/completions", "messages": "/messages", "responses": "/responses"}
CAPS = {"chat": "max_tokens", "messages": "max_tokens", "responses": "max_output_tokens"}
TARGETS = ("gpt-4o-mini", "writes", "responds")


def asked(speaks: str, model: str, user: str, cap: int | None = 1_000, **more: Any) -> dict[str, Any]:
    fields = {"model": model, "messages": [{"role": "user", "content": "Tell me."}]}
    if speaks == "responses":
        fields = {"model": model, "input": "Tell me."}
    told = {"metadata": {"user_id": user}} if speaks == "messages" else {"user": user}
    capped = {} if cap is None else {CAPS[speaks]: cap}
    return {**fields, **capped, **told, **more}


async def started(start: StartRelay, simulator: Simulator, rules: str = ALL) -> Relay:
    policy = governed(simulator.url, rules, models=MODELS).replace("prices:", PRICES, 1)
    return await start(policy.replace("providers:", PROVIDERS.format(url=simulator.url), 1))


@pytest.mark.parametrize("model", TARGETS)
@pytest.mark.parametrize("speaks", list(PATHS))
@pytest.mark.parametrize("stream", [False, True], ids=["plain", "stream"])
async def test_whole_answers_are_posted_to_the_nano_dollar(
    start: StartRelay, simulator: Simulator, speaks: str, model: str, stream: bool
) -> None:
    relay = await started(start, simulator)
    thinks: dict[str, Any] = {}
    if model == "writes":
        thinks = {
            "chat": {"reasoning_effort": "low"},
            "messages": {"thinking": {"type": "adaptive"}},
            "responses": {"reasoning": {"effort": "low"}},
        }[speaks]
    for number in range(6):
        fields = asked(speaks, model, f"u{number}", 4_000, stream=stream, **thinks)
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


def written(simulator: Simulator) -> dict[str, int]:
    """What caps the output of the last request."""
    sent = json.loads(list(simulator.requests)[-1].raw)
    return {name: sent[name] for name in CAPS.values() if name in sent}


@pytest.mark.parametrize(("model", "usd"), [("writes", 0.01), ("responds", 0.001)])
@pytest.mark.parametrize("speaks", list(PATHS))
async def test_what_is_held_is_written_as_the_cap(
    start: StartRelay, simulator: Simulator, speaks: str, model: str, usd: float
) -> None:
    relay = await started(start, simulator, f"budgets: [{{name: day, usd: {usd}, every: day}}]\n")
    got = await relay.post(asked(speaks, model, "u", 60_000), PATHS[speaks])
    assert got.status == 200
    (cap,) = written(simulator).values()
    assert cap == int(got.headers["x-headgate-max-tokens"]) < 2_000


# The least cap that the Responses API takes is 16.

LOW = "budgets: [{name: day, usd: 10, every: day, default_output_tokens: 9}]\n"


@pytest.mark.parametrize("model", ["responds", "low"])
@pytest.mark.parametrize("speaks", list(PATHS))
async def test_no_cap_is_written_that_a_provider_does_not_take(
    start: StartRelay, simulator: Simulator, speaks: str, model: str
) -> None:
    """The policy's default and a target's ceiling are lower; what is held is what is written all the same."""
    relay = await started(start, simulator, LOW)
    given = 100 if speaks == "messages" or model == "low" else None
    got = await relay.post(asked(speaks, model, "u", given), PATHS[speaks])
    assert got.status == 200
    assert written(simulator) == {"max_output_tokens": 100 if model == "responds" and given else 16}
    await settle(relay)
    assert overshoot(relay) == 0


async def test_the_least_cap_is_that_of_the_dialect_that_a_provider_is_spoken_to_in(
    start: StartRelay, simulator: Simulator
) -> None:
    relay = await started(start, simulator, LOW)
    found = []
    for speaks in ("chat", "responses"):
        assert (await relay.post(asked(speaks, "both", "u", None), PATHS[speaks])).status == 200
        found.append(written(simulator))
    assert found == [{"max_tokens": 9}, {"max_output_tokens": 16}]


@pytest.mark.parametrize("rules", [ALL, ""], ids=["held", "no limits"])
@pytest.mark.parametrize(
    ("speaks", "field"),
    [("chat", "max_tokens"), ("chat", "max_completion_tokens"), ("messages", "max_tokens")],
)
async def test_a_lower_cap_is_refused_by_its_callers_name(
    start: StartRelay, simulator: Simulator, speaks: str, field: str, rules: str
) -> None:
    relay = await started(start, simulator, rules)
    fields = asked(speaks, "responds", "u", None, **{field: 15})
    got = await relay.post(fields, PATHS[speaks])
    assert got.status == 400
    assert f"'{field}' below 16" in got.json["error"]["message"]
    assert not simulator.requests
    got = await relay.post({**fields, "model": "either"}, PATHS[speaks])
    assert (got.status, got.headers["x-headgate-target"]) == (200, "claude/claude-haiku-4-5")
    assert written(simulator) == {"max_tokens": 15}
    if rules:
        await settle(relay)
        assert overshoot(relay) == 0


async def test_a_lower_cap_that_may_be_dropped_is_the_least_one(
    start: StartRelay, simulator: Simulator
) -> None:
    relay = await started(start, simulator)
    got = await relay.post(asked("chat", "drops", "u", 3))
    assert (got.status, got.headers["x-headgate-dropped"]) == (200, "max_tokens")
    assert written(simulator) == {"max_output_tokens": 16}
    await settle(relay)
    (entry,) = simulator.bill.entries
    assert of_user(relay, "day", "u") == charge(prices(relay)[entry.model], entry)
    assert overshoot(relay) == 0


@pytest.mark.parametrize("rules", [ALL, ""], ids=["held", "no limits"])
async def test_the_providers_own_callers_hear_of_it_from_the_provider(
    start: StartRelay, simulator: Simulator, rules: str
) -> None:
    relay = await started(start, simulator, rules)
    got = await relay.post(asked("responses", "responds", "u", 15), PATHS["responses"])
    assert (got.status, got.error["param"]) == (400, "max_output_tokens")
    assert written(simulator) == {"max_output_tokens": 15}


async def test_limits_shrink_no_cap_below_what_a_provider_takes(
    start: StartRelay, simulator: Simulator
) -> None:
    """Of 20 tokens of output it has 18: that is too few to shrink to, as elsewhere below the floor."""
    for room, status in ((21, 200), (18, 429)):
        relay = await started(start, simulator, f"limits: [{{name: out, output_tokens: {room}/min}}]\n")
        got = await relay.post(asked("chat", "responds", "u", 20))
        assert got.status == status


@pytest.mark.parametrize(("unpriced", "status"), [("refuse", 403), ("allow", 400)])
async def test_a_fast_answer_whose_price_nobody_knows_is_refused(
    start: StartRelay, simulator: Simulator, unpriced: str, status: int
) -> None:
    relay = await started(
        start, simulator, f"budgets: [{{name: day, usd: 10, every: day, unpriced: {unpriced}}}]\n"
    )
    before = simulator.requests.total
    got = await relay.post(asked("messages", "writes", "u", speed="fast"), PATHS["messages"])
    # The simulated provider has no fast answers, and says so.
    assert got.status == status
    assert simulator.requests.total - before == (0 if status == 403 else 1)
