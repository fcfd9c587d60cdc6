"""A caller's bytes become requests in one way only, however they are split."""

from __future__ import annotations

import asyncio
from itertools import pairwise

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from gateway.http.caller import MAX_HEAD_BYTES
from tests.http.conftest import StartEcho
from tests.running import eventually

POST = b"POST /v1/chat/completions HTTP/1.1\r\nHost: x\r\n"
CLOSE = b"Connection: close\r\n"


def post(body: bytes, more: bytes = b"") -> bytes:
    return POST + more + b"Content-Length: %d\r\n\r\n" % len(body) + body


def bodies(answer: bytes) -> list[bytes]:
    """The bodies of pipelined 200 answers, each checked for its length."""
    found = []
    while answer:
        head, _, rest = answer.partition(b"\r\n\r\n")
        assert head.startswith(b"HTTP/1.1 200 "), head
        length = int(head.lower().partition(b"content-length: ")[2].partition(b"\r")[0])
        assert len(rest) >= length
        found.append(rest[:length])
        answer = rest[length:]
    return found


SEQUENCE = (
    post(b"one")
    + post(b"two two")
    + POST
    + b"Transfer-Encoding: chunked\r\n\r\n3\r\nthr\r\n2;x=y\r\nee\r\n0\r\nTrailer: t\r\n\r\n"
    + post(b"")
    + b"GET /v1/models HTTP/1.1\r\nhost: x\r\n\r\n"
    + post(b"POST / HTTP/1.1\r\n\r\n")
    + post(b"last", CLOSE)
)


@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(cuts=st.lists(st.integers(1, len(SEQUENCE) - 1), max_size=14, unique=True))
async def test_requests_are_the_same_however_they_are_split(echo: StartEcho, cuts: list[int]) -> None:
    asked = await echo()
    places = [0, *sorted(cuts), len(SEQUENCE)]
    answer = await asked.exchange(*(SEQUENCE[begin:end] for begin, end in pairwise(places)))
    assert bodies(answer) == [b"one", b"two two", b"three", b"", b"", b"POST / HTTP/1.1\r\n\r\n", b"last"]
    assert [request.head.method for request in asked.requests].count(b"GET") == 1


@settings(max_examples=200, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    sent=st.lists(st.binary(max_size=60), min_size=2, max_size=8),
    names=st.lists(st.sampled_from([b"a: 1\r\n", b"b: 2\r\n", b""]), min_size=8, max_size=8),
)
async def test_remembered_head_never_changes_a_request(
    echo: StartEcho, sent: list[bytes], names: list[bytes]
) -> None:
    """One at a time, so that each may be recognised by the head of the one before."""
    asked = await echo()
    reader, writer = await asyncio.open_connection(asked.host, asked.port)
    for body, more in zip(sent, names, strict=False):
        writer.write(post(body, more))
        head = await asyncio.wait_for(reader.readuntil(b"\r\n\r\n"), 5)
        assert int(head.lower().partition(b"content-length: ")[2].partition(b"\r")[0]) == len(body)
        assert await reader.readexactly(len(body)) == body
        (last,) = asked.requests[-1:]
        assert (last.body, last.head.method, last.keep_alive) == (body, b"POST", True)
        assert (b"a" in dict(last.head.headers)) == (more == b"a: 1\r\n")
    writer.close()


async def test_same_head_is_parsed_once(echo: StartEcho) -> None:
    asked = await echo()
    reader, writer = await asyncio.open_connection(asked.host, asked.port)
    for body in (b"a", b"bb", b"c" * 1000):
        writer.write(post(body))
        await reader.readuntil(b"\r\n\r\n")
        await reader.readexactly(len(body))
    writer.close()
    first, second, third = asked.requests
    assert first.head is second.head is third.head


