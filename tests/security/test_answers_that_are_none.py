"""What a provider sends instead of an answer, and is too long to be read whole, is not passed on as one."""

from __future__ import annotations

import json

import pytest

from tests.line.conftest import StartRelay
from tests.running import policy_for
from tests.security.listening import CONTENT, GOOD, Listening, answer_of, stream_of

LONG = "x" * (1 << 20)
PAGE = f"<html>{LONG}".encode()


@pytest.mark.parametrize("streamed", [False, True], ids=["plain", "streamed"])
@pytest.mark.parametrize(
    ("answer", "good"),
    [
        (answer_of(PAGE), False),
        (answer_of(b"\n" + PAGE), False),
        (stream_of({**CONTENT, "x": LONG[:-200]}, {**CONTENT, "x": LONG[:-200]}), False),
        (answer_of({**GOOD, "x": LONG}), True),
        (answer_of(b"\r\n\t " + json.dumps({**GOOD, "x": LONG}).encode()), True),
    ],
    ids=["page", "page after a line", "stream", "answer", "answer after blanks"],
)
async def test_long_answer_begins_like_one(
    start: StartRelay, provider: Listening, answer: bytes, good: bool, streamed: bool
) -> None:
    relay = await start(policy_for(provider.url))
    provider.answer = answer
    got = await (relay.stream() if streamed else relay.post())
    if streamed:
        good = b"text/event-stream" in answer[:100]
    assert got.status == (200 if good else 502), got.body[:200]
    assert good or got.error["code"] == "bad_upstream_response"
