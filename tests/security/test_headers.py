"""Headers pass by name or not at all, in both directions."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

import pytest
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st

from tests.line.conftest import StartRelay
from tests.relaying import Relay
from tests.running import KEY, SECRET, policy_for
from tests.security.listening import CONTENT, GOOD, Listening, answer_of, stream_of

BODY = b'{"model": "gpt-4o-mini", "messages": []}'

OURS = {"host", "user-agent", "accept", "accept-encoding", "content-type", "content-length", "authorization"}
"""What every request to a provider has, whatever the caller sent."""
TO_PROVIDER = {
    "traceparent": "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01",
    "tracestate": "vendor=value",
    "openai-beta": "assistants=v2",
    "x-client-request-id": "mine-1",
}
NOT_TO_PROVIDER = [
    "accept-charset", "accept-language", "api-key", "baggage", "cf-connecting-ip", "client-ip",
    "connection", "cookie", "cookie2", "dnt", "expect", "forwarded", "from", "front-end-https", "host",
    "http2-settings", "if-none-match", "keep-alive", "max-forwards", "openai-organization",
    "openai-project", "origin", "pragma", "priority", "proxy", "proxy-authenticate", "proxy-authorization",
    "proxy-connection", "range", "referer", "sec-fetch-site", "te", "trailer", "true-client-ip",
    "user-agent", "via", "x-amz-security-token", "x-api-key", "x-client-ip", "x-csrf-token",
    "x-forwarded-client-cert", "x-forwarded-for", "x-forwarded-host", "x-forwarded-port",
    "x-forwarded-proto", "x-forwarded-server", "x-goog-api-key", "x-headgate-tags", "x-headgate-target",
    "x-http-method-override", "x-original-host", "x-original-url", "x-real-ip", "x-request-id",
    "x-rewrite-url", "x-stainless-arch", "x-stainless-retry-count",
]  # fmt: skip

TO_CALLER = {
    "retry-after": "3",
    "retry-after-ms": "2500",
    "openai-processing-ms": "12",
    "openai-version": "2020-10-01",
    "openai-model": "gpt-4o",
    **{
        f"x-ratelimit-{part}-{kind}": "7"
        for part in ("limit", "remaining", "reset")
        for kind in ("requests", "tokens")
    },
}
RENAMED = {
    "x-request-id": "x-headgate-upstream-request-id",
    "apim-request-id": "x-headgate-upstream-request-id",
}
OUR_ANSWER = {
    "content-type", "content-length", "transfer-encoding", "cache-control", "x-request-id", "connection",
    "x-headgate-request-id", "x-headgate-attempts", "x-headgate-target", "x-headgate-policy",
    "x-headgate-cost-usd",
}  # fmt: skip
NOT_TO_CALLER = [
    "access-control-allow-origin", "age", "alt-svc", "authorization", "cache-control", "cf-cache-status",
    "cf-ray", "clear-site-data", "connection", "content-disposition",
    "content-language", "content-location", "content-security-policy", "date", "etag", "expires",
    "keep-alive", "last-modified", "link", "location", "nel", "openai-organization", "openai-project",
    "p3p", "permissions-policy", "proxy-authenticate", "proxy-authorization", "proxy-connection",
    "public-key-pins", "refresh", "report-to", "server", "server-timing", "set-cookie", "set-cookie2",
    "strict-transport-security", "te", "trailer", "upgrade", "vary", "via", "warning", "www-authenticate",
    "x-envoy-upstream-service-time", "x-frame-options", "x-headgate-cost-usd", "x-headgate-policy",
    "x-headgate-request-id", "x-headgate-target", "x-powered-by", "x-secret", "x-should-retry",
]  # fmt: skip
CANARY = "canary-0123456789"
ENDINGS = ["plain", "streamed"]


async def ask(relay: Relay, *headers: bytes, body: bytes = BODY) -> bytes:
    """The head of the answer to a call with these header lines, on a connection of its own."""
    reader, writer = await relay.connect()
    lines = [
        b"POST /v1/chat/completions HTTP/1.1", b"authorization: Bearer " + KEY.encode(),
        b"content-length: %d" % len(body), *headers,
    ]  # fmt: skip
    if not any(line.lower().startswith(b"host:") for line in headers):
        lines.append(b"host: gateway")
    writer.write(b"\r\n".join(lines) + b"\r\n\r\n" + body)
    head = await asyncio.wait_for(reader.readuntil(b"\r\n\r\n"), 5)
    writer.close()
    return head


def names_of(head: bytes) -> set[str]:
    """Of an answer's head; its lines end in CR LF and hold neither alone."""
    lines = head.removesuffix(b"\r\n\r\n").split(b"\r\n")
    assert not any(b"\r" in line or b"\n" in line or b"\0" in line for line in lines), head
    return {line.partition(b":")[0].decode().lower() for line in lines[1:]}


