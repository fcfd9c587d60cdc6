"""The rest of OpenAI's API, passed through unread but for what guards it: paths, stored objects, usage.

Facts: openai-openapi 2.3.0. Not here, so 404: `/organization/*` and `/projects/*` (administration), and what
hands out a credential of the provider's own (`/realtime/*`, `/chatkit/sessions`).
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, NamedTuple
from urllib.parse import quote, unquote_to_bytes

from gateway.usage import Usage, split_usage
from gateway.wire.dialects.openai_chat import MAX_TOKENS

FAMILIES: Mapping[str, tuple[str, ...]] = {
    "audio": ("POST /audio/speech", "POST /audio/transcriptions", "POST /audio/translations"),
    "images": ("POST /images/generations", "POST /images/edits", "POST /images/variations"),
    "moderations": ("POST /moderations",),
    "files": ("GET,POST /files", "GET,DELETE /files/{id}", "GET /files/{id}/content"),
    "uploads": (
        "POST /uploads",
        "POST /uploads/{id}/parts",
        "POST /uploads/{id}/complete",
        "POST /uploads/{id}/cancel",
    ),
    "batches": ("GET,POST /batches", "GET /batches/{id}", "POST /batches/{id}/cancel"),
    "fine_tuning": (
        "GET,POST /fine_tuning/jobs",
        "GET /fine_tuning/jobs/{id}",
        "POST /fine_tuning/jobs/{id}/cancel",
        "POST /fine_tuning/jobs/{id}/pause",
        "POST /fine_tuning/jobs/{id}/resume",
        "GET /fine_tuning/jobs/{id}/events",
        "GET /fine_tuning/jobs/{id}/checkpoints",
    ),
    "responses": (
        "POST /responses",
        "POST /responses/input_tokens",
        "POST /responses/compact",
        "GET,DELETE /responses/{id}",
        "POST /responses/{id}/cancel",
        "GET /responses/{id}/input_items",
    ),
    "conversations": (
        "POST /conversations",
        "GET,POST,DELETE /conversations/{id}",
        "GET,POST /conversations/{id}/items",
        "GET,DELETE /conversations/{id}/items/{item}",
    ),
    "vector_stores": (
        "GET,POST /vector_stores",
        "GET,POST,DELETE /vector_stores/{id}",
        "POST /vector_stores/{id}/search",
        "GET,POST /vector_stores/{id}/files",
        "GET,POST,DELETE /vector_stores/{id}/files/{id}",
        "GET /vector_stores/{id}/files/{id}/content",
        "POST /vector_stores/{id}/file_batches",
        "GET /vector_stores/{id}/file_batches/{item}",
        "GET /vector_stores/{id}/file_batches/{item}/files",
        "POST /vector_stores/{id}/file_batches/{item}/cancel",
    ),
    "videos": (
        "GET,POST /videos",
        "GET,DELETE /videos/{id}",
        "GET /videos/{id}/content",
        "POST /videos/{id}/remix",
    ),
    "containers": (
        "GET,POST /containers",
        "GET,DELETE /containers/{id}",
        "GET,POST /containers/{id}/files",
        "GET,DELETE /containers/{id}/files/{item}",
        "GET /containers/{id}/files/{item}/content",
    ),
}
"""Family → its endpoints. `{id}` is a stored object, whose team is asked for; `{item}` a part of the stored
object before it, which its provider looks for only there."""

_SEGMENT = re.compile(rb"[A-Za-z0-9][A-Za-z0-9._:-]{0,127}").fullmatch
_QUERY = re.compile(rb"[A-Za-z0-9._~!$&'()*+,;=:@%/?\[\]-]{0,2048}").fullmatch
_STORED = re.compile(
    r"(?:file|batch|ftjob|resp|conv|vs|vsfb|upload|video|cntr|asst|thread)[-_][A-Za-z0-9_-]{4,}"
).fullmatch
"""What ids of stored objects look like; ids of parts (`msg_`, `fc_`, `rs_`) live inside those."""


class Passing(NamedTuple):
    """One endpoint of a family, as a request line names it."""

    family: str
    path: str
    """Below the base URL, without the query."""
    query: str
    ids: tuple[str, ...]
    """The stored objects that the path and the query name."""
    lists: bool
    """True if the answer lists stored objects of all the provider's users."""
    makes: bool
    """True if a call makes something new: these are what a price per call is for."""
    is_content: bool
    """True if the answer is what somebody stored: nothing in it is the provider's word."""


@dataclass(frozen=True, slots=True)
class _Template:
    family: str
    methods: frozenset[str]
    segments: tuple[str, ...]

    @classmethod
    def read(cls, family: str, line: str) -> _Template:
        methods, _, path = line.partition(" ")
        return cls(family, frozenset(methods.split(",")), tuple(path[1:].split("/")))

    def ids(self, segments: list[str]) -> tuple[str, ...] | None:
        """The stored objects named by a path of this form; None if the path is of another form."""
        if len(segments) != len(self.segments):
            return None
        found = []
        for own, given in zip(self.segments, segments, strict=True):
            if own == "{id}":
                found.append(given)
            elif own not in (given, "{item}"):
                return None
        return tuple(found)


