"""Streams between the Responses API and the other dialects, event by event, as the references have them."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st
from openai.types.responses import ResponseStreamEvent
from pydantic import TypeAdapter

from gateway.errors import UPSTREAM_LOST, GatewayError
from gateway.usage import Usage
from gateway.wire.answered import Began, Closed, Done, Ended, Event, Failed, Opened, Piece, Sealed, Used
from gateway.wire.conversation import Refusal, Text, Thinking, ToolCall
from gateway.wire.dialect import ANTHROPIC, CHAT, RESPONSES, Dialect
from gateway.wire.json import dumps, read_object
from gateway.wire.sse import BadStream, data_of, events
from gateway.wire.translated import EventStream, TranslatedStream
from tests.wire.dialects.test_responses_requests import VALUES

USAGE = {
    "input_tokens": 100,
    "input_tokens_details": {"cached_tokens": 60, "cache_write_tokens": 0},
    "output_tokens": 50,
    "output_tokens_details": {"reasoning_tokens": 30},
    "total_tokens": 150,
}
COUNTED = Usage(40, 60, output=20, reasoning=30)
HEAD = {
    "object": "response",
    "created_at": 7,
    "background": False,
    "error": None,
    "instructions": None,
    "max_output_tokens": None,
    "model": "gpt-5",
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
    "user": None,
    "metadata": {},
}
EVENT = TypeAdapter(ResponseStreamEvent)


def response(
    status: str, *output: Mapping[str, Any], usage: object = None, why: str | None = None
) -> dict[str, Any]:
    details = None if why is None else {"reason": why}
    return {
        "id": "resp_7",
        "status": status,
        "incomplete_details": details,
        "output": [*output],
        "usage": usage,
        **HEAD,
    }


def numbered(told: Iterable[Mapping[str, Any]]) -> bytes:
    """OpenAI's events."""
    out = b""
    for number, fields in enumerate(told):
        data = dumps({"type": fields["type"], "sequence_number": number, **fields})
        out += b"event: %b\ndata: %b\n\n" % (fields["type"].encode(), data)
    return out


def inside(kind: str, item: Mapping[str, Any], at: int, **more: Any) -> dict[str, Any]:
    return {"type": f"response.{kind}", "output_index": at, "item_id": item["id"], **more}


def added(item: Mapping[str, Any], at: int) -> dict[str, Any]:
    return {"type": "response.output_item.added", "output_index": at, "item": item}


def done(item: Mapping[str, Any], at: int) -> dict[str, Any]:
    return {"type": "response.output_item.done", "output_index": at, "item": item}


def reasoning(id_: str, at: int, *pieces: str, seal: str = "") -> list[dict[str, Any]]:
    begun = {"id": id_, "type": "reasoning", "summary": []}
    whole = {"type": "summary_text", "text": "".join(pieces)}
    ended = {**begun, "summary": [whole], **({"encrypted_content": seal} if seal else {})}
    first = {"summary_index": 0}
    return [
        added(begun, at),
        inside("reasoning_summary_part.added", begun, at, **first, part={"type": "summary_text", "text": ""}),
        *(inside("reasoning_summary_text.delta", begun, at, **first, delta=piece) for piece in pieces),
        inside("reasoning_summary_text.done", begun, at, **first, text=whole["text"]),
        inside("reasoning_summary_part.done", begun, at, **first, part=whole),
        done(ended, at),
    ]


def message(id_: str, at: int, *pieces: str, status: str = "completed") -> list[dict[str, Any]]:
    begun = {"id": id_, "type": "message", "status": "in_progress", "content": [], "role": "assistant"}
    part = {"type": "output_text", "annotations": [], "logprobs": [], "text": ""}
    whole = {**part, "text": "".join(pieces)}
    first = {"content_index": 0}
    return [
        added(begun, at),
        inside("content_part.added", begun, at, **first, part=part),
        *(inside("output_text.delta", begun, at, **first, delta=piece, logprobs=[]) for piece in pieces),
        inside("output_text.done", begun, at, **first, text=whole["text"], logprobs=[]),
        inside("content_part.done", begun, at, **first, part=whole),
        done({**begun, "status": status, "content": [whole]}, at),
    ]


def function_call(id_: str, at: int, call_id: str, *pieces: str) -> list[dict[str, Any]]:
    named = {"call_id": call_id, "name": "look_up"}
    begun = {"id": id_, "type": "function_call", "status": "in_progress", "arguments": "", **named}
    arguments = "".join(pieces)
    return [
        added(begun, at),
        *(inside("function_call_arguments.delta", begun, at, delta=piece) for piece in pieces),
        inside("function_call_arguments.done", begun, at, name="look_up", arguments=arguments),
        done({**begun, "status": "completed", "arguments": arguments}, at),
    ]


