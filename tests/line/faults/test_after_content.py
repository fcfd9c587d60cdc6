"""Once content has passed nothing is tried again: an error event ends the stream; each row is a test."""

from __future__ import annotations

import json

import pytest

from tests.line.conftest import StartRelay, StartScripted
from tests.line.faults.answers import GOOD_BODY, GOOD_STREAM
from tests.line.faults.models import attempts, two_models
from tests.line.faults.table import AFTER, BAD, BIG, LOST, TIMED_OUT, After, Told
from tests.relaying import CHAT
from tests.scripted import CLOSE, RESET, STALL, WAIT, Step, answer, streamed

PAIR = {**CHAT, "model": "pair"}
NOT_THE_TARGETS = ("rate_limited", "content_filter", "refused")


@pytest.mark.parametrize("row", AFTER, ids=lambda row: row.name)
async def test_fault(start: StartRelay, scripted: StartScripted, row: After) -> None:
    first, second = await scripted(*row.steps), await scripted(streamed(GOOD_STREAM))
    more = f"{row.timing}, health: {{failures: 1, eject: 1m}}"
    relay = await start(two_models(first.url, first.url, second.url, more))

    answered = await relay.stream(PAIR, began=first.go)

    assert (first.asked, second.asked) == (1, 0)
    assert (answered.status, answered.headers["x-headgate-target"]) == (200, "first/m")
    assert not answered.cut, "the body itself is complete"
    assert "[DONE]" not in answered.events
    *before, last = [event for event in answered.events if event.startswith("{")]
    error = json.loads(last)["error"]
    assert {"message", "type", "param", "code"} <= error.keys()
    assert error["code"] == row.told.code
    assert any("content" in event for event in before)
    assert not any("error" in json.loads(event) for event in before)
    assert attempts(relay, "pair", "first/m") == {row.told.outcome: 1}
    assert relay.counted("headgate_retries_total") == relay.counted("headgate_fallbacks_total") == 0
    (record,) = await relay.logged()
    assert (record["status"], record["outcome"], record["error_type"]) == (
        200,
        "upstream_failed",
        row.told.error_type,
    )
    assert (record["usage_source"], record["attempts"]) == ("estimated", 1)
    assert record["output_tokens"] > 0
    assert relay.counted("headgate_streams_open") == 0
    assert (0 in relay.line.health.down.values()) == (row.told.outcome not in NOT_THE_TARGETS)


LONG = b'{"id": "c", "x": "' + BIG
LONG_ROWS = [
    pytest.param((answer(LONG, length=2_000_000), WAIT, CLOSE), LOST, "8s", id="closed"),
    pytest.param((answer(LONG, length=2_000_000), WAIT, RESET), LOST, "8s", id="reset"),
    pytest.param((answer(LONG, length=2_000_000), STALL), TIMED_OUT, "400ms", id="hang"),
    pytest.param((b"HTTP/1.1 200 OK\r\n\r\n" + LONG, CLOSE), BAD, "8s", id="cut, and no length told"),
]


@pytest.mark.parametrize(("steps", "told", "total"), LONG_ROWS)
async def test_fault_of_a_plain_answer_too_long_to_hold_cuts_it(
    start: StartRelay, scripted: StartScripted, steps: tuple[Step, ...], told: Told, total: str
) -> None:
    first, second = await scripted(*steps), await scripted(answer(GOOD_BODY))
    relay = await start(two_models(first.url, first.url, second.url, f"timeouts: {{total: {total}}}"))
    answered = await relay.post(PAIR, began=first.go)
    assert answered.cut, "an answer that is not whole must not look so"
    assert (first.asked, second.asked) == (1, 0)
    assert attempts(relay, "pair", "first/m") == {told.outcome: 1}
    (record,) = await relay.logged()
    assert (record["outcome"], record["error_type"], record["usage_source"]) == (
        "upstream_failed",
        told.error_type,
        "estimated",
    )
