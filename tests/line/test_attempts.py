"""What follows a failed attempt: a retry, another key, the next target, or the caller is told."""

from __future__ import annotations

import asyncio
import re
from typing import Any

import pytest

from gateway.simulator.faults import Fault
from gateway.simulator.server import Simulator
from tests.conftest import StartSimulator
from tests.line.conftest import StartRelay
from tests.relaying import CHAT, Answered, Relay
from tests.running import SECRET, policy_for

QUICK = "retries: {attempts: 2}, timeouts: {connect: 1s, first_token: 300ms, stall: 300ms, total: 5s}"


def two_targets(first: Simulator, second: Simulator, more: str = QUICK) -> str:
    """A policy whose model `pair` goes to `first`, then to `second`."""
    text = policy_for(first.url, models=f"  pair: {{targets: [upstream/a, second/b], {more}}}")
    text = text.replace("models:\n", f'  second: {{base_url: "{second.url}"}}\nmodels:\n', 1)
    return text.replace("targets: [upstream/gpt-4o-mini]", f"targets: [upstream/gpt-4o-mini], {more}")


def fault_fields(name: str, stream: bool, **more: Any) -> dict[str, Any]:
    return {
        **CHAT,
        "model": "pair",
        "stream": stream,
        "simulate": {"by_model": {"a": {"fault": name, **more}}},
    }


FALLS_BACK = [
    "status_401", "status_403", "status_408", "status_429", "status_429_quota", "status_500", "status_502",
    "status_503", "status_504", "status_529", "reset", "close", "redirect", "status_204", "html", "gzip",
]  # fmt: skip


@pytest.mark.parametrize("stream", [False, True], ids=["plain", "streamed"])
@pytest.mark.parametrize("name", FALLS_BACK)
async def test_fault_before_the_answer_is_answered_by_the_next_target(
    start: StartRelay, simulate: StartSimulator, name: str, stream: bool
) -> None:
    first, second = await simulate(), await simulate()
    relay = await start(two_targets(first, second, "retries: {attempts: 0}"))
    answer = await relay.post(fault_fields(name, stream))
    assert answer.status == 200
    assert answer.headers["x-headgate-target"] == "second/b"
    assert answer.headers["x-headgate-attempts"] == "2"
    (record,) = await relay.logged()
    assert (record["outcome"], record["target"], record["attempts"]) == ("ok", "second/b", 2)
    assert relay.counted("headgate_fallbacks_total") == 1
    assert relay.counted("headgate_attempts_total", "pair", "second/b", "ok") == 1


@pytest.mark.parametrize("name", ["hang", "not_json", "truncated", "bad_utf8", "error_event", "stall", "cut"])
async def test_fault_in_a_plain_answer_is_answered_by_the_next_target(
    start: StartRelay, simulate: StartSimulator, name: str
) -> None:
    first, second = await simulate(), await simulate()
    more = (
        "retries: {attempts: 0}, timeouts: {total: 700ms}"
        if name in ("hang", "stall")
        else "retries: {attempts: 0}"
    )
    relay = await start(two_targets(first, second, more))
    answer = await relay.post(fault_fields(name, False))
    if name in ("hang", "stall"):
        # Only the deadline of the whole call ends a silent plain answer, and then no time is left.
        assert (answer.status, answer.error["code"]) == (504, "upstream_timeout")
        await first.departed.wait()
    else:
        assert (answer.status, answer.headers["x-headgate-target"]) == (200, "second/b")


@pytest.mark.parametrize(
    ("name", "after"),
    [("hang", 0), ("stall", 1), ("cut", 1), ("cut_reset", 1), ("error_event", 1), ("not_json", 0)],
)
async def test_fault_before_the_first_content_of_a_stream_is_answered_by_the_next_target(
    start: StartRelay, simulate: StartSimulator, name: str, after: int
) -> None:
    first, second = await simulate(), await simulate()
    relay = await start(two_targets(first, second, QUICK.replace("attempts: 2", "attempts: 0")))
    answer = await relay.post(fault_fields(name, True, fault_after_chunks=after))
    assert answer.status == 200
    if name != "not_json":
        assert answer.headers["x-headgate-target"] == "second/b"
    assert answer.events.count("[DONE]") == 1


