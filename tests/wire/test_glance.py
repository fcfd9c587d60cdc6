"""An event that was but glanced at says what it says when it is read."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from gateway.wire.answered import (
    Began,
    Cited,
    Closed,
    Done,
    Ended,
    Opened,
    Piece,
    Pieces,
    Said,
    Sealed,
)
from gateway.wire.conversation import Refusal, Text, Thinking, ToolCall
from gateway.wire.dialect import ANTHROPIC, CHAT, COMPLETIONS, Dialect
from gateway.wire.glance import Glance
from gateway.wire.json import dumps
from gateway.wire.sse import BadStream, events
from gateway.wire.translated import EventStream, TranslatedStream

TEXTS = st.text(max_size=12) | st.sampled_from(
    ['"', "\\", "\n", "é", "🙂", "\u2028", "</data>", "data: x", '","text":"', "m", "text_delta", ""]
)
ESCAPED = st.booleans()


class Blind(Glance):
    """Never sees anything: every event is read."""

    __slots__ = ()

    def seen(self, block: bytes, start: int) -> int:
        return 0


def written(fields: dict[str, Any], escaped: bool) -> bytes:
    """As one provider writes JSON, or as another."""
    return json.dumps(fields).encode() if escaped else dumps(fields)


def chat_event(text: str, escaped: bool, **more: Any) -> bytes:
    choice = {"index": 0, "delta": {"content": text, **more.pop("delta", {})}, "finish_reason": None}
    told = {"id": "c", "object": "chat.completion.chunk", "model": "m", "choices": [choice | more]}
    return b"data: " + written(told, escaped) + b"\n\n"


def anthropic_event(text: str, escaped: bool, **more: Any) -> bytes:
    delta = {"type": "text_delta", "text": text, **more.pop("delta", {})}
    told = {"type": "content_block_delta", "index": 0, "delta": delta} | more
    return b"event: content_block_delta\ndata: " + written(told, escaped) + b"\n\n"


BEGUN = {
    "type": "message_start",
    "message": {"id": "m", "type": "message", "role": "assistant", "model": "m", "content": []},
}
BLOCK = {"type": "content_block_start", "index": 0, "content_block": {"type": "text", "text": ""}}
START = b"".join(b"data: %b\n\n" % dumps(fields) for fields in (BEGUN, BLOCK))
ODD: dict[str, list[dict[str, Any]]] = {
    "chat": [
        {},
        {"index": 1},
        {"finish_reason": "stop"},
        {"delta": {"refusal": "No."}},
        {"delta": {"tool_calls": [{"index": 0, "id": "t", "function": {"name": "f", "arguments": "{}"}}]}},
    ],
    "anthropic": [
        {},
        {"index": 1},
        {"type": "content_block_stop"},
        {"type": "message_stop"},
        {"type": "error", "error": {"type": "api_error", "message": "x"}},
        {"delta": {"type": "thinking_delta", "thinking": "t"}},
        {"delta": {"type": "citations_delta"}},
    ],
}


@st.composite
def streams(draw: st.DrawFn) -> tuple[Dialect, bytes]:
    """A provider's stream of pieces, most of them alike, some of them not what they look like."""
    name = draw(st.sampled_from(sorted(ODD)))
    event = chat_event if name == "chat" else anthropic_event
    pieces = draw(st.lists(st.tuples(TEXTS, ESCAPED, st.integers(0, 20), st.integers(0, 3)), max_size=30))
    whole = b"" if name == "chat" else START
    for text, escaped, odd, blanks in pieces:
        one = event(text, escaped, **(ODD[name][odd] if odd < len(ODD[name]) else {}))
        whole += one[:-3] + b" " * blanks + one[-3:]
    return (CHAT if name == "chat" else ANTHROPIC), whole


def outcome(stream: EventStream, data: bytes, size: int) -> list[Any]:
    try:
        out = b"".join(stream.feed(data[at : at + size]) for at in range(0, len(data), size))
        out += stream.finish()
    except BadStream:
        return ["bad"]
    told = [json.loads(data) if data != b"[DONE]" else "done" for _, data in events(out)]
    return [
        told,
        stream.done,
        stream.committed,
        stream.content_bytes,
        stream.error,
        stream.overrun,
        stream.unknown,
    ]


@settings(max_examples=300, deadline=None)
@given(
    given=streams(),
    caller=st.sampled_from([CHAT, ANTHROPIC, COMPLETIONS]),
    size=st.sampled_from([1 << 20, 300, 100]),
)
def test_what_is_glanced_at_says_what_it_says_when_read(
    given: tuple[Dialect, bytes], caller: Dialect, size: int
) -> None:
    target, data = given
    for kind in (EventStream, TranslatedStream):
        found = []
        for glance in (Glance(), Blind()):
            more = (caller.writer(True),) if kind is TranslatedStream else ()
            stream = kind(target.reader(), *more)
            stream._glance = glance
            found.append(outcome(stream, data, size))
        assert found[0] == found[1]


@pytest.mark.parametrize("event", [chat_event, anthropic_event])
def test_pieces_of_one_part_are_seen(event: Any) -> None:
    glance = Glance()
    glance.learn(event("one", False), 3, "one")
    texts = ["two", 'a "quoted" word', "é\n"]
    run = b"".join(event(text, False) for text in texts)
    # `json.dumps` writes blanks where the event that was learned from had none.
    end = glance.seen(b"xx" + run + event("last", True), 2)
    assert end == 2 + len(run)
    assert glance.several == Pieces(3, "".join(texts), [dumps(text) for text in texts])
    assert glance.seen(event("last", True), 0) == 0
    glance.forget()
    assert glance.seen(event("two", False), 0) == 0


