"""LangChain's Anthropic and OpenAI classes work through the gateway, each with a target of every dialect."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from typing import Any

import anthropic
import httpx
import openai
import pydantic
import pytest
from langchain_anthropic import ChatAnthropic
from langchain_anthropic._client_utils import _get_default_async_httpx_client, _get_default_httpx_client
from langchain_core.language_models import BaseChatModel
from langchain_core.messages import AIMessage, AIMessageChunk, BaseMessage, HumanMessage, SystemMessage
from langchain_core.tools import tool
from langchain_openai import ChatOpenAI

from gateway.simulator.server import Simulator
from tests.line.conftest import StartRelay
from tests.relaying import Relay
from tests.running import KEY, policy_for
from tests.sdk.matrix import TARGETS

MakeModel = Callable[..., BaseChatModel]
QUESTION = [SystemMessage("You know rivers."), HumanMessage("Where is the river?")]


class River(pydantic.BaseModel):
    """A river."""

    name: str
    length_km: int


@tool
def look_up_river(name: str) -> str:
    """How long a river is."""
    return f"{name} is 1,094 km long"


@tool
def look_up_lake(depth_m: int) -> str:
    """Which lake is so deep."""
    return f"Lake {depth_m}"


TOOLS = {each.name: each for each in (look_up_river, look_up_lake)}


@pytest.fixture(params=["chat", "responses", "messages"])
def dialect(request: pytest.FixtureRequest) -> str:
    """What a model speaks."""
    spoken: str = request.param
    return spoken


@pytest.fixture
async def model_at(
    dialect: str, https: tuple[httpx.Client, httpx.AsyncClient]
) -> AsyncIterator[Callable[..., BaseChatModel]]:
    """`model_at(url, name)`."""
    writers: list[ChatAnthropic] = []

    def made(url: str, name: str, *, retries: int = 0, **more: Any) -> BaseChatModel:
        key = pydantic.SecretStr(KEY)
        if dialect == "messages":
            writers.append(
                ChatAnthropic(
                    model=name,  # type: ignore[call-arg]
                    base_url=url.removesuffix("/v1"),
                    api_key=key,
                    max_retries=retries,
                    **more,
                )
            )
            return writers[-1]
        return ChatOpenAI(
            model=name,
            base_url=url,
            api_key=key,
            max_retries=retries,
            http_client=https[0],
            http_async_client=https[1],
            use_responses_api=dialect == "responses",
            stream_usage=True,
            **more,
        )

    yield made
    for writer in writers:
        await writer._async_client.close()
        writer._client.close()
    # It keeps a client for each URL, and another line may come to have this one's port.
    _get_default_async_httpx_client.cache_clear()
    _get_default_httpx_client.cache_clear()


@pytest.fixture
def model_of(model_at: MakeModel, line: Relay) -> MakeModel:
    """`model_of(target)`: of the line that has a target of every dialect."""
    return lambda name, **more: model_at(line.url, name, **more)


async def answer_of(model: Any, asked: list[BaseMessage], stream: bool) -> AIMessage:
    """One call; if streamed, its pieces added up."""
    if not stream:
        answer = await model.ainvoke(asked)
        assert isinstance(answer, AIMessage)
        return answer
    chunks = [chunk async for chunk in model.astream(asked)]
    assert len(chunks) > 2
    whole = chunks[0]
    for chunk in chunks[1:]:
        whole = whole + chunk
    assert isinstance(whole, AIMessageChunk)
    return whole


async def test_invoke_and_stream_say_the_same_and_count_as_billed(
    model_of: MakeModel, simulator: Simulator
) -> None:
    for target in TARGETS:
        model = model_of(target)
        answers = [await answer_of(model, QUESTION, stream) for stream in (False, True)]
        answers.append(await asyncio.to_thread(model.invoke, QUESTION))
        assert len({answer.text for answer in answers}) == 1 and answers[0].text, target
        for answer, entry in zip(answers, list(simulator.billed)[-3:], strict=True):
            used = answer.usage_metadata
            assert used is not None
            assert (used["input_tokens"], used["output_tokens"]) == (entry.input_tokens, entry.output_tokens)


@pytest.mark.parametrize("stream", [False, True], ids=["plain", "stream"])
async def test_tools_are_called_and_their_results_sent_back(
    model_of: MakeModel, stream: bool, simulator: Simulator
) -> None:
    for target in TARGETS:
        model = model_of(target).bind_tools(list(TOOLS.values()))
        for asked, count in (("Call look_up_river.", 1), ("Call look_up_river and look_up_lake.", 2)):
            messages: list[BaseMessage] = [HumanMessage(asked)]
            answer = await answer_of(model, messages, stream)
            assert [call["name"] for call in answer.tool_calls] == list(TOOLS)[:count], target
            results = [TOOLS[call["name"]].invoke(call) for call in answer.tool_calls]
            last = await answer_of(model, [*messages, answer, *results], stream)
            assert last.text and not last.tool_calls, target
            sent = list(simulator.requests)[-1].raw.decode()
            assert all(result.content in sent and result.tool_call_id in sent for result in results)


# LangChain dumps what it parsed into a field that it declared as none.
@pytest.mark.filterwarnings("ignore:Pydantic serializer warnings")
@pytest.mark.parametrize("method", ["function_calling", "json_schema"])
async def test_structured_output(model_of: MakeModel, method: str) -> None:
    for target in TARGETS:
        structured = model_of(target).with_structured_output(River, method=method)
        assert isinstance(await structured.ainvoke(QUESTION), River), target
        streamed = [found async for found in structured.astream(QUESTION)]
        assert isinstance(streamed[-1], River), target


@pytest.mark.parametrize("stream", [False, True], ids=["plain", "stream"])
async def test_thoughts_and_tools(
    model_of: MakeModel, dialect: str, stream: bool, simulator: Simulator
) -> None:
    asks: dict[str, Any] = {
        "chat": {"reasoning_effort": "low"},
        "responses": {
            "reasoning": {"effort": "low", "summary": "auto"},
            "include": ["reasoning.encrypted_content"],
            "store": False,
        },
        "messages": {"thinking": {"type": "enabled", "budget_tokens": 1024}, "max_tokens": 4000},
    }
    for target in TARGETS:
        model = model_of(f"{target}-thinks", **asks[dialect]).bind_tools(list(TOOLS.values()))
        messages: list[BaseMessage] = [HumanMessage("Call look_up_river and look_up_lake.")]
        answer = await answer_of(model, messages, stream)
        thoughts = [block for block in answer.content_blocks if block["type"] == "reasoning"]
        shown = target == "anthropic" or (target == "responses" and dialect == "responses")
        # LangChain's class for chat has no word for thoughts.
        assert any(thought.get("reasoning") for thought in thoughts) == (shown and dialect != "chat"), target
        assert list(simulator.billed)[-1].reasoning_tokens > 0
        results = [TOOLS[call["name"]].invoke(call) for call in answer.tool_calls]
        assert len(results) == 2
        last = await answer_of(model, [*messages, answer, *results], stream)
        assert last.text, target
        if shown and dialect != "chat":
            assert '"seal-' in list(simulator.requests)[-1].raw.decode(), target


async def test_refusals_are_exceptions_of_the_sdk(
    model_at: MakeModel, start: StartRelay, line: Relay, dialect: str, simulator: Simulator
) -> None:
    sdk: Any = anthropic if dialect == "messages" else openai
    with pytest.raises(sdk.NotFoundError):
        await model_at(line.url, "none").ainvoke(QUESTION)
    assert not simulator.requests
    for target in TARGETS:
        simulator.script(["status_429"] * 9)
        with pytest.raises(sdk.RateLimitError):
            await model_at(line.url, target).ainvoke(QUESTION)
    spent = await start(policy_for(simulator.url) + "budgets: [{name: b, usd: 0.000001, every: day}]\n")
    with pytest.raises(sdk.RateLimitError, match="budget"):
        await model_at(spent.url, "gpt-4o-mini", retries=5).ainvoke(QUESTION)
    assert len(await spent.logged()) == 1
