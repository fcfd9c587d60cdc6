"""The same fault ends the same way whatever its provider speaks, and whatever its caller does."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from gateway.simulator.faults import DISRUPTIONS, NAMES, Fault
from gateway.simulator.server import Simulator
from tests.line.conftest import StartRelay
from tests.line.ledgers import charge, governed, of_user, overshoot, prices, settle
from tests.relaying import CHAT, Answered, Relay

TIMES = "timeouts: {first_token: 400ms, stall: 400ms, total: 2s}, retries: {attempts: 0}"
MODELS = f"""\
  chats: {{targets: [upstream/gpt-4o-mini], {TIMES}}}
  writes: {{targets: [claude/claude-haiku-4-5], {TIMES}}}
"""
CLAUDE = 'providers:\n  claude: {{base_url: "{url}", auth: none, dialect: anthropic}}'
ASKED = {**CHAT, "max_tokens": 100, "user": "u"}
WRITTEN = {"messages": CHAT["messages"], "max_tokens": 100, "metadata": {"user_id": "u"}}
BEFORE_TEXT = {"chats": 1, "writes": 3}
"""Events of a stream before its first text: the role; message_start, ping and content_block_start."""
PAIRS = [("messages", "chats"), ("chat", "writes"), ("messages", "writes")]
ONLY_CHATS = frozenset({"no_done", "double_done", "after_done", "truncated"})
"""Faults about `[DONE]`, which Anthropic does not have: its answer is whole with its last event."""
OVERLOADED = {502: 503, "provider_error": "provider_overloaded"}
"""What the error in the midst of an answer says at the one provider, and at the other."""


async def ended(relay: Relay, simulator: Simulator, speaks: str, model: str, fault: str, stream: bool) -> Any:
    """How one call ended: (status, outcome, whose fault it was, whether the stream was cut)."""
    simulator.bill.entries.clear()
    simulator.script([Fault(fault, after_chunks=BEFORE_TEXT[model] + 2)] * 4)
    before = len(relay.lines)
    fields: dict[str, Any] = ASKED if speaks == "chat" else WRITTEN
    path = "/chat/completions" if speaks == "chat" else "/messages"
    async with asyncio.timeout(10):
        got = await relay.post({**fields, "model": model, "stream": stream}, path)
    record = (await relay.logged(before + 1))[before]
    assert _is_whole(got, speaks, stream, record["error_type"]), got.body
    return record["status"], record["outcome"], record["error_type"], got.cut


def _is_whole(got: Answered, speaks: str, stream: bool, error_type: str | None) -> bool:
    """Whether it is an answer, or a failure, that the caller's SDK knows for one."""
    if got.status != 200:
        return "error" in got.json and (speaks == "chat" or got.json["type"] == "error")
    if not stream:
        return got.cut or ("choices" if speaks == "chat" else "content") in got.json
    if error_type is not None:
        return b'"error":{' in got.body and not got.body.endswith(b"data: [DONE]\n\n")
    return got.body.endswith(b"data: [DONE]\n\n") if speaks == "chat" else b"message_stop" in got.body


@pytest.fixture
async def line(start: StartRelay, simulator: Simulator) -> Relay:
    policy = governed(simulator.url, models=MODELS)
    policy = policy.replace("prices:", "prices:\n  claude/*: {input: 1, cached_input: 0.1, output: 5}", 1)
    return await start(policy.replace("providers:", CLAUDE.format(url=simulator.url), 1))


@pytest.mark.parametrize("stream", [False, True], ids=["plain", "stream"])
@pytest.mark.parametrize("fault", NAMES)
async def test_a_fault_ends_as_it_does_between_chat_and_chat(
    line: Relay, simulator: Simulator, fault: str, stream: bool
) -> None:
    usual = await ended(line, simulator, "chat", "chats", fault, stream)
    for speaks, model in PAIRS:
        if fault in ONLY_CHATS and model == "writes" and stream:
            continue
        expected = usual
        if fault == "error_event" and model == "writes":
            expected = tuple(OVERLOADED.get(value, value) for value in usual)
        assert await ended(line, simulator, speaks, model, fault, stream) == expected, (speaks, model)
    await settle(line)
    assert fault not in DISRUPTIONS or overshoot(line) == 0 or "usage" in fault


@pytest.mark.parametrize("stream", [False, True], ids=["plain", "stream"])
@pytest.mark.parametrize("fault", ["cut", "stall", "error_event", "no_usage", "hang", "status_500"])
async def test_books_are_never_under_the_bill(
    line: Relay, simulator: Simulator, fault: str, stream: bool
) -> None:
    await ended(line, simulator, "chat", "writes", fault, stream)
    await settle(line)
    truth = sum(charge(prices(line)[entry.model], entry) for entry in simulator.bill.entries)
    assert of_user(line, "day", "u") >= truth
