"""The table of upstream faults: what a provider does, and what then happens to the call, column by column.

`BEFORE` is what goes wrong before anything was sent to the caller, so that everything may be tried again;
`AFTER`, what goes wrong once content has passed: then nothing is.
"""

from __future__ import annotations

import time
from email.utils import formatdate
from typing import NamedTuple

from gateway.http.message import chunk
from tests.line.faults.answers import (
    DONE,
    GOOD_BODY,
    GOOD_STREAM,
    ROLE,
    delta,
    error_body,
    error_event,
    event,
    refusal,
)
from tests.scripted import CLOSE, RESET, STALL, STREAM_END, STREAM_HEAD, WAIT, Drip, Step, answer, streamed

QUICK = "timeouts: {connect: 2s, first_token: 400ms, stall: 400ms, total: 8s}"
SHORT = "timeouts: {connect: 2s, first_token: 2s, stall: 2s, total: 400ms}"
PLAIN, STREAMED = "plain", "streamed"
BIG = b"x" * 1_100_000
"""Just above 1 MiB."""


class Told(NamedTuple):
    """The last failure, as it is told where no target is left."""

    status: int
    code: str | None
    """Of the error object."""
    error_type: str
    """Of the log line."""
    outcome: str
    """What an attempt is counted as, in the metric."""


class Tries(NamedTuple):
    """Attempts at the faulty target with one retry allowed: where there is no other, and before the next one
    is asked (0: it is not, and the caller is told)."""

    alone: int
    first: int


class Before(NamedTuple):
    """A fault before anything was sent, in a plain or a streamed call (`call` is empty if in both)."""

    name: str
    steps: tuple[Step, ...]
    told: Told
    tries: Tries
    call: str = ""
    timing: str = QUICK
    retry_after_s: tuple[int, int] | None = None
    """The least and the most that the caller's Retry-After may say; None: it has none."""


class After(NamedTuple):
    """A fault of a stream after content has passed: an error event (`told.code`), and no `[DONE]`."""

    name: str
    steps: tuple[Step, ...]
    told: Told
    timing: str = QUICK


ONCE, TELL = Tries(1, 1), Tries(1, 0)
AGAIN, NEXT = Tries(2, 2), Tries(2, 1)

LIMITED = Told(429, "rate_limit_exceeded", "provider_rate_limited", "rate_limited")
NUMBERED = LIMITED._replace(code="429")
QUOTA = LIMITED._replace(code="insufficient_quota")
AUTH = Told(502, "upstream_auth", "provider_auth", "auth")
ERROR = Told(502, "x_code", "provider_error", "server_error")
WORDLESS = ERROR._replace(code=None)
OVERLOADED = Told(503, "x_code", "provider_overloaded", "server_error")
REFUSED = Told(400, "x_code", "provider_refused", "refused")
FILTERED = Told(400, "content_filter", "provider_refused", "content_filter")
LOST = Told(502, "upstream_disconnected", "provider_disconnected", "server_error")
BAD = Told(502, "bad_upstream_response", "provider_bad_answer", "bad_answer")
STALLED = Told(504, "upstream_stalled", "provider_stalled", "stall")
TIMED_OUT = Told(504, "upstream_timeout", "provider_timeout", "timeout")


def _limited(name: str, *headers: str, waits_s: tuple[int, int] | None = None, tries: Tries = NEXT) -> Before:
    steps = (refusal(429, "rate_limit_exceeded", *headers),)
    return Before(name, steps, LIMITED, tries, retry_after_s=waits_s)


def _lost(name: str, *steps: Step, call: str = "") -> Before:
    return Before(name, steps, LOST, AGAIN, call)


def _bad(name: str, *steps: Step, call: str = "") -> Before:
    return Before(name, steps, BAD, AGAIN, call)


_IN_TWO_HOURS = formatdate(time.time() + 7200, usegmt=True)
_AZURES = {"status": 400, "innererror": {"code": "ResponsibleAIPolicyViolation", "content_filter_result": {}}}
_FLAGGED = {"metadata": {"reasons": ["violence"], "flagged_input": "…", "provider_name": "x"}}

