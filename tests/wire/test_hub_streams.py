"""Streams keep what every dialect knows, and mean the same wherever they are split."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import yaml
from hypothesis import example, given, settings
from hypothesis import strategies as st

from gateway.wire.answered import (
    STOP,
    TOOL_CALLS,
    Answer,
    Began,
    Candidate,
    Closed,
    Done,
    Ended,
    Event,
    Opened,
    Piece,
)
from gateway.wire.conversation import Text, ToolCall
from gateway.wire.dialect import ANTHROPIC, CHAT, RESPONSES, Dialect
from gateway.wire.sse import BadStream
from gateway.wire.translated import TranslatedStream
from tests.wire.hub_strategies import (
    EACH,
    PAIR,
    answers,
    cut,
    data_in,
    heard,
    heard_in,
    read,
    told,
    translated,
    written,
)

SOME = settings(max_examples=60, deadline=None)
CUTS = st.lists(st.integers(0, 60), max_size=4)
PLACES = st.lists(st.integers(0, 3000), max_size=8)
NOISE = st.sampled_from([b"", b": keep-alive\n\n", b"event: ping\ndata: {}\n\n", b"\n", b"data: [1]\n\n"])
ENDS = st.sampled_from([b"\n", b"\r\n", b"\r"])


@EACH
@SOME
@given(answer=answers(), cuts=CUTS, usage_first=st.booleans())
def test_what_every_dialect_knows_is_kept(
    dialect: Dialect, answer: Answer, cuts: list[int], usage_first: bool
) -> None:
    stream = written(dialect.writer(True), told(answer, cuts, usage_first=usage_first))
    found = heard_in(read(dialect.reader(), stream))
    assert found == heard(answer)


@PAIR
@SOME
@given(answer=answers(), cuts=CUTS, usage_first=st.booleans(), places=PLACES, noise=NOISE, end=ENDS)
def test_a_translated_stream_says_the_same_in_any_split(
    provider: Dialect,
    caller: Dialect,
    answer: Answer,
    cuts: list[int],
    usage_first: bool,
    places: list[int],
    noise: bytes,
    end: bytes,
) -> None:
    stream = written(provider.writer(True), told(answer, cuts, usage_first=usage_first))
    events = [event + b"\n\n" for event in stream.split(b"\n\n")[:-1]]
    stream = noise.join([b"", *events]).replace(b"\n", end)
    passing, whole = translated(provider, caller, [stream])
    assert heard_in(read(caller.reader(), whole)) == heard(answer)
    assert (passing.done, passing.overrun, passing.error) == (True, False, None)
    assert passing.usage == answer.usage and passing.model == answer.model
    for parts in (cut(stream, places), cut(stream, range(len(stream)))):
        split, out = translated(provider, caller, parts)
        assert out == whole
        assert split.usage == passing.usage and split.content_bytes == passing.content_bytes


@PAIR
@settings(max_examples=30, deadline=None)
@given(answer=answers(), at=st.integers(1, 3000))
def test_what_came_before_a_cut_is_the_beginning_of_the_whole(
    provider: Dialect, caller: Dialect, answer: Answer, at: int
) -> None:
    stream = written(provider.writer(True), told(answer, [3], usage_first=False))
    _, whole = translated(provider, caller, [stream])
    assert whole.startswith(TranslatedStream(provider.reader(), caller.writer(True)).feed(stream[:at]))


def in_order(stream: bytes) -> list[dict[str, Any]]:
    """An Anthropic stream's events; the order of them and the indexes must be as the reference has it."""
    names = [line[7:] for line in stream.decode().split("\n") if line.startswith("event: ")]
    found = [json.loads(data) for data in data_in(stream)]
    assert names == [event["type"] for event in found]
    kinds = [event["type"] for event in found]
    assert kinds[0] == "message_start" and kinds[-2:] == ["message_delta", "message_stop"]
    count, is_open = 0, False
    for event in found[1:-2]:
        assert event["index"] == (count - 1 if is_open else count)
        if event["type"] == "content_block_start":
            assert not is_open
            count, is_open = count + 1, True
        elif event["type"] == "content_block_stop":
            assert is_open
            is_open = False
        else:
            assert event["type"] == "content_block_delta" and is_open
    assert not is_open
    return found


