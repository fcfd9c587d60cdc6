"""The official client takes the simulator for OpenAI."""

from __future__ import annotations

import math
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any

import aiohttp
import openai
import pydantic
import pytest

from gateway.simulator.server import Simulator

Start = Callable[..., Awaitable[Simulator]]


MESSAGES: Any = [{"role": "user", "content": "Tell me about rivers."}]
CHECK_WEATHER: Any = {
    "type": "function",
    "function": {
        "name": "check_weather",
        "strict": True,
        "parameters": {"type": "object", "properties": {"city": {"type": "string"}}, "required": ["city"]},
    },
}


@pytest.fixture
async def simulator(simulate: Start) -> Simulator:
    return await simulate(output_tokens=12)


@pytest.fixture
async def client(simulator: Simulator) -> AsyncIterator[openai.AsyncOpenAI]:
    async with openai.AsyncOpenAI(base_url=simulator.url, api_key="sk-test", max_retries=0) as client:
        yield client


async def test_plain_chat(client: openai.AsyncOpenAI, simulator: Simulator) -> None:
    raw = await client.chat.completions.with_raw_response.create(model="gpt-4o", messages=MESSAGES)
    answer = raw.parse()
    assert answer.choices[0].message.content
    assert answer.usage
    assert (answer.usage.prompt_tokens, answer.usage.completion_tokens, answer.usage.total_tokens) == (
        6,
        12,
        18,
    )
    assert raw.headers["openai-version"] == "2020-10-01"
    assert raw.headers["x-ratelimit-limit-requests"] == "10000"
    (entry,) = simulator.bill.entries
    assert (entry.id, entry.request_id) == (answer.id, raw.headers["x-request-id"])
    assert (entry.model, entry.input_tokens, entry.output_tokens, entry.finished) == ("gpt-4o", 6, 12, True)


async def test_streamed_chat_has_role_text_finish_and_usage_in_order(client: openai.AsyncOpenAI) -> None:
    plain = await client.chat.completions.create(model="gpt-4o", messages=MESSAGES)
    stream = await client.chat.completions.create(
        model="gpt-4o", messages=MESSAGES, stream=True, stream_options={"include_usage": True}
    )
    chunks = [chunk async for chunk in stream]
    assert chunks[0].choices[0].delta.role == "assistant"
    assert chunks[0].choices[0].delta.content == ""
    text = "".join(chunk.choices[0].delta.content or "" for chunk in chunks if chunk.choices)
    assert text == plain.choices[0].message.content
    assert chunks[-2].choices[0].finish_reason == "stop"
    assert chunks[-1].choices == []
    assert chunks[-1].usage == plain.usage
    assert all(chunk.usage is None for chunk in chunks[:-1])
    assert len(chunks) == 1 + 12 + 1 + 1


async def test_stream_without_include_usage_has_no_usage(client: openai.AsyncOpenAI) -> None:
    stream = await client.chat.completions.create(model="gpt-4o", messages=MESSAGES, stream=True)
    chunks = [chunk async for chunk in stream]
    assert all("usage" not in chunk.model_fields_set and chunk.choices for chunk in chunks)


async def test_several_choices_stream_interleaved(client: openai.AsyncOpenAI, simulator: Simulator) -> None:
    plain = await client.chat.completions.create(model="gpt-4o", messages=MESSAGES, n=3)
    stream = await client.chat.completions.create(model="gpt-4o", messages=MESSAGES, n=3, stream=True)
    texts = ["", "", ""]
    async for chunk in stream:
        texts[chunk.choices[0].index] += chunk.choices[0].delta.content or ""
    assert texts == [choice.message.content for choice in plain.choices]
    assert [entry.output_tokens for entry in simulator.bill.entries] == [36, 36]


async def test_tool_calls_plain_and_streamed(client: openai.AsyncOpenAI) -> None:
    asked: Any = {
        "model": "gpt-4o",
        "messages": [{"role": "user", "content": "please check_weather"}],
        "tools": [CHECK_WEATHER],
    }
    answer = await client.chat.completions.create(**asked)
    (call,) = answer.choices[0].message.tool_calls or []
    assert call.type == "function"
    assert answer.choices[0].finish_reason == "tool_calls"
    async with client.chat.completions.stream(**asked) as stream:
        streamed = await stream.get_final_completion()
    (again,) = streamed.choices[0].message.tool_calls or []
    assert again.function.arguments == call.function.arguments
    assert again.id == call.id


