"""Whole answers between Anthropic's dialect and chat's, as both references have them."""

from __future__ import annotations

from typing import Any

import pytest

from gateway.usage import Usage
from gateway.wire.answered import FILTERED, LENGTH, PAUSED, REFUSED, STOP, TOOL_CALLS
from gateway.wire.dialect import ANTHROPIC, CHAT
from gateway.wire.json import dumps, read_object
from gateway.wire.speech import speech_of


def to_chat(fields: dict[str, Any]) -> tuple[dict[str, Any], Usage | None]:
    """An Anthropic answer as a chat caller gets it, and its usage."""
    told = speech_of(CHAT, ANTHROPIC).told(fields, dumps(fields), 0.0)
    assert told is not None and read_object(told.body) == told.fields
    return read_object(told.body), told.usage


def to_anthropic(fields: dict[str, Any]) -> tuple[dict[str, Any], Usage | None]:
    """A chat answer as an Anthropic caller gets it, and its usage."""
    told = speech_of(ANTHROPIC, CHAT).told(fields, dumps(fields), 0.0)
    assert told is not None
    return read_object(told.body), told.usage


def test_anthropic_answer_with_thoughts_text_calls_and_caches_as_chat_has_it() -> None:
    fields, usage = to_chat(
        {
            "id": "msg_01",
            "type": "message",
            "role": "assistant",
            "model": "claude-sonnet-4-5-20250929",
            "content": [
                {"type": "thinking", "thinking": "Where is it?", "signature": "c2ln"},
                {"type": "redacted_thinking", "data": "eA=="},
                {"type": "text", "text": "I will "},
                {
                    "type": "server_tool_use",
                    "id": "srvtoolu_1",
                    "name": "web_search",
                    "input": {"query": "Elbe"},
                },
                {"type": "web_search_tool_result", "tool_use_id": "srvtoolu_1", "content": []},
                {"type": "text", "text": "look.", "citations": [{"type": "web_search_result_location"}]},
                {"type": "tool_use", "id": "toolu_1", "name": "look", "input": {"name": "Elbe"}},
                {"type": "tool_use", "id": "toolu_2", "name": "list", "input": {}},
            ],
            "stop_reason": "tool_use",
            "stop_sequence": None,
            "usage": {
                "input_tokens": 5,
                "cache_creation_input_tokens": 20,
                "cache_read_input_tokens": 300,
                "cache_creation": {"ephemeral_5m_input_tokens": 20, "ephemeral_1h_input_tokens": 0},
                "output_tokens": 70,
                "output_tokens_details": {"thinking_tokens": 30},
                "server_tool_use": {"web_search_requests": 2},
                "service_tier": "standard",
            },
        }
    )
    assert usage == Usage(5, 300, 20, 0, 40, 30, service_tier="default", searches=2)
    assert fields == {
        "id": "msg_01",
        "object": "chat.completion",
        "created": 0,
        "model": "claude-sonnet-4-5-20250929",
        "choices": [
            {
                "index": 0,
                "message": {
                    "role": "assistant",
                    "content": "I will look.",
                    "refusal": None,
                    "reasoning_content": "Where is it?",
                    "thinking_blocks": [
                        {"type": "thinking", "thinking": "Where is it?", "signature": "c2ln"},
                        {"type": "redacted_thinking", "data": "eA=="},
                    ],
                    "tool_calls": [
                        {
                            "id": "toolu_1",
                            "type": "function",
                            "function": {"name": "look", "arguments": '{"name":"Elbe"}'},
                        },
                        {
                            "id": "toolu_2",
                            "type": "function",
                            "function": {"name": "list", "arguments": "{}"},
                        },
                    ],
                },
                "logprobs": None,
                "finish_reason": "tool_calls",
            }
        ],
        "usage": {
            "prompt_tokens": 325,
            "completion_tokens": 70,
            "total_tokens": 395,
            "prompt_tokens_details": {"cached_tokens": 300, "cache_write_tokens": 20, "audio_tokens": 0},
            "completion_tokens_details": {"reasoning_tokens": 30, "audio_tokens": 0},
        },
        "service_tier": "default",
    }


