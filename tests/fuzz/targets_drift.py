"""Answers as they reach who judges them: whatever a provider or a caller sends, a sample or nothing."""

from __future__ import annotations

import random

from gateway.control.drift.judge import TABLES, Judge
from gateway.drift.channel import NOT_TOLD
from gateway.drift.features import Reader
from gateway.drift.sample import Sample
from gateway.link.answers import pack, unpack
from gateway.policy.drift_compile import watch_table
from gateway.policy.drift_spec import DriftSpec

ASKED = (
    b'{"model":"m","messages":[{"role":"system","content":"Be brief."},{"role":"user","content":"Why?"}],'
    b'"temperature":0.2,"response_format":{"type":"json_schema","json_schema":{"schema":{"type":"object",'
    b'"properties":{"a":{"type":"integer"}},"required":["a"]}}},"tools":[{"type":"function","function":'
    b'{"name":"f","parameters":{"type":"object"}}}]}'
)
PLAIN = (
    b'{"id":"c","model":"m-1","system_fingerprint":"fp_1","choices":[{"index":0,"message":{"role":"assistant",'
    b'"content":"I\'m sorry, but **no**:\\n- a\\n- b\\n```x```","tool_calls":[{"function":{"name":"f",'
    b'"arguments":"{}"}}]},"finish_reason":"stop","logprobs":{"content":[{"logprob":-0.1}]}}]}'
)
CHUNK = b'data: {"model":"m-1","choices":[{"index":0,"delta":{"content":"%b"},"finish_reason":null}]}\n\n'
STREAM = CHUNK % b"Wie geht" + CHUNK % " 你好 привет".encode() + b"data: [DONE]\n\n"
MODELS = {"m": watch_table(DriftSpec.model_validate({"reference": {"arm_at": 50}}), None)}
NAME = ("m", "one/m")
SCRIPTS = (
    *((0x20, 0x7F), (0xA0, 0x250), (0x370, 0x400), (0x400, 0x530), (0x590, 0x600), (0x600, 0x700)),
    *((0x900, 0xE00), (0xE00, 0xE80), (0x1100, 0x1200), (0x3040, 0x3100), (0x4E00, 0x9FFF)),
    *((0xAC00, 0xD7A4), (0x1F300, 0x1FAFF), (0x0, 0x20), (0xE000, 0xF8FF), (0x2000, 0x2070)),
)


class Answered:
    """`Reader` and `Judge`: one byte per channel, each a bin of it, and a judge that takes it."""

    name = "drift"
    corpus = (b"\0" + PLAIN, b"\1" + STREAM, b"\0{}", b"\1data: [DONE]\n\n", b"\1" + CHUNK)
    tokens = (
        b'"content":"',
        b'"choices":[',
        b"null",
        b"1e999",
        b"\\ud800",
        b"\\u0000",
        b'"delta":{',
        b"data: ",
        b"\n\n",
        "你".encode(),
        b"```json\n",
        b'"tool_calls":[{"index":',
        b"\xff",
    )

    def __init__(self) -> None:
        self._reader = Reader(b"fuzz")
        self._judge = Judge(())
        self._judge.use(MODELS)

    def check(self, data: bytes, draw: random.Random) -> None:
        streamed, answer = data[:1] == b"\1", data[1:]
        request = ASKED if draw.random() < 0.5 else answer
        head = {
            "model": "m",
            "target": "one/m",
            "endpoint": draw.choice(("chat", "completions")),
            "stream": streamed,
            "at": 1.0,
            "took_s": draw.choice((0.0, -1.0, 1e9, 0.3)),
            "first_s": draw.choice((0.0, -1.0, 0.1)),
            "input": draw.randrange(3) * 10 ** draw.randrange(12),
            "output": draw.randrange(3) * 10 ** draw.randrange(12),
            "headers": {"x-region": data[:40].decode("latin-1")},
        }
        (told,) = unpack(pack(head, request, answer))
        read = self._reader.read(told.head, told.request, told.answer)
        if read is None:
            return
        sample = Sample.unpack(read.sample.pack())
        assert sample == read.sample
        for bins, layout in (
            (sample.answer, TABLES.answers),
            (sample.asked, TABLES.asked),
            (sample.performance, TABLES.performance),
        ):
            assert len(bins) == len(layout.channels)
            for channel, index in zip(layout.channels, bins, strict=True):
                assert index == NOT_TOLD or index < channel.bins, f"{channel.name} is {index}"
        assert all(value.isprintable() and len(value) <= 256 for value in read.identity.values())
        self._judge.take(NAME, sample, read.identity)

    def close(self) -> None: ...


def any_answer(draw: random.Random) -> bytes:
    """Text of one or several scripts, or none, in a good or a broken answer, of up to a mebibyte."""
    size = int(2 ** draw.uniform(0, 10 if draw.random() < 0.99 else 20))
    if draw.random() < 0.1:
        return draw.randbytes(1 + size)
    scripts = draw.choices(SCRIPTS, k=draw.randrange(1, 4))
    letters = [chr(draw.randrange(*draw.choice(scripts))) for _ in range(min(size, 200))]
    text = "".join(letters) * max(1, size // 200)
    content = text.encode("utf-8", "replace").replace(b"\\", b"").replace(b'"', b"").translate(_NO_CONTROLS)
    if draw.random() < 0.5:
        return b"\1" + CHUNK % content + STREAM
    return b"\0" + PLAIN.replace(b"I'm sorry", content)


_NO_CONTROLS = bytes(0x20 if byte < 0x20 else byte for byte in range(256))
TARGETS = (Answered,)
