"""Which calls become traces, what their attempts carry, and what is told of them."""

from __future__ import annotations

import json
import re

import pytest

from gateway.policy.sampling import Sampling
from gateway.simulator.server import Simulator
from tests.conftest import StartSimulator
from tests.line.conftest import StartRelay
from tests.line.passing import open_policy
from tests.relaying import CHAT, Relay
from tests.running import KEY, policy_for

TRACE, SPAN = "0af7651916cd43dd8448eb211c80319c", "b7ad6b7169203331"
CALLERS = f"00-{TRACE}-{SPAN}-01"
ALL, NONE = Sampling(1.0), Sampling(0.0)
FORM = re.compile(r"00-([0-9a-f]{32})-([0-9a-f]{16})-(0[01])")


def carried(simulator: Simulator, index: int = -1) -> tuple[str, str, str]:
    """Trace id, span id and flags of the traceparent that a provider got."""
    value = simulator.requests[index].header("traceparent")
    found = FORM.fullmatch(value or "")
    assert found is not None, value
    return found[1], found[2], found[3]


@pytest.mark.parametrize(("sampling", "flags"), [(ALL, "01"), (NONE, "00")])
async def test_a_call_begins_a_trace_by_its_request_id(
    start: StartRelay, simulator: Simulator, sampling: Sampling, flags: str
) -> None:
    relay = await start(policy_for(simulator.url), sampling=sampling)
    answer = await relay.post()
    request_id = answer.headers["x-request-id"]
    trace, span, told = carried(simulator)
    assert (trace, told) == (request_id, flags)
    (line,) = await relay.logged()
    assert "trace_id" not in line
    if sampling is NONE:
        assert relay.traces == []
        return
    (record,) = relay.traced()
    assert record["trace"] == request_id
    assert span == record["first"] != record["span"]
    assert "parent" not in record


async def test_a_call_goes_on_with_its_callers_trace(start: StartRelay, simulator: Simulator) -> None:
    relay = await start(policy_for(simulator.url), sampling=NONE)
    state = "vendor=1,other=a:b"
    await relay.post(headers={"traceparent": CALLERS, "tracestate": state})
    trace, span, flags = carried(simulator)
    assert (trace, flags) == (TRACE, "01")
    assert span != SPAN
    assert simulator.requests[-1].header("tracestate") == state
    (record,) = relay.traced()
    assert (record["trace"], record["parent"], record["state"]) == (TRACE, SPAN, state)
    assert record["first"] == span
    (line,) = await relay.logged()
    assert (line["trace_id"], line["request_id"]) == (TRACE, record["request_id"])


async def test_a_caller_that_does_not_sample_is_followed_unless_the_policy_says_otherwise(
    start: StartRelay, simulator: Simulator
) -> None:
    not_sampled = {"traceparent": f"00-{TRACE}-{SPAN}-00"}
    relay = await start(policy_for(simulator.url), sampling=ALL)
    await relay.post(headers=not_sampled)
    assert carried(simulator)[2] == "00"
    assert relay.traces == []
    relay.use(policy_for(simulator.url, rest="telemetry: {traces: {parent_based: false}}"))
    await relay.post(headers=not_sampled)
    assert carried(simulator) == (TRACE, carried(simulator)[1], "01")
    assert len(relay.traces) == 1


@pytest.mark.parametrize(
    "traceparent",
    [
        "",
        "00",
        f"00-{TRACE}-{SPAN}",
        f"00-{TRACE}-{SPAN}-01-more",
        f"00-{TRACE.upper()}-{SPAN}-01",
        f"00-{'0' * 32}-{SPAN}-01",
        f"00-{TRACE}-{'0' * 16}-01",
        f"ff-{TRACE}-{SPAN}-01",
        f"00-{TRACE}-{SPAN}-0g",
        f"00-{TRACE}-{SPAN}-01, {CALLERS}",
        "x" * 300,
    ],
)
async def test_a_malformed_traceparent_counts_as_none(
    start: StartRelay, simulator: Simulator, traceparent: str
) -> None:
    relay = await start(policy_for(simulator.url), sampling=ALL)
    answer = await relay.post(headers={"traceparent": traceparent, "tracestate": "a=b"})
    assert answer.status == 200
    assert carried(simulator)[0] == answer.headers["x-request-id"]
    assert simulator.requests[-1].header("tracestate") is None


