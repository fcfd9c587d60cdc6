"""A stream as it passes: every event goes on but our own usage chunk, and nothing depends on the split."""

from __future__ import annotations

import json
from collections.abc import Iterable
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from gateway.usage import Usage
from gateway.wire.dialects.openai_stream import AnswerStream, has_content
from gateway.wire.sse import BadStream, events

DONE = b"data: [DONE]\n\n"
USAGE = {"prompt_tokens": 11, "completion_tokens": 7, "total_tokens": 18}


def event(fields: dict[str, Any], *, compact: bool = True) -> bytes:
    return b"data: " + json.dumps(fields, separators=(",", ":") if compact else None).encode() + b"\n\n"


def content(text: str, **more: Any) -> bytes:
    return event({"choices": [{"index": 0, "delta": {"content": text}, "finish_reason": None}], **more})


def finish(reason: str = "stop", **more: Any) -> bytes:
    return event({"choices": [{"index": 0, "delta": {}, "finish_reason": reason}], **more})


def usage(table: Any = None, *, compact: bool = True, **more: Any) -> bytes:
    return event({"choices": [], "usage": USAGE if table is None else table, **more}, compact=compact)


def failure(**error: Any) -> bytes:
    return event({"error": {"message": "Overloaded.", **error}})


ROLE = event({"choices": [{"index": 0, "delta": {"role": "assistant", "content": ""}}], "usage": None})
FILTERS = event({"choices": [], "prompt_filter_results": [{"prompt_index": 0}]})
PING = b": ping\n\n"


@dataclass
class Passed:
    """A stream after all its blocks, and what went on."""

    stream: AnswerStream
    out: bytes


def passed(blocks: Iterable[bytes], *, strips: bool = True) -> Passed:
    stream = AnswerStream(strips_usage=strips)
    out = b"".join([stream.feed(block) for block in blocks])
    return Passed(stream, out + stream.finish())


def committed_at(blocks: Iterable[bytes]) -> int:
    """The index of the block that commits; -1: none does."""
    stream = AnswerStream(strips_usage=True)
    for index, block in enumerate(blocks):
        stream.feed(block)
        if stream.committed:
            return index
    return -1


@pytest.mark.parametrize(
    ("delta", "is_content"),
    [
        ({"content": "Hi"}, True),
        ({"content": " "}, True),
        ({"reasoning_content": "Hm"}, True),
        ({"reasoning": "Hm"}, True),
        ({"refusal": "No"}, True),
        ({"tool_calls": [{"index": 0}]}, True),
        ({"function_call": {"name": "f"}}, True),
        ({"audio": {"id": "a"}}, True),
        ({"role": "assistant"}, False),
        ({"role": "assistant", "content": ""}, False),
        ({"role": "assistant", "content": None, "tool_calls": []}, False),
        ({}, False),
        (None, False),
        ("text", False),
    ],
)
def test_content_is_what_an_answer_says_not_who_says_it(delta: Any, is_content: bool) -> None:
    assert has_content({"choices": [{"index": 0, "delta": delta, "finish_reason": None}]}) is is_content
    assert has_content({"choices": [{"delta": {}}, {"delta": delta}]}) is is_content


@pytest.mark.parametrize(
    ("chunk", "is_content"),
    [
        ({"choices": [{"text": "Hi"}]}, True),
        ({"choices": [{"text": ""}]}, False),
        ({"choices": [{"delta": {}, "finish_reason": "length"}]}, True),
        ({"choices": []}, False),
        ({"choices": None}, False),
        ({"choices": {"delta": {"content": "x"}}}, False),
        ({"choices": ["x", None]}, False),
        ({}, False),
    ],
)
def test_end_and_legacy_text_are_content_too(chunk: dict[str, Any], is_content: bool) -> None:
    assert has_content(chunk) is is_content


@pytest.mark.parametrize(
    ("blocks", "index"),
    [
        ([ROLE, content("Hi"), DONE], 1),
        ([FILTERS, PING, ROLE, finish()], 3),
        ([ROLE + content("Hi")], 0),
        ([content("Hi")[:-1], b"\n"], 1),
        ([usage(), DONE], 1),
        ([ROLE, FILTERS, usage(), PING], -1),
        ([ROLE, failure()], -1),
        ([b"data: not json\n\n", b"data: [1]\n\n", b"\n\n"], -1),
    ],
)
def test_commit_point_is_the_first_content_or_the_end(blocks: list[bytes], index: int) -> None:
    assert committed_at(blocks) == index


