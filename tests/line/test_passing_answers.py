"""What is passed through passes as it is, at its price, and fails honestly."""

from __future__ import annotations

import asyncio
import json
from typing import Any

import aiohttp
import pytest

from gateway.simulator.server import Simulator
from tests.line.conftest import StartRelay, StartScripted
from tests.line.passing import (
    BOUNDARY,
    COUNTED,
    FILE,
    FORM,
    OTHER_KEY,
    RESPONSE,
    USAGE,
    ask,
    form,
    open_policy,
)
from tests.relaying import Relay
from tests.running import KEY
from tests.scripted import CLOSE, STALL
from tests.scripted import answer as reply_of

SPEECH = {"model": "tts-1", "input": "x", "voice": "alloy"}


async def test_usage_and_price_per_call(start: StartRelay, simulator: Simulator) -> None:
    relay = await start(open_policy(simulator.url, more=", usd_per_call: 0.04"))
    answer = await ask(relay, "POST", "/images/generations", {"model": "gpt-image-1", "prompt": "x"})
    assert answer.headers["x-headgate-cost-usd"] == "0.040000000"
    await ask(relay, "GET", "/files")
    pictures, files = await relay.logged(2)
    assert pictures["cost_nanousd"] == 40_000_000
    assert (pictures["input_tokens"], pictures["output_tokens"]) == (12, 272)
    assert (pictures["target"], pictures["outcome"], pictures["usage_source"]) == (
        "upstream/images",
        "ok",
        "provider",
    )
    assert (files["cost_nanousd"], files["usage_source"]) == (0, "none")
    assert (
        relay.counted("headgate_cost_usd_total", "search", "app", "images", "upstream/images") == 40_000_000
    )
    assert relay.counted("headgate_attempts_total", "files", "upstream/files", "ok") == 1
    assert relay.counted("headgate_requests_total", "search", "app", "files", "upstream/files", "ok", "") == 1


async def test_tokens_cost_what_the_policy_says_of_the_model(
    start: StartRelay, scripted: StartScripted
) -> None:
    relay = await start(open_policy((await scripted(*COUNTED)).url))
    for stream in (False, True):
        await ask(relay, "POST", "/responses", {"model": "gpt-4o", "input": "x", "stream": stream})
    plain, streamed = await relay.logged(2)
    # 6 input at 0.15, 4 cached at 0.075, 4 output and 2 reasoning at 0.60 dollars per million.
    assert plain["cost_nanousd"] == streamed["cost_nanousd"] == 900 + 300 + 2400 + 1200
    assert (streamed["cached_input_tokens"], streamed["reasoning_tokens"]) == (4, 2)


@pytest.mark.parametrize(
    ("more", "counted"), [({}, 0), ({"background": False}, 0), ({"background": True}, 1)]
)
async def test_what_is_asked_for_again_counts_once(
    start: StartRelay, scripted: StartScripted, more: dict[str, bool], counted: int
) -> None:
    told = {**RESPONSE, "status": "completed", **more}
    queued = {**told, "status": "queued", "usage": None}
    first = queued if more.get("background") else told
    turns = [[reply_of(json.dumps(step).encode())] for step in (first, told, told)]
    relay = await start(open_policy((await scripted(turns=turns)).url))
    await ask(relay, "POST", "/responses", {"model": "gpt-4o", "input": "x"})
    for _ in range(2):
        await ask(relay, "GET", "/responses/resp_counted")
    _, *reads = await relay.logged(3)
    assert [bool(row["output_tokens"]) for row in reads] == [bool(counted), False]


# how it passes


async def test_binary_answer_passes_as_it_is(opened: Relay) -> None:
    answer = await ask(opened, "POST", "/audio/speech", {"model": "tts-1", "input": "x", "voice": "alloy"})
    assert (answer.status, answer.headers["content-type"]) == (200, "audio/mpeg")
    assert answer.body == bytes(range(256)) * 64 * 8


