"""What `explain` says of a call is what the line then does with it."""

from __future__ import annotations

import json
import random
from collections.abc import Sequence
from contextlib import AsyncExitStack
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from hypothesis import HealthCheck, Phase, event, given, settings
from hypothesis import strategies as st

from gateway.clock import monotonic_ms
from gateway.line import pipeline
from gateway.line.endpoints import endpoint_of
from gateway.policy.explain import Explanation, Known, Question, explain
from gateway.policy.explained import as_json
from gateway.pricing.catalogue import Catalogue
from gateway.quota.contract import SLICES, Exchange, Want
from gateway.quota.level import Levels
from gateway.quota.tickets import Tickets
from gateway.simulator.server import Simulator
from gateway.wire.dialects.openai_chat import Call, read_call
from gateway.wire.json import dumps
from gateway.wire.speech import read_own
from tests.line.asking import CALLS, KEYS, SHARES, body_of, policies
from tests.relaying import Answered, Relay, start_relay
from tests.running import eventually, policy_for

FAR_MS = 3_600_000


class Dice:
    """Throws what it was told to."""

    def __init__(self) -> None:
        self.next = 0.0

    def random(self) -> float:
        return self.next


def question(relay: Relay, call: dict[str, Any], draw: float) -> Question:
    """A call as the line reads it."""
    snapshot = relay.line.snapshot
    assert snapshot is not None
    endpoint = endpoint_of(b"POST", b"/v1" + call["path"].encode())
    body = dumps(body_of(call))
    read: Call = (
        read_call(endpoint.kind, body) if endpoint.dialect.speaks_all else read_own(endpoint.dialect, body)
    )
    key = snapshot.key_of(KEYS[call["key"]].encode())
    assert key is not None
    name = call["model"] if call["model"] in snapshot.models else ""
    turn = relay.line._turns.get(name, -1) + 1
    return Question(key, read, endpoint.dialect, call["tags"], draw, turn)


def asked(relay: Relay, call: dict[str, Any], draw: float) -> Explanation:
    """What it should do with a call at this moment, by the balances of its store."""
    now_ms = relay.store.now_ms()
    levels = Levels(now_ms, relay.store.book.balances(now_ms))
    known = Known(levels, dict(relay.line.health.down), relay.line.ledger.guesses)
    assert relay.line.snapshot is not None
    return explain(relay.line.snapshot, question(relay, call, draw), known)


def spend(relay: Relay, explained: Explanation, shares: Sequence[tuple[float, float]], number: int) -> int:
    """Somebody else has used, and holds, so much of the buckets that a call needs."""
    fills = [fill for prospect in explained.prospects for fill in prospect.forecast.fills]
    purses = {fill.purse.bucket: fill.purse for fill in fills}
    now_ms = relay.store.now_ms()
    for (bucket, purse), (used, held) in zip(sorted(purses.items()), shares, strict=False):
        if bucket in relay.store.book.buckets:
            continue
        number += 1
        part = now_ms * SLICES // purse.terms.window_ms if purse.terms.kind == "rolling" else 0
        spent = int(used * purse.terms.most) if purse.terms.kind != "slots" else 0
        share = held if purse.terms.kind != "slots" else max(used, held)
        hold = int(share * (purse.terms.most - spent))
        wants = [Want(number, "somebody", {bucket: hold}, {})] if hold else []
        relay.store.book.exchange(
            Exchange(
                "somebody",
                1,
                number,
                terms={bucket: purse.terms},
                used={purse.name_of(part): spent} if spent else {},
                wants=wants,
                wishes={} if wants else {bucket: 0},
            ),
            now_ms,
        )
    return number


async def quiet(relay: Relay) -> None:
    """Until all that calls gave back is told, and nothing that was refused before counts any more: of several
    rules that have too little a worker blames the last one for up to 250 ms, and what a store has promised to
    a caller for later stands in no balance."""
    purses, link = relay.line.ledger.purses, relay.store.links["worker-0"]
    await eventually(lambda: not relay.line.exchanges and not purses.has_news and link.is_free)
    for purse in purses._purses.values():
        purse.dry_until_s = 0.0
    for bucket in relay.store.book.buckets.values():
        bucket.tickets = Tickets()


def check(relay: Relay, said: Explanation, answer: Answered) -> None:
    logged = json.loads(relay.lines[-1])
    told = (answer.status, logged["error_type"], answer.headers.get("x-headgate-target"), logged["model"])
    if said.refused is not None:
        kinds = {said.refused.kind, *said.refused.may_be}
        assert logged["error_type"] in {kind.error_type for kind in kinds}, told
        assert answer.status in {kind.status for kind in kinds}, told
        return
    first = said.first
    assert first is not None and said.decision is not None and said.decision.model is not None
    assert answer.status == 200, (told, answer.body)
    assert logged["target"] == first.target.name, told
    assert logged["model"] == said.decision.model.name, told
    shrunk = str(first.forecast.cap) if first.forecast.need.is_shrunk and first.forecast.cap else None
    assert answer.headers.get("x-headgate-max-tokens") == shrunk, told
    dropped = ", ".join(first.dropped) or None
    assert answer.headers.get("x-headgate-dropped") == dropped, told


