"""What an operator may rely on when a provider fails, each by its name."""

from __future__ import annotations

import asyncio
import json

import pytest

from gateway.http.message import chunk
from gateway.routing.retry import FLOOR
from gateway.simulator.faults import Fault
from tests.conftest import StartSimulator
from tests.line.conftest import StartRelay, StartScripted
from tests.line.faults.answers import CONTENT, GOOD_BODY, GOOD_STREAM, ROLE, delta, error_event, refusal
from tests.line.faults.models import attempts, two_models
from tests.line.test_attempts import two_targets
from tests.relaying import CHAT, Answered, Relay
from tests.running import eventually
from tests.scripted import CLOSE, STALL, STREAM_HEAD, Scripted, Step, answer, streamed

ALONE, PAIR = {**CHAT, "model": "alone"}, {**CHAT, "model": "pair"}
QUICK = "timeouts: {first_token: 400ms, stall: 400ms}"


async def pair_of(
    start: StartRelay, scripted: StartScripted, *steps: Step, more: str = QUICK
) -> tuple[Relay, Scripted, Scripted]:
    """(a line, the provider that does `steps`, and a good one after it)."""
    first, second = await scripted(*steps), await scripted(streamed(GOOD_STREAM))
    return await start(two_models(first.url, first.url, second.url, more)), first, second


def error_of(answered: Answered) -> object:
    return json.loads(answered.events[-1]).get("error") if answered.events[-1] != "[DONE]" else None


@pytest.mark.parametrize(
    "steps",
    [(refusal(429),), (streamed(error_event(429)),), (STALL,), (STREAM_HEAD + chunk(ROLE), STALL)],
    ids=["429", "429 in the stream", "no answer", "no content"],
)
async def test_limited_first_token_falls_over(
    start: StartRelay, scripted: StartScripted, steps: tuple[Step, ...]
) -> None:
    relay, first, second = await pair_of(start, scripted, *steps)
    answered = await relay.stream(PAIR)
    assert (answered.headers["x-headgate-target"], answered.events[-1]) == ("second/m", "[DONE]")
    assert (first.asked, second.asked) == (1, 1)


async def test_stall_before_content_falls_over(start: StartRelay, scripted: StartScripted) -> None:
    relay, _, second = await pair_of(start, scripted, STREAM_HEAD + chunk(ROLE), STALL)
    answered = await relay.stream(PAIR)
    assert (answered.headers["x-headgate-target"], answered.events[-1]) == ("second/m", "[DONE]")
    assert second.asked == 1
    assert relay.counted("headgate_fallbacks_total", "pair", "stall") == 1


async def test_stall_after_content_ends_in_an_error_event(start: StartRelay, scripted: StartScripted) -> None:
    relay, first, second = await pair_of(start, scripted, STREAM_HEAD + chunk(delta("x")), STALL)
    answered = await relay.stream(PAIR)
    assert error_of(answered)
    assert (first.asked, second.asked) == (1, 0)


@pytest.mark.parametrize("framed", [True, False], ids=["chunked", "until close"])
async def test_cut_stream_is_never_reported_as_success(
    start: StartRelay, scripted: StartScripted, framed: bool
) -> None:
    provider = await scripted()
    relay = await start(
        two_models(provider.url, provider.url, provider.url, "health: {failures: 1000}").replace(
            "attempts: 1", "attempts: 0"
        )
    )
    head = STREAM_HEAD if framed else STREAM_HEAD.replace(b"transfer-encoding: chunked\r\n", b"")
    # A provider without [DONE] has said all with its finish reason, if it closes the body itself.
    whole_from = GOOD_STREAM.index(b"[DONE]") if framed else GOOD_STREAM.index(b'"stop"')
    for cut in range(0, whole_from, 3):
        body = GOOD_STREAM[:cut]
        provider.steps = (head + chunk(body) if framed else head + body, CLOSE)
        relay.lines.clear()
        answered = await relay.stream(ALONE)
        (record,) = await relay.logged()
        assert record["outcome"] == "upstream_failed", cut
        assert answered.status == 502 or error_of(answered), cut
        assert b"[DONE]" not in answered.body, cut


async def test_retry_after_is_honoured(start: StartRelay, scripted: StartScripted) -> None:
    provider = await scripted(
        answer(GOOD_BODY), turns=[[refusal(429, "x", "retry-after-ms: 300")], [answer(GOOD_BODY)]]
    )
    relay = await start(two_models(provider.url, provider.url, provider.url, ""))
    (answered,) = [await relay.post(ALONE)]
    (record,) = await relay.logged()
    assert (answered.status, provider.asked) == (200, 2)
    assert record["duration_ms"] >= 300
    provider.turns = [[refusal(429, "x", "retry-after: 7")]]
    told = await relay.post(ALONE)
    assert (told.status, told.headers["retry-after"], provider.asked) == (429, "7", 3)


async def test_quota_error_is_not_retried(start: StartRelay, scripted: StartScripted) -> None:
    provider = await scripted(refusal(429, "insufficient_quota", "retry-after: 1"))
    relay = await start(two_models(provider.url, provider.url, provider.url, ""))
    told = await relay.post(ALONE)
    assert (told.status, told.error["code"], told.headers["x-should-retry"]) == (
        429,
        "insufficient_quota",
        "false",
    )
    assert provider.asked == 1


@pytest.mark.parametrize("status", [400, 404, 405, 409, 410, 413, 415, 422, 424, 451])
async def test_4xx_is_not_retried(start: StartRelay, scripted: StartScripted, status: int) -> None:
    relay, first, second = await pair_of(start, scripted, refusal(status))
    assert (await relay.post(PAIR)).status == status
    assert (first.asked, second.asked) == (1, 0)