async def test_form_passes_byte_for_byte(opened: Relay, simulator: Simulator) -> None:
    body = form(("model", "", b"whisper-1"), ("file", '; filename="\xe4.wav"', bytes(range(256)) * 2000))
    answer = await ask(opened, "POST", "/audio/transcriptions", body, headers=FORM)
    assert answer.json["text"] == "Simulated."
    (request,) = simulator.requests
    assert request.raw == body
    assert request.header("content-length") == str(len(body))
    assert request.header("content-type") == f'multipart/form-data; boundary="{BOUNDARY}"'
    assert request.header("authorization") == "Bearer sk-upstream-secret"


async def test_chunked_form_passes_too(opened: Relay, simulator: Simulator) -> None:
    body = form(("model", "", b"whisper-1"), ("file", '; filename="a"', b"x" * 200_000))

    async def pieces() -> Any:
        for at in range(0, len(body), 7_777):
            yield body[at : at + 7_777]

    async with opened.http.post(
        f"{opened.url}/audio/transcriptions",
        data=pieces(),
        headers={**FORM, "authorization": f"Bearer {KEY}"},
    ) as answer:
        assert answer.status == 200
    assert simulator.requests[0].raw == body
    assert simulator.requests[0].header("content-length") is None


async def test_provider_that_refuses_in_mid_upload_is_heard(start: StartRelay) -> None:
    async def refuse(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        body = (
            b'{"error": {"message": "too big", "type": "invalid_request_error", "code": "x", "param": null}}'
        )
        writer.write(
            b"HTTP/1.1 413 X\r\ncontent-type: application/json\r\ncontent-length: %d\r\n\r\n%b"
            % (len(body), body)
        )
        await writer.drain()

    server = await asyncio.start_server(refuse, "127.0.0.1", 0)
    relay = await start(open_policy(f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}/v1"))
    reader, writer = await relay.connect()
    writer.write(
        f"POST /v1/files HTTP/1.1\r\nhost: x\r\nauthorization: Bearer {KEY}\r\ncontent-length: 10000000\r\n"
        f"content-type: {FORM['content-type']}\r\n\r\n".encode()
        + form(FILE).removesuffix(b"--\r\n")
        + b'\r\nContent-Disposition: form-data; name="x"; filename="y"\r\n\r\n'
        + b"y" * 100_000
    )
    answer = await asyncio.wait_for(reader.read(), 5)
    writer.close()
    server.close()
    assert answer.startswith(b"HTTP/1.1 413 ")
    assert b"too big" in answer
    assert b"connection: close" in answer


async def test_upload_larger_than_memory_passes_in_pieces(start: StartRelay) -> None:
    """A provider that reads slowly slows the caller down; nothing piles up in between."""
    release, got = asyncio.Event(), 0

    async def slow(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        nonlocal got
        await reader.readuntil(b"\r\n\r\n")
        await release.wait()
        while got < size:
            got += len(await reader.read(1 << 20))
        writer.write(
            b'HTTP/1.1 200 X\r\ncontent-type: application/json\r\ncontent-length: 12\r\n\r\n{"id":"none"}'[
                :-1
            ]
        )
        await writer.drain()

    server = await asyncio.start_server(slow, "127.0.0.1", 0, limit=1 << 16)
    relay = await start(open_policy(f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}/v1"))
    body = form(("file", '; filename="big"', b"z" * (24 << 20)))
    size = len(body)
    reader, writer = await relay.connect()
    writer.write(
        f"POST /v1/files HTTP/1.1\r\nhost: x\r\nauthorization: Bearer {KEY}\r\ncontent-length: {size}\r\n"
        f"content-type: {FORM['content-type']}\r\n\r\n".encode()
    )
    writer.write(body)
    with pytest.raises(TimeoutError):
        await asyncio.wait_for(writer.drain(), 0.5)
    assert relay.server.held_bytes == 0
    (caller,) = relay.server.connections
    assert caller.exchange is not None
    release.set()
    await asyncio.wait_for(writer.drain(), 10)
    assert (await asyncio.wait_for(reader.readline(), 10)).startswith(b"HTTP/1.1 ")
    writer.close()
    server.close()


@pytest.mark.parametrize(
    ("fault", "status", "code"),
    [
        ("status_400", 400, "invalid_value"),
        ("status_401", 502, "upstream_auth"),
        ("status_429", 429, "rate_limit_exceeded"),
        ("status_500", 502, None),
        ("close", 502, "upstream_disconnected"),
        ("reset", 502, "upstream_disconnected"),
    ],
)
async def test_provider_failure_is_mapped_and_not_repeated(
    opened: Relay, simulator: Simulator, fault: str, status: int, code: str | None
) -> None:
    simulator.script([fault], "moderations")
    answer = await ask(opened, "POST", "/moderations", {"input": "x"})
    assert (answer.status, answer.error["code"]) == (status, code)
    assert len(simulator.requests) == 1
    (record,) = await opened.logged()
    assert (record["outcome"], record["attempts"]) == ("upstream_failed", 1)


@pytest.mark.parametrize(
    ("sent", "status", "code"),
    [
        (reply_of(b"abc", 200, "content-encoding: gzip", kind="audio/mpeg"), 502, "bad_upstream_response"),
        (reply_of(b"", 302, "location: http://127.0.0.1:1/"), 502, "bad_upstream_response"),
        (b"HTTP/1.1 200 X\r\ncontent-length: 1\r\ncontent-length: 2\r\n\r\n", 502, "bad_upstream_response"),
        (reply_of(b"{", length=5), 502, "upstream_disconnected"),
    ],
    ids=["packed", "redirect", "two lengths", "cut"],
)  # fmt: skip
async def test_answer_that_is_none_is_refused(
    start: StartRelay, scripted: StartScripted, sent: bytes, status: int, code: str
) -> None:
    provider = await scripted(sent, CLOSE)
    relay = await start(open_policy(provider.url))
    answer = await ask(relay, "POST", "/audio/speech", SPEECH)
    assert (answer.status, answer.error["code"]) == (status, code)
    assert provider.asked == 1


async def test_answer_without_a_body_passes(start: StartRelay, scripted: StartScripted) -> None:
    relay = await start(open_policy((await scripted(b"HTTP/1.1 204 X\r\n\r\n")).url))
    for _ in range(2):
        answer = await ask(relay, "POST", "/moderations", {"input": "x"})
        assert (answer.status, answer.body) == (204, b"")


async def test_answer_that_breaks_off_breaks_off_for_the_caller_too(
    start: StartRelay, scripted: StartScripted
) -> None:
    whole = reply_of(b"x" * 100_000, kind="audio/mpeg")
    relay = await start(open_policy((await scripted(whole[:-1000], CLOSE)).url))
    with pytest.raises(aiohttp.ClientPayloadError):
        await ask(relay, "POST", "/audio/speech", SPEECH)
    (record,) = await relay.logged()
    assert (record["outcome"], record["error_type"]) == ("upstream_failed", "provider_disconnected")


async def test_provider_that_takes_no_upload_is_its_own_fault(start: StartRelay) -> None:
    silent = await asyncio.start_server(lambda reader, writer: None, "127.0.0.1", 0, limit=1 << 10)
    url = f"http://127.0.0.1:{silent.sockets[0].getsockname()[1]}/v1"
    relay = await start(open_policy(url, more=", timeouts: {total: 700ms}"))
    body = form(("file", '; filename="big"', b"z" * (24 << 20)))
    answer = await ask(relay, "POST", "/files", body, headers=FORM)
    silent.close()
    assert (answer.status, answer.error["code"]) == (504, "upstream_timeout")


async def test_caller_that_sends_all_before_it_reads_hears_why_not(
    opened: Relay, simulator: Simulator
) -> None:
    body = form(("data", '; filename="part"', b"z" * (24 << 20)))
    reader, writer = await opened.connect()
    writer.write(
        f"POST /v1/uploads/upload_theirs/parts HTTP/1.1\r\nhost: x\r\nauthorization: Bearer {KEY}\r\n"
        f"content-length: {len(body)}\r\ncontent-type: {FORM['content-type']}\r\n\r\n".encode()
    )
    writer.write(body)
    await asyncio.wait_for(writer.drain(), 10)
    assert (await asyncio.wait_for(reader.read(), 10)).startswith(b"HTTP/1.1 404 ")
    writer.close()
    assert not simulator.requests


async def test_connection_that_a_provider_closes_after_its_answer_does_no_harm(
    start: StartRelay, scripted: StartScripted
) -> None:
    body = json.dumps({"id": "resp_abcd", "output": []}).encode()
    events = b"data: " + json.dumps({"type": "response.created", "response": {"id": "resp_abcd"}}).encode()
    for sent in (
        reply_of(body, 200, "connection: close"),
        reply_of(events + b"\n\n", 200, "connection: close", kind="text/event-stream"),
    ):
        relay = await start(open_policy((await scripted(sent, CLOSE)).url))
        for _ in range(2):
            assert (await ask(relay, "POST", "/responses", {"model": "gpt-4o", "input": "x"})).status == 200


async def test_silent_provider_ends_at_the_deadline(start: StartRelay, scripted: StartScripted) -> None:
    provider = await scripted(STALL)
    relay = await start(open_policy(provider.url, more=", timeouts: {total: 300ms}"))
    answer = await ask(relay, "POST", "/audio/speech", SPEECH)
    assert (answer.status, answer.error["code"]) == (504, "upstream_timeout")
    await asyncio.wait_for(provider.left.wait(), 5)


async def test_long_answer_is_recorded_by_its_first_field(start: StartRelay, scripted: StartScripted) -> None:
    body = json.dumps({"id": "resp_long1", "output": "x" * (2 << 20), "usage": USAGE}).encode()
    relay = await start(open_policy((await scripted(reply_of(body))).url))
    answer = await ask(relay, "POST", "/responses", {"model": "gpt-4o", "input": "x"})
    assert answer.body == body
    assert (await ask(relay, "GET", "/responses/resp_long1")).status == 200
    assert (await ask(relay, "GET", "/responses/resp_long1", key=OTHER_KEY)).status == 404
    made, *_ = await relay.logged()
    assert (made["input_tokens"], made["output_tokens"]) == (10, 6)


async def test_body_nested_too_deeply_is_refused(opened: Relay, simulator: Simulator) -> None:
    deep = b'{"input": ' + b"[" * 300 + b"]" * 300 + b"}"
    answer = await ask(opened, "POST", "/moderations", deep, headers={"content-type": "application/json"})
    assert answer.status == 400
    assert not simulator.requests


async def test_body_of_another_type_is_refused(opened: Relay, simulator: Simulator) -> None:
    answer = await ask(opened, "POST", "/files", b"x", headers={"content-type": "application/octet-stream"})
    assert (answer.status, answer.error["code"]) == (415, "unsupported_media_type")
    assert not simulator.requests


async def test_caller_that_leaves_in_mid_upload_cancels_it(opened: Relay, simulator: Simulator) -> None:
    _, writer = await opened.connect()
    writer.write(
        f"POST /v1/files HTTP/1.1\r\nhost: x\r\nauthorization: Bearer {KEY}\r\ncontent-length: 9000000\r\n"
        f"content-type: {FORM['content-type']}\r\n\r\n".encode()
        + form(FILE).removesuffix(b"--\r\n")
        + b'\r\nContent-Disposition: form-data; name="x"; filename="y"\r\n\r\n'
        + b"y" * 100_000
    )
    await writer.drain()
    writer.close()
    (record,) = await opened.logged()
    assert record["outcome"] == "caller_gone"
    assert not simulator.requests
    assert not opened.line.exchanges
