"""Before anything was sent a failed attempt is made again, passed over, or told; each row is a test."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from tests.line.conftest import StartRelay, StartScripted
from tests.line.faults.answers import GOOD_BODY, GOOD_STREAM
from tests.line.faults.models import attempts, two_models
from tests.line.faults.table import BEFORE, PLAIN, STREAMED, Before, Told
from tests.relaying import CHAT, Answered
from tests.running import SECRET
from tests.scripted import answer, streamed

CASES = [
    pytest.param(row, call, id=f"{row.name}-{call}")
    for row in BEFORE
    for call in (PLAIN, STREAMED)
    if row.call in ("", call)
]


@pytest.mark.parametrize(("row", "call"), CASES)
async def test_fault(start: StartRelay, scripted: StartScripted, row: Before, call: str) -> None:
    stream = call == STREAMED
    alone, first = row.tries.alone, row.tries.first or row.tries.alone
    one_provider, first_provider = await scripted(*row.steps), await scripted(*row.steps)
    second_provider = await scripted(streamed(GOOD_STREAM) if stream else answer(GOOD_BODY))
    relay = await start(two_models(one_provider.url, first_provider.url, second_provider.url, row.timing))

    one, pair = await asyncio.gather(
        relay.post({**CHAT, "model": "alone", "stream": stream}),
        relay.post({**CHAT, "model": "pair", "stream": stream}),
    )

    falls_back = row.tries.first > 0
    assert (one_provider.asked, first_provider.asked) == (alone, first)
    assert second_provider.asked == falls_back
    assert attempts(relay, "alone", "one/m") == {row.told.outcome: alone}
    assert attempts(relay, "pair", "first/m") == {row.told.outcome: first}
    assert attempts(relay, "pair", "second/m") == ({"ok": 1} if falls_back else {})
    assert relay.counted("headgate_retries_total", "alone", "one/m") == alone - 1
    assert relay.counted("headgate_fallbacks_total") == falls_back
    records = {record["model"]: record for record in await relay.logged(2)}
    assert_told(one, row, records["alone"], alone)
    if falls_back:
        assert_answered_by_the_second(pair, records["pair"], first + 1)
    else:
        assert_told(pair, row, records["pair"], first)
    assert not relay.line.exchanges


def assert_told(answered: Answered, row: Before, record: dict[str, Any], count: int) -> None:
    """The caller got the failure as a whole JSON error; the log has it, and no usage."""
    told = row.told
    assert (answered.status, answered.error["code"]) == (told.status, told.code)
    assert answered.headers["content-type"] == "application/json"
    assert answered.error["message"]
    assert answered.headers["x-headgate-attempts"] == str(count)
    # The SDKs would send a 502 or 504 again, and what has no balance left.
    assert answered.headers.get("x-should-retry") == ("false" if is_final(told, row) else None)
    if row.retry_after_s is None:
        assert "retry-after" not in answered.headers
    else:
        least_s, most_s = row.retry_after_s
        assert least_s <= int(answered.headers["retry-after"]) <= most_s
    assert SECRET.encode() not in answered.body
    assert (record["status"], record["outcome"], record["error_type"]) == (
        told.status,
        "upstream_failed",
        told.error_type,
    )
    assert (record["usage_source"], record["attempts"]) == ("none", count)


def is_final(told: Told, row: Before) -> bool:
    return told.status in (502, 504) or row.name in ("429 quota", "402")


def assert_answered_by_the_second(answered: Answered, record: dict[str, Any], count: int) -> None:
    """The caller saw nothing of the fault."""
    assert answered.status == 200
    assert answered.headers["x-headgate-target"] == "second/m"
    assert answered.headers["x-headgate-attempts"] == str(count)
    assert answered.body == GOOD_BODY or answered.events[-1] == "[DONE]"
    assert (record["outcome"], record["error_type"], record["usage_source"]) == ("ok", None, "provider")
    assert (record["target"], record["attempts"], record["input_tokens"]) == ("second/m", count, 7)
