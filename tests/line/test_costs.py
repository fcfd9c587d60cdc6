"""What calls cost beyond a plain answer: several choices, retries, dearer targets, providers that cheat."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from gateway.simulator.server import Simulator
from tests.conftest import StartSimulator
from tests.line.conftest import StartRelay, StartScripted
from tests.line.ledgers import DAY, bill, governed, overshoot, posted, settle
from tests.relaying import CHAT
from tests.running import eventually, policy_for
from tests.scripted import answer as answer_of

COMPLETION = {"model": "gpt-3.5-turbo-instruct", "prompt": "The river", "max_tokens": 200}
EMBEDDING = {"model": "text-embedding-3-small", "input": ["a river", "a lake"]}
LONG = {"output_tokens": 180}


@pytest.mark.parametrize(
    ("path", "asked"),
    [
        ("/completions", {**COMPLETION, "n": 3, "simulate": LONG}),
        ("/completions", {**COMPLETION, "n": 2, "best_of": 5, "simulate": LONG}),
        ("/completions", {**COMPLETION, "prompt": ["a", "b"], "n": 2, "simulate": LONG}),
        ("/completions", {**COMPLETION, "best_of": 20, "simulate": {**LONG, "fault": "no_usage"}}),
        ("/completions", {**COMPLETION, "best_of": 20, "simulate": {**LONG, "fault": "truncated"}}),
        ("/completions", {**COMPLETION, "n": 3, "stream": True, "simulate": {**LONG, "fault": "cut"}}),
        ("/chat/completions", {**CHAT, "n": 3}),
        ("/chat/completions", {**CHAT, "n": 3, "stream": True}),
        ("/chat/completions", {**CHAT, "n": 3, "stream": True, "simulate": {"fault": "cut"}}),
        ("/chat/completions", {**CHAT, "service_tier": "flex"}),
        ("/embeddings", EMBEDDING),
        ("/embeddings", {**EMBEDDING, "simulate": {"fault": "no_usage"}}),
        ("/embeddings", {**EMBEDDING, "simulate": {"fault": "truncated"}}),
    ],
)
async def test_choices(start: StartRelay, simulator: Simulator, path: str, asked: dict[str, Any]) -> None:
    relay = await start(governed(simulator.url, DAY))
    await relay.post(asked, path)
    await eventually(lambda: simulator.bill.entries)
    await settle(relay)
    truth = bill(relay, simulator)
    if "fault" in asked.get("simulate", {}):
        assert posted(relay) >= truth
    else:
        assert posted(relay) == truth > 0
    assert overshoot(relay) == 0


async def test_reasoning_that_nobody_sees(start: StartRelay, simulator: Simulator) -> None:
    """A model that reasons by its name, and one that has only said so itself."""
    models = "  secret: {targets: [upstream/o4-mini-like]}\n  o4-mini: {targets: [upstream/o4-mini]}\n"
    relay = await start(governed(simulator.url, DAY, models=models))
    asked = {**CHAT, "max_completion_tokens": 5_000, "simulate": {"fault": "no_usage"}}
    await relay.post({**asked, "model": "o4-mini"})
    await relay.post({**CHAT, "model": "secret"})
    await relay.post({**asked, "model": "secret"})
    await settle(relay)
    assert simulator.bill.total().reasoning_tokens > 0
    assert posted(relay) >= bill(relay, simulator)
    assert overshoot(relay) == 0


async def test_retries_and_a_dearer_target(start: StartRelay, simulate: StartSimulator) -> None:
    """Each attempt that may have been charged for is posted at its own target's price."""
    cheap, dear = await simulate(output_tokens=20), await simulate(output_tokens=30)
    policy = f"""version: 1
providers:
  cheap: {{base_url: "{cheap.url}"}}
  dear: {{base_url: "{dear.url}"}}
models:
  both: {{targets: [cheap/a, dear/b], retries: {{attempts: 1}}, fallback_on: [server_error, bad_answer]}}
prices:
  cheap/*: {{input: 0.1, output: 1}}
  dear/*: {{input: 10, output: 100}}
"""
    keys = policy_for("http://unused").split("teams:")[1]
    relay = await start(f"{policy}teams:{keys}{DAY}")
    answers = []
    for fault in ("status_500", "not_json", "none", "truncated"):
        simulated = {"by_model": {"a": {"fault": fault}}}
        answers.append(await relay.post({**CHAT, "model": "both", "max_tokens": 50, "simulate": simulated}))
    assert [answer.status for answer in answers] == [200] * 4
    await settle(relay)
    truth = bill(relay, cheap, dear)
    assert posted(relay) >= truth
    by_target: dict[str, list[Any]] = {}
    for row in relay.store.rows:
        by_target.setdefault(row[6], []).append(row)
    assert {row[8] for row in by_target["dear/b"]} == {"ok"}
    assert sum(row[-3] for row in by_target["dear/b"]) == bill(relay, dear)
    assert len(relay.store.rows) == sum(int(answer.headers["x-headgate-attempts"]) for answer in answers)
    refused = [row for row in by_target["cheap/a"] if row[7] == 500]
    assert [row[-3] for row in refused] == [0] * len(refused)
    assert overshoot(relay) == 0


