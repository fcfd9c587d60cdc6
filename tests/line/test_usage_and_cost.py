"""What is counted, priced and logged is what the provider bills; what cannot be known says so."""

from __future__ import annotations

import json
from typing import Any

import pytest

from gateway.simulator.faults import Fault
from gateway.simulator.server import Simulator
from tests.conftest import StartSimulator
from tests.line.conftest import StartRelay
from tests.relaying import CHAT, Relay
from tests.running import SECRET, policy_for

FIELDS = [
    "time",
    "request_id",
    "key",
    "team",
    "model",
    "asked",
    "endpoint",
    "target",
    "provider",
    "status",
    "outcome",
    "error_type",
    "stream",
    "attempts",
    "input_tokens",
    "output_tokens",
    "cached_input_tokens",
    "reasoning_tokens",
    "cost_nanousd",
    "usage_source",
    "duration_ms",
    "first_token_ms",
    "overhead_ms",
]
INPUT, CACHED, OUTPUT = 150, 75, 600
"""Nano-dollars per token of the price in `policy_for`."""


def bill_of(simulator: Simulator) -> tuple[int, int]:
    total = simulator.bill.total()
    return total.input_tokens, total.output_tokens


async def test_many_calls_cost_what_the_bill_says(relay: Relay, simulator: Simulator) -> None:
    for turn in range(12):
        fields = {**CHAT, "stream": turn % 2 == 0, "simulate": {"output_tokens": 10 + turn}}
        await relay.post(fields)
    await relay.post({"model": "text-embedding-3-small", "input": "some words"}, "/embeddings")
    await relay.post({"model": "gpt-3.5-turbo-instruct", "prompt": "Once"}, "/completions")
    records = await relay.logged(14)
    billed = simulator.bill.total()
    cached = billed.cached_input_tokens
    assert sum(record["input_tokens"] for record in records) == billed.input_tokens
    assert sum(record["output_tokens"] for record in records) == billed.output_tokens
    assert sum(record["cached_input_tokens"] for record in records) == cached
    cost = (billed.input_tokens - cached) * INPUT + cached * CACHED + billed.output_tokens * OUTPUT
    assert sum(record["cost_nanousd"] for record in records) == cost
    assert relay.counted("headgate_cost_usd_total") == cost
    counted = {kind: tokens(relay, kind) for kind in ("input", "cached_input", "output", "reasoning")}
    assert counted["input"] + counted["cached_input"] == billed.input_tokens
    assert counted["output"] + counted["reasoning"] == billed.output_tokens
    assert relay.counted("headgate_requests_total") == 14
    assert relay.counted("gen_ai_client_operation_duration_seconds") == 14


def tokens(relay: Relay, kind: str) -> int:
    models = ("gpt-4o-mini", "text-embedding-3-small", "gpt-3.5-turbo-instruct")
    return sum(
        relay.counted("headgate_tokens_total", "search", model, f"upstream/{model}", kind) for model in models
    )


async def test_cost_header_is_the_cost_of_the_log(relay: Relay) -> None:
    answer = await relay.post()
    (record,) = await relay.logged()
    assert round(float(answer.headers["x-headgate-cost-usd"]) * 1e9) == record["cost_nanousd"] > 0


@pytest.mark.parametrize("stream", [False, True])
async def test_model_without_a_price_is_counted_as_unpriced(
    start: StartRelay, simulator: Simulator, stream: bool
) -> None:
    relay = await start(policy_for(simulator.url).replace("upstream/*:", "upstream/other:"))
    answer = await relay.post({**CHAT, "model": "gpt-4o", "stream": stream})
    assert answer.status == 200
    assert "x-headgate-cost-usd" not in answer.headers
    (record,) = await relay.logged()
    assert record["cost_nanousd"] is None
    assert record["output_tokens"] > 0
    assert relay.counted("headgate_unpriced_total", "gpt-4o", "upstream/gpt-4o") == 1
    assert relay.counted("headgate_cost_usd_total") == 0