@SOME
@given(answer=answers(), cuts=CUTS, usage_first=st.booleans())
def test_anthropic_events_come_in_their_order(answer: Answer, cuts: list[int], usage_first: bool) -> None:
    stream = written(CHAT.writer(True), told(answer, cuts, usage_first=usage_first))
    (begin, *_, delta, _) = in_order(translated(CHAT, ANTHROPIC, [stream])[1])
    assert begin["message"]["content"] == [] and begin["message"]["stop_reason"] is None
    assert answer.usage is not None
    assert delta["usage"]["output_tokens"] == answer.usage.total_output


def in_items(stream: bytes) -> list[dict[str, Any]]:
    """A Responses stream's events; they are numbered, an item is added, is told about and is done, and the
    last event has all of them as they ended."""
    names = [line[7:] for line in stream.decode().split("\n") if line.startswith("event: ")]
    found = [json.loads(data) for data in data_in(stream)]
    assert names == [event["type"] for event in found]
    assert [event["sequence_number"] for event in found] == list(range(len(found)))
    assert names[:2] == ["response.created", "response.in_progress"]
    is_open: dict[int, str] = {}
    ended: list[dict[str, Any]] = []
    for event in found[2:-1]:
        at = event["output_index"]
        if event["type"] == "response.output_item.added":
            assert at == len(is_open) + len(ended)
            is_open[at] = event["item"]["id"]
        elif event["type"] == "response.output_item.done":
            assert event["item"]["id"] == is_open.pop(at)
            ended.append(event["item"])
        else:
            assert event["item_id"] == is_open[at]
    assert is_open == {}
    assert found[-1]["response"]["output"] == ended
    return found


@SOME
@given(answer=answers(), cuts=CUTS, usage_first=st.booleans(), provider=st.sampled_from([CHAT, ANTHROPIC]))
def test_responses_events_come_in_their_order(
    answer: Answer, cuts: list[int], usage_first: bool, provider: Dialect
) -> None:
    stream = written(provider.writer(True), told(answer, cuts, usage_first=usage_first))
    *_, last = in_items(translated(provider, RESPONSES, [stream])[1])
    assert answer.usage is not None
    assert last["response"]["usage"]["output_tokens"] == answer.usage.total_output


def chunks(*deltas: dict[str, Any], reason: str | None = "stop") -> bytes:
    """A chat stream of these deltas without its end."""
    found = [{"id": "c", "model": "m", "choices": [{"index": 0, "delta": delta}]} for delta in deltas]
    if reason:
        found.append({"choices": [{"index": 0, "delta": {}, "finish_reason": reason}]})
    return b"".join(b"data: %b\n\n" % json.dumps(each).encode() for each in found)


DONE = b"data: [DONE]\n\n"


@pytest.mark.parametrize(
    "stream",
    [
        chunks({"content": "a"}, {"content": "b"}) + DONE,
        chunks({"content": "a"}, {"content": "b"}),
        chunks({"content": "a"}, {"content": "b"}, reason=None) + DONE,
        chunks({"content": "a"}) + chunks({"content": "b"}) + DONE,
    ],
    ids=["as it should", "no [DONE]", "no reason", "goes on after its reason"],
)
def test_chat_stream_that_ends_in_another_way_is_complete_all_the_same(stream: bytes) -> None:
    passing, out = translated(CHAT, ANTHROPIC, [stream])
    found = in_order(out)
    assert passing.done
    assert heard_in(read(ANTHROPIC.reader(), out)).text == "ab"
    assert found[-2]["delta"]["stop_reason"] == "end_turn"


