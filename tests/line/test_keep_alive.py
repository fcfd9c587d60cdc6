"""The caller of a stream whose first attempt failed is sent comments while it waits for another answer."""

from __future__ import annotations

import asyncio
import json

import openai
import pytest

from gateway.http.message import chunk
from tests.line.conftest import StartRelay, StartScripted
from tests.line.faults.answers import CONTENT, GOOD_BODY, GOOD_STREAM, ROLE, refusal
from tests.line.faults.models import attempts, two_models
from tests.line.test_streams import request_of
from tests.relaying import CHAT, Answered, Relay
from tests.running import KEY, eventually
from tests.scripted import CLOSE, STALL, STREAM_END, STREAM_HEAD, WAIT, Scripted, Step, answer, streamed

COMMENT = b": keep-alive\n\n"
QUICK = "keep_alive: 50ms, timeouts: {first_token: 300ms, stall: 300ms, total: 2s}"
PAIR = {**CHAT, "model": "pair", "stream": True}


@pytest.fixture
async def held(scripted: StartScripted) -> Scripted:
    """Answers once it is told to `go`."""
    return await scripted(WAIT, streamed(GOOD_STREAM))


def policy(first: str, second: str, more: str = QUICK) -> str:
    return (
        two_models(first, first, second, more)
        .replace("keep_alive: off, ", "")
        .replace("attempts: 1", "attempts: 0")
    )


async def waiting(
    relay: Relay, fields: dict[str, object], version: bytes = b"1.1"
) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
    reader, writer = await relay.connect()
    writer.write(request_of(fields, version))
    return reader, writer


def data_of(answered: Answered) -> list[str]:
    return [event for event in answered.events if not event.startswith(":")]


EXPECTED = [data.decode().removeprefix("data: ") for data in CONTENT.split(b"\n\n")[:-1]] + ["[DONE]"]


async def test_comments_come_before_the_answer_of_the_next_target(
    start: StartRelay, scripted: StartScripted, held: Scripted
) -> None:
    first = await scripted(refusal(503))
    relay = await start(policy(first.url, held.url, "keep_alive: 50ms"))
    asking = asyncio.create_task(relay.post(PAIR))
    reader, writer = await waiting(relay, PAIR)
    head = (await reader.readuntil(b"\r\n\r\n")).decode()
    for _ in range(3):
        assert await reader.readuntil(COMMENT)
    assert head.startswith("HTTP/1.1 200 OK\r\n")
    assert "content-type: text/event-stream" in head
    assert "\r\nx-request-id: " in head
    assert "\r\nx-headgate-policy: " in head
    assert "x-headgate-target" not in head, "it is not known yet"
    held.go.set()
    answered = await asking
    assert answered.events[0] == ": keep-alive"
    assert data_of(answered) == EXPECTED
    body = await reader.readuntil(b"[DONE]\n\n\r\n0\r\n\r\n")
    assert COMMENT not in body[body.index(b"data: ") :], "no comment once there is an answer"
    writer.close()
    for record in await relay.logged(2):
        assert (record["status"], record["outcome"], record["target"]) == (200, "ok", "second/m")
        assert (record["attempts"], record["usage_source"]) == (2, "provider")
        assert record["first_token_ms"] > 50
    assert attempts(relay, "pair", "second/m") == {"ok": 2}


async def test_sdk_reads_every_event_once(start: StartRelay, scripted: StartScripted, held: Scripted) -> None:
    first = await scripted(refusal(503))
    relay = await start(policy(first.url, held.url, "keep_alive: 20ms"))
    client = openai.AsyncOpenAI(base_url=relay.url, api_key=KEY, max_retries=0)
    stream = await client.chat.completions.create(**PAIR)  # type: ignore[call-overload]
    held.go.set()
    texts = [choice.delta.content async for piece in stream for choice in piece.choices]
    await client.close()
    assert texts == ["", "Grü", "ße", None]


async def test_connection_is_used_again_after_such_an_answer(
    start: StartRelay, scripted: StartScripted, held: Scripted
) -> None:
    relay = await start(policy((await scripted(refusal(503))).url, held.url, "keep_alive: 20ms"))
    reader, writer = await waiting(relay, PAIR)
    await reader.readuntil(COMMENT)
    held.go.set()
    await reader.readuntil(b"\r\n0\r\n\r\n")
    writer.write(request_of(PAIR))
    assert (await reader.readuntil(b"\r\n\r\n")).startswith(b"HTTP/1.1 200 OK\r\n")
    writer.close()


async def test_http_1_0_caller_gets_them_without_chunks(
    start: StartRelay, scripted: StartScripted, held: Scripted
) -> None:
    relay = await start(policy((await scripted(refusal(503))).url, held.url, "keep_alive: 20ms"))
    reader, writer = await waiting(relay, PAIR, b"1.0")
    await reader.readuntil(b"\r\n\r\n" + COMMENT)
    held.go.set()
    rest = await reader.read()
    assert rest.replace(COMMENT, b"") == CONTENT + b"data: [DONE]\n\n"
    writer.close()