def test_events_before_and_after_the_commit_point_pass_byte_for_byte() -> None:
    blocks = [
        FILTERS,
        PING,
        ROLE,
        content("[DONE]"),
        content('"usage":{"prompt_tokens":1}'),
        content('"error"'),
        b"id: 7\nevent: x\ndata: not json\n\n",
        content("é" * 4),
        content("last", usage=None),
        finish(),
        DONE,
    ]
    result = passed(blocks)
    assert result.out == b"".join(blocks)
    assert result.stream.bytes_passed == len(result.out)
    assert result.stream.done
    assert not result.stream.overrun
    assert (result.stream.usage, result.stream.error) == (None, None)


@pytest.mark.parametrize("compact", [True, False])
@pytest.mark.parametrize("together", [True, False])
def test_usage_chunk_is_read_and_removed_unless_the_caller_asked(together: bool, compact: bool) -> None:
    blocks = [ROLE, content("Hi"), finish(), usage(compact=compact), DONE]
    for strips in (True, False):
        result = passed([b"".join(blocks)] if together else blocks, strips=strips)
        assert result.stream.usage == Usage(11, output=7)
        assert result.out == b"".join(blocks if not strips else [*blocks[:3], DONE])


@pytest.mark.parametrize(
    "chunk", [usage(), usage({"prompt_tokens": "no number"}), usage({"input_tokens": 3})]
)
def test_usage_chunk_is_removed_even_if_its_numbers_cannot_be_read(chunk: bytes) -> None:
    assert passed([content("Hi"), chunk, DONE]).out == content("Hi") + DONE


def test_usage_beside_content_is_read_and_goes_on() -> None:
    blocks = [
        content("Hi", usage={"prompt_tokens": 11, "completion_tokens": 1}),
        finish(x_groq={"id": "r", "usage": USAGE}),
        DONE,
    ]
    result = passed(blocks)
    assert result.out == b"".join(blocks)
    assert result.stream.usage == Usage(11, output=7)


def test_usage_before_the_commit_point_is_kept_until_a_later_one() -> None:
    first = usage({"prompt_tokens": 11, "completion_tokens": 0})
    assert passed([first, content("Hi"), DONE]).stream.usage == Usage(11)
    assert passed([first, content("Hi"), usage(), DONE]).stream.usage == Usage(11, output=7)


@pytest.mark.parametrize("together", [True, False])
def test_usage_written_with_unusual_blanks_is_read_at_the_end(together: bool) -> None:
    odd = usage().replace(b'"usage":', b'"usage" :  ')
    blocks = [content("Hi"), finish(), odd, DONE]
    assert passed([b"".join(blocks)] if together else blocks).stream.usage == Usage(11, output=7)


def test_tier_named_by_a_chunk_holds_for_the_usage() -> None:
    blocks = [ROLE, content("Hi", service_tier="flex"), usage(), DONE]
    assert passed(blocks).stream.usage == Usage(11, output=7, service_tier="flex")
    own = [content("Hi", service_tier="flex"), usage(service_tier="priority"), DONE]
    assert passed(own).stream.usage == Usage(11, output=7, service_tier="priority")


@pytest.mark.parametrize("before", [[], [ROLE], [ROLE, content("Hi")]])
@pytest.mark.parametrize("together", [True, False])
def test_error_event_is_held_back_and_ends_the_stream(before: list[bytes], together: bool) -> None:
    blocks = [*before, failure(code=429, metadata={"raw": "x"}), content("more"), DONE]
    result = passed([b"".join(blocks)] if together else blocks)
    assert result.out == b"".join(before)
    error = result.stream.error
    assert error is not None
    assert (error.status, error.reason, error.message) == (429, "rate_limited", "Overloaded.")
    assert error.details == {"metadata": {"raw": "x"}}
    assert result.stream.committed is (len(before) == 2)
    assert result.stream.overrun
    assert not result.stream.done


