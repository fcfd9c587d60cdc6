"""pydantic-ai's agents work through the gateway: each of its three models with a target of every dialect."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack
from typing import Any

import pydantic
import pytest
from pydantic_ai import Agent, NativeOutput, PromptedOutput, ToolOutput
from pydantic_ai.exceptions import ModelHTTPError
from pydantic_ai.messages import ThinkingPart
from pydantic_ai.models import Model
from pydantic_ai.models.anthropic import AnthropicModel
from pydantic_ai.models.openai import OpenAIChatModel, OpenAIResponsesModel
from pydantic_ai.profiles.anthropic import anthropic_model_profile
from pydantic_ai.profiles.openai import openai_model_profile
from pydantic_ai.providers.anthropic import AnthropicProvider
from pydantic_ai.providers.openai import OpenAIProvider

from gateway.simulator.server import Simulator
from tests.line.conftest import StartRelay
from tests.relaying import Relay
from tests.running import policy_for
from tests.sdk.matrix import TARGETS, anthropic_at, openai_at

MakeModel = Callable[..., Model]
QUESTION = "Where is the river?"


class River(pydantic.BaseModel):
    """A river."""

    name: str
    length_km: int


@pytest.fixture(params=["chat", "responses", "messages"])
def dialect(request: pytest.FixtureRequest) -> str:
    """What an agent's model speaks."""
    spoken: str = request.param
    return spoken


@pytest.fixture
async def model_at(dialect: str) -> AsyncIterator[MakeModel]:
    """`model_at(url, name)`: with what pydantic-ai knows of gpt-4o or Claude; of o4-mini, if it `thinks`."""
    async with AsyncExitStack() as stack:
        sdks: dict[tuple[str, int], Any] = {}

        def sdk(url: str, retries: int) -> Any:
            if (url, retries) not in sdks:
                make: Any = anthropic_at if dialect == "messages" else openai_at
                made = sdks[url, retries] = make(url, max_retries=retries)
                stack.push_async_callback(made.close)
            return sdks[url, retries]

        def model(url: str, name: str, *, thinks: bool = False, retries: int = 0) -> Model:
            if dialect == "messages":
                writer = AnthropicProvider(anthropic_client=sdk(url.removesuffix("/v1"), retries))
                profile: Any = anthropic_model_profile("claude-sonnet-4-5")
                return AnthropicModel(name, provider=writer, profile=profile)
            profile = openai_model_profile("o4-mini" if thinks else "gpt-4o")
            provider = OpenAIProvider(openai_client=sdk(url, retries))
            if dialect == "chat":
                return OpenAIChatModel(name, provider=provider, profile=profile)
            return OpenAIResponsesModel(name, provider=provider, profile=profile)

        yield model


@pytest.fixture
def model_of(model_at: MakeModel, line: Relay) -> MakeModel:
    """`model_of(target)`: of the line that has a target of every dialect."""
    return lambda name, **more: model_at(line.url, name, **more)


def tooled(model: Model, **more: Any) -> tuple[Agent[None, str], list[str]]:
    """An agent with two tools, and what they gave."""
    given: list[str] = []
    agent: Agent[None, str] = Agent(model, instructions="You know waters.", **more)

    @agent.tool_plain
    def look_up_river(name: str) -> str:
        """How long a river is."""
        given.append(f"{name} is 1,094 km long")
        return given[-1]

    @agent.tool_plain
    async def look_up_lake(depth_m: int) -> str:
        """Which lake is so deep."""
        given.append(f"Lake {depth_m}")
        return given[-1]

    return agent, given


async def test_run_and_stream_say_the_same_and_count_as_billed(
    model_of: MakeModel, simulator: Simulator
) -> None:
    for target in TARGETS:
        agent = Agent(model_of(target), instructions="You know rivers.")
        result = await agent.run(QUESTION)
        entry = list(simulator.billed)[-1]
        assert (result.usage.input_tokens, result.usage.output_tokens) == (
            entry.input_tokens,
            entry.output_tokens,
        )
        assert result.response.finish_reason == "stop"
        async with agent.run_stream(QUESTION) as stream:
            pieces = [piece async for piece in stream.stream_text(delta=True, debounce_by=None)]
        entry = list(simulator.billed)[-1]
        assert len(pieces) > 3, target
        assert "".join(pieces) == result.output
        assert (stream.usage.input_tokens, stream.usage.output_tokens) == (
            entry.input_tokens,
            entry.output_tokens,
        )


