"""The official client, sync and async, takes the gateway for OpenAI."""

from __future__ import annotations

import asyncio
import json
import math
from decimal import Decimal
from typing import Any

import pydantic
import pytest

from gateway.simulator.server import Simulator
from tests.conftest import StartSimulator
from tests.line.conftest import StartRelay
from tests.relaying import Relay
from tests.running import MODELS, SECRET, Gateway, policy_for
from tests.sdk.asking import Sdk
from tests.sdk.conftest import MakeSdk

MODEL = "gpt-4o-mini"
MESSAGES: Any = [{"role": "user", "content": "Tell me about rivers."}]
CHECK_WEATHER: Any = {
    "type": "function",
    "function": {
        "name": "check_weather",
        "strict": True,
        "parameters": {
            "type": "object",
            "properties": {"city": {"type": "string"}},
            "required": ["city"],
            "additionalProperties": False,
        },
    },
}
WEATHER: Any = {
    "model": MODEL,
    "messages": [{"role": "user", "content": "please check_weather"}],
    "tools": [CHECK_WEATHER],
}


class River(pydantic.BaseModel):
    """What a structured answer is to hold."""

    name: str
    length_km: int
    tributaries: list[str]
    mouth: str | None


def text_of(chunks: list[Any]) -> str:
    return "".join(chunk.choices[0].delta.content or "" for chunk in chunks if chunk.choices)


async def plain_chat(sdk: Sdk, question: str = "Tell me about rivers.") -> Any:
    messages = [{"role": "user", "content": question}]
    return await sdk.call(lambda client: client.chat.completions.create(model=MODEL, messages=messages))


async def streamed_chat(sdk: Sdk, question: str = "Tell me about rivers.", **more: Any) -> list[Any]:
    messages = [{"role": "user", "content": question}]
    return await sdk.chunks(
        lambda client: client.chat.completions.create(model=MODEL, messages=messages, stream=True, **more)
    )


async def retrieved(sdk: Sdk, name: str) -> Any:
    return await sdk.call(lambda client: client.models.retrieve(name))


async def test_plain_chat(sdk: Sdk, simulator: Simulator) -> None:
    answer = await plain_chat(sdk)
    (entry,) = simulator.bill.entries
    assert (answer.id, answer.model, answer.choices[0].finish_reason) == (entry.id, MODEL, "stop")
    assert answer.choices[0].message.content
    assert (answer.usage.prompt_tokens, answer.usage.completion_tokens) == (
        entry.input_tokens,
        entry.output_tokens,
    )
    assert simulator.requests[-1].header("authorization") == f"Bearer {SECRET}"


async def test_streamed_chat_is_the_plain_one_in_pieces(sdk: Sdk) -> None:
    plain = await plain_chat(sdk)
    chunks = await streamed_chat(sdk)
    assert chunks[0].choices[0].delta.role == "assistant"
    assert text_of(chunks) == plain.choices[0].message.content
    assert chunks[-1].choices[0].finish_reason == "stop"
    assert len(chunks) == 1 + 12 + 1


async def test_stream_has_usage_only_if_the_client_asked_for_it(sdk: Sdk) -> None:
    plain = await plain_chat(sdk)
    without = await streamed_chat(sdk)
    assert all(chunk.choices and chunk.usage is None for chunk in without)
    chunks = await streamed_chat(sdk, stream_options={"include_usage": True})
    assert chunks[-1].choices == []
    assert chunks[-1].usage == plain.usage
    assert all(chunk.usage is None for chunk in chunks[:-1])
    assert text_of(chunks) == text_of(without)


async def test_tool_call_plain_and_streamed(sdk: Sdk, simulator: Simulator) -> None:
    answer = await sdk.call(lambda client: client.chat.completions.create(**WEATHER))
    (call,) = answer.choices[0].message.tool_calls
    assert (call.type, call.function.name) == ("function", "check_weather")
    assert json.loads(call.function.arguments).keys() == {"city"}
    assert answer.choices[0].finish_reason == "tool_calls"
    assert simulator.requests[-1].body["tools"] == [CHECK_WEATHER]
    chunks = await sdk.chunks(lambda client: client.chat.completions.create(**WEATHER, stream=True))
    parts = [part for chunk in chunks for part in chunk.choices[0].delta.tool_calls or ()]
    assert (parts[0].id, parts[0].function.name) == (call.id, "check_weather")
    assert "".join(part.function.arguments for part in parts) == call.function.arguments
    assert chunks[-1].choices[0].finish_reason == "tool_calls"


async def test_result_of_a_tool_reaches_the_provider_as_the_client_wrote_it(
    sdk: Sdk, simulator: Simulator
) -> None:
    answer = await sdk.call(lambda client: client.chat.completions.create(**WEATHER))
    message = answer.choices[0].message
    result = {"role": "tool", "tool_call_id": message.tool_calls[0].id, "content": '{"sky": "grey, 3 °C"}'}
    turns = [*WEATHER["messages"], message, result]
    again = await sdk.call(
        lambda client: client.chat.completions.create(model=MODEL, messages=turns, tools=[CHECK_WEATHER])
    )
    assert again.choices[0].message.content
    asked, called, resulted = simulator.requests[-1].body["messages"]
    assert (asked, resulted) == (WEATHER["messages"][0], result)
    assert called["tool_calls"][0] == message.tool_calls[0].model_dump()