async def test_structured_output_is_parsed_by_the_client(client: openai.AsyncOpenAI) -> None:
    class River(pydantic.BaseModel):
        name: str
        length_km: int
        tributaries: list[str]
        mouth: str | None

    answer = await client.chat.completions.parse(model="gpt-4o", messages=MESSAGES, response_format=River)
    assert isinstance(answer.choices[0].message.parsed, River)


async def test_reasoning_is_part_of_the_output(client: openai.AsyncOpenAI, simulator: Simulator) -> None:
    answer = await client.chat.completions.create(model="gpt-5-mini", messages=MESSAGES)
    assert answer.usage
    assert answer.usage.completion_tokens_details
    thought = answer.usage.completion_tokens_details.reasoning_tokens
    assert thought
    assert answer.usage.completion_tokens == thought + 12
    assert simulator.bill.entries[0].reasoning_tokens == thought


async def test_long_prompt_asked_again_is_cached(client: openai.AsyncOpenAI, simulator: Simulator) -> None:
    long: Any = [{"role": "user", "content": "word " * 1000}]
    for _ in range(2):
        answer = await client.chat.completions.create(model="gpt-4o", messages=long)
    assert answer.usage
    assert answer.usage.prompt_tokens_details
    assert answer.usage.prompt_tokens_details.cached_tokens == 1152
    assert [entry.cached_input_tokens for entry in simulator.bill.entries] == [0, 1152]


async def test_legacy_completions_plain_streamed_and_batched(client: openai.AsyncOpenAI) -> None:
    answer = await client.completions.create(
        model="m", prompt=["Once", "Twice"], echo=True, n=2, max_tokens=5
    )
    assert [choice.index for choice in answer.choices] == [0, 1, 2, 3]
    assert answer.choices[0].text.startswith("Once")
    assert answer.choices[2].text.startswith("Twice")
    assert answer.usage
    assert (answer.usage.prompt_tokens, answer.usage.completion_tokens) == (3, 20)
    tokens = await client.completions.create(model="m", prompt=[[1, 2, 3], [4]], suffix="end")
    assert tokens.usage
    assert tokens.usage.prompt_tokens == 4
    plain = await client.completions.create(model="m", prompt="Once", echo=True)
    stream = await client.completions.create(
        model="m", prompt="Once", echo=True, stream=True, stream_options={"include_usage": True}
    )
    chunks = [chunk async for chunk in stream]
    assert "".join(chunk.choices[0].text for chunk in chunks if chunk.choices) == plain.choices[0].text
    assert chunks[-1].usage == plain.usage


@pytest.mark.parametrize(
    ("given", "count", "prompt_tokens"),
    [("12345678", 1, 2), (["1234", "5678", "9"], 3, 3), ([1, 2, 3], 1, 3), ([[1, 2], [3]], 2, 3)],
)
async def test_embeddings_of_every_kind_of_input(
    client: openai.AsyncOpenAI, given: Any, count: int, prompt_tokens: int
) -> None:
    answer = await client.embeddings.create(model="text-embedding-3-small", input=given, dimensions=64)
    floats = await client.embeddings.create(
        model="text-embedding-3-small", input=given, dimensions=64, encoding_format="float"
    )
    assert len(answer.data) == count
    assert answer.usage.prompt_tokens == prompt_tokens
    for packed, plain in zip(answer.data, floats.data, strict=True):
        assert packed.embedding == pytest.approx(plain.embedding, abs=1e-6)
        assert math.hypot(*plain.embedding) == pytest.approx(1)
        assert len(plain.embedding) == 64


async def test_models_are_listed_and_found(client: openai.AsyncOpenAI) -> None:
    assert "gpt-4o" in [model.id async for model in client.models.list()]
    assert (await client.models.retrieve("any/thing")).id == "any/thing"


async def test_only_the_models_of_the_settings_exist(simulate: Start) -> None:
    simulator = await simulate(models=("here",))
    async with openai.AsyncOpenAI(base_url=simulator.url, api_key="k", max_retries=0) as client:
        assert [model.id async for model in client.models.list()] == ["here"]
        with pytest.raises(openai.NotFoundError) as caught:
            await client.models.retrieve("gone")
        assert caught.value.code == "model_not_found"
        with pytest.raises(openai.NotFoundError):
            await client.chat.completions.create(model="gone", messages=MESSAGES)


