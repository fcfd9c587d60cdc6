"""Requests between the Responses API and the other dialects, as the references have them."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gateway.errors import GatewayError
from gateway.wire.conversation import Leftovers, Toward
from gateway.wire.dialect import ANTHROPIC, CHAT, RESPONSES, Dialect
from gateway.wire.json import dumps
from gateway.wire.speech import read_own, speech_of

SCHEMA = {"type": "object", "properties": {"name": {"type": "string"}}, "required": ["name"]}
TOOL = {"type": "function", "name": "look_up", "description": "Looks.", "parameters": SCHEMA, "strict": True}
CALL = {"type": "function_call", "call_id": "call_1", "name": "look_up", "arguments": '{"name":"Elbe"}'}
RESULT = {"type": "function_call_output", "call_id": "call_1", "output": "1,094 km"}
PNG = "data:image/png;base64,aGk="


def told(
    fields: dict[str, Any], caller: Dialect, target: Dialect, cap: int | None = None, **toward: Any
) -> tuple[dict[str, Any], list[str]]:
    """A caller's request as a target has it, and what was left out."""
    left = Leftovers("it")
    said = caller.read_request({"model": "m", **fields})
    return target.write_request(said, Toward("t", **toward), cap, left), left.dropped


def to_chat(**fields: Any) -> tuple[dict[str, Any], list[str]]:
    return told({"input": "Hi", **fields}, RESPONSES, CHAT)


def from_chat(**fields: Any) -> tuple[dict[str, Any], list[str]]:
    return told({"messages": [{"role": "user", "content": "Hi"}], **fields}, CHAT, RESPONSES)


# as a caller


def test_a_conversation_with_everything_in_it_becomes_messages() -> None:
    asked = [
        {"role": "developer", "content": "Be brief."},
        {
            "role": "user",
            "content": [
                {"type": "input_text", "text": "What is this?"},
                {"type": "input_image", "image_url": PNG, "detail": "low"},
                {"type": "input_audio", "input_audio": {"data": "aGk=", "format": "wav"}},
                {"type": "input_file", "filename": "a.pdf", "file_data": "data:application/pdf;base64,aGk="},
            ],
        },
        {"type": "reasoning", "id": "rs_1", "summary": [{"type": "summary_text", "text": "Hm."}]},
        {
            "type": "message",
            "role": "assistant",
            "content": [{"type": "output_text", "text": "I look.", "annotations": []}],
        },
        CALL,
        {**CALL, "call_id": "call_2"},
        RESULT,
        {**RESULT, "call_id": "call_2", "output": [{"type": "input_text", "text": "866 km"}]},
        {"role": "assistant", "content": [{"type": "refusal", "refusal": "No."}]},
        {"role": "system", "content": "Now in German."},
        {"role": "user", "content": "Why?"},
    ]
    fields, dropped = to_chat(input=asked, instructions="You know rivers.")
    function = {"name": "look_up", "arguments": '{"name":"Elbe"}'}
    assert fields["messages"] == [
        {"role": "system", "content": "You know rivers.\n\nBe brief."},
        {
            "role": "user",
            "content": [
                {"type": "text", "text": "What is this?"},
                {"type": "image_url", "image_url": {"url": PNG, "detail": "low"}},
                {"type": "input_audio", "input_audio": {"data": "aGk=", "format": "wav"}},
                {
                    "type": "file",
                    "file": {"filename": "a.pdf", "file_data": "data:application/pdf;base64,aGk="},
                },
            ],
        },
        {
            "role": "assistant",
            "content": "I look.",
            "tool_calls": [
                {"id": "call_1", "type": "function", "function": function},
                {"id": "call_2", "type": "function", "function": function},
            ],
        },
        {"role": "tool", "tool_call_id": "call_1", "content": "1,094 km"},
        {"role": "tool", "tool_call_id": "call_2", "content": "866 km"},
        {"role": "assistant", "content": None, "refusal": "No."},
        {"role": "system", "content": "Now in German."},
        {"role": "user", "content": "Why?"},
    ]
    assert dropped == ["thinking"]


