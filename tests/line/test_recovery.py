"""What goes wrong in one call stays in that call, and targets are judged by all that they do."""

from __future__ import annotations

import asyncio
import json

import pytest

from gateway.simulator.faults import Fault
from tests.conftest import StartSimulator
from tests.line.conftest import StartRelay, StartScripted
from tests.line.test_attempts import two_targets
from tests.relaying import CHAT, Relay
from tests.running import eventually, policy_for
from tests.scripted import CLOSE, STALL
from tests.scripted import answer as answer_of

PAIR = {**CHAT, "model": "pair"}
DEEP = "[" * 300 + "]" * 300


def pair(first: str, second: str, more: str = "", providers: str = "") -> str:
    policy = policy_for(first, models=f"  pair: {{targets: [upstream/a, second/b]{more}}}")
    return policy.replace("providers:\n", f'providers:\n  second: {{base_url: "{second}"}}\n{providers}', 1)


async def test_body_nested_too_deeply_is_refused(relay: Relay) -> None:
    body = json.dumps(CHAT).encode()[:-1] + f', "x": {DEEP}}}'.encode()
    answer = await relay.post(body)
    assert (answer.status, answer.error["type"]) == (400, "invalid_request_error")
    assert "nested" in answer.error["message"]
    assert "x-headgate-target" not in answer.headers
    assert (await relay.post()).status == 200


@pytest.mark.parametrize("where", ["error", "detail"])
async def test_provider_error_nested_too_deeply_is_told_without_it(
    start: StartRelay, scripted: StartScripted, where: str
) -> None:
    body = f'{{"error": {{"message": "no", "x": {DEEP}}}}}' if where == "error" else f'{{"detail": {DEEP}}}'
    provider = await scripted(answer_of(body.encode(), 422))
    relay = await start(policy_for(provider.url))
    answer = await relay.post()
    assert answer.status == 422
    assert answer.error["message"]
    assert "x" not in answer.error


async def test_internal_failure_in_a_trial_leaves_the_trial_open(
    start: StartRelay, simulate: StartSimulator, monkeypatch: pytest.MonkeyPatch
) -> None:
    first, second = await simulate(), await simulate()
    relay = await start(
        two_targets(first, second, "retries: {attempts: 0}, health: {failures: 1, eject: 200ms}")
    )
    first.script([Fault("status_500")])
    await relay.post(PAIR)
    await eventually(lambda: 1 in relay.line.health.down.values())
    monkeypatch.setattr(
        "gateway.line.attempt.speech_of", lambda *_, **__: (_ for _ in ()).throw(RuntimeError())
    )
    assert (await relay.post(PAIR)).status == 500
    monkeypatch.undo()
    await eventually(lambda: 1 in relay.line.health.down.values())
    assert (await relay.post(PAIR)).headers["x-headgate-target"] == "upstream/a"


async def test_target_that_hangs_is_ejected(start: StartRelay, scripted: StartScripted) -> None:
    provider = await scripted(STALL)
    relay = await start(
        pair(
            provider.url,
            "http://127.0.0.1:9/v1",
            ", timeouts: {total: 300ms}, health: {failures: 2, eject: 1m}, retries: {attempts: 0}",
        )
    )
    for _ in range(2):
        answer = await relay.post(PAIR)
        assert (answer.status, answer.error["code"]) == (504, "upstream_timeout")
    assert 0 in relay.line.health.down.values()
    assert relay.counted("headgate_attempts_total", "pair", "upstream/a", "timeout") == 2


async def test_target_that_cuts_its_streams_is_ejected(start: StartRelay, simulate: StartSimulator) -> None:
    first, second = await simulate(output_tokens=20), await simulate()
    relay = await start(two_targets(first, second, "health: {failures: 2, eject: 1m}"))
    first.script([Fault("cut")] * 2)
    for _ in range(2):
        answer = await relay.stream(PAIR)
        assert "[DONE]" not in answer.events
    assert 0 in relay.line.health.down.values()
    assert relay.counted("headgate_attempts_total", "pair", "upstream/a", "server_error") == 2
    assert relay.counted("headgate_attempts_total", "pair", "upstream/a", "ok") == 0


