"""Requests between chat's dialect and Anthropic's, notion by notion, as both references have them."""

from __future__ import annotations

from typing import Any

import pytest

from tests.wire.dialects.both_ways import HI, OLDER, SCHEMA, TOOLS, called, to_anthropic, to_chat


def test_chat_with_everything_as_anthropic_has_it() -> None:
    image = "data:image/png;base64,iVBORw0KGgo="
    fields, dropped = to_anthropic(
        {
            "messages": [
                {"role": "system", "content": "You know rivers."},
                {"role": "developer", "content": [{"type": "text", "text": "Be short."}]},
                {
                    "role": "user",
                    "content": [
                        {"type": "text", "text": "What is this?"},
                        {"type": "image_url", "image_url": {"url": image, "detail": "low"}},
                        {"type": "image_url", "image_url": {"url": "https://a.example/b.jpg"}},
                        {
                            "type": "file",
                            "file": {
                                "filename": "map.pdf",
                                "file_data": "data:application/pdf;base64,JVBERi0=",
                            },
                        },
                    ],
                },
                {
                    "role": "assistant",
                    "content": "I will look.",
                    "tool_calls": [
                        called("call_1", "look", '{"name": "Elbe"}'),
                        called("call_2", "list", ""),
                    ],
                },
                {"role": "tool", "tool_call_id": "call_1", "content": "1,094 km"},
                {"role": "tool", "tool_call_id": "call_2", "content": [{"type": "text", "text": "none"}]},
                {"role": "user", "content": "And now?"},
            ],
            "tools": [
                {
                    "type": "function",
                    "function": {
                        "name": "look",
                        "description": "Looks.",
                        "parameters": SCHEMA,
                        "strict": True,
                    },
                },
                {"type": "function", "function": {"name": "list"}},
            ],
            "tool_choice": "required",
            "parallel_tool_calls": False,
            "max_completion_tokens": 500,
            "temperature": 0.5,
            "top_p": 0.9,
            "stop": "END",
            "stream": True,
            "stream_options": {"include_usage": True},
            "user": "u-7",
            "service_tier": "default",
            "response_format": {"type": "json_schema", "json_schema": {"name": "r", "schema": SCHEMA}},
        }
    )
    assert dropped == []
    assert fields == {
        "model": OLDER,
        "max_tokens": 500,
        "system": [{"type": "text", "text": "You know rivers."}, {"type": "text", "text": "Be short."}],
        "messages": [
            {
                "role": "user",
                "content": [
                    {"type": "text", "text": "What is this?"},
                    {
                        "type": "image",
                        "source": {"type": "base64", "media_type": "image/png", "data": "iVBORw0KGgo="},
                    },
                    {"type": "image", "source": {"type": "url", "url": "https://a.example/b.jpg"}},
                    {
                        "type": "document",
                        "source": {"type": "base64", "media_type": "application/pdf", "data": "JVBERi0="},
                        "title": "map.pdf",
                    },
                ],
            },
            {
                "role": "assistant",
                "content": [
                    {"type": "text", "text": "I will look."},
                    {"type": "tool_use", "id": "call_1", "name": "look", "input": {"name": "Elbe"}},
                    {"type": "tool_use", "id": "call_2", "name": "list", "input": {}},
                ],
            },
            {
                "role": "user",
                "content": [
                    {"type": "tool_result", "tool_use_id": "call_1", "content": "1,094 km"},
                    {"type": "tool_result", "tool_use_id": "call_2", "content": "none"},
                    {"type": "text", "text": "And now?"},
                ],
            },
        ],
        "tools": [
            {"name": "look", "description": "Looks.", "input_schema": SCHEMA, "strict": True},
            {"name": "list", "input_schema": {"type": "object", "properties": {}}},
        ],
        "tool_choice": {"type": "any", "disable_parallel_tool_use": True},
        "temperature": 0.5,
        "top_p": 0.9,
        "stop_sequences": ["END"],
        "stream": True,
        "metadata": {"user_id": "u-7"},
        "service_tier": "standard_only",
        "output_config": {"format": {"type": "json_schema", "schema": SCHEMA}},
    }