def test_all_that_chat_knows_too_is_said_in_its_words() -> None:
    form = {"type": "json_schema", "name": "river", "schema": SCHEMA, "strict": True, "description": "One."}
    fields, dropped = told(
        {
            "input": "Hi",
            "include": ["message.output_text.logprobs", "reasoning.encrypted_content"],
            "max_output_tokens": 64,
            "metadata": {"a": "b"},
            "parallel_tool_calls": False,
            "prompt_cache_key": "k",
            "reasoning": {"effort": "low"},
            "safety_identifier": "s",
            "service_tier": "flex",
            "store": True,
            "stream": True,
            "temperature": 0.5,
            "text": {"format": form, "verbosity": "low"},
            "tool_choice": {"type": "function", "name": "look_up"},
            "tools": [TOOL],
            "top_logprobs": 2,
            "top_p": 0.9,
            "user": "u",
        },
        RESPONSES,
        CHAT,
        reasons=True,
    )
    described = {name: TOOL[name] for name in ("name", "description", "parameters", "strict")}
    assert fields == {
        "model": "t",
        "messages": [{"role": "user", "content": "Hi"}],
        "logprobs": True,
        "max_completion_tokens": 64,
        "metadata": {"a": "b"},
        "parallel_tool_calls": False,
        "prompt_cache_key": "k",
        "reasoning_effort": "low",
        "response_format": {
            "type": "json_schema",
            "json_schema": {name: value for name, value in form.items() if name != "type"},
        },
        "safety_identifier": "s",
        "service_tier": "flex",
        "store": True,
        "stream": True,
        "stream_options": {"include_usage": True},
        "temperature": 0.5,
        "tool_choice": {"type": "function", "function": {"name": "look_up"}},
        "tools": [{"type": "function", "function": described}],
        "top_logprobs": 2,
        "top_p": 0.9,
        "user": "u",
        "verbosity": "low",
    }
    assert dropped == []


@pytest.mark.parametrize(
    ("more", "named"),
    [
        ({"previous_response_id": "resp_1"}, "previous_response_id"),
        ({"conversation": "conv_1"}, "conversation"),
        ({"background": True}, "background"),
        ({"prompt": {"id": "pmpt_1"}}, "prompt"),
        ({"truncation": "auto"}, "truncation"),
        ({"include": ["file_search_call.results"]}, "include"),
        ({"tools": [{"type": "web_search"}]}, "tools[].type"),
        ({"tool_choice": {"type": "file_search"}}, "tool_choice"),
        ({"text": {"format": {"type": "grammar"}}}, "text.format"),
        ({"reasoning": {"mode": "pro"}}, "reasoning.mode"),
        ({"input": [{"type": "item_reference", "id": "msg_1"}]}, "input[].item_reference"),
        ({"input": [{"id": "msg_1"}]}, "input[].item_reference"),
        ({"input": [{"type": "mcp_call", "id": "mcp_1"}]}, "input[].mcp_call"),
        ({"input": [{"role": "user", "content": [{"type": "video"}]}]}, "input[].content[].video"),
        ({"input": [{"role": "critic", "content": "x"}]}, "input[].role 'critic'"),
        ({"no_such_field": 1}, "no_such_field"),
    ],
)
@pytest.mark.parametrize("target", [CHAT, ANTHROPIC], ids=["chat", "anthropic"])
def test_what_other_dialects_have_no_word_for_is_refused_by_name(
    more: dict[str, Any], named: str, target: Dialect
) -> None:
    with pytest.raises(GatewayError) as caught:
        told({"input": "Hi", **more}, RESPONSES, target)
    assert (caught.value.kind.status, caught.value.kind.code) == (400, "unsupported_parameter")
    assert caught.value.param == named


def test_what_would_hold_anyway_is_left_out() -> None:
    fields, dropped = to_chat(
        background=False, include=[], truncation="disabled", stream_options={"include_obfuscation": False}
    )
    assert fields == {"model": "t", "messages": [{"role": "user", "content": "Hi"}]}
    assert sorted(dropped) == ["background", "stream_options", "truncation"]