@pytest.mark.parametrize("status", [401, 402])
async def test_target_whose_only_key_is_refused_is_passed_over(
    start: StartRelay, simulate: StartSimulator, scripted: StartScripted, status: int
) -> None:
    provider = await scripted(answer_of(b'{"error": {"message": "no"}}', status))
    second = await simulate()
    relay = await start(pair(provider.url, second.url, ", fallback_on: [auth, rate_limited]"))
    for _ in range(3):
        assert (await relay.post(PAIR)).headers["x-headgate-target"] == "second/b"
    assert provider.asked == 1


async def test_empty_balance_is_told_as_quota(start: StartRelay, scripted: StartScripted) -> None:
    provider = await scripted(answer_of(b'{"error": {"message": "Insufficient Balance"}}', 402))
    relay = await start(policy_for(provider.url))
    answer = await relay.post()
    assert (answer.status, answer.headers["x-should-retry"]) == (429, "false")
    assert provider.asked == 1


async def test_busy_keys_do_not_multiply_a_call(start: StartRelay, scripted: StartScripted) -> None:
    provider = await scripted(answer_of(b'{"error": {"message": "slow down"}}', 429))
    names = [f"KEY_{number}" for number in range(5)]
    keys = ", ".join(f"{{env: {name}}}" for name in names)
    policy = policy_for("http://unused/v1", models="  m: {targets: [many/x]}").replace(
        "providers:\n", f'providers:\n  many: {{base_url: "{provider.url}", api_keys: [{keys}]}}\n', 1
    )
    relay = await start(policy_for(provider.url))
    relay.use(policy, {name: f"secret-{name}" for name in names})
    assert (await relay.post({**CHAT, "model": "m"})).status == 429
    assert provider.asked <= 4, "one attempt and the floor of the retry budget"


async def test_alias_of_a_round_robin_goes_round(start: StartRelay, simulate: StartSimulator) -> None:
    first, second = await simulate(), await simulate()
    policy = two_targets(first, second, "strategy: round_robin")
    relay = await start(policy + '\nroutes:\n  - {name: old, match: {model: "old-*"}, use: pair}\n')
    targets = [
        (await relay.post({**CHAT, "model": "old-name"})).headers["x-headgate-target"] for _ in range(4)
    ]
    assert sorted(targets) == ["second/b", "second/b", "upstream/a", "upstream/a"]


async def test_choice_that_never_finished_makes_no_done(start: StartRelay, scripted: StartScripted) -> None:
    chunks = [
        {"choices": [{"index": 0, "delta": {"content": "a"}, "finish_reason": None}]},
        {"choices": [{"index": 1, "delta": {"content": "b"}, "finish_reason": None}]},
        {"choices": [{"index": 0, "delta": {}, "finish_reason": "stop"}]},
    ]
    text = "".join(f"data: {json.dumps(chunk)}\n\n" for chunk in chunks).encode()

    provider = await scripted(b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\n\r\n" + text, CLOSE)
    relay = await start(policy_for(provider.url))
    answer = await relay.stream({"n": 2})
    assert "[DONE]" not in answer.events
    assert json.loads(answer.events[-1])["error"]["code"] == "upstream_disconnected"


async def test_what_is_no_call_yet_is_logged_with_its_id_too(relay: Relay) -> None:
    reader, writer = await relay.connect()
    writer.write(b"GET http://elsewhere.example/ HTTP/1.1\r\nhost: x\r\n\r\n")
    head = (await asyncio.wait_for(reader.readuntil(b"\r\n\r\n"), 5)).decode()
    writer.close()
    await relay.post()
    refused, called = await relay.logged(2)
    assert head.startswith("HTTP/1.1 400 ")
    assert f"x-request-id: {refused['request_id']}\r\n" in head
    assert (refused["status"], refused["error_type"]) == (400, "caller_bad_http")
    assert list(refused) == list(called)