@pytest.fixture
async def line(start: StartRelay, provider: Listening) -> Relay:
    policy = policy_for(provider.url)
    return await start(
        policy.replace("[upstream/gpt-4o-mini]", "[upstream/gpt-4o-mini], retries: {attempts: 0}")
    )


def values(head: bytes) -> dict[str, str]:
    lines = head.decode("latin-1").split("\r\n")[1:-2]
    return {name.lower(): value for name, _, value in (line.partition(": ") for line in lines)}


async def test_what_a_caller_sends_beyond_the_call_stays_here(line: Relay, provider: Listening) -> None:
    for name in NOT_TO_PROVIDER:
        value = {"expect": "100-continue", "connection": "keep-alive", "te": "trailers"}.get(name, CANARY)
        head = await ask(line, f"{name}: {value}".encode())
        assert head.startswith(b"HTTP/1.1 200 "), name
        assert provider.header_names() == OURS, name
        assert CANARY.encode() not in provider.heads[-1], name
    assert len(provider.heads) == len(NOT_TO_PROVIDER)
    assert KEY.encode() not in b"".join(provider.heads)
    assert values(provider.heads[-1])["authorization"] == f"Bearer {SECRET}"
    assert values(provider.heads[-1])["host"] == f"127.0.0.1:{provider.port}"


async def test_what_a_provider_may_know_arrives_as_sent(line: Relay, provider: Listening) -> None:
    await ask(line, *(f"{name.title()}: {value}".encode() for name, value in TO_PROVIDER.items()))
    assert provider.header_names() == OURS | TO_PROVIDER.keys()
    assert values(provider.heads[-1]).items() >= TO_PROVIDER.items()


@pytest.mark.parametrize(
    "connection",
    [
        ["traceparent"],
        ["Keep-Alive, TraceParent"],
        ["tracestate, traceparent, x"],
        ["x"],
        ["a", "traceparent"],
    ],
)
async def test_headers_for_this_hop_alone_end_here(
    line: Relay, provider: Listening, connection: list[str]
) -> None:
    named = {name.strip() for value in connection for name in value.lower().split(",")}
    lines = [f"connection: {value}".encode() for value in connection]
    lines += [f"{name}: {value}".encode() for name, value in TO_PROVIDER.items()]
    await ask(line, *lines)
    assert provider.header_names() == OURS | (TO_PROVIDER.keys() - named)


@pytest.mark.parametrize("kind", ENDINGS)
async def test_what_a_provider_sends_beyond_the_answer_stays_here(
    line: Relay, provider: Listening, kind: str
) -> None:
    for name in NOT_TO_CALLER:
        value = "keep-alive" if name == "connection" else CANARY
        head = await answered(line, provider, kind, (name, value))
        assert names_of(head) <= OUR_ANSWER, name
        assert CANARY.encode() not in head, name


async def answered(line: Relay, provider: Listening, kind: str, *headers: tuple[str, str]) -> bytes:
    """The head that a caller gets if a good answer comes with these headers."""
    if kind == "plain":
        provider.answer = answer_of(GOOD, 200, *headers)
    else:
        provider.answer = stream_of(CONTENT, "[DONE]", headers=headers)
    body = BODY if kind == "plain" else BODY.replace(b"{", b'{"stream": true, ', 1)
    head = await ask(line, body=body)
    assert head.startswith(b"HTTP/1.1 200 ")
    return head


@pytest.mark.parametrize("kind", ENDINGS)
async def test_what_a_caller_may_know_arrives(line: Relay, provider: Listening, kind: str) -> None:
    sent = [(name.title(), value) for name, value in TO_CALLER.items()]
    head = await answered(line, provider, kind, *sent)
    assert values(head).items() >= TO_CALLER.items()
    assert names_of(head) <= OUR_ANSWER | TO_CALLER.keys()
    for theirs, renamed in RENAMED.items():
        got = values(await answered(line, provider, kind, (theirs, "req_theirs")))
        assert (got[renamed], got["x-request-id"]) == ("req_theirs", got["x-headgate-request-id"])
        assert got["x-request-id"] != "req_theirs"


@pytest.mark.parametrize("kind", ENDINGS)
async def test_headers_that_a_provider_sends_for_one_hop_end_here(
    line: Relay, provider: Listening, kind: str
) -> None:
    sent = [*TO_CALLER.items(), ("connection", "X-RateLimit-Limit-Requests, openai-version, content-type")]
    head = await answered(line, provider, kind, *sent)
    assert names_of(head) & TO_CALLER.keys() == TO_CALLER.keys() - {
        "x-ratelimit-limit-requests",
        "openai-version",
    }


