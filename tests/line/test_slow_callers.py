"""A caller that is slow costs little, stops nobody else, and is let go in time."""

from __future__ import annotations

import asyncio
import json
import socket
from collections.abc import AsyncIterator
from dataclasses import dataclass

import pytest

from gateway.http.caller import CallerConnection
from gateway.http.message import chunk
from gateway.http.server import CallerTimes
from gateway.simulator.server import Simulator
from tests.line.conftest import StartRelay, StartScripted
from tests.relaying import CHAT, Relay
from tests.running import KEY, eventually, policy_for
from tests.scripted import answer

QUICK = CallerTimes(head_s=0.2, body_s=0.2, idle_s=0.2, write_stall_s=0.3, linger_s=0.1)
HEAD = b"POST /v1/chat/completions HTTP/1.1\r\nhost: x\r\nauthorization: Bearer %b\r\n" % KEY.encode()
STREAM = {**CHAT, "stream": True}
BUFFERED_BYTES = 256 * 1024
"""The most that may wait in the gateway for one caller of a stream."""


def call(fields: dict[str, object], more: bytes = b"") -> bytes:
    body = json.dumps(fields).encode()
    return HEAD + more + b"content-length: %d\r\n\r\n%b" % (len(body), body)


async def refusal(reader: asyncio.StreamReader) -> tuple[int, str]:
    """Status and code of an answer that is the last of its connection."""
    answer = await asyncio.wait_for(reader.read(), 10)
    head, _, body = answer.partition(b"\r\n\r\n")
    assert b"connection: close" in head
    return int(head.split()[1]), json.loads(body)["error"]["code"]


@pytest.fixture
async def quick(start: StartRelay, simulator: Simulator) -> Relay:
    return await start(policy_for(simulator.url), times=QUICK)


async def drip(writer: asyncio.StreamWriter, data: bytes, every_s: float) -> None:
    """Sends a byte at a time, until the gateway has had enough."""
    for at in range(len(data)):
        if writer.is_closing():
            return
        writer.write(data[at : at + 1])
        await asyncio.sleep(every_s)


async def test_head_that_drips_is_408_when_its_time_is_up(quick: Relay) -> None:
    reader, writer = await quick.connect()
    dripping = asyncio.create_task(drip(writer, call(CHAT), 0.03))
    assert await refusal(reader) == (408, "request_timeout")
    writer.close()
    dripping.cancel()
    assert (await quick.logged())[0]["error_type"] == "caller_timeout"


async def test_body_that_does_not_come_is_408(quick: Relay, simulator: Simulator) -> None:
    reader, writer = await quick.connect()
    writer.write(call(CHAT)[:-20])
    assert await refusal(reader) == (408, "request_timeout")
    writer.close()
    assert not simulator.requests
    assert quick.server.held_bytes == 0


async def test_body_below_the_least_rate_is_408(quick: Relay, simulator: Simulator) -> None:
    reader, writer = await quick.connect()
    writer.write(HEAD + b"content-length: 1000000\r\n\r\n")
    dripping = asyncio.create_task(drip(writer, b"x" * 1000, 0.02))
    assert await refusal(reader) == (408, "request_timeout")
    dripping.cancel()
    writer.close()
    assert not simulator.requests


async def test_body_above_the_least_rate_may_take_longer(quick: Relay) -> None:
    reader, writer = await quick.connect()
    sent = call({**CHAT, "user": "x" * 8000})
    # 8 KB in 0.6 s, three times what a body has that brings nothing.
    for at in range(0, len(sent), 700):
        writer.write(sent[at : at + 700])
        await asyncio.sleep(0.05)
    assert (await asyncio.wait_for(reader.readuntil(b"\r\n"), 5)).startswith(b"HTTP/1.1 200 ")
    writer.close()