@pytest.mark.parametrize("name", ["no_usage", "absurd_usage", "negative_usage"])
@pytest.mark.parametrize("stream", [False, True])
async def test_usage_that_is_missing_or_cannot_be_true_is_estimated(
    relay: Relay, simulator: Simulator, name: str, stream: bool
) -> None:
    simulator.script([Fault(name)])
    answer = await relay.post({**CHAT, "stream": stream, "simulate": {"output_tokens": 100}})
    assert answer.status == 200
    (record,) = await relay.logged()
    assert record["usage_source"] == "estimated"
    assert 25 <= record["output_tokens"] <= 1000
    assert record["cost_nanousd"] > 0


async def test_cut_stream_is_counted_by_what_was_relayed(relay: Relay, simulator: Simulator) -> None:
    simulator.script([Fault("cut", after_chunks=41)])
    await relay.stream({"simulate": {"output_tokens": 1000}})
    (record,) = await relay.logged()
    (entry,) = simulator.bill.entries
    assert record["usage_source"] == "estimated"
    assert entry.output_tokens * 0.5 <= record["output_tokens"] <= entry.output_tokens * 4


async def test_failed_call_costs_nothing(relay: Relay, simulator: Simulator) -> None:
    simulator.script([Fault("status_400")])
    await relay.post()
    (record,) = await relay.logged()
    assert (record["cost_nanousd"], record["input_tokens"], record["usage_source"]) == (None, None, "none")
    assert relay.counted("headgate_cost_usd_total") == relay.counted("headgate_unpriced_total") == 0


async def test_log_line_has_its_fields_in_order_and_nothing_that_was_said(
    relay: Relay, simulator: Simulator
) -> None:
    answers = [
        await relay.post(),
        await relay.stream(),
        await relay.post(b"{}"),
        await relay.post(key="hg-wrong"),
    ]
    records = await relay.logged(4)
    for line, record in zip(relay.lines, records, strict=True):
        assert list(record) == FIELDS
        assert line.endswith(b"}\n")
        assert line.count(b"\n") == 1
    text = b"".join(relay.lines)
    for private in (
        b"river",
        b"hg-",
        SECRET.encode(),
        answers[0].json["choices"][0]["message"]["content"].encode(),
    ):
        assert private not in text
    plain, streamed, bad, stranger = records
    assert (plain["first_token_ms"], plain["stream"], plain["provider"]) == (None, False, "upstream")
    assert 0 < streamed["first_token_ms"] <= streamed["duration_ms"]
    assert 0 < plain["overhead_ms"] <= plain["duration_ms"]
    assert (bad["key"], bad["team"], bad["model"], bad["status"]) == ("app", "search", "_none", 400)
    assert (stranger["key"], stranger["status"]) == (None, 401)


async def test_names_of_the_policy_are_escaped_in_log_and_headers(
    start: StartRelay, simulator: Simulator
) -> None:
    odd = 'x%s "q" \\ ü'
    target = json.dumps({"provider": "upstream", "model": odd}, ensure_ascii=False)
    relay = await start(policy_for(simulator.url, models=f"  odd: {{targets: [{target}]}}"))
    answer = await relay.post({**CHAT, "model": "odd"})
    assert answer.status == 200
    assert answer.headers["x-headgate-target"] == "upstream/x%25s %22q%22 %5C %C3%BC"
    (record,) = await relay.logged()
    assert record["target"] == f"upstream/{odd}"
    assert simulator.requests[-1].body["model"] == odd


async def test_long_plain_answer_is_relayed_as_it_comes_and_still_priced(
    start: StartRelay, simulate: StartSimulator
) -> None:
    simulator = await simulate(output_tokens=600_000)
    relay = await start(policy_for(simulator.url))
    answer = await relay.post()
    assert len(answer.body) > 1 << 20
    assert answer.json["usage"]["completion_tokens"] == 600_000
    (record,) = await relay.logged()
    assert (record["output_tokens"], record["usage_source"]) == (600_000, "provider")
    assert bill_of(simulator)[1] == 600_000


async def test_metrics_name_only_what_the_policy_names(relay: Relay) -> None:
    for model in ("a", "b", "c"):
        await relay.post({**CHAT, "model": f"invented-{model}"})
    fields: dict[str, Any] = {**CHAT, "model": "gpt-4o"}
    await relay.post(fields)
    labels = ("search", "app", "_other", "_none", "refused", "policy_model_unknown")
    assert relay.counted("headgate_requests_total", *labels) == 3
    assert (
        relay.counted("headgate_requests_total", "search", "app", "gpt-4o", "upstream/gpt-4o", "ok", "") == 1
    )