async def test_two_traceparents_count_as_none(start: StartRelay, simulator: Simulator) -> None:
    relay = await start(policy_for(simulator.url), sampling=ALL)
    headers = [("authorization", f"Bearer {KEY}"), ("traceparent", CALLERS), ("traceparent", CALLERS)]
    async with relay.http.post(f"{relay.url}/chat/completions", json=CHAT, headers=headers) as answer:
        assert answer.status == 200
        assert carried(simulator)[0] == answer.headers["x-request-id"]


async def test_a_version_to_come_is_read_as_far_as_it_is_known(
    start: StartRelay, simulator: Simulator
) -> None:
    relay = await start(policy_for(simulator.url), sampling=NONE)
    await relay.post(headers={"traceparent": f"cc-{TRACE}-{SPAN}-01-what-will-be"})
    assert carried(simulator)[::2] == (TRACE, "01")


async def test_without_anybody_who_takes_traces_a_callers_context_passes_as_it_came(
    relay: Relay, simulator: Simulator
) -> None:
    await relay.post()
    assert simulator.requests[-1].header("traceparent") is None
    await relay.post(headers={"traceparent": CALLERS, "tracestate": "a=b"})
    assert simulator.requests[-1].header("traceparent") == CALLERS
    assert simulator.requests[-1].header("tracestate") == "a=b"
    assert relay.traces == []
    assert (await relay.logged(2))[1]["trace_id"] == TRACE


async def test_errors_are_kept_whatever_the_share(start: StartRelay, simulator: Simulator) -> None:
    rest = "telemetry: {traces: {sample: 0}}"
    relay = await start(policy_for(simulator.url, rest=rest), sampling=ALL)
    await relay.post()
    await relay.post({**CHAT, "model": "invented-by-the-caller"})
    await relay.post({**CHAT, "simulate": {"fault": "status_400"}})
    unknown, failed = relay.traced()
    assert (unknown["error"], unknown["model"], unknown["attempts"]) == ("policy_model_unknown", "_other", 0)
    assert "to" not in unknown
    assert failed["outcome"] == "upstream_failed"
    assert [(at["status"], at["then"]) for at in failed["story"]] == [(400, "stop")]
    assert relay.counted("headgate_traces_total", "error") == 2
    relay.use(policy_for(simulator.url, rest="telemetry: {traces: {sample: 0, errors: false}}"))
    await relay.post({**CHAT, "model": "invented-by-the-caller"})
    assert len(relay.traces) == 2


async def test_slow_calls_are_kept_whatever_the_share(start: StartRelay, simulate: StartSimulator) -> None:
    simulator = await simulate(first_token_ms=30)
    rest = "telemetry: {traces: {sample: 0, slow: 20ms}}"
    relay = await start(policy_for(simulator.url, rest=rest), sampling=ALL)
    await relay.stream()
    (record,) = relay.traced()
    assert record["first_token"] >= 0.03
    assert relay.counted("headgate_traces_total", "slow") == 1
    relay.use(policy_for(simulator.url, rest="telemetry: {traces: {sample: 0, slow: off}}"))
    await relay.stream()
    assert len(relay.traces) == 1


async def test_calls_of_nobody_and_lists_of_models_are_no_traces(
    start: StartRelay, simulator: Simulator
) -> None:
    relay = await start(policy_for(simulator.url), sampling=ALL)
    await relay.get("/models")
    await relay.post(key="hg-nobodys")
    await relay.logged(2)
    assert relay.traces == []


