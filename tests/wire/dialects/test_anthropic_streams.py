"""Streams between Anthropic's dialect and chat's, event by event, as both references have them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import pytest

from gateway.usage import Usage
from gateway.wire.dialect import ANTHROPIC, CHAT, Dialect
from gateway.wire.json import dumps, read_object
from gateway.wire.translated import EventStream, TranslatedStream
from tests.wire.hub_strategies import data_in, translated

DONE = b"data: [DONE]\n\n"
PING = b'event: ping\ndata: {"type": "ping"}\n\n'


def named(*told: Mapping[str, Any]) -> bytes:
    """Anthropic's events, with blanks before the last brace."""
    return b"".join(
        b"event: %b\ndata: %b  }\n\n" % (each["type"].encode(), dumps(each)[:-1]) for each in told
    )


def block(index: int, start: Mapping[str, Any], *deltas: Mapping[str, Any]) -> bytes:
    return named(
        {"type": "content_block_start", "index": index, "content_block": start},
        *({"type": "content_block_delta", "index": index, "delta": delta} for delta in deltas),
        {"type": "content_block_stop", "index": index},
    )


def began(**usage: Any) -> bytes:
    message = {
        "id": "msg_01",
        "type": "message",
        "role": "assistant",
        "model": "claude-sonnet-4-5",
        "content": [],
        "stop_reason": None,
        "stop_sequence": None,
        "usage": usage,
    }
    return named({"type": "message_start", "message": message})


def ended(reason: str, **usage: Any) -> bytes:
    delta = {"stop_reason": reason, "stop_sequence": None}
    return named({"type": "message_delta", "delta": delta, "usage": usage}, {"type": "message_stop"})


def text_block(index: int, *texts: str) -> bytes:
    deltas = [{"type": "text_delta", "text": text} for text in texts]
    return block(index, {"type": "text", "text": ""}, *deltas)


def chunks(*told: tuple[Mapping[str, Any], str | None], usage: Mapping[str, Any] | None = None) -> bytes:
    """A chat stream of (delta, finish_reason)."""
    head = {"id": "chatcmpl-7", "object": "chat.completion.chunk", "created": 7, "model": "gpt-4o"}
    found = [
        {**head, "choices": [{"index": 0, "delta": delta, "finish_reason": reason}]} for delta, reason in told
    ]
    found += [{**head, "choices": [], "usage": usage}] if usage else []
    return b"".join(b"data: %b\n\n" % dumps(each) for each in found) + DONE


ANTHROPIC_STREAM = (
    began(input_tokens=5, cache_creation_input_tokens=20, cache_read_input_tokens=300, output_tokens=1)
    + PING
    + block(
        0,
        {"type": "thinking", "thinking": "", "signature": ""},
        {"type": "thinking_delta", "thinking": "Where "},
        {"type": "thinking_delta", "thinking": "is it?"},
        {"type": "signature_delta", "signature": "c2ln"},
    )
    + text_block(1, "I will ", "look.")
    + block(
        2,
        {"type": "tool_use", "id": "toolu_1", "name": "look", "input": {}},
        {"type": "input_json_delta", "partial_json": ""},
        {"type": "input_json_delta", "partial_json": '{"name": "El'},
        {"type": "input_json_delta", "partial_json": 'be"}'},
    )
    + ended("tool_use", output_tokens=70, output_tokens_details={"thinking_tokens": 30})
)