def test_chat_answer_with_calls_and_usage_as_anthropic_has_it() -> None:
    fields, usage = to_anthropic(
        {
            "id": "chatcmpl-7",
            "object": "chat.completion",
            "created": 1_790_000_000,
            "model": "gpt-4o-2024-08-06",
            "system_fingerprint": "fp_1",
            "service_tier": "default",
            "choices": [
                {
                    "index": 0,
                    "message": {
                        "role": "assistant",
                        "content": "I will look.",
                        "refusal": None,
                        "annotations": [],
                        "reasoning_content": "Where is it?",
                        "tool_calls": [
                            {
                                "id": "call_1",
                                "type": "function",
                                "function": {"name": "look", "arguments": '{"name": "Elbe"}'},
                            },
                            {
                                "id": "call_2",
                                "type": "function",
                                "function": {"name": "list", "arguments": ""},
                            },
                        ],
                    },
                    "logprobs": None,
                    "finish_reason": "tool_calls",
                }
            ],
            "usage": {
                "prompt_tokens": 325,
                "completion_tokens": 70,
                "total_tokens": 395,
                "prompt_tokens_details": {"cached_tokens": 300, "audio_tokens": 0},
                "completion_tokens_details": {"reasoning_tokens": 30, "audio_tokens": 0},
            },
        }
    )
    assert usage == Usage(25, 300, 0, 0, 40, 30, service_tier="default")
    assert fields == {
        "id": "msg_chatcmpl-7",
        "type": "message",
        "role": "assistant",
        "model": "gpt-4o-2024-08-06",
        "content": [
            {"type": "thinking", "thinking": "Where is it?", "signature": ""},
            {"type": "text", "text": "I will look."},
            {"type": "tool_use", "id": "call_1", "name": "look", "input": {"name": "Elbe"}},
            {"type": "tool_use", "id": "call_2", "name": "list", "input": {}},
        ],
        "stop_reason": "tool_use",
        "stop_sequence": None,
        "usage": {
            "input_tokens": 25,
            "cache_creation_input_tokens": 0,
            "cache_read_input_tokens": 300,
            "output_tokens": 70,
            "output_tokens_details": {"thinking_tokens": 30},
            "service_tier": "standard",
        },
    }


def anthropic_answer(reason: Any, *content: dict[str, Any], **more: Any) -> dict[str, Any]:
    return {"type": "message", "content": list(content), "stop_reason": reason, **more}


def chat_answer(reason: Any, **message: Any) -> dict[str, Any]:
    return {"choices": [{"index": 0, "message": message, "finish_reason": reason}]}


@pytest.mark.parametrize(
    ("stop_reason", "meant", "finish_reason"),
    [
        ("end_turn", STOP, "stop"),
        ("stop_sequence", STOP, "stop"),
        ("max_tokens", LENGTH, "length"),
        ("model_context_window_exceeded", LENGTH, "length"),
        ("tool_use", TOOL_CALLS, "tool_calls"),
        ("refusal", REFUSED, "content_filter"),
        ("pause_turn", PAUSED, "stop"),
        ("a new one", STOP, "stop"),
        (None, STOP, "stop"),
        (7, STOP, "stop"),
    ],
)
def test_stop_reason_as_finish_reason(stop_reason: Any, meant: str, finish_reason: str) -> None:
    told = anthropic_answer(stop_reason, {"type": "text", "text": "A."})
    answer = ANTHROPIC.read_answer(told)
    assert answer is not None and answer.candidates[0].reason == meant
    assert to_chat(told)[0]["choices"][0]["finish_reason"] == finish_reason


@pytest.mark.parametrize(
    ("finish_reason", "meant", "stop_reason"),
    [
        ("stop", STOP, "end_turn"),
        ("length", LENGTH, "max_tokens"),
        ("tool_calls", TOOL_CALLS, "tool_use"),
        ("function_call", TOOL_CALLS, "tool_use"),
        ("content_filter", FILTERED, "refusal"),
        ("a new one", STOP, "end_turn"),
        (None, STOP, "end_turn"),
    ],
)
def test_finish_reason_as_stop_reason(finish_reason: Any, meant: str, stop_reason: str) -> None:
    told = chat_answer(finish_reason, content="A.")
    answer = CHAT.read_answer(told)
    assert answer is not None and answer.candidates[0].reason == meant
    assert to_anthropic(told)[0]["stop_reason"] == stop_reason


CALL = {"id": "c", "type": "function", "function": {"name": "f", "arguments": "{}"}}


def test_call_that_was_forced_ends_as_calls_end() -> None:
    assert to_anthropic(chat_answer("stop", tool_calls=[CALL]))[0]["stop_reason"] == "tool_use"
    assert to_anthropic(chat_answer("length", tool_calls=[CALL]))[0]["stop_reason"] == "max_tokens"