@pytest.mark.parametrize(
    ("fields", "param"),
    [
        ({"input": 5}, "input"),
        ({"input": ["x"]}, "input[0]"),
        ({"input": [{"role": 5}]}, "input[0].role"),
        ({"input": [{"role": "user", "content": 5}]}, "input[0].content"),
        ({"input": [{"role": "user", "content": ["x"]}]}, "input[0].content[0]"),
        ({"instructions": []}, "instructions"),
        ({"include": "all"}, "include"),
        ({"max_output_tokens": "many"}, "max_output_tokens"),
        ({"max_output_tokens": True}, "max_output_tokens"),
        ({"reasoning": "low"}, "reasoning"),
        ({"text": "json"}, "text"),
        ({"tools": {}}, "tools"),
        ({"tool_choice": 5}, "tool_choice"),
        ({"stream": "yes"}, "stream"),
    ],
)
def test_what_has_the_wrong_type_is_refused_by_name(fields: dict[str, Any], param: str) -> None:
    with pytest.raises(GatewayError) as caught:
        read_own(RESPONSES, dumps({"model": "m", "input": "Hi", **fields}))
    assert (caught.value.kind.status, caught.value.param) == (400, param)


# as a target


def test_chat_becomes_items() -> None:
    function = {"name": "look_up", "arguments": '{"name":"Elbe"}'}
    calls = [
        {"id": "call_1", "type": "function", "function": function},
        {"id": "call_2", "type": "function", "function": function},
    ]
    fields, dropped = from_chat(
        messages=[
            {"role": "system", "content": "You know rivers."},
            {
                "role": "user",
                "content": [
                    {"type": "text", "text": "What is this?"},
                    {"type": "image_url", "image_url": {"url": PNG}},
                    {"type": "file", "file": {"file_data": "data:application/pdf;base64,aGk="}},
                ],
            },
            {"role": "assistant", "content": "I look.", "tool_calls": calls},
            {"role": "tool", "tool_call_id": "call_1", "content": "1,094 km"},
            {"role": "tool", "tool_call_id": "call_2", "content": ""},
            {"role": "assistant", "refusal": "No.", "reasoning_content": "Hm."},
            {"role": "developer", "content": "Now in German."},
            {"role": "user", "content": "Why?"},
        ],
    )
    assert fields == {
        "model": "t",
        "store": False,
        "instructions": "You know rivers.",
        "input": [
            {
                "role": "user",
                "content": [
                    {"type": "input_text", "text": "What is this?"},
                    {"type": "input_image", "detail": "auto", "image_url": PNG},
                    {
                        "type": "input_file",
                        "filename": "file.pdf",
                        "file_data": "data:application/pdf;base64,aGk=",
                    },
                ],
            },
            {"role": "assistant", "content": "I look."},
            CALL,
            {**CALL, "call_id": "call_2"},
            RESULT,
            {**RESULT, "call_id": "call_2", "output": ""},
            {"type": "message", "role": "assistant", "content": [{"type": "refusal", "refusal": "No."}]},
            {"role": "system", "content": "Now in German."},
            {"role": "user", "content": "Why?"},
        ],
    }
    assert dropped == ["thinking"]


def test_all_that_the_responses_api_knows_is_said_in_its_words() -> None:
    tool = {"type": "function", "function": {"name": "look_up", "parameters": SCHEMA}}
    form = {"name": "river", "schema": SCHEMA, "strict": True}
    fields, dropped = told(
        {
            "messages": [{"role": "user", "content": "Hi"}],
            "logprobs": True,
            "max_tokens": 64,
            "metadata": {"a": "b"},
            "parallel_tool_calls": False,
            "reasoning_effort": "low",
            "response_format": {"type": "json_schema", "json_schema": form},
            "seed": 7,
            "store": True,
            "stream": True,
            "stream_options": {"include_usage": True},
            "temperature": 0.5,
            "tool_choice": {"type": "function", "function": {"name": "look_up"}},
            "tools": [tool],
            "top_logprobs": 2,
            "user": "u",
            "verbosity": "low",
        },
        CHAT,
        RESPONSES,
        reasons=True,
    )
    assert fields == {
        "model": "t",
        "input": [{"role": "user", "content": "Hi"}],
        "include": ["reasoning.encrypted_content", "message.output_text.logprobs"],
        "max_output_tokens": 64,
        "metadata": {"a": "b"},
        "parallel_tool_calls": False,
        "reasoning": {"effort": "low"},
        "store": True,
        "stream": True,
        "temperature": 0.5,
        "text": {"format": {"type": "json_schema", **form}, "verbosity": "low"},
        "tool_choice": {"type": "function", "name": "look_up"},
        # Strict is what says nothing here; in chat it is not.
        "tools": [{"type": "function", "name": "look_up", "parameters": SCHEMA, "strict": False}],
        "top_logprobs": 2,
        "user": "u",
    }
    assert dropped == ["seed"]


