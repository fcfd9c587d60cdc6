"""A stream as it passes: every event goes on but our own usage chunk, and nothing depends on the split."""

from __future__ import annotations

import json
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from gateway.usage import Usage
from gateway.wire.dialects.openai_stream import AnswerStream, has_content
from gateway.wire.sse import BadStream

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
