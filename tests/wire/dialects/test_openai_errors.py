"""A provider's error is read in every shape it comes in; ours are always in OpenAI's."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gateway.errors import ALL_KINDS, FALLBACK_REASONS, MODEL_UNKNOWN, UPSTREAM_LOST, GatewayError, Kind
from gateway.wire.dialects.openai_chat import (
    error_body,
    error_event,
    error_in_answer,
    error_object,
    model_object,
    read_error,
    read_error_object,
    status_of,
)
from gateway.wire.sse import data_of

NO_WORDS = ("", None, None, None)
NOW_S = 1_830_254_399.0
"""Fri, 31 Dec 2027 11:59:59 GMT."""
TOO_LONG = "This model's maximum context length is 8192 tokens."


def as_json(fields: Any) -> bytes:
    return json.dumps(fields).encode()


def reason_of(status: int, **failure: Any) -> str:
    return read_error(status, {}, as_json({"error": failure}), NOW_S).reason


SHAPES: list[tuple[bytes, tuple[str, str | None, str | int | None, str | None]]] = [
    (  # OpenAI
        as_json({"error": {"message": "Bad.", "type": "invalid_request_error", "code": "x", "param": "n"}}),
        ("Bad.", "invalid_request_error", "x", "n"),
    ),
    (as_json({"error": {"message": "Bad.", "code": 400}}), ("Bad.", None, 400, None)),  # OpenRouter
    (as_json({"error": "Model not loaded"}), ("Model not loaded", None, None, None)),  # Ollama, TGI
    (  # vLLM before 0.10
        as_json({"object": "error", "message": "Bad.", "type": "BadRequest", "param": None, "code": 400}),
        ("Bad.", "BadRequest", 400, None),
    ),
    (  # Mistral
        as_json({"message": "Bad.", "type": "invalid_request", "param": "n", "code": "1500"}),
        ("Bad.", "invalid_request", "1500", "n"),
    ),
    (as_json({"detail": "Unauthorized"}), ("Unauthorized", None, None, None)),
    (as_json({"detail": [{"loc": ["n"]}]}), ('[{"loc":["n"]}]', None, None, None)),  # FastAPI
    (as_json({"error": None, "message": "Bad."}), ("Bad.", None, None, None)),
    (as_json({"error": {"message": ["no text"], "type": 7, "code": {"a": 1}, "param": []}}), NO_WORDS),
    (as_json({"error": {"type": ["x"]}}), NO_WORDS),
    (as_json({}), NO_WORDS),
    (as_json(["error"]), NO_WORDS),
    (b"<html>Bad gateway</html>", NO_WORDS),
    (b"", NO_WORDS),
]  # fmt: skip


@pytest.mark.parametrize(("body", "words"), SHAPES)
def test_error_is_read_in_every_shape(
    body: bytes, words: tuple[str, str | None, str | int | None, str | None]
) -> None:
    error = read_error(400, {}, body, NOW_S)
    assert (error.message, error.type, error.code, error.param) == words
    assert error.status == 400


def test_other_fields_of_an_error_are_kept() -> None:
    error = read_error_object({"message": "x", "code": "c", "innererror": {"a": [1]}}, 400)
    assert error.details == {"innererror": {"a": [1]}}


@pytest.mark.parametrize(
    ("status", "failure", "reason"),
    [
        (401, {}, "auth"),
        (403, {"code": "insufficient_quota"}, "auth"),
        (429, {}, "rate_limited"),
        (429, {"code": "insufficient_quota"}, "rate_limited"),
        (408, {}, "timeout"),
        (504, {}, "timeout"),
        (500, {}, "server_error"),
        (503, {"code": "context_length_exceeded"}, "server_error"),
        (529, {}, "server_error"),
        (302, {}, "bad_answer"),
        (400, {}, ""),
        (404, {"code": "model_not_found"}, ""),
        (422, {}, ""),
        (400, {"code": "context_length_exceeded"}, "context_window"),
        (400, {"message": TOO_LONG}, "context_window"),
        (400, {"code": "content_filter"}, "content_filter"),
        (400, {"code": "content_policy_violation"}, "content_filter"),
        (400, {"code": "ResponsibleAIPolicyViolation"}, "content_filter"),
        # Azure's filter inside another code; OpenRouter's moderation, which is no fault of the key.
        (
            400,
            {"code": "BadRequest", "innererror": {"code": "ResponsibleAIPolicyViolation"}},
            "content_filter",
        ),
        (403, {"code": 403, "metadata": {"reasons": ["violence"], "flagged_input": "…"}}, "content_filter"),
        (403, {"code": 403, "metadata": {"provider_name": "x"}}, "auth"),
        (500, {"code": "content_filter"}, "content_filter"),
        (400, {"code": "billing_hard_limit_reached"}, "rate_limited"),
        (402, {"type": "insufficient_quota"}, "rate_limited"),
    ],
)
def test_reason_says_whether_another_target_may_help(
    status: int, failure: dict[str, Any], reason: str
) -> None:
    assert reason_of(status, **failure) == reason


@pytest.mark.parametrize(
    ("failure", "quota"),
    [
        ({"code": "insufficient_quota"}, True),
        ({"type": "insufficient_quota"}, True),
        ({"code": "billing_not_active", "type": "x"}, True),
        ({"code": "rate_limit_exceeded", "type": "tokens"}, False),
        ({}, False),
    ],
)
def test_spent_quota_is_told_from_a_rate_limit(failure: dict[str, Any], quota: bool) -> None:
    assert read_error(429, {}, as_json({"error": failure}), NOW_S).quota is quota


@pytest.mark.parametrize(
    ("headers", "seconds"),
    [
        ({}, None),
        ({b"retry-after": b"2"}, 2.0),
        ({b"retry-after": b"0"}, 0.0),
        ({b"retry-after": b"1.5"}, 1.5),
        ({b"retry-after-ms": b"250"}, 0.25),
        ({b"retry-after-ms": b"250", b"retry-after": b"9"}, 0.25),
        ({b"retry-after-ms": b"soon", b"retry-after": b"9"}, 9.0),
        ({b"retry-after-ms": b"-1", b"retry-after": b"9"}, 9.0),
        ({b"retry-after": b"-1"}, None),
        ({b"retry-after": b"nan"}, None),
        ({b"retry-after": b"inf"}, None),
        ({b"retry-after": b""}, None),
        ({b"retry-after": b"1e300"}, None),
        ({b"retry-after": b"soon"}, None),
        # The three forms of a date (RFC 9110 5.6.7); all of them mean UTC.
        ({b"retry-after": b"Fri, 31 Dec 2027 12:00:02 GMT"}, 3.0),
        ({b"retry-after": b"Friday, 31-Dec-27 12:00:02 GMT"}, 3.0),
        ({b"retry-after": b"Fri Dec 31 12:00:02 2027"}, 3.0),
        ({b"retry-after": b"Fri, 31 Dec 2027 11:59:59 GMT"}, 0.0),
        ({b"retry-after": b"Sun, 06 Nov 1994 08:49:37 GMT"}, 0.0),
        ({b"retry-after": b"Thu, 31 Dec 2099 23:59:59 GMT"}, None),
        ({b"retry-after": b"Fri, 31 Dec 2027 25:00:00 GMT"}, None),
        ({b"retry-after-ms": b"250", b"retry-after": b"Fri, 31 Dec 2027 12:00:02 GMT"}, 0.25),
    ],
)
def test_wait_that_the_provider_asks_for_is_read(headers: dict[bytes, bytes], seconds: float | None) -> None:
    assert read_error(429, headers, b"{}", NOW_S).retry_after_s == seconds


@pytest.mark.parametrize(
    ("failure", "status"),
    [
        ({"code": 429}, 429),
        ({"code": 502, "message": "Provider returned error"}, 502),
        ({"status_code": 503, "code": "x"}, 503),
        ({"status": 404}, 404),
        ({"code": 200, "status": 599}, 599),
        ({"code": 600}, 500),
        ({"code": "429"}, 500),
        ({"code": True}, 500),
        ({"type": "rate_limit_error"}, 429),
        ({"type": "tokens"}, 429),
        ({"type": "invalid_request_error"}, 400),
        ({"type": ["x"]}, 500),
        ({"code": "content_filter"}, 400),
        ({"code": "content_filter", "status": 403}, 403),
        ({"code": "x", "innererror": {"code": "ResponsibleAIPolicyViolation"}}, 400),
        ({}, 500),
        ("overloaded", 500),
        (None, 500),
    ],
)
def test_error_inside_a_good_answer_has_the_status_it_names(failure: Any, status: int) -> None:
    assert status_of(failure) == status
    error = error_in_answer({"error": failure})
    assert error.status == status
    assert error.reason in ("", *FALLBACK_REASONS)


JSON = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**63), 2**64 - 1) | st.text(max_size=6),
    lambda inner: (
        st.lists(inner, max_size=2)
        | st.dictionaries(
            st.sampled_from(["error", "message", "type", "code", "param", "detail", "status"]),
            inner,
            max_size=4,
        )
    ),
    max_leaves=8,
)


@settings(deadline=None)
@given(st.text("0123456789 ,:-+GMTDecThu", max_size=32) | st.text(max_size=12))
def test_no_text_breaks_the_reading_of_a_wait(value: str) -> None:
    headers = {b"retry-after": value.encode("latin-1", "ignore")}
    wait_s = read_error(429, headers, b"{}", NOW_S).retry_after_s
    assert wait_s is None or wait_s >= 0


@settings(deadline=None)
@given(st.integers(400, 599), JSON | st.binary(max_size=20))
def test_no_body_of_a_provider_breaks_the_reading_of_its_error(status: int, found: Any) -> None:
    error = read_error(status, {}, found if isinstance(found, bytes) else as_json(found), NOW_S)
    assert error.reason in ("", *FALLBACK_REASONS)
    assert error.status == status
    assert json.loads(json.dumps(error.details)) == error.details


@pytest.mark.parametrize("kind", ALL_KINDS, ids=lambda kind: kind.error_type)
def test_refusal_has_all_four_fields_of_openai(kind: Kind) -> None:
    body = json.loads(error_body(GatewayError(kind, param="n")))
    assert body == {"error": {"message": kind.message, "type": kind.type, "param": "n", "code": kind.code}}


def test_fields_of_the_providers_error_go_on_but_never_replace_ours() -> None:
    details = {"innererror": {"code": "x"}, "message": "theirs", "type": "theirs"}
    error = GatewayError(MODEL_UNKNOWN, "ours", details=details)
    assert json.loads(error_body(error)) == {
        "error": {
            "message": "ours",
            "type": "invalid_request_error",
            "param": None,
            "code": "model_not_found",
            "innererror": {"code": "x"},
        }
    }
    assert error_object(MODEL_UNKNOWN, "ours", None, {}) == error_object(MODEL_UNKNOWN, "ours", None)


def test_error_event_is_one_event_with_the_error_and_no_done() -> None:
    event = error_event(GatewayError(UPSTREAM_LOST, "Line one.\nLine two."))
    assert event.count(b"\n\n") == 1
    assert event.endswith(b"\n\n")
    assert b"[DONE]" not in event
    assert json.loads(data_of(event))["error"]["message"] == "Line one.\nLine two."


def test_model_is_listed_as_openai_lists_its_own() -> None:
    assert model_object("fast") == {"id": "fast", "object": "model", "created": 0, "owned_by": "headgate"}