def stream(*items: list[dict[str, Any]], kind: str = "completed", why: str | None = None) -> bytes:
    """A whole stream of items."""
    begun = response("in_progress")
    ended = response(kind, *(item[-1]["item"] for item in items), usage=USAGE, why=why)
    return numbered(
        [
            {"type": "response.created", "response": begun},
            {"type": "response.in_progress", "response": begun},
            *(told for item in items for told in item),
            {"type": f"response.{kind}", "response": ended},
        ]
    )


ITEMS = (
    reasoning("rs_resp_7_0", 0, "Hm", "."),
    message("msg_resp_7_1", 1, "I ", "look."),
    function_call("fc_resp_7_2", 2, "call_1", '{"name":', '"Elbe"}'),
    function_call("fc_resp_7_3", 3, "call_2", '{"name":"Oder"}'),
)
WHOLE = stream(*ITEMS)
SAID: list[Event] = [
    Began("resp_7", "gpt-5", 7),
    Opened(0, Thinking("", dialect="responses", id="rs_resp_7_0")),
    Piece(0, "Hm"),
    Piece(0, "."),
    Closed(0),
    Opened(1, Text("")),
    Piece(1, "I "),
    Piece(1, "look."),
    Closed(1),
    Opened(2, ToolCall("call_1", "look_up", "")),
    Piece(2, '{"name":'),
    Piece(2, '"Elbe"}'),
    Closed(2),
    Opened(3, ToolCall("call_2", "look_up", "")),
    Piece(3, '{"name":"Oder"}'),
    Closed(3),
    Ended("tool_calls"),
    Used(COUNTED),
    Done(),
]


def chunks(*deltas: Mapping[str, Any], reason: str, usage: Mapping[str, Any] | None = None) -> bytes:
    """A chat stream."""
    head = {"id": "resp_7", "object": "chat.completion.chunk", "created": 7, "model": "gpt-5"}
    told = [
        {**head, "choices": [{"index": 0, "delta": delta, "logprobs": None, "finish_reason": finish}]}
        for delta, finish in (*((delta, None) for delta in deltas), ({}, reason))
    ]
    if usage is not None:
        told.append({**head, "choices": [], "usage": usage})
    return b"".join(b"data: %b\n\n" % dumps(one) for one in told) + b"data: [DONE]\n\n"


def call_delta(at: int, id_: str) -> dict[str, Any]:
    function = {"name": "look_up", "arguments": ""}
    return {"tool_calls": [{"index": at, "id": id_, "type": "function", "function": function}]}


def arguments_delta(at: int, arguments: str) -> dict[str, Any]:
    return {"tool_calls": [{"index": at, "function": {"arguments": arguments}}]}


CHAT_DELTAS = (
    {"role": "assistant", "content": ""},
    {"reasoning_content": "Hm"},
    {"reasoning_content": "."},
    {"content": "I "},
    {"content": "look."},
    call_delta(0, "call_1"),
    arguments_delta(0, '{"name":'),
    arguments_delta(0, '"Elbe"}'),
    call_delta(1, "call_2"),
    arguments_delta(1, '{"name":"Oder"}'),
)
CHAT_USAGE = {
    "prompt_tokens": 100,
    "completion_tokens": 50,
    "total_tokens": 150,
    "prompt_tokens_details": {"cached_tokens": 60, "cache_write_tokens": 0, "audio_tokens": 0},
    "completion_tokens_details": {"reasoning_tokens": 30, "audio_tokens": 0},
}
CHAT_WHOLE = chunks(*CHAT_DELTAS, reason="tool_calls", usage=CHAT_USAGE)


def read(*told: bytes) -> list[Event]:
    reader = RESPONSES.reader()
    return [event for _, data in events(b"".join(told)) for event in reader.read(data)]


def translated(sent: bytes, target: Dialect, caller: Dialect) -> bytes:
    through = TranslatedStream(target.reader(), caller.writer(True))
    return through.feed(sent) + through.finish()


def told_in(sent: bytes) -> list[dict[str, Any]]:
    return [read_object(data) for _, data in events(sent)]


# reading


def test_stream_is_read_event_by_event() -> None:
    assert read(WHOLE) == SAID


def test_stream_becomes_chats() -> None:
    assert translated(WHOLE, RESPONSES, CHAT) == CHAT_WHOLE