FAILURES: list[tuple[str, tuple[Step, ...], str | None, str, str]] = [
    ("timeout", (STALL,), "upstream_timeout", "provider_timeout", "first_token"),
    ("stall", (STREAM_HEAD + chunk(ROLE), STALL), "upstream_stalled", "provider_stalled", "stall"),
]


@pytest.mark.parametrize(
    ("steps", "code", "error_type", "outcome"), [row[1:] for row in FAILURES], ids=["timeout", "stall"]
)
async def test_failure_afterwards_is_an_error_event(
    start: StartRelay,
    scripted: StartScripted,
    steps: tuple[Step, ...],
    code: str,
    error_type: str,
    outcome: str,
) -> None:
    first, second = await scripted(refusal(503)), await scripted(*steps)
    relay = await start(policy(first.url, second.url))
    answered = await relay.post(PAIR)
    assert (answered.status, answered.cut) == (200, False)
    (event,) = data_of(answered)
    assert json.loads(event)["error"]["code"] == code
    (record,) = await relay.logged()
    assert (record["status"], record["outcome"], record["error_type"]) == (200, "upstream_failed", error_type)
    assert (record["usage_source"], record["first_token_ms"], record["attempts"]) == ("none", None, 2)
    assert attempts(relay, "pair", "second/m") == {outcome: 1}
    assert (await relay.post({**CHAT, "model": "alone"})).status == 503, "the connection is good for more"


async def test_refusal_afterwards_keeps_the_providers_words(
    start: StartRelay, held: Scripted, scripted: StartScripted
) -> None:
    held.steps = (WAIT, refusal(400))
    relay = await start(policy((await scripted(refusal(503))).url, held.url))
    reader, writer = await waiting(relay, PAIR)
    await reader.readuntil(COMMENT)
    held.go.set()
    last = await reader.readuntil(b"\r\n0\r\n\r\n")
    writer.close()
    assert b'"code":"x_code"' in last
    assert b"[DONE]" not in last


async def test_retries_and_fallbacks_go_on_behind_them(start: StartRelay, scripted: StartScripted) -> None:
    first = await scripted(turns=[[STALL], [STREAM_HEAD + chunk(ROLE) + STREAM_END]])
    second = await scripted(streamed(GOOD_STREAM))
    more = "keep_alive: 50ms, fallback_on: [bad_answer], timeouts: {first_token: 400ms}"
    relay = await start(
        policy(first.url, second.url, more).replace("attempts: 0", "attempts: 1, uncertain: true")
    )
    first.steps = (CLOSE,)
    answered = await relay.post(PAIR)
    assert answered.events[0] == ": keep-alive"
    assert answered.status == 200
    assert first.asked == 2, "a timeout was retried, since the policy wants that"
    assert data_of(answered) == EXPECTED
    assert relay.counted("headgate_fallbacks_total", "pair", "bad_answer") == 1


async def test_caller_that_leaves_while_it_waits_ends_the_call(
    start: StartRelay, scripted: StartScripted
) -> None:
    first, second = await scripted(refusal(503)), await scripted(STALL)
    relay = await start(policy(first.url, second.url, "keep_alive: 20ms"))
    reader, writer = await waiting(relay, PAIR)
    await reader.readuntil(COMMENT)
    writer.close()
    await asyncio.wait_for(second.left.wait(), 5)
    (record,) = await relay.logged()
    assert record["outcome"] == "caller_gone"
    await eventually(lambda: not relay.server.connections)


@pytest.mark.parametrize("more", ["keep_alive: off", "keep_alive: 10s", ""], ids=["off", "long", "default"])
async def test_who_need_not_wait_long_sees_nothing_of_it(
    start: StartRelay, scripted: StartScripted, more: str
) -> None:
    first, second = await scripted(STALL), await scripted(streamed(GOOD_STREAM))
    relay = await start(
        policy(first.url, second.url, f"{more}, timeouts: {{first_token: 200ms}}".lstrip(", "))
    )
    answered = await relay.post(PAIR)
    assert answered.headers["x-headgate-target"] == "second/m"
    assert answered.events == EXPECTED
    second.steps = (refusal(400),)
    told = await relay.post(PAIR)
    assert (told.status, told.headers["content-type"]) == (400, "application/json")


async def test_first_attempt_is_waited_for_in_silence(start: StartRelay, held: Scripted) -> None:
    relay = await start(policy(held.url, held.url, "keep_alive: 20ms"))
    asking = asyncio.create_task(relay.post(PAIR))
    await eventually(lambda: held.asked == 1)
    await asyncio.sleep(0.1)  # five comments' time: there is no event for what does not happen
    held.go.set()
    answered = await asking
    assert answered.events == EXPECTED
    assert answered.headers["x-headgate-attempts"] == "1"


async def test_plain_call_never_gets_them(start: StartRelay, scripted: StartScripted, held: Scripted) -> None:
    held.steps = (WAIT, answer(GOOD_BODY))
    relay = await start(policy((await scripted(refusal(503))).url, held.url, "keep_alive: 20ms"))
    asking = asyncio.create_task(relay.post({**PAIR, "stream": False}))
    await eventually(lambda: held.asked == 1)
    await asyncio.sleep(0.1)
    held.go.set()
    answered = await asking
    assert answered.body == GOOD_BODY
    assert answered.headers["x-headgate-target"] == "second/m"