@pytest.mark.parametrize("padding", [b',"obfuscation":"aZ0"}', b"}", b"   }", b"}   "])
@pytest.mark.parametrize("before", [b',"obfuscation":"bcd"}', b"}", b" }"])
@pytest.mark.parametrize("event", [chat_event, anthropic_event])
def test_padding_may_be_another_each_time(event: Any, before: bytes, padding: bytes) -> None:
    glance = Glance()
    plain = event("one", False).rstrip(b"\n")[:-1]
    glance.learn(plain + before + b"\n\n", 0, "one")
    block = plain.replace(b"one", b"two") + padding + b"\n\n"
    assert glance.seen(block, 0) == len(block)
    assert glance.several.quoted == [b'"two"']


RECORDED = b"".join(
    b'event: content_block_delta\ndata: {"type":"content_block_delta","index":0,"delta":'
    b'{"type":"text_delta","text":"%b"}%b}\n\n' % (text.encode(), b" " * blanks)
    for text, blanks in (("Hi", 11), ("! 👋 How", 6), (" can I help", 0), (" you\\n\\ntoday?", 3))
)
"""As Anthropic sends it: blanks before the last brace, as many as it takes to hide how long a text is."""


@pytest.mark.parametrize("size", [1 << 20, 150], ids=["together", "in pieces"])
def test_of_what_anthropic_sends_only_the_first_piece_is_read(size: int) -> None:
    read: list[bytes] = []

    class Counting(ANTHROPIC.reader):  # type: ignore[misc,name-defined]
        def read(self, data: bytes) -> Any:
            read.append(data)
            return super().read(data)

    stream = TranslatedStream(Counting(), CHAT.writer(True))
    stream.feed(START)
    begun = len(read)
    out = b"".join(stream.feed(RECORDED[at : at + size]) for at in range(0, len(RECORDED), size))
    assert len(read) == begun + 1
    chunks = [json.loads(data) for _, data in events(out)]
    texts = [chunk["choices"][0]["delta"]["content"] for chunk in chunks]
    assert texts == ["Hi", "! 👋 How", " can I help", " you\n\ntoday?"]
    assert stream.content_bytes == len("".join(texts).encode())


KINDS: dict[str, Said] = {
    "text": Text(""),
    "thinking": Thinking("", dialect="anthropic"),
    "refusal": Refusal(""),
    "tool": ToolCall("call_1", "f", ""),
}


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("caller", [CHAT, ANTHROPIC, COMPLETIONS], ids=lambda dialect: dialect.name)
@given(texts=st.lists(TEXTS.filter(bool), min_size=1, max_size=9))
def test_pieces_are_written_as_each_of_them_would_be(caller: Dialect, kind: str, texts: list[str]) -> None:
    quoted, told = [dumps(text) for text in texts], []
    for together in (False, True):
        writer = caller.writer(True)
        out = writer.write(Began("id \x00here\x00", "m")) + writer.write(Opened(4, replace(KINDS[kind])))
        if together:
            out += writer.pieces(Pieces(4, "".join(texts), quoted))
        else:
            out += b"".join(writer.write(Piece(4, text)) for text in texts)
        # A seal repeats the thoughts, a citation says where in the content its text stands.
        out += writer.write(Sealed(4, "seal"))
        out += writer.write(Cited(4, {"type": "web_search_result_location", "url": "https://x.test"}))
        told.append(out + writer.write(Closed(4)) + writer.write(Ended("stop")) + writer.write(Done()))
    assert told[0] == told[1]


@pytest.mark.parametrize("caller", [CHAT, ANTHROPIC, COMPLETIONS], ids=lambda dialect: dialect.name)
def test_pieces_of_a_part_that_never_began_are_written_the_same(caller: Dialect) -> None:
    each, together = caller.writer(True), caller.writer(True)
    for writer in (each, together):
        writer.write(Began("id", "m"))
    assert together.pieces(Pieces(7, "ab", [b'"a"', b'"b"'])) == b"".join(
        each.write(Piece(7, text)) for text in "ab"
    )


def test_what_is_never_seen_is_not_learned_from_for_ever() -> None:
    glance = Glance()
    for _ in range(100):
        glance.learn(chat_event("one", False), 0, "one")
        assert glance.seen(chat_event("two", True), 0) == 0
    assert glance.seen(chat_event("two", False), 0) == 0
    glance = Glance()
    for _ in range(100):
        glance.learn(chat_event("one", False), 0, "one")
        assert glance.seen(chat_event("two", False), 0) > 0


@pytest.mark.parametrize(
    ("event", "text"),
    [
        (b'data: {"text":"\\u0041","more":"A"}\n\n', "A"),
        (b'data: {"more":"A","text":"\\u0041"}\n\n', "A"),
        (b'data: {"more":["a",","]}\n\n', ","),
        (b'data: {"text":":"}\n\n', ":"),
        (b'data: {"text":\ndata: "A"\ndata: }\n\n', "A"),
    ],
)
def test_a_text_that_could_stand_elsewhere_is_not_learned_from(event: bytes, text: str) -> None:
    glance = Glance()
    glance.learn(event, 0, text)
    assert glance.seen(event, 0) == 0


@pytest.mark.parametrize("text", ["", "\\ud83d", "\\x", "\x01", '"'])
def test_what_is_empty_or_no_string_is_read(text: str) -> None:
    glance = Glance()
    glance.learn(chat_event("one", False), 0, "one")
    assert glance.seen(chat_event("one", False).replace(b"one", text.encode()), 0) == 0


@example("m")
@given(TEXTS)
def test_a_text_that_stands_twice_is_not_learned_from(text: str) -> None:
    glance = Glance()
    glance.learn(anthropic_event(text, False, more=text), 0, text)
    assert glance.seen(anthropic_event(text, False, more=text), 0) == 0
