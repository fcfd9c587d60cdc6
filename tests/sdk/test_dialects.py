"""What is of one dialect alone: legacy completions for targets that only chat, counting of tokens, and the
headers that each SDK looks for."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator

import anthropic
import openai
import pytest

from gateway.simulator.server import Simulator
from gateway.simulator.tokens import chat_prompt
from tests.relaying import Relay
from tests.running import KEY

MESSAGES = [{"role": "user", "content": "Where is the river? " * 20}]


@pytest.fixture
async def chats(line: Relay) -> AsyncIterator[openai.AsyncOpenAI]:
    async with openai.AsyncOpenAI(base_url=line.url, api_key=KEY, max_retries=0) as sdk:
        yield sdk


@pytest.fixture
async def writes(line: Relay) -> AsyncIterator[anthropic.AsyncAnthropic]:
    origin = line.url.removesuffix("/v1")
    async with anthropic.AsyncAnthropic(base_url=origin, api_key=KEY, max_retries=0) as sdk:
        yield sdk


async def test_completions_of_a_target_that_only_chats(
    chats: openai.AsyncOpenAI, simulator: Simulator
) -> None:
    got = await chats.completions.create(model="anthropic", prompt="Where is the river?", max_tokens=50)
    (entry,) = simulator.bill.entries
    assert got.object == "text_completion"
    assert got.choices[0].text
    assert got.usage is not None
    assert (got.usage.prompt_tokens, got.usage.completion_tokens) == (entry.input_tokens, entry.output_tokens)


async def test_completions_have_16_tokens_unless_they_say_more(
    chats: openai.AsyncOpenAI, simulator: Simulator
) -> None:
    await chats.completions.create(model="anthropic", prompt="Where is the river?")
    await chats.completions.create(model="anthropic", prompt="Where is the river?", max_tokens=50)
    assert [json.loads(request.raw)["max_tokens"] for request in simulator.requests] == [16, 50]


async def test_completions_streamed(chats: openai.AsyncOpenAI, simulator: Simulator) -> None:
    stream = await chats.completions.create(
        model="anthropic",
        prompt=["Where is the river?"],
        max_tokens=50,
        stream=True,
        stream_options={"include_usage": True},
    )
    text, reason, usage = "", None, None
    async for chunk in stream:
        usage = chunk.usage or usage
        for choice in chunk.choices:
            text, reason = text + choice.text, choice.finish_reason or reason
    (entry,) = simulator.bill.entries
    assert text
    assert reason == "stop"
    assert usage is not None
    assert usage.completion_tokens == entry.output_tokens


@pytest.mark.parametrize("more", [{"echo": True}, {"suffix": "x"}, {"prompt": ["a", "b"]}, {"best_of": 2}])
async def test_what_completions_alone_have_is_refused_by_name(
    chats: openai.AsyncOpenAI, more: dict[str, object]
) -> None:
    with pytest.raises(openai.BadRequestError, match=next(iter(more))):
        await chats.completions.create(**{"model": "anthropic", "prompt": "a", **more})  # type: ignore[call-overload]


async def test_tokens_are_counted_by_a_provider_that_does(
    line: Relay, writes: anthropic.AsyncAnthropic, simulator: Simulator
) -> None:
    got = await writes.messages.with_raw_response.count_tokens(model="anthropic", messages=MESSAGES)  # type: ignore[arg-type]
    assert (await got.parse()).input_tokens == chat_prompt({"messages": MESSAGES})
    assert "x-headgate-estimated" not in got.headers
    assert got.headers["x-headgate-cost-usd"] == "0.000000000"
    assert not simulator.bill.entries


async def test_tokens_of_other_targets_are_estimated(
    writes: anthropic.AsyncAnthropic, simulator: Simulator
) -> None:
    got = await writes.messages.with_raw_response.count_tokens(model="openai", messages=MESSAGES)  # type: ignore[arg-type]
    assert got.headers["x-headgate-estimated"] == "true"
    truth = chat_prompt({"messages": MESSAGES})
    assert 0.5 * truth < (await got.parse()).input_tokens < 2 * truth
    assert not list(simulator.requests)


async def test_each_sdk_finds_the_id_and_the_rates(
    chats: openai.AsyncOpenAI, writes: anthropic.AsyncAnthropic
) -> None:
    for model in ("openai", "anthropic"):
        said = await chats.chat.completions.with_raw_response.create(model=model, messages=MESSAGES)  # type: ignore[call-overload]
        assert int(said.headers["x-ratelimit-limit-requests"]) > 0
        assert not any(name.startswith("anthropic-") for name in said.headers)
        message = await writes.messages.with_raw_response.create(model=model, messages=MESSAGES, max_tokens=9)  # type: ignore[arg-type]
        headers = message.headers
        assert headers["request-id"] == headers["x-headgate-request-id"]
        assert int(headers["anthropic-ratelimit-requests-limit"]) > 0
        assert not any(name.startswith("x-ratelimit-") for name in headers)


async def test_each_sdk_lists_the_models(chats: openai.AsyncOpenAI, writes: anthropic.AsyncAnthropic) -> None:
    known = {model.id async for model in await chats.models.list()}
    assert {model.id async for model in await writes.models.list()} == known >= {"openai", "anthropic"}
    assert (await writes.models.retrieve("anthropic")).display_name == "anthropic"
    with pytest.raises(anthropic.NotFoundError):
        await writes.models.retrieve("none")


async def test_errors_have_the_shape_that_each_sdk_reads(line: Relay) -> None:
    origin = line.url.removesuffix("/v1")
    for path, key, status in (("/v1/messages", "wrong", 401), ("/v1/messages/nothing", KEY, 404)):
        async with line.http.post(origin + path, json={}, headers={"x-api-key": key}) as answer:
            body = await answer.json()
            assert (answer.status, body["type"]) == (status, "error")
            assert body["request_id"] == answer.headers["request-id"]
