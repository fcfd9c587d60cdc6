"""Several rules at once, for whom they are, and what becomes of the calls that they refuse."""

from __future__ import annotations

import asyncio
import hashlib
from typing import Any

import pytest

from gateway.simulator.server import Simulator
from tests.conftest import StartSimulator
from tests.line.conftest import StartRelay
from tests.line.ledgers import bill, charge, governed, overshoot, posted, prices, settle, used
from tests.relaying import CHAT, Relay
from tests.running import KEY, eventually

OTHER = "hg-" + "o" * 43
KEYS = f"""  other: {{team: sales, sha256: {hashlib.sha256(OTHER.encode()).hexdigest()}}}
"""


def with_teams(url: str, rules: str, *, models: str = '["*"]') -> str:
    """Another team with a key of its own, and tags that callers may set."""
    text = governed(url, rules, rest=KEYS)
    return text.replace(
        '  search: {models: ["*"]}', f'  search: {{models: ["*"]}}\n  sales: {{models: {models}}}'
    )


async def statuses(relay: Relay, count: int, *, key: str = KEY, **more: Any) -> list[int]:
    return [(await relay.post({**CHAT, **more}, key=key)).status for _ in range(count)]


async def tagged(relay: Relay, *tags: str, key: str = KEY) -> int:
    return (await relay.post(key=key, headers={"x-headgate-tags": ", ".join(tags)})).status


def buckets(relay: Relay) -> set[str]:
    return {bucket.rpartition("|")[0] for bucket in relay.store.book.buckets}


async def test_refused_call_takes_nothing_from_other_rules(start: StartRelay, simulator: Simulator) -> None:
    rules = """limits:
  - {name: wide, requests: 1000/hour, tokens: 1m/hour, concurrent: 10, burst: {requests: 100, tokens: 1m}}
  - {name: tight, requests: 1/hour, burst: 1}
budgets: [{name: day, usd: 10, every: day}]
"""
    relay = await start(governed(simulator.url, rules))
    assert await statuses(relay, 6) == [200] + [429] * 5
    await settle(relay)
    assert used(relay, "wide.requests") == used(relay, "tight.requests") == 1
    assert posted(relay) == bill(relay, simulator)
    now_ms = relay.store.now_ms()
    for bucket in relay.store.book.buckets.values():
        if bucket.id.startswith("wide"):
            relay.line.ledger.purses.give_all_back()
    relay.line.ledger.teller.hurry()
    await settle(relay)
    free = {bucket: relay.store.free(bucket) for bucket in relay.store.book.buckets}
    total = simulator.bill.total()
    assert free["wide.requests|all|"] == 99
    assert free["wide.concurrent|all|"] == 10
    assert 1_000_000 - free["wide.tokens|all|"] <= total.input_tokens + total.output_tokens
    assert now_ms <= relay.store.now_ms()


@pytest.mark.parametrize(
    ("per", "subjects"),
    [
        ("key", {"key=app", "key=other"}),
        ("team", {"team=search", "team=sales"}),
        ("model", {"model=gpt-4o-mini", "model=gpt-4o"}),
        ("target", {"target=upstream/gpt-4o-mini", "target=upstream/gpt-4o"}),
        ("user", {"user=ann"}),
        ("[team, user]", {"team=search,user=ann"}),
        ("all", {"all"}),
    ],
)
async def test_each_subject_has_its_own(
    start: StartRelay, simulator: Simulator, per: str, subjects: set[str]
) -> None:
    rules = f"limits: [{{name: r, requests: 2/hour, burst: 2, per: {per}}}]\n"
    relay = await start(with_teams(simulator.url, rules))
    first = await statuses(relay, 3, user="ann")
    others = await statuses(relay, 1, key=OTHER, model="gpt-4o")
    await settle(relay)
    assert first == [200, 200, 429]
    assert others == ([429] if per == "all" else [200])
    assert buckets(relay) == {f"r.requests|{subject}" for subject in subjects}


async def test_users_beyond_the_most_are_one(start: StartRelay, simulator: Simulator) -> None:
    rules = "limits: [{name: u, requests: 1/hour, burst: 1, per: user, max_subjects: 2}]\n"
    relay = await start(governed(simulator.url, rules))
    found = [await statuses(relay, 1, user=user) for user in ("ann", "bob", "cleo", "dan", "ann")]
    assert found == [[200], [200], [200], [429], [429]]
    assert buckets(relay) == {"u.requests|user=ann", "u.requests|user=bob", "u.requests|user=_other"}
    assert await statuses(relay, 3) == [200] * 3, "a call without a user is not counted"