@pytest.mark.parametrize("before", [b"", b"\r\n\r\n"], ids=["nothing sent", "empty lines sent"])
async def test_connection_without_a_request_is_closed_without_a_word(quick: Relay, before: bytes) -> None:
    reader, writer = await quick.connect()
    writer.write(before)
    assert await asyncio.wait_for(reader.read(), 5) == b""
    writer.close()
    await eventually(lambda: not quick.server.connections)
    assert not quick.lines


async def test_connection_is_kept_for_its_idle_time_after_an_answer(quick: Relay) -> None:
    reader, writer = await quick.connect()
    writer.write(call(CHAT))
    answer = await asyncio.wait_for(reader.read(), 5)
    assert answer.startswith(b"HTTP/1.1 200 ")
    assert b"connection: close" not in answer.partition(b"\r\n\r\n")[0]
    writer.close()


# callers that read slowly


class Blast:
    """A provider that streams as fast as it can: for ever, or so many `times` so many `events` of 1 KB."""

    def __init__(self) -> None:
        self.times = 0
        self.events = 1000
        self.url = ""
        self.asked = 0
        self.left = asyncio.Event()
        """Set when the gateway leaves before the end."""

    async def start(self) -> asyncio.Server:
        server = await asyncio.start_server(self._serve, "127.0.0.1", 0)
        self.url = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}/v1"
        return server

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        head = await reader.readuntil(b"\r\n\r\n")
        await reader.readexactly(int(head.lower().partition(b"content-length: ")[2].partition(b"\r")[0]))
        self.asked += 1
        # Else a thousand of these fill gigabytes of the kernel's buffers before anything stops.
        writer.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 256 * 1024)
        begun = b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\ntransfer-encoding: chunked\r\n\r\n"
        events = self.events * chunk(b"data: %b\n\n" % json.dumps(_delta("x" * 900, None)).encode())
        sent, times = 0, self.times
        try:
            writer.write(begun)
            while not times or sent < times:
                writer.write(events)
                await writer.drain()
                sent += 1
            last = json.dumps(_delta("", "stop")).encode()
            writer.write(chunk(b"data: %b\n\ndata: [DONE]\n\n" % last, last=True))
        except ConnectionError:
            self.left.set()
        writer.close()


def _delta(content: str, reason: str | None) -> dict[str, object]:
    return {"choices": [{"index": 0, "delta": {"content": content}, "finish_reason": reason}]}


@pytest.fixture
async def blast() -> AsyncIterator[Blast]:
    blast = Blast()
    server = await blast.start()
    yield blast
    server.close()


@dataclass
class Slow:
    """A caller that takes no more than is read from it, and some KB: `connection` is the gateway's end."""

    connection: CallerConnection
    reader: asyncio.StreamReader
    writer: asyncio.StreamWriter


async def slow(relay: Relay) -> Slow:
    """Such a connection. The kernel's buffers are small on both ends: else they would hide the gateway's."""
    before = set(relay.server.connections)
    sock = socket.socket()
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 8192)
    sock.setblocking(False)
    await asyncio.get_running_loop().sock_connect(sock, (relay.host, relay.port))
    reader, writer = await asyncio.open_connection(sock=sock, limit=1024)
    await eventually(lambda: relay.server.connections - before)
    (connection,) = relay.server.connections - before
    ours = connection.transport.get_extra_info("socket")
    ours.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 8192)
    return Slow(connection, reader, writer)


async def stuck(relay: Relay, sent: bytes) -> Slow:
    """A caller that sends this and reads nothing, once the gateway is held up by it."""
    caller = await slow(relay)
    caller.writer.write(sent)
    await eventually(lambda: caller.connection.paused)
    return caller


