"""The event stream scanner gives the same events whatever the split, the line ends and the comments."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable
from itertools import pairwise

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from gateway.wire.sse import MAX_EVENT_BYTES, BadStream, Scanner, data_of, events, has_data

LINE_ENDS = st.sampled_from(["\n", "\r", "\r\n"])
TEXT = st.text(st.sampled_from('aé漢😀 :{}"[]\\'), max_size=12)
FIELD_LINES = (
    st.tuples(st.sampled_from(["data: ", "data:", "data:  "]), TEXT).map("".join)
    | st.tuples(st.sampled_from([":", ": ", "event: ", "id: ", "retry: ", "datax: ", "x"]), TEXT).map("".join)
    | st.just("data")
)
STREAMS = st.tuples(
    st.sampled_from(["", "\ufeff"]),
    st.lists(st.tuples(FIELD_LINES | st.just(""), LINE_ENDS).map("".join), max_size=24).map("".join),
).map(lambda parts: "".join(parts).encode())
CUTS = st.lists(st.integers(0, 400), max_size=12)


def by_the_standard(stream: bytes) -> list[str]:
    """Data of all events as the HTML standard reads them (one byte order mark at the beginning is none of
    them), plus a last one whose blank line is missing."""
    found, data = [], []
    for line in [*stream.decode("utf-8-sig").replace("\r\n", "\n").replace("\r", "\n").split("\n"), ""]:
        name, _, value = line.partition(":")
        if not line and data:
            found.append("\n".join(data))
            data = []
        elif name == "data":
            data.append(value.removeprefix(" "))
    return [text for text in found if text]


def pieces(stream: bytes, cuts: Iterable[int]) -> list[bytes]:
    """The stream in pieces, none of them empty."""
    places = sorted({0, len(stream), *(cut for cut in cuts if cut < len(stream))})
    return [stream[start:end] for start, end in pairwise(places)]


def scan(parts: Iterable[bytes]) -> tuple[bytes, list[bytes]]:
    """(all that goes on, the blocks it came in)."""
    scanner = Scanner()
    out = [scanner.feed(part) for part in parts]
    out.append(scanner.finish())
    return b"".join(out), [block for block in out if block]


def data_in(blocks: Iterable[bytes]) -> list[str]:
    return [data.decode() for block in blocks for _, data in events(block) if data]


@given(stream=STREAMS, cuts=CUTS)
@example(stream=b"data: a\r\r\n\ndata: b\r\n\r\n", cuts=[8, 9, 10])
@example(stream=b"data: a\n\r\ndata: b\n\n\n\ndata: c", cuts=[7, 8, 9])
@example(stream=b"\xef\xbb\xbfdata: a\n\n\xef\xbb\xbfdata: b\n\n", cuts=[1, 2, 3])
@settings(max_examples=400, deadline=None)
def test_any_split_gives_the_events_of_the_standard(stream: bytes, cuts: list[int]) -> None:
    expected = by_the_standard(stream)
    for parts in (pieces(stream, cuts), pieces(stream, range(len(stream))), [stream] if stream else []):
        out, shown = scan(parts)
        assert data_in(shown) == expected
        assert by_the_standard(out) == expected
        assert b"\r" not in out
        assert all(block.endswith(b"\n\n") for block in shown)


def test_events_go_on_as_soon_as_their_blank_line_is_there() -> None:
    scanner = Scanner()
    assert scanner.feed(b"data: 1\n") == b""
    assert scanner.feed(b"\ndata: 2\n\ndata: 3") == b"data: 1\n\ndata: 2\n\n"
    assert scanner.feed(b"\r") == b""
    assert scanner.feed(b"\r") == b"data: 3\n\n"
    assert scanner.feed(b"\n") == b""
    assert scanner.finish() == b""


def test_stream_with_lf_ends_passes_byte_for_byte() -> None:
    stream = b": hello\n\nevent: x\nid: 7\nretry: 10\ndata: {\ndata:  }\n\nunknown: 1\ndata\n\n"
    assert scan([stream])[0] == stream
    assert scan(pieces(stream, range(len(stream))))[0] == stream


@pytest.mark.parametrize(
    ("event", "data"),
    [
        (b"data: x\n\n", b"x"),
        (b"data:x\n\n", b"x"),
        (b"data:  x\n\n", b" x"),
        (b"data: a\ndata: b\n\n", b"a\nb"),
        (b"data: a\nevent: e\ndata:b\n\n", b"a\nb"),
        (b"event: e\ndata: a: b\n\n", b"a: b"),
        (b"data\n\n", b""),
        (b": data: x\n\n", b""),
        (b"Data: x\n\n", b""),
    ],
)
def test_data_of_an_event(event: bytes, data: bytes) -> None:
    assert data_of(event) == data


@pytest.mark.parametrize("line_end", [b"\n", b"\r", b"\r\n"])
@pytest.mark.parametrize("size", [1, 1000, 65_536, MAX_EVENT_BYTES])
def test_event_of_1_mib_passes_and_one_byte_more_does_not(line_end: bytes, size: int) -> None:
    head, blank = b"data: ", b"\n\n"
    body = b"x" * (MAX_EVENT_BYTES - len(head) - len(blank))
    good, bad = head + body + line_end * 2, head + body + b"x" + line_end * 2

    def parts(stream: bytes) -> list[bytes]:
        return pieces(stream, range(0, len(stream), size) if size > 1 else [1, 2, len(stream) - 1])

    assert scan(parts(good))[0] == head + body + blank
    with pytest.raises(BadStream):
        scan(parts(bad))


def test_event_that_never_ends_is_refused_before_it_is_held() -> None:
    scanner = Scanner()
    fed = 0
    with pytest.raises(BadStream):
        while True:
            scanner.feed(b"data: " + b"x" * 60_000)
            fed += 60_006
    assert fed <= MAX_EVENT_BYTES


def test_many_events_of_more_than_1_mib_in_one_block_pass() -> None:
    stream = (b"data: " + b"x" * 1000 + b"\n\n") * 2000
    assert len(stream) > MAX_EVENT_BYTES
    assert scan([stream])[0] == stream


@pytest.mark.parametrize(
    "bad", [b"\xff", b"\xc3", b"\xed\xa0\x80", b"\xc0\xaf", b"\xf4\x90\x80\x80", b"\x80"]
)
@pytest.mark.parametrize("end", [b"\n\n", b"\n", b""])
@given(cuts=CUTS)
@settings(max_examples=15, deadline=None)
def test_invalid_utf8_is_refused_in_any_split(bad: bytes, end: bytes, cuts: list[int]) -> None:
    good = "data: é漢\n\n".encode()
    with pytest.raises(BadStream):
        scan(pieces(good + b"data: " + bad + end, cuts))


@pytest.mark.parametrize("begun", [b"\xef", b"\xef\xbb"])
def test_half_a_byte_order_mark_is_invalid_utf8(begun: bytes) -> None:
    with pytest.raises(BadStream):
        scan([begun])
    with pytest.raises(BadStream):
        scan([begun, b"data: x\n\n"])


@pytest.mark.parametrize(
    ("block", "has"),
    [
        (b"data: x\n\n", True),
        (b": ping\n\n", False),
        (b": ping\n\ndata: x\n\n", True),
        (b"event: e\ndata:x\n\n", True),
        (b"event: ping\n\n", False),
        (b": data\n\n", False),
        (b"\n\n", False),
    ],
)
def test_block_without_data_is_told_from_one_with(block: bytes, has: bool) -> None:
    assert has_data(block) is has


def cpu_s(feed: Callable[[], object]) -> float:
    """The least CPU time of three runs."""
    times = []
    for _ in range(3):
        begin_s = time.thread_time()
        feed()
        times.append(time.thread_time() - begin_s)
    return min(times)


@pytest.mark.parametrize("line_end", [b"\n", b"\r\n"])
def test_work_for_an_event_fed_byte_by_byte_grows_with_its_size_only(line_end: bytes) -> None:
    def feed(size: int) -> Callable[[], object]:
        stream = line_end + b"data: " + b"x" * (size - 6) + line_end * 2
        parts = [stream[at : at + 1] for at in range(len(stream))]
        return lambda: scan(parts)

    # 16 times the bytes: 16 times the work; 256 times if anything were copied or searched again.
    assert cpu_s(feed(MAX_EVENT_BYTES - 16)) < 64 * cpu_s(feed(MAX_EVENT_BYTES // 16))
