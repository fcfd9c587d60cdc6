"""An event that was but glanced at says what it says when it is read."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from gateway.wire.dialect import ANTHROPIC, CHAT, Dialect
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
    pieces = draw(st.lists(st.tuples(TEXTS, ESCAPED, st.integers(0, 20)), max_size=30))
    whole = b"" if name == "chat" else START
    for text, escaped, odd in pieces:
        whole += event(text, escaped, **(ODD[name][odd] if odd < len(ODD[name]) else {}))
    return (CHAT if name == "chat" else ANTHROPIC), whole


def outcome(stream: EventStream, data: bytes) -> list[Any]:
    try:
        out = stream.feed(data) + stream.finish()
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
@given(given=streams(), caller=st.sampled_from([CHAT, ANTHROPIC]))
def test_what_is_glanced_at_says_what_it_says_when_read(
    given: tuple[Dialect, bytes], caller: Dialect
) -> None:
    target, data = given
    for kind in (EventStream, TranslatedStream):
        found = []
        for glance in (Glance(), Blind()):
            more = (caller.writer(True),) if kind is TranslatedStream else ()
            stream = kind(target.reader(), *more)
            stream._glance = glance
            found.append(outcome(stream, data))
        assert found[0] == found[1]


@pytest.mark.parametrize("event", [chat_event, anthropic_event])
def test_pieces_of_one_part_are_seen(event: Any) -> None:
    glance = Glance()
    glance.learn(event("one", False), 3, "one")
    for text in ("two", 'a "quoted" word', "é\n"):
        block = b"xx" + event(text, True)
        # `json.dumps` writes blanks where the event that was learned from had none.
        assert glance.seen(block, 2) == 0
        block = b"xx" + event(text, False) + event("more", False)
        end = glance.seen(block, 2)
        assert block[2:end] == event(text, False)
        assert (json.loads(glance.quoted), glance.size, glance.index) == (text, len(text.encode()), 3)
    glance.forget()
    assert glance.seen(event("two", False), 0) == 0


@pytest.mark.parametrize("padding", [b',"obfuscation":"aZ0"}', b"}", b"}   "])
def test_padding_may_be_another_each_time(padding: bytes) -> None:
    glance = Glance()
    plain = chat_event("one", False).rstrip(b"\n")[:-1]
    glance.learn(plain + b',"obfuscation":"bcd"}\n\n', 0, "one")
    event = plain.replace(b"one", b"two") + padding + b"\n\n"
    assert glance.seen(event, 0) == len(event)
    assert glance.quoted == b'"two"'


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