async def test_each_tag_of_a_call_has_its_own(start: StartRelay, simulator: Simulator) -> None:
    rules = "limits: [{name: t, requests: 2/hour, burst: 2, per: tag}]\n"
    relay = await start(governed(simulator.url, rules))
    assert await tagged(relay, "blue", "red", "blue") == 200
    assert await tagged(relay, "blue") == 200
    assert await tagged(relay, "blue") == 429, "two tags of a call count once each"
    assert await tagged(relay, "red") == 200
    assert await tagged(relay, "red") == 429
    assert await tagged(relay, "") == 200, "a call without a tag is not counted"
    assert await statuses(relay, 3) == [200] * 3
    await settle(relay)
    assert buckets(relay) == {"t.requests|tag=blue", "t.requests|tag=red"}
    assert used(relay, "t.requests") == 4


async def test_call_needs_something_of_all_its_tags(start: StartRelay, simulator: Simulator) -> None:
    rules = """limits: [{name: t, requests: 2/hour, burst: 2, per: tag}]
budgets: [{name: day, usd: 0.0006, every: day, per: tag}]
"""
    relay = await start(governed(simulator.url, rules))
    assert [await tagged(relay, "blue") for _ in range(3)] == [200, 200, 429]
    assert [await tagged(relay, "red", "blue") for _ in range(3)] == [429] * 3
    await settle(relay)
    assert used(relay, "t.requests") == 2, "what was refused for one tag took nothing of the other"
    assert posted(relay) == bill(relay, simulator)
    assert [await tagged(relay, "red") for _ in range(3)] == [200, 200, 429]


async def test_each_tag_pays_for_the_whole_call(start: StartRelay, simulator: Simulator) -> None:
    relay = await start(governed(simulator.url, "budgets: [{name: day, usd: 10, every: day, per: tag}]\n"))
    assert await tagged(relay, "blue", "red") == await tagged(relay, "red") == 200
    await settle(relay)
    first, second = (charge(prices(relay)[entry.model], entry) for entry in simulator.bill.entries)
    spent = {bucket.id.split("|")[1]: bucket.spent for bucket in relay.store.book.buckets.values()}
    assert spent == {"tag=blue": first, "tag=red": first + second}


@pytest.mark.parametrize(
    ("per", "subjects"),
    [
        ("[key, tag]", {"key=app,tag=red", "key=other,tag=red", "key=other,tag=blue"}),
        ("[tag, team]", {"team=search,tag=red", "team=sales,tag=red", "team=sales,tag=blue"}),
    ],
)
async def test_tags_of_each_caller_have_their_own(
    start: StartRelay, simulator: Simulator, per: str, subjects: set[str]
) -> None:
    rules = f"limits: [{{name: t, requests: 1/hour, burst: 1, per: {per}}}]\n"
    relay = await start(with_teams(simulator.url, rules))
    assert [await tagged(relay, "red") for _ in range(2)] == [200, 429]
    assert [await tagged(relay, "red", "blue", key=OTHER) for _ in range(2)] == [200, 429]
    await settle(relay)
    assert buckets(relay) == {f"t.requests|{subject}" for subject in subjects}


async def test_match_says_which_tags_count(start: StartRelay, simulator: Simulator) -> None:
    rules = """limits:
  - {name: each, requests: 1/hour, burst: 1, per: tag, match: {tag: [blue, red]}}
  - {name: both, requests: 3/hour, burst: 3, match: {tag: [blue, red]}}
"""
    relay = await start(governed(simulator.url, rules))
    assert [await tagged(relay, "blue", "green"), await tagged(relay, "red", "green")] == [200, 200]
    assert [await tagged(relay, "green") for _ in range(3)] == [200] * 3, "no tag that the match names"
    assert await tagged(relay, "green", "red") == 429
    await settle(relay)
    assert buckets(relay) == {"each.requests|tag=blue", "each.requests|tag=red", "both.requests|all"}
    assert (used(relay, "each.requests"), used(relay, "both.requests")) == (2, 2)


async def test_tags_beyond_the_most_are_one(start: StartRelay, simulator: Simulator) -> None:
    rules = "limits: [{name: t, requests: 1/hour, burst: 1, per: tag, max_subjects: 2}]\n"
    relay = await start(governed(simulator.url, rules))
    found = [await tagged(relay, tag) for tag in ("blue", "red", "green", "grey", "blue")]
    assert found == [200, 200, 200, 429, 429]
    assert buckets(relay) == {"t.requests|tag=blue", "t.requests|tag=red", "t.requests|tag=_other"}