TOKEN = st.text("abcdefghijklmnopqrstuvwxyzABCXYZ0123456789!#$%&'*+.^_`|~-", min_size=1, max_size=40)
WORDS = [
    "x",
    "forwarded",
    "for",
    "host",
    "proxy",
    "auth",
    "cookie",
    "set",
    "key",
    "openai",
    "ratelimit",
    "id",
]
NAME = st.one_of(TOKEN, st.lists(st.sampled_from(WORDS), min_size=1, max_size=4).map("-".join))
VALUE = st.text(st.characters(min_codepoint=0x20, max_codepoint=0xFF, exclude_characters="\x7f"), max_size=60)
HEADERS = st.lists(st.tuples(NAME, VALUE), max_size=12, unique_by=lambda header: header[0].lower())


def examples(strategy: st.SearchStrategy[list[tuple[str, str]]], count: int) -> list[list[tuple[str, str]]]:
    """Drawn beforehand: what uses them waits for sockets, and hypothesis does not."""
    drawn: list[list[tuple[str, str]]] = []

    @settings(max_examples=count, database=None, phases=[Phase.generate], deadline=None,
              suppress_health_check=list(HealthCheck))  # fmt: skip
    @given(strategy)
    def draw(example: list[tuple[str, str]]) -> None:
        drawn.append(example)

    draw()
    return drawn


def without(*names: str) -> Callable[[list[tuple[str, str]]], list[tuple[str, str]]]:
    """Leaves out what is about framing or asks for another outcome than an ordinary call."""
    return lambda headers: [(name, value) for name, value in headers if name.lower() not in names]


MEANS_MORE = (
    "api-key", "authorization", "connection", "content-encoding", "content-length", "content-type", "expect",
    "host", "transfer-encoding", "upgrade", "x-api-key", "x-headgate-tags",
)  # fmt: skip
"""What of a caller's head Headgate acts on: drawn at random it would be no ordinary call."""


async def test_no_name_of_a_callers_making_passes(line: Relay, provider: Listening) -> None:
    strategy = HEADERS.map(without(*MEANS_MORE, *TO_PROVIDER))
    tried = 0
    for headers in examples(strategy, 200):
        head = await ask(line, *(f"{name}: {value}".encode("latin-1") for name, value in headers))
        assert head.startswith(b"HTTP/1.1 200 "), headers
        assert provider.header_names() == OURS, headers
        tried += len(headers)
    assert tried > 500


async def test_no_name_of_a_providers_making_passes(line: Relay, provider: Listening) -> None:
    strategy = HEADERS.map(
        without("connection", "content-encoding", "content-length", "transfer-encoding", *TO_CALLER)
    )
    tried = 0
    for headers in examples(strategy, 200):
        head = await answered(line, provider, "plain", *headers)
        assert names_of(head) <= OUR_ANSWER, headers
        tried += len(headers)
    assert tried > 500


BREAKS = [
    "a\rset-cookie: b",
    "a\nset-cookie: b",
    "a\r\n set-cookie: b",
    "a\r\n\tb",
    "a\0b",
    "\r\rb",
    "a\x0bb",
    "a\x7fb",
]


@pytest.mark.parametrize("value", BREAKS)
async def test_no_line_break_reaches_a_provider(line: Relay, provider: Listening, value: str) -> None:
    for name in TO_PROVIDER:
        head = await ask(line, f"{name}: {value}".encode("latin-1"))
        names_of(head)
        if not head.startswith(b"HTTP/1.1 400 "):
            assert provider.header_names() == OURS | {name}
    for head in provider.heads:
        names_of(head)
        assert b"set-cookie" not in head


@pytest.mark.parametrize("value", BREAKS)
async def test_no_line_break_reaches_a_caller(line: Relay, provider: Listening, value: str) -> None:
    for name in (*TO_CALLER, *RENAMED, "x-other", "content-type"):
        provider.answer = answer_of(GOOD, 200, (name, value))
        head = await ask(line)
        assert head.startswith((b"HTTP/1.1 200 ", b"HTTP/1.1 502 "))
        assert names_of(head) <= OUR_ANSWER | {name, *RENAMED.values(), "x-should-retry"}


@pytest.mark.parametrize("status", [300, 301, 302, 303, 304, 305, 307, 308])
async def test_redirects_are_not_followed(line: Relay, provider: Listening, status: int) -> None:
    trap = Listening()
    await trap.start()
    for where in (
        f"{trap.url}/chat/completions",
        f"//127.0.0.1:{trap.port}/",
        "/v1/elsewhere",
        "file:///etc/passwd",
    ):
        asked = len(provider.heads)
        provider.answer = answer_of({}, status, ("location", where), ("refresh", f"0; url={where}"))
        if status == 304:
            provider.answer = provider.answer.partition(b"\r\n\r\n")[0] + b"\r\n\r\n"
        answer = await line.post()
        assert (answer.status, answer.error["code"]) == (502, "bad_upstream_response")
        assert "location" not in answer.headers and where.encode() not in answer.body
        paths = {head.split()[1] for head in provider.heads[asked:]}
        assert paths == {b"/v1/chat/completions"}
    assert not trap.heads
    await trap.stop()
