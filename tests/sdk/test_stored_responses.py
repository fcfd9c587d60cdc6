"""Responses that a provider stores, by OpenAI's own client: followed, read, deleted; by their team alone."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from typing import Any

import openai
import pytest

from gateway.simulator.bill import key_digest
from gateway.simulator.server import Simulator
from gateway.simulator.server import start as start_simulator
from gateway.simulator.settings import Fault
from tests.line.conftest import StartRelay
from tests.line.ledgers import DAY, posted, settle
from tests.line.passing import OTHER_KEY, sha256
from tests.relaying import Relay
from tests.running import KEY, eventually, policy_for

KEYS = {"FIRST": "sk-first-000000", "SECOND": "sk-second-00000"}


def policy(url: str, second: str = "http://127.0.0.1:1/v1", rules: str = "") -> str:
    return f"""
version: 1
providers:
  stores: {{base_url: "{url}", dialect: responses, api_keys: [{{env: FIRST}}, {{env: SECOND}}]}}
  second: {{base_url: "{second}", auth: none, dialect: responses}}
  chats: {{base_url: "{url}", auth: none, dialect: openai}}
models:
  plain: {{targets: [{{provider: stores, model: gpt-4o, context: 128000}}]}}
  keyless: {{targets: [second/gpt-4o]}}
  chat: {{targets: [chats/gpt-4o]}}
  both: {{targets: [stores/gpt-4o, second/gpt-4o], retries: {{attempts: 0}}}}
prices: {{"*/*": {{input: 2.5, output: 10}}}}
teams:
  search: {{models: ["*"]}}
  other: {{models: ["*"]}}