BEFORE: list[Before] = [
    # The next target at once; without one a wait of up to 5 s is waited for, a longer one is the caller's.
    _limited("429 without a wait"),
    _limited("429 with a short wait", "retry-after-ms: 40", waits_s=(1, 1)),
    _limited("429 with a long wait", "retry-after: 60", waits_s=(60, 60), tries=ONCE),
    _limited("429 with a date", f"retry-after: {_IN_TWO_HOURS}", waits_s=(1800, 7200), tries=ONCE),
    _limited("429 with a past date", "retry-after: Sun, 06 Nov 1994 08:49:37 GMT", waits_s=(0, 0)),
    _limited("429 with a wait nobody means", "retry-after: 1e300"),
    Before("429 quota", (refusal(429, "insufficient_quota"),), QUOTA, ONCE),
    Before("402", (refusal(402, None),), LIMITED._replace(code=None), ONCE),
    # What only the caller can mend is passed on in the provider's words.
    Before("400", (refusal(400),), REFUSED, TELL),
    Before("404", (refusal(404),), REFUSED._replace(status=404), TELL),
    Before("409", (refusal(409),), REFUSED._replace(status=409), TELL),
    Before("422", (refusal(422),), REFUSED._replace(status=422), TELL),
    Before(
        "400 context window", (refusal(400, "context_length_exceeded"),),
        Told(400, "context_length_exceeded", "provider_refused", "context_window"), TELL,
    ),
    # A filter is not routed around unless the policy names it.
    Before("400 filter", (refusal(400, "content_filter", **_AZURES),), FILTERED, TELL),
    Before("400 filter inside", (refusal(400, **_AZURES),), FILTERED._replace(code="x_code"), TELL),
    Before("403 moderation", (refusal(403, **_FLAGGED),), FILTERED._replace(code="x_code"), TELL),
    Before("500 filter", (refusal(500, "content_filter"),),
           Told(502, "content_filter", "provider_error", "content_filter"), TELL),
    # Our own credentials: 502, or the caller would look for the fault in its key; nothing of it is told.
    Before("401", (refusal(401),), AUTH, ONCE),
    Before("403", (refusal(403),), AUTH, ONCE),
    Before("500", (refusal(500),), ERROR, AGAIN),
    Before("502", (refusal(502),), ERROR, AGAIN),
    Before("503", (refusal(503),), OVERLOADED, AGAIN),
    Before("529", (refusal(529),), OVERLOADED, AGAIN),
    Before("599", (refusal(599),), ERROR, AGAIN),
    # It may be at work on the call: not asked again (`retries: {uncertain: true}` would), but passed over.
    Before("504", (refusal(504),), TIMED_OUT, ONCE),
    Before("408", (refusal(408),), TIMED_OUT, ONCE),
    # The status says enough, whatever the body is.
    Before("500 packed", (answer(b"\x1f\x8b\x08", 500, "content-encoding: gzip"),), WORDLESS, AGAIN),
    Before("500 of HTML", (answer(b"<html>", 500, kind="text/html"),), WORDLESS, AGAIN),
    Before("500 of 1 MiB", (answer(BIG, 500), CLOSE), WORDLESS, AGAIN),
    # A plain call has one deadline, that of the whole call, and then no time is left for another target.
    Before("hang before the head", (STALL,), TIMED_OUT, TELL, PLAIN, SHORT),
    Before("hang before the head", (STALL,), TIMED_OUT._replace(outcome="first_token"), ONCE, STREAMED),
    Before("hang in the body", (answer(GOOD_BODY[:9], length=999), STALL), TIMED_OUT, TELL, PLAIN, SHORT),
    Before("hang before content", (STREAM_HEAD + chunk(ROLE), STALL), STALLED, ONCE, STREAMED),
    # Signs of life are no content.
    Before("pings", (STREAM_HEAD, Drip(chunk(b": ping\n\n" + ROLE), 0.02)), STALLED, ONCE, STREAMED),
    Before("drip", (answer(b"", length=9999), Drip(b" ", 0.02)), TIMED_OUT, TELL, PLAIN, SHORT),
    # An error inside a 200 is what it says it is.
    Before("200 error", (answer(error_body(kind="server_error")),), ERROR, AGAIN),
    Before("200 error with a status", (answer(error_body(429)),), NUMBERED, NEXT),
    Before("200 error of the caller's", (answer(error_body(kind="invalid_request_error")),), REFUSED, TELL),
    Before("200 error event", (streamed(ROLE, error_event()),), ERROR, AGAIN, STREAMED),
    Before("200 error event, limited", (streamed(error_event(429)),), NUMBERED, NEXT, STREAMED),
    Before("200 error event, filter", (streamed(error_event("content_filter")),), FILTERED, TELL, STREAMED),
    Before("200 error event, Azure's filter", (streamed(error_event("content_filter", **_AZURES)),),
           FILTERED, TELL, STREAMED),
    _lost("reset before the head", RESET),
    _lost("closed before the head", CLOSE),
    _lost("closed within the head", b"HTTP/1.1 200 OK\r\ncontent-", CLOSE),
    _lost("closed after a 100", b"HTTP/1.1 100 Continue\r\n\r\n", CLOSE),
    _lost("body cut by a close", answer(GOOD_BODY[:-9], length=len(GOOD_BODY)), CLOSE),
    _lost("body cut by a reset", answer(GOOD_BODY[:-9], length=len(GOOD_BODY)), RESET),
    _lost("closed before content", STREAM_HEAD + chunk(ROLE), CLOSE, call=STREAMED),
    _lost("reset before content", STREAM_HEAD + chunk(ROLE), RESET, call=STREAMED),
    _bad("body cut, and no length told", b"HTTP/1.1 200 OK\r\n\r\n" + GOOD_BODY[:-9], CLOSE),
    _bad("not JSON", answer(b"{'id': 1}")),
    _bad("half of JSON", answer(GOOD_BODY[:-9])),
    _bad("JSON after a byte order mark", answer(b"\xef\xbb\xbf" + GOOD_BODY)),
    _bad("JSON that is no object", answer(b"[" + GOOD_BODY + b"]")),
    _bad("null", answer(b"null")),
    _bad("nothing", answer(b"")),
    _bad("HTML page", answer(b"<!doctype html><p>Sign in", kind="text/html")),
    _bad("HTML page of 1 MiB", answer(b"<!doctype html>" + BIG, kind="text/html")),
    _bad("plain for a stream", answer(GOOD_BODY), call=STREAMED),
    _bad("1 MiB of plain for a stream", answer(b'{"x":"' + BIG + b'"}'), call=STREAMED),
    _bad("stream for a plain call", streamed(GOOD_STREAM), call=PLAIN),
    _bad("body above 64 MiB", answer(b"{" + b" " * (1 << 20), length=(64 << 20) + 1), CLOSE, call=PLAIN),
    # What has content after it is passed on with an error event; before it nothing was sent, so bad UTF-8 and
    # too long events are bad answers like any other.
    _bad("bad UTF-8", answer(GOOD_BODY.replace(b"Gr", b"\xff")), call=PLAIN),
    _bad("bad UTF-8 before content", streamed(ROLE, b'data: {"x":"\xff"}\n\n'), call=STREAMED),
    _bad("event above 1 MiB", STREAM_HEAD + chunk(b"data: " + BIG), STALL, call=STREAMED),
    _bad("stream without content", streamed(ROLE), call=STREAMED),
    _bad("stream of nothing", streamed(), call=STREAMED),
    # We ask for identity and unpack nothing.
    _bad("packed", answer(GOOD_BODY, 200, "content-encoding: gzip"), call=PLAIN),
    _bad("packed stream", STREAM_HEAD[:-2] + b"Content-Encoding: BR\r\n\r\n" + chunk(GOOD_STREAM), STALL),
    _bad("no HTTP", b"SSH-2.0-OpenSSH_9.6\r\n"),
    _bad("HTTP/2", b"HTTP/2 200 OK\r\ncontent-length: 2\r\n\r\n{}"),
    _bad("two lengths", b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\ncontent-length: 3\r\n\r\n{}"),
    _bad("length and chunks", STREAM_HEAD[:-2] + b"content-length: 2\r\n\r\n" + STREAM_END),
    _bad("chunk without a size", STREAM_HEAD + b"x\r\n"),
    _bad("header above 64 KiB", answer(GOOD_BODY, 200, "x-big: " + "y" * 70_000)),
    _bad("header without an end", b"HTTP/1.1 200 OK\r\nx-big: " + b"y" * 70_000, STALL),
    _bad("300 headers", answer(GOOD_BODY, 200, *(f"x-{number}: y" for number in range(300)))),
    _bad("1xx without an end", Drip(b"HTTP/1.1 102 Processing\r\nx: y\r\n\r\n" * 500, 0.001)),
    _bad("101", b"HTTP/1.1 101 Switching Protocols\r\nupgrade: h2c\r\nconnection: upgrade\r\n\r\n"),
    _bad("201", answer(GOOD_BODY, 201)),
    _bad("204", b"HTTP/1.1 204 No Content\r\n\r\n"),
    _bad("206", answer(GOOD_BODY, 206)),
    # Targets come from the policy alone: a redirect is not followed.
    _bad("302", answer(b"{}", 302, "location: http://127.0.0.1:9/")),
    _bad("304", b"HTTP/1.1 304 Not Modified\r\n\r\n"),
    _bad("307", answer(b"{}", 307, "location: /v2")),
]  # fmt: skip

_BEGUN = STREAM_HEAD + chunk(ROLE + delta("Grü"))
_UNFRAMED = b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\n\r\n"


def _says(event_: bytes) -> tuple[Step, ...]:
    return (_BEGUN + chunk(event_) + STREAM_END,)


AFTER: list[After] = [
    After("closed", (_BEGUN, WAIT, CLOSE), LOST),
    After("reset", (_BEGUN, WAIT, RESET), LOST),
    After("ended without [DONE]", (_BEGUN + STREAM_END,), LOST),
    After("closed, and no framing", (_UNFRAMED + delta("x"), CLOSE), LOST),
    After("closed within an event", (_BEGUN + chunk(delta("ße")[:-9]), CLOSE), LOST),
    After("hang", (_BEGUN, WAIT, STALL), STALLED),
    After("pings", (_BEGUN, WAIT, Drip(chunk(b": ping\n\n"), 0.02)), STALLED),
    After("events without data", (_BEGUN, WAIT, Drip(chunk(b"event: ping\n\n"), 0.02)), STALLED),
    After("drip within an event", (_BEGUN, WAIT, chunk(b"data: "), Drip(chunk(b"x"), 0.02)), STALLED),
    After("drip of content", (_BEGUN, WAIT, Drip(chunk(delta("x")), 0.02)), TIMED_OUT, SHORT),
    After("bad UTF-8", (_BEGUN, WAIT, chunk(b'data: {"x":"\xff"}\n\n'), STALL), BAD),
    After("event above 1 MiB", (_BEGUN + chunk(b"data: " + BIG), STALL), BAD),
    After("broken chunks", (_BEGUN + b"zz\r\n", STALL), BAD),
    After("chunk extension without an end", (_BEGUN, WAIT, b"5;" + b"x" * 80_000, STALL), BAD),
    After("trailers without an end", (_BEGUN, WAIT, b"0\r\nx: " + b"y" * 80_000, STALL), BAD),
    After("error event", _says(error_event()), ERROR),
    After("error event, then [DONE]", _says(error_event() + DONE), ERROR),
    After("error event, overloaded", _says(error_event(503)), OVERLOADED._replace(code="503")),
    After("error event of text", (_BEGUN + chunk(event({"error": "Words."})), STALL), WORDLESS),
    After("error event, limited", _says(error_event(429)), NUMBERED),
    After("error event, filter", _says(error_event("content_filter")), FILTERED),
    After("error event of the caller's", _says(error_event(kind="invalid_request_error")), REFUSED),
]  # fmt: skip