@pytest.mark.parametrize(
    ("name", "status", "code"),
    [
        ("status_400", 400, "invalid_value"),
        ("status_404", 404, "model_not_found"),
        ("status_409", 409, "conflict"),
        ("status_422", 422, "unprocessable_entity"),
        ("context_window", 400, "context_length_exceeded"),
        ("content_filter", 400, "content_filter"),
    ],
)
@pytest.mark.parametrize("stream", [False, True], ids=["plain", "streamed"])
async def test_what_the_caller_must_mend_comes_back_as_the_provider_said_it(
    start: StartRelay, simulate: StartSimulator, name: str, status: int, code: str, stream: bool
) -> None:
    first, second = await simulate(), await simulate()
    relay = await start(two_targets(first, second))
    answer = await relay.post(fault_fields(name, stream))
    assert (answer.status, answer.error["code"]) == (status, code)
    assert len(first.requests) == 1
    assert not second.requests
    (record,) = await relay.logged()
    assert (record["status"], record["outcome"], record["attempts"]) == (status, "upstream_failed", 1)


@pytest.mark.parametrize(
    ("reason", "name"), [("context_window", "context_window"), ("content_filter", "content_filter")]
)
async def test_policy_may_fall_back_for_these_too(
    start: StartRelay, simulate: StartSimulator, reason: str, name: str
) -> None:
    first, second = await simulate(), await simulate()
    relay = await start(two_targets(first, second, f"fallback_on: [{reason}]"))
    answer = await relay.post(fault_fields(name, False))
    assert (answer.status, answer.headers["x-headgate-target"]) == (200, "second/b")


@pytest.mark.parametrize(
    ("name", "status", "code"),
    [
        ("status_401", 502, "upstream_auth"),
        ("status_403", 502, "upstream_auth"),
        ("status_429", 429, "rate_limit_exceeded"),
        ("status_429_quota", 429, "insufficient_quota"),
        ("status_500", 502, None),
        ("status_503", 503, "server_is_overloaded"),
        ("status_504", 504, "upstream_timeout"),
        ("reset", 502, "upstream_disconnected"),
        ("close", 502, "upstream_disconnected"),
        ("html", 502, "bad_upstream_response"),
        ("redirect", 502, "bad_upstream_response"),
        ("truncated", 502, "upstream_disconnected"),
    ],
)
async def test_without_another_target_the_failure_is_mapped(
    relay: Relay, simulator: Simulator, name: str, status: int, code: str | None
) -> None:
    answer = await relay.post({**CHAT, "model": "gpt-4o", "simulate": {"fault": name, "retry_after": "60"}})
    assert (answer.status, answer.error["code"]) == (status, code)
    assert b"sk-simu" not in answer.body
    assert SECRET.encode() not in answer.body
    (record,) = await relay.logged()
    assert record["error_type"].startswith("provider_")


async def test_retry_of_the_same_target_is_counted_and_answered(relay: Relay, simulator: Simulator) -> None:
    simulator.script([Fault("status_500"), Fault("status_503"), None])
    answer = await relay.post()
    assert (answer.status, answer.headers["x-headgate-attempts"]) == (200, "3")
    assert relay.counted("headgate_retries_total", "gpt-4o-mini", "upstream/gpt-4o-mini") == 2
    assert (
        relay.counted("headgate_attempts_total", "gpt-4o-mini", "upstream/gpt-4o-mini", "server_error") == 2
    )


async def test_attempts_of_the_policy_are_the_limit(relay: Relay, simulator: Simulator) -> None:
    simulator.script([Fault("status_500")] * 9)
    answer = await relay.post()
    assert answer.status == 502
    assert len(simulator.requests) == 3


async def test_retry_waits_as_long_as_the_provider_asks(relay: Relay, simulator: Simulator) -> None:
    simulator.script([Fault("status_429", retry_after_ms="300"), None])
    loop = asyncio.get_running_loop()
    began_s = loop.time()
    answer = await relay.post()
    assert answer.status == 200
    assert loop.time() - began_s >= 0.3


async def test_longer_wait_than_five_seconds_is_the_callers(relay: Relay, simulator: Simulator) -> None:
    simulator.script([Fault("status_429", retry_after="30")])
    answer = await relay.post()
    assert (answer.status, answer.headers["retry-after"]) == (429, "30")
    assert len(simulator.requests) == 1


async def test_spent_quota_is_not_retried_and_the_sdk_is_told_so(relay: Relay, simulator: Simulator) -> None:
    simulator.script([Fault("status_429_quota")] * 3)
    answer = await relay.post()
    assert (answer.status, answer.error["code"]) == (429, "insufficient_quota")
    assert answer.headers["x-should-retry"] == "false"
    assert len(simulator.requests) == 1


