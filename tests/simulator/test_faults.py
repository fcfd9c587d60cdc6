"""Every fault of the list does on the wire what its name says, and is billed for what was generated."""

from __future__ import annotations

import asyncio
import zlib
from collections.abc import Awaitable, Callable
from typing import Any

import aiohttp
import orjson
import pytest

from gateway.simulator.faults import DISRUPTIONS, NAMES, REFUSALS, Fault
from gateway.simulator.server import Simulator

Start = Callable[..., Awaitable[Simulator]]


def ask(fault: str | None = None, *, stream: bool = False, **simulate: Any) -> dict[str, Any]:
    asked = {**simulate, **({"fault": fault} if fault else {})}
    options = {"stream_options": {"include_usage": True}} if stream else {}
    messages = [{"role": "user", "content": "Why?"}]
    return {"model": "m", "messages": messages, "stream": stream, "simulate": asked, **options}


@pytest.fixture
async def simulator(simulate: Start) -> Simulator:
    return await simulate(output_tokens=10)


class Wire:
    """One request over a bare socket: what came back, byte by byte."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.reader, self.writer = reader, writer

    async def everything(self) -> bytes:
        """All bytes until the server closes; raises `ConnectionResetError` on RST."""
        return await asyncio.wait_for(self.reader.read(-1), 5)


async def send(simulator: Simulator, body: dict[str, Any]) -> Wire:
    host, port = simulator.url.removeprefix("http://").removesuffix("/v1").split(":")
    wire = Wire(*await asyncio.open_connection(host, int(port), limit=2**24))
    raw = orjson.dumps(body)
    lines = (
        "POST /v1/chat/completions HTTP/1.1",
        "host: x",
        "connection: close",
        f"content-length: {len(raw)}",
    )
    wire.writer.write("\r\n".join((*lines, "", "")).encode() + raw)
    return wire


async def answer(
    http: aiohttp.ClientSession, simulator: Simulator, body: dict[str, Any]
) -> tuple[int, bytes]:
    url = f"{simulator.url}/chat/completions"
    async with http.post(url, json=body, allow_redirects=False) as response:
        return response.status, await response.read()


@pytest.mark.parametrize("name", REFUSALS)
@pytest.mark.parametrize("stream", [False, True])
async def test_refusals_have_openais_shape_and_cost_nothing(
    http: aiohttp.ClientSession, simulator: Simulator, name: str, stream: bool
) -> None:
    status, body = await answer(http, simulator, ask(name, stream=stream))
    assert status == REFUSALS[name].status
    if name.startswith("status_"):
        assert status == int(name.split("_")[1])
    assert set(orjson.loads(body)["error"]) == {"message", "type", "param", "code"}
    assert simulator.bill.total().attempts == 0


async def test_refusal_may_say_when_to_come_back(http: aiohttp.ClientSession, simulator: Simulator) -> None:
    body = ask("status_429", retry_after=2, retry_after_ms="1500")
    async with http.post(f"{simulator.url}/chat/completions", json=body) as response:
        assert (response.headers["retry-after"], response.headers["retry-after-ms"]) == ("2", "1500")
    async with http.post(f"{simulator.url}/chat/completions", json=ask("status_429")) as response:
        assert "retry-after" not in response.headers


@pytest.mark.parametrize("stream", [False, True])
async def test_reset_and_close_come_before_any_byte(simulator: Simulator, stream: bool) -> None:
    wire = await send(simulator, ask("close", stream=stream))
    assert await wire.everything() == b""
    with pytest.raises(ConnectionResetError):
        await (await send(simulator, ask("reset", stream=stream))).everything()
    assert simulator.bill.total().attempts == 0
    assert len(simulator.departed) == 0


async def test_hang_sends_nothing_until_the_caller_leaves(simulator: Simulator) -> None:
    wire = await send(simulator, ask("hang"))
    await simulator.requests.wait()
    with pytest.raises(TimeoutError):
        await asyncio.wait_for(wire.reader.read(1), 0.1)
    wire.writer.close()
    assert (await simulator.departed.wait()).chunks == 0
    assert simulator.bill.total().attempts == 0


@pytest.mark.parametrize("chunks", [0, 1, 4])
async def test_cut_stream_ends_after_that_many_events_without_done(simulator: Simulator, chunks: int) -> None:
    wire = await send(simulator, ask("cut", stream=True, fault_after_chunks=chunks))
    raw = await wire.everything()
    assert raw.startswith(b"HTTP/1.1 200 OK")
    assert raw.count(b"data: ") == chunks
    assert b"[DONE]" not in raw
    assert not raw.endswith(b"0\r\n\r\n")
    entry = await simulator.billed.wait()
    assert (entry.output_tokens, entry.finished, entry.fault) == (max(0, chunks - 1), False, "cut")
    assert entry.input_tokens == 1


async def test_cut_beyond_the_end_still_comes_before_done(simulator: Simulator) -> None:
    raw = await (await send(simulator, ask("cut", stream=True, fault_after_chunks=999))).everything()
    assert b"[DONE]" not in raw
    assert raw.count(b"data: ") == 1 + 10 + 2


@pytest.mark.parametrize("stream", [False, True])
async def test_cut_reset_is_a_reset_in_mid_answer(simulator: Simulator, stream: bool) -> None:
    wire = await send(simulator, ask("cut_reset", stream=stream))
    with pytest.raises(ConnectionResetError):
        await wire.everything()


@pytest.mark.parametrize("stream", [False, True])
async def test_stall_goes_silent_with_the_connection_open(simulator: Simulator, stream: bool) -> None:
    wire = await send(simulator, ask("stall", stream=stream, fault_after_chunks=2))
    await wire.reader.readuntil(b"\r\n\r\n")
    # Two HTTP chunks with an event each, or half of the JSON, which is sent in one go.
    ends = [b"}\n\n\r\n"] * 2 if stream else []
    raw = b"".join([await wire.reader.readuntil(end) for end in ends]) or await wire.reader.read(2**16)
    with pytest.raises(TimeoutError):
        await asyncio.wait_for(wire.reader.read(1), 0.1)
    assert raw.count(b"data: ") == (2 if stream else 0)
    wire.writer.close()
    await simulator.departed.wait()
    assert (await simulator.billed.wait()).finished is False


@pytest.mark.parametrize("chunks", [0, 3])
async def test_error_event_follows_that_many_events(
    http: aiohttp.ClientSession, simulator: Simulator, chunks: int
) -> None:
    body = ask("error_event", stream=True, fault_after_chunks=chunks)
    status, raw = await answer(http, simulator, body)
    events = raw.split(b"\n\n")[:-1]
    assert status == 200
    assert len(events) == chunks + 1
    assert orjson.loads(events[-1].removeprefix(b"data: "))["error"]["type"] == "server_error"
    assert simulator.bill.entries[0].finished is False


async def test_filter_event_is_azures_error(http: aiohttp.ClientSession, simulator: Simulator) -> None:
    for stream in (False, True):
        _, raw = await answer(http, simulator, ask("filter_event", stream=stream, fault_after_chunks=0))
        error = orjson.loads(raw.removeprefix(b"data: "))["error"]
        assert (error["code"], error["innererror"]["code"]) == (
            "content_filter",
            "ResponsibleAIPolicyViolation",
        )


async def test_pings_follow_that_many_events_until_the_caller_leaves(simulator: Simulator) -> None:
    wire = await send(simulator, ask("pings", stream=True, fault_after_chunks=2))
    raw = b"".join([await wire.reader.readuntil(b": keep-alive\n\n") for _ in range(3)])
    assert raw.count(b"data: ") == 2
    wire.writer.close()
    assert (await simulator.departed.wait()).chunks == 2


async def test_byte_order_mark_stands_at_the_beginning_alone(
    http: aiohttp.ClientSession, simulator: Simulator
) -> None:
    _, raw = await answer(http, simulator, ask("bom", stream=True))
    assert raw.startswith(b"\xef\xbb\xbfdata: {")
    assert raw.count(b"\xef\xbb\xbf") == 1
    assert raw.endswith(b"data: [DONE]\n\n")


async def test_plain_answers_break_off_short_of_their_length(simulator: Simulator) -> None:
    for name in ("cut", "truncated"):
        for stream in (False, True) if name == "truncated" else (False,):
            raw = await (await send(simulator, ask(name, stream=stream))).everything()
            head, _, body = raw.partition(b"\r\n\r\n")
            length = next(line for line in head.lower().split(b"\r\n") if line.startswith(b"content-length"))
            assert int(length.split(b":")[1]) > len(body) > 0


async def test_bodies_that_are_no_answers(http: aiohttp.ClientSession, simulator: Simulator) -> None:
    url = f"{simulator.url}/chat/completions"
    async with http.post(url, json=ask("html")) as response:
        assert (response.status, response.content_type) == (200, "text/html")
    assert await answer(http, simulator, ask("status_204")) == (204, b"")
    async with http.post(url, json=ask("redirect"), allow_redirects=False) as response:
        assert (response.status, response.headers["location"]) == (302, "/v1/redirected")
    assert simulator.bill.total().attempts == 0
    for stream in (False, True):
        _, raw = await answer(http, simulator, ask("not_json", stream=stream))
        bad = raw.split(b"\n\n")[3].removeprefix(b"data: ") if stream else raw
        with pytest.raises(orjson.JSONDecodeError):
            orjson.loads(bad)
        _, raw = await answer(http, simulator, ask("bad_utf8", stream=stream))
        with pytest.raises(UnicodeDecodeError):
            raw.decode()


@pytest.mark.parametrize(("name", "end"), [("crlf", b"\r\n"), ("cr", b"\r"), (None, b"\n")])
async def test_line_ends(
    http: aiohttp.ClientSession, simulator: Simulator, name: str | None, end: bytes
) -> None:
    _, raw = await answer(http, simulator, ask(name, stream=True))
    assert raw.endswith(b"data: [DONE]" + end + end)
    assert raw.count(b"\n") == (0 if name == "cr" else raw.count(b"data: ") * 2)


async def test_split_answers_go_out_in_small_http_chunks(simulator: Simulator) -> None:
    for body, size in (
        (ask("split_bytes", stream=True), 1),
        (ask(split=7, stream=True), 7),
        (ask(split=7), 7),
    ):
        raw = await (await send(simulator, body)).everything()
        chunked = raw.partition(b"\r\n\r\n")[2]
        sizes = []
        while chunked:
            head, _, rest = chunked.partition(b"\r\n")
            sizes.append(int(head, 16))
            chunked = rest[sizes[-1] + 2 :]
        assert max(sizes) == size
        assert sizes[-1] == 0


async def test_usage_can_be_missing_absurd_or_negative(
    http: aiohttp.ClientSession, simulator: Simulator
) -> None:
    for stream in (False, True):

        async def told(fault: str, stream: bool = stream) -> Any:
            _, raw = await answer(http, simulator, ask(fault, stream=stream))
            body = raw.split(b"\n\n")[-3].removeprefix(b"data: ") if stream else raw
            return orjson.loads(body).get("usage")

        assert await told("no_usage") is None
        assert (await told("absurd_usage"))["prompt_tokens"] == 10**15
        assert (await told("negative_usage"))["completion_tokens"] == -10
    assert {entry.output_tokens for entry in simulator.bill.entries} == {10}


async def test_done_can_be_missing_doubled_or_followed(
    http: aiohttp.ClientSession, simulator: Simulator
) -> None:
    for name, dones, is_last in (("no_done", 0, False), ("double_done", 2, True), ("after_done", 1, False)):
        _, raw = await answer(http, simulator, ask(name, stream=True))
        assert raw.count(b"data: [DONE]") == dones
        assert raw.endswith(b"data: [DONE]\n\n") == is_last
        assert simulator.bill.entries[-1].finished


async def test_comments_stand_between_the_events(http: aiohttp.ClientSession, simulator: Simulator) -> None:
    _, raw = await answer(http, simulator, ask("comments", stream=True))
    assert raw.count(b": keep-alive\n\n") == raw.count(b"data: {")


@pytest.mark.parametrize("stream", [False, True])
async def test_big_event_is_more_than_a_mebibyte_of_json(
    http: aiohttp.ClientSession, simulator: Simulator, stream: bool
) -> None:
    _, raw = await answer(http, simulator, ask("big_event", stream=stream, fault_after_chunks=2))
    big = raw.split(b"\n\n")[2].removeprefix(b"data: ") if stream else raw
    assert len(big) > 2**20
    assert orjson.loads(big)["choices"]


@pytest.mark.parametrize("stream", [False, True])
async def test_gzip_is_sent_unasked_and_complete(
    http: aiohttp.ClientSession, simulator: Simulator, stream: bool
) -> None:
    body = ask("gzip", stream=stream)
    async with http.post(
        f"{simulator.url}/chat/completions", json=body, headers={"accept-encoding": ""}
    ) as response:
        assert response.headers["content-encoding"] == "gzip"
        unpacker = zlib.decompressobj(wbits=31)
        plain = unpacker.decompress(await response.read())
    assert unpacker.eof
    assert plain.endswith(b"data: [DONE]\n\n") if stream else orjson.loads(plain)["choices"]


def test_list_of_faults_is_closed() -> None:
    assert set(NAMES) == set(REFUSALS) | set(DISRUPTIONS)
    with pytest.raises(ValueError, match="status_500"):
        Fault("status_999")


async def test_every_fault_applies_to_embeddings_and_completions_too(
    http: aiohttp.ClientSession, simulator: Simulator
) -> None:
    for name in NAMES:
        if name in ("hang", "stall", "pings"):
            continue
        wanted = (
            REFUSALS[name].status if name in REFUSALS else {"redirect": 302, "status_204": 204}.get(name, 200)
        )
        for path, body in (("embeddings", {"input": "a"}), ("completions", {"prompt": "a", "stream": True})):
            asked = {"model": "m", "simulate": {"fault": name, "fault_after_chunks": 1}, **body}
            try:
                async with http.post(
                    f"{simulator.url}/{path}", json=asked, allow_redirects=False
                ) as response:
                    await response.read()
            except aiohttp.ClientError:
                assert name in ("reset", "close", "cut", "cut_reset", "truncated")
            else:
                assert response.status == wanted
