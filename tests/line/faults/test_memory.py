"""However much a provider sends, little of it is kept: the peak of the whole process is measured."""

from __future__ import annotations

import asyncio
import gzip
import json
from pathlib import Path

import pytest

from gateway.http.message import chunk
from gateway.line.attempt import LONGEST_BYTES
from tests.line.conftest import StartRelay, StartScripted
from tests.line.faults.answers import GOOD_STREAM, ROLE, delta
from tests.line.faults.models import two_models
from tests.line.faults.table import BAD
from tests.line.test_streams import request_of
from tests.relaying import CHAT
from tests.scripted import STREAM_HEAD, WAIT, Step, answer, streamed

MOST_BYTES = 8 << 20
MIB = b"y" * (1 << 20)
FLOOD: tuple[Step, ...] = (MIB,) * 64
SMALL = b"x: y\r\n" * 100_000
PLAIN_HEAD = b"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\n"
BOMB = gzip.compress(bytes(1 << 20)) * 1024
"""1 GiB of zeros in 1 MB: a gzip file may have many members."""


def resident(field: str) -> int:
    """VmRSS (now) or VmHWM (the most since `forget_peak`) of this process, in bytes."""
    status = Path("/proc/self/status").read_text()
    return int(status.partition(f"{field}:")[2].split()[0]) * 1024


def forget_peak() -> None:
    Path("/proc/self/clear_refs").write_text("5")


def chunked(block: bytes, times: int) -> tuple[Step, ...]:
    return (chunk(block),) * times


FLOODS: list[tuple[str, tuple[Step, ...], str | None]] = [
    ("bomb", (answer(BOMB, 200, "content-encoding: gzip"),), BAD.code),
    ("bomb that says it is JSON", (answer(BOMB),), BAD.code),
    ("bomb with an error status", (answer(BOMB, 500, "content-encoding: gzip"),), None),
    ("streamed bomb", (STREAM_HEAD[:-2] + b"content-encoding: gzip\r\n\r\n" + chunk(BOMB), *FLOOD), BAD.code),
    ("reason", (b"HTTP/1.1 200 ", *FLOOD), BAD.code),
    ("header", (PLAIN_HEAD + b"x: ", *FLOOD), BAD.code),
    ("headers", (PLAIN_HEAD, *(SMALL,) * 64), BAD.code),
    ("1xx", ((b"HTTP/1.1 102 Processing\r\n\r\n" * 30_000),) * 64, BAD.code),
    ("error body", (PLAIN_HEAD.replace(b"200", b"500") + b"\r\n", *FLOOD), None),
    ("what is no JSON", (PLAIN_HEAD + b"\r\n", *FLOOD), BAD.code),
    ("event", (STREAM_HEAD + chunk(b"data: "), *chunked(MIB, 64)), BAD.code),
    ("chunk extension", (STREAM_HEAD + b"5;", *FLOOD), BAD.code),
    ("trailer", (STREAM_HEAD + chunk(ROLE) + b"0\r\nx: ", *FLOOD), BAD.code),
    ("trailers", (STREAM_HEAD + chunk(ROLE) + b"0\r\n", *(SMALL,) * 64), BAD.code),
]  # fmt: skip


@pytest.mark.parametrize(("steps", "code"), [row[1:] for row in FLOODS], ids=[row[0] for row in FLOODS])
async def test_flood_before_content_is_dropped(
    start: StartRelay, scripted: StartScripted, steps: tuple[Step, ...], code: str | None
) -> None:
    provider = await scripted(*steps)
    relay = await start(two_models(provider.url, provider.url, provider.url, "fallback_on: []"))
    stream = any(isinstance(step, bytes) and step.startswith(STREAM_HEAD[:40]) for step in steps)
    forget_peak()
    before = resident("VmRSS")
    told = await relay.post({**CHAT, "model": "alone", "stream": stream})
    assert resident("VmHWM") - before < MOST_BYTES
    assert (told.status, told.error["code"]) == (502, code)


AFTER_CONTENT: list[tuple[str, tuple[Step, ...]]] = [
    ("event", chunked(b"data: " + MIB[:-6], 64)),
    ("chunk extension", (b"5;", *FLOOD)),
    ("trailer", (b"0\r\nx: ", *FLOOD)),
]


@pytest.mark.parametrize("steps", [row[1] for row in AFTER_CONTENT], ids=[row[0] for row in AFTER_CONTENT])
async def test_flood_after_content_is_dropped(
    start: StartRelay, scripted: StartScripted, steps: tuple[Step, ...]
) -> None:
    provider = await scripted(STREAM_HEAD + chunk(ROLE + delta("x")), WAIT, *steps)
    relay = await start(two_models(provider.url, provider.url, provider.url, ""))
    forget_peak()
    before = resident("VmRSS")
    answered = await relay.stream({"model": "alone"}, began=provider.go)
    assert resident("VmHWM") - before < MOST_BYTES
    assert json.loads(answered.events[-1])["error"]["code"] == BAD.code


async def test_comments_without_content_are_held_back_to_64_kib_and_then_passed_on(
    start: StartRelay, scripted: StartScripted
) -> None:
    comments = b": " + b"-" * 1020 + b"\n\n"
    provider = await scripted(streamed(*[comments] * 100, GOOD_STREAM))
    relay = await start(two_models(provider.url, provider.url, provider.url, ""))
    answered = await relay.stream({"model": "alone"})
    assert answered.body.count(comments) == 100
    assert answered.events[-1] == "[DONE]"


async def test_plain_answer_above_64_mib_is_cut_there(start: StartRelay, scripted: StartScripted) -> None:
    provider = await scripted(PLAIN_HEAD + b'\r\n{"x": "', *((MIB,) * 80))
    relay = await start(two_models(provider.url, provider.url, provider.url, ""))
    reader, writer = await relay.connect()
    forget_peak()
    before = resident("VmRSS")
    writer.write(request_of({**CHAT, "model": "alone"}))
    size, piece = 0, b"-"
    while piece:
        piece = await asyncio.wait_for(reader.read(1 << 18), 10)
        size += len(piece)
        assert not piece.endswith(b"\r\n0\r\n\r\n")
    writer.close()
    assert LONGEST_BYTES // 2 < size < LONGEST_BYTES + (1 << 20)
    assert resident("VmHWM") - before < MOST_BYTES
    (record,) = await relay.logged()
    assert (record["outcome"], record["error_type"]) == ("upstream_failed", "provider_bad_answer")
    await asyncio.wait_for(provider.left.wait(), 5)
