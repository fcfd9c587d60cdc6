"""Messages between processes come out as they went in, however the bytes are split."""

from __future__ import annotations

import struct
from itertools import pairwise

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from gateway.link.frames import (
    HELLO,
    LOG,
    MAX_PAYLOAD,
    PREPARE,
    PREPARED,
    SWITCH,
    SWITCHED,
    FrameReader,
    frame,
)

MESSAGES = st.lists(st.tuples(st.integers(0, 255), st.binary(max_size=40)), max_size=6)


@settings(deadline=None)
@given(MESSAGES, st.lists(st.integers(0, 300), max_size=10))
@example([(HELLO, b""), (LOG, b"x" * 9), (SWITCH, b"\0" * 5)], list(range(30)))
def test_any_split_gives_the_same_messages(messages: list[tuple[int, bytes]], cuts: list[int]) -> None:
    data = b"".join(frame(kind, payload) for kind, payload in messages)
    places = [0, *sorted(cut for cut in cuts if cut < len(data)), len(data)]
    reader = FrameReader()
    received = [message for a, b in pairwise(places) for message in reader.feed(data[a:b])]
    assert received == messages
    assert reader.feed(b"") == []


def test_message_comes_with_its_last_byte_and_not_before() -> None:
    data = frame(PREPARE, b"policy")
    reader = FrameReader()
    assert reader.feed(data[:-1]) == []
    assert reader.feed(data[-1:] + frame(SWITCH, b"s")[:3]) == [(PREPARE, b"policy")]
    assert reader.feed(frame(SWITCH, b"s")[3:]) == [(SWITCH, b"s")]


def test_large_message_passes_whole() -> None:
    payload = bytes(range(256)) * 4096
    data = frame(PREPARE, payload)
    reader = FrameReader()
    received = [
        message for at in range(0, len(data), 65_536) for message in reader.feed(data[at : at + 65_536])
    ]
    assert received == [(PREPARE, payload)]


def test_head_is_a_big_endian_length_and_a_kind() -> None:
    assert frame(LOG, b"abc") == b"\x00\x00\x00\x03\x10abc"


def test_message_above_the_limit_is_neither_sent_nor_awaited() -> None:
    with pytest.raises(ValueError, match=str(MAX_PAYLOAD)):
        frame(LOG, bytes(MAX_PAYLOAD + 1))
    assert FrameReader().feed(struct.pack(">IB", MAX_PAYLOAD, LOG)) == []
    with pytest.raises(ValueError, match="above 64 MiB"):
        FrameReader().feed(struct.pack(">IB", MAX_PAYLOAD + 1, LOG))


def test_kinds_are_told_apart() -> None:
    assert len({HELLO, PREPARE, PREPARED, SWITCH, SWITCHED, LOG}) == 6
