"""Where words come from: Anthropic's citations and chat's annotations."""

from __future__ import annotations

from typing import Any

import pytest

from gateway.wire.citation import annotations_of, citations_of
from gateway.wire.dialect import ANTHROPIC, CHAT, Dialect
from gateway.wire.json import dumps, read_object
from gateway.wire.sse import events
from gateway.wire.translated import TranslatedStream

PAGE = {
    "type": "web_search_result_location",
    "url": "https://a.example",
    "title": "A",
    "cited_text": "6,650 km",
}
PAPER = {"type": "page_location", "document_index": 0, "cited_text": "x", "document_title": "D"}
NOTE = {"start_index": 14, "end_index": 22, "url": "https://a.example", "title": "A"}


def answer(*blocks: dict[str, Any]) -> dict[str, Any]:
    return {"type": "message", "id": "m", "model": "m", "content": list(blocks), "stop_reason": "end_turn"}


def test_pages_are_cited_at_the_place_of_their_part() -> None:
    blocks = [
        {"type": "text", "text": "The Nile has é"},
        {"type": "text", "text": "6,650 km", "citations": [PAGE, PAPER]},
        {"type": "text", "text": "."},
    ]
    found = ANTHROPIC.read_answer(answer(*blocks))
    assert found is not None
    message = CHAT.write_answer(found)["choices"][0]["message"]
    assert message["annotations"] == [{"type": "url_citation", "url_citation": NOTE}]
    assert message["content"][14:22] == "6,650 km"


def test_annotations_are_citations_of_what_they_are_for() -> None:
    note = {"type": "url_citation", "url_citation": NOTE}
    message = {"role": "assistant", "content": "The Nile has é6,650 km.", "annotations": [note]}
    found = CHAT.read_answer({"choices": [{"message": message, "finish_reason": "stop"}]})
    assert found is not None
    (block,) = ANTHROPIC.write_answer(found)["content"]
    assert block["citations"] == [{**PAGE, "encrypted_index": ""}]


def streamed(provider: Dialect, caller: Dialect, told: list[dict[str, Any]]) -> list[dict[str, Any]]:
    stream = TranslatedStream(provider.reader(), caller.writer(True))
    out = stream.feed(b"".join(b"data: %b\n\n" % dumps(fields) for fields in told))
    assert not stream.unknown
    return [read_object(data) for _, data in events(out) if data != b"[DONE]"]


def test_streams_cite_too() -> None:
    def delta(index: int, told: dict[str, Any]) -> dict[str, Any]:
        return {"type": "content_block_delta", "index": index, "delta": told}

    def start(index: int) -> dict[str, Any]:
        block = {"type": "text", "text": ""}
        return {"type": "content_block_start", "index": index, "content_block": block}

    pieces = [delta(0, {"type": "text_delta", "text": text}) for text in ("The Nile", " has", " é")]
    number = [delta(1, {"type": "text_delta", "text": text}) for text in ("6,65", "0 km")]
    cited = [delta(1, {"type": "citations_delta", "citation": citation}) for citation in (PAGE, PAPER)]
    begun = {"type": "message_start", "message": {"id": "m", "model": "m"}}
    chunks = streamed(ANTHROPIC, CHAT, [begun, start(0), *pieces, start(1), *number, *cited])
    notes = [
        note
        for chunk in chunks
        for choice in chunk["choices"]
        for note in choice["delta"].get("annotations", ())
    ]
    assert notes == [{"type": "url_citation", "url_citation": NOTE}]

    def chunk(told: dict[str, Any]) -> dict[str, Any]:
        return {"id": "c", "model": "m", "choices": [{"index": 0, "delta": told, "finish_reason": None}]}

    told = streamed(CHAT, ANTHROPIC, [chunk({"content": "The Nile"}), chunk({"annotations": notes})])
    (event,) = (event for event in told if event.get("delta", {}).get("type") == "citations_delta")
    assert event["index"] == 0
    assert event["delta"]["citation"]["url"] == "https://a.example"


@pytest.mark.parametrize(
    "odd", [None, 7, "x", [7], [{}], [{"url_citation": 7}], [{"url_citation": {"url": 7}}]]
)
def test_what_cites_nothing_is_no_citation(odd: Any) -> None:
    assert [*citations_of(odd, "text")] == []
    assert [*annotations_of([{"type": "char_location", "url": 7}], 0, 1)] == []


@pytest.mark.parametrize(("start", "end"), [(-1, 3), ("0", 3), (3, 1), (0, None), (99, 100)])
def test_a_place_that_is_none_cites_no_text(start: Any, end: Any) -> None:
    told = {"url_citation": {"url": "u", "start_index": start, "end_index": end}}
    (citation,) = citations_of([told], "text")
    assert citation["cited_text"] == ""