async def test_provider_that_does_not_keep_to_the_cap(
    start: StartRelay, simulator: Simulator, capfd: pytest.CaptureFixture[str]
) -> None:
    relay = await start(governed(simulator.url, DAY))
    asked = {**CHAT, "max_tokens": 20, "simulate": {"overrun_tokens": 5_000}}
    await relay.post(asked)
    await relay.stream(asked)
    await settle(relay)
    truth = bill(relay, simulator)
    assert posted(relay) == truth > 2 * 5_000 * 600
    assert 0 < truth - overshoot(relay) < 2 * 100_000, "what was held for the two"
    lines = capfd.readouterr().err.splitlines()
    assert len([line for line in lines if "error: upstream/gpt-4o-mini reports" in line]) == 2


@pytest.mark.parametrize("kind", ["class: estimate", "mode: shadow"])
async def test_more_than_an_estimate_is_no_overshoot(
    start: StartRelay, simulator: Simulator, kind: str
) -> None:
    rules = f"budgets: [{{name: day, usd: 10, every: day, {kind}}}]\n"
    relay = await start(governed(simulator.url, rules))
    for _ in range(3):
        await relay.post({**CHAT, "simulate": {"output_tokens": 3_000}})
        await relay.post({**CHAT, "simulate": {"output_tokens": 5}})
    await settle(relay)
    assert posted(relay) == bill(relay, simulator)
    assert overshoot(relay) == 0


async def test_absurd_usage_is_not_under_the_truth(start: StartRelay, scripted: StartScripted) -> None:
    body = (
        b'{"id": "x", "choices": [{"index": 0, "message": {"role": "assistant", "content": "Hi."}}],'
        b'"usage": {"prompt_tokens": %d, "completion_tokens": %d, "total_tokens": 0}}'
    )
    provider = await scripted(turns=[[answer_of(body % (-5, 3))], [answer_of(body % (3, 10**15))]])
    relay = await start(governed(provider.url, DAY))
    await relay.post({**CHAT, "max_tokens": 100})
    await relay.post({**CHAT, "max_tokens": 100})
    await settle(relay)
    assert posted(relay) > 2 * 100 * 600
    assert overshoot(relay) == 0


async def test_searches_are_charged_beside_the_tokens(start: StartRelay, simulator: Simulator) -> None:
    policy = governed(simulator.url, DAY).replace("output: 0.60}", "output: 0.60, per_search: 0.01}")
    models = "[upstream/gpt-4o-mini]"
    policy = policy.replace(models, "[{provider: upstream, model: gpt-4o-mini, context: 128000}]", 1)
    relay = await start(policy)
    answer = await relay.post({**CHAT, "web_search_options": {}})
    assert answer.status == 200, answer.body
    await settle(relay)
    assert posted(relay) == bill(relay, simulator) + 10_000_000
    assert overshoot(relay) == 0


async def test_many_at_once(start: StartRelay, simulate: StartSimulator) -> None:
    """A budget for half of the calls: it is never passed, and all of it but one call's worth is used."""
    simulator = await simulate(output_tokens=100)
    relay = await start(governed(simulator.url, "budgets: [{name: day, usd: 0.0015, every: day}]\n"))
    asked = {**CHAT, "max_tokens": 100}

    async def caller() -> list[int]:
        return [(await relay.post(asked)).status for _ in range(5)]

    statuses = [status for found in await asyncio.gather(*(caller() for _ in range(10))) for status in found]
    await settle(relay)
    assert posted(relay) == bill(relay, simulator) <= 1_500_000
    assert {200, 429} == set(statuses)
    assert overshoot(relay) == 0
    while (await relay.post(asked)).status == 200:
        pass
    await settle(relay)
    assert 1_500_000 - 220_000 < posted(relay) <= 1_500_000, "less than one hold is left"