@pytest.mark.parametrize("stream", [False, True], ids=["plain", "streamed"])
async def test_content_filter_is_not_routed_around_unless_the_policy_names_it(
    start: StartRelay, scripted: StartScripted, stream: bool
) -> None:
    relay, first, second = await pair_of(start, scripted, refusal(400, "content_filter"))
    second.steps = (streamed(GOOD_STREAM) if stream else answer(GOOD_BODY),)
    told = await relay.post({**PAIR, "stream": stream})
    assert (told.status, told.error["code"], second.asked) == (400, "content_filter", 0)
    relay.use(two_models(first.url, first.url, second.url, "fallback_on: [content_filter]"))
    answered = await relay.post({**PAIR, "stream": stream})
    assert (answered.status, answered.headers["x-headgate-target"]) == (200, "second/m")


async def test_filter_that_ended_an_answer_is_an_answer(start: StartRelay, scripted: StartScripted) -> None:
    body = delta("Half of") + delta(finish="content_filter") + b"data: [DONE]\n\n"
    relay, _, second = await pair_of(
        start, scripted, streamed(body), more="fallback_on: [content_filter, bad_answer]"
    )
    assert (await relay.stream(PAIR)).body == body
    assert second.asked == 0


async def test_both_legs_of_a_fallback_are_counted(start: StartRelay, scripted: StartScripted) -> None:
    relay, first, second = await pair_of(start, scripted, refusal(503))
    assert (await relay.stream(PAIR)).status == 200
    assert attempts(relay, "pair", "first/m") == {"server_error": first.asked} == {"server_error": 2}
    assert attempts(relay, "pair", "second/m") == {"ok": second.asked} == {"ok": 1}
    (record,) = await relay.logged()
    assert record["attempts"] == 3
    assert relay.counted("headgate_requests_total") == 1
    assert relay.counted("headgate_tokens_total", "search", "pair", "second/m", "output") == 3


async def test_last_target_is_never_ejected(start: StartRelay, scripted: StartScripted) -> None:
    relay, first, second = await pair_of(
        start, scripted, refusal(500), more="health: {failures: 1, eject: 1m}, fallback_on: [server_error]"
    )
    second.steps = (refusal(500),)
    for _ in range(3):
        assert (await relay.post(PAIR)).status == 502
    assert set(relay.line.health.down.values()) == {0}, "both are out"
    asked = first.asked
    first.steps = (answer(GOOD_BODY),)
    answered = await relay.post(PAIR)
    assert (answered.status, answered.headers["x-headgate-target"]) == (200, "first/m")
    assert first.asked == asked + 1


async def test_half_open_lets_one_trial_through(start: StartRelay, scripted: StartScripted) -> None:
    relay, first, second = await pair_of(
        start, scripted, refusal(500), more="health: {failures: 1, eject: 300ms}"
    )
    second.steps = (answer(GOOD_BODY),)
    await relay.post(PAIR)
    await eventually(lambda: 1 in relay.line.health.down.values())
    asked = first.asked
    first.steps = (STALL,)
    trial = asyncio.create_task(relay.post(PAIR))
    await eventually(lambda: first.asked == asked + 1)
    answers = await asyncio.gather(*(relay.post(PAIR) for _ in range(8)))
    assert {each.headers["x-headgate-target"] for each in answers} == {"second/m"}
    assert first.asked == asked + 1
    trial.cancel()
    await eventually(lambda: not relay.line.exchanges)


@pytest.mark.parametrize("stream", [False, True], ids=["plain", "streamed"])
async def test_retries_at_50_per_cent_failure_are_a_fifth_of_the_load(
    start: StartRelay, simulate: StartSimulator, stream: bool
) -> None:
    first, second = await simulate(output_tokens=3), await simulate(output_tokens=3)
    offered = 300
    relay = await start(two_targets(first, second, "health: {failures: 1000}"))
    first.script([Fault("status_500") if turn % 2 else None for turn in range(2 * offered)])
    statuses = []
    for _ in range(offered // 30):
        answers = await asyncio.gather(*(relay.post({**PAIR, "stream": stream}) for _ in range(30)))
        statuses += [each.status for each in answers]
    assert set(statuses) == {200}, "the others were answered by the next target"
    assert len(first.requests) <= 1.2 * offered + FLOOR
    assert relay.counted("headgate_retries_total", "pair", "upstream/a") == len(first.requests) - offered
    assert len(second.requests) == relay.counted("headgate_fallbacks_total")


@pytest.mark.parametrize(("status", "stream"), [(504, False), (408, True), (None, True)])
async def test_uncertain_call_is_made_again_at_the_same_target_only_if_the_policy_says_so(
    start: StartRelay, scripted: StartScripted, status: int | None, stream: bool
) -> None:
    good = streamed(GOOD_STREAM) if stream else answer(GOOD_BODY)
    fault: Step = STALL if status is None else refusal(status)
    policy = two_models("URL", "URL", "URL", QUICK)
    for uncertain, told, asked in ((False, 504, 1), (True, 200, 2)):
        provider = await scripted(good, turns=[[fault]])
        retries = f"attempts: 1, uncertain: {str(uncertain).lower()}"
        relay = await start(policy.replace("URL", provider.url).replace("attempts: 1", retries))
        assert (await relay.post({**ALONE, "stream": stream})).status == told
        assert provider.asked == asked


async def test_answer_of_the_next_target_is_its_own_to_the_byte(
    start: StartRelay, scripted: StartScripted
) -> None:
    relay, _, _ = await pair_of(start, scripted, STALL)
    assert (await relay.stream(PAIR)).body == CONTENT + b"data: [DONE]\n\n"