def test_anthropic_stream_with_thoughts_text_call_and_caches_as_chat_has_it() -> None:
    passing, out = translated(ANTHROPIC, CHAT, [ANTHROPIC_STREAM])
    head = {"id": "msg_01", "object": "chat.completion.chunk", "created": 0, "model": "claude-sonnet-4-5"}

    def chunk(delta: Mapping[str, Any], reason: str | None = None) -> dict[str, Any]:
        choice = {"index": 0, "delta": delta, "logprobs": None, "finish_reason": reason}
        return {**head, "choices": [choice]}

    function = {"name": "look", "arguments": ""}
    sealed = {"type": "thinking", "thinking": "Where is it?", "signature": "c2ln"}
    *told, last = data_in(out)
    assert last == b"[DONE]"
    assert [read_object(each) for each in told] == [
        chunk({"role": "assistant", "content": ""}),
        chunk({"reasoning_content": "Where "}),
        chunk({"reasoning_content": "is it?"}),
        chunk({"thinking_blocks": [sealed]}),
        chunk({"content": "I will "}),
        chunk({"content": "look."}),
        chunk({"tool_calls": [{"index": 0, "id": "toolu_1", "type": "function", "function": function}]}),
        chunk({"tool_calls": [{"index": 0, "function": {"arguments": ""}}]}),
        chunk({"tool_calls": [{"index": 0, "function": {"arguments": '{"name": "El'}}]}),
        chunk({"tool_calls": [{"index": 0, "function": {"arguments": 'be"}'}}]}),
        chunk({}, "tool_calls"),
        {
            **head,
            "choices": [],
            "usage": {
                "prompt_tokens": 325,
                "completion_tokens": 70,
                "total_tokens": 395,
                "prompt_tokens_details": {"cached_tokens": 300, "cache_write_tokens": 20, "audio_tokens": 0},
                "completion_tokens_details": {"reasoning_tokens": 30, "audio_tokens": 0},
            },
        },
    ]
    assert passing.usage == Usage(5, 300, 20, 0, 40, 30)
    assert passing.finish_reasons() == ["tool_calls"] and passing.unknown == {}


CHAT_USAGE = {
    "prompt_tokens": 325,
    "completion_tokens": 70,
    "total_tokens": 395,
    "prompt_tokens_details": {"cached_tokens": 300},
}
CHAT_STREAM = chunks(
    ({"role": "assistant", "content": ""}, None),
    ({"reasoning_content": "Where?"}, None),
    ({"content": "I will "}, None),
    ({"content": "look."}, None),
    (
        {
            "tool_calls": [
                {
                    "index": 0,
                    "id": "call_1",
                    "type": "function",
                    "function": {"name": "look", "arguments": ""},
                }
            ]
        },
        None,
    ),
    ({"tool_calls": [{"index": 0, "function": {"arguments": '{"name":'}}]}, None),
    ({"tool_calls": [{"index": 0, "function": {"arguments": '"Elbe"}'}}]}, None),
    (
        {
            "tool_calls": [
                {
                    "index": 1,
                    "id": "call_2",
                    "type": "function",
                    "function": {"name": "list", "arguments": "{}"},
                }
            ]
        },
        None,
    ),
    ({}, "tool_calls"),
    usage=CHAT_USAGE,
)


def test_chat_stream_with_thoughts_text_calls_and_usage_as_anthropic_has_it() -> None:
    passing, out = translated(CHAT, ANTHROPIC, [CHAT_STREAM])
    nothing = {
        "input_tokens": 0,
        "cache_creation_input_tokens": 0,
        "cache_read_input_tokens": 0,
        "output_tokens": 0,
    }
    message = {
        "id": "msg_chatcmpl-7",
        "type": "message",
        "role": "assistant",
        "model": "gpt-4o",
        "content": [],
        "stop_reason": None,
        "stop_sequence": None,
        "usage": nothing,
    }

    def delta(index: int, **fields: str) -> dict[str, Any]:
        return {"type": "content_block_delta", "index": index, "delta": fields}

    def start(index: int, **fields: Any) -> dict[str, Any]:
        return {"type": "content_block_start", "index": index, "content_block": fields}

    def stop(index: int) -> dict[str, Any]:
        return {"type": "content_block_stop", "index": index}

    usage = {**nothing, "input_tokens": 25, "cache_read_input_tokens": 300, "output_tokens": 70}
    assert [read_object(data) for data in data_in(out)] == [
        {"type": "message_start", "message": message},
        start(0, type="thinking", thinking="", signature=""),
        delta(0, type="thinking_delta", thinking="Where?"),
        stop(0),
        start(1, type="text", text=""),
        delta(1, type="text_delta", text="I will "),
        delta(1, type="text_delta", text="look."),
        stop(1),
        start(2, type="tool_use", id="call_1", name="look", input={}),
        delta(2, type="input_json_delta", partial_json='{"name":'),
        delta(2, type="input_json_delta", partial_json='"Elbe"}'),
        stop(2),
        start(3, type="tool_use", id="call_2", name="list", input={}),
        delta(3, type="input_json_delta", partial_json="{}"),
        stop(3),
        {
            "type": "message_delta",
            "delta": {"stop_reason": "tool_use", "stop_sequence": None},
            "usage": usage,
        },
        {"type": "message_stop"},
    ]
    for event in out.split(b"\n\n")[:-1]:
        name, data = event.split(b"\n")
        assert name == b"event: " + read_object(data.removeprefix(b"data: "))["type"].encode()
    assert passing.usage == Usage(25, 300, output=70)