keys:
  app: {{team: search, sha256: {sha256(KEY)}}}
  app-other: {{team: other, sha256: {sha256(OTHER_KEY)}}}
{rules}"""


@pytest.fixture
async def line(start: StartRelay, simulator: Simulator) -> Relay:
    return await begun(start, policy(simulator.url))


async def begun(start: StartRelay, text: str) -> Relay:
    relay = await start(policy_for("http://127.0.0.1:1/v1"))
    relay.use(text, KEYS, stamp=2)
    return relay


@pytest.fixture
async def second() -> AsyncIterator[Simulator]:
    running = await start_simulator()
    yield running
    await running.stop()


def sdk_of(relay: Relay, key: str = KEY) -> openai.AsyncOpenAI:
    return openai.AsyncOpenAI(base_url=relay.url, api_key=key, max_retries=0)


def asked(simulator: Simulator) -> list[Any]:
    """The bodies that came to the provider."""
    return [request.body for request in simulator.requests]


async def test_a_conversation_is_followed(line: Relay, simulator: Simulator) -> None:
    async with sdk_of(line) as sdk:
        first = await sdk.responses.create(model="plain", input="Where is the river?")
        second = await sdk.responses.create(
            model="plain", input="And the lake?", previous_response_id=first.id
        )
        third = await sdk.responses.create(model="plain", input="Why?", previous_response_id=second.id)
    made = [body.get("previous_response_id") for body in asked(simulator)]
    assert made[0] is None
    assert made[1] is not None and made[1] != first.id and first.id.endswith(made[1].removeprefix("resp_"))
    assert second.previous_response_id == first.id
    assert third.previous_response_id == second.id
    assert second.usage is not None and first.usage is not None
    assert second.usage.input_tokens > first.usage.input_tokens, "the provider knew what was said before"


async def test_a_streamed_conversation_is_followed(line: Relay, simulator: Simulator) -> None:
    async with sdk_of(line) as sdk:
        first = await sdk.responses.create(model="plain", input="Where is the river?")
        more: Any = {"model": "plain", "input": "And the lake?", "previous_response_id": first.id}
        stream = await sdk.responses.create(**more, stream=True)
        told = [event async for event in stream]
        ids = {event.response.id for event in told if hasattr(event, "response")}
        assert len(ids) == 1
        assert {event.response.previous_response_id for event in told if hasattr(event, "response")} == {
            first.id
        }
        (id_,) = ids
        third = await sdk.responses.create(model="plain", input="Why?", previous_response_id=id_)
    assert third.previous_response_id == id_
    assert asked(simulator)[-1]["previous_response_id"] not in ids


async def test_what_is_stored_is_read_streamed_cancelled_and_deleted(line: Relay) -> None:
    async with sdk_of(line) as sdk:
        first = await sdk.responses.create(model="plain", input="Where is the river?")
        second = await sdk.responses.create(model="plain", input="Why?", previous_response_id=first.id)
        found = await sdk.responses.retrieve(second.id)
        assert (found.id, found.output_text) == (second.id, second.output_text)
        assert found.previous_response_id == first.id
        streamed = [event async for event in await sdk.responses.retrieve(second.id, stream=True)]
        assert [event.response.id for event in streamed if hasattr(event, "response")] == [second.id] * 2
        items = await sdk.responses.input_items.list(second.id)
        assert [item.id for item in items.data] == [f"msg_of_{second.id}"]
        assert (await sdk.responses.cancel(second.id)).status == "cancelled"
        await sdk.responses.delete(second.id)
        with pytest.raises(openai.NotFoundError):
            await sdk.responses.retrieve(second.id)
        assert (await sdk.responses.retrieve(first.id)).id == first.id
    rows = await line.logged(8)
    assert all(row["cost_nanousd"] for row in rows[:2])
    assert not any(row["cost_nanousd"] for row in rows[2:])


async def test_another_teams_and_unknown_ones_are_not_there(line: Relay, simulator: Simulator) -> None:
    async with sdk_of(line) as sdk, sdk_of(line, OTHER_KEY) as other:
        first = await sdk.responses.create(model="plain", input="Where is the river?")
        before = simulator.requests.total
        made = first.id[:5] + first.id[38:]
        for client, id_ in ((other, first.id), (sdk, made), (sdk, "resp_unknown"), (sdk, first.id[:-1])):
            for call in (
                client.responses.retrieve(id_),
                client.responses.delete(id_),
                client.responses.cancel(id_),
                client.responses.input_items.list(id_),
                client.responses.create(model="plain", input="Why?", previous_response_id=id_),
                client.responses.create(model="chat", input="Why?", previous_response_id=id_),
            ):
                with pytest.raises(openai.NotFoundError):
                    await call
    assert simulator.requests.total == before


async def test_a_model_without_its_target_does_not_have_it(line: Relay, simulator: Simulator) -> None:
    async with sdk_of(line) as sdk:
        first = await sdk.responses.create(model="plain", input="Where is the river?")
        for model in ("chat", "keyless"):
            with pytest.raises(openai.NotFoundError) as caught:
                await sdk.responses.create(model=model, input="Why?", previous_response_id=first.id)
            assert caught.value.param == "previous_response_id"
        third = await sdk.responses.create(model="both", input="Why?", previous_response_id=first.id)
    assert third.previous_response_id == first.id


async def test_a_provider_of_chat_may_have_responses_too(start: StartRelay, simulator: Simulator) -> None:
    text = policy(simulator.url).replace("dialect: openai}", "dialect: openai, responses: true}")
    line = await begun(start, text)
    tools: Any = [{"type": "web_search"}]
    async with sdk_of(line) as sdk:
        first = await sdk.responses.create(model="chat", input="Where is the river?", tools=tools)
        second = await sdk.responses.create(model="chat", input="Why?", previous_response_id=first.id)
        assert (await sdk.responses.retrieve(second.id)).previous_response_id == first.id
        await sdk.chat.completions.create(model="chat", messages=[{"role": "user", "content": "x"}])
    paths = [request.path for request in simulator.requests]
    made = "resp_" + second.id[38:]
    assert paths == [
        "/v1/responses",
        "/v1/responses",
        f"/v1/responses/{made}",
        "/v1/chat/completions",
    ]
    assert asked(simulator)[0]["tools"] == tools


async def test_a_followed_answer_has_no_fallback(
    start: StartRelay, simulator: Simulator, second: Simulator
) -> None:
    line = await begun(start, policy(simulator.url, second.url))
    simulator.script([Fault("status_500")])
    async with sdk_of(line) as sdk:
        first = await sdk.responses.create(model="both", input="Where is the river?")
        assert len(list(second.requests)) == 1
        third = await sdk.responses.create(model="both", input="Why?", previous_response_id=first.id)
        assert third.previous_response_id == first.id
        assert (len(list(simulator.requests)), len(list(second.requests))) == (1, 2)
        second.script([Fault("status_500")])
        with pytest.raises(openai.InternalServerError):
            await sdk.responses.create(model="both", input="Why?", previous_response_id=first.id)
    assert len(list(simulator.requests)) == 1


async def test_it_is_asked_for_with_the_key_that_made_it(line: Relay, simulator: Simulator) -> None:
    async with sdk_of(line) as sdk:
        firsts = [await sdk.responses.create(model="plain", input="Where?") for _ in range(2)]
        keys = [entry.api_key_sha256 for entry in simulator.bill.entries]
        assert set(keys) == {key_digest(key) for key in KEYS.values()}
        for _ in range(3):
            for first in firsts:
                await sdk.responses.create(model="plain", input="Why?", previous_response_id=first.id)
    assert [entry.api_key_sha256 for entry in simulator.bill.entries][2:] == keys * 3


async def test_what_is_not_stored_keeps_the_id_that_nobody_can_name(line: Relay) -> None:
    async with sdk_of(line) as sdk:
        translated = await sdk.responses.create(model="chat", input="Where is the river?")
        for model in ("chat", "plain"):
            with pytest.raises(openai.NotFoundError):
                await sdk.responses.create(model=model, input="Why?", previous_response_id=translated.id)


async def test_a_background_answer_counts_when_it_is_read(line: Relay, simulator: Simulator) -> None:
    async with sdk_of(line) as sdk:
        queued = await sdk.responses.create(model="plain", input="Where is the river?", background=True)
        assert queued.status == "queued"
        found = await sdk.responses.retrieve(queued.id)
        again = await sdk.responses.retrieve(queued.id)
    assert found.status == again.status == "completed"
    assert found.output_text
    rows = await line.logged(3)
    assert found.usage is not None
    costs = found.usage.input_tokens * 2500 + found.usage.output_tokens * 10_000
    assert [row["cost_nanousd"] for row in rows] == [0, costs, 0]


@pytest.mark.parametrize(
    ("rules", "is_let"),
    [
        (DAY, False),
        ("limits: [{name: many, tokens: 1m/min}]\n", False),
        ("limits: [{name: often, requests: 100/min}]\n", True),
        ("budgets: [{name: day, usd: 10, every: day, mode: shadow}]\n", True),
    ],
)
async def test_a_background_answer_under_a_budget_is_refused(
    start: StartRelay, simulator: Simulator, rules: str, is_let: bool
) -> None:
    line = await begun(start, policy(simulator.url, rules=rules))
    async with sdk_of(line) as sdk:
        call = sdk.responses.create(model="plain", input="Where is the river?", background=True)
        if is_let:
            assert (await call).status == "queued"
            return
        with pytest.raises(openai.PermissionDeniedError) as caught:
            await call
    assert caught.value.code == "background_under_budget"
    assert not list(simulator.requests)


async def test_following_holds_the_whole_window_of_a_budget(start: StartRelay, simulator: Simulator) -> None:
    line = await begun(start, policy(simulator.url, rules=DAY))
    async with sdk_of(line) as sdk:
        first = await sdk.responses.create(model="plain", input="Where is the river?")
        await sdk.responses.create(model="plain", input="Why?", previous_response_id=first.id)
        await sdk.responses.retrieve(first.id)
    await settle(line)
    bill = sum(entry.input_tokens * 2500 + entry.output_tokens * 10_000 for entry in simulator.bill.entries)
    assert posted(line) == bill


async def test_a_background_stream_is_refused_by_name(line: Relay, simulator: Simulator) -> None:
    async with sdk_of(line) as sdk:
        with pytest.raises(openai.BadRequestError) as caught:
            await sdk.responses.create(model="plain", input="x", background=True, stream=True)
    assert caught.value.param == "stream"
    assert not list(simulator.requests)


async def test_a_long_stored_answer_has_the_callers_id(start: StartRelay, simulator: Simulator) -> None:
    line = await begun(start, policy(simulator.url))
    async with sdk_of(line) as sdk:
        first = await sdk.responses.create(
            model="plain", input="Where?", extra_body={"simulate": {"output_tokens": 400_000}}
        )
        assert len(first.output_text) > 1 << 20
        found = await sdk.responses.retrieve(first.id)
    assert found.id == first.id


async def test_a_caller_that_leaves_while_it_asks_leaves_nothing_behind(line: Relay) -> None:
    async with sdk_of(line) as sdk:
        first = await sdk.responses.create(model="plain", input="Where is the river?")
    _, writer = await line.connect()
    head = f"GET /v1/responses/{first.id} HTTP/1.1\r\nhost: x\r\nauthorization: Bearer {KEY}\r\n\r\n"
    writer.write(head.encode())
    writer.close()
    await asyncio.wait_for(writer.wait_closed(), 5)
    await eventually(lambda: not line.line.exchanges)


async def test_ids_are_told_as_json_says_them(line: Relay) -> None:
    answer = await line.post({"model": "plain", "input": "Where?"}, "/responses")
    got = await line.get(f"/responses/{answer.json['id']}")
    assert json.loads(got.body)["id"] == answer.json["id"]
    assert int(got.headers["content-length"]) == len(got.body)