async def compare(
    relay: Relay,
    dice: Dice,
    calls: Sequence[dict[str, Any]],
    shares: Sequence[tuple[float, float]],
    down: Sequence[bool],
    draws: Sequence[float],
) -> None:
    snapshot = relay.line.snapshot
    assert snapshot is not None
    rows = sorted({target.row for model in snapshot.models.values() for target in model.targets})
    for row, is_down in zip(rows, down, strict=False):
        if is_down:
            relay.line.health.eject(row, FAR_MS)
    number = 0
    for call, draw in zip(calls, draws, strict=False):
        number = spend(relay, asked(relay, call, draw), shares, number)
        dice.next = draw
        said = asked(relay, call, draw)
        headers = {"x-headgate-tags": ", ".join(call["tags"])} if call["tags"] else {}
        answer = await relay.post(dumps(body_of(call)), call["path"], key=KEYS[call["key"]], headers=headers)
        event("sent" if said.refused is None else said.refused.kind.error_type)
        if said.instead:
            event("a budget names another model")
        try:
            check(relay, said, answer)
        except AssertionError as wrong:
            wrong.add_note(f"{call}\n{json.dumps(as_json(said), indent=1)}\n{answer.body.decode()[:500]}")
            raise
        await quiet(relay)


async def test_call_that_nothing_bounds_passes_rules_that_only_watch(
    tmp_path: Path, catalogue: Catalogue, simulator: Simulator
) -> None:
    rules = """budgets: [{name: day, usd: 1, every: day, mode: shadow}]
limits: [{name: many, tokens: 100k/day, strict: true, mode: shadow}]
"""
    image = {"type": "image_url", "image_url": {"url": "https://example.com/a.png"}}
    body = {"model": "gpt-4o-mini", "messages": [{"role": "user", "content": [image]}]}
    async with AsyncExitStack() as stack:
        relay = await start_relay(stack, tmp_path / "line", catalogue, policy_for(simulator.url, rest=rules))
        assert [(await relay.post(body)).status for _ in range(3)] == [200] * 3
        await quiet(relay)


TRIPLES = st.fixed_dictionaries(
    {
        "calls": st.lists(CALLS, min_size=5, max_size=5),
        "shares": SHARES,
        "down": st.lists(st.sampled_from([False, False, True]), min_size=4, max_size=4),
        "draws": st.lists(st.floats(0, 1, exclude_max=True), min_size=5, max_size=5),
    }
)
SETTINGS = {
    "deadline": None,
    "suppress_health_check": list(HealthCheck),
    # What is not explained is seen as it is; to make it smaller takes minutes of sockets.
    "phases": (Phase.explicit, Phase.reuse, Phase.generate),
}


async def one(tmp_path: Path, catalogue: Catalogue, url: str, dice: Dice, data: st.DataObject) -> None:
    policy, triple = data.draw(policies(url)), data.draw(TRIPLES)
    folder = tmp_path / f"{monotonic_ms()}-{random.getrandbits(64):x}"
    async with AsyncExitStack() as stack:
        relay = await start_relay(stack, folder, catalogue, policy)
        await quiet(relay)
        await compare(relay, dice, **triple)
    for file in folder.iterdir():
        if file.is_file():
            file.unlink()


@pytest.fixture
def dice(monkeypatch: pytest.MonkeyPatch) -> Dice:
    """The line's, which fall as they are told to."""
    made = Dice()
    monkeypatch.setattr(pipeline, "random", SimpleNamespace(random=made.random))
    return made


@settings(max_examples=30, **SETTINGS)  # type: ignore[arg-type]
@given(data=st.data())
async def test_line_does_what_was_explained(
    tmp_path: Path, catalogue: Catalogue, simulator: Simulator, dice: Dice, data: st.DataObject
) -> None:
    await one(tmp_path, catalogue, simulator.url, dice, data)


@pytest.mark.proof
@pytest.mark.timeout(3600)
@settings(max_examples=2_000, **SETTINGS)  # type: ignore[arg-type]
@given(data=st.data())
async def test_line_does_what_was_explained_ten_thousand_times(
    tmp_path: Path, catalogue: Catalogue, simulator: Simulator, dice: Dice, data: st.DataObject
) -> None:
    await one(tmp_path, catalogue, simulator.url, dice, data)