async def test_at_most_256_kib_wait_for_a_caller_that_reads_nothing(start: StartRelay, blast: Blast) -> None:
    relay = await start(policy_for(blast.url))
    peaks = []
    for _ in range(8):
        caller = await stuck(relay, call(STREAM))
        # Paused: from here on nothing may be added, whatever the provider sends.
        peaks.append(caller.connection.transport.get_write_buffer_size())
        assert (await relay.get("/models")).status == 200
        assert caller.connection.transport.get_write_buffer_size() <= peaks[-1]
        caller.writer.close()
    assert 0 < max(peaks) <= BUFFERED_BYTES, peaks
    await eventually(lambda: not relay.line.exchanges)


async def test_other_streams_go_on_beside_a_caller_that_reads_nothing(
    start: StartRelay, blast: Blast
) -> None:
    relay = await start(policy_for(blast.url))
    caller = await stuck(relay, call(STREAM))
    blast.times = 1
    for _ in range(3):
        assert (await relay.stream()).events[-1] == "[DONE]"
    assert len(relay.line.exchanges) == 1
    caller.writer.close()
    await asyncio.wait_for(blast.left.wait(), 5)


async def test_caller_that_takes_nothing_is_cut_and_its_upstream_closed(
    start: StartRelay, blast: Blast
) -> None:
    relay = await start(policy_for(blast.url), times=QUICK)
    caller = await stuck(relay, call(STREAM))
    await asyncio.wait_for(blast.left.wait(), 5)
    await eventually(lambda: not relay.server.connections)
    (record,) = await relay.logged()
    assert record["outcome"] == "caller_gone"
    assert record["output_tokens"] > 0
    caller.writer.close()


async def test_caller_that_reads_again_gets_the_whole_stream(start: StartRelay, blast: Blast) -> None:
    blast.times = 5
    relay = await start(policy_for(blast.url))
    caller = await stuck(relay, call(STREAM, b"connection: close\r\n"))
    received = await asyncio.wait_for(caller.reader.read(), 30)
    assert received.endswith(b"data: [DONE]\n\n\r\n0\r\n\r\n")
    assert len(received) > 5 * 1000 * 900
    caller.writer.close()
    assert not blast.left.is_set()


async def test_slow_reader_of_a_connections_last_answer_gets_all_of_it(
    start: StartRelay, scripted: StartScripted
) -> None:
    body = json.dumps({"choices": [], "text": "x" * 500_000}).encode()
    provider = await scripted(answer(body))
    relay = await start(policy_for(provider.url), times=CallerTimes(linger_s=0.1))
    caller = await stuck(relay, call(CHAT, b"connection: close\r\n"))
    await eventually(lambda: not relay.line.exchanges)
    await asyncio.sleep(0.3)
    received = await asyncio.wait_for(caller.reader.read(), 10)
    assert json.loads(received.partition(b"\r\n\r\n")[2]) == json.loads(body)
    caller.writer.close()


@pytest.mark.parametrize("more", [b"", b"connection: close\r\n"], ids=["kept open", "closing"])
async def test_caller_that_never_takes_its_answer_is_cut(
    start: StartRelay, scripted: StartScripted, more: bytes
) -> None:
    body = json.dumps({"choices": [], "text": "x" * 500_000}).encode()
    provider = await scripted(answer(body))
    relay = await start(policy_for(provider.url), times=QUICK)
    caller = await stuck(relay, call(CHAT, more))
    await eventually(lambda: not relay.server.connections)
    caller.writer.close()


async def test_caller_that_reads_no_answers_gets_no_more_of_them(
    start: StartRelay, scripted: StartScripted
) -> None:
    body = json.dumps({"choices": [], "text": "x" * 100_000}).encode()
    provider = await scripted(answer(body))
    relay = await start(policy_for(provider.url))
    many = 20
    caller = await stuck(relay, call(CHAT) * many)
    await eventually(lambda: not relay.line.exchanges)
    # What it sends later waits too.
    caller.writer.write(call(CHAT))
    assert (await relay.get("/models")).status == 200
    assert provider.asked == 1
    await asyncio.wait_for(caller.reader.readexactly((many + 1) * len(body)), 30)
    assert provider.asked == many + 1
    caller.writer.close()
