"""The official client takes the simulator for OpenAI's Responses API."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any

import openai
import pytest

from gateway.simulator.server import Simulator

Start = Callable[..., Awaitable[Simulator]]
QUESTION = "Tell me about rivers."
TOOL: Any = {
    "type": "function",
    "name": "check_weather",
    "parameters": {"type": "object", "properties": {"city": {"type": "string"}}, "required": ["city"]},
    "strict": True,
}


@pytest.fixture
async def simulator(simulate: Start) -> Simulator:
    return await simulate(output_tokens=24)


@pytest.fixture
async def client(simulator: Simulator) -> AsyncIterator[openai.AsyncOpenAI]:
    async with openai.AsyncOpenAI(base_url=simulator.url, api_key="sk-test", max_retries=0) as client:
        yield client


async def test_it_says_what_it_says_in_chat(client: openai.AsyncOpenAI, simulator: Simulator) -> None:
    messages: Any = [{"role": "system", "content": "Be brief."}, {"role": "user", "content": QUESTION}]
    said = await client.chat.completions.create(model="gpt-4o", messages=messages)
    told = await client.responses.create(model="gpt-4o", input=QUESTION, instructions="Be brief.")
    assert told.output_text == said.choices[0].message.content
    assert said.usage is not None
    assert told.usage is not None
    assert (told.usage.input_tokens, told.usage.output_tokens) == (
        said.usage.prompt_tokens,
        said.usage.completion_tokens,
    )
    entry = simulator.bill.entries[-1]
    assert (entry.id, entry.output_tokens, entry.finished) == (told.id, told.usage.output_tokens, True)


async def test_a_stream_is_what_the_answer_is(client: openai.AsyncOpenAI, simulator: Simulator) -> None:
    more: Any = {
        "model": "gpt-5",
        "input": f"{QUESTION} Then check_weather.",
        "tools": [TOOL],
        "reasoning": {"effort": "low", "summary": "auto"},
        "include": ["reasoning.encrypted_content"],
    }
    plain = await client.responses.create(**more)
    numbers, kinds = [], []
    async with client.responses.stream(**more) as stream:
        async for event in stream:
            numbers.append(event.sequence_number)
            kinds.append(event.type)
        streamed = await stream.get_final_response()
    assert numbers == list(range(len(numbers)))
    assert (kinds[:2], kinds[-1]) == (["response.created", "response.in_progress"], "response.completed")
    assert [item.type for item in streamed.output] == ["reasoning", "function_call"]
    assert streamed.usage is not None
    assert streamed.usage.output_tokens_details.reasoning_tokens > 0
    assert streamed.usage == plain.usage
    assert [item.to_dict()["type"] for item in plain.output] == ["reasoning", "function_call"]
    plain_entry, stream_entry = list(simulator.bill.entries)[-2:]
    assert plain_entry.output_tokens == stream_entry.output_tokens == streamed.usage.output_tokens


async def test_a_cap_cuts(client: openai.AsyncOpenAI) -> None:
    told = await client.responses.create(model="gpt-4o", input=QUESTION, max_output_tokens=16)
    assert told.status == "incomplete"
    assert told.incomplete_details is not None
    assert told.incomplete_details.reason == "max_output_tokens"
    assert told.usage is not None
    assert told.usage.output_tokens == 16


@pytest.mark.parametrize(
    ("asked", "code", "param"),
    [
        ({"input": None}, "missing_required_parameter", "input"),
        ({"messages": []}, "unsupported_parameter", "messages"),
        ({"max_tokens": 5}, "unsupported_parameter", "max_tokens"),
        ({"stop": "x"}, "unknown_parameter", "stop"),
        ({"max_output_tokens": 15}, "integer_below_min_value", "max_output_tokens"),
        ({"temperature": 3}, "decimal_above_max_value", "temperature"),
        ({"reasoning": {"effort": "low"}}, "unsupported_parameter", "reasoning.effort"),
        ({"include": ["reasoning.encrypted_content"]}, None, "include"),
        ({"tools": [{"type": "function", "function": TOOL}]}, "missing_required_parameter", "tools[0].name"),
        ({"input": [{"role": "tool", "content": "x"}]}, "invalid_value", "input[0].role"),
        (
            {"input": [{"role": "user", "content": [{"type": "text", "text": "x"}]}]},
            "invalid_value",
            "input[0].content[0]",
        ),
        (
            {"input": [{"type": "function_call_output", "call_id": "call_1", "output": "x"}]},
            None,
            "input",
        ),
        (
            {"input": [{"type": "reasoning", "id": "rs_1", "summary": [], "encrypted_content": "c2ln"}]},
            "invalid_encrypted_content",
            None,
        ),
        ({"previous_response_id": "resp_none"}, "previous_response_not_found", "previous_response_id"),
    ],
)
async def test_it_refuses_what_openai_refuses(
    client: openai.AsyncOpenAI,
    simulator: Simulator,
    asked: dict[str, Any],
    code: str | None,
    param: str | None,
) -> None:
    with pytest.raises(openai.BadRequestError) as caught:
        await client.post("/responses", cast_to=object, body={"model": "gpt-4o", "input": QUESTION, **asked})
    assert (caught.value.code, caught.value.param) == (code, param)
    assert not simulator.bill.entries


async def test_what_is_stored_can_be_followed(client: openai.AsyncOpenAI) -> None:
    first = await client.responses.create(model="gpt-4o", input=QUESTION)
    assert (await client.responses.retrieve(first.id)).output_text == first.output_text
    second = await client.responses.create(model="gpt-4o", input="And?", previous_response_id=first.id)
    assert second.usage is not None
    assert first.usage is not None
    assert second.usage.input_tokens > first.usage.output_tokens
    third = await client.responses.create(model="gpt-4o", input=QUESTION, store=False)
    with pytest.raises(openai.NotFoundError):
        await client.responses.retrieve(third.id)