async def test_call_whose_tags_are_both_beyond_the_most_counts_once(
    start: StartRelay, simulator: Simulator
) -> None:
    rules = """limits: [{name: t, requests: 2/hour, burst: 2, per: tag, max_subjects: 1}]
budgets: [{name: day, usd: 10, every: day, per: tag, max_subjects: 1}]
"""
    relay = await start(governed(simulator.url, rules))
    assert await tagged(relay, "blue") == 200
    assert [await tagged(relay, "red", "green") for _ in range(3)] == [200, 200, 429]
    await settle(relay)
    assert used(relay, "t.requests") == 1 + 2
    assert posted(relay) == bill(relay, simulator)


async def test_match_says_which_calls_count(start: StartRelay, simulator: Simulator) -> None:
    rules = """limits:
  - {name: m, requests: 1/hour, burst: 1, match: {model: gpt-4o}}
  - {name: t, requests: 1/hour, burst: 1, match: {team: sales}}
"""
    relay = await start(with_teams(simulator.url, rules))
    assert await statuses(relay, 3) == [200] * 3
    assert await statuses(relay, 2, model="gpt-4o") == [200, 429]
    assert await statuses(relay, 2, key=OTHER) == [200, 429]


def two_targets(simulator: Simulator, own: str, rules: str = "") -> str:
    first = f"{{provider: upstream, model: a, limits: {own}}}" if own else "upstream/a"
    models = f"  two: {{targets: [{first}, upstream/b], retries: {{attempts: 0}}}}\n"
    return governed(simulator.url, rules, models=models)


@pytest.mark.parametrize(
    ("own", "rules"),
    [
        ("{requests: 60/hour, burst: 2}", ""),
        ("{tokens: 3000/hour, burst: {tokens: 1000}}", ""),
        ("", "limits: [{name: x, requests: 2/hour, burst: 2, match: {target: upstream/a}}]\n"),
        ("", "budgets: [{name: x, usd: 0.0006, every: day, match: {target: upstream/a}}]\n"),
    ],
    ids=["requests", "tokens", "match.target", "budget"],
)
async def test_full_target_lets_the_next_be_tried(
    start: StartRelay, simulator: Simulator, own: str, rules: str
) -> None:
    relay = await start(two_targets(simulator, own, rules))
    asked = {**CHAT, "model": "two", "max_tokens": 500, "simulate": {"output_tokens": 400}}
    answers = [await relay.post(asked) for _ in range(4)]
    assert [answer.status for answer in answers] == [200] * 4
    targets = [answer.headers["x-headgate-target"] for answer in answers]
    assert targets[0] == "upstream/a"
    assert targets[-2:] == ["upstream/b"] * 2
    await settle(relay)
    assert {entry.model for entry in simulator.bill.entries} == {"a", "b"}
    assert relay.counted("headgate_fallbacks_total", "two", "limit") == targets.count("upstream/b")


async def test_all_targets_full(start: StartRelay, simulator: Simulator) -> None:
    rules = "limits: [{name: x, requests: 600/min, burst: 1, per: target}]\n"
    relay = await start(two_targets(simulator, "", rules))
    assert await statuses(relay, 2, model="two") == [200, 200]
    refused = await relay.post({**CHAT, "model": "two"})
    assert (refused.status, refused.error["code"]) == (429, "rate_limit_exceeded")
    await asyncio.sleep(int(refused.headers["retry-after-ms"]) / 1000)
    assert await statuses(relay, 1, model="two") == [200]


async def test_caller_is_told_of_the_target_that_is_free_first(
    start: StartRelay, simulator: Simulator
) -> None:
    policy = two_targets(simulator, "{requests: 600/min, burst: 1}").replace(
        "upstream/b]", "{provider: upstream, model: b, limits: {requests: 1/hour, burst: 1}}]"
    )
    relay = await start(policy)
    assert await statuses(relay, 2, model="two") == [200, 200]
    refused = await relay.post({**CHAT, "model": "two"})
    assert refused.status == 429
    assert int(refused.headers["retry-after-ms"]) <= 300, "not in an hour"


