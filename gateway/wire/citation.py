"""Where an answer's words come from: Anthropic's citations, and the `url_citation`s of OpenAI's chat.

The neutral form is Anthropic's object as it is. Chat's knows web pages alone, by a place in the content: that
of the part that is cited for.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from gateway.wire.shape import objects, table, text


def annotations_of(citations: Iterable[Mapping[str, Any]], start: int, end: int) -> Iterator[dict[str, Any]]:
    """Chat's annotations of a part that is the content's characters from `start` to before `end`. Citations
    of documents have no word in chat."""
    for citation in citations:
        url = text(citation.get("url"))
        if url:
            told = {"start_index": start, "end_index": end, "url": url, "title": text(citation.get("title"))}
            yield {"type": "url_citation", "url_citation": told}


def citations_of(annotations: Any, content: str) -> Iterator[dict[str, Any]]:
    """Citations from chat's annotations of a content, "" where it is not known."""
    for annotation in objects(annotations):
        told = table(annotation.get("url_citation"))
        url = text(told.get("url"))
        if url:
            start, end = told.get("start_index"), told.get("end_index")
            is_place = type(start) is int and type(end) is int and 0 <= start <= end
            yield {
                "type": "web_search_result_location",
                "url": url,
                "title": text(told.get("title")) or None,
                "cited_text": content[start:end] if is_place else "",
                "encrypted_index": "",
            }