def test_relayed_stream_passes_as_it_came_and_is_understood() -> None:
    through = EventStream(RESPONSES.reader())
    assert through.feed(WHOLE) + through.finish() == WHOLE
    assert (through.done, through.usage, through.model) == (True, COUNTED, "gpt-5")
    assert through.finish_reasons() == ["tool_calls"]
    assert through.content_bytes == len("Hm.I look." + '{"name":"Elbe"}' + '{"name":"Oder"}')
    assert through.unknown == {}


def test_a_seal_comes_with_the_end_of_its_item() -> None:
    found = read(stream(reasoning("rs_1", 0, "Hm.", seal="gAAAA")))
    assert found[1:5] == [
        Opened(0, Thinking("", dialect="responses", id="rs_1")),
        Piece(0, "Hm."),
        Sealed(0, "gAAAA"),
        Closed(0),
    ]


def test_a_seal_without_a_summary_is_a_part_of_its_own() -> None:
    item = {"id": "rs_1", "type": "reasoning", "summary": []}
    sealed = {**item, "encrypted_content": "gAAAA"}
    found = read(numbered([added(item, 0), done(sealed, 0), added(item, 1), done(item, 1)]))
    assert found == [
        Opened(0, Thinking("", dialect="responses", id="rs_1")),
        Sealed(0, "gAAAA"),
        Closed(0),
    ]


def test_parts_of_a_summary_are_paragraphs() -> None:
    item = {"id": "rs_1"}
    deltas = [
        inside("reasoning_summary_text.delta", item, 0, summary_index=number, delta=delta)
        for number, delta in ((0, "One"), (0, "."), (1, "Two."), (2, "Three."))
    ]
    pieces = [event.text for event in read(numbered(deltas)) if isinstance(event, Piece)]
    assert "".join(pieces) == "One.\n\nTwo.\n\nThree."


def test_thoughts_told_in_full_are_read_and_a_summary_beside_them_is_not() -> None:
    item = {"id": "rs_1", "type": "reasoning", "summary": []}
    part = {"type": "reasoning_text", "text": ""}
    found = read(
        numbered(
            [
                added(item, 0),
                inside("content_part.added", item, 0, content_index=0, part=part),
                inside("reasoning_text.delta", item, 0, content_index=0, delta="Hm."),
                inside("reasoning_summary_text.delta", item, 0, summary_index=0, delta="Thought."),
                inside("reasoning_text.done", item, 0, content_index=0, text="Hm."),
                inside("content_part.done", item, 0, content_index=0, part={**part, "text": "Hm."}),
                done(item, 0),
            ]
        )
    )
    assert found == [
        Opened(0, Thinking("", dialect="responses", id="rs_1")),
        Piece(0, "Hm."),
        Closed(0),
    ]


def test_refusal_is_read() -> None:
    item = {"id": "msg_1", "type": "message"}
    found = read(
        numbered(
            [
                added(item, 0),
                inside(
                    "content_part.added", item, 0, content_index=0, part={"type": "refusal", "refusal": ""}
                ),
                inside("refusal.delta", item, 0, content_index=0, delta="No"),
                inside("refusal.delta", item, 0, content_index=0, delta="."),
                inside("refusal.done", item, 0, content_index=0, refusal="No."),
                inside("content_part.done", item, 0, content_index=0, part={"type": "refusal"}),
            ]
        )
    )
    assert found == [Opened(0, Refusal("")), Piece(0, "No"), Piece(0, "."), Closed(0)]


def test_what_is_only_told_whole_is_read_too() -> None:
    item = {"id": "msg_1", "type": "message"}
    call = {"id": "fc_1", "type": "function_call", "call_id": "call_1", "name": "f"}
    found = read(
        numbered(
            [
                inside("output_text.done", item, 0, content_index=0, text="Hi"),
                added({**call, "arguments": ""}, 1),
                inside("function_call_arguments.done", call, 1, arguments="{}"),
                done({**call, "arguments": "{}"}, 1),
                done({**call, "call_id": "call_2", "arguments": "[]"}, 2),
            ]
        )
    )
    assert found == [
        Opened(0, Text("")),
        Piece(0, "Hi"),
        Closed(0),
        Opened(1, ToolCall("call_1", "f", "")),
        Piece(1, "{}"),
        Closed(1),
        Opened(2, ToolCall("call_2", "f", "")),
        Piece(2, "[]"),
        Closed(2),
    ]


