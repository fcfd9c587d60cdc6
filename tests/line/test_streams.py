"""Streams: what goes on, what the caller sees when they break, and that nobody waits for ever."""

from __future__ import annotations

import asyncio
import json

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from gateway.http.message import chunk
from gateway.simulator.faults import Fault
from gateway.simulator.server import Simulator
from tests.conftest import StartSimulator
from tests.line.conftest import StartRelay, StartScripted
from tests.relaying import CHAT, Answered, Relay
from tests.running import KEY, eventually, policy_for
from tests.scripted import STREAM_END, STREAM_HEAD, split

TIMES = "timeouts: {first_token: 300ms, stall: 300ms, total: 3s}"


def quick(url: str, more: str = TIMES) -> str:
    return policy_for(url).replace("[upstream/gpt-4o-mini]", f"[upstream/gpt-4o-mini], {more}")


def contents(answer: Answered) -> str:
    texts = []
    for event in answer.events:
        if event != "[DONE]" and not event.startswith(":"):
            for choice in json.loads(event).get("choices", ()):
                texts.append(choice["delta"].get("content") or "")
    return "".join(texts)


async def test_stream_is_the_providers_with_one_done(relay: Relay, simulator: Simulator) -> None:
    streamed = await relay.stream()
    plain = await relay.post()
    assert streamed.headers["content-type"].startswith("text/event-stream")
    assert contents(streamed) == plain.json["choices"][0]["message"]["content"]
    assert streamed.events.count("[DONE]") == 1
    assert streamed.events[-1] == "[DONE]"
    assert not streamed.cut


async def test_usage_is_asked_for_and_taken_out_again(relay: Relay, simulator: Simulator) -> None:
    answer = await relay.stream()
    assert simulator.requests[-1].body["stream_options"] == {"include_usage": True}
    assert all(json.loads(event)["choices"] for event in answer.events[:-1])
    (record,) = await relay.logged()
    (entry,) = simulator.bill.entries
    assert (record["usage_source"], record["input_tokens"], record["output_tokens"]) == (
        "provider",
        entry.input_tokens,
        entry.output_tokens,
    )


async def test_usage_the_caller_asked_for_reaches_it(relay: Relay) -> None:
    answer = await relay.stream({"stream_options": {"include_usage": True, "x": 1}})
    last = json.loads(answer.events[-2])
    assert last["choices"] == []
    assert last["usage"]["total_tokens"] > 0


async def test_other_stream_options_are_kept(relay: Relay, simulator: Simulator) -> None:
    await relay.stream({"stream_options": {"include_obfuscation": False}})
    assert simulator.requests[-1].body["stream_options"] == {
        "include_obfuscation": False,
        "include_usage": True,
    }


async def test_several_choices_come_whole(relay: Relay) -> None:
    answer = await relay.stream({"n": 3})
    finished = {
        choice["index"]
        for event in answer.events[:-1]
        for choice in json.loads(event)["choices"]
        if choice["finish_reason"]
    }
    assert finished == {0, 1, 2}


async def test_legacy_completions_are_streamed(relay: Relay) -> None:
    fields = {"model": "gpt-3.5-turbo-instruct", "prompt": "Once", "stream": True}
    answer = await relay.post(fields, "/completions")
    assert answer.events[-1] == "[DONE]"
    assert json.loads(answer.events[0])["object"] == "text_completion"


@pytest.mark.parametrize(
    "name",
    ["bom", "crlf", "cr", "split_bytes", "comments", "no_usage", "no_done", "double_done", "after_done"],
)
async def test_oddities_of_a_stream_leave_its_text_alone(
    relay: Relay, simulator: Simulator, name: str
) -> None:
    good = await relay.stream()
    simulator.script([Fault(name)])
    odd = await relay.stream()
    events = [event for event in odd.events if not event.startswith(":")]
    assert events.count("[DONE]") == 1
    assert events[-1] == "[DONE]"
    assert "".join(events).count("content") == "".join(good.events).count("content")
    assert (await relay.post()).status == 200


@pytest.mark.parametrize(
    ("name", "code"),
    [
        ("cut", "upstream_disconnected"),
        ("cut_reset", "upstream_disconnected"),
        ("stall", "upstream_stalled"),
        ("pings", "upstream_stalled"),
        ("bad_utf8", "bad_upstream_response"),
        ("big_event", "bad_upstream_response"),
        ("error_event", None),
        ("filter_event", "content_filter"),
    ],
)
async def test_stream_that_breaks_after_its_first_content_ends_with_an_error_event(
    start: StartRelay, simulate: StartSimulator, name: str, code: str | None
) -> None:
    simulator = await simulate(script=[Fault(name)], output_tokens=20)
    relay = await start(quick(simulator.url))
    answer = await relay.stream()
    assert answer.status == 200
    assert "[DONE]" not in answer.events
    error = json.loads(answer.events[-1])["error"]
    assert {"message", "type", "param", "code"} <= error.keys()
    if code is not None:
        assert error["code"] == code
    assert contents(Answered(200, {}, answer.body.rpartition(b"data: ")[0]))
    assert len(simulator.requests) == 1
    (record,) = await relay.logged()
    assert record["outcome"] == "upstream_failed"
    assert record["usage_source"] == "estimated"
    assert record["output_tokens"] > 0
    assert not answer.cut


