"""The output cap: what is held is what is written to the provider; and what cannot be held is refused."""

from __future__ import annotations

import asyncio
import json
from typing import Any

import pytest

from gateway.quota.bound import OVERHEAD_TOKENS
from gateway.simulator.server import Simulator
from tests.line.conftest import StartRelay
from tests.line.ledgers import DAY, bill, governed, overshoot, posted, settle, used
from tests.relaying import CHAT, Relay

TOKENS = "limits: [{name: t, tokens: 10m/min}]\n"


async def sent(relay: Relay, simulator: Simulator, path: str = "/chat/completions", **more: Any) -> Any:
    """The body that the provider got."""
    answer = await relay.post({**CHAT, **more}, path)
    assert answer.status == 200, answer.body
    return simulator.requests[-1].body


def caps(body: Any) -> dict[str, int]:
    return {name: body[name] for name in ("max_tokens", "max_completion_tokens") if name in body}


@pytest.mark.parametrize(
    ("rules", "asked", "written"),
    [
        ("", {}, {}),
        ("limits: [{name: r, requests: 100/min}]\n", {}, {}),
        ("limits: [{name: r, concurrent: 10}]\n", {}, {}),
        (DAY.replace("every: day", "every: day, mode: shadow"), {}, {}),
        (DAY, {}, {"max_tokens": 4_096}),
        (TOKENS, {}, {"max_tokens": 4_096}),
        (DAY.replace("every: day", "every: day, class: estimate"), {}, {"max_tokens": 4_096}),
        (DAY.replace("every", "default_output_tokens: 300, every"), {}, {"max_tokens": 300}),
        (DAY, {"max_tokens": 50}, {"max_tokens": 50}),
        (DAY, {"max_completion_tokens": 50}, {"max_tokens": 50}),
        (DAY, {"max_tokens": 50, "max_completion_tokens": 70}, {"max_tokens": 70}),
    ],
)
async def test_cap_that_is_held_is_written(
    start: StartRelay, simulator: Simulator, rules: str, asked: dict[str, int], written: dict[str, int]
) -> None:
    relay = await start(governed(simulator.url, rules))
    assert caps(await sent(relay, simulator, **asked)) == written
    assert caps(await sent(relay, simulator, stream=True, **asked)) == written


async def test_completions_keep_their_own_default(start: StartRelay, simulator: Simulator) -> None:
    relay = await start(governed(simulator.url, DAY))
    asked = {"model": "gpt-3.5-turbo-instruct", "prompt": "x"}
    assert caps(await sent(relay, simulator, "/completions", **asked)) == {"max_tokens": 16}


async def test_ceiling_of_the_target(start: StartRelay, simulator: Simulator) -> None:
    models = "  small: {targets: [{provider: upstream, model: s, max_output: 100, context: 2000}]}\n"
    relay = await start(governed(simulator.url, DAY, models=models))
    assert caps(await sent(relay, simulator, model="small")) == {"max_tokens": 100}
    assert caps(await sent(relay, simulator, model="small", max_tokens=900)) == {"max_tokens": 100}


def left_for(tokens: int, **asked: Any) -> str:
    """A budget with room for so much output beside the input of a call at most."""
    most = len(json.dumps({**CHAT, **asked})) + OVERHEAD_TOKENS
    return f"budgets: [{{name: day, usd: {(most * 150 + tokens * 600) / 1e9:.9f}, every: day}}]\n"


@pytest.mark.parametrize(
    ("model", "room", "fits"),
    [("gpt-4o-mini", 700, True), ("gpt-4o-mini", 200, False), ("o4", 5_000, True), ("o4", 3_000, False)],
)
async def test_cap_shrinks_to_what_is_left_but_not_below_the_floor(
    start: StartRelay, simulator: Simulator, model: str, room: int, fits: bool
) -> None:
    models = "  o4: {targets: [upstream/o4-mini]}\n"
    asked = {"model": model, "max_completion_tokens": 9_000}
    relay = await start(governed(simulator.url, left_for(room, **asked), models=models))
    answer = await relay.post({**CHAT, **asked})
    if not fits:
        assert (answer.status, answer.error["code"]) == (429, "insufficient_quota")
        return
    told = int(answer.headers["x-headgate-max-tokens"])
    assert room - 1 <= told <= room, "each kind of token is rounded up"
    assert caps(simulator.requests[-1].body) == {"max_tokens": told}
    await settle(relay)
    assert posted(relay) == bill(relay, simulator)
    assert overshoot(relay) == 0


async def test_small_cap_is_not_made_smaller(start: StartRelay, simulator: Simulator) -> None:
    relay = await start(governed(simulator.url, left_for(100, max_tokens=90)))
    answer = await relay.post({**CHAT, "max_tokens": 90})
    assert answer.status == 200
    assert "x-headgate-max-tokens" not in answer.headers
    assert (await relay.post({**CHAT, "max_tokens": 150})).status == 429