@pytest.mark.parametrize("stream", [False, True], ids=["plain", "stream"])
async def test_agent_calls_its_tools_and_goes_on_with_what_they_gave(
    model_of: MakeModel, simulator: Simulator, stream: bool
) -> None:
    for target in TARGETS:
        for asked, count in (("Call look_up_river.", 1), ("Call look_up_river and look_up_lake.", 2)):
            agent, given = tooled(model_of(target))
            if stream:
                async with agent.run_stream(asked) as streamed:
                    text, usage = await streamed.get_output(), streamed.usage
                    history = streamed.all_messages()
            else:
                result = await agent.run(asked)
                text, usage, history = result.output, result.usage, result.all_messages()
            assert text and len(given) == usage.tool_calls == count, target
            assert usage.requests == 2
            sent = list(simulator.requests)[-1].raw.decode()
            assert all(told in sent for told in given)
            # A further question, with all that went before.
            assert (await agent.run("And the sea?", message_history=history)).output
            sent = list(simulator.requests)[-1].raw.decode()
            assert all(told in sent for told in (*given, text, "And the sea?"))


@pytest.mark.parametrize("stream", [False, True], ids=["plain", "stream"])
@pytest.mark.parametrize("way", [ToolOutput, NativeOutput])
async def test_output_of_a_type(model_of: MakeModel, way: Any, stream: bool, simulator: Simulator) -> None:
    for target in TARGETS:
        agent: Agent[None, River] = Agent(model_of(target), output_type=way(River))
        if stream:
            async with agent.run_stream("Name a river.") as streamed:
                river = await streamed.get_output()
        else:
            river = (await agent.run("Name a river.")).output
        assert isinstance(river, River), target
    assert simulator.requests.total == len(TARGETS)


async def test_output_that_is_only_asked_for(model_of: MakeModel, dialect: str, simulator: Simulator) -> None:
    simulator.settings.says = '{"name": "Elbe", "length_km": 1094}'
    for target in TARGETS:
        model = model_of(target)
        if dialect != "messages" and target == "anthropic":
            # OpenAI's `json_object`, which Anthropic has no word for.
            with pytest.raises(ModelHTTPError, match="json_object"):
                await Agent(model, output_type=PromptedOutput(River)).run("Name a river.")
            model = model_of("drops")
        result = await Agent(model, output_type=PromptedOutput(River)).run("Name a river.")
        assert result.output == River(name="Elbe", length_km=1094)


@pytest.mark.parametrize("stream", [False, True], ids=["plain", "stream"])
async def test_thoughts_and_tools(
    model_of: MakeModel, dialect: str, stream: bool, simulator: Simulator
) -> None:
    for target in TARGETS:
        agent, given = tooled(model_of(f"{target}-thinks", thinks=True), model_settings={"thinking": "low"})
        asked = "Call look_up_river and look_up_lake."
        if stream:
            async with agent.run_stream(asked) as streamed:
                text, history = await streamed.get_output(), streamed.all_messages()
        else:
            result = await agent.run(asked)
            text, history = result.output, result.all_messages()
        assert text and len(given) == 2, target
        assert list(simulator.billed)[-2].reasoning_tokens > 0
        thoughts = [part for message in history for part in message.parts if isinstance(part, ThinkingPart)]
        # OpenAI's chat never shows what it thought; nor do its responses, unless a summary is asked for.
        assert any(part.content for part in thoughts) == (target == "anthropic")
        if target == "anthropic":
            sent = list(simulator.requests)[-1].body
            # chat has no field that pydantic-ai sends seals back in; who lost them goes on without thinking.
            assert ("thinking" in sent) == (dialect != "chat")
            assert ('"signature":"seal-' in list(simulator.requests)[-1].raw.decode()) == (dialect != "chat")


async def test_refusals_are_its_own_exception(
    model_at: MakeModel, start: StartRelay, line: Relay, simulator: Simulator
) -> None:
    with pytest.raises(ModelHTTPError) as caught:
        await Agent(model_at(line.url, "none")).run(QUESTION)
    assert caught.value.status_code == 404
    assert not simulator.requests
    for target in TARGETS:
        simulator.script(["status_429"] * 9)
        with pytest.raises(ModelHTTPError) as caught:
            await Agent(model_at(line.url, target)).run(QUESTION)
        assert caught.value.status_code == 429
    spent = await start(policy_for(simulator.url) + "budgets: [{name: b, usd: 0.000001, every: day}]\n")
    with pytest.raises(ModelHTTPError) as caught:
        await Agent(model_at(spent.url, "gpt-4o-mini", retries=5)).run(QUESTION)
    assert caught.value.status_code == 429
    assert "budget" in str(caught.value)
    assert len(await spent.logged()) == 1


async def test_cap_is_seen(model_of: MakeModel, simulator: Simulator) -> None:
    simulator.settings.output_tokens = 64
    for target in TARGETS:
        result = await Agent(model_of(target)).run(QUESTION, model_settings={"max_tokens": 16})
        assert (result.response.finish_reason, result.usage.output_tokens) == ("length", 16), target