def test_chat_stream_with_two_ends_is_read_as_one() -> None:
    stream = chunks({"content": "a"}) + chunks({"content": "b"}, reason="length") + DONE
    found = heard_in(read(CHAT.reader(), stream))
    assert (found.text, found.reason) == ("ab", STOP)


@EACH
def test_parts_between_which_others_were_left_out_have_no_gap(dialect: Dialect) -> None:
    events: list[Event] = [Began("msg_a", "m")]
    for index in (3, 7):
        events += [Opened(index, ToolCall(f"t{index}", "f", "")), Piece(index, "{}"), Closed(index)]
    stream = written(dialect.writer(True), [*events, Ended(TOOL_CALLS), Done()])
    assert [call[0] for call in heard_in(read(dialect.reader(), stream)).calls] == ["t3", "t7"]
    if dialect is ANTHROPIC:
        in_order(stream)
    elif dialect is RESPONSES:
        in_items(stream)


def test_stream_that_gave_no_reason_is_not_ended_for_its_provider() -> None:
    passing, out = translated(CHAT, ANTHROPIC, [chunks({"content": "a"}, reason=None)])
    assert not passing.done and b"message_stop" not in out and b"message_delta" not in out


@PAIR
def test_what_comes_after_the_end_is_noted_and_not_told(provider: Dialect, caller: Dialect) -> None:
    answer = Answer("msg_a", "m", [Candidate([Text("a")], STOP)], heard_usage())
    stream = written(provider.writer(True), told(answer, [], usage_first=False))
    _, once = translated(provider, caller, [stream])
    passing, twice = translated(provider, caller, [stream, stream])
    assert once == twice and passing.overrun


def heard_usage() -> Any:
    return CHAT.read_usage({"usage": {"prompt_tokens": 1, "completion_tokens": 1}})


@PAIR
@pytest.mark.parametrize("bad", [b"data: \xff\n\n", b"data: " + b"x" * (1 << 20) + b"\n\n"])
def test_bytes_that_are_no_stream_are_refused(provider: Dialect, caller: Dialect, bad: bytes) -> None:
    with pytest.raises(BadStream):
        translated(provider, caller, [bad])


# recorded


def recorded(folder: Path) -> Iterator[tuple[str, bytes]]:
    """(name, body) of every chat stream that was recorded."""
    for file in sorted(folder.glob("*chat*stream*.yaml")):
        for interaction in yaml.safe_load(file.read_text())["interactions"]:
            if "event-stream" in str(interaction["response"]["headers"]):
                yield file.stem, interaction["response"]["body"].encode()


def test_recorded_streams_say_the_same_in_anthropics_words_in_any_split(wire_data: Path) -> None:
    found = dict(recorded(wire_data))
    assert len(found) >= 3
    for name, stream in found.items():
        said: Iterable[Event] = read(CHAT.reader(), stream)
        passing, whole = translated(CHAT, ANTHROPIC, [stream])
        in_order(whole)
        expected = heard_in(said)
        again = heard_in(read(ANTHROPIC.reader(), whole))
        assert again == replace(expected, usage=again.usage), name
        if expected.usage is not None:
            assert again.usage is not None and passing.usage is not None
            assert again.usage.total_input == expected.usage.total_input
            assert again.usage.total_output == expected.usage.total_output
        for size in (1, 2, 7, 777):
            parts = cut(stream, range(0, len(stream), size))
            assert translated(CHAT, ANTHROPIC, parts)[1] == whole, (name, size)


@given(cuts=st.lists(st.integers(0, 20_000), max_size=6))
@example(cuts=[])
@settings(max_examples=15, deadline=None)
def test_recorded_streams_that_went_there_and_back_are_what_they_were(
    wire_data: Path, cuts: list[int]
) -> None:
    for _, stream in recorded(wire_data):
        _, there = translated(CHAT, ANTHROPIC, cut(stream, cuts))
        _, back = translated(ANTHROPIC, CHAT, cut(there, cuts))
        assert heard_in(read(CHAT.reader(), back)).text == heard_in(read(CHAT.reader(), stream)).text
