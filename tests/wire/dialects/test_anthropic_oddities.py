"""Anthropic events that are unknown, malformed or out of order: nothing raises, the answer's text is kept."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gateway.wire.answered import Began, Done, Ended, Opened, Piece
from gateway.wire.conversation import Text, Thinking
from gateway.wire.dialect import ANTHROPIC, CHAT
from gateway.wire.json import dumps, read_object
from tests.wire.hub_strategies import VALUES, data_in, translated

BEGAN = {"type": "message_start", "message": {"id": "msg_1", "model": "m", "usage": {"input_tokens": 3}}}
TEXT = {"type": "content_block_start", "index": 0, "content_block": {"type": "text", "text": ""}}
STOPPED = {"type": "content_block_stop", "index": 0}
ENDED = {"type": "message_delta", "delta": {"stop_reason": "end_turn"}, "usage": {"output_tokens": 2}}
OVER = {"type": "message_stop"}


def delta(text: str, index: Any = 0, kind: str = "text") -> dict[str, Any]:
    return {"type": "content_block_delta", "index": index, "delta": {"type": f"{kind}_delta", kind: text}}


def call(index: int, id_: str) -> list[dict[str, Any]]:
    block = {"type": "tool_use", "id": id_, "name": "f", "input": {}}
    pieces = {"type": "input_json_delta", "partial_json": f'{{"of":"{id_}"}}'}
    return [
        {"type": "content_block_start", "index": index, "content_block": block},
        {"type": "content_block_delta", "index": index, "delta": pieces},
        {"type": "content_block_stop", "index": index},
    ]


def stream(*told: Mapping[str, Any] | bytes) -> bytes:
    return b"".join(b"data: %b\n\n" % (each if isinstance(each, bytes) else dumps(each)) for each in told)


def heard(*told: Mapping[str, Any] | bytes) -> tuple[str, str, dict[str, int]]:
    """(text, thoughts) of what a chat caller gets, and what was passed over."""
    passing, out = translated(ANTHROPIC, CHAT, [stream(*told)])
    deltas = [
        choice["delta"]
        for data in data_in(out)
        if data != b"[DONE]"
        for choice in read_object(data)["choices"]
    ]
    text = "".join(each.get("content") or "" for each in deltas)
    return text, "".join(each.get("reasoning_content") or "" for each in deltas), passing.unknown


ODD: list[tuple[Mapping[str, Any] | bytes, dict[str, int]]] = [
    (b"", {}),
    (b"not JSON", {}),
    (b'{"type":', {}),
    (b"[DONE]", {}),
    (b"[1]", {}),
    (b'"message_stop"', {}),
    (b"null", {}),
    (b"1e999", {}),
    ({"type": "ping"}, {}),
    ({}, {"": 1}),
    ({"type": None}, {"": 1}),
    ({"type": ["ping"]}, {"": 1}),
    ({"type": "nobody_knows"}, {"nobody_knows": 1}),
    ({"type": "x" * 1000}, {"x" * 64: 1}),
    ({"type": "content_block_start", "index": 9}, {"": 1}),
    ({"type": "content_block_start", "index": 9, "content_block": []}, {"": 1}),
    (
        {"type": "content_block_start", "index": 9, "content_block": {"type": "mcp_tool_use"}},
        {"mcp_tool_use": 1},
    ),
    ({"type": "content_block_delta", "index": 0, "delta": {"type": "new_delta"}}, {"new_delta": 1}),
    ({"type": "content_block_delta", "index": 0, "delta": None}, {"": 1}),
    ({"type": "content_block_delta", "index": 0, "delta": {"type": {}}}, {"": 1}),
    ({"type": "content_block_delta", "index": 0, "delta": {"type": "text_delta", "text": 7}}, {}),
    ({"type": "content_block_delta", "index": 0, "delta": {"type": "signature_delta", "signature": 7}}, {}),
    (delta("{", 7, "partial_json"), {"partial_json_delta": 1}),
    ({"type": "content_block_stop", "index": 99}, {}),
    ({"type": "content_block_stop", "index": "0"}, {}),
    ({"type": "message_delta"}, {}),
    ({"type": "message_delta", "delta": [], "usage": "none"}, {}),
    ({"type": "message_delta", "delta": {"stop_reason": None}, "usage": {"output_tokens": -1}}, {}),
    ({"type": "message_start"}, {}),
    ({"type": "message_start", "message": {"id": 7, "model": [], "usage": {"input_tokens": "many"}}}, {}),
]


@pytest.mark.parametrize(("odd", "unknown"), ODD)
def test_odd_events_are_passed_over_and_the_text_is_kept(
    odd: Mapping[str, Any] | bytes, unknown: dict[str, int]
) -> None:
    whole = [BEGAN, TEXT, delta("a "), delta("river"), STOPPED, ENDED, OVER]
    for at in range(2, 5):
        assert heard(*whole[:at], odd, *whole[at:]) == ("a river", "", unknown)
    # Before the first event and the first block too, but for deltas of a block that is not there yet.
    text, _, _ = heard(odd, *whole)
    assert text == "a river"


def test_unknown_events_are_counted_by_type() -> None:
    odd = {"type": "nobody_knows"}
    _, _, unknown = heard(BEGAN, odd, TEXT, odd, {"type": "nor_this"}, delta("a"), odd, ENDED, OVER)
    assert unknown == {"nobody_knows": 3, "nor_this": 1}


def test_blocks_of_an_unknown_kind_are_passed_over_with_all_that_is_in_them() -> None:
    block = {"type": "content_block_start", "index": 0, "content_block": {"type": "container_upload"}}
    text = {**TEXT, "index": 1}
    told = (BEGAN, block, delta("hidden"), STOPPED, text, delta("a river", 1), {**STOPPED, "index": 1})
    assert heard(*told, ENDED, OVER) == ("a river", "", {"container_upload": 1})


@pytest.mark.parametrize("index", [0, 1, 5, -3, 10**12])
def test_gaps_between_indexes_do_no_harm(index: int) -> None:
    told = [{**TEXT, "index": index}, delta("a", index), {**STOPPED, "index": index}]
    more = [{**TEXT, "index": index + 7}, delta("b", index + 7)]
    assert heard(BEGAN, *told, *more, ENDED, OVER)[0] == "ab"


@pytest.mark.parametrize("index", [None, "0", 0.0, True, [], {}])
def test_index_of_a_wrong_type_is_the_first(index: Any) -> None:
    assert heard(BEGAN, {**TEXT, "index": index}, delta("a", index), delta("b"), ENDED, OVER)[0] == "ab"


def test_stream_without_a_beginning_or_the_start_of_its_blocks_keeps_what_it_says() -> None:
    assert heard(TEXT, delta("a"), STOPPED, ENDED, OVER)[0] == "a"
    assert heard(BEGAN, delta("Hm.", 0, "thinking"), delta("a", 1), ENDED, OVER)[:2] == ("a", "Hm.")
    assert heard(delta("a"), delta("b"))[0] == "ab"
    reader = ANTHROPIC.reader()
    said = [event for each in (delta("a"), delta("Hm.", 1, "thinking")) for event in reader.read(dumps(each))]
    assert said == [
        Opened(0, Text("")),
        Piece(0, "a"),
        Opened(1, Thinking("", dialect="anthropic")),
        Piece(1, "Hm."),
    ]


def test_end_before_any_block_is_an_end() -> None:
    passing, out = translated(ANTHROPIC, CHAT, [stream(BEGAN, ENDED, OVER)])
    assert passing.done and passing.committed and passing.usage is not None
    assert (passing.usage.input, passing.usage.output) == (3, 2)
    assert b'"finish_reason":"stop"' in out and out.endswith(b"data: [DONE]\n\n")
    assert heard(BEGAN, ENDED, TEXT, delta("late"), OVER)[0] == "late"


def test_two_messages_in_one_stream_are_told_one_after_the_other() -> None:
    tool = {"type": "content_block_start", "index": 0, "content_block": {"type": "server_tool_use"}}
    told = (BEGAN, tool, STOPPED, BEGAN, TEXT, delta("a"), STOPPED, *call(1, "t"))
    assert heard(*told, ENDED, OVER)[0] == "a"
    _, out = translated(
        ANTHROPIC, CHAT, [stream(BEGAN, *call(0, "t"), BEGAN, *call(0, "u"), *call(1, "v"), OVER)]
    )
    calls: dict[int, str] = {}
    for data in data_in(out):
        for choice in read_object(data)["choices"] if data != b"[DONE]" else ():
            for each in choice["delta"].get("tool_calls", ()):
                calls[each["index"]] = calls.get(each["index"], "") + each["function"]["arguments"]
    assert calls == {0: '{"of":"t"}', 1: '{"of":"u"}', 2: '{"of":"v"}'}


def test_what_makes_a_stream_committed() -> None:
    for told, committed in (
        ([BEGAN, {"type": "ping"}, TEXT, delta("")], False),
        ([BEGAN, TEXT, delta("a")], True),
        ([BEGAN, *call(0, "t")[:1]], True),
        ([BEGAN, delta("Hm.", 0, "thinking")], True),
        ([BEGAN, ENDED], True),
        ([BEGAN, {"type": "error", "error": {"type": "overloaded_error"}}], False),
    ):
        passing, _ = translated(ANTHROPIC, CHAT, [stream(*told)])
        assert passing.committed is committed, told


KINDS = st.sampled_from(
    [
        *("message_start", "content_block_start", "content_block_delta", "content_block_stop"),
        *("message_delta", "message_stop", "ping", "error", "x"),
    ]
)
PARTS = st.dictionaries(
    st.sampled_from(
        ["type", "text", "thinking", "signature", "partial_json", "input", "stop_reason", "id", "data"]
    ),
    st.sampled_from(["text", "tool_use", "thinking", "text_delta", "input_json_delta", "thinking_delta"])
    | VALUES,
    max_size=4,
)
EVENTS = st.fixed_dictionaries(
    {"type": KINDS | VALUES},
    optional={
        "index": st.integers(-1, 3) | VALUES,
        "message": PARTS | VALUES,
        "content_block": PARTS | VALUES,
        "delta": PARTS | VALUES,
        "usage": PARTS | VALUES,
        "error": PARTS | VALUES,
    },
)


@settings(max_examples=200, deadline=None)
@given(told=st.lists(EVENTS, max_size=6))
def test_no_event_raises_and_every_part_has_been_opened(told: list[dict[str, Any]]) -> None:
    reader = ANTHROPIC.reader()
    opened: set[int] = set()
    for each in told:
        for event in reader.read(dumps(each)):
            if isinstance(event, Opened):
                opened.add(event.index)
            elif isinstance(event, Piece):
                assert event.index in opened and type(event.text) is str
            assert not isinstance(event, Began) or type(event.id) is type(event.model) is str
            assert not isinstance(event, (Done, Ended)) or each["type"] in ("message_stop", "message_delta")
    translated(ANTHROPIC, CHAT, [stream(*told)])