def test_anthropic_with_everything_as_chat_has_it() -> None:
    marked = {"type": "ephemeral"}
    fields, dropped = to_chat(
        {
            "system": [
                {"type": "text", "text": "A."},
                {"type": "text", "text": "B.", "cache_control": marked},
            ],
            "messages": [
                {
                    "role": "user",
                    "content": [
                        {"type": "text", "text": "What is this?"},
                        {
                            "type": "image",
                            "source": {"type": "base64", "media_type": "image/png", "data": "iVBORw0KGgo="},
                        },
                        {"type": "image", "source": {"type": "url", "url": "https://a.example/b.jpg"}},
                        {
                            "type": "document",
                            "source": {"type": "base64", "media_type": "application/pdf", "data": "JVBERi0="},
                            "title": "map.pdf",
                        },
                        {
                            "type": "document",
                            "source": {"type": "text", "media_type": "text/plain", "data": "A map."},
                        },
                    ],
                },
                {
                    "role": "assistant",
                    "content": [
                        {"type": "thinking", "thinking": "Hm.", "signature": "c2ln"},
                        {"type": "text", "text": "I will look."},
                        {"type": "tool_use", "id": "toolu_1", "name": "look", "input": {"name": "Elbe"}},
                    ],
                },
                {
                    "role": "user",
                    "content": [
                        {
                            "type": "tool_result",
                            "tool_use_id": "toolu_1",
                            "is_error": True,
                            "content": [
                                {"type": "text", "text": "no"},
                                {"type": "text", "text": "river"},
                                {
                                    "type": "image",
                                    "source": {"type": "url", "url": "https://a.example/c.png"},
                                },
                            ],
                        },
                        {"type": "text", "text": "And now?"},
                    ],
                },
            ],
            "tools": [{"name": "look", "description": "Looks.", "input_schema": SCHEMA}],
            "tool_choice": {"type": "tool", "name": "look", "disable_parallel_tool_use": True},
            "max_tokens": 500,
            "temperature": 0.5,
            "top_p": 0.9,
            "stop_sequences": ["END", "STOP"],
            "stream": True,
            "metadata": {"user_id": "u-7"},
            "service_tier": "standard_only",
            "output_config": {"format": {"type": "json_schema", "schema": SCHEMA}},
        }
    )
    assert dropped == ["cache_control", "thinking", "is_error"]
    assert fields == {
        "model": "gpt-5",
        "max_completion_tokens": 500,
        "messages": [
            {"role": "system", "content": "A.\n\nB."},
            {
                "role": "user",
                "content": [
                    {"type": "text", "text": "What is this?"},
                    {"type": "image_url", "image_url": {"url": "data:image/png;base64,iVBORw0KGgo="}},
                    {"type": "image_url", "image_url": {"url": "https://a.example/b.jpg"}},
                    {
                        "type": "file",
                        "file": {"filename": "map.pdf", "file_data": "data:application/pdf;base64,JVBERi0="},
                    },
                    {"type": "text", "text": "A map."},
                ],
            },
            {
                "role": "assistant",
                "content": "I will look.",
                "tool_calls": [called("toolu_1", "look", '{"name":"Elbe"}')],
            },
            {"role": "tool", "tool_call_id": "toolu_1", "content": "no\nriver"},
            {
                "role": "user",
                "content": [
                    {"type": "image_url", "image_url": {"url": "https://a.example/c.png"}},
                    {"type": "text", "text": "And now?"},
                ],
            },
        ],
        "tools": [
            {"type": "function", "function": {"name": "look", "description": "Looks.", "parameters": SCHEMA}}
        ],
        "tool_choice": {"type": "function", "function": {"name": "look"}},
        "parallel_tool_calls": False,
        "temperature": 0.5,
        "top_p": 0.9,
        "stop": ["END", "STOP"],
        "stream": True,
        "stream_options": {"include_usage": True},
        "user": "u-7",
        "service_tier": "default",
        "response_format": {
            "type": "json_schema",
            "json_schema": {"name": "answer", "schema": SCHEMA, "strict": True},
        },
    }


@pytest.mark.parametrize(
    ("chat", "anthropic"),
    [
        ("auto", {"type": "auto"}),
        ("none", {"type": "none"}),
        ("required", {"type": "any"}),
        ({"type": "function", "function": {"name": "f"}}, {"type": "tool", "name": "f"}),
    ],
)
def test_choice_of_tools_both_ways(chat: Any, anthropic: Any) -> None:
    assert to_anthropic({"tools": TOOLS, "tool_choice": chat})[0]["tool_choice"] == anthropic
    assert to_chat({"tools": [{"name": "f"}], "tool_choice": anthropic})[0]["tool_choice"] == chat