def test_refusal_is_text_that_ends_as_one() -> None:
    fields, _ = to_anthropic(chat_answer("stop", content=None, refusal="I will not."))
    assert fields["content"] == [{"type": "text", "text": "I will not."}]
    assert fields["stop_reason"] == "refusal"


def test_the_sequence_that_stopped_an_answer_is_told() -> None:
    told = anthropic_answer("stop_sequence", {"type": "text", "text": "A."}, stop_sequence="END")
    answer = ANTHROPIC.read_answer(told)
    assert answer is not None
    written = ANTHROPIC.write_answer(answer)
    assert (written["stop_reason"], written["stop_sequence"]) == ("stop_sequence", "END")


@pytest.mark.parametrize("arguments", ["", "not JSON", "[1]", '"x"', "null"])
def test_arguments_that_are_no_object_are_its_only_member_for_anthropic(arguments: str) -> None:
    call = {"id": "c", "function": {"name": "f", "arguments": arguments}}
    (block,) = to_anthropic(chat_answer("tool_calls", tool_calls=[call]))[0]["content"]
    written = {"arguments": arguments} if arguments else {}
    assert block == {"type": "tool_use", "id": "c", "name": "f", "input": written}


def test_answer_in_parts_as_mistral_gives_it() -> None:
    content = [
        {"type": "thinking", "thinking": [{"type": "text", "text": "H"}, {"type": "text", "text": "m."}]},
        {"type": "text", "text": "A"},
        {"type": "text", "text": "."},
    ]
    fields, _ = to_anthropic(chat_answer("stop", content=content))
    (thought, *texts) = fields["content"]
    assert thought["thinking"] == "Hm." and [block["text"] for block in texts] == ["A", "."]


def test_answer_that_says_nothing_is_still_an_answer() -> None:
    fields, usage = to_anthropic(chat_answer("stop", content=None))
    assert fields["content"] == [] and usage is None
    assert fields["usage"]["input_tokens"] == fields["usage"]["output_tokens"] == 0
    fields, _ = to_chat(anthropic_answer("end_turn"))
    assert fields["choices"][0]["message"] == {"role": "assistant", "content": "", "refusal": None}
    assert "usage" not in fields


@pytest.mark.parametrize(
    "content",
    [
        [None, 7, "x", []],
        [{"type": "text", "text": 7}],
        [{"type": ["text"]}],
        [{"type": "tool_use", "id": 7, "name": None, "input": [1]}],
        [{"type": "thinking"}],
        [{"type": "redacted_thinking", "data": {}}],
        [{"type": "nobody_knows", "text": "x"}],
    ],
)
def test_blocks_of_a_wrong_shape_do_no_harm(content: list[Any]) -> None:
    told = anthropic_answer("end_turn", *content, {"type": "text", "text": "kept"})
    fields, _ = to_chat(told)
    assert fields["choices"][0]["message"]["content"] == "kept"


@pytest.mark.parametrize("depth", [10, 240, 300, 1000])
def test_input_too_deep_to_be_written_makes_no_answer(depth: int) -> None:
    nested = read_object(b'{"a":' * depth + b"1" + b"}" * depth)
    told = anthropic_answer("tool_use", {"type": "tool_use", "id": "t", "name": "f", "input": nested})
    assert (speech_of(CHAT, ANTHROPIC).told(told, b"", 0.0) is None) is (depth > 254)
    arguments = (b'{"a":' * depth + b"1" + b"}" * depth).decode()
    call = {"id": "c", "function": {"name": "f", "arguments": arguments}}
    assert (speech_of(ANTHROPIC, CHAT).told(chat_answer("stop", tool_calls=[call]), b"", 0.0) is None) is (
        depth > 254
    )


@pytest.mark.parametrize(
    ("told", "tier"),
    [
        ({"inference_geo": "us"}, "us"),
        ({"inference_geo": "us", "service_tier": "standard"}, "us"),
        ({"inference_geo": "us", "speed": "fast"}, "fast"),
        ({"inference_geo": "global", "service_tier": "priority"}, "priority"),
        ({"inference_geo": "not_available"}, ""),
    ],
)
def test_where_an_answer_was_made_is_a_tier_of_prices(told: dict[str, Any], tier: str) -> None:
    usage = ANTHROPIC.read_usage({"usage": {"input_tokens": 1, "output_tokens": 1, **told}})
    assert usage is not None
    assert usage.service_tier == tier