@pytest.mark.parametrize("empty", [None, False, "", {}])
def test_error_field_that_says_nothing_is_no_error(empty: Any) -> None:
    blocks = [ROLE, content("Hi", error=empty), DONE]
    result = passed(blocks)
    assert (result.out, result.stream.error) == (b"".join(blocks), None)


@pytest.mark.parametrize("after", [[DONE], [content("more"), DONE], [usage()], [PING], [failure()]])
@pytest.mark.parametrize("together", [True, False])
def test_nothing_goes_on_after_done(after: list[bytes], together: bool) -> None:
    blocks = [content("Hi"), DONE, *after]
    result = passed([b"".join(blocks)] if together else blocks)
    assert result.out == content("Hi") + DONE
    assert result.stream.overrun
    assert result.stream.error is None


@pytest.mark.parametrize("strips", [True, False])
@pytest.mark.parametrize("together", [True, False])
@pytest.mark.parametrize("after", [[], [usage()], [PING]])
def test_provider_without_done_gets_one_after_its_finish_reason(
    after: list[bytes], together: bool, strips: bool
) -> None:
    blocks = [ROLE, content("Hi"), finish(), *after]
    result = passed([b"".join(blocks)] if together else blocks, strips=strips)
    goes_on = [block for block in blocks if not (strips and block == usage())]
    assert result.out == b"".join(goes_on) + DONE
    assert result.stream.done


@pytest.mark.parametrize(
    "blocks",
    [
        [],
        [ROLE],
        [ROLE, content("Hi")],
        [content("Hi", usage=USAGE)],
        [finish(), failure()],
        [event({"choices": 5})],
        [event({"choices": ["stop"]}), PING],
    ],
)
def test_stream_that_broke_off_gets_no_false_done(blocks: list[bytes]) -> None:
    result = passed(blocks)
    assert not result.stream.done
    assert b"[DONE]" not in result.out


@pytest.mark.parametrize("missing", [1, 2])
def test_last_event_without_its_blank_line_is_completed(missing: int) -> None:
    done = passed([content("Hi"), DONE[:-missing]])
    assert (done.out, done.stream.done) == (content("Hi") + DONE, True)
    cut = passed([content("Hi"), finish()[:-missing]])
    assert (cut.out, cut.stream.done) == (content("Hi") + finish() + DONE, True)


def test_done_is_given_once() -> None:
    stream = AnswerStream(strips_usage=True)
    assert stream.feed(finish() + DONE).count(DONE) == 1
    assert stream.finish() == b""


@pytest.mark.parametrize("block", [b"data: \xff\n\n", b"data: " + b"x" * (1 << 20) + b"\n\n"])
def test_bytes_that_are_no_event_stream_are_refused(block: bytes) -> None:
    stream = AnswerStream(strips_usage=True)
    stream.feed(content("Hi"))
    with pytest.raises(BadStream):
        stream.feed(block)


def test_stream_cut_before_any_content_is_estimated_at_its_input() -> None:
    assert passed([ROLE, FILTERS]).stream.estimate(41) == Usage(11, estimated=True)


@pytest.mark.parametrize("together", [True, False])
@pytest.mark.parametrize(
    ("text", "events", "tokens"), [("Hi", 10, 10), ("four", 10, 10), ("twelve bytes", 10, 30), ("Hi", 1, 1)]
)
def test_cut_stream_is_estimated_by_the_events_that_passed(
    text: str, events: int, tokens: int, together: bool
) -> None:
    blocks = [content(text)] * events
    stream = passed([b"".join(blocks)] if together else blocks).stream
    assert stream.estimate(4) == Usage(1, output=tokens, estimated=True)


def test_estimate_of_a_stream_without_text_counts_its_events() -> None:
    blocks = [event({"choices": [{"delta": {"tool_calls": [{"index": 0}]}}]})] * 6
    assert passed(blocks).stream.estimate(0).total_output == 6
    assert passed([event({"choices": [{"text": "eight by"}]})] * 3).stream.estimate(0).total_output == 6


# Against a reader that has all the time in the world: every event parsed, one by one.