@pytest.mark.parametrize(
    ("more", "named"),
    [
        ({"stop": "x"}, "stop"),
        ({"n": 2}, "n"),
        ({"frequency_penalty": 1.5}, "frequency_penalty"),
        ({"logit_bias": {"5": 1}}, "logit_bias"),
        ({"modalities": ["text", "audio"]}, "modalities"),
        ({"web_search_options": {}}, "web_search_options"),
        ({"tools": [{"type": "custom", "custom": {"name": "x"}}]}, "tools[].type"),
    ],
)
def test_what_the_responses_api_has_no_word_for_is_refused_by_name(more: dict[str, Any], named: str) -> None:
    with pytest.raises(GatewayError) as caught:
        from_chat(**more)
    assert (caught.value.kind.code, caught.value.param) == ("unsupported_parameter", named)


def test_the_cap_of_limits_wins() -> None:
    fields, _ = told({"messages": [], "max_tokens": 64}, CHAT, RESPONSES, cap=32)
    assert fields["max_output_tokens"] == 32


def test_a_model_that_does_not_reason_is_asked_for_no_effort() -> None:
    fields, dropped = from_chat(reasoning_effort="low")
    assert "reasoning" not in fields
    assert "include" not in fields
    assert dropped == ["thinking"]


@pytest.mark.parametrize(("budget", "effort"), [(1024, "low"), (8192, "medium"), (32768, "high")])
def test_a_budget_to_think_becomes_an_effort(budget: int, effort: str) -> None:
    thinking = {"type": "enabled", "budget_tokens": budget}
    asked = {"messages": [], "max_tokens": 64_000, "thinking": thinking}
    fields, _ = told(asked, ANTHROPIC, RESPONSES, reasons=True)
    assert fields["reasoning"] == {"effort": effort}


def test_marks_for_caches_and_errors_of_tools_are_left_out() -> None:
    mark = {"cache_control": {"type": "ephemeral"}}
    content = [
        {"type": "tool_result", "tool_use_id": "t1", "is_error": True, "content": "lost"},
        {"type": "text", "text": "Hi", **mark},
    ]
    call = {"type": "tool_use", "id": "t1", "name": "f", "input": {}}
    messages = [{"role": "assistant", "content": [call]}, {"role": "user", "content": content}]
    fields, dropped = told({"messages": messages, "max_tokens": 64}, ANTHROPIC, RESPONSES)
    assert fields["input"] == [
        {"type": "function_call", "call_id": "t1", "name": "f", "arguments": "{}"},
        {"type": "function_call_output", "call_id": "t1", "output": "lost"},
        {"role": "user", "content": "Hi"},
    ]
    assert sorted(dropped) == ["cache_control", "is_error"]


# relayed


def relayed(**fields: Any) -> bytes:
    call = read_own(RESPONSES, dumps({"model": "m", "input": "Hi", **fields}))
    body, dropped = speech_of(RESPONSES, RESPONSES).body(call, Toward("t"), ("max_tokens", 32))
    assert not dropped
    return body


def test_a_call_goes_on_as_it_came_but_for_its_model_and_its_cap() -> None:
    body = relayed(tools=[{"type": "web_search"}], truncation="auto", text={"verbosity": "low"})
    assert body == dumps(
        {
            "model": "t",
            "input": "Hi",
            "tools": [{"type": "web_search"}],
            "truncation": "auto",
            "text": {"verbosity": "low"},
            "max_output_tokens": 32,
        }
    )


