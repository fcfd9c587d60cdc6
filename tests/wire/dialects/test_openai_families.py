"""Which paths are passed through, whose objects they name, and what their answers count."""

from __future__ import annotations

from typing import Any

import pytest

from gateway.usage import Usage
from gateway.wire.dialects.openai_families import (
    FAMILIES,
    keep_listed,
    made_ids,
    passing_of,
    read_other_usage,
    stored_ids,
    with_cursor,
)

EVERY = [
    (family, method, path)
    for family, lines in FAMILIES.items()
    for line in lines
    for methods, _, path in [line.partition(" ")]
    for method in methods.split(",")
]


@pytest.mark.parametrize(("family", "method", "path"), EVERY)
def test_every_path_of_a_family_is_found(family: str, method: str, path: str) -> None:
    given = path.replace("{id}", "file-abc").replace("{item}", "part-1")
    passing, _ = passing_of(method.encode(), given.encode(), b"")
    assert passing is not None
    assert (passing.family, passing.path) == (family, given)
    assert passing.ids == ("file-abc",) * path.count("{id}")
    assert passing.lists == (method == "GET" and "{id}" not in path)
    assert passing.makes == (method == "POST" and "{id}" not in path)


def test_words_of_the_path_are_no_ids() -> None:
    passing, _ = passing_of(b"POST", b"/responses/compact", b"")
    assert passing is not None
    assert passing.ids == ()


@pytest.mark.parametrize(
    "segment", [b"", b".", b"..", b"a/..", b"%41", b"a b", b"-a", b"a\xff", b"x" * 129, b"a;b", b"a\\b"]
)
def test_odd_segments_lead_nowhere(segment: bytes) -> None:
    assert passing_of(b"GET", b"/files/" + segment, b"") == (None, ())


def test_ids_in_the_query_are_named_objects() -> None:
    passing, _ = passing_of(b"GET", b"/files", b"limit=2&after=file%2Dabcd&order=asc")
    assert passing is not None
    assert passing.ids == ("file-abcd",)
    assert passing.lists


def test_stored_ids_are_found_at_any_depth() -> None:
    asked: dict[str, Any] = {
        "input_file_id": "file-abcd",
        "tools": [{"vector_store_ids": ["vs_1234"], "container": {"file_ids": ["file-efgh"]}}],
        "text": "see file-zzzz there",
        "model": "gpt-4o",
        "n": 1,
    }
    assert stored_ids(asked) == {"file-abcd", "vs_1234", "file-efgh"}


def test_made_ids_are_those_the_provider_writes() -> None:
    answer = {
        "id": "batch_abcd",
        "output_file_id": "file-out1",
        "error_file_id": None,
        "metadata": {"output_file_id": "file-meta"},
        "output": [{"content": [{"text": "file-text"}]}],
        "result_files": ["file-res1", 3],
        "file": {"id": "file-up01"},
        "text": "file-text",
    }
    assert made_ids(answer) == {"batch_abcd", "file-out1", "file-res1", "file-up01"}


def test_page_keeps_what_is_owned_and_its_edges() -> None:
    page = {
        "object": "list",
        "data": [{"id": "a"}, {"id": "b"}, {"id": "c"}, 5],
        "first_id": "a",
        "last_id": "c",
    }
    kept = keep_listed(page, frozenset({"b"}))
    assert kept == {"object": "list", "data": [{"id": "b"}], "first_id": "b", "last_id": "b"}
    assert keep_listed(page, frozenset())["first_id"] is None
    assert keep_listed({"data": "x"}, frozenset())["data"] == []


def test_cursor_takes_the_place_of_the_old_one() -> None:
    assert with_cursor("limit=2&after=x&order=asc", "file-1") == "limit=2&order=asc&after=file-1"
    assert with_cursor("", "a\r\nb: c&d") == "after=a%0D%0Ab%3A%20c%26d"


AUDIO = {"input_tokens": 9, "input_token_details": {"audio_tokens": 8}, "output_tokens": 1}
COMPLETED = {"type": "response.completed", "response": {"usage": {"input_tokens": 1, "output_tokens": 2}}}


@pytest.mark.parametrize(
    ("answer", "usage"),
    [
        ({"usage": {"input_tokens": 12, "output_tokens": 3}}, Usage(input=12, output=3)),
        (
            {
                "usage": {
                    "input_tokens": 12,
                    "input_tokens_details": {"cached_tokens": 5},
                    "output_tokens": 7,
                    "output_tokens_details": {"reasoning_tokens": 4},
                }
            },
            Usage(input=7, cached_input=5, output=3, reasoning=4),
        ),
        ({"usage": {"type": "tokens", **AUDIO}}, Usage(input=1, audio_input=8, output=1)),
        (COMPLETED, Usage(input=1, output=2)),
        ({"usage": {"type": "duration", "seconds": 7}}, None),
        ({"usage": {"input_tokens": -1, "output_tokens": 2}}, None),
        ({"usage": {"input_tokens": True, "output_tokens": 2}}, None),
        ({"usage": {"input_tokens": 10**12, "output_tokens": 2}}, None),
        ({"usage": None}, None),
        ({"usage": []}, None),
        ({"response": 3}, None),
        ({}, None),
    ],
)  # fmt: skip
def test_usage(answer: dict[str, Any], usage: Usage | None) -> None:
    assert read_other_usage(answer) == usage
