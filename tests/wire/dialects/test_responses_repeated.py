"""What a response repeats of its request, for answers that came in another dialect."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from openai.types.responses import Response

from gateway.wire.conversation import Toward
from gateway.wire.dialect import ANTHROPIC, CHAT, RESPONSES, Dialect
from gateway.wire.dialects.responses_repeated import DEFAULTS, repeated
from gateway.wire.json import dumps, read_object
from gateway.wire.speech import read_own, speech_of
from gateway.wire.sse import events
from tests.wire.dialects.test_responses_requests import VALUES
from tests.wire.hub_strategies import told, written

SCHEMA = {"type": "object", "properties": {"name": {"type": "string"}}}
ASKED: dict[str, Any] = {
    "model": "m",
    "input": "Where is the river?",
    "instructions": "You know rivers.",
    "max_output_tokens": 900,
    "max_tool_calls": 3,
    "metadata": {"a": "b"},
    "parallel_tool_calls": False,
    "reasoning": {"effort": "low"},
    "safety_identifier": "u",
    "temperature": 0.5,
    "text": {"format": {"type": "json_schema", "name": "r", "schema": SCHEMA}, "verbosity": "low"},
    "tool_choice": {"type": "function", "name": "f"},
    "tools": [{"type": "function", "name": "f", "parameters": SCHEMA}],
    "top_p": 0.9,
}
REPEATED = {
    **{name: ASKED[name] for name in ASKED if name not in ("model", "input")},
    "background": False,
    "previous_response_id": None,
    "reasoning": {"effort": "low", "summary": None},
    "store": False,
    "tools": [{**ASKED["tools"][0], "description": None, "strict": False}],
    "truncation": "disabled",
    "user": None,
}
ANSWERS = {
    CHAT: {
        "id": "c",
        "model": "m",
        "choices": [{"message": {"content": "Here."}, "finish_reason": "stop"}],
    },
    ANTHROPIC: {"type": "message", "id": "c", "model": "m", "content": [{"type": "text", "text": "Here."}]},
}
EACH = pytest.mark.parametrize("target", list(ANSWERS), ids=lambda target: target.name)


def answered(target: Dialect, asked: dict[str, Any]) -> dict[str, Any]:
    """The whole answer of one attempt."""
    speech = speech_of(RESPONSES, target).at("t", "", "team")
    speech.body(read_own(RESPONSES, dumps(asked)), Toward("m", drops=True), None)
    found = speech.told(dict(ANSWERS[target]), b"", 7.0)
    assert found is not None
    return read_object(found.body)


def streamed(target: Dialect, asked: dict[str, Any]) -> list[dict[str, Any]]:
    """The response objects in a stream."""
    answer = target.read_answer(ANSWERS[target])
    assert answer is not None
    answer.usage = CHAT.read_usage({"usage": {"prompt_tokens": 1, "completion_tokens": 1}})
    speech = speech_of(RESPONSES, target).at("t", "", "team")
    passing = speech.stream(read_own(RESPONSES, dumps({**asked, "stream": True})), 7.0)
    sent = passing.feed(written(target.writer(True), told(answer, [], usage_first=False)))
    found = [read_object(data) for _, data in events(sent)]
    return [one["response"] for one in found if "response" in one]


@EACH
def test_a_response_repeats_its_request(target: Dialect) -> None:
    whole = answered(target, ASKED)
    assert {name: whole[name] for name in REPEATED} == REPEATED
    Response.model_validate(whole)
    begun, in_progress, ended = streamed(target, ASKED)
    for response in (begun, in_progress, ended):
        assert {name: response[name] for name in REPEATED} == REPEATED
        Response.model_validate(response)
    assert ended["output"][0]["content"] == whole["output"][0]["content"]


@EACH
def test_what_was_not_said_is_what_holds_by_default(target: Dialect) -> None:
    asked = {"model": "m", "input": "x"}
    for response in (answered(target, asked), *streamed(target, asked)):
        assert {name: response[name] for name in DEFAULTS} == DEFAULTS
        assert "max_tool_calls" not in response
        Response.model_validate(response)


def test_nothing_is_said_to_be_stored_of_what_is_translated() -> None:
    assert repeated({**ASKED, "store": True})["store"] is False


def test_one_call_does_not_repeat_what_another_said() -> None:
    answered(CHAT, ASKED)
    speech = speech_of(RESPONSES, CHAT)
    found = speech.told(dict(ANSWERS[CHAT]), b"", 7.0)
    assert found is not None and read_object(found.body)["instructions"] is None


@settings(max_examples=200, deadline=None)
@given(st.fixed_dictionaries({}, optional=dict.fromkeys([*DEFAULTS, "top_logprobs"], VALUES)))
def test_whatever_was_asked_can_be_written(asked: dict[str, Any]) -> None:
    assert DEFAULTS.keys() <= repeated(asked).keys()
    dumps(repeated(asked))


def test_what_is_nested_too_deeply_to_be_written_is_left_out() -> None:
    deep: Any = {}
    for _ in range(252):
        deep = {"a": deep}
    whole = answered(ANTHROPIC, {"model": "m", "input": "x", "metadata": deep})
    assert whole["metadata"] == {}
