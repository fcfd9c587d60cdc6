"""The bill adds up, survives on disk, and can be read over HTTP; so can what was asked."""

from __future__ import annotations

import hashlib
from collections.abc import Awaitable, Callable
from dataclasses import asdict
from pathlib import Path
from typing import Any

import aiohttp
import orjson
import pytest

from gateway.simulator.bill import Bill, Entry, key_digest, read
from gateway.simulator.server import Simulator

Start = Callable[..., Awaitable[Simulator]]


def entry(model: str = "m", *, output_tokens: int = 5, finished: bool = True) -> Entry:
    return Entry("id", "req", 1.5, "chat", model, 10, output_tokens, 4, 2, "abc", False, finished, None)


def test_totals_add_up_per_model_and_over_all() -> None:
    bill = Bill(keep=2)
    for one in (entry(), entry("other"), entry(output_tokens=7, finished=False)):
        bill.add(one)
    assert (bill.total("m").attempts, bill.total("m").unfinished, bill.total("m").output_tokens) == (2, 1, 12)
    assert (bill.total().attempts, bill.total().input_tokens, bill.total().cached_input_tokens) == (3, 30, 12)
    assert bill.total("never").attempts == 0
    assert len(bill.entries) == 2


def test_file_is_appended_never_rewritten(tmp_path: Path) -> None:
    path = tmp_path / "bill.jsonl"
    for model in ("first", "second"):
        bill = Bill(path)
        bill.add(entry(model))
        bill.close()
    assert [one.model for one in read(path)] == ["first", "second"]
    assert asdict(next(iter(read(path)))) == asdict(entry("first"))


def test_keys_are_on_the_bill_as_digests_only() -> None:
    assert key_digest("sk-1") == hashlib.sha256(b"sk-1").hexdigest()[:12]
    assert key_digest("") == ""


async def test_bill_and_requests_are_shown_over_http(
    http: aiohttp.ClientSession, simulate: Start, tmp_path: Path
) -> None:
    simulator = await simulate(bill=tmp_path / "bill.jsonl", output_tokens=3)
    asked = {"model": "m", "input": "12345", "unknown": {"kept": True}}
    headers = [("Authorization", "Bearer sk-1"), ("X-Twice", "a"), ("X-Twice", "b")]
    async with http.post(f"{simulator.url}/embeddings", json=asked, headers=headers) as response:
        assert response.status == 200
    root = simulator.url.removesuffix("/v1")
    async with http.get(f"{root}/_simulator/bill") as response:
        shown = orjson.loads(await response.read())
    assert shown["entries"][0]["api_key_sha256"] == key_digest("sk-1")
    assert shown["models"]["m"] == shown["total"] == asdict(simulator.bill.total())
    assert (shown["total"]["input_tokens"], shown["total"]["output_tokens"]) == (2, 0)
    async with http.get(f"{root}/_simulator/requests") as response:
        seen = orjson.loads(await response.read())
    assert seen["total"] == 1
    assert seen["requests"][0]["body"] == asked
    assert [value for name, value in seen["requests"][0]["headers"] if name == "X-Twice"] == ["a", "b"]
    async with http.get(f"{root}/_simulator/departed") as response:
        assert orjson.loads(await response.read()) == {"total": 0, "departed": []}
    assert [one.endpoint for one in read(tmp_path / "bill.jsonl")] == ["embeddings"]


async def test_what_is_not_there_is_404_in_openais_shape_and_seen(
    http: aiohttp.ClientSession, simulate: Start
) -> None:
    simulator = await simulate()
    async with http.post(f"{simulator.url}/organization/users", data=b"not json") as response:
        assert response.status == 404
        assert orjson.loads(await response.read())["error"]["code"] == "unknown_url"
    assert (simulator.requests[0].body, simulator.requests[0].raw) == (None, b"not json")
    async with http.post(f"{simulator.url}/chat/completions", data=b"[1") as response:
        assert response.status == 400


async def test_connections_can_be_told_apart(http: aiohttp.ClientSession, simulate: Start) -> None:
    simulator = await simulate()
    for _ in range(2):
        async with http.get(f"{simulator.url}/models") as response:
            await response.read()
    async with aiohttp.ClientSession() as other, other.get(f"{simulator.url}/models") as response:
        await response.read()
    first, second, third = (one.connection for one in simulator.requests)
    assert first == second != third


async def told_and_billed(
    http: aiohttp.ClientSession, simulator: Simulator, path: str = "chat/completions", **fields: Any
) -> tuple[int, int]:
    """Output tokens of one more call: as its usage says, and as the bill does."""
    asked = {"model": "m", "messages": [{"role": "user", "content": "Why?"}], "prompt": "Why", **fields}
    async with http.post(f"{simulator.url}/{path}", json=asked) as response:
        assert response.status == 200
        events = (await response.read()).removeprefix(b"data: ").split(b"\n\ndata: ")
    answer = orjson.loads(events[-2] if fields.get("stream") else events[0])
    return answer["usage"]["completion_tokens"], simulator.bill.entries[-1].output_tokens


@pytest.mark.parametrize("cap", ["max_tokens", "max_completion_tokens"])
@pytest.mark.parametrize("model", ["m", "o3"])
@pytest.mark.parametrize("stream", [False, True])
async def test_cap_holds_for_each_choice_and_all_are_billed(
    http: aiohttp.ClientSession, simulate: Start, cap: str, model: str, stream: bool
) -> None:
    simulator = await simulate(output_tokens=500)
    fields: dict[str, Any] = {cap: 40, "n": 3, "model": model, "stream": stream}
    if stream:
        fields["stream_options"] = {"include_usage": True}
    assert await told_and_billed(http, simulator, **fields) == (120, 120)


async def test_every_candidate_of_every_prompt_is_billed(
    http: aiohttp.ClientSession, simulate: Start
) -> None:
    simulator = await simulate(output_tokens=500)
    fields = {"prompt": ["a", "b"], "max_tokens": 10, "n": 2, "best_of": 5}
    assert await told_and_billed(http, simulator, "completions", **fields) == (100, 100)


async def test_provider_that_cheats_tells_and_bills_more_than_the_cap(
    http: aiohttp.ClientSession, simulate: Start
) -> None:
    simulator = await simulate(output_tokens=500)
    usage = {"stream": True, "stream_options": {"include_usage": True}}
    for fields in ({}, usage):
        cheat = {**fields, "max_tokens": 10, "simulate": {"overrun_tokens": 1_000}}
        assert await told_and_billed(http, simulator, **cheat) == (1_010, 1_010)
    assert await told_and_billed(http, simulator, max_tokens=10) == (10, 10)
    simulator.settings.overrun_tokens = 7
    assert await told_and_billed(http, simulator, max_tokens=10) == (17, 17)


async def test_bill_names_the_tier_that_the_answer_names(
    http: aiohttp.ClientSession, simulate: Start
) -> None:
    simulator = await simulate()
    for tier in ("flex", "auto"):
        await told_and_billed(http, simulator, service_tier=tier)
    assert [one.service_tier for one in simulator.bill.entries] == ["flex", "default"]
