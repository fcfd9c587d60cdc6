"""Whole answers between the Responses API and the neutral form, and its errors."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st
from openai.types.responses import Response

from gateway.errors import UPSTREAM_REFUSED, GatewayError
from gateway.usage import Usage
from gateway.wire.answered import Answer, Candidate
from gateway.wire.conversation import Refusal, Text, Thinking, ToolCall
from gateway.wire.dialect import ANTHROPIC, CHAT, RESPONSES
from gateway.wire.json import dumps, read_object, try_object
from tests.wire.dialects.test_responses_requests import VALUES

USAGE = {
    "input_tokens": 100,
    "input_tokens_details": {"cached_tokens": 60, "cache_write_tokens": 10},
    "output_tokens": 50,
    "output_tokens_details": {"reasoning_tokens": 30},
    "total_tokens": 150,
}
OUTPUT = [
    {
        "id": "rs_1",
        "type": "reasoning",
        "summary": [{"type": "summary_text", "text": "Hm."}, {"type": "summary_text", "text": "So."}],
        "encrypted_content": "gAAAA",
    },
    {"id": "ws_1", "type": "web_search_call", "status": "completed"},
    {
        "id": "msg_1",
        "type": "message",
        "status": "completed",
        "content": [{"type": "output_text", "annotations": [], "logprobs": [], "text": "I look."}],
        "role": "assistant",
    },
    {
        "id": "fc_1",
        "type": "function_call",
        "status": "completed",
        "arguments": '{"name":"Elbe"}',
        "call_id": "call_1",
        "name": "look_up",
    },
]
WHOLE: dict[str, Any] = {
    "id": "resp_1",
    "object": "response",
    "created_at": 1700000000,
    "status": "completed",
    "error": None,
    "incomplete_details": None,
    "model": "gpt-5",
    "output": OUTPUT,
    "service_tier": "flex",
    "usage": USAGE,
}


def said(fields: dict[str, Any]) -> Candidate:
    answer = RESPONSES.read_answer(fields)
    assert answer is not None
    return answer.candidates[0]


def test_answer_is_read() -> None:
    answer = RESPONSES.read_answer(WHOLE)
    parts = [
        Thinking("Hm.\n\nSo.", "gAAAA", dialect="responses", id="rs_1"),
        Text("I look."),
        ToolCall("call_1", "look_up", '{"name":"Elbe"}'),
    ]
    usage = Usage(30, 60, 10, output=20, reasoning=30, service_tier="flex")
    assert answer == Answer(
        "resp_1", "gpt-5", [Candidate(parts, "tool_calls")], usage=usage, created_s=1700000000
    )


def test_answer_becomes_chats() -> None:
    answer = RESPONSES.read_answer(WHOLE)
    assert answer is not None
    told = CHAT.write_answer(answer)
    assert told["choices"][0] == {
        "index": 0,
        "message": {
            "role": "assistant",
            "content": "I look.",
            "refusal": None,
            "tool_calls": [
                {
                    "id": "call_1",
                    "type": "function",
                    "function": {"name": "look_up", "arguments": '{"name":"Elbe"}'},
                }
            ],
            "reasoning_content": "Hm.\n\nSo.",
            "thinking_blocks": [
                {
                    "type": "thinking",
                    "thinking": "Hm.\n\nSo.",
                    "signature": "headgate:responses:signed:rs_1:gAAAA",
                }
            ],
        },
        "logprobs": None,
        "finish_reason": "tool_calls",
    }
    assert (told["id"], told["created"], told["service_tier"]) == ("resp_1", 1700000000, "flex")
    assert (told["usage"]["prompt_tokens"], told["usage"]["completion_tokens"]) == (100, 50)


def test_answer_is_written() -> None:
    parts = [Thinking("Hm."), Text("I look."), ToolCall("call_1", "look_up", ""), Refusal("No.")]
    usage = Usage(30, 60, 10, output=20, reasoning=30, service_tier="flex")
    told = RESPONSES.write_answer(
        Answer("chatcmpl-7", "gpt-4o", [Candidate(parts, "tool_calls")], usage, 1700000000)
    )
    assert told == {
        "id": "resp_chatcmpl-7",
        "object": "response",
        "created_at": 1700000000,
        "status": "completed",
        "background": False,
        "error": None,
        "incomplete_details": None,
        "instructions": None,
        "max_output_tokens": None,
        "model": "gpt-4o",
        "output": [
            {
                "id": "rs_chatcmpl-7_0",
                "type": "reasoning",
                "summary": [{"type": "summary_text", "text": "Hm."}],
            },
            {
                "id": "msg_chatcmpl-7_1",
                "type": "message",
                "status": "completed",
                "content": [{"type": "output_text", "annotations": [], "logprobs": [], "text": "I look."}],
                "role": "assistant",
            },
            {
                "id": "fc_chatcmpl-7_2",
                "type": "function_call",
                "status": "completed",
                "arguments": "{}",
                "call_id": "call_1",
                "name": "look_up",
            },
            {
                "id": "msg_chatcmpl-7_3",
                "type": "message",
                "status": "completed",
                "content": [{"type": "refusal", "refusal": "No."}],
                "role": "assistant",
            },
        ],
        "parallel_tool_calls": True,
        "previous_response_id": None,
        "reasoning": {"effort": None, "summary": None},
        "store": False,
        "temperature": 1.0,
        "text": {"format": {"type": "text"}},
        "tool_choice": "auto",
        "tools": [],
        "top_p": 1.0,
        "truncation": "disabled",
        "usage": USAGE,
        "user": None,
        "metadata": {},
        "service_tier": "flex",
    }
    Response.model_validate(told)


@pytest.mark.parametrize(
    ("reason", "status", "details", "item"),
    [
        ("stop", "completed", None, "completed"),
        ("tool_calls", "completed", None, "completed"),
        ("pause", "completed", None, "completed"),
        ("length", "incomplete", {"reason": "max_output_tokens"}, "incomplete"),
        ("content_filter", "incomplete", {"reason": "content_filter"}, "incomplete"),
        ("refusal", "incomplete", {"reason": "content_filter"}, "incomplete"),
    ],
)
def test_why_an_answer_ended_is_told(reason: str, status: str, details: object, item: str) -> None:
    told = RESPONSES.write_answer(Answer("a", "m", [Candidate([Text("One"), Text("Two")], reason)]))
    assert (told["status"], told["incomplete_details"], told["usage"]) == (status, details, None)
    assert [one["status"] for one in told["output"]] == ["completed", item]


@pytest.mark.parametrize(
    ("more", "reason"),
    [
        ({}, "stop"),
        ({"status": "incomplete", "incomplete_details": {"reason": "max_output_tokens"}}, "length"),
        ({"status": "incomplete", "incomplete_details": {"reason": "content_filter"}}, "content_filter"),
        ({"status": "incomplete"}, "length"),
    ],
)
def test_why_an_answer_ended_is_read(more: dict[str, Any], reason: str) -> None:
    assert said({**WHOLE, "output": [OUTPUT[2]], **more}).reason == reason


def test_words_of_refusal_are_a_whole_answer() -> None:
    refused = {**OUTPUT[2], "content": [{"type": "refusal", "refusal": "No."}]}
    candidate = said({**WHOLE, "output": [refused]})
    assert candidate == Candidate([Refusal("No.")])
    told = RESPONSES.write_answer(Answer("a", "m", [Candidate([Refusal("No.")], "refusal")]))
    assert told["status"] == "completed"
    chat = CHAT.write_answer(Answer("a", "m", [candidate]))
    assert chat["choices"][0]["message"]["refusal"] == "No."


def test_thoughts_that_are_told_in_full_are_read_where_there_is_no_summary() -> None:
    item = {
        "id": "rs_1",
        "type": "reasoning",
        "summary": [],
        "content": [{"type": "reasoning_text", "text": "Hm."}],
    }
    assert said({**WHOLE, "output": [item]}).parts == [Thinking("Hm.", dialect="responses", id="rs_1")]
    assert said({**WHOLE, "output": [{"type": "reasoning", "summary": []}]}).parts == []


def test_logprobs_are_told_in_both_dialects() -> None:
    one = {"token": "I", "logprob": -0.1, "bytes": [73], "top_logprobs": []}
    content = [{**OUTPUT[2]["content"][0], "logprobs": [one]}]  # type: ignore[index]
    answer = RESPONSES.read_answer({**WHOLE, "output": [{**OUTPUT[2], "content": content}]})
    assert answer is not None
    assert CHAT.write_answer(answer)["choices"][0]["logprobs"] == {"content": [one], "refusal": None}
    assert RESPONSES.write_answer(answer)["output"][0]["content"][0]["logprobs"] == [one]


@pytest.mark.parametrize(
    "fields",
    [
        {},
        {"output": {}},
        {"object": "chat.completion", "choices": []},
        {**WHOLE, "status": "queued"},
        {**WHOLE, "status": "in_progress"},
    ],
)
def test_what_is_no_answer_is_none(fields: dict[str, Any]) -> None:
    assert RESPONSES.read_answer(fields) is None


# usage


@pytest.mark.parametrize(
    "told",
    [
        None,
        5,
        {},
        {"input_tokens": 5},
        {"input_tokens": -1, "output_tokens": 5},
        {"input_tokens": 10**15, "output_tokens": 5},
        {"input_tokens": True, "output_tokens": 5},
        {"input_tokens": 5, "output_tokens": "6"},
        {"input_tokens": 5, "output_tokens": 6, "input_tokens_details": {"cached_tokens": -1}},
        {"prompt_tokens": 5, "completion_tokens": 6},
    ],
)
def test_usage_that_cannot_be_true_is_none(told: object) -> None:
    assert RESPONSES.read_usage({"usage": told}) is None


def test_parts_of_usage_never_exceed_it() -> None:
    told = {
        "input_tokens": 5,
        "output_tokens": 6,
        "input_tokens_details": {"cached_tokens": 9, "cache_write_tokens": 9},
        "output_tokens_details": {"reasoning_tokens": 9},
    }
    assert RESPONSES.read_usage({"usage": told}) == Usage(0, 5, output=0, reasoning=6)
    assert RESPONSES.read_usage({"usage": {"input_tokens": 5, "output_tokens": 6}}) == Usage(5, output=6)


# errors


@pytest.mark.parametrize(
    ("code", "status", "reason"),
    [
        ("server_error", 500, "server_error"),
        ("rate_limit_exceeded", 429, "rate_limited"),
        ("server_is_overloaded", 503, "server_error"),
        ("vector_store_timeout", 504, "timeout"),
        ("insufficient_quota", 429, "rate_limited"),
        ("invalid_prompt", 400, ""),
        ("image_too_large", 400, ""),
        ("context_length_exceeded", 400, "context_window"),
        ("content_filter", 400, "content_filter"),
        ("no_such_code", 500, "server_error"),
    ],
)
def test_a_response_that_failed_is_an_error(code: str, status: int, reason: str) -> None:
    error = RESPONSES.error_in_answer(
        {**WHOLE, "status": "failed", "error": {"code": code, "message": "No."}}
    )
    assert error is not None
    assert (error.status, error.reason, error.code, error.message) == (status, reason, code, "No.")
    assert error.quota == (code == "insufficient_quota")


def test_a_failure_without_an_error_is_one_too() -> None:
    error = RESPONSES.error_in_answer({**WHOLE, "status": "failed", "error": None})
    assert error is not None
    assert error.status == 500
    assert RESPONSES.error_in_answer(WHOLE) is None


def test_refusals_have_chats_shape() -> None:
    body = dumps(
        {"error": {"message": "No.", "type": "invalid_request_error", "param": "input", "code": "x"}}
    )
    error = RESPONSES.read_error(400, {}, body, 0.0)
    assert (error.status, error.message, error.param, error.code) == (400, "No.", "input", "x")
    told = RESPONSES.error_body(GatewayError(UPSTREAM_REFUSED, "No.", param="input"), b"1")
    assert read_object(told) == {
        "error": {"message": "No.", "type": "invalid_request_error", "param": "input", "code": None}
    }


# recorded and hostile


def test_recorded_answers_of_chat_come_back_as_they_were(wire_data: Path) -> None:
    """There is no recorded exchange of the Responses API: chat's go through its form and back."""
    seen = 0
    for path in sorted(wire_data.glob("*chat-*.yaml")):
        for exchange in yaml.load(path.read_text(), yaml.CSafeLoader)["interactions"]:
            fields = try_object(exchange["response"]["body"].encode())
            answer = None if fields is None else CHAT.read_answer(fields)
            if answer is None or not any(candidate.parts for candidate in answer.candidates):
                continue
            seen += 1
            told = RESPONSES.write_answer(answer)
            Response.model_validate(told)
            back = RESPONSES.read_answer(told)
            assert back is not None
            assert back.candidates[0].parts == answer.candidates[0].parts
            assert back.candidates[0].reason == answer.candidates[0].reason
            assert back.usage == _without_audio(answer.usage)
    assert seen >= 10


def _without_audio(usage: Usage | None) -> Usage | None:
    """This API tells no audio apart."""
    if usage is not None:
        usage.input += usage.audio_input
        usage.output += usage.audio_output
        usage.audio_input = usage.audio_output = 0
    return usage


ITEMS = st.fixed_dictionaries(
    {"type": st.sampled_from(["message", "function_call", "reasoning", "x"]) | VALUES},
    optional=dict.fromkeys(
        ("id", "content", "summary", "encrypted_content", "call_id", "name", "arguments"), VALUES
    ),
)


@settings(max_examples=300, deadline=None)
@given(
    st.lists(ITEMS, max_size=3) | VALUES,
    st.dictionaries(
        st.sampled_from(
            ["id", "model", "status", "created_at", "usage", "error", "incomplete_details", "service_tier"]
        ),
        VALUES,
    ),
)
def test_hostile_answers_never_raise(output: Any, more: dict[str, Any]) -> None:
    fields = {"output": output, **more}
    RESPONSES.error_in_answer(fields)
    answer = RESPONSES.read_answer(fields)
    if answer is not None:
        for dialect in (CHAT, ANTHROPIC, RESPONSES):
            dumps(dialect.write_answer(answer))