@pytest.mark.parametrize(
    ("more", "named"),
    [
        ({"conversation": {"id": "conv_1"}}, "conversation"),
        ({"background": True, "stream": True}, "stream"),
        ({"prompt": {"id": "pmpt_1"}}, "prompt"),
        ({"input": [{"type": "item_reference", "id": "msg_1"}]}, "input[].item_reference"),
        ({"input": [{"id": "msg_1"}]}, "input[].item_reference"),
        ({"input": [{"type": None, "id": "msg_1"}]}, "input[].item_reference"),
        ({"tools": [{"type": "file_search", "vector_store_ids": ["vs_1"]}]}, "tools[].vector_store_ids"),
        ({"tools": [{"type": "code_interpreter", "container": "cntr_1"}]}, "tools[].container"),
        (
            {"tools": [{"type": "code_interpreter", "container": {"type": "auto", "file_ids": ["file-1"]}}]},
            "tools[].file_ids",
        ),
        (
            {
                "tools": [
                    {"type": "shell", "environment": {"type": "container_reference", "container_id": "c"}}
                ]
            },
            "tools[].container_id",
        ),
    ],
)
def test_what_keeps_state_at_a_provider_is_refused_by_name(more: dict[str, Any], named: str) -> None:
    with pytest.raises(GatewayError) as caught:
        relayed(**more)
    assert (caught.value.kind.status, caught.value.kind.code) == (400, "unsupported_parameter")
    assert caught.value.param == named


def test_functions_may_speak_of_stores_and_containers() -> None:
    tool = {**TOOL, "parameters": {**SCHEMA, "vector_store_ids": ["x"]}, "container": "x"}
    assert b"vector_store_ids" in relayed(tools=[tool], background=False, previous_response_id=None)


# hostile

VALUES = st.recursive(
    st.none() | st.booleans() | st.integers(-5, 5) | st.floats(allow_nan=False) | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=8,
)
FIELDS = [
    "background",
    "conversation",
    "include",
    "input",
    "instructions",
    "max_output_tokens",
    "parallel_tool_calls",
    "previous_response_id",
    "reasoning",
    "service_tier",
    "store",
    "stream",
    "text",
    "tool_choice",
    "tools",
    "top_logprobs",
    "truncation",
]
ITEM_TYPES = st.sampled_from(
    ["message", "function_call", "function_call_output", "reasoning", "item_reference", "x"]
)
PART_TYPES = st.sampled_from(["input_text", "input_image", "input_file", "input_audio", "refusal", "x"])
PART_FIELDS = ("text", "image_url", "file_data", "file_url", "file_id", "input_audio", "refusal")
PARTS = st.fixed_dictionaries(
    {"type": PART_TYPES | VALUES},
    optional=dict.fromkeys(
        ("text", "image_url", "file_data", "file_url", "file_id", "input_audio", "refusal"), VALUES
    ),
)
ITEMS = st.fixed_dictionaries(
    {"type": ITEM_TYPES | VALUES},
    optional={
        "role": st.sampled_from(["user", "assistant", "system"]) | VALUES,
        "content": st.lists(PARTS, max_size=2) | VALUES,
        "output": st.lists(PARTS, max_size=2) | VALUES,
        **dict.fromkeys(("id", "call_id", "name", "arguments", "summary", "encrypted_content"), VALUES),
    },
)
TOOLS = st.fixed_dictionaries(
    {"type": st.sampled_from(["function", "file_search"]) | VALUES},
    optional=dict.fromkeys(("name", "parameters", "strict", "container", "environment"), VALUES),
)


@settings(max_examples=300, deadline=None)
@given(
    st.dictionaries(st.sampled_from(FIELDS), VALUES, max_size=4),
    st.lists(ITEMS, max_size=3),
    st.lists(TOOLS, max_size=2),
)
def test_hostile_requests_are_refused_and_nothing_else(
    fields: dict[str, Any], items: list[Any], tools: list[Any]
) -> None:
    body = dumps({"input": items, "tools": tools, **fields, "model": "m"})
    for target in (CHAT, ANTHROPIC, RESPONSES):
        try:
            call = read_own(RESPONSES, body)
            speech_of(RESPONSES, target).body(call, Toward("t", reasons=True), None)
        except GatewayError as error:
            assert error.kind.status == 400
