"""How much a model is to think, and the sampling that depends on it, by the model; shapes that are wrong."""

from __future__ import annotations

from typing import Any

import pytest

from gateway.errors import GatewayError
from gateway.wire.dialect import ANTHROPIC
from gateway.wire.json import dumps
from gateway.wire.speech import read_own
from tests.wire.dialects.both_ways import HI, NEWER, OLDER, TOOLS, to_anthropic, to_chat


@pytest.mark.parametrize(
    ("model", "asked", "thinking", "config", "dropped"),
    [
        (OLDER, {"reasoning_effort": "low"}, {"type": "enabled", "budget_tokens": 2048}, None, []),
        (OLDER, {"reasoning_effort": "xhigh"}, {"type": "enabled", "budget_tokens": 19_999}, None, []),
        (OLDER, {"reasoning_effort": "none"}, None, None, []),
        (NEWER, {"reasoning_effort": "low"}, {"type": "adaptive"}, {"effort": "low"}, []),
        (NEWER, {"reasoning_effort": "minimal"}, {"type": "adaptive"}, {"effort": "low"}, []),
        (NEWER, {"reasoning_effort": "xhigh"}, {"type": "adaptive"}, {"effort": "max"}, []),
        (OLDER, {"reasoning_effort": "low", "max_tokens": 1024}, None, None, ["reasoning_effort"]),
        (
            OLDER,
            {"reasoning_effort": "low", "tools": TOOLS, "tool_choice": "required"},
            None,
            None,
            ["reasoning_effort"],
        ),
    ],
)
def test_effort_is_a_budget_or_an_effort_by_model(
    model: str, asked: dict[str, Any], thinking: Any, config: Any, dropped: list[str]
) -> None:
    fields, left = to_anthropic({"max_tokens": 20_000, **asked}, model)
    assert (fields.get("thinking"), fields.get("output_config"), left) == (thinking, config, dropped)


@pytest.mark.parametrize("model", [OLDER, NEWER])
def test_thinking_by_a_budget_ends_where_the_thoughts_before_a_call_did_not_come_back(model: str) -> None:
    function = {"name": "look_up_river", "arguments": "{}"}
    called = {"role": "assistant", "tool_calls": [{"id": "a", "type": "function", "function": function}]}
    sealed = [{"type": "thinking", "thinking": "A river.", "signature": "x"}]
    gave = {"role": "tool", "tool_call_id": "a", "content": "Elbe"}
    later = {"role": "user", "content": "And the sea?"}
    effort = {"reasoning_effort": "low", "max_tokens": 20_000}

    def thinks(*turns: dict[str, Any]) -> bool:
        fields, dropped = to_anthropic({**effort, "messages": [*HI, *turns]}, model)
        assert dropped == ([] if "thinking" in fields else ["reasoning_effort"])
        return "thinking" in fields

    assert thinks() and thinks({**called, "thinking_blocks": sealed}, gave)
    assert thinks(called, gave) == (model == NEWER)
    assert thinks(called, gave, {"role": "assistant", "content": "At sea."}, later)


@pytest.mark.parametrize(
    ("asked", "effort"),
    [
        ({"thinking": {"type": "enabled", "budget_tokens": 2000}}, "low"),
        ({"thinking": {"type": "enabled", "budget_tokens": 8000}}, "medium"),
        ({"thinking": {"type": "enabled", "budget_tokens": 30_000}}, "high"),
        ({"thinking": {"type": "disabled"}}, "none"),
        ({"thinking": {"type": "adaptive"}, "output_config": {"effort": "max"}}, "xhigh"),
        ({"output_config": {"effort": "medium"}}, "medium"),
    ],
)
def test_thinking_is_an_effort_for_chat_models_that_reason(asked: dict[str, Any], effort: str) -> None:
    assert to_chat(asked, reasons=True) == (
        {**to_chat({})[0], "reasoning_effort": effort},
        [],
    )
    fields, dropped = to_chat(asked)
    assert "reasoning_effort" not in fields
    assert dropped == ([] if effort == "none" else ["thinking"])


@pytest.mark.parametrize(
    ("model", "takes"),
    [
        ("claude-3-opus-20240229", True),
        ("claude-opus-4-20250514", True),
        ("claude-sonnet-4-20250514", True),
        ("claude-opus-4-1-20250805", True),
        ("claude-haiku-4-5-20251001", True),
        ("anthropic.claude-opus-4-20250514-v1:0", True),
        ("claude-opus-4-7", False),
        ("claude-opus-4-10-20270101", False),
        ("claude-sonnet-5", False),
        ("claude-fable-5-20270101", False),
    ],
)
def test_sampling_is_left_out_for_models_that_refuse_it(model: str, takes: bool) -> None:
    fields, dropped = to_anthropic({"temperature": 0.5, "top_p": 0.5}, model)
    assert ("temperature" in fields, "top_p" in fields) == (takes, takes)
    assert dropped == ([] if takes else ["temperature", "top_p"])


@pytest.mark.parametrize(
    ("model", "adapts"),
    [
        ("claude-opus-4-20250514", False),
        ("claude-sonnet-4-20250514", False),
        ("claude-sonnet-4-5-20250929", False),
        ("claude-sonnet-4-6", True),
        ("claude-opus-4-6-20260101", True),
        ("claude-haiku-5", True),
    ],
)
def test_models_that_adapt_are_known_by_their_version_not_their_date(model: str, adapts: bool) -> None:
    fields, _ = to_anthropic({"reasoning_effort": "low"}, model)
    assert fields["thinking"]["type"] == ("adaptive" if adapts else "enabled")


def test_temperature_is_left_out_where_thinking_forbids_it() -> None:
    fields, dropped = to_anthropic({"reasoning_effort": "low", "temperature": 0.2, "top_p": 0.95})
    assert "temperature" not in fields and fields["top_p"] == 0.95
    assert dropped == ["temperature"]


@pytest.mark.parametrize(
    ("fields", "param"),
    [
        ({"model": 7}, "model"),
        ({"model": None}, "model"),
        ({"messages": "Hi"}, "messages"),
        ({"messages": ["Hi"]}, "messages[0]"),
        ({"messages": [{"role": 7}]}, "messages[0].role"),
        ({"messages": [{"role": "user", "content": 7}]}, "messages[0].content"),
        ({"messages": [{"role": "user", "content": ["Hi"]}]}, "messages[0].content[0]"),
        ({"system": 7}, "system"),
        ({"tools": {}}, "tools"),
        ({"tool_choice": "auto"}, "tool_choice"),
        ({"tool_choice": {"type": "x"}}, "tool_choice.type"),
        ({"stream": 1}, "stream"),
        ({"stream": "true"}, "stream"),
        ({"max_tokens": -1}, "max_tokens"),
    ],
)
def test_wrong_shape_is_refused_by_its_field(fields: dict[str, Any], param: str) -> None:
    with pytest.raises(GatewayError) as caught:
        read_own(ANTHROPIC, dumps({"model": "m", "messages": HI, **fields}))
    assert caught.value.kind.status == 400 and caught.value.param == param
