"""What a provider's bytes become, when a connection is kept, and how pools share them."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from gateway.http.dial import Origin
from gateway.http.message import Answer
from gateway.http.pool import Pool
from gateway.http.upstream import UpstreamConnection, UpstreamFailed
from gateway.http.wheel import Wheel
from tests.running import eventually


class Received:
    """A receiver that keeps everything."""

    def __init__(self) -> None:
        self.answer: Answer | None = None
        self.body = b""
        self.failure: UpstreamFailed | None = None
        self.done = asyncio.Event()

    def answered(self, answer: Answer) -> None:
        self.answer = answer

    def received(self, block: bytes) -> None:
        assert self.answer is not None
        self.body += block

    def ended(self) -> None:
        self.done.set()

    def failed(self, failure: UpstreamFailed) -> None:
        self.failure = failure
        self.done.set()


class Provider:
    """A raw server: each connection answers its requests with the next of `answers`, byte for byte.

    None as an answer closes the connection.
    """

    def __init__(self) -> None:
        self.answers: list[list[bytes] | None] = []
        self.connections = 0
        self.port = 0

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.connections += 1
        try:
            while await reader.readuntil(b"\n"):
                answer = self.answers.pop(0)
                if answer is None:
                    break
                for part in answer:
                    writer.write(part)
                    await writer.drain()
                    await asyncio.sleep(0)
        except (asyncio.IncompleteReadError, ConnectionError):
            pass
        writer.close()


class Setting:
    """A provider and a pool of connections to it."""

    def __init__(self, provider: Provider, wheel: Wheel) -> None:
        self.provider = provider
        self.wheel = wheel
        self.pool = self.pool_of()

    def pool_of(self, *, max_connections: int = 8, idle_s: float = 30.0) -> Pool:
        origin = Origin("http", "127.0.0.1", self.provider.port)
        return Pool(origin, self.wheel, max_connections=max_connections, idle_s=idle_s)

    async def connect(self, pool: Pool | None = None) -> UpstreamConnection | None:
        future: asyncio.Future[UpstreamConnection | None] = asyncio.get_running_loop().create_future()
        (pool or self.pool).connect(future.set_result, 5.0)
        return await asyncio.wait_for(future, 5)

    async def ask(self, *answer: bytes, closes: bool = False) -> Received:
        """One request on a kept or a new connection."""
        self.provider.answers.append([*answer])
        if closes:
            self.provider.answers.append(None)
        connection = self.pool.take() or await self.connect()
        assert connection is not None
        received = Received()
        connection.send(b"ask\n" + (b"close\n" if closes else b""), received)
        await asyncio.wait_for(received.done.wait(), 5)
        return received


@pytest.fixture
async def setting() -> AsyncIterator[Setting]:
    async with AsyncExitStack() as stack:
        provider = Provider()
        server = await asyncio.start_server(provider.serve, "127.0.0.1", 0)
        stack.callback(server.close)
        provider.port = server.sockets[0].getsockname()[1]
        wheel = Wheel(asyncio.get_running_loop())
        stack.callback(wheel.close)
        yield Setting(provider, wheel)


CHUNKED = (
    b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\nX-Request-ID: r\r\n\r\n"
    b"3\r\nabc\r\n4;e=1\r\ndefg\r\n0\r\nT: t\r\n\r\n"
)
LENGTH = b"HTTP/1.1 200 OK\r\nContent-Length: 7\r\nX-REQUEST-ID: r\r\nX-Other: no\r\n\r\nabcdefg"


def many_headers(count: int) -> bytes:
    return b"".join(b"x-%d: y\r\n" % number for number in range(count))


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    data=st.data(),
    whole=st.sampled_from([CHUNKED, LENGTH, b"HTTP/1.1 103 Early\r\nLink: x\r\n\r\n" + LENGTH]),
)
async def test_answer_is_the_same_however_it_is_split(setting: Setting, data: Any, whole: bytes) -> None:
    cuts = sorted(data.draw(st.sets(st.integers(1, len(whole) - 1), max_size=6)))
    parts = [whole[begin:end] for begin, end in zip([0, *cuts], [*cuts, len(whole)], strict=True)]
    received = await setting.ask(*parts)
    assert received.failure is None
    assert received.answer is not None
    assert (received.answer.status, received.body) == (200, b"abcdefg")
    assert received.answer.headers[b"x-request-id"] == b"r"
    assert b"x-other" not in received.answer.headers


async def test_connection_is_kept_and_used_again(setting: Setting) -> None:
    for _ in range(3):
        assert (await setting.ask(LENGTH)).body == b"abcdefg"
    assert setting.provider.connections == 1


@pytest.mark.parametrize(
    "answer",
    [
        b"HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: 2\r\n\r\nab",
        b"HTTP/1.0 200 OK\r\nContent-Length: 2\r\n\r\nab",
    ],
)
async def test_connection_that_says_close_is_not_kept(setting: Setting, answer: bytes) -> None:
    assert (await setting.ask(answer)).body == b"ab"
    assert setting.pool.take() is None


async def test_body_without_a_length_ends_with_the_connection(setting: Setting) -> None:
    received = await setting.ask(b"HTTP/1.1 200 OK\r\n\r\nab", b"cd", closes=True)
    assert (received.body, received.failure) == (b"abcd", None)


@pytest.mark.parametrize(
    ("answer", "what"),
    [
        (b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nabc", "closed"),
        (b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nabc", "closed"),
        (b"HTTP/1.1 200 OK\r\nContent-", "closed"),
        (b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n", "malformed"),
        (b"not HTTP at all\r\n\r\n", "malformed head"),
        (b"HTTP/1.1 200 OK\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\nab", "malformed head"),
        (
            b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
            "malformed head",
        ),
        (b"HTTP/1.1 200 OK\r\n" + b"a: b\r\n" * 20_000, "malformed head"),
        (b"HTTP/1.1 200 OK\r\na: " + b"b" * 70_000, "malformed head"),
        (b"HTTP/1.1 200 OK\r\na: " + b"b" * 70_000 + b"\r\ncontent-length: 0\r\n\r\n", "malformed head"),
        (b"HTTP/1.1 200 OK\r\n" + many_headers(201) + b"content-length: 0\r\n\r\n", "malformed head"),
        (b"HTTP/1.1 102 P\r\na: " + b"b" * 70_000 + b"\r\n\r\n" + LENGTH, "malformed head"),
    ],
)
async def test_broken_answer_fails_and_its_connection_is_closed(
    setting: Setting, answer: bytes, what: str
) -> None:
    received = await setting.ask(answer, closes=True)
    assert received.failure is not None
    assert (received.failure.what, received.failure.stale) == (what, False)
    assert setting.pool.take() is None


@pytest.mark.parametrize(
    "endless", [b"0\r\nt: " + b"t" * 70_000, b"0\r\n" + b"t: t\r\n" * 12_000, b"5;" + b"x" * 70_000]
)
async def test_what_follows_a_body_without_an_end_breaks_the_answer(setting: Setting, endless: bytes) -> None:
    received = await setting.ask(CHUNKED[: CHUNKED.index(b"0\r\n")], endless)
    assert received.failure is not None
    assert received.failure.what == "malformed"
    assert setting.pool.take() is None


async def test_large_body_after_a_head_is_no_large_head(setting: Setting) -> None:
    body = b"x" * 300_000
    received = await setting.ask(b"HTTP/1.1 200 OK\r\nx: y\r\ncontent-length: 300000\r\n\r\n" + body)
    assert (received.failure, len(received.body)) == (None, 300_000)


async def test_trailers_do_not_become_headers_of_the_next_answer(setting: Setting) -> None:
    trailer = b"x-request-id: of-before\r\n\r\n"
    assert (await setting.ask(CHUNKED[: -len(b"T: t\r\n\r\n")] + trailer)).body == b"abcdefg"
    received = await setting.ask(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nab")
    assert received.answer is not None
    assert b"x-request-id" not in received.answer.headers
    assert setting.provider.connections == 1


async def test_second_answer_to_one_request_breaks_the_connection(setting: Setting) -> None:
    await setting.ask(LENGTH + LENGTH)
    await eventually(lambda: setting.pool.take() is None)


async def test_bytes_on_an_idle_connection_close_it(setting: Setting) -> None:
    await setting.ask(LENGTH)
    connection = setting.pool.take()
    assert connection is not None
    setting.pool.release(connection)
    connection.get_buffer(0)[:4] = b"HTTP"
    connection.buffer_updated(4)
    await eventually(lambda: connection.closed)
    assert setting.pool.take() is None


async def test_kept_connection_that_closes_before_a_byte_is_stale(setting: Setting) -> None:
    await setting.ask(LENGTH)
    setting.provider.answers.append(None)
    connection = setting.pool.take()
    assert connection is not None
    received = Received()
    connection.send(b"ask\n", received)
    await asyncio.wait_for(received.done.wait(), 5)
    assert received.failure is not None
    assert received.failure.stale


async def test_cap_makes_callers_wait_for_a_connection(setting: Setting) -> None:
    pool = setting.pool_of(max_connections=1)
    first = await setting.connect(pool)
    assert first is not None
    waiting = asyncio.create_task(setting.connect(pool))
    await asyncio.sleep(0)
    assert setting.provider.connections == 1
    pool.release(first)
    assert await waiting is first


async def test_place_of_a_lost_connection_goes_to_a_waiter(setting: Setting) -> None:
    pool = setting.pool_of(max_connections=1)
    first = await setting.connect(pool)
    assert first is not None
    waiting = asyncio.create_task(setting.connect(pool))
    await asyncio.sleep(0)
    first.close()
    second = await waiting
    assert second is not None
    assert second is not first


async def test_waiter_that_left_gets_nothing_and_blocks_nobody(setting: Setting) -> None:
    pool = setting.pool_of(max_connections=1)
    first = await setting.connect(pool)
    assert first is not None
    told: list[object] = []
    leave = pool.connect(told.append, 5.0)
    waiting = asyncio.create_task(setting.connect(pool))
    await asyncio.sleep(0)
    leave()
    pool.release(first)
    assert await waiting is first
    assert told == []


async def test_refused_connection_is_told_as_none(setting: Setting) -> None:
    pool = Pool(Origin("http", "127.0.0.1", 1), setting.wheel, max_connections=1, idle_s=1)
    assert await setting.connect(pool) is None
    assert await setting.connect(pool) is None


async def test_idle_connection_closes_after_its_time(setting: Setting) -> None:
    pool = setting.pool_of(idle_s=0.1)
    connection = await setting.connect(pool)
    assert connection is not None
    pool.release(connection)
    await eventually(lambda: connection.closed)
    assert pool.take() is None


async def test_retired_pool_closes_what_comes_back(setting: Setting) -> None:
    idle, busy = await setting.connect(), await setting.connect()
    assert idle is not None and busy is not None
    setting.pool.release(idle)
    setting.pool.retire()
    await eventually(lambda: idle.closed)
    assert not busy.closed
    setting.pool.release(busy)
    await eventually(lambda: busy.closed)
