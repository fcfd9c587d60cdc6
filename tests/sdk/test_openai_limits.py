"""What the official client does when a limit or a budget refuses: it waits as told, or gives up at once."""

from __future__ import annotations

import asyncio
from typing import Any

import openai
import pytest

from gateway.simulator.server import Simulator
from tests.line.conftest import StartRelay
from tests.running import KEY, eventually, policy_for
from tests.sdk.asking import Sdk
from tests.sdk.conftest import MakeSdk

MESSAGES: Any = [{"role": "user", "content": "Tell me about rivers."}]


async def chat(sdk: Sdk, **more: Any) -> Any:
    asked = {"model": "gpt-4o-mini", "messages": MESSAGES, **more}
    return await sdk.call(lambda client: client.chat.completions.create(**asked))


async def test_rate_is_waited_for(start: StartRelay, simulator: Simulator, make: MakeSdk) -> None:
    """The ticket lets its first retry in: two calls of which the second waits a tenth of a second."""
    relay = await start(policy_for(simulator.url) + "limits: [{name: r, requests: 600/min, burst: 1}]\n")
    sdk = make(relay.url, max_retries=1)
    for _ in range(3):
        assert (await chat(sdk)).choices
    assert simulator.requests.total == 3
    refusals = relay.counted("headgate_limit_refused_total", "r", "enforce")
    assert 1 <= refusals <= 2


async def test_spent_budget_is_not_tried_again(
    start: StartRelay, simulator: Simulator, make: MakeSdk
) -> None:
    relay = await start(policy_for(simulator.url) + "budgets: [{name: b, usd: 0.000001, every: day}]\n")
    with pytest.raises(openai.RateLimitError) as raised:
        await chat(make(relay.url, max_retries=5))
    assert (raised.value.code, raised.value.type) == ("insufficient_quota", "insufficient_quota")
    assert isinstance(raised.value.body, dict)
    assert raised.value.body["budget"] == "b"
    assert len(await relay.logged()) == 1


async def test_held_money_is_waited_for(start: StartRelay, simulator: Simulator, make: MakeSdk) -> None:
    """A call under way holds all that is left: the client waits for it, and gets in."""
    rules = "budgets: [{name: b, usd: 0.0016, every: day}]\n"
    relay = await start(policy_for(simulator.url) + rules)
    sdk = make(relay.url, max_retries=2)
    asked = {"max_tokens": 2_500, "extra_body": {"simulate": {"first_token_ms": 300}}}
    first = await sdk_begins(relay, asked)
    assert (await chat(sdk, max_tokens=2_500)).choices
    assert (await first).choices
    refusals = [line for line in await relay.logged(3) if line["status"] == 429]
    assert {line["error"] if "error" in line else line["error_type"] for line in refusals} == {
        "policy_budget_held"
    }


async def sdk_begins(relay: Any, asked: dict[str, Any]) -> Any:
    """A call that has reached the provider."""
    client = openai.AsyncOpenAI(base_url=relay.url, api_key=KEY)
    task = asyncio.create_task(
        client.chat.completions.create(model="gpt-4o-mini", messages=MESSAGES, **asked)
    )
    await eventually(lambda: any(each.claim is not None for each in relay.line.exchanges))
    return task


@pytest.mark.parametrize(
    ("rules", "exception", "code"),
    [
        ("budgets: [{name: b, usd: 1, every: day}]\n", openai.PermissionDeniedError, "unpriced_under_budget"),
        ("limits: [{name: c, concurrent: 0}]\n", openai.RateLimitError, "rate_limit_exceeded"),
        ("limits: [{name: t, tokens: 1/hour, burst: 1}]\n", openai.RateLimitError, "rate_limit_exceeded"),
    ],
)
async def test_exceptions(
    start: StartRelay, simulator: Simulator, make: MakeSdk, rules: str, exception: type[Exception], code: str
) -> None:
    policy = policy_for(simulator.url).replace("upstream/*:", "upstream/nothing:") + rules
    relay = await start(policy)
    with pytest.raises(exception) as raised:
        await chat(make(relay.url))
    assert raised.value.code == code  # type: ignore[attr-defined]


async def test_store_that_is_gone(start: StartRelay, simulator: Simulator, make: MakeSdk) -> None:
    relay = await start(policy_for(simulator.url) + "budgets: [{name: b, usd: 1, every: day}]\n")
    relay.store.put(up=False)
    with pytest.raises(openai.InternalServerError) as raised:
        await chat(make(relay.url))
    assert (raised.value.status_code, raised.value.code) == (503, "store_unavailable")