@pytest.mark.parametrize("stream", [False, True])
async def test_each_attempt_is_told_with_what_followed(
    start: StartRelay, simulate: StartSimulator, stream: bool
) -> None:
    first, second = await simulate(), await simulate()
    model = "  pair: {targets: [upstream/a, second/b], retries: {attempts: 1}}"
    policy = policy_for(first.url, models=model).replace(
        "models:\n", f'  second: {{base_url: "{second.url}"}}\nmodels:\n', 1
    )
    relay = await start(policy, sampling=ALL)
    faults = {"by_model": {"a": {"fault": "status_500"}}}
    await relay.post({**CHAT, "model": "pair", "stream": stream, "simulate": faults})
    (record,) = relay.traced()
    story = record["story"]
    assert [(at["number"], at["to"]["target"], at["outcome"], at["status"], at["then"]) for at in story] == [
        (1, "upstream/a", "server_error", 500, "retry"),
        (2, "upstream/a", "server_error", 500, "fall_back"),
    ]
    assert record["to"]["target"] == "second/b"
    assert (record["attempts"], record["outcome"]) == (3, "ok")
    times = [*(at[name] for at in story for name in ("start", "end")), record["start"], record["took"]]
    assert times == sorted(times) and times[0] >= 0
    spans = [carried(first, 0)[1], carried(first, 1)[1], carried(second)[1]]
    assert len({*spans, record["span"]}) == 4
    assert [(int(span, 16) - int(record["first"], 16)) % 2**64 for span in spans] == [0, 1, 2]


@pytest.mark.parametrize("stream", [False, True])
async def test_a_record_tells_numbers_and_closed_lists_and_no_word_of_anybody(
    start: StartRelay, simulator: Simulator, stream: bool
) -> None:
    relay = await start(policy_for(simulator.url), sampling=ALL)
    canary = "canary-of-the-caller"
    asks = {
        **CHAT,
        "stream": stream,
        "messages": [{"role": "user", "content": canary}],
        "temperature": 0.5,
        "max_tokens": 9,
        "seed": 7,
        "n": 1,
        "stop": [canary],
        "user": canary,
        "metadata": {"job": canary},
        "reasoning_effort": "low",
        "response_format": {"type": "json_object", "x": canary},
    }
    told = {"temperature": 0.5, "max_tokens": 9, "seed": 7, "n": 1, "reasoning_effort": "low", "json": True}
    await relay.post({**asks, "top_p": canary, "service_tier": canary})
    await relay.post(asks)
    refused, record = relay.traced()
    assert canary.encode() not in b"".join(relay.traces)
    assert refused["asked"] == record["asked"] == told
    assert refused["status"] == 400
    assert record["answered_by"] == "gpt-4o-mini"
    assert record["reasons"] == ["length"]
    assert record["stream"] is stream
    assert sum(record["usage"]) > 0 and record["estimated"] is False
    assert record["cost_nanousd"] == (await relay.logged(2))[1]["cost_nanousd"]
    assert {"request", "answer"}.isdisjoint(record)


@pytest.mark.parametrize("stream", [False, True])
async def test_content_of_opted_in_keys_goes_with_sampled_calls_alone(
    start: StartRelay, simulator: Simulator, stream: bool
) -> None:
    content = "telemetry: {traces: {sample: %s}, content: {keys: [app]}}"
    relay = await start(policy_for(simulator.url, rest=content % 1), sampling=ALL)
    answer = await relay.post({**CHAT, "stream": stream})
    (record,) = relay.traced()
    assert json.loads(record["request"]) == {**CHAT, "stream": stream}
    got = record["answer"] if stream else json.loads(record["answer"])
    assert got == (answer.body.decode() if stream else answer.json)
    long = {**CHAT, "stream": stream, "messages": [{"role": "user", "content": "x" * 70_000}]}
    await relay.post(long)
    assert relay.traced()[1]["too_long"] is True
    assert relay.traced()[1]["request"] == ""
    relay.use(policy_for(simulator.url, rest=content % 0))
    await relay.post({**CHAT, "simulate": {"fault": "status_400"}})
    assert {"request", "answer"}.isdisjoint(relay.traced()[2])


async def test_calls_that_are_passed_through_carry_and_become_traces(
    start: StartRelay, simulator: Simulator
) -> None:
    relay = await start(open_policy(simulator.url), sampling=ALL)
    answer = await relay.post({"model": "gpt-4o-mini", "input": "secret words"}, "/moderations")
    assert carried(simulator)[0] == answer.headers["x-request-id"]
    (record,) = relay.traced()
    assert (record["operation"], record["attempts"]) == ("moderations", 1)
    assert carried(simulator)[1] == record["first"]
    assert b"secret words" not in relay.traces[0]