def test_usage_is_told_to_a_chat_caller_who_asked_for_it() -> None:
    _, asked = translated(ANTHROPIC, CHAT, [ANTHROPIC_STREAM])
    passing, out = translated(ANTHROPIC, CHAT, [ANTHROPIC_STREAM], wants_usage=False)
    assert b'"usage"' not in out and out.endswith(DONE)
    assert asked.startswith(out.removesuffix(DONE)) and b'"usage"' in asked
    assert passing.usage == Usage(5, 300, 20, 0, 40, 30)


def test_tier_is_told_with_the_usage_of_a_stream() -> None:
    stream = began(input_tokens=5, output_tokens=1, service_tier="standard") + ended(
        "end_turn", output_tokens=2
    )
    *_, told, _ = data_in(translated(ANTHROPIC, CHAT, [stream])[1])
    assert read_object(told)["service_tier"] == "default"


def test_hidden_thoughts_pass_whole() -> None:
    hidden = {"type": "redacted_thinking", "data": "eA=="}
    stream = began() + block(0, hidden) + text_block(1, "A.") + ended("end_turn", output_tokens=2)
    deltas = [
        read_object(data)["choices"][0]["delta"]
        for data in list(data_in(translated(ANTHROPIC, CHAT, [stream])[1]))[:3]
    ]
    assert deltas[1:] == [{"thinking_blocks": [hidden]}, {"content": "A."}]


def test_what_a_block_begins_with_is_part_of_it() -> None:
    stream = (
        began()
        + block(
            0,
            {"type": "thinking", "thinking": "H", "signature": "c2ln"},
            {"type": "thinking_delta", "thinking": ""},
        )
        + block(1, {"type": "text", "text": "A"}, {"type": "text_delta", "text": "B"})
        + block(2, {"type": "tool_use", "id": "t", "name": "f", "input": {"a": 1}})
        + ended("tool_use", output_tokens=2)
    )
    deltas = deltas_of(stream)
    assert "".join(delta.get("reasoning_content", "") for delta in deltas) == "H"
    assert [delta["thinking_blocks"] for delta in deltas if "thinking_blocks" in delta] == [
        [{"type": "thinking", "thinking": "H", "signature": "c2ln"}]
    ]
    assert "".join(delta.get("content", "") for delta in deltas) == "AB"
    assert deltas[-2]["tool_calls"] == [{"index": 0, "function": {"arguments": '{"a":1}'}}]


def deltas_of(stream: bytes) -> list[dict[str, Any]]:
    """What a chat caller gets of an Anthropic stream."""
    told = [
        read_object(data) for data in data_in(translated(ANTHROPIC, CHAT, [stream])[1]) if data != b"[DONE]"
    ]
    return [chunk["choices"][0]["delta"] for chunk in told if chunk["choices"]]


def test_tools_of_the_providers_own_are_passed_over_and_counted() -> None:
    stream = (
        began()
        + block(
            0,
            {"type": "server_tool_use", "id": "s", "name": "web_search"},
            {"type": "input_json_delta", "partial_json": "{}"},
        )
        + block(1, {"type": "web_search_tool_result", "tool_use_id": "s", "content": []})
        + block(
            2,
            {"type": "text", "text": ""},
            {"type": "citations_delta", "citation": {}},
            {"type": "text_delta", "text": "A."},
        )
        + ended("end_turn", output_tokens=2, server_tool_use={"web_search_requests": 1})
    )
    passing, _ = translated(ANTHROPIC, CHAT, [stream])
    assert deltas_of(stream) == [{"role": "assistant", "content": ""}, {"content": "A."}, {}]
    assert passing.unknown == {"server_tool_use": 1, "web_search_tool_result": 1}


