"""Where an answer's words come from: Anthropic's citations, and the `url_citation`s of OpenAI's two APIs.

The neutral form is Anthropic's object as it is, and in it `PLACE`: where in the text of its part the words
stand that are cited for, if that was said. OpenAI's know web pages alone, by a place: in chat one in the
whole content, in the Responses API one in the part.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from gateway.wire.shape import objects, table, text

PLACE = "place"
"""(first character, the one behind the last)"""


def annotations_of(citations: Iterable[Mapping[str, Any]], start: int, end: int) -> Iterator[dict[str, Any]]:
    """Chat's annotations of a part that is the content's characters from `start` to before `end`. Citations
    of documents have no word in chat."""
    for told in _pages(citations, start, end):
        yield {"type": "url_citation", "url_citation": told}


def part_annotations_of(citations: Iterable[Mapping[str, Any]], size: int) -> Iterator[dict[str, Any]]:
    """The Responses API's annotations of a part with so many characters."""
    for told in _pages(citations, 0, size):
        yield {"type": "url_citation", **told}


def _pages(citations: Iterable[Mapping[str, Any]], start: int, end: int) -> Iterator[dict[str, Any]]:
    for citation in citations:
        url = text(citation.get("url"))
        if url:
            first, behind = citation.get(PLACE) or (0, end - start)
            yield {
                "start_index": start + first,
                "end_index": start + behind,
                "url": url,
                "title": text(citation.get("title")),
            }


def citations_of(annotations: Any, content: str) -> Iterator[dict[str, Any]]:
    """Citations from the annotations of a content, "" where it is not known."""
    for annotation in objects(annotations):
        told = table(annotation.get("url_citation")) or annotation
        url = text(told.get("url"))
        if url:
            start, end = told.get("start_index"), told.get("end_index")
            is_place = type(start) is int and type(end) is int and 0 <= start <= end
            citation = {
                "type": "web_search_result_location",
                "url": url,
                "title": text(told.get("title")) or None,
                "cited_text": content[start:end] if is_place else "",
                "encrypted_index": "",
            }
            yield citation | ({PLACE: (start, end)} if is_place else {})


def anthropic_of(citation: Mapping[str, Any]) -> dict[str, Any]:
    """A citation as Anthropic's API has it."""
    return {name: value for name, value in citation.items() if name != PLACE}