def test_what_runs_at_the_provider_is_passed_over_and_counted() -> None:
    search = {"id": "ws_1", "type": "web_search_call", "status": "in_progress"}
    kinds = ["web_search_call.in_progress", "web_search_call.searching", "web_search_call.searching"]
    sent = numbered(
        [
            added(search, 0),
            *(inside(kind, search, 0) for kind in kinds),
            done(search, 0),
            {"type": "response.something.new"},
            *message("msg_1", 1, "Hi"),
        ]
    )
    reader = RESPONSES.reader()
    found = [event for _, data in events(sent) for event in reader.read(data)]
    assert found == [Opened(0, Text("")), Piece(0, "Hi"), Closed(0)]
    assert reader.unknown == {
        "web_search_call": 1,
        "response.web_search_call.in_progress": 1,
        "response.web_search_call.searching": 2,
        "response.something.new": 1,
    }


@pytest.mark.parametrize(
    ("why", "reason"), [("max_output_tokens", "length"), ("content_filter", "content_filter")]
)
def test_why_a_stream_is_not_whole_is_read(why: str, reason: str) -> None:
    found = read(stream(message("msg_1", 0, "Hi"), kind="incomplete", why=why))
    assert found[-3:] == [Ended(reason), Used(COUNTED), Done()]


@pytest.mark.parametrize(
    "told",
    [
        {"type": "error", "code": "rate_limit_exceeded", "message": "Slow.", "param": None},
        {"type": "error", "error": {"code": "rate_limit_exceeded", "message": "Slow.", "type": "requests"}},
        {"error": {"code": "rate_limit_exceeded", "message": "Slow."}, "type": ""},
        {
            "type": "response.failed",
            "response": {"status": "failed", "error": {"code": "rate_limit_exceeded", "message": "Slow."}},
        },
    ],
)
def test_errors_in_a_stream_are_read(told: dict[str, Any]) -> None:
    (failed,) = read(numbered([told]))
    assert isinstance(failed, Failed)
    assert (failed.error.status, failed.error.reason, failed.error.message) == (429, "rate_limited", "Slow.")


def test_what_a_failed_response_consumed_is_told() -> None:
    failed = {**response("failed", usage=USAGE), "error": {"code": "server_error", "message": "No."}}
    used, _ = read(numbered([{"type": "response.failed", "response": failed}]))
    assert used == Used(COUNTED)


def test_done_of_other_providers_harms_nothing() -> None:
    through = TranslatedStream(RESPONSES.reader(), CHAT.writer(True))
    assert through.feed(WHOLE + b"data: [DONE]\n\n") == CHAT_WHOLE
    assert through.error is None


# writing


def test_chat_becomes_a_stream_of_items() -> None:
    sent = translated(CHAT_WHOLE, CHAT, RESPONSES)
    assert told_in(sent) == told_in(WHOLE)
    assert [raw.partition(b"\n")[0] for raw, _ in events(sent)] == [
        f"event: {told['type']}".encode() for told in told_in(WHOLE)
    ]
    for told in told_in(sent):
        EVENT.validate_python(told)


def test_an_answer_that_was_cut_ends_incomplete() -> None:
    sent = chunks({"role": "assistant", "content": ""}, {"content": "Hi"}, reason="length", usage=CHAT_USAGE)
    item = message("msg_resp_7_0", 0, "Hi", status="incomplete")
    expected = stream(item, kind="incomplete", why="max_output_tokens")
    assert told_in(translated(sent, CHAT, RESPONSES)) == told_in(expected)


def test_refusal_is_written() -> None:
    sent = chunks({"role": "assistant", "content": ""}, {"refusal": "No"}, {"refusal": "."}, reason="stop")
    told = told_in(translated(sent, CHAT, RESPONSES))
    assert [one["type"].removeprefix("response.") for one in told] == [
        "created",
        "in_progress",
        "output_item.added",
        "content_part.added",
        "refusal.delta",
        "refusal.delta",
        "refusal.done",
        "content_part.done",
        "output_item.done",
        "completed",
    ]
    assert told[6]["refusal"] == "No."
    assert told[-1]["response"]["output"][0]["content"] == [{"type": "refusal", "refusal": "No."}]
    assert told[-1]["response"]["usage"] is None


def test_arguments_that_come_late_are_in_the_last_event() -> None:
    sent = chunks(
        {"role": "assistant", "content": ""},
        call_delta(0, "call_1"),
        call_delta(1, "call_2"),
        arguments_delta(0, '{"a":1}'),
        arguments_delta(1, '{"b":2}'),
        reason="tool_calls",
    )
    last = told_in(translated(sent, CHAT, RESPONSES))[-1]
    assert [item["arguments"] for item in last["response"]["output"]] == ['{"a":1}', '{"b":2}']


def test_a_tool_without_arguments_has_empty_ones() -> None:
    sent = chunks({"role": "assistant", "content": ""}, call_delta(0, "call_1"), reason="tool_calls")
    told = told_in(translated(sent, CHAT, RESPONSES))
    assert [one["arguments"] for one in told if "arguments" in one] == ["{}"]
    assert told[-1]["response"]["output"][0]["arguments"] == "{}"