def test_chat_parts_of_mistral_and_refusals() -> None:
    thought = [{"type": "thinking", "thinking": [{"type": "text", "text": "Hm."}]}]
    stream = chunks(
        ({"content": thought}, None),
        ({"content": [{"type": "text", "text": "A"}]}, None),
        ({"content": "B"}, None),
        ({"refusal": "I will not."}, None),
        ({}, "stop"),
    )
    told = [read_object(data) for data in data_in(translated(CHAT, ANTHROPIC, [stream])[1])]
    pieces = [event["delta"] for event in told if event["type"] == "content_block_delta"]
    assert [piece.get("thinking") or piece["text"] for piece in pieces] == ["Hm.", "A", "B", "I will not."]
    assert told[-2]["delta"]["stop_reason"] == "refusal"


def test_only_the_first_choice_is_told() -> None:
    choices = [{"index": index, "delta": {"content": text}} for index, text in ((1, "B"), (0, "A"), (1, "C"))]
    stream = b"".join(b"data: %b\n\n" % dumps({"choices": [each]}) for each in choices) + DONE
    assert b"".join(data_in(translated(CHAT, ANTHROPIC, [stream])[1])).count(b"text_delta") == 1


def piece(
    id_: str = "", name: str = "", arguments: str = "", index: Any = None
) -> tuple[dict[str, Any], None]:
    """A piece of a call, as providers give it that leave out what they can."""
    told = {"index": index, "id": id_ or None, "function": {"name": name or None, "arguments": arguments}}
    return {"tool_calls": [told]}, None


@pytest.mark.parametrize(
    "pieces",
    [
        [piece("a", "f", "{", 0), piece("", "", "}", 0), piece("b", "g", "{", 1), piece("", "", "}", 1)],
        [piece("a", "f", "{", 0), piece("a", "f", "}", 0), piece("b", "g", "{}", 7)],
        [piece("a", "f", "{}", 0), piece("b", "g", "{}", 0)],
        [piece("a", "f", "{}"), piece("b", "g", "{}")],
        [piece("a", "f", "{"), piece("", "", "}"), piece("b", "g", "{"), piece("", "", "}")],
        [piece("a", "f", "{", 0), piece("x", "", "}", 0), piece("b", "g", "{}", 1)],
    ],
    ids=["OpenAI", "all told again", "one index", "no index", "no index, in pieces", "an id of each piece"],
)
def test_calls_are_told_apart(pieces: list[Any]) -> None:
    told = [read_object(data) for data in data_in(translated(CHAT, ANTHROPIC, [chunks(*pieces)])[1])]
    starts = [event["content_block"] for event in told if event["type"] == "content_block_start"]
    assert [(start["id"], start["name"]) for start in starts] == [("a", "f"), ("b", "g")]
    for index in (0, 1):
        deltas = [
            event["delta"]["partial_json"]
            for event in told
            if event["type"] == "content_block_delta" and event["index"] == index
        ]
        assert "".join(deltas) == "{}"


@pytest.mark.parametrize(("dialect", "stream"), [(ANTHROPIC, ANTHROPIC_STREAM), (CHAT, CHAT_STREAM)])
def test_stream_that_is_relayed_passes_as_it_came_and_is_understood_all_the_same(
    dialect: Dialect, stream: bytes
) -> None:
    passing = EventStream(dialect.reader())
    assert passing.feed(stream) + passing.finish() == stream
    again = TranslatedStream(dialect.reader(), dialect.writer(True))
    again.feed(stream)
    assert passing.usage == again.usage and passing.usage is not None
    assert passing.done and passing.committed and passing.content_bytes == again.content_bytes > 0
