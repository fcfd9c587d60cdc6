"""`x-ratelimit-*`: ours if a rate applies to the caller, else the provider's."""

from __future__ import annotations

import pytest

from gateway.line.rates import duration
from gateway.simulator.server import Simulator
from tests.line.conftest import StartRelay, StartScripted
from tests.line.ledgers import governed, settle
from tests.relaying import CHAT
from tests.scripted import answer as answer_of

BODY = b'{"id": "x", "choices": [{"index": 0, "message": {"role": "assistant", "content": "Hi."}}]}'
THEIRS = ("x-ratelimit-limit-requests: 7", "x-ratelimit-remaining-tokens: 9")


@pytest.mark.parametrize(
    ("milliseconds", "text"),
    [(0, b"0ms"), (-5, b"0ms"), (999, b"999ms"), (1001, b"2s"), (60_000, b"1m0s"), (3_723_000, b"1h2m3s")],
)
def test_durations_are_written_as_openai_writes_them(milliseconds: int, text: bytes) -> None:
    assert duration(milliseconds) == text


@pytest.mark.parametrize(
    ("rules", "requests", "tokens"),
    [
        ("", "7", "9"),
        ("limits: [{name: a, concurrent: 5}]\n", "7", "9"),
        ("budgets: [{name: a, usd: 1, every: day}]\n", "7", "9"),
        ("limits: [{name: a, requests: 600/min, mode: shadow}]\n", "7", "9"),
        ("limits: [{name: a, requests: 600/min, per: target}]\n", "7", "9"),
        ("limits: [{name: a, requests: 600/min}]\n", "600", None),
    ],
)
async def test_ours_take_the_place_of_the_providers(
    start: StartRelay, scripted: StartScripted, rules: str, requests: str, tokens: str | None
) -> None:
    provider = await scripted(answer_of(BODY, 200, *THEIRS))
    relay = await start(governed(provider.url, rules))
    answer = await relay.post()
    assert answer.status == 200
    assert answer.headers.get("x-ratelimit-limit-requests") == requests
    assert answer.headers.get("x-ratelimit-remaining-tokens") == tokens


async def test_what_is_left_falls_and_is_none_in_a_refusal(start: StartRelay, simulator: Simulator) -> None:
    rules = """limits:
  - {name: wide, requests: 100/min, burst: 50}
  - {name: tight, requests: 10/min, burst: 3}
"""
    relay = await start(governed(simulator.url, rules))
    answers = []
    for _ in range(4):
        answers.append(await (relay.post if len(answers) % 2 else relay.stream)())
        await settle(relay)
    assert [answer.status for answer in answers] == [200, 200, 200, 429]
    assert [answer.headers["x-ratelimit-limit-requests"] for answer in answers] == ["10"] * 4
    assert [answer.headers["x-ratelimit-remaining-requests"] for answer in answers] == ["2", "1", "0", "0"]
    assert [answer.headers["x-ratelimit-reset-requests"] for answer in answers] == ["6s", "12s", "18s", "18s"]


async def test_tokens_are_given_back_when_they_were_not_used(start: StartRelay, simulator: Simulator) -> None:
    relay = await start(governed(simulator.url, "limits: [{name: t, tokens: 60k/hour, burst: 50k}]\n"))
    left = []
    for _ in range(3):
        answer = await relay.post({**CHAT, "max_tokens": 2_000})
        left.append(int(answer.headers["x-ratelimit-remaining-tokens"]))
        await settle(relay)
    assert answer.headers["x-ratelimit-limit-tokens"] == "60000"
    spent = simulator.bill.entries[0]
    assert 50_000 - 1_100 < left[0] < 50_000, "an estimate is held"
    assert left[1] > left[0] - 2 * (spent.input_tokens + spent.output_tokens)
    assert "requests" not in "".join(name for name in answer.headers if name.startswith("x-ratelimit"))