async def test_azure_client_dated_and_v1(simulator: Simulator) -> None:
    root = simulator.url.removesuffix("/v1")
    async with openai.AsyncAzureOpenAI(azure_endpoint=root, api_key="az", api_version="2024-10-21") as azure:
        answer = await azure.chat.completions.create(model="my-deployment", messages=MESSAGES)
        assert answer.model == "my-deployment"
        stream = await azure.chat.completions.create(model="my-deployment", messages=MESSAGES, stream=True)
        first = await anext(aiter(stream))
        assert (first.choices, first.model) == ([], "")
        assert len((await azure.embeddings.create(model="d", input="a")).data) == 1
    assert (
        simulator.requests[0].path
        == "/openai/deployments/my-deployment/chat/completions?api-version=2024-10-21"
    )
    assert simulator.requests[0].header("API-Key") == "az"
    async with openai.AsyncOpenAI(base_url=f"{root}/openai/v1/", api_key="az") as v1:
        assert (await v1.chat.completions.create(model="d", messages=MESSAGES)).model == "d"


async def test_wrong_key_is_refused_as_openai_does(simulate: Start) -> None:
    simulator = await simulate(api_keys=("sk-right",))
    async with openai.AsyncOpenAI(base_url=simulator.url, api_key="sk-right", max_retries=0) as client:
        await client.chat.completions.create(model="m", messages=MESSAGES)
    async with openai.AsyncOpenAI(
        base_url=simulator.url, api_key="sk-wrong-0123456789", max_retries=0
    ) as client:
        with pytest.raises(openai.AuthenticationError) as caught:
            await client.chat.completions.create(model="m", messages=MESSAGES)
        with pytest.raises(openai.AuthenticationError):
            await client.models.list()
    assert (caught.value.code, caught.value.type) == ("invalid_api_key", "invalid_request_error")
    async with openai.AsyncAzureOpenAI(
        azure_endpoint=simulator.url.removesuffix("/v1"),
        api_key="az",
        api_version="2024-10-21",
        max_retries=0,
    ) as azure:
        with pytest.raises(openai.AuthenticationError) as refused:
            await azure.chat.completions.create(model="d", messages=MESSAGES)
        assert refused.value.code == "401"
    assert simulator.bill.total().attempts == 1


async def test_calls_without_key_or_api_version_are_refused(
    http: aiohttp.ClientSession, simulate: Start
) -> None:
    simulator = await simulate(api_keys=("sk-right",))
    root = simulator.url.removesuffix("/v1")
    for path, status in (("/v1/chat/completions", 401), ("/openai/deployments/d/chat/completions", 404)):
        async with http.post(root + path, json={"model": "m", "messages": MESSAGES}) as response:
            assert response.status == status
            assert "message" in (await response.json())["error"]


@pytest.mark.parametrize(
    ("fields", "param", "code"),
    [
        ({"temperature": -0.5}, "temperature", "decimal_below_min_value"),
        ({"temperature": 2.5}, "temperature", "decimal_above_max_value"),
        ({"max_tokens": 0}, "max_tokens", "integer_below_min_value"),
        ({"n": "3"}, "n", "invalid_type"),
        ({"messages": []}, "messages", "empty_array"),
        ({"messages": None}, "messages", "missing_required_parameter"),
        ({"messages": "x"}, "messages", "invalid_type"),
        ({"model": 3}, None, None),
        ({"messages": [{"content": "x"}]}, "messages[0].role", "missing_required_parameter"),
        ({"stream_options": {}}, "stream_options", None),
    ],
)
async def test_ranges_are_judged_in_openais_words(
    client: openai.AsyncOpenAI, simulator: Simulator, fields: Any, param: str | None, code: str | None
) -> None:
    asked = {"model": "m", "messages": MESSAGES, **fields}
    with pytest.raises(openai.BadRequestError) as caught:
        await client.post("/chat/completions", body=asked, cast_to=object)
    assert (caught.value.param, caught.value.code) == (param, code)
    assert simulator.bill.total().attempts == 0


@pytest.mark.parametrize(
    ("path", "fields", "param"),
    [
        ("/embeddings", {"input": ""}, "input"),
        ("/embeddings", {"input": []}, "input"),
        ("/embeddings", {"input": ["a", ""]}, "input"),
        ("/embeddings", {"input": "a", "dimensions": 5000}, "dimensions"),
        ("/embeddings", {"input": "a", "encoding_format": "hex"}, "encoding_format"),
        ("/completions", {"prompt": {}}, "prompt"),
        ("/completions", {"prompt": "a", "max_tokens": -1}, "max_tokens"),
    ],
)
async def test_embeddings_and_completions_are_judged_too(
    client: openai.AsyncOpenAI, path: str, fields: Any, param: str
) -> None:
    with pytest.raises(openai.BadRequestError) as caught:
        await client.post(path, body={"model": "m", **fields}, cast_to=object)
    assert caught.value.param == param