async def test_cap_of_a_target_that_failed_is_not_told(start: StartRelay, simulator: Simulator) -> None:
    models = (
        "  two: {targets: [upstream/dear, upstream/cheap], retries: {attempts: 0}}\n"
        "prices:\n  upstream/dear: {input: 0.15, output: 6}\n"
    )
    policy = governed(simulator.url, left_for(4_200), models=models).replace(
        "prices:\n  upstream/*", "  upstream/*", 1
    )
    relay = await start(policy)
    simulated = {"by_model": {"dear": {"fault": "status_500"}}}
    answer = await relay.post({**CHAT, "model": "two", "simulate": simulated})
    assert (answer.status, answer.headers["x-headgate-target"]) == (200, "upstream/cheap")
    assert "x-headgate-max-tokens" not in answer.headers
    bodies = [caps(request.body)["max_tokens"] for request in simulator.requests]
    assert bodies[0] < 450
    assert bodies[1] == 4_096


async def test_token_limits_hold_an_estimate_or_the_most(start: StartRelay, simulator: Simulator) -> None:
    """Of a minute's 6,000 tokens: estimates let five calls of 4,096 through at once, strict ones one."""
    for strict, expected in (("false", 5), ("true", 1)):
        rules = f"limits: [{{name: t, tokens: 6000/min, strict: {strict}}}]\n"
        relay = await start(governed(simulator.url, rules))
        asked = {**CHAT, "max_tokens": 4_096, "simulate": {"first_token_ms": 100}}
        answers = await asyncio.gather(*(relay.post(asked) for _ in range(6)))
        assert [answer.status for answer in answers].count(200) == expected, strict
        refused = next(answer for answer in answers if answer.status == 429)
        assert refused.error["type"] == "tokens"
        await settle(relay)
        total = simulator.bill.total()
        simulator.bill.totals.clear()
        assert used(relay, "t.tokens") == total.input_tokens + total.output_tokens


@pytest.mark.parametrize("measure", ["input_tokens", "output_tokens"])
async def test_input_and_output_are_counted_apart(
    start: StartRelay, simulator: Simulator, measure: str
) -> None:
    relay = await start(governed(simulator.url, f"limits: [{{name: t, {measure}: 10m/min}}]\n"))
    await relay.post()
    await relay.stream()
    await settle(relay)
    total = simulator.bill.total()
    assert used(relay, f"t.{measure}") == getattr(total, measure)


UNPRICED = "  nobody: {targets: [other/x]}\n  mixed: {targets: [other/x, upstream/gpt-4o]}\n"


async def test_what_has_no_price(start: StartRelay, simulator: Simulator) -> None:
    policy = governed(simulator.url, DAY, models=UNPRICED).replace(
        "models:", f'  other: {{base_url: "{simulator.url}"}}\nmodels:', 1
    )
    relay = await start(policy)
    refused = await relay.post({**CHAT, "model": "nobody"})
    assert (refused.status, refused.error["code"]) == (403, "unpriced_under_budget")
    answer = await relay.post({**CHAT, "model": "mixed"})
    assert (answer.status, answer.headers["x-headgate-target"]) == (200, "upstream/gpt-4o")
    relay.use(policy.replace("every: day", "every: day, unpriced: allow"))
    assert (await relay.post({**CHAT, "model": "nobody"})).status == 200
    await settle(relay)
    assert overshoot(relay) == 0


PICTURE = [
    {
        "role": "user",
        "content": [
            {"type": "text", "text": "What is this?"},
            {"type": "file", "file": {"file_data": "data:application/pdf;base64,AAAA", "filename": "a.pdf"}},
        ],
    }
]


async def test_input_that_nothing_bounds(start: StartRelay, simulator: Simulator) -> None:
    models = "  known: {targets: [{provider: upstream, model: k, context: 100000}]}\n"
    policy = governed(simulator.url, DAY, models=models)
    relay = await start(policy)
    refused = await relay.post({**CHAT, "messages": PICTURE})
    assert (refused.status, refused.error["code"]) == (400, "unbounded_input")
    answer = await relay.post({**CHAT, "model": "known", "messages": PICTURE, "simulate": {"fault": "close"}})
    assert answer.status == 502
    await settle(relay)
    (row, *_) = relay.store.rows
    assert row[9] == 100_000
    relay.use(policy.replace("every: day", "every: day, unbounded: refuse"))
    assert (await relay.post({**CHAT, "model": "known", "messages": PICTURE})).status == 400
    relay.use(policy.replace("every: day", "every: day, class: estimate"))
    assert (await relay.post({**CHAT, "messages": PICTURE})).status == 200
