"""Streams of bytes that mean the same in any split: server-sent events, streamed answers, frames."""

from __future__ import annotations

import random
import struct
from collections.abc import Iterable
from itertools import zip_longest

from gateway.link.frames import LOG, PREPARE, SWITCH, FrameReader, frame
from gateway.wire.dialects.openai_stream import AnswerStream
from gateway.wire.sse import BadStream, Scanner, events
from tests.fuzz.target import pieces
from tests.wire.test_sse import by_the_standard

CHUNK = b'data: {"id":"c","choices":[{"index":0,"delta":%b,"finish_reason":%b}]%b}'
ROLE = CHUNK % (b'{"role":"assistant","content":""}', b"null", b"")
TEXT = CHUNK % (b'{"content":"a river"}', b"null", b"")
STOP = CHUNK % (b"{}", b'"stop"', b"")
USAGE = b'data: {"choices":[],"usage":{"prompt_tokens":9,"completion_tokens":3,"total_tokens":12}}'
SEARCHED_BYTES = 4096
ERROR = b'data: {"error":{"message":"no","type":"server_error","param":null,"code":null}}'
DONE = b"data: [DONE]"


def stream(*lines: bytes, end: bytes = b"\n\n") -> bytes:
    return b"".join(line + end for line in lines)


class Sse:
    """`Scanner`: the events of the HTML standard, in any split, or `BadStream`."""

    name = "sse"
    corpus = (
        stream(TEXT, TEXT, DONE),
        stream(TEXT, STOP, end=b"\r\n\r\n"),
        stream(TEXT, DONE, end=b"\r\r"),
        b": keep-alive\n\nevent: x\nid: 1\nretry: 5\ndata: a\ndata:b\ndata\n\n",
        "data: é漢😀\n\n".encode(),
        b"data: no blank line",
    )
    tokens = (
        b"\n",
        b"\r",
        b"\r\n",
        b"\n\n",
        b"data:",
        b"data: ",
        b":",
        b"\xef\xbb\xbf",
        b"\xc3",
        b"\xff",
        b"event: ",
    )

    def check(self, data: bytes, draw: random.Random) -> None:
        whole, split = self.events_of([data] if data else []), self.events_of(pieces(draw, data))
        assert whole == split, f"whole: {whole}; split: {split}"
        if whole is None:
            return
        expected = by_the_standard(data)
        assert whole == [text.encode() for text in expected], f"{whole} instead of {expected}"

    def close(self) -> None: ...

    def events_of(self, parts: Iterable[bytes]) -> list[bytes] | None:
        """The data of all events; None for a stream that is refused."""
        scanner = Scanner()
        try:
            blocks = [*(scanner.feed(part) for part in parts), scanner.finish()]
        except BadStream:
            return None
        for block in blocks:
            assert b"\r" not in block
            assert not block or block.endswith(b"\n\n")
        return [event for block in blocks for _, event in events(block) if event]


class Answer:
    """`AnswerStream`: the same goes on and the same is known, in any split."""

    name = "answer"
    corpus = (
        stream(ROLE, TEXT, TEXT, STOP, USAGE, DONE),
        stream(ROLE, TEXT, STOP, USAGE),
        stream(ROLE, ERROR),
        stream(ROLE, TEXT, ERROR),
        stream(ROLE, TEXT, STOP, DONE, DONE),
        stream(
            CHUNK % (b'{"content":"x"}', b'"stop"', b',"usage":{"prompt_tokens":1,"completion_tokens":1}'),
            DONE,
        ),
        stream(CHUNK % (b'{"tool_calls":[]}', b"null", b',"service_tier":"flex","usage":null'), DONE),
        stream(TEXT, DONE, end=b"\r\n\r\n"),
    )
    tokens = (
        *(ROLE, TEXT, STOP, USAGE, ERROR, DONE, b"\n\n", b"\n", b"\r\n", b"data: ", b"[DONE]", b'"usage":{'),
        *(
            b'"usage": {',
            b'"error"',
            b'"error":null',
            b"null",
            b"[]",
            b"{}",
            b'"choices":',
            b"-1",
            b"1e3",
            b'"',
        ),
    )

    def check(self, data: bytes, draw: random.Random) -> None:
        # Of a longer block only the end is searched for usage and errors: it may know less than its parts.
        data = data[:SEARCHED_BYTES]
        strips, choices = draw.randrange(2) == 0, draw.randrange(1, 3)
        whole = self._pass([data] if data else [], strips, choices)
        split = self._pass(pieces(draw, data), strips, choices)
        if whole is None or split is None:
            assert whole == split
            return
        (out, known), (split_out, split_known) = whole, split
        if b"[DONE]" not in (Sse().events_of([data]) or []):
            # The end that a provider leaves out is written for it if its last two blocks give a reason.
            out, split_out = ([event for event in each if event != b"[DONE]"] for each in (out, split_out))
            known, split_known = ({**each, "done": None} for each in (known, split_known))
        if b"\n\n\n" in data.replace(b"\r\n", b"\n").replace(b"\r", b"\n"):
            # Whether blank lines after the end are seen depends on the split. The connection closes anyway.
            known, split_known = ({**each, "overrun": None} for each in (known, split_known))
        for event, split_event in zip_longest(out, split_out):
            assert event == split_event
        assert known == split_known, f"whole: {known}; split: {split_known}"

    def close(self) -> None: ...

    def _pass(
        self, parts: Iterable[bytes], strips: bool, choices: int
    ) -> tuple[list[bytes], dict[str, object]] | None:
        answer = AnswerStream(strips_usage=strips, choices=choices)
        try:
            blocks = [*(answer.feed(part) for part in parts), answer.finish()]
        except BadStream:
            return None
        assert answer.bytes_passed <= sum(map(len, blocks))
        estimate = answer.estimate(100)
        assert estimate.input == 25 and estimate.output >= 0
        passed = [event for block in blocks for _, event in events(block) if event]
        assert passed.count(b"[DONE]") <= 1
        names = ("committed", "done", "overrun", "error", "usage", "service_tier")
        known = {name: getattr(answer, name) for name in names}
        return passed, known


class Frames:
    """`FrameReader`: the same messages in any split, or `ValueError`."""

    name = "frames"
    corpus = (
        frame(PREPARE, b'{"hash":"a"}') + frame(SWITCH, b"") + frame(LOG, b"x" * 300),
        frame(LOG, bytes(range(256))),
        b"",
    )
    tokens = (
        struct.pack(">I", 1 << 26),
        struct.pack(">I", 0),
        b"\xff\xff\xff\xff",
        frame(LOG, b"y"),
        b"\x10",
    )

    def check(self, data: bytes, draw: random.Random) -> None:
        (whole, broken), (split, split_broken) = self._read([data]), self._read(pieces(draw, data))
        assert broken == split_broken
        # What stood before the break in the same piece is lost with it.
        assert whole == (split[: len(whole)] if broken else split)
        read = b"".join(frame(kind, payload) for kind, payload in split)
        assert data.startswith(read)
        rest = data[len(read) :]
        if not broken and len(rest) >= 5:
            assert len(rest) < 5 + int.from_bytes(rest[:4]), "a whole message was kept back"

    def close(self) -> None: ...

    def _read(self, parts: Iterable[bytes]) -> tuple[list[tuple[int, bytes]], bool]:
        """All messages, and whether the stream broke."""
        reader = FrameReader()
        found: list[tuple[int, bytes]] = []
        try:
            for part in parts:
                found += reader.feed(part)
        except ValueError:
            return found, True
        return found, False


TARGETS = (Sse, Answer, Frames)
