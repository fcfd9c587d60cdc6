"""While the store cannot be asked: purses serve, then each rule says what happens; all is booked later."""

from __future__ import annotations

import asyncio

import pytest

from gateway.simulator.server import Simulator
from tests.line.conftest import StartRelay
from tests.line.ledgers import DAY, bill, governed, overshoot, posted, settle, used
from tests.line.test_rules import two_targets
from tests.relaying import CHAT, Relay
from tests.running import eventually


def down(rule: str, how: str) -> str:
    return rule.replace("}]", f", when_store_down: {how}}}]")


async def emptied(relay: Relay) -> None:
    """No purse has anything."""
    relay.line.ledger.purses.give_all_back()
    relay.line.ledger.teller.hurry()
    await settle(relay)


async def cut_off(relay: Relay) -> None:
    """The store is gone, and no purse has anything."""
    await emptied(relay)
    relay.store.put(up=False)


RULES = {
    "money": DAY,
    # Slow rates: what refills while the store is out is not taken from them.
    "requests": "limits: [{name: r, requests: 100/day}]\n",
    "tokens": "limits: [{name: r, tokens: 20k/day, burst: 20000}]\n",
    "concurrent": "limits: [{name: r, concurrent: 5}]\n",
}


@pytest.mark.parametrize("rule", RULES.values(), ids=RULES.keys())
async def test_closed(start: StartRelay, simulator: Simulator, rule: str) -> None:
    relay = await start(governed(simulator.url, down(rule, "closed")))
    assert (await relay.post()).status == 200
    await cut_off(relay)
    refused = await relay.post()
    assert (refused.status, refused.error["code"]) == (503, "store_unavailable")
    assert int(refused.headers["retry-after"]) > 0
    relay.store.put(up=True)
    assert (await relay.post()).status == 200
    await settle(relay)
    assert simulator.requests.total == 2
    assert overshoot(relay) == 0


@pytest.mark.parametrize("rule", RULES.values(), ids=RULES.keys())
async def test_open_goes_on_and_is_booked_later(start: StartRelay, simulator: Simulator, rule: str) -> None:
    relay = await start(governed(simulator.url, down(rule, "open")))
    assert "x-headgate-degraded" not in (await relay.post()).headers
    await cut_off(relay)
    answers = [
        await relay.post(),
        await relay.stream(),
        await relay.post({**CHAT, "simulate": {"fault": "cut"}}),
    ]
    assert [answer.status for answer in answers[:2]] == [200, 200]
    assert [answer.headers["x-headgate-degraded"] for answer in answers[:2]] == ["store"] * 2
    relay.store.put(up=True)
    await settle(relay)
    total = simulator.bill.total()
    if "usd" in rule:
        assert posted(relay) >= bill(relay, simulator) > 0
    elif "requests" in rule:
        assert used(relay, "r.requests") == 4
    elif "tokens" in rule:
        assert used(relay, "r.tokens") >= total.input_tokens + total.output_tokens
    else:
        assert relay.store.free("r.concurrent|all|") == 5
    assert "x-headgate-degraded" not in (await relay.post()).headers
    assert overshoot(relay) == 0


async def test_open_is_booked_exactly(start: StartRelay, simulator: Simulator) -> None:
    relay = await start(governed(simulator.url, down(DAY, "open") + down(RULES["tokens"], "open")))
    await cut_off(relay)
    await asyncio.gather(*(relay.post() for _ in range(5)), *(relay.stream() for _ in range(5)))
    relay.store.put(up=True)
    await settle(relay)
    assert posted(relay) == bill(relay, simulator) > 0
    total = simulator.bill.total()
    assert used(relay, "r.tokens") == total.input_tokens + total.output_tokens


async def test_share_of_a_rate(start: StartRelay, simulator: Simulator) -> None:
    relay = await start(governed(simulator.url, "limits: [{name: r, requests: 60/hour, burst: 3}]\n"))
    relay.store.put(up=False)
    statuses = [(await relay.post()).status for _ in range(5)]
    assert statuses == [200, 200, 200, 429, 429]
    relay.store.put(up=True)
    await settle(relay)
    assert used(relay, "r.requests") == 3
    assert (await relay.post()).status == 429, "what was let through is taken from the rate"


async def test_share_of_a_target_is_used_up(start: StartRelay, simulator: Simulator) -> None:
    relay = await start(two_targets(simulator, "{requests: 60/hour, burst: 1}"))
    relay.store.put(up=False)
    answers = [await relay.post({**CHAT, "model": "two"}) for _ in range(2)]
    assert [answer.headers.get("x-headgate-target") for answer in answers] == ["upstream/a", "upstream/b"]


async def test_shadow_refuses_nothing(start: StartRelay, simulator: Simulator) -> None:
    relay = await start(governed(simulator.url, DAY.replace("every: day", "every: day, mode: shadow")))
    relay.store.put(up=False)
    assert (await relay.post()).status == 200
    relay.store.put(up=True)
    await settle(relay)
    assert posted(relay) == bill(relay, simulator)


async def test_purse_serves_without_the_store(start: StartRelay, simulator: Simulator) -> None:
    relay = await start(
        governed(simulator.url, down("limits: [{name: r, requests: 60k/min, burst: 60000}]\n", "closed"))
    )
    for _ in range(5):
        assert (await relay.post()).status == 200
    purse = relay.line.ledger.purses._purses["r.requests|all|"]
    await eventually(lambda: purse.balance > 3)
    relay.store.put(up=False)
    answers = [await relay.post() for _ in range(3)]
    assert [answer.status for answer in answers] == [200] * 3
    assert "x-headgate-degraded" not in answers[0].headers


async def test_store_that_does_not_answer_in_time(start: StartRelay, simulator: Simulator) -> None:
    """The first three calls wait 100 ms; then nobody waits until it answers again."""
    relay = await start(governed(simulator.url, down(DAY, "closed")))
    await relay.post()
    await emptied(relay)
    # It is there, as far as the worker knows, and says nothing.
    relay.store.is_up = False
    loop, waited = asyncio.get_running_loop(), []
    for _ in range(5):
        before = loop.time()
        assert (await relay.post()).status == 503
        waited.append(loop.time() - before)
    assert min(waited[:3]) > 0.09
    assert max(waited[3:]) < 0.09
    relay.store.put(up=True)
    await eventually(lambda: relay.line.ledger.teller.is_up)
    assert (await relay.post()).status == 200
    await settle(relay)
    assert posted(relay) == bill(relay, simulator)
    assert overshoot(relay) == 0


async def test_store_goes_while_calls_are_under_way(start: StartRelay, simulator: Simulator) -> None:
    relay = await start(governed(simulator.url))
    calls = [
        asyncio.ensure_future(
            relay.post({**CHAT, "user": "u", "stream": n % 2 == 0, "simulate": {"first_token_ms": 80}})
        )
        for n in range(6)
    ]
    await simulator.requests.wait(6)
    relay.store.put(up=False)
    assert {answer.status for answer in await asyncio.gather(*calls)} == {200}
    relay.store.put(up=True)
    await settle(relay)
    assert posted(relay) == bill(relay, simulator)