async def test_target_counts_attempts_and_the_caller_calls(start: StartRelay, simulator: Simulator) -> None:
    rules = """limits:
  - {name: calls, requests: 100/min, burst: 100}
  - {name: attempts, requests: 100/min, burst: 100, per: target}
"""
    relay = await start(governed(simulator.url, rules))
    answer = await relay.post({**CHAT, "simulate": {"fault": "status_500"}})
    await settle(relay)
    attempts = int(answer.headers["x-headgate-attempts"])
    assert attempts > 1
    assert (used(relay, "calls.requests"), used(relay, "attempts.requests")) == (1, attempts)


async def test_shadow_refuses_nothing_and_counts(start: StartRelay, simulator: Simulator) -> None:
    rules = """limits:
  - {name: r, requests: 2/hour, tokens: 2100/hour, concurrent: 0, mode: shadow, burst: {requests: 2}}
budgets: [{name: day, usd: 0.000010, every: day, mode: shadow}]
"""
    relay = await start(governed(simulator.url, rules))
    answers = [await relay.post() for _ in range(5)]
    assert [answer.status for answer in answers] == [200] * 5
    await settle(relay)
    assert not any("max_tokens" in str(request.body) for request in simulator.requests)
    assert posted(relay) == bill(relay, simulator) > 10_000
    assert relay.counted("headgate_limit_refused_total", "r", "shadow") >= 5 + 3
    assert relay.counted("headgate_limit_refused_total", "day", "shadow") >= 4
    assert overshoot(relay) == 0


async def test_calls_at_once_are_free_at_every_end(start: StartRelay, simulate: StartSimulator) -> None:
    simulator = await simulate(output_tokens=12)
    relay = await start(governed(simulator.url, "limits: [{name: c, concurrent: 2}]\n"))
    faults = ["none", "status_500", "close", "hang", "cut", "not_json", "error_event", "stall", "truncated"]
    for fault in faults:
        for stream in (False, True):
            asked = {**CHAT, "model": "quick", "stream": stream, "simulate": {"fault": fault}}
            found = await asyncio.gather(relay.post(asked), relay.post(asked))
            assert 429 not in [answer.status for answer in found], f"a slot was lost before {fault}"
    await settle(relay)
    assert relay.store.free("c.concurrent|all|") == 2


async def test_calls_at_once_are_never_more(start: StartRelay, simulator: Simulator) -> None:
    relay = await start(governed(simulator.url, "limits: [{name: c, concurrent: 3}]\n"))
    asked = {**CHAT, "simulate": {"first_token_ms": 30}}
    found = await asyncio.gather(*(relay.post(asked) for _ in range(12)))
    codes = sorted(answer.status for answer in found)
    assert codes == [200] * 3 + [429] * 9
    refused = next(answer for answer in found if answer.status == 429)
    assert 50 <= int(refused.headers["retry-after-ms"]) <= 60_000
    await settle(relay)
    assert relay.store.free("c.concurrent|all|") == 3


SPENT = """budgets:
  - {name: dear, usd: 0.0000001, every: day, match: {model: gpt-4o}, when_spent: {use: gpt-4o-mini}}
"""


async def test_spent_budget_uses_another_model(start: StartRelay, simulator: Simulator) -> None:
    relay = await start(with_teams(simulator.url, SPENT, models="[gpt-4o]"))
    answer = await relay.post({**CHAT, "model": "gpt-4o"})
    assert answer.status == 200
    assert answer.headers["x-headgate-target"] == "upstream/gpt-4o-mini"
    other = await relay.post({**CHAT, "model": "gpt-4o"}, key=OTHER)
    assert other.headers["x-headgate-target"] == "upstream/gpt-4o-mini", "the policy says so, not the caller"
    assert (await relay.post(key=OTHER)).status == 403
    await settle(relay)
    assert {entry.model for entry in simulator.bill.entries} == {"gpt-4o-mini"}


async def test_chain_of_spent_budgets_and_a_circle(start: StartRelay, simulator: Simulator) -> None:
    chain = SPENT + (
        "  - {name: mini, usd: 0.0000001, every: day, match: {model: gpt-4o-mini}, when_spent: {use: %s}}\n"
    )
    relay = await start(governed(simulator.url, chain % "quick"))
    answer = await relay.post({**CHAT, "model": "gpt-4o"})
    assert (answer.status, answer.headers["x-headgate-target"]) == (200, "upstream/gpt-4o-mini")
    assert (await relay.logged())[0]["model"] == "quick"
    relay.use(governed(simulator.url, chain % "gpt-4o"))
    refused = await relay.post({**CHAT, "model": "gpt-4o"})
    assert (refused.status, refused.error["code"]) == (429, "insufficient_quota")
    await eventually(lambda: not relay.line.exchanges)
