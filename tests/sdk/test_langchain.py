"""LangChain's OpenAI classes work through the gateway as they do with OpenAI."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable
from typing import Any

import httpx
import openai
import pydantic
import pytest
from langchain_core.messages import AIMessageChunk, HumanMessage, ToolMessage
from langchain_core.tools import tool
from langchain_openai import AzureChatOpenAI, ChatOpenAI, OpenAIEmbeddings

from gateway.simulator.server import Simulator
from tests.conftest import StartSimulator
from tests.line.conftest import StartRelay
from tests.relaying import Relay
from tests.running import KEY, SECRET, policy_for

QUESTION = "Tell me about rivers."
MakeModel = Callable[..., ChatOpenAI]


@tool
def check_weather(city: str) -> str:
    """How the weather is."""
    return f"Grey in {city}."


class River(pydantic.BaseModel):
    """A river."""

    name: str
    length_km: int


@pytest.fixture
def model_at(https: tuple[httpx.Client, httpx.AsyncClient]) -> MakeModel:
    def made(url: str, key: str = KEY, **more: Any) -> ChatOpenAI:
        return ChatOpenAI(
            model="gpt-4o-mini",
            base_url=url,
            api_key=pydantic.SecretStr(key),
            max_retries=0,
            http_client=https[0],
            http_async_client=https[1],
            **more,
        )

    return made


@pytest.fixture
def model(model_at: MakeModel, relay: Relay) -> ChatOpenAI:
    return model_at(relay.url)


async def test_invoke_sync_and_async(model: ChatOpenAI, simulator: Simulator) -> None:
    sync = await asyncio.to_thread(model.invoke, QUESTION)
    answer = await model.ainvoke(QUESTION)
    assert answer.content and answer.content == sync.content
    assert answer.response_metadata["model_name"] == "gpt-4o-mini"
    assert answer.response_metadata["finish_reason"] == "stop"
    for entry, message in zip(simulator.bill.entries, (sync, answer), strict=True):
        assert message.usage_metadata is not None
        assert message.response_metadata["id"] == entry.id
        assert (message.usage_metadata["input_tokens"], message.usage_metadata["output_tokens"]) == (
            entry.input_tokens,
            entry.output_tokens,
        )
    assert simulator.requests[-1].header("authorization") == f"Bearer {SECRET}"


@pytest.mark.parametrize("stream_usage", [True, False])
async def test_stream_adds_up_to_the_plain_answer(
    model_at: MakeModel, relay: Relay, stream_usage: bool
) -> None:
    model = model_at(relay.url, stream_usage=stream_usage)
    plain = await model.ainvoke(QUESTION)
    sync = await asyncio.to_thread(lambda: list(model.stream(QUESTION)))
    chunks = [chunk async for chunk in model.astream(QUESTION)]
    for got in (sync, chunks):
        whole = added(got)
        assert whole.content == plain.content
        assert whole.response_metadata["finish_reason"] == "stop"
        assert len([chunk for chunk in got if chunk.content]) == 12
        if stream_usage:
            assert whole.usage_metadata == plain.usage_metadata
        else:
            assert whole.usage_metadata is None
    # Billed from the provider's own count, whether the caller asked for it or not.
    records = await relay.logged(3)
    assert {record["usage_source"] for record in records} == {"provider"}
    assert {record["output_tokens"] for record in records} == {12}


def added(chunks: list[AIMessageChunk]) -> AIMessageChunk:
    whole = chunks[0]
    for chunk in chunks[1:]:
        whole = whole + chunk
    return whole


async def test_tools_are_called_and_their_results_sent_back(model: ChatOpenAI, simulator: Simulator) -> None:
    bound = model.bind_tools([check_weather])
    asked = HumanMessage("please check_weather")
    answer = await bound.ainvoke([asked])
    (call,) = answer.tool_calls
    assert (call["name"], list(call["args"])) == ("check_weather", ["city"])
    assert answer.response_metadata["finish_reason"] == "tool_calls"
    (declared,) = simulator.requests[-1].body["tools"]
    assert declared["function"]["description"] == "How the weather is."
    whole = added([chunk async for chunk in bound.astream([asked])])  # type: ignore[misc]
    assert whole.tool_calls == answer.tool_calls
    result = check_weather.invoke(call)
    assert isinstance(result, ToolMessage)
    assert (await bound.ainvoke([asked, answer, result])).content
    sent = simulator.requests[-1].body["messages"]
    assert [message["role"] for message in sent] == ["user", "assistant", "tool"]
    assert sent[1]["tool_calls"][0]["id"] == sent[2]["tool_call_id"] == call["id"]
    assert json.loads(sent[1]["tool_calls"][0]["function"]["arguments"]) == call["args"]


@pytest.mark.parametrize("method", ["json_schema", "function_calling"])
async def test_structured_output(model: ChatOpenAI, method: Any) -> None:
    structured = model.with_structured_output(River, method=method)
    assert isinstance(await structured.ainvoke(QUESTION), River)


async def test_batch_keeps_the_order(model: ChatOpenAI) -> None:
    questions: list[Any] = [f"Tell me about river {number}." for number in range(8)]
    alone = [(await model.ainvoke(question)).content for question in questions]
    assert [message.content for message in await model.abatch(questions)] == alone
    assert len(set(alone)) == 8


async def test_embeddings_of_documents_and_queries(
    https: tuple[httpx.Client, httpx.AsyncClient], relay: Relay, simulator: Simulator
) -> None:
    # check_embedding_ctx_length=True, the default, sends tokens; a tokeniser is fetched for that.
    embeddings = OpenAIEmbeddings(
        model="text-embedding-3-small",
        base_url=relay.url,
        api_key=pydantic.SecretStr(KEY),
        check_embedding_ctx_length=False,
        dimensions=64,
        max_retries=0,
        http_client=https[0],
        http_async_client=https[1],
    )
    documents = await embeddings.aembed_documents(["one", "two"])
    assert simulator.requests[-1].body["input"] == ["one", "two"]
    assert [len(vector) for vector in documents] == [64, 64]
    assert documents[0] != documents[1]
    query = await asyncio.to_thread(embeddings.embed_query, "one")
    assert query == pytest.approx(documents[0], abs=1e-6)
    assert [entry.endpoint for entry in simulator.bill.entries] == ["embeddings"] * 2


async def test_azure_chat(https: tuple[httpx.Client, httpx.AsyncClient], relay: Relay) -> None:
    model = AzureChatOpenAI(
        azure_endpoint=f"http://{relay.host}:{relay.port}",
        azure_deployment="gpt-4o-mini",
        api_version="2024-10-21",
        api_key=pydantic.SecretStr(KEY),
        max_retries=0,
        http_client=https[0],
        http_async_client=https[1],
    )
    plain = await model.ainvoke(QUESTION)
    assert plain.content
    assert added([chunk async for chunk in model.astream(QUESTION)]).content == plain.content


async def test_refusal_is_an_exception_of_the_openai_client(
    model_at: MakeModel, relay: Relay, simulator: Simulator
) -> None:
    with pytest.raises(openai.AuthenticationError):
        await model_at(relay.url, "hg-nobody").ainvoke(QUESTION)
    with pytest.raises(openai.NotFoundError):
        await model_at(relay.url).ainvoke(QUESTION, model="gone")
    assert not simulator.requests


async def test_leaving_a_stream_ends_it_upstream(
    model_at: MakeModel, start: StartRelay, simulate: StartSimulator
) -> None:
    simulator = await simulate(tokens_per_s=50, output_tokens=5000)
    relay = await start(policy_for(simulator.url))
    stream = model_at(relay.url).astream(QUESTION)
    assert isinstance(await anext(stream), AIMessageChunk)
    await stream.aclose()  # type: ignore[attr-defined]
    await simulator.departed.wait()
    (record,) = await relay.logged()
    assert record["outcome"] == "caller_gone"