async def test_structured_output_is_parsed(sdk: Sdk, simulator: Simulator) -> None:
    answer = await sdk.call(
        lambda client: client.chat.completions.parse(model=MODEL, messages=MESSAGES, response_format=River)
    )
    assert isinstance(answer.choices[0].message.parsed, River)
    wanted = simulator.requests[-1].body["response_format"]["json_schema"]
    assert (wanted["name"], wanted["strict"]) == ("River", True)
    assert wanted["schema"]["required"] == ["name", "length_km", "tributaries", "mouth"]


async def test_stream_helper_puts_together_text_tools_and_structure(sdk: Sdk) -> None:
    plain = await plain_chat(sdk)
    events, final = await sdk.helped(model=MODEL, messages=MESSAGES)
    assert final.choices[0].message.content == plain.choices[0].message.content
    assert "".join(event.delta for event in events if event.type == "content.delta") == (
        plain.choices[0].message.content
    )
    called = await sdk.call(lambda client: client.chat.completions.create(**WEATHER))
    events, final = await sdk.helped(**WEATHER)
    (call,) = final.choices[0].message.tool_calls
    assert call.function.arguments == called.choices[0].message.tool_calls[0].function.arguments
    assert "tool_calls.function.arguments.done" in [event.type for event in events]
    _, final = await sdk.helped(
        model=MODEL, messages=MESSAGES, response_format=River, stream_options={"include_usage": True}
    )
    assert isinstance(final.choices[0].message.parsed, River)
    assert final.usage.completion_tokens > 0


async def test_embeddings_packed_and_as_numbers(sdk: Sdk, simulator: Simulator) -> None:
    asked = {"model": "text-embedding-3-small", "input": ["one", "two"], "dimensions": 64}
    packed = await sdk.call(lambda client: client.embeddings.create(**asked))
    assert simulator.requests[-1].body["encoding_format"] == "base64"
    floats = await sdk.call(lambda client: client.embeddings.create(**asked, encoding_format="float"))
    assert simulator.requests[-1].body["encoding_format"] == "float"
    raw = await sdk.call(lambda client: client.embeddings.create(**asked, encoding_format="base64"))
    assert isinstance(raw.data[0].embedding, str)
    for one, other in zip(packed.data, floats.data, strict=True):
        assert one.embedding == pytest.approx(other.embedding, abs=1e-6)
        assert math.hypot(*other.embedding) == pytest.approx(1)
        assert len(other.embedding) == 64
    assert packed.usage == floats.usage
    assert [entry.endpoint for entry in simulator.bill.entries] == ["embeddings"] * 3


@pytest.mark.parametrize("given", ["one", [1, 2, 3], [[1, 2], [3]]])
async def test_embeddings_of_text_and_of_tokens(sdk: Sdk, simulator: Simulator, given: Any) -> None:
    answer = await sdk.call(
        lambda client: client.embeddings.create(model="text-embedding-3-small", input=given)
    )
    assert simulator.requests[-1].body["input"] == given
    assert [one.index for one in answer.data] == ([0, 1] if given == [[1, 2], [3]] else [0])


async def test_legacy_completions_plain_and_streamed(sdk: Sdk, simulator: Simulator) -> None:
    asked = {"model": "gpt-3.5-turbo-instruct", "prompt": "Once", "echo": True}
    plain = await sdk.call(lambda client: client.completions.create(**asked))
    assert plain.choices[0].text.startswith("Once")
    chunks = await sdk.chunks(
        lambda client: client.completions.create(**asked, stream=True, stream_options={"include_usage": True})
    )
    assert "".join(chunk.choices[0].text for chunk in chunks if chunk.choices) == plain.choices[0].text
    assert chunks[-1].usage == plain.usage
    without = await sdk.chunks(lambda client: client.completions.create(**asked, stream=True))
    assert all(chunk.choices and chunk.usage is None for chunk in without)


async def test_headers_of_a_plain_answer(sdk: Sdk, relay: Relay, simulator: Simulator) -> None:
    raw = await sdk.call(
        lambda client: client.chat.completions.with_raw_response.create(model=MODEL, messages=MESSAGES)
    )
    answer, headers = raw.parse(), raw.headers
    (record,) = await relay.logged()
    assert headers["x-request-id"] == headers["x-headgate-request-id"] == record["request_id"]
    assert answer._request_id == record["request_id"]
    assert headers["x-headgate-upstream-request-id"] == simulator.bill.entries[0].request_id
    assert (headers["x-headgate-target"], headers["x-headgate-attempts"]) == (f"upstream/{MODEL}", "1")
    # Dollars per million tokens, as `policy_for` has them.
    (entry,) = simulator.bill.entries
    cost = entry.input_tokens * Decimal("0.15") + entry.output_tokens * Decimal("0.60")
    assert Decimal(headers["x-headgate-cost-usd"]) * 1_000_000 == cost