@pytest.mark.parametrize(
    "after",
    [
        pytest.param(POST + b"Content-Length: 5\r\n\r\nab", id="body not whole"),
        pytest.param(POST + b"Content-Length: 1\r\n\r\nabGET", id="more than the body"),
        pytest.param(POST + b"Content-Length: +2\r\n\r\nab", id="sign"),
        pytest.param(POST + b"Content-Length: 0x2\r\n\r\nab", id="hexadecimal"),
        pytest.param(POST + b"Content-Length: 2 2\r\n\r\nab", id="two numbers"),
        pytest.param(POST + b"Content-Length: 2, 2\r\n\r\nab", id="list"),
        pytest.param(POST + b"Content-Length: \r\n\r\nab", id="nothing"),
        pytest.param(POST + b"Content-Length: -2\r\n\r\nab", id="negative"),
        pytest.param(POST + b"Content-Length: 2\r\nContent-Length: 2\r\n\r\nab", id="twice"),
        pytest.param(POST + b"Content-Length: 2\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n", id="both"),
    ],
)
async def test_request_that_only_looks_like_the_one_before_is_judged_anew(
    echo: StartEcho, after: bytes
) -> None:
    asked = await echo()
    reader, writer = await asyncio.open_connection(asked.host, asked.port)
    for _ in range(2):
        writer.write(post(b"ok"))
        await reader.readuntil(b"ok")
    writer.write(after)
    writer.write_eof()
    rest = await asyncio.wait_for(reader.read(), 5)
    writer.close()
    assert len(asked.requests) <= 3
    if b"abGET" in after:
        assert bodies(rest.partition(b"HTTP/1.1 400")[0]) in ([], [b"a"])
    else:
        assert rest == b"" or rest.startswith(b"HTTP/1.1 400 ")


REFUSED = {
    "no host": b"GET / HTTP/1.1\r\n\r\n",
    "two hosts": b"GET / HTTP/1.1\r\nhost: a\r\nhost: b\r\n\r\n",
    "absolute form": b"GET http://x/ HTTP/1.1\r\nhost: x\r\n\r\n",
    "asterisk": b"OPTIONS * HTTP/1.1\r\nhost: x\r\n\r\n",
    "CONNECT": b"CONNECT x:443 HTTP/1.1\r\nhost: x\r\n\r\n",
    "HTTP/2 preface": b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
    "HTTP/0.9": b"GET /\r\n\r\n",
    "version 1.2": b"GET / HTTP/1.2\r\nhost: x\r\n\r\n",
    "not HTTP": b"\x16\x03\x01\x02\x00\x01\x00",
    "bare LF in a header": b"GET / HTTP/1.1\r\nhost: x\na: b\r\n\r\n",
    "space before colon": b"GET / HTTP/1.1\r\nhost : x\r\n\r\n",
    "folded header": b"GET / HTTP/1.1\r\nhost: x\r\na: b\r\n c\r\n\r\n",
    "NUL in a header": b"GET / HTTP/1.1\r\nhost: x\r\na: b\0c\r\n\r\n",
    "CR in a header": b"GET / HTTP/1.1\r\nhost: x\r\na: b\rc\r\n\r\n",
    "empty header name": b"GET / HTTP/1.1\r\nhost: x\r\n: b\r\n\r\n",
    "two keys": b"GET / HTTP/1.1\r\nhost: x\r\nauthorization: Bearer a\r\nauthorization: Bearer b\r\n\r\n",
    "length and chunked": POST + b"content-length: 3\r\ntransfer-encoding: chunked\r\n\r\n0\r\n\r\n",
    "chunked twice": POST + b"transfer-encoding: chunked\r\ntransfer-encoding: chunked\r\n\r\n0\r\n\r\n",
    "chunked not last": POST + b"transfer-encoding: chunked, gzip\r\n\r\n0\r\n\r\n",
    "gzip, chunked": POST + b"transfer-encoding: gzip, chunked\r\n\r\n0\r\n\r\n",
    "chunked in HTTP/1.0": b"POST / HTTP/1.0\r\ntransfer-encoding: chunked\r\n\r\n0\r\n\r\n",
    "unknown encoding": POST + b"transfer-encoding: xchunked\r\n\r\n0\r\n\r\n",
    "other expectation": POST + b"expect: 200-maybe\r\ncontent-length: 0\r\n\r\n",
    "bad chunk size": POST + b"transfer-encoding: chunked\r\n\r\nzz\r\n",
    "chunk size with a space": POST + b"transfer-encoding: chunked\r\n\r\n 3\r\nabc\r\n0\r\n\r\n",
    "chunk too long for its size": POST + b"transfer-encoding: chunked\r\n\r\n3\r\nabcd\r\n0\r\n\r\n",
    "chunk size beyond 64 bits": POST + b"transfer-encoding: chunked\r\n\r\n10000000000000000\r\n",
}  # fmt: skip


@pytest.mark.parametrize("sent", REFUSED.values(), ids=REFUSED.keys())
async def test_ambiguous_request_is_refused_and_the_connection_closed(echo: StartEcho, sent: bytes) -> None:
    asked = await echo()
    answer = await asked.exchange(sent + b"GET /v1/models HTTP/1.1\r\nhost: smuggled\r\n\r\n")
    assert answer.startswith((b"HTTP/1.1 400 ", b"HTTP/1.1 501 ")), answer
    assert answer.count(b"HTTP/1.1") == 1
    assert not any(dict(request.head.headers).get(b"host") == b"smuggled" for request in asked.requests)