def test_the_error_event_has_what_each_sdk_looks_for() -> None:
    raw = RESPONSES.error_event(GatewayError(UPSTREAM_LOST))
    told = read_object(data_of(raw))
    assert raw.startswith(b"event: error\n")
    assert told["type"] == "error"
    assert (told["code"], told["message"]) == (UPSTREAM_LOST.code, UPSTREAM_LOST.message)
    assert told["error"]["message"] == UPSTREAM_LOST.message
    EVENT.validate_python(told)


# whatever comes


@settings(max_examples=100, deadline=None)
@given(st.lists(st.integers(0, len(WHOLE)), max_size=8))
def test_no_split_of_the_bytes_changes_what_goes_on(cuts: list[int]) -> None:
    for sent, target, caller, expected in (
        (WHOLE, RESPONSES, CHAT, CHAT_WHOLE),
        (CHAT_WHOLE, CHAT, RESPONSES, translated(CHAT_WHOLE, CHAT, RESPONSES)),
        (WHOLE, RESPONSES, ANTHROPIC, translated(WHOLE, RESPONSES, ANTHROPIC)),
    ):
        through = TranslatedStream(target.reader(), caller.writer(True))
        places = [0, *sorted(min(cut, len(sent)) for cut in cuts), len(sent)]
        blocks = [sent[start:end] for start, end in pairwise(places)]
        assert b"".join(map(through.feed, blocks)) + through.finish() == expected


KINDS = st.sampled_from(
    [
        "response.created",
        "response.output_item.added",
        "response.output_item.done",
        "response.content_part.added",
        "response.content_part.done",
        "response.output_text.delta",
        "response.output_text.done",
        "response.refusal.delta",
        "response.refusal.done",
        "response.function_call_arguments.delta",
        "response.function_call_arguments.done",
        "response.reasoning_summary_text.delta",
        "response.reasoning_text.delta",
        "response.completed",
        "response.incomplete",
        "response.failed",
        "error",
        "x",
    ]
)
INNER = st.fixed_dictionaries(
    {"type": st.sampled_from(["message", "function_call", "reasoning", "output_text", "refusal"]) | VALUES},
    optional=dict.fromkeys(
        ("id", "text", "encrypted_content", "arguments", "call_id", "name", "usage", "error", "created_at"),
        VALUES,
    ),
)
TOLD = st.fixed_dictionaries(
    {"type": KINDS | VALUES},
    optional={
        **dict.fromkeys(("item", "part", "response"), INNER | VALUES),
        **dict.fromkeys(("output_index", "content_index", "summary_index"), st.integers(0, 1) | VALUES),
        **dict.fromkeys(("delta", "text", "refusal", "arguments", "item_id", "error", "code"), VALUES),
    },
)


@settings(max_examples=300, deadline=None)
@given(st.lists(TOLD | VALUES, max_size=12))
def test_hostile_events_raise_nothing_but_bad_stream(told: list[Any]) -> None:
    sent = b"".join(b"data: %b\n\n" % dumps(one) for one in told)
    for caller in (CHAT, ANTHROPIC, RESPONSES):
        through = TranslatedStream(RESPONSES.reader(), caller.writer(True))
        try:
            through.feed(sent)
            through.finish()
        except BadStream:
            pass


def test_recorded_streams_of_chat_come_back_as_they_were(wire_data: Path) -> None:
    """There is no recorded exchange of the Responses API: chat's go through its form and back."""
    seen = 0
    for path in sorted(wire_data.glob("*chat-*.yaml")):
        for exchange in yaml.load(path.read_text(), yaml.CSafeLoader)["interactions"]:
            sent = exchange["response"]["body"].encode()
            if not sent.startswith(b"data: "):
                continue
            seen += 1
            there = translated(sent, CHAT, RESPONSES)
            for told in told_in(there):
                EVENT.validate_python(told)
            reader, back = CHAT.reader(), RESPONSES.reader()
            said = [event for _, data in events(sent) for event in reader.read(data)]
            again = [event for _, data in events(there) for event in back.read(data)]
            assert pieces_of(again) == pieces_of(said)
            assert [event for event in again if isinstance(event, Ended)] == [
                event for event in said if isinstance(event, Ended)
            ]
            assert back.unknown == {}
    assert seen >= 3


def pieces_of(said: Iterable[Event]) -> list[tuple[int, str]]:
    return [(event.index, event.text) for event in said if isinstance(event, Piece) and event.text]
