"""A caller may leave at any moment: its upstream is closed, its call logged, and nothing is left behind."""

from __future__ import annotations

import asyncio
import json

import pytest

from gateway.simulator.server import Simulator
from tests.conftest import StartSimulator
from tests.line.conftest import StartRelay
from tests.relaying import CHAT, Relay
from tests.running import KEY, eventually, policy_for

HEAD = b"POST /v1/chat/completions HTTP/1.1\r\nhost: x\r\nauthorization: Bearer %b\r\n" % KEY.encode()


def call(stream: bool, **simulate: object) -> bytes:
    body = json.dumps({**CHAT, "stream": stream, "simulate": simulate}).encode()
    return HEAD + b"content-length: %d\r\n\r\n%b" % (len(body), body)


async def nothing_is_left(relay: Relay) -> None:
    await eventually(lambda: not relay.server.connections and not relay.line.exchanges)
    assert relay.server.held_bytes == 0
    assert (await relay.post()).status == 200


@pytest.mark.parametrize(
    "sent",
    [b"", b"P", HEAD, HEAD + b"content-length: 100\r\n\r\n", call(True)[:-5]],
    ids=["nothing", "one byte", "half a head", "a head", "half a body"],
)
@pytest.mark.parametrize("reset", [False, True], ids=["FIN", "RST"])
async def test_leaving_before_the_call_is_whole_asks_no_provider(
    relay: Relay, simulator: Simulator, sent: bytes, reset: bool
) -> None:
    _, writer = await relay.connect()
    writer.write(sent)
    await eventually(lambda: relay.server.connections)
    if reset:
        writer.transport.abort()
    else:
        writer.close()
    await nothing_is_left(relay)
    assert simulator.requests.total == 1, "the call afterwards"


@pytest.mark.parametrize("stream", [False, True], ids=["plain", "streamed"])
@pytest.mark.parametrize(
    "asked",
    [{"fault": "hang"}, {"first_token_ms": 60_000}, {"fault": "stall"}, {"tokens_per_s": 20}],
    ids=["silent", "thinking", "stalled", "in mid-answer"],
)
async def test_leaving_after_the_call_closes_its_upstream(
    relay: Relay, simulator: Simulator, asked: dict[str, object], stream: bool
) -> None:
    reader, writer = await relay.connect()
    writer.write(call(stream, output_tokens=100, **asked))
    await simulator.requests.wait()
    if stream and asked.keys() <= {"fault", "tokens_per_s"} and asked.get("fault") != "hang":
        await asyncio.wait_for(reader.readuntil(b'"content":"'), 5)
    writer.close()
    await simulator.departed.wait()
    assert (await relay.logged())[0]["outcome"] == "caller_gone"
    await nothing_is_left(relay)


async def test_leaving_while_the_connection_is_opened_sends_nothing(
    start: StartRelay, simulate: StartSimulator
) -> None:
    # An address that answers no SYN: the dial is under way until its deadline.
    relay = await start(policy_for("http://192.0.2.1:9/v1"))
    _, writer = await relay.connect()
    writer.write(call(False))
    await eventually(lambda: relay.line.exchanges)
    writer.close()
    await eventually(lambda: not relay.line.exchanges)
    assert (await relay.logged())[0]["outcome"] == "caller_gone"


async def test_half_closing_is_leaving(relay: Relay, simulator: Simulator) -> None:
    reader, writer = await relay.connect()
    writer.write(call(False, fault="hang"))
    await simulator.requests.wait()
    writer.write_eof()
    await simulator.departed.wait()
    assert await asyncio.wait_for(reader.read(), 5) == b""
    writer.close()


# what is refused before anything is read or asked


async def test_call_above_the_most_calls_is_refused_before_its_body_is_sent(
    relay: Relay, simulator: Simulator
) -> None:
    relay.line.max_calls = 1
    _, busy = await relay.connect()
    busy.write(call(False, fault="hang"))
    await simulator.requests.wait()
    reader, writer = await relay.connect()
    writer.write(HEAD + b"content-length: 1000000\r\nexpect: 100-continue\r\n\r\n")
    answer = await asyncio.wait_for(reader.read(), 5)
    head, _, body = answer.partition(b"\r\n\r\n")
    assert head.startswith(b"HTTP/1.1 503 ") and b"connection: close" in head
    assert json.loads(body)["error"]["code"] == "overloaded"
    writer.close()
    busy.close()
    await nothing_is_left(relay)


async def test_connection_above_the_cap_of_its_address_is_told_counted_and_logged(
    start: StartRelay, simulator: Simulator
) -> None:
    relay = await start(policy_for(simulator.url), max_connections_per_address=1)
    _, first = await relay.connect()
    await eventually(lambda: relay.server.connections)
    answer = await relay.post()
    assert (answer.status, answer.error["code"]) == (503, "overloaded")
    assert answer.headers["connection"] == "close"
    assert (await relay.logged())[0]["error_type"] == "gateway_too_many_connections"
    first.close()
    await nothing_is_left(relay)


async def test_bodies_held_together_are_bounded_and_given_back(
    start: StartRelay, simulator: Simulator
) -> None:
    relay = await start(policy_for(simulator.url), max_held_bytes=100_000)
    part = HEAD + b"content-length: 90000\r\n\r\n" + b"x" * 40_000
    callers = [await relay.connect() for _ in range(3)]
    for count, (_, writer) in enumerate(callers, 1):
        writer.write(part)
        await eventually(lambda least=count: relay.server.held_bytes >= min(least, 2) * 40_000)
    reader, _ = callers[2]
    assert (await asyncio.wait_for(reader.readuntil(b"\r\n"), 5)).startswith(b"HTTP/1.1 503 ")
    assert relay.server.held_bytes <= 100_000
    for _, writer in callers:
        writer.close()
    await nothing_is_left(relay)


@pytest.mark.parametrize("framing", ["extension", "trailer"])
async def test_chunked_body_that_is_mostly_framing_is_refused(
    relay: Relay, simulator: Simulator, framing: str
) -> None:
    reader, writer = await relay.connect()
    writer.write(HEAD + b"transfer-encoding: chunked\r\n\r\n2\r\n{}\r\n")
    writer.write(b"1;x=" if framing == "extension" else b"0\r\nx: ")
    writer.write(b"y" * 1_000_000)
    answer = await asyncio.wait_for(reader.readuntil(b"\r\n"), 5)
    assert answer.startswith(b"HTTP/1.1 400 ")
    writer.close()
    await eventually(lambda: not relay.server.connections)
    assert not simulator.requests


async def test_tracestate_may_come_in_two_headers(relay: Relay, simulator: Simulator) -> None:
    reader, writer = await relay.connect()
    writer.write(call(False).replace(b"host: x\r\n", b"host: x\r\ntracestate: a=1\r\ntracestate: b=2\r\n"))
    assert (await asyncio.wait_for(reader.readuntil(b"\r\n"), 5)).startswith(b"HTTP/1.1 200 ")
    assert simulator.requests[-1].header("tracestate") == "a=1,b=2"
    writer.close()