_TEMPLATES = tuple(_Template.read(family, line) for family, lines in FAMILIES.items() for line in lines)
_FIRST = frozenset(template.segments[0].encode() for template in _TEMPLATES)


def passing_of(method: bytes, path: bytes, query: bytes) -> tuple[Passing | None, tuple[str, ...]]:
    """The endpoint of a path below `/v1`, and the methods that its path takes: (None, ()) if there is nothing
    at this path, (None, methods) if it does not take this method."""
    parts = path[1:].split(b"/")
    if parts[0] not in _FIRST or not all(map(_SEGMENT, parts)) or not _QUERY(query):
        return None, ()
    segments = [part.decode() for part in parts]
    asked = method.decode("latin-1")
    allowed: set[str] = set()
    for template in _TEMPLATES:
        ids = template.ids(segments)
        if ids is None:
            continue
        if asked in template.methods:
            return _passing(template, asked, segments, ids, query), ()
        allowed |= template.methods
    return None, tuple(sorted(allowed))


def _passing(
    template: _Template, method: str, segments: list[str], ids: tuple[str, ...], query: bytes
) -> Passing:
    named = [unquote_to_bytes(pair.partition(b"=")[2]).decode("latin-1") for pair in query.split(b"&")]
    return Passing(
        family=template.family,
        path="/" + "/".join(segments),
        query=query.decode(),
        ids=ids + tuple(name for name in named if _STORED(name)),
        lists=method == "GET" and not ids,
        makes=method == "POST" and not ids,
        is_content=segments[-1] == "content",
    )


def stored_ids(value: Any) -> set[str]:
    """Every id of a stored object that a request's JSON names, at any depth."""
    found: set[str] = set()
    rest = [value]
    while rest:
        here = rest.pop()
        if type(here) is str:
            if _STORED(here):
                found.add(here)
        elif type(here) is dict:
            rest.extend(here.values())
        elif type(here) is list:
            rest.extend(here)
    return found


def made_ids(answer: Mapping[str, Any]) -> set[str]:
    """The ids of stored objects that an answer brings into being.

    Only of the fields in which a provider writes them itself: text of a model's or of a caller's that looks
    like an id makes nobody its owner.
    """
    return {text for text in _written_by_provider(answer) if _STORED(text)}


def _written_by_provider(answer: Mapping[str, Any]) -> Iterator[str]:
    for name, value in answer.items():
        if name == "id" or name.endswith("_file_id"):
            yield value if type(value) is str else ""
        elif name in ("file", "conversation") and type(value) is dict:
            inner = value.get("id")
            yield inner if type(inner) is str else ""
        elif name == "result_files" and type(value) is list:
            yield from (entry for entry in value if type(entry) is str)


def listed_ids(answer: Mapping[str, Any]) -> list[str]:
    """The ids of a page of a list."""
    data = answer.get("data")
    entries = data if type(data) is list else []
    return [entry["id"] for entry in entries if type(entry) is dict and type(entry.get("id")) is str]


def with_cursor(query: str, after: str) -> str:
    """The query of a list for the page that follows the entry `after`."""
    pairs = [pair for pair in query.split("&") if pair and pair.partition("=")[0] not in ("after", "before")]
    return "&".join([*pairs, f"after={quote(after, safe='')}"])


def keep_listed(answer: dict[str, Any], owned: frozenset[str]) -> dict[str, Any]:
    """A page of a list with the entries of these ids alone."""
    data = answer.get("data")
    kept = [
        entry
        for entry in (data if type(data) is list else ())
        if type(entry) is dict and entry.get("id") in owned
    ]
    page = {**answer, "data": kept}
    for name, at in (("first_id", 0), ("last_id", -1)):
        if name in answer:
            page[name] = kept[at]["id"] if kept else None
    return page


def read_other_usage(answer: Mapping[str, Any]) -> Usage | None:
    """Usage of images, transcriptions and responses, which count `input_tokens` and `output_tokens`; None if
    there is none (or it counts seconds), or its numbers cannot be true."""
    table = answer.get("usage")
    if type(table) is not dict:
        inner = answer.get("response")
        table = inner.get("usage") if type(inner) is dict else None
        if type(table) is not dict:
            return None
    of_input, of_output = (
        given if type(given) is dict else {}
        for given in (
            table.get("input_tokens_details", table.get("input_token_details")),
            table.get("output_tokens_details"),
        )
    )
    counts: tuple[Any, ...] = (
        table.get("input_tokens"),
        table.get("output_tokens"),
        of_input.get("cached_tokens") or 0,
        of_input.get("audio_tokens") or 0,
        of_output.get("reasoning_tokens") or 0,
    )
    for count in counts:
        if type(count) is not int or not 0 <= count <= MAX_TOKENS:
            return None
    total_input, total_output, cached, audio, reasoning = counts
    return split_usage(total_input, total_output, cached=cached, audio_in=audio, reasoning=reasoning)