def test_one_tool_at_a_time_is_said_without_a_choice() -> None:
    fields, _ = to_anthropic({"tools": TOOLS, "parallel_tool_calls": False})
    assert fields["tool_choice"] == {"type": "auto", "disable_parallel_tool_use": True}
    fields, _ = to_anthropic({"tools": TOOLS, "tool_choice": "none", "parallel_tool_calls": False})
    assert fields["tool_choice"] == {"type": "none"}
    assert "tool_choice" not in to_anthropic({"tools": TOOLS, "parallel_tool_calls": True})[0]


@pytest.mark.parametrize(
    ("asked", "limits", "most", "written"),
    [
        ({}, None, None, 4096),
        ({}, None, 100, 100),
        ({"max_tokens": 50}, None, 100, 50),
        ({"max_tokens": 50, "max_completion_tokens": 60}, None, None, 60),
        ({"max_tokens": 50}, 20, 100, 20),
    ],
)
def test_anthropic_always_gets_a_cap(
    asked: dict[str, int], limits: int | None, most: int | None, written: int
) -> None:
    assert to_anthropic(asked, cap=limits, max_output=most)[0]["max_tokens"] == written


def test_instructions_amid_a_conversation_are_put_with_the_first() -> None:
    messages = [{"role": "system", "content": "A."}, *HI, {"role": "developer", "content": "B."}, *HI]
    fields, _ = to_anthropic({"messages": messages})
    assert fields["system"] == [{"type": "text", "text": "A."}, {"type": "text", "text": "B."}]
    assert fields["messages"] == [
        {"role": "user", "content": [{"type": "text", "text": "Hi"}, {"type": "text", "text": "Hi"}]}
    ]


def test_empty_texts_are_left_out_for_anthropic_refuses_them() -> None:
    messages = [{"role": "user", "content": ""}, {"role": "user", "content": [{"type": "text", "text": ""}]}]
    fields, _ = to_anthropic({"messages": [*messages, {"role": "assistant", "content": None}, *HI]})
    assert fields["messages"] == [{"role": "user", "content": "Hi"}]


def test_results_come_first_in_their_turn() -> None:
    messages = [
        {"role": "assistant", "tool_calls": [called("c", "f", "{}")]},
        {"role": "user", "content": "Well?"},
        {"role": "tool", "tool_call_id": "c", "content": "so"},
    ]
    _, turn = to_anthropic({"messages": messages})[0]["messages"]
    assert [block["type"] for block in turn["content"]] == ["tool_result", "text"]


def test_arguments_that_are_no_object_are_kept_as_text() -> None:
    message = {"role": "assistant", "tool_calls": [called("c", "f", "[1"), called("d", "f", " ")]}
    (turn,) = to_anthropic({"messages": [message]})[0]["messages"]
    assert [block["input"] for block in turn["content"]] == [{"arguments": "[1"}, {}]


def test_sealed_thoughts_go_back_to_anthropic_and_others_do_not() -> None:
    blocks = [
        {"type": "thinking", "thinking": "Hm.", "signature": "c2ln"},
        {"type": "redacted_thinking", "data": "eA=="},
    ]
    message = {"role": "assistant", "content": "A.", "reasoning_content": "Hm.", "thinking_blocks": blocks}
    fields, dropped = to_anthropic({"messages": [message]})
    assert fields["messages"][0]["content"] == [*blocks, {"type": "text", "text": "A."}]
    assert dropped == []
    fields, dropped = to_anthropic({"messages": [{**message, "thinking_blocks": None}]})
    assert fields["messages"][0]["content"] == [{"type": "text", "text": "A."}]
    assert dropped == ["reasoning"]


def test_marks_for_caches_pass_from_chat_to_anthropic() -> None:
    mark = {"type": "ephemeral", "ttl": "1h"}
    part = {"type": "text", "text": "Hi", "cache_control": mark}
    fields, _ = to_anthropic(
        {
            "messages": [{"role": "system", "content": [part]}, {"role": "user", "content": [part]}],
            "tools": [{**TOOLS[0], "cache_control": mark}],
        }
    )
    assert fields["system"] == [part] and fields["messages"][0]["content"] == [part]
    assert fields["tools"][0]["cache_control"] == mark
