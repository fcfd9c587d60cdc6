"""Anthropic's errors, read of a provider in all the places where they stand, and written for its callers."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gateway.errors import (
    ALL_KINDS,
    BUDGET_SPENT,
    FALLBACK_REASONS,
    INTERNAL,
    MODEL_FORBIDDEN,
    MODEL_UNKNOWN,
    OVERLOADED,
    RATE_LIMITED,
    TOO_LARGE,
    UNAUTHORIZED,
    UPSTREAM_LOST,
    UPSTREAM_TIMEOUT,
    WRONG_TYPE,
    GatewayError,
    Kind,
    ProviderError,
)
from gateway.wire.dialect import ANTHROPIC, CHAT, Dialect
from gateway.wire.json import dumps, read_object
from gateway.wire.sse import data_of
from tests.wire.hub_strategies import EACH, PAIR, VALUES, data_in, translated

NOW_S = 1_830_254_399.0
"""Fri, 31 Dec 2027 11:59:59 GMT."""
BY_STATUS: list[tuple[int, str, str]] = [
    (400, "invalid_request_error", ""),
    (401, "authentication_error", "auth"),
    (402, "billing_error", "rate_limited"),
    (403, "permission_error", "auth"),
    (404, "not_found_error", ""),
    (409, "conflict_error", ""),
    (413, "request_too_large", ""),
    (429, "rate_limit_error", "rate_limited"),
    (500, "api_error", "server_error"),
    (504, "timeout_error", "timeout"),
    (529, "overloaded_error", "server_error"),
]
"""(status, Anthropic's type, why the next target may be tried)."""
EVERY = pytest.mark.parametrize(("status", "type_", "reason"), BY_STATUS)


def body(type_: Any, message: Any = "No.", **more: Any) -> dict[str, Any]:
    return {"type": "error", "error": {"type": type_, "message": message, **more}, "request_id": "req_1"}


@EVERY
def test_error_of_a_status(status: int, type_: str, reason: str) -> None:
    error = ANTHROPIC.read_error(status, {}, dumps(body(type_)), NOW_S)
    assert error == ProviderError(status, reason, "No.", type_, quota=status == 402)


@EVERY
def test_error_inside_a_200_has_the_status_of_its_type(status: int, type_: str, reason: str) -> None:
    assert ANTHROPIC.error_in_answer(body(type_)) == ProviderError(
        status, reason, "No.", type_, quota=status == 402
    )


@EVERY
@pytest.mark.parametrize("begins", [True, False], ids=["after content", "at once"])
def test_error_in_mid_stream_ends_it(status: int, type_: str, reason: str, begins: bool) -> None:
    start = {"type": "content_block_start", "index": 0, "content_block": {"type": "text", "text": "Well, "}}
    stream = b"event: content_block_start\ndata: %b\n\n" % dumps(start) if begins else b""
    failure = b"event: error\ndata: %b\n\n" % dumps(body(type_))
    passing, out = translated(ANTHROPIC, CHAT, [stream, failure, b'data: {"type":"message_stop"}\n\n'])
    assert passing.error == ProviderError(status, reason, "No.", type_, quota=status == 402)
    assert passing.committed is begins and not passing.done
    assert b"[DONE]" not in out and b"error" not in out and out.count(b"Well, ") == begins


@pytest.mark.parametrize(
    ("failure", "status", "type_"),
    [
        ({"message": "No.", "code": 503}, 503, "overloaded_error"),
        ({"message": "No.", "type": "rate_limit_error"}, 429, "rate_limit_error"),
        ({"message": "No.", "type": "server_error", "code": None}, 500, "api_error"),
        ("No.", 500, "api_error"),
    ],
)
def test_chat_error_in_mid_stream_ends_it_for_anthropics_callers(
    failure: Any, status: int, type_: str
) -> None:
    stream = b'data: {"choices":[{"index":0,"delta":{"content":"Well"}}]}\n\n'
    passing, out = translated(CHAT, ANTHROPIC, [stream, b"data: %b\n\n" % dumps({"error": failure}), stream])
    assert passing.error is not None and passing.error.status == status and passing.error.message == "No."
    assert passing.committed and not passing.done and b"message_stop" not in out and b"error" not in out
    assert out.count(b"Well") == 1
    written = b"".join([ANTHROPIC.writer(True).write(event) for event in failed(failure)])
    (data,) = data_in(written)
    assert read_object(data) == {"type": "error", "error": {"type": type_, "message": "No."}}
    assert written.startswith(b"event: error\n")


def failed(failure: Any) -> Any:
    return CHAT.reader().read(dumps({"error": failure}))


# what is in an error


@pytest.mark.parametrize(
    ("headers", "wait_s"),
    [
        ({}, None),
        ({b"retry-after": b"7"}, 7.0),
        ({b"retry-after-ms": b"1500", b"retry-after": b"7"}, 1.5),
        ({b"retry-after": b"Fri, 31 Dec 2027 12:00:09 GMT"}, 10.0),
        ({b"retry-after": b"soon"}, None),
    ],
)
def test_wait_that_is_asked_for(headers: dict[bytes, bytes], wait_s: float | None) -> None:
    error = ANTHROPIC.read_error(429, headers, dumps(body("rate_limit_error")), NOW_S)
    assert error.retry_after_s == wait_s


def test_spend_limit_of_the_account_is_no_rate() -> None:
    told = body("rate_limit_error", details={"error_code": "enforced_spend_limit_reached"})
    error = ANTHROPIC.read_error(429, {}, dumps(told), NOW_S)
    assert (error.quota, error.code, error.reason) == (True, "enforced_spend_limit_reached", "rate_limited")
    assert not ANTHROPIC.read_error(429, {}, dumps(body("rate_limit_error")), NOW_S).quota


def test_prompt_above_the_window_may_go_to_another_target() -> None:
    told = body("invalid_request_error", "prompt is too long: 210000 tokens > 200000 maximum")
    assert ANTHROPIC.read_error(400, {}, dumps(told), NOW_S).reason == "context_window"


@pytest.mark.parametrize("told", [b"", b"<html>", b"[]", b'{"error":{"type":7,"message":[]}}'])
def test_error_that_says_nothing_has_its_status(told: bytes) -> None:
    assert ANTHROPIC.read_error(529, {}, told, NOW_S) == ProviderError(529, "server_error")


@pytest.mark.parametrize(
    "told",
    [{"error": "No."}, {"message": "No."}, {"error": {"message": "No."}}, {"error": None, "message": "No."}],
)
def test_error_as_others_say_it_who_speak_the_dialect(told: dict[str, Any]) -> None:
    assert ANTHROPIC.read_error(529, {}, dumps(told), NOW_S) == ProviderError(529, "server_error", "No.")


@pytest.mark.parametrize(
    "fields",
    [
        {"type": "message", "content": [], "error": {"type": "api_error"}},
        {"error": {"type": "api_error"}},
        {"type": ["error"]},
        {},
    ],
)
def test_what_is_no_error_is_none(fields: dict[str, Any]) -> None:
    assert ANTHROPIC.error_in_answer(fields) is None


def test_chat_answer_with_an_empty_error_is_an_answer() -> None:
    assert CHAT.error_in_answer({"choices": [{}], "error": None}) is None
    assert CHAT.error_in_answer({"choices": [{}], "error": {"message": "late"}}) is None
    error = CHAT.error_in_answer({"error": {"message": "No.", "code": 529}})
    assert error is not None and error.status == 529


@EACH
@settings(max_examples=100, deadline=None)
@given(status=st.integers(400, 599), failure=VALUES, more=st.dictionaries(st.just("type"), st.just("error")))
def test_whatever_an_error_holds_it_is_one(
    dialect: Dialect, status: int, failure: Any, more: dict[str, str]
) -> None:
    error = dialect.read_error(status, {}, dumps({"error": failure, **more}), NOW_S)
    assert error.status == status and error.reason in ("", *FALLBACK_REASONS)
    assert type(error.message) is str and type(error.type) in (str, type(None))
    within = dialect.error_in_answer({"error": failure, **more})
    assert within is None or 400 <= within.status <= 599


# written


@pytest.mark.parametrize(
    ("kind", "type_"),
    [
        (WRONG_TYPE, "invalid_request_error"),
        (UNAUTHORIZED, "authentication_error"),
        (MODEL_FORBIDDEN, "permission_error"),
        (MODEL_UNKNOWN, "not_found_error"),
        (TOO_LARGE, "request_too_large"),
        (RATE_LIMITED, "rate_limit_error"),
        (BUDGET_SPENT, "rate_limit_error"),
        (INTERNAL, "api_error"),
        (UPSTREAM_LOST, "api_error"),
        (OVERLOADED, "overloaded_error"),
        (UPSTREAM_TIMEOUT, "timeout_error"),
    ],
)
def test_refusal_in_anthropics_words(kind: Kind, type_: str) -> None:
    told = read_object(ANTHROPIC.error_body(GatewayError(kind, "Because."), b"req_7"))
    assert told == {
        "type": "error",
        "error": {"type": type_, "message": "Because."},
        "request_id": "req_7",
    }


@pytest.mark.parametrize("kind", ALL_KINDS, ids=lambda kind: kind.error_type)
def test_every_refusal_is_one_of_the_types_that_sdks_know(kind: Kind) -> None:
    error = GatewayError(kind)
    told = read_object(ANTHROPIC.error_body(error, b""))
    assert told["request_id"] is None and told["error"]["message"] == kind.message
    assert told["error"]["type"] in {type_ for _, type_, _ in BY_STATUS}
    assert (told["error"]["type"] in ("api_error", "overloaded_error", "timeout_error")) is (
        kind.status >= 500
    )
    event = ANTHROPIC.error_event(error)
    assert event.startswith(b"event: error\ndata: ") and event.endswith(b"\n\n")
    assert read_object(data_of(event)) == told


@PAIR
@pytest.mark.parametrize("kind", [RATE_LIMITED, OVERLOADED, INTERNAL], ids=lambda kind: kind.error_type)
def test_refusal_of_ours_is_read_as_an_error_by_a_gateway_before_us(
    provider: Dialect, caller: Dialect, kind: Kind
) -> None:
    error = GatewayError(kind, "Because.")
    told = provider.read_error(kind.status, {}, provider.error_body(error, b"r"), NOW_S)
    assert (told.status, told.message) == (kind.status, "Because.")
    passing, _ = translated(provider, caller, [provider.error_event(error)])
    assert passing.error is not None and passing.error.message == "Because."
    assert passing.error.reason == told.reason
