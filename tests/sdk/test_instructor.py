"""instructor's answers as pydantic's models come through the gateway, by OpenAI's SDK and Anthropic's, with a
target of every dialect."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Iterable
from contextlib import AsyncExitStack
from typing import Any

import anthropic
import instructor
import openai
import pydantic
import pytest
from instructor import Mode
from instructor.core import InstructorRetryException

from gateway.simulator.server import Simulator
from tests.line.conftest import StartRelay
from tests.relaying import Relay
from tests.running import policy_for
from tests.sdk.matrix import TARGETS, anthropic_at, openai_at

Make = Callable[..., Any]
ASKED: dict[str, Any] = {
    "messages": [
        {"role": "system", "content": "You know rivers."},
        {"role": "user", "content": "Name a river, as JSON."},
    ],
    # Anthropic's SDK must be told, OpenAI's Responses want at least 16.
    "max_tokens": 500,
}
TOOLS = [("openai", Mode.TOOLS), ("openai", Mode.RESPONSES_TOOLS), ("anthropic", Mode.TOOLS)]
FORMS = [("openai", Mode.JSON_SCHEMA)]
TEXTS = [("openai", Mode.JSON), ("openai", Mode.MD_JSON), ("anthropic", Mode.JSON)]
"""The model is only asked for JSON in the words of a prompt."""
ELBE = '{"name":"Elbe","length_km":1094}'


class River(pydantic.BaseModel):
    """A river."""

    name: str
    length_km: int


class Lake(pydantic.BaseModel):
    """A lake."""

    depth_m: int


@pytest.fixture
async def at() -> AsyncIterator[Make]:
    """`at(url, sdk, mode)`: a client, closed afterwards."""
    async with AsyncExitStack() as stack:

        def made(url: str, sdk: str, mode: Mode, *, retries: int = 0) -> Any:
            if sdk == "anthropic":
                writes = anthropic_at(url.removesuffix("/v1"), max_retries=retries)
                stack.push_async_callback(writes.close)
                return instructor.from_anthropic(writes, mode=mode)
            chats = openai_at(url, max_retries=retries)
            stack.push_async_callback(chats.close)
            return instructor.from_openai(chats, mode=mode)

        yield made


def named(ways: list[tuple[str, Mode]]) -> Any:
    return pytest.mark.parametrize(("sdk", "mode"), ways, ids=[f"{sdk}-{mode.value}" for sdk, mode in ways])


@named(TOOLS + FORMS)
async def test_answer_is_a_model_and_counts_as_billed(
    at: Make, line: Relay, sdk: str, mode: Mode, simulator: Simulator
) -> None:
    client = at(line.url, sdk, mode)
    for target in TARGETS:
        river, raw = await client.chat.completions.create_with_completion(
            model=target, response_model=River, max_retries=0, **ASKED
        )
        assert isinstance(river, River), target
        entry = list(simulator.billed)[-1]
        used = raw.usage
        told = (getattr(used, "prompt_tokens", None), getattr(used, "completion_tokens", None))
        if told == (None, None):
            told = (used.input_tokens, used.output_tokens)
        assert told == (entry.input_tokens, entry.output_tokens), target


@named(TEXTS)
async def test_answer_in_words_is_read_as_a_model(
    at: Make, line: Relay, sdk: str, mode: Mode, simulator: Simulator
) -> None:
    simulator.settings.says = f"```json\n{ELBE}\n```" if mode is Mode.MD_JSON else ELBE
    client = at(line.url, sdk, mode)
    for target in TARGETS:
        model = target
        if mode is Mode.JSON and sdk == "openai" and target == "anthropic":
            # OpenAI's `json_object`, which Anthropic has no word for.
            asked = client.create(model=target, response_model=River, **ASKED)
            await refused(asked, openai.BadRequestError, "json_object")
            model = "drops"
        river = await client.create(model=model, response_model=River, max_retries=0, **ASKED)
        # It is of a class that instructor derives.
        assert isinstance(river, River) and river.model_dump_json() == ELBE, target


@named(TOOLS + FORMS)
async def test_answer_grows_as_it_is_streamed(at: Make, line: Relay, sdk: str, mode: Mode) -> None:
    client = at(line.url, sdk, mode)
    for target in TARGETS:
        grown = [part async for part in client.create_partial(model=target, response_model=River, **ASKED)]
        assert len(grown) > 2, target
        assert River.model_validate(grown[-1].model_dump()), target


@named([("openai", Mode.PARALLEL_TOOLS), ("anthropic", Mode.PARALLEL_TOOLS)])
async def test_several_models_in_one_answer(at: Make, line: Relay, sdk: str, mode: Mode) -> None:
    client = at(line.url, sdk, mode)
    asked = {**ASKED, "messages": [{"role": "user", "content": "Call River and Lake."}]}
    for target in TARGETS:
        found = await client.create(model=target, response_model=Iterable[River | Lake], **asked)
        assert [type(each) for each in found] == [River, Lake], target


@named(TOOLS + FORMS)
async def test_answer_that_is_not_valid_is_asked_for_again(
    at: Make, line: Relay, sdk: str, mode: Mode, simulator: Simulator
) -> None:
    client = at(line.url, sdk, mode)
    for target in TARGETS:
        seen: list[str] = []

        class Checked(River):
            """A river that exists."""

            @pydantic.field_validator("name")
            @classmethod
            def is_known(cls, name: str, seen: list[str] = seen) -> str:
                seen.append(name)
                if len(seen) == 1:
                    raise ValueError("no such river")
                return name

        before = simulator.requests.total
        assert isinstance(
            await client.create(model=target, response_model=Checked, max_retries=3, **ASKED), Checked
        )
        assert simulator.requests.total == before + 2, target
        sent = list(simulator.requests)[-1].raw.decode()
        assert "no such river" in sent and seen[0] in sent, target


async def test_it_gives_up_after_as_many_attempts_as_told(
    at: Make, line: Relay, simulator: Simulator
) -> None:
    simulator.settings.says = "It is not here."
    client = at(line.url, "anthropic", Mode.JSON)
    with pytest.raises(InstructorRetryException):
        await client.create(model="openai", response_model=River, max_retries=2, **ASKED)
    assert simulator.requests.total == 3


@named(TOOLS)
async def test_refusals_are_exceptions_of_the_sdk(
    at: Make, line: Relay, start: StartRelay, sdk: str, mode: Mode, simulator: Simulator
) -> None:
    kinds: Any = {"openai": openai, "anthropic": anthropic}[sdk]
    asked: dict[str, Any] = {"response_model": River, "max_retries": 3, **ASKED}
    client = at(line.url, sdk, mode)
    await refused(client.create(model="none", **asked), kinds.NotFoundError)
    assert not simulator.requests
    for target in TARGETS:
        simulator.script(["status_429"] * 9)
        await refused(client.create(model=target, **asked), kinds.RateLimitError)
    spent = await start(policy_for(simulator.url) + "budgets: [{name: b, usd: 0.000001, every: day}]\n")
    fresh = at(spent.url, sdk, mode, retries=5)
    await refused(fresh.create(model="gpt-4o-mini", **asked), kinds.RateLimitError, "budget")
    assert len(await spent.logged()) == 1


async def refused(answer: Any, kind: type[Exception], why: str | None = None) -> None:
    """It is refused with an exception of the SDK, in instructor's, after one attempt."""
    with pytest.raises(InstructorRetryException, match=why) as caught:
        await answer
    assert isinstance(caught.value.__cause__, kind)
    assert caught.value.n_attempts == 1