async def test_headers_of_a_stream(sdk: Sdk, relay: Relay) -> None:
    raw = await sdk.call(
        lambda client: client.chat.completions.with_raw_response.create(
            model=MODEL, messages=MESSAGES, stream=True
        )
    )
    assert text_of(await sdk.parsed(raw))
    (record,) = await relay.logged()
    assert raw.headers["x-headgate-request-id"] == record["request_id"]
    assert raw.headers["x-headgate-target"] == f"upstream/{MODEL}"
    assert "x-headgate-cost-usd" not in raw.headers


async def test_models_are_those_of_the_key(make: MakeSdk, start: StartRelay, simulator: Simulator) -> None:
    slashed = "  meta/llama-3: {targets: [upstream/gpt-4o]}"
    relay = await start(policy_for(simulator.url, models=slashed))
    sdk = make(relay.url)
    page = await sdk.call(lambda client: client.models.list())
    assert {model.id for model in page.data} == {*MODELS, "meta/llama-3"}
    for name in (MODEL, "meta/llama-3"):
        model = await retrieved(sdk, name)
        assert (model.id, model.object) == (name, "model")
    assert not simulator.requests


async def test_azure_client_with_a_dated_api(make: MakeSdk, relay: Relay, simulator: Simulator) -> None:
    sdk = make(f"http://{relay.host}:{relay.port}", azure=True)
    assert (await plain_chat(sdk)).model == MODEL
    assert text_of(await streamed_chat(sdk))
    embedded = await sdk.call(
        lambda client: client.embeddings.create(model="text-embedding-3-small", input="a")
    )
    assert len(embedded.data) == 1
    assert [entry.model for entry in simulator.bill.entries] == [MODEL, MODEL, "text-embedding-3-small"]


async def test_azure_client_of_a_provider_on_azure(
    make: MakeSdk, start: StartRelay, simulator: Simulator
) -> None:
    root = simulator.url.removesuffix("/v1")
    lines = policy_for(simulator.url).splitlines()
    azure = f'  upstream: {{dialect: azure, base_url: "{root}", api_version: 2024-10-21, '
    azure += "api_key: {env: UPSTREAM_KEY}}"
    relay = await start("\n".join(azure if "base_url" in line else line for line in lines))
    sdk = make(f"http://{relay.host}:{relay.port}", azure=True)
    plain = await plain_chat(sdk)
    chunks = await streamed_chat(sdk, stream_options={"include_usage": True})
    assert text_of(chunks) == plain.choices[0].message.content
    assert chunks[-1].usage == plain.usage
    sent = simulator.requests[-1]
    assert sent.path == f"/openai/deployments/{MODEL}/chat/completions?api-version=2024-10-21"
    assert (sent.header("api-key"), sent.header("authorization")) == (SECRET, None)


@pytest.mark.parametrize("path", ["/openai/v1", "/openai/v1/", "/v1/"])
async def test_other_base_urls_serve_the_same(make: MakeSdk, relay: Relay, path: str) -> None:
    sdk = make(f"http://{relay.host}:{relay.port}{path}")
    assert (await plain_chat(sdk)).model == MODEL
    assert text_of(await streamed_chat(sdk))
    assert (await retrieved(sdk, MODEL)).id == MODEL


async def test_twenty_parallel_calls_get_their_own_answers(sdk: Sdk, simulator: Simulator) -> None:
    questions = [f"Tell me about river {number}." for number in range(10)]
    plain, streamed = await asyncio.gather(
        asyncio.gather(*(plain_chat(sdk, question) for question in questions)),
        asyncio.gather(*(streamed_chat(sdk, question) for question in questions)),
    )
    texts = [answer.choices[0].message.content for answer in plain]
    assert len(set(texts)) == 10
    assert [text_of(chunks) for chunks in streamed] == texts
    assert len({entry.id for entry in simulator.bill.entries}) == 20


async def test_leaving_a_stream_ends_it_upstream(
    make: MakeSdk, start: StartRelay, simulate: StartSimulator
) -> None:
    simulator = await simulate(tokens_per_s=50, output_tokens=5000)
    relay = await start(policy_for(simulator.url))
    sdk = make(relay.url)
    first = await sdk.leave(
        lambda client: client.chat.completions.create(model=MODEL, messages=MESSAGES, stream=True)
    )
    assert first.choices[0].delta.role == "assistant"
    await simulator.departed.wait()
    (record,) = await relay.logged()
    assert record["outcome"] == "caller_gone"
    assert record["output_tokens"] < 5000


async def test_whole_gateway_serves_the_client(make: MakeSdk, gateway: Gateway) -> None:
    sdk = make(gateway.url)
    plain = await plain_chat(sdk)
    assert text_of(await streamed_chat(sdk)) == plain.choices[0].message.content
    records = await gateway.log_lines(2)
    assert [(record["stream"], record["outcome"]) for record in records] == [(False, "ok"), (True, "ok")]
