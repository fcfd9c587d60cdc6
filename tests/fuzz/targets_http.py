"""HTTP on both sides, on connections whose transport keeps what is written: the reader of requests, heads
known again, the reader of answers, and the headers that go on."""

from __future__ import annotations

import random
from collections.abc import Iterable
from typing import Any, cast

from gateway.errors import Kind
from gateway.http.caller import CallerConnection
from gateway.http.dial import Origin
from gateway.http.head import Head
from gateway.http.message import Answer, Request
from gateway.http.pool import Pool
from gateway.http.server import CallerServer
from gateway.http.upstream import UpstreamConnection, UpstreamFailed
from gateway.line.admission import Admission
from gateway.line.endpoints import Endpoint
from gateway.line.outbound import to_caller
from tests.fuzz.target import pieces
from tests.fuzz.transport import Loop, deliver, given_to, turn

POST = b"POST /v1/chat/completions HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer k\r\n"
CHUNKED = b"Transfer-Encoding: chunked\r\n\r\n"


def post(body: bytes, more: bytes = b"") -> bytes:
    return POST + more + b"Content-Length: %d\r\n\r\n" % len(body) + body


REQUESTS = (
    post(b'{"model":"m"}'),
    post(b"one") + post(b"two"),
    POST + CHUNKED + b"3\r\nthr\r\n2;x=y\r\nee\r\n0\r\nTrailer: t\r\n\r\n" + post(b""),
    b"GET /v1/models HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n",
    post(b"body", b"Expect: 100-continue\r\n"),
    b"GET / HTTP/1.1\r\nHost: x\r\nUpgrade: h2c\r\nConnection: Upgrade\r\nHTTP2-Settings: a\r\n\r\n",
    b"POST / HTTP/1.0\r\nContent-Length: 2\r\nConnection: keep-alive\r\n\r\nab",
    post(
        b"x", b"traceparent: 00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01\r\nOpenAI-Beta: a=b\r\n"
    ),
)
WORDS = (
    *(
        b"\r\n",
        b"\n",
        b"\r",
        b"\r\n\r\n",
        b": ",
        b" ",
        b"\t",
        b"\x00",
        b"\x0b",
        b"\xff",
        b"HTTP/1.1",
        b"HTTP/1.0",
    ),
    *(
        b"HTTP/2.0",
        b"Content-Length: 3\r\n",
        b"Content-Length: +1\r\n",
        b"Transfer-Encoding: chunked\r\n",
        b"0\r\n\r\n",
    ),
    *(
        b"Transfer-Encoding: identity\r\n",
        b"Host: y\r\n",
        b"Upgrade: websocket\r\n",
        b"Connection: close\r\n",
        b"ffffffff",
    ),
    *(
        b"Connection: upgrade\r\n",
        b"CONNECT x:1 HTTP/1.1\r\n\r\n",
        b"http://x/",
        b" folded\r\n",
        b"X: " + b"y" * 900,
    ),
    *(
        b"Expect: 100-continue\r\n",
        b"Authorization: Bearer z\r\n",
        b"X-Request-Id: 1\r\n",
        b"HTTP/1.1 100 Continue\r\n\r\n",
    ),
    *(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", b"tracestate: a=1\r\n", b"10\r\n", b";ext=1", b"GET ", b"HEAD "),
)


Parsed = tuple[bytes, bytes, str, tuple[tuple[bytes, bytes], ...], bytes]


def meaning(request: Request) -> Parsed:
    """What a request says: method, target, version, headers, body."""
    head = request.head
    return head.method, head.target, head.version, tuple(head.headers), request.body


class Calls:
    """The handler of a server: answers each request once its body is there, and keeps what it said."""

    def __init__(self) -> None:
        self.requests: list[Parsed] = []
        self.heads: list[Head] = []
        self.refused: list[Kind] = []

    def begin(self, caller: CallerConnection, request: Request) -> None:
        call = _Call(self, caller, request)
        caller.exchange = call
        if request.complete:
            call.body_arrived()
        else:
            caller.send_continue(request)

    def refusal(self, kind: Kind) -> bytes:
        self.refused.append(kind)
        return b"HTTP/1.1 %d x\r\n\r\n" % kind.status


class _Call:
    def __init__(self, calls: Calls, caller: CallerConnection, request: Request) -> None:
        self._calls, self._caller, self._request = calls, caller, request

    def body_arrived(self) -> None:
        self._calls.requests.append(meaning(self._request))
        self._calls.heads.append(self._request.head)
        self._caller.write(b"HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n")
        self._caller.finish(keep_alive=self._request.keep_alive)

    def body_failed(self, kind: Kind) -> None:
        self._caller.write(self._calls.refusal(kind))
        self._caller.finish(keep_alive=False)

    def caller_left(self) -> None: ...

    def deadline_passed(self) -> None: ...

    def pause(self) -> None: ...

    def resume(self) -> None: ...


class Requests(Loop):
    """`CallerConnection`: no exception, no byte kept afterwards, the same requests in any split."""

    name = "request"
    corpus = REQUESTS
    tokens = WORDS

    async def checked(self, data: bytes, draw: random.Random) -> None:
        whole, whole_closed = await self.read([data] if data else [], len(data))
        split, split_closed = await self.read(pieces(draw, data), len(data))
        assert whole_closed == split_closed, f"whole closed: {whole_closed}, split: {split_closed}"
        if whole_closed:
            # Garbage behind a request in the same read closes the connection after that request; requests in
            # between, which came in reads of their own, are answered first.
            shorter = min(len(whole.requests), len(split.requests))
            assert whole.requests[:shorter] == split.requests[:shorter]
        else:
            assert whole.requests == split.requests

    async def read(self, parts: Iterable[bytes], size: int) -> tuple[Calls, bool]:
        """(what was asked, whether the connection was closed for it)."""
        calls = Calls()
        server = CallerServer(calls, self.wheel, max_body_bytes=8192)
        connection = server()
        transport = given_to(connection)
        for part in parts:
            connection.data_received(part)
            await turn()
            assert 0 <= server.held_bytes <= size
        while calls.requests and not (transport.half_closed or transport.aborted):
            answered = len(calls.requests)
            await turn()
            if len(calls.requests) == answered:
                break
        closed = transport.half_closed or transport.aborted
        connection.connection_lost(None)
        assert server.held_bytes == 0 and not server.connections
        assert transport.reads or len(bytes(transport.written)) >= 0
        answers = bytes(transport.written).count(b"HTTP/1.1 200 OK")
        assert answers == len(calls.requests)
        return calls, closed


class SeenHeads(Requests):
    """A head that is known again has the meaning that a fresh parse gives it."""

    name = "seen_head"
    tokens = (*WORDS, b"Content-Length: 00003\r\n", b"13", b"0", b"\r\n\r\nabc", b"999")
    corpus = (
        post(b'{"model":"m"}'),
        post(b"abc", b"X: 1\r\n"),
        POST + b"content-length:  2\r\nY: z\r\n\r\nab",
    )

    async def checked(self, data: bytes, draw: random.Random) -> None:
        known = draw.choice(self.corpus)
        fresh, fresh_closed = await self.read([data] if data else [], len(data))
        after, after_closed = await self.read([known, data] if data else [known], len(known) + len(data))
        assert after.requests[1:] == fresh.requests
        assert after_closed == fresh_closed


class Received:
    """A receiver that keeps all it is told, and in which order."""

    def __init__(self) -> None:
        self.told: list[str] = []
        self.answer: Answer | None = None
        self.body = bytearray()

    def answered(self, answer: Answer) -> None:
        self.told.append("answered")
        self.answer = answer

    def received(self, block: bytes) -> None:
        assert block
        if self.told[-1] != "received":
            self.told.append("received")
        self.body += block

    def ended(self) -> None:
        self.told.append("ended")

    def failed(self, failure: UpstreamFailed) -> None:
        self.told.append(f"failed: {failure.what}")

    @property
    def meaning(self) -> tuple[object, ...]:
        answer = self.answer
        return (
            *self.told,
            bytes(self.body),
            *((answer.status, answer.headers, answer.streamed) if answer else ()),
        )


class Answers(Loop):
    """`UpstreamConnection`: the same answer or failure in any split, told once and in order."""

    name = "response"
    corpus = (
        b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: 2\r\n\r\n{}",
        b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\n"
        + CHUNKED
        + b"3\r\nabc\r\n2;x\r\nde\r\n0\r\nT: t\r\n\r\n",
        b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 204 No Content\r\nX-Request-Id: 1\r\n\r\n",
        b"HTTP/1.0 429 \r\nRetry-After: 3\r\nretry-after-ms: 5\r\n\r\nuntil the end",
        b"HTTP/1.1 302 Found\r\nLocation: /\r\nContent-Length: 0\r\nConnection: close\r\n\r\n",
        b"HTTP/1.1 103 Early\r\nLink: a\r\n\r\n"
        b"HTTP/1.1 500 No\r\nContent-Length: 3\r\n\r\nabcHTTP/1.1 200 OK\r\n\r\n",
    )
    tokens = (
        *WORDS,
        b"HTTP/1.1 200 OK\r\n\r\n",
        b"HTTP/1.1 101 Switching Protocols\r\n",
        b"HTTP/1.1 304 N\r\n",
        b" 999 ",
    )

    def __init__(self) -> None:
        super().__init__()
        self._pool: Pool | None = None

    async def checked(self, data: bytes, draw: random.Random) -> None:
        ends = draw.choice((None, ConnectionResetError()))
        whole = await self.read([data] if data else [], ends)
        split = await self.read(pieces(draw, data), ends)
        assert whole.meaning == split.meaning, f"whole: {whole.meaning}; split: {split.meaning}"

    async def read(self, parts: Iterable[bytes], ends: Exception | None) -> Received:
        """What a receiver is told of an answer in these parts, and then the end of the connection."""
        if self._pool is None:
            self._pool = Pool(Origin("http", "127.0.0.1", 1), self.wheel, max_connections=1, idle_s=30)
        pool = self._pool
        connection = UpstreamConnection(pool)
        transport = given_to(connection)
        received = Received()
        connection.send(b"ask", received)
        await turn()
        assert transport.written == b"ask"
        for part in parts:
            if transport.aborted:
                break
            deliver(connection, transport, part)
        if pool.take() is not None:
            assert received.told[-1] == "ended"
        connection.connection_lost(ends)
        order = [word.partition(":")[0] for word in received.told]
        assert order[-1] in ("ended", "failed")
        assert order[:-1] in ([], ["answered"], ["answered", "received"])
        return received


_TO_CALLER = frozenset(
    {
        b"retry-after",
        b"retry-after-ms",
        b"x-headgate-upstream-request-id",
        b"openai-processing-ms",
        b"openai-version",
    }
    | {b"openai-model"}
    | {
        b"x-ratelimit-" + part + b"-" + kind
        for part in (b"limit", b"remaining", b"reset")
        for kind in (b"requests", b"tokens", b"input-images")
    }
)
_TO_PROVIDER = frozenset({b"traceparent", b"tracestate", b"openai-beta", b"x-client-request-id"})


class Headers(Answers):
    """The filters: only names of the lists go on, either way, and no value gets out of its line."""

    name = "headers"
    corpus = (
        b"X-Request-Id: req-1\r\nX-RateLimit-Remaining-Tokens: 9\r\nSet-Cookie: a=b\r\nServer: x\r\n",
        b"Traceparent: 00-0af7651916cd43dd8448eb211c80319c-b7ad-01\r\nTraceState: a=b\r\nCookie: c\r\n",
        b"OpenAI-Beta: assistants=v2\r\nX-Client-Request-Id: 5\r\nForwarded: 1\r\nApim-Request-Id: 7\r\n",
        b"Retry-After: 3\r\nRetry-After-Ms: 5\r\nOpenAI-Model: gpt\r\nConnection: x-request-id\r\n",
    )
    tokens = (
        *WORDS,
        b"retry-after",
        b"\r\n\t",
        b"\x7f",
        b"\x80",
        b": \r\n",
        b"x-request-id:",
        b"openai-beta:\x00",
    )

    def __init__(self) -> None:
        super().__init__()
        self._reader = Requests()

    async def checked(self, data: bytes, draw: random.Random) -> None:
        answered = await self.read([b"HTTP/1.1 200 OK\r\n" + data + b"Content-Length: 0\r\n\r\n"], None)
        if answered.answer is not None:
            self._is_clean(to_caller(answered.answer.headers), _TO_CALLER)
        asked, _ = await self._reader.read([POST + data + b"Content-Length: 0\r\n\r\n"], len(data) + 200)
        for head in asked.heads:
            admission = Admission(cast(Any, None), Endpoint("chat"), cast(Any, None), head)
            self._is_clean(admission.forwarded, _TO_PROVIDER)

    def close(self) -> None:
        self._reader.close()
        super().close()

    def _is_clean(self, lines: bytes, allowed: frozenset[bytes]) -> None:
        assert not lines or lines.endswith(b"\r\n")
        for line in lines.split(b"\r\n")[:-1]:
            name, colon, value = line.partition(b": ")
            assert colon and name in allowed, line
            assert not {0x0A, 0x0D, 0x00} & set(value), line


TARGETS = (Requests, SeenHeads, Answers, Headers)