async def test_stream_without_a_first_token_is_504_in_time(
    start: StartRelay, simulate: StartSimulator
) -> None:
    simulator = await simulate(first_token_ms=20_000)
    relay = await start(quick(simulator.url, TIMES + ", retries: {attempts: 0}"))
    answer = await asyncio.wait_for(relay.stream(), 2)
    assert (answer.status, answer.error["code"]) == (504, "upstream_timeout")
    await simulator.departed.wait()


async def test_whole_stream_has_a_deadline(start: StartRelay, simulate: StartSimulator) -> None:
    simulator = await simulate(tokens_per_s=20, output_tokens=1000)
    relay = await start(quick(simulator.url, "timeouts: {total: 500ms}"))
    answer = await asyncio.wait_for(relay.stream(), 3)
    assert json.loads(answer.events[-1])["error"]["code"] == "upstream_timeout"
    await simulator.departed.wait()


@pytest.mark.parametrize("stream", [False, True])
@pytest.mark.parametrize("silent", [False, True])
async def test_caller_that_leaves_takes_the_upstream_with_it(
    start: StartRelay, simulate: StartSimulator, stream: bool, silent: bool
) -> None:
    simulator = await simulate(first_token_ms=60_000 if silent else 0, tokens_per_s=50, output_tokens=5000)
    relay = await start(policy_for(simulator.url))
    reader, writer = await relay.connect()
    writer.write(request_of({**CHAT, "stream": stream}))
    await simulator.requests.wait()
    if stream and not silent:
        await reader.readuntil(b"data: ")
    writer.close()
    await simulator.departed.wait()
    (record,) = await relay.logged()
    assert record["outcome"] == "caller_gone"
    assert not relay.line.exchanges
    assert relay.counted("headgate_streams_open") == 0
    if stream and not silent:
        assert (record["usage_source"], record["output_tokens"] > 0) == ("estimated", True)


def request_of(fields: dict[str, object], version: bytes = b"1.1", more: bytes = b"") -> bytes:
    body = json.dumps(fields).encode()
    return (
        b"POST /v1/chat/completions HTTP/%b\r\nhost: x\r\nauthorization: Bearer %b\r\n"
        b"%bcontent-length: %d\r\n\r\n%b" % (version, KEY.encode(), more, len(body), body)
    )


async def test_http_1_0_caller_gets_a_stream_that_ends_with_the_connection(relay: Relay) -> None:
    reader, writer = await relay.connect()
    writer.write(request_of({**CHAT, "stream": True}, b"1.0"))
    got = await reader.read()
    writer.close()
    head, _, body = got.partition(b"\r\n\r\n")
    assert b"transfer-encoding" not in head.lower()
    assert body.endswith(b"data: [DONE]\n\n")
    assert body.startswith(b"data: {")


async def test_slow_reader_stops_the_provider_and_holds_little(
    start: StartRelay, simulate: StartSimulator
) -> None:
    simulator = await simulate(output_tokens=40_000)
    relay = await start(policy_for(simulator.url))
    reader, writer = await relay.connect()
    writer.transport.pause_reading()  # type: ignore[attr-defined]
    writer.write(request_of({**CHAT, "stream": True}))
    await eventually(lambda: any(connection.paused for connection in relay.server.connections))
    (connection,) = relay.server.connections
    assert connection.transport.get_write_buffer_size() < 256 * 1024
    assert (await relay.post()).status == 200
    writer.transport.resume_reading()  # type: ignore[attr-defined]
    await eventually_done(reader)
    writer.close()
    (_, record) = await relay.logged(2)
    assert record["outcome"] == "ok"


async def eventually_done(reader: asyncio.StreamReader) -> None:
    tail = b""
    while not tail.endswith(b"[DONE]\n\n\r\n0\r\n\r\n"):
        piece = await asyncio.wait_for(reader.read(1 << 20), 20)
        assert piece, "the stream ended without [DONE]"
        tail = (tail + piece)[-64:]


def event(content: str) -> bytes:
    fields = {
        "id": "c",
        "object": "chat.completion.chunk",
        "choices": [{"index": 0, "delta": {"content": content}, "finish_reason": None}],
    }
    return b"data: " + json.dumps(fields, ensure_ascii=False).encode() + b"\n\n"


USAGE = (
    b'data: {"id":"c","choices":[],"usage":{"prompt_tokens":7,"completion_tokens":3,"total_tokens":10}}\n\n'
)
BODY = (
    event("Grüße, 東京") + event('a "quoted" [DONE]') + event("data: x\\n\\n") + USAGE + b"data: [DONE]\n\n"
)


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    cuts=st.lists(st.integers(1, len(BODY) - 1), max_size=12),
    line_end=st.sampled_from([b"\n", b"\r", b"\r\n"]),
    mark=st.sampled_from([b"", b"\xef\xbb\xbf"]),
)
async def test_stream_is_the_same_however_it_is_split(
    start: StartRelay, scripted: StartScripted, cuts: list[int], line_end: bytes, mark: bytes
) -> None:
    sent = mark + BODY.replace(b"\n", line_end)
    provider = await scripted(STREAM_HEAD, *map(chunk, split(sent, cuts)), STREAM_END)
    relay = await start(policy_for(provider.url))
    answer = await relay.stream()
    assert answer.body == BODY.replace(USAGE, b"")
    (record,) = await relay.logged()
    assert (record["input_tokens"], record["output_tokens"], record["outcome"]) == (7, 3, "ok")
