"""LlamaIndex's OpenAI classes work through the gateway as they do with OpenAI."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from typing import Any

import httpx
import openai
import pydantic
import pytest
from llama_index.core.llms import ChatMessage, ChatResponse, CompletionResponse
from llama_index.core.tools import FunctionTool
from llama_index.embeddings.openai import OpenAIEmbedding  # type: ignore[import-untyped]
from llama_index.llms.openai import OpenAI

from gateway.simulator.server import Simulator
from tests.conftest import StartSimulator
from tests.line.conftest import StartRelay
from tests.relaying import Relay
from tests.running import KEY, SECRET, policy_for

MakeLlm = Callable[..., OpenAI]
MESSAGES = [ChatMessage(role="user", content="Tell me about rivers.")]


class River(pydantic.BaseModel):
    """A river."""

    name: str
    length_km: int


def check_weather(city: str) -> str:
    """How the weather is."""
    return f"Grey in {city}."


@pytest.fixture
def llm_at(https: tuple[httpx.Client, httpx.AsyncClient]) -> MakeLlm:
    def made(url: str, key: str = KEY, model: str = "gpt-4o-mini", **more: Any) -> OpenAI:
        return OpenAI(
            model=model,
            api_base=url,
            api_key=key,
            max_retries=0,
            http_client=https[0],
            async_http_client=https[1],
            **more,
        )

    return made


@pytest.fixture
def llm(llm_at: MakeLlm, relay: Relay) -> OpenAI:
    return llm_at(relay.url)


async def test_chat_sync_and_async(llm: OpenAI, simulator: Simulator) -> None:
    sync = await asyncio.to_thread(llm.chat, MESSAGES)
    answer = await llm.achat(MESSAGES)
    assert answer.message.content
    assert answer.message.content == sync.message.content
    for entry, got in zip(simulator.bill.entries, (sync, answer), strict=True):
        assert got.raw is not None
        assert got.raw.id == entry.id
        assert (got.additional_kwargs["prompt_tokens"], got.additional_kwargs["completion_tokens"]) == (
            entry.input_tokens,
            entry.output_tokens,
        )
    assert simulator.requests[-1].header("authorization") == f"Bearer {SECRET}"


async def test_stream_chat_adds_up_to_the_plain_answer(llm: OpenAI) -> None:
    plain = await llm.achat(MESSAGES)
    sync = await asyncio.to_thread(lambda: list(llm.stream_chat(MESSAGES)))
    chunks = [chunk async for chunk in await llm.astream_chat(MESSAGES)]
    for got in (sync, chunks):
        assert got[-1].message.content == plain.message.content
        assert deltas(got) == plain.message.content


def deltas(got: Sequence[ChatResponse | CompletionResponse]) -> str:
    return "".join(one.delta or "" for one in got)


async def test_stream_chat_with_usage(llm_at: MakeLlm, relay: Relay, simulator: Simulator) -> None:
    llm = llm_at(relay.url, additional_kwargs={"stream_options": {"include_usage": True}})
    chunks = [chunk async for chunk in await llm.astream_chat(MESSAGES)]
    (entry,) = simulator.bill.entries
    raw = chunks[-1].raw
    assert raw is not None
    assert raw.usage is not None
    assert (raw.usage.prompt_tokens, raw.usage.completion_tokens) == (entry.input_tokens, entry.output_tokens)


async def test_complete_of_a_chat_model(llm: OpenAI) -> None:
    plain = await asyncio.to_thread(llm.complete, "Once")
    assert plain.text
    sync = await asyncio.to_thread(lambda: list(llm.stream_complete("Once")))
    assert sync[-1].text == deltas(sync) == plain.text
    assert (await llm.acomplete("Once")).text == plain.text


async def test_complete_of_a_legacy_model(llm_at: MakeLlm, relay: Relay, simulator: Simulator) -> None:
    llm = llm_at(relay.url, model="gpt-3.5-turbo-instruct", max_tokens=10)
    plain = await llm.acomplete("Once")
    assert plain.text
    chunks = [chunk async for chunk in await llm.astream_complete("Once")]
    assert deltas(chunks) == plain.text
    assert [entry.endpoint for entry in simulator.bill.entries] == ["completions"] * 2


async def test_tools_are_called_plain_and_streamed(llm: OpenAI) -> None:
    tools = [FunctionTool.from_defaults(check_weather)]
    plain = await llm.achat_with_tools(tools, user_msg="please check_weather")
    (call,) = llm.get_tool_calls_from_response(plain)
    assert (call.tool_name, list(call.tool_kwargs)) == ("check_weather", ["city"])
    stream = await llm.astream_chat_with_tools(tools, user_msg="please check_weather")
    last = [chunk async for chunk in stream][-1]
    (again,) = llm.get_tool_calls_from_response(last)
    assert (again.tool_id, again.tool_kwargs) == (call.tool_id, call.tool_kwargs)


async def test_structured_output(llm: OpenAI) -> None:
    answer = await llm.as_structured_llm(River).achat(MESSAGES)
    assert isinstance(answer.raw, River)


async def test_embeddings_of_texts_and_queries(
    https: tuple[httpx.Client, httpx.AsyncClient], relay: Relay, simulator: Simulator
) -> None:
    embeddings = OpenAIEmbedding(
        model="text-embedding-3-small",
        api_base=relay.url,
        api_key=KEY,
        dimensions=64,
        max_retries=0,
        http_client=https[0],
        async_http_client=https[1],
        embed_batch_size=2,
    )
    texts = ["one", "two", "three"]
    batched = await embeddings.aget_text_embedding_batch(texts)
    assert [len(vector) for vector in batched] == [64] * 3
    assert sorted(captured.body["input"] for captured in simulator.requests) == [["one", "two"], ["three"]]
    for text, vector in zip(texts, batched, strict=True):
        alone = await asyncio.to_thread(embeddings.get_text_embedding, text)
        assert alone == pytest.approx(vector, abs=1e-6)
    assert await embeddings.aget_query_embedding("one") == pytest.approx(batched[0], abs=1e-6)


async def test_refusal_is_an_exception_of_the_openai_client(
    llm_at: MakeLlm, relay: Relay, simulator: Simulator
) -> None:
    with pytest.raises(openai.AuthenticationError):
        await llm_at(relay.url, "hg-nobody").achat(MESSAGES)
    with pytest.raises(openai.NotFoundError):
        await llm_at(relay.url, model="gpt-4").achat(MESSAGES)
    assert not simulator.requests


async def test_cancelling_a_stream_ends_it_upstream(
    llm_at: MakeLlm, start: StartRelay, simulate: StartSimulator
) -> None:
    # Cancelled, not closed: this library's streams keep their connection when they are closed.
    simulator = await simulate(tokens_per_s=50, output_tokens=5000)
    relay = await start(policy_for(simulator.url))
    begun = asyncio.Event()

    async def read() -> None:
        async for _ in await llm_at(relay.url).astream_chat(MESSAGES):
            begun.set()

    reading = asyncio.create_task(read())
    await begun.wait()
    reading.cancel()
    await simulator.departed.wait()
    with pytest.raises(asyncio.CancelledError):
        await reading
    (record,) = await relay.logged()
    assert record["outcome"] == "caller_gone"
