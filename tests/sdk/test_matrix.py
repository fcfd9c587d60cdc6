"""The official SDKs, each against a target of every dialect, over real HTTP on both sides."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from typing import Any

import anthropic
import openai
import pytest

from gateway.simulator.faults import Fault
from gateway.simulator.server import Simulator
from tests.relaying import Relay
from tests.running import KEY
from tests.sdk.matrix import (
    CALLERS,
    PIXEL,
    SCHEMA,
    TARGETS,
    TOOLS,
    Asking,
    Caller,
    Got,
    OpenAiResponses,
)


@pytest.fixture(params=list(CALLERS))
async def caller(request: pytest.FixtureRequest, line: Relay) -> AsyncIterator[Caller]:
    """One SDK in front of the line."""
    made = CALLERS[request.param](line.url.removesuffix("/v1"), KEY)
    yield made
    await made.close()


def billed(simulator: Simulator) -> Any:
    """The provider's own entry for the last call."""
    return list(simulator.billed)[-1]


@pytest.mark.parametrize("stream", [False, True], ids=["plain", "stream"])
@pytest.mark.parametrize("target", TARGETS)
async def test_text_and_usage_as_billed(
    caller: Caller, target: str, stream: bool, simulator: Simulator
) -> None:
    got = await caller.ask(target, Asking(stream=stream))
    entry = billed(simulator)
    assert got.text and got.reason == "stop" and not got.calls
    assert (got.input, got.output) == (entry.input_tokens, entry.output_tokens)


@pytest.mark.parametrize("stream", [False, True], ids=["plain", "stream"])
@pytest.mark.parametrize("target", TARGETS)
async def test_the_same_question_gets_the_same_answer_in_every_dialect(
    line: Relay, target: str, stream: bool
) -> None:
    found: list[Got] = []
    for make in CALLERS.values():
        made = make(line.url.removesuffix("/v1"), KEY)
        found.append(await made.ask(target, Asking(stream=stream)))
        await made.close()
    assert {got.text for got in found} == {found[0].text}


@pytest.mark.parametrize("stream", [False, True], ids=["plain", "stream"])
@pytest.mark.parametrize("count", [1, 2], ids=["tool", "parallel tools"])
@pytest.mark.parametrize("target", TARGETS)
async def test_tools(caller: Caller, target: str, count: int, stream: bool) -> None:
    names = list(TOOLS)[:count]
    asking = Asking(prompt=f"Call {' and '.join(names)}.", tools=TOOLS, stream=stream)
    got = await caller.ask(target, asking)
    assert [name for name, _ in got.calls] == names and got.reason == "tool_calls"
    for name, arguments in got.calls:
        assert arguments.keys() == TOOLS[name]["properties"].keys()


@pytest.mark.parametrize("target", TARGETS)
async def test_results_of_tools_are_understood(caller: Caller, target: str, simulator: Simulator) -> None:
    turns = [("toolu_1", "look_up_river", {"name": "Elbe"}, "1,094 km long")]
    got = await caller.ask(target, Asking(tools=TOOLS, turns=turns))
    body = list(simulator.requests)[-1].raw
    assert got.text and b"toolu_1" in body and b"1,094 km long" in body and b"Elbe" in body


@pytest.mark.parametrize("stream", [False, True], ids=["plain", "stream"])
@pytest.mark.parametrize("target", TARGETS)
async def test_an_answer_in_a_form(caller: Caller, target: str, stream: bool) -> None:
    got = await caller.ask(target, Asking(schema=SCHEMA, stream=stream))
    assert json.loads(got.text).keys() == SCHEMA["properties"].keys()


@pytest.mark.parametrize("target", TARGETS)
async def test_an_image(caller: Caller, target: str, simulator: Simulator) -> None:
    got = await caller.ask(target, Asking(image=PIXEL))
    assert got.text and PIXEL.encode() in list(simulator.requests)[-1].raw


@pytest.mark.parametrize("stream", [False, True], ids=["plain", "stream"])
@pytest.mark.parametrize("target", TARGETS)
async def test_thoughts(caller: Caller, target: str, stream: bool, simulator: Simulator) -> None:
    got = await caller.ask(f"{target}-thinks", Asking(effort="low", cap=4000, stream=stream))
    entry = billed(simulator)
    assert got.text and entry.reasoning_tokens > 0
    assert got.output == entry.output_tokens
    # OpenAI's chat never shows what it thought, its responses to those who ask for a summary.
    asks = isinstance(caller, OpenAiResponses)
    assert bool(got.thought) == (target == "anthropic" or (target == "responses" and asks))


@pytest.mark.parametrize("stream", [False, True], ids=["plain", "stream"])
@pytest.mark.parametrize("target", TARGETS)
async def test_a_cap(caller: Caller, target: str, stream: bool, simulator: Simulator) -> None:
    simulator.settings.output_tokens = 64
    # OpenAI's responses take no lower one.
    got = await caller.ask(target, Asking(cap=16, stream=stream))
    assert got.reason == "length" and got.output == 16


FAULTS = {"status_400": 400, "status_429": 429, "status_500": 502, "status_529": 503, "context_window": 400}
"""What a provider answers, and the status that its caller gets."""


@pytest.mark.parametrize("fault", list(FAULTS))
@pytest.mark.parametrize("target", TARGETS)
async def test_errors_are_the_callers_own(
    caller: Caller, target: str, fault: str, simulator: Simulator
) -> None:
    simulator.script([fault] * 5)
    with pytest.raises(caller.failed) as caught:
        await caller.ask(target, Asking())
    status = caught.value.status_code  # type: ignore[attr-defined]
    assert status == FAULTS[fault]
    assert str(caught.value)


@pytest.mark.parametrize("target", TARGETS)
async def test_an_error_in_mid_stream_is_raised(caller: Caller, target: str, simulator: Simulator) -> None:
    simulator.script([Fault("error_event", after_chunks=6)])
    with pytest.raises((openai.APIError, anthropic.APIError)):
        await caller.ask(target, Asking(stream=True))


async def test_what_cannot_be_said_is_refused_by_name(line: Relay) -> None:
    made = CALLERS["chat"](line.url.removesuffix("/v1"), KEY)
    with pytest.raises(made.failed, match="frequency_penalty"):
        await made.ask("anthropic", Asking(extra={"frequency_penalty": 1.5}))
    got = await made.ask("drops", Asking(extra={"frequency_penalty": 1.5}))
    assert got.headers["x-headgate-dropped"] == "frequency_penalty"
    got = await made.ask("anthropic", Asking(extra={"seed": 7, "frequency_penalty": 0, "user": "u"}))
    assert set(got.headers["x-headgate-dropped"].split(", ")) == {"seed", "frequency_penalty"}
    await made.close()


async def test_a_target_that_cannot_be_told_is_passed_over(line: Relay, simulator: Simulator) -> None:
    made = CALLERS["chat"](line.url.removesuffix("/v1"), KEY)
    got = await made.ask("either", Asking(extra={"frequency_penalty": 1.5}))
    assert got.headers["x-headgate-target"] == "chats/gpt-4o" and got.headers["x-headgate-attempts"] == "1"
    await made.close()


async def test_a_provider_that_fails_is_followed_by_one_of_another_dialect(
    line: Relay, simulator: Simulator
) -> None:
    for make in CALLERS.values():
        made = make(line.url.removesuffix("/v1"), KEY)
        simulator.script(["status_500"] * 3, "claude-sonnet-4-5")
        got = await made.ask("either", Asking())
        assert got.headers["x-headgate-target"] == "chats/gpt-4o" and got.text
        await made.close()
        simulator.script([], "claude-sonnet-4-5")