async def test_retries_are_a_share_of_the_load_with_a_floor_of_three(
    relay: Relay, simulator: Simulator
) -> None:
    simulator.script([Fault("status_500")] * 100)
    answers = await asyncio.gather(*(relay.post() for _ in range(30)))
    assert {answer.status for answer in answers} == {502}
    assert 30 + 3 <= len(simulator.requests) <= 30 + 6


async def test_kept_connection_that_closed_is_replaced_without_counting(
    start: StartRelay, simulate: StartSimulator
) -> None:
    simulator = await simulate(script=[None, Fault("close"), None])
    relay = await start(
        policy_for(simulator.url).replace(
            "[upstream/gpt-4o-mini]", "[upstream/gpt-4o-mini], retries: {attempts: 0}"
        )
    )
    assert (await relay.post()).status == 200
    answer = await relay.post()
    assert (answer.status, answer.headers["x-headgate-attempts"]) == (200, "1")
    assert relay.counted("headgate_retries_total") == 0
    assert len(simulator.requests) == 3


async def test_first_connection_that_closes_is_no_free_retry(
    start: StartRelay, simulate: StartSimulator
) -> None:
    simulator = await simulate(script=[Fault("close"), None])
    relay = await start(
        policy_for(simulator.url).replace(
            "[upstream/gpt-4o-mini]", "[upstream/gpt-4o-mini], retries: {attempts: 0}"
        )
    )
    assert (await relay.post()).status == 502


def several_keys(simulator: Simulator) -> str:
    return policy_for(simulator.url).replace(
        "api_key: {env: UPSTREAM_KEY}", "api_keys: [{env: UPSTREAM_KEY}, {env: KEY_B}]"
    )


@pytest.mark.parametrize("name", ["status_401", "status_403", "status_429_quota"])
async def test_key_that_is_refused_gives_way_to_another_and_rests(
    start: StartRelay, simulate: StartSimulator, name: str
) -> None:
    simulator = await simulate()
    policy = several_keys(simulator)
    relay = await start(policy.replace("{env: KEY_B}", "{env: UPSTREAM_KEY}"))
    relay.use(policy, {"KEY_B": "sk-b"})
    simulator.script([Fault(name)])
    assert (await relay.post()).status == 200
    refused, other = (captured.header("authorization") for captured in simulator.requests)
    assert {refused, other} == {f"Bearer {SECRET}", "Bearer sk-b"}
    for _ in range(4):
        await relay.post()
    assert {captured.header("authorization") for captured in list(simulator.requests)[2:]} == {other}


async def test_good_keys_take_turns(start: StartRelay, simulator: Simulator) -> None:
    relay = await start(policy_for(simulator.url))
    relay.use(several_keys(simulator), {"KEY_B": "sk-b"})
    for _ in range(6):
        await relay.post()
    sent = [captured.header("authorization") for captured in simulator.requests]
    assert sent.count("Bearer sk-b") == 3


async def test_unreachable_provider_is_502_and_falls_back(
    start: StartRelay, simulate: StartSimulator
) -> None:
    gone, second = await simulate(), await simulate()
    relay = await start(two_targets(gone, second, "retries: {attempts: 0}"))
    await gone.stop()
    answer = await relay.post({**CHAT, "model": "pair"})
    assert (answer.status, answer.headers["x-headgate-target"]) == (200, "second/b")
    answer = await relay.post()
    assert (answer.status, answer.error["code"]) == (502, "upstream_unreachable")
    assert relay.counted("headgate_fallbacks_total", "pair", "connect") == 1


async def test_total_deadline_ends_waiting_for_a_retry(start: StartRelay, simulate: StartSimulator) -> None:
    simulator = await simulate(script=[Fault("status_503", retry_after="4")])
    relay = await start(
        policy_for(simulator.url).replace(
            "[upstream/gpt-4o-mini]", "[upstream/gpt-4o-mini], timeouts: {total: 1s}"
        )
    )
    answer: Answered = await asyncio.wait_for(relay.post(), 3)
    assert answer.status == 503


async def test_error_of_the_provider_keeps_its_message(relay: Relay, simulator: Simulator) -> None:
    simulator.script([Fault("status_400")])
    answer = await relay.post()
    assert re.search("simulated", answer.error["message"])
    assert answer.error["param"] == "messages"