TEXTS = st.sampled_from(
    ["Hi", "é€", "[DONE]", '"error"', '"usage":{', '"usage": {"prompt_tokens": 1}', "a\n\nb", "data: x"]
)
EVENTS = st.one_of(
    TEXTS.map(content),
    st.sampled_from(
        [
            ROLE,
            FILTERS,
            PING,
            finish(),
            usage(),
            usage({"prompt_tokens": 1, "completion_tokens": 0}, compact=False),
            content("x", usage=USAGE),
            failure(),
            failure(code=429),
            DONE,
            b"data: not json\n\n",
            b"id: 1\ndata: " + content("two")[6:-2] + b"\ndata: \n\n",
        ]
    ),
)


@dataclass
class Outcome:
    """What a stream came to."""

    out: bytes = b""
    committed: bool = False
    done: bool = False
    overrun: bool = False
    usage: Usage | None = None
    status: int | None = None


def read_slowly(events: list[bytes], *, strips: bool) -> Outcome:
    end = Outcome()
    for raw in events:
        if end.done or end.status is not None:
            end.overrun = True
            continue
        data = b"\n".join(line[6:] for line in raw.split(b"\n") if line.startswith(b"data: "))
        if data == b"[DONE]":
            end.done = end.committed = True
        chunk = json.loads(data) if data.startswith(b"{") else {}
        if "error" in chunk:
            end.status = chunk["error"].get("code", 500)
            continue
        end.committed = end.committed or has_content(chunk)
        if table := chunk.get("usage"):
            end.usage = Usage(table["prompt_tokens"], output=table["completion_tokens"])
        if not (table and strips and not chunk["choices"]):
            end.out += raw
    return end


@settings(deadline=None)
@given(
    events=st.lists(EVENTS, max_size=12),
    line_end=st.sampled_from([b"\n", b"\r\n", b"\r"]),
    cuts=st.lists(st.integers(0, 1500), max_size=12),
    strips=st.booleans(),
)
@example([DONE, content("Hi")], b"\n", [], True)
@example([content("é"), usage(), DONE, PING], b"\r\n", list(range(400)), True)
@example([content("Hi"), failure(), usage(), DONE], b"\n", list(range(400)), False)
def test_any_split_of_a_stream_comes_to_the_same(
    events: list[bytes], line_end: bytes, cuts: list[int], strips: bool
) -> None:
    whole = b"".join(events).replace(b"\n", line_end)
    places = [0, *sorted(cut for cut in cuts if cut < len(whole)), len(whole)]
    stream = AnswerStream(strips_usage=strips)
    out = b"".join(stream.feed(whole[a:b]) for a, b in pairwise(places) if a < b)
    assert read_slowly(events, strips=strips) == Outcome(
        out,
        stream.committed,
        stream.done,
        stream.overrun,
        stream.usage,
        None if stream.error is None else stream.error.status,
    )


@pytest.mark.parametrize("extra", [1, 2, 3, 4, 5])
@pytest.mark.parametrize("end", [b"\n", b"\r", b"\r\n"])
def test_blank_lines_between_and_after_events_change_nothing(extra: int, end: bytes) -> None:
    blank = b"\n" * extra
    whole = (ROLE + blank + content("a") + blank + finish() + usage() + blank + DONE + blank).replace(
        b"\n", end
    )
    for blocks in ([whole], [whole[at : at + 1] for at in range(len(whole))]):
        found = passed(blocks)
        assert [data for _, data in events(found.out) if data] == [
            data for _, data in events(ROLE + content("a") + finish() + DONE)
        ]
        assert found.stream.done and found.stream.usage is not None


@pytest.mark.parametrize("text", ["a", "four", "a longer piece of text"])
@pytest.mark.parametrize("passing", [0, 1, 2, 40])
def test_most_that_was_generated_counts_what_had_come_but_not_passed(text: str, passing: int) -> None:
    stream = passed([content(text)] * passing).stream
    coming = len(content(text) * 900)
    most, before = stream.most_tokens(coming), stream.most_tokens(0)
    assert before >= passing * len(text)
    assert most >= before + 900 * len(text)
    assert passing == 0 or most <= before + 900 * len(text) + len(content(text))
