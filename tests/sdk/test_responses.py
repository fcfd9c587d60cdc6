"""What is of the Responses API alone: which calls are passed through, what keeps state, what goes back."""

from __future__ import annotations

from typing import Any

import openai
import pytest

from gateway.simulator.server import Simulator
from gateway.wire.dialects.openai_families import FAMILIES
from tests.line.conftest import StartRelay
from tests.line.passing import OTHER_KEY, ask, open_policy, uploaded
from tests.relaying import Relay
from tests.running import KEY
from tests.sdk.matrix import TARGETS


def sdk_of(relay: Relay) -> openai.AsyncOpenAI:
    return openai.AsyncOpenAI(base_url=relay.url, api_key=KEY, max_retries=0)


@pytest.mark.parametrize("target", TARGETS)
@pytest.mark.parametrize(
    ("more", "named"),
    [
        ({"conversation": "conv_1"}, "conversation"),
        ({"input": [{"type": "item_reference", "id": "msg_1"}]}, "item_reference"),
    ],
)
async def test_what_keeps_state_is_refused_by_name(
    line: Relay, simulator: Simulator, target: str, more: dict[str, Any], named: str
) -> None:
    async with sdk_of(line) as sdk:
        with pytest.raises(openai.BadRequestError, match=named) as caught:
            await sdk.responses.create(**{"model": target, "input": "x", **more})
    assert caught.value.code == "unsupported_parameter"
    assert not list(simulator.requests)


@pytest.mark.parametrize("target", ["openai", "anthropic"])
async def test_the_background_is_refused_where_there_is_none(
    line: Relay, simulator: Simulator, target: str
) -> None:
    async with sdk_of(line) as sdk:
        with pytest.raises(openai.BadRequestError, match="background") as caught:
            await sdk.responses.create(model=target, input="x", background=True)
    assert caught.value.code == "unsupported_parameter"
    assert not list(simulator.requests)


async def test_nothing_is_stored_unless_the_caller_wants_it(line: Relay, simulator: Simulator) -> None:
    messages: Any = [{"role": "user", "content": "x"}]
    async with sdk_of(line) as sdk:
        await sdk.chat.completions.create(model="responses", messages=messages)
        await sdk.chat.completions.create(model="responses", messages=messages, store=True)
    assert [request.body["store"] for request in simulator.requests] == [False, True]


@pytest.mark.parametrize("stream", [False, True], ids=["plain", "stream"])
async def test_a_response_repeats_its_request_whoever_answers(line: Relay, stream: bool) -> None:
    parameters = {"type": "object", "properties": {"name": {"type": "string"}}}
    tool = {"type": "function", "name": "f", "parameters": parameters, "strict": False, "description": "d"}
    asked: Any = {
        "input": "Where is the river?",
        "instructions": "You know rivers.",
        "max_output_tokens": 900,
        "metadata": {"a": "b"},
        "parallel_tool_calls": False,
        "store": False,
        "temperature": 0.5,
        "tools": [tool],
    }
    of_answer = {"id", "created_at", "model", "object", "output", "service_tier", "status", "usage"}
    said = []
    async with sdk_of(line) as sdk:
        for target in TARGETS:
            if stream:
                async for event in await sdk.responses.create(model=target, stream=True, **asked):
                    if event.type in ("response.created", "response.completed"):
                        said.append(event.response.to_dict())
            else:
                said.append((await sdk.responses.create(model=target, **asked)).to_dict())
    repeated = [{name: told[name] for name in told if name not in of_answer} for told in said]
    assert len(repeated) == len(TARGETS) * (1 + stream)
    assert all(one == repeated[0] for one in repeated)
    assert {name: repeated[0][name] for name in asked if name != "input"} == {
        name: asked[name] for name in asked if name != "input"
    }


@pytest.mark.parametrize("target", ["anthropic", "responses"])
async def test_thoughts_go_back_to_their_provider(line: Relay, simulator: Simulator, target: str) -> None:
    more: Any = {
        "model": f"{target}-thinks",
        "reasoning": {"effort": "low", "summary": "auto"},
        "include": ["reasoning.encrypted_content"],
        "store": False,
        "max_output_tokens": 4000,
    }
    async with sdk_of(line) as sdk:
        first = await sdk.responses.create(input="Where is the river?", **more)
        items: Any = [
            {"role": "user", "content": "Where is the river?"},
            *(item.to_dict() for item in first.output),
            {"role": "user", "content": "And the lake?"},
        ]
        second = await sdk.responses.create(input=items, **more)
    assert second.output_text
    seals = [b'"signature":"seal-msg_', b'"encrypted_content":"seal-resp_']
    assert sum(seal in list(simulator.requests)[-1].raw for seal in seals) == 1


async def test_an_answer_of_chat_has_the_seals_of_a_target_of_responses(
    line: Relay, simulator: Simulator
) -> None:
    asked: list[Any] = [{"role": "user", "content": "Where is the river?"}]
    more: Any = {"model": "responses-thinks", "reasoning_effort": "low"}
    async with sdk_of(line) as sdk:
        first = await sdk.chat.completions.create(messages=asked, **more)
        asked += [first.choices[0].message.to_dict(), {"role": "user", "content": "And the lake?"}]
        await sdk.chat.completions.create(messages=asked, **more)
    (sealed,) = [
        item for item in list(simulator.requests)[-1].body["input"] if item.get("type") == "reasoning"
    ]
    assert sealed["id"].startswith("rs_")
    assert sealed["encrypted_content"].startswith("seal-resp_")


def without_responses(url: str) -> str:
    """Everything is passed through but responses."""
    families = ", ".join(FAMILIES)
    return (
        open_policy(url)
        .replace("  responses: {provider: upstream}\n", "")
        .replace(families, ", ".join(family for family in FAMILIES if family != "responses"))
    )


async def test_what_the_policy_passes_through_is_passed_through(
    start: StartRelay, simulator: Simulator
) -> None:
    asked = {"model": "gpt-4o", "input": "Hello"}
    for policy, path in ((open_policy, "/v1/responses"), (without_responses, "/v1/chat/completions")):
        relay = await start(policy(simulator.url))
        answer = await ask(relay, "POST", "/responses", asked)
        assert (answer.status, answer.json["object"]) == (200, "response")
        assert list(simulator.requests)[-1].path == path


@pytest.mark.parametrize(
    "part",
    [
        {"type": "input_file", "file_id": "{}"},
        {"type": "input_image", "file_id": "{}", "detail": "auto"},
    ],
    ids=["file", "image"],
)
async def test_files_of_others_are_not_there(
    start: StartRelay, simulator: Simulator, part: dict[str, str]
) -> None:
    policy = without_responses(simulator.url).replace('base_url: "', 'dialect: responses, base_url: "')
    relay = await start(policy)
    statuses = []
    for key in (KEY, OTHER_KEY):
        file = await uploaded(relay, key)
        named = {name: value.format(file) for name, value in part.items()}
        asked = {"model": "gpt-4o", "input": [{"role": "user", "content": [named]}]}
        statuses.append((await ask(relay, "POST", "/responses", asked)).status)
    assert statuses == [200, 404]
