"""A line's books beside the bill of the provider in front of it."""

from __future__ import annotations

from typing import Any

from gateway.link.journal import read_journal
from gateway.pricing.price import Price
from gateway.simulator.bill import Entry
from gateway.simulator.server import Simulator
from gateway.usage import split_usage
from tests.relaying import Relay
from tests.running import eventually, policy_for
from tests.stores.invariants import broken

DAY = "budgets: [{name: day, usd: 10, every: day}]\n"
ALL = """budgets: [{name: day, usd: 10, every: day, per: user}]
limits: [{name: all, requests: 1m/min, tokens: 100m/min, concurrent: 500, per: user}]
"""
"""A rule of each kind, for each user, none of which is ever reached."""
QUICK = "retries: {attempts: 0}, timeouts: {connect: 1s, first_token: 200ms, stall: 200ms, total: 400ms}"
"""Of the model `quick`: one attempt, which does not last long."""


def governed(url: str, rules: str = ALL, **more: Any) -> str:
    """The usual policy, a model `quick`, and limits and budgets."""
    models = f"  quick: {{targets: [upstream/gpt-4o-mini], {QUICK}}}\n" + more.pop("models", "")
    return policy_for(url, models=models, **more) + rules


def prices(relay: Relay) -> dict[str, Price]:
    """Of the models at the provider."""
    snapshot = relay.line.snapshot
    assert snapshot is not None
    return {
        target.model: target.price
        for model in snapshot.models.values()
        for target in model.targets
        if target.price is not None
    }


def charge(price: Price, entry: Entry) -> int:
    """What an entry of a bill costs, in nano-dollars."""
    usage = split_usage(
        entry.input_tokens,
        entry.output_tokens,
        cached=entry.cached_input_tokens,
        reasoning=entry.reasoning_tokens,
    )
    usage.service_tier = entry.service_tier
    return price.cost_nanousd(usage)


def bill(relay: Relay, *simulators: Simulator) -> int:
    """All that providers charge for, in nano-dollars."""
    of_model = prices(relay)
    return sum(charge(of_model[entry.model], entry) for each in simulators for entry in each.bill.entries)


def of_user(relay: Relay, rule: str, user: str) -> int:
    """What a user has used of a rule: nano-dollars that were posted, or units of a rate."""
    for bucket in relay.store.book.buckets.values():
        if bucket.id.split("|")[:2] == [rule, f"user={user}"]:
            return bucket.spent if bucket.is_money else sum(out.used for out in bucket.outs.values())
    raise KeyError(user)


async def settle(relay: Relay) -> None:
    """Until no call is under way and all is told; then nothing may be held any more, anywhere."""
    purses, link = relay.line.ledger.purses, relay.store.links["worker-0"]
    await eventually(
        lambda: not relay.line.exchanges and not purses.has_news and link.is_free and not _held(relay),
        says=lambda: f"{len(relay.line.exchanges)} calls, news: {purses.has_news}, held: {_held(relay)}",
        within_s=5,
    )
    assert broken(relay.store.book) == []
    assert {purse.bucket: purse.held for purse in purses._purses.values() if purse.held} == {}
    journal = read_journal(purses._journal.path)  # type: ignore[attr-defined]
    assert journal is not None
    assert journal.holds == {}
    charged: dict[str, int] = {}
    for row in relay.store.rows:
        for account, amount in row[-1].items():  # type: ignore[attr-defined]
            charged[account] = charged.get(account, 0) + amount
    for bucket in relay.store.book.buckets.values():
        if bucket.is_money:
            found = sum(amount for account, amount in charged.items() if account.split("#")[0] == bucket.id)
            assert bucket.spent == found, "the rows tell another sum than was posted"


def _held(relay: Relay) -> dict[str, int]:
    """By open calls, as the store knows it."""
    return {
        bucket.id: held
        for bucket in relay.store.book.buckets.values()
        if (held := sum(out.held for out in bucket.outs.values()))
    }


def posted(relay: Relay, rule: str = "day") -> int:
    """What is spent of a budget, in nano-dollars, over all its subjects and windows."""
    return sum(
        bucket.spent for bucket in relay.store.book.buckets.values() if bucket.id.split("|")[0] == rule
    )


def used(relay: Relay, rule: str) -> int:
    """Units of a rate that were used."""
    return sum(
        out.used
        for bucket in relay.store.book.buckets.values()
        if bucket.id.split("|")[0] == rule
        for out in bucket.outs.values()
    )


def overshoot(relay: Relay) -> int:
    """What calls cost beyond what was held for them, in nano-dollars."""
    return relay.counted("headgate_budget_overshoot_usd_total")