async def test_websocket_is_501(echo: StartEcho) -> None:
    asked = await echo()
    sent = b"GET /v1/realtime HTTP/1.1\r\nhost: x\r\nconnection: upgrade\r\nupgrade: websocket\r\n\r\n"
    assert (await asked.exchange(sent)).startswith(b"HTTP/1.1 501 ")


async def test_other_upgrades_are_ignored(echo: StartEcho) -> None:
    asked = await echo()
    upgrade = b"Connection: Upgrade, HTTP2-Settings\r\nUpgrade: h2c\r\nHTTP2-Settings: AAMAAABkAAQ\r\n"
    answer = await asked.exchange(post(b"first", upgrade) + post(b"second", CLOSE))
    assert bodies(answer) == [b"first", b"second"]


@pytest.mark.parametrize("more", [b"", b"Connection: keep-alive\r\n"])
async def test_http_1_0_gets_one_answer(echo: StartEcho, more: bytes) -> None:
    asked = await echo()
    answer = await asked.exchange(b"POST / HTTP/1.0\r\n" + more + b"Content-Length: 2\r\n\r\nhi")
    assert bodies(answer) == [b"hi"]
    assert b"connection: close" in answer


async def test_expect_continue_is_answered_before_the_body(echo: StartEcho) -> None:
    asked = await echo()
    reader, writer = await asyncio.open_connection(asked.host, asked.port)
    writer.write(POST + CLOSE + b"Expect: 100-continue\r\nContent-Length: 4\r\n\r\n")
    assert await reader.readuntil(b"\r\n\r\n") == b"HTTP/1.1 100 Continue\r\n\r\n"
    writer.write(b"body")
    assert bodies(await reader.read()) == [b"body"]
    writer.close()


async def test_head_above_its_limit_is_431(echo: StartEcho) -> None:
    asked = await echo()
    answer = await asked.exchange(POST + b"a: " + b"x" * MAX_HEAD_BYTES)
    assert answer.startswith(b"HTTP/1.1 431 ")
    answer = await asked.exchange(POST + b"a: b\r\n" * 101 + b"\r\n")
    assert answer.startswith(b"HTTP/1.1 431 ")


async def test_connection_above_the_cap_gets_503(echo: StartEcho) -> None:
    asked = await echo(max_connections=1)
    first = await asyncio.open_connection(asked.host, asked.port)
    first[1].write(post(b"x"))
    await first[0].readuntil(b"\r\n\r\n")
    assert (await asked.exchange()).startswith(b"HTTP/1.1 503 ")
    first[1].close()


async def test_last_of_the_allowed_requests_closes_the_connection(echo: StartEcho) -> None:
    asked = await echo(max_requests=3)
    answer = await asked.exchange(*(post(b"%d" % turn) for turn in range(5)))
    assert bodies(answer) == [b"0", b"1", b"2"]
    assert answer.count(b"connection: close") == 1


async def test_caller_that_leaves_while_its_answer_is_due_is_noticed(echo: StartEcho) -> None:
    asked = await echo()
    asked.holds = True
    _, writer = await asyncio.open_connection(asked.host, asked.port)
    writer.write(post(b"x"))
    await eventually(lambda: asked.waiting)
    writer.close()
    await asyncio.wait_for(asked.waiting[0].left.wait(), 5)
    assert asked.server is not None
    assert not asked.server.connections


async def test_pipelined_requests_wait_for_the_answer_before_them(echo: StartEcho) -> None:
    asked = await echo()
    asked.holds = True
    reader, writer = await asyncio.open_connection(asked.host, asked.port)
    writer.write(post(b"one") + post(b"two"))
    await eventually(lambda: asked.waiting)
    assert len(asked.waiting) == 1
    asked.waiting[0].body_arrived()
    await reader.readuntil(b"one")
    await eventually(lambda: len(asked.waiting) == 2)
    asked.waiting[1].body_arrived()
    assert await reader.readuntil(b"two")
    writer.close()


async def test_draining_closes_idle_connections_at_once_and_busy_ones_after_their_answer(
    echo: StartEcho,
) -> None:
    asked = await echo()
    assert asked.server is not None
    idle = await asyncio.open_connection(asked.host, asked.port)
    idle[1].write(post(b"before"))
    await idle[0].readuntil(b"before")
    asked.holds = True
    busy = await asyncio.open_connection(asked.host, asked.port)
    busy[1].write(post(b"work"))
    await eventually(lambda: asked.waiting)
    asked.server.drain()
    assert await asyncio.wait_for(idle[0].read(), 5) == b""
    idle[1].close()
    asked.waiting[0].body_arrived()
    assert bodies(await asyncio.wait_for(busy[0].read(), 5)) == [b"work"]
    busy[1].close()
    await asyncio.wait_for(asked.server.empty.wait(), 5)


