"""What a target cannot be told is dropped and named if nothing is lost with it; else the call is refused."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gateway.errors import UNSUPPORTED, GatewayError
from gateway.wire.conversation import DEFAULTS, HINTS, Conversation, Leftovers, Toward
from gateway.wire.dialect import ANTHROPIC, CHAT, Dialect
from gateway.wire.json import dumps
from gateway.wire.speech import read_own
from tests.wire.hub_strategies import EACH, NAMES, VALUES

HI = [{"role": "user", "content": "Hi"}]
IMAGE = {"type": "image", "source": {"type": "url", "url": "https://a.example/b.png"}}
MARK = {"type": "ephemeral"}
KNOWN_TO_ANTHROPIC = {"user", "service_tier", "temperature", "top_p", "stop"}
"""Of the hints and defaults, those that Anthropic can be told."""


def told(
    caller: Dialect, target: Dialect, fields: dict[str, Any], *, drops: bool = False
) -> tuple[dict[str, Any], list[str]]:
    """A request for the other dialect, and what was left out of it."""
    left = Leftovers("m at its provider", drops_all=drops)
    said = caller.read_request({"model": "m", "messages": HI, **fields})
    return target.write_request(said, Toward("claude-sonnet-4-5"), None, left), left.dropped


@pytest.mark.parametrize("name", sorted(HINTS - KNOWN_TO_ANTHROPIC))
def test_hints_are_dropped_and_named(name: str) -> None:
    plain, _ = told(CHAT, ANTHROPIC, {})
    assert told(CHAT, ANTHROPIC, {name: "anything"}) == (plain, [name])


@pytest.mark.parametrize(
    ("name", "value"),
    [
        (name, value)
        for name, values in DEFAULTS.items()
        if name not in {*KNOWN_TO_ANTHROPIC, "parallel_tool_calls", "stream_options"}
        for value in values
    ],
)
def test_defaults_are_dropped_and_named_and_nothing_else_of_that_name(name: str, value: Any) -> None:
    plain, _ = told(CHAT, ANTHROPIC, {})
    assert told(CHAT, ANTHROPIC, {name: value}) == (plain, [name])
    with pytest.raises(GatewayError) as caught:
        told(CHAT, ANTHROPIC, {name: "other"})
    assert caught.value.param == name


TO_ANTHROPIC: list[tuple[dict[str, Any], str]] = [
    ({"n": 2}, "n"),
    ({"n": True}, "n"),
    ({"logprobs": True}, "logprobs"),
    ({"top_logprobs": 3}, "top_logprobs"),
    ({"logit_bias": {"50256": -100}}, "logit_bias"),
    ({"frequency_penalty": 0.5}, "frequency_penalty"),
    ({"presence_penalty": -0.5}, "presence_penalty"),
    ({"temperature": 1.5}, "temperature"),
    ({"modalities": ["text", "audio"]}, "modalities"),
    ({"audio": {"voice": "alloy"}}, "audio"),
    ({"prediction": {"type": "content"}}, "prediction"),
    ({"web_search_options": {}}, "web_search_options"),
    ({"functions": []}, "functions"),
    ({"nobody_knows": 0}, "nobody_knows"),
    ({"response_format": {"type": "json_object"}}, "response_format"),
    ({"tool_choice": {"type": "allowed_tools", "allowed_tools": {}}}, "tool_choice"),
    ({"tools": [{"type": "custom", "custom": {"name": "f"}}]}, "tools[].type"),
    ({"messages": [{"role": "function", "content": "x"}]}, "messages[].role 'function'"),
    (
        {"messages": [{"role": "user", "content": [{"type": "input_audio"}]}]},
        "messages[].content[].input_audio",
    ),
    ({"messages": [{"role": "user", "content": [{"type": "video_url"}]}]}, "messages[].content[].video_url"),
    (
        {"messages": [{"role": "system", "content": [{"type": "video_url"}]}]},
        "messages[].content[].video_url",
    ),
    ({"messages": [{"role": "assistant", "function_call": {"name": "f"}}]}, "messages[].function_call"),
    ({"messages": [{"role": "assistant", "audio": {"id": "a"}}]}, "messages[].audio"),
    (
        {"messages": [{"role": "assistant", "tool_calls": [{"type": "custom"}]}]},
        "messages[].tool_calls[].custom",
    ),
]
TO_CHAT: list[tuple[dict[str, Any], str]] = [
    ({"top_k": 5}, "top_k"),
    ({"mcp_servers": []}, "mcp_servers"),
    ({"container": "c"}, "container"),
    ({"context_management": {}}, "context_management"),
    ({"tools": [{"type": "web_search_20250305", "name": "web_search"}]}, "tools[].type"),
    ({"messages": [{"role": "tool", "content": "x"}]}, "messages[].role 'tool'"),
    ({"messages": [{"role": "user", "content": [{"type": "x"}]}]}, "messages[].content[].x"),
    (
        {"messages": [{"role": "assistant", "content": [{"type": "server_tool_use"}]}]},
        "messages[].content[].server_tool_use",
    ),
    ({"messages": [{"role": "user", "content": [{"type": "image"}]}]}, "messages[].content[].source.type"),
    ({"messages": [{"role": "assistant", "content": [IMAGE]}]}, "messages[].content[].media"),
    ({"messages": [{"role": "system", "content": [IMAGE]}]}, "messages[].content[].media"),
    ({"messages": [{"role": "user", "content": [{"type": "tool_use"}]}]}, "messages[].content[].tool_call"),
    (
        {"messages": [{"role": "assistant", "content": [{"type": "tool_result"}]}]},
        "messages[].content[].tool_result",
    ),
    (
        {"messages": [{"role": "user", "content": [{"type": "document", "source": IMAGE["source"]}]}]},
        "messages[].content[].file.url",
    ),
    (
        {
            "messages": [
                {"role": "user", "content": [{"type": "image", "source": {"type": "file", "file_id": "f"}}]}
            ]
        },
        "messages[].content[].image.file_id",
    ),
]
REFUSED = [
    *((CHAT, ANTHROPIC, fields, name) for fields, name in TO_ANTHROPIC),
    *((ANTHROPIC, CHAT, fields, name) for fields, name in TO_CHAT),
]


@pytest.mark.parametrize(("caller", "target", "fields", "name"), REFUSED)
def test_what_changes_the_answer_is_refused_by_name_or_dropped_where_the_policy_says_so(
    caller: Dialect, target: Dialect, fields: dict[str, Any], name: str
) -> None:
    with pytest.raises(GatewayError) as caught:
        told(caller, target, fields)
    error = caught.value
    assert error.kind is UNSUPPORTED and error.param == name
    assert f"'{name}'" in error.message and "m at its provider" in error.message
    assert "on_unsupported: drop" in error.message
    written, dropped = told(caller, target, fields, drops=True)
    assert dropped == [name] and written["model"] == "claude-sonnet-4-5"


@pytest.mark.parametrize(
    "fields",
    [
        {"system": [{"type": "text", "text": "A.", "cache_control": MARK}]},
        {"messages": [{"role": "user", "content": [{"type": "text", "text": "Hi", "cache_control": MARK}]}]},
        {"messages": [{"role": "user", "content": [{**IMAGE, "cache_control": MARK}]}]},
        {"messages": [{"role": "assistant", "content": [{"type": "tool_use", "cache_control": MARK}]}]},
        {"messages": [{"role": "user", "content": [{"type": "tool_result", "cache_control": MARK}]}]},
        {
            "messages": [
                {
                    "role": "user",
                    "content": [
                        {
                            "type": "tool_result",
                            "content": [{"type": "text", "text": "x", "cache_control": MARK}],
                        }
                    ],
                }
            ]
        },
        {"tools": [{"name": "f", "cache_control": MARK}]},
    ],
)
def test_marks_for_caches_are_named_wherever_they_stand(fields: dict[str, Any]) -> None:
    written, dropped = told(ANTHROPIC, CHAT, fields)
    assert dropped == ["cache_control"] and b"ephemeral" not in dumps(written)


FIELDS = st.dictionaries(NAMES | st.sampled_from(sorted(HINTS - {"user"})), VALUES, max_size=4)


@EACH
@settings(max_examples=60, deadline=None)
@given(rest=FIELDS, options=FIELDS)
def test_whatever_a_call_says_is_written_named_or_refused(
    dialect: Dialect, rest: dict[str, Any], options: dict[str, Any]
) -> None:
    said = Conversation("m", rest=rest, options=options)
    left = Leftovers("it", drops_all=True)
    fields = dialect.write_request(said, Toward("m"), None, left)
    for name, value in {**rest, **options}.items():
        assert value is None or name in left.dropped or name in fields
    wanted = [name for name in left.dropped if name not in HINTS]
    if not wanted:
        assert dialect.write_request(said, Toward("m"), None, Leftovers("it")) == fields
        return
    with pytest.raises(GatewayError) as caught:
        dialect.write_request(said, Toward("m"), None, Leftovers("it"))
    assert caught.value.param in wanted


@pytest.mark.parametrize(
    "content",
    [
        [{"type": "server_tool_use", "id": "s", "name": "web_search", "input": {}}],
        [{"type": "text", "text": "x"}, IMAGE],
        [{"type": "tool_result", "tool_use_id": "t", "content": "x"}],
    ],
)
@pytest.mark.parametrize("role", ["user", "assistant", "system", "tool"])
def test_what_limits_look_at_shows_that_there_is_more_than_text(role: str, content: list[Any]) -> None:
    body = dumps({"model": "m", "max_tokens": 9, "messages": [{"role": role, "content": content}]})
    shown: set[str] = set()
    for message in read_own(ANTHROPIC, body).fields["messages"]:
        told = message["content"]
        shown |= {message["role"]} | ({part["type"] for part in told} if type(told) is list else set())
    assert shown - {"user", "assistant", "system", "text"}