async def test_connection_that_has_asked_nothing_yet_is_served_once_while_draining(echo: StartEcho) -> None:
    asked = await echo()
    assert asked.server is not None
    connections = [await asyncio.open_connection(asked.host, asked.port) for _ in range(2)]
    await eventually(lambda: asked.server is not None and len(asked.server.connections) == 2)
    asked.server.drain()
    (asking, silent) = connections
    asking[1].write(post(b"late"))
    assert bodies(await asyncio.wait_for(asking[0].read(), 5)) == [b"late"]
    assert await asyncio.wait_for(silent[0].read(), 5) == b""
    for _, writer in connections:
        writer.close()
    await asyncio.wait_for(asked.server.empty.wait(), 5)


async def test_bytes_of_unfinished_bodies_are_given_back(echo: StartEcho) -> None:
    asked = await echo()
    assert asked.server is not None
    server = asked.server
    _, writer = await asyncio.open_connection(asked.host, asked.port)
    writer.write(POST + b"Content-Length: 100\r\n\r\nabc")
    await eventually(lambda: server.held_bytes > 0)
    writer.close()
    await eventually(lambda: server.held_bytes == 0)


async def test_second_of_two_pipelined_requests_may_come_in_parts(echo: StartEcho) -> None:
    asked = await echo()
    asked.holds = True
    reader, writer = await asyncio.open_connection(asked.host, asked.port)
    second = post(b"second body", CLOSE)
    writer.write(post(b"first") + second[:-5])
    await eventually(lambda: len(asked.waiting) == 1)
    writer.write(second[-5:])
    connection = next(iter(asked.server.connections)) if asked.server else None
    await eventually(lambda: connection is not None and len(connection._ahead) == 5)
    asked.holds = False
    asked.waiting[0].body_arrived()
    assert bodies(await asyncio.wait_for(reader.read(), 5)) == [b"first", b"second body"]
    writer.close()


async def test_trailers_are_no_headers(echo: StartEcho) -> None:
    asked = await echo()
    chunked = (
        POST + CLOSE + b"Transfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n0\r\nAuthorization: Bearer x\r\n\r\n"
    )
    await asked.exchange(chunked)
    assert b"authorization" not in dict(asked.requests[0].head.headers)
    assert b"authorization" not in asked.requests[0].head.known


async def test_head_that_comes_in_one_read_has_the_same_limit(echo: StartEcho) -> None:
    asked = await echo()
    answer = await asked.exchange(post(b"x", b"X-Long: " + b"a" * MAX_HEAD_BYTES + b"\r\n"))
    assert answer.startswith(b"HTTP/1.1 431 ")
    assert asked.requests == []


async def test_body_in_a_great_many_chunks_comes_whole(echo: StartEcho) -> None:
    asked = await echo()
    head = POST + CLOSE + b"Transfer-Encoding: chunked\r\n\r\n"
    answer = await asked.exchange(head + b"1\r\nx\r\n" * 20_000, b"1\r\ny\r\n" * 10 + b"0\r\n\r\n")
    assert bodies(answer) == [b"x" * 20_000 + b"y" * 10]


async def test_caller_that_leaves_leaves_nothing_behind(echo: StartEcho) -> None:
    asked = await echo()
    asked.holds = True
    _, writer = await asyncio.open_connection(asked.host, asked.port)
    writer.write(post(b"body" * 1000))
    await eventually(lambda: len(asked.waiting) == 1)
    assert asked.server is not None
    (connection,) = asked.server.connections
    writer.close()
    await eventually(lambda: connection.closed)
    assert connection._current is None
    assert connection._parser is None
    assert connection._seen is None
    assert connection.deadline.fire.__qualname__ == "_nothing"


async def test_large_request_buys_the_next_head_no_time(echo: StartEcho) -> None:
    asked = await echo()
    reader, writer = await asyncio.open_connection(asked.host, asked.port)
    writer.write(post(b"x" * 100_000))
    await asyncio.wait_for(reader.readexactly(100_000), 5)
    assert asked.server is not None
    (connection,) = asked.server.connections
    deadlines = []
    for sent, piece in enumerate((b"P", b"O", b"S"), 1):
        writer.write(piece)
        await eventually(lambda count=sent: connection._head_bytes == count)
        deadlines.append(connection.deadline.at_s)
    assert len(set(deadlines)) == 1
    writer.close()
