"""The simulated model is a pure function: length, style, tools, structure, reasoning."""

from __future__ import annotations

from random import Random
from typing import Any

import orjson
import pytest

from gateway.simulator.answers import Choice, chat, completion
from gateway.simulator.prose import write
from gateway.simulator.settings import STYLES
from gateway.simulator.tokens import cached, chat_prompt, count, inputs, pieces

WEATHER: dict[str, Any] = {
    "type": "function",
    "function": {
        "name": "get_weather",
        "parameters": {
            "type": "object",
            "properties": {"city": {"type": "string"}, "unit": {"enum": ["C", "F"]}},
            "required": ["city"],
        },
    },
}
CLOCK: dict[str, Any] = {"type": "function", "function": {"name": "get_time"}}


def ask(text: str = "Why?", **fields: Any) -> dict[str, Any]:
    return {"model": "gpt-4o", "messages": [{"role": "user", "content": text}], **fields}


def one(body: dict[str, Any], style: str = "plain", output_tokens: int = 20, seed: int = 1) -> Choice:
    (choice,) = chat(seed, body, style, output_tokens)
    return choice


@pytest.mark.parametrize("style", STYLES)
@pytest.mark.parametrize("tokens", [1, 2, 3, 7, 64, 1000])
def test_text_has_exactly_the_tokens_asked_for(style: str, tokens: int) -> None:
    for seed in range(20):
        assert count(write(Random(seed), style, tokens)) == tokens


def test_pieces_of_a_text_are_its_tokens() -> None:
    for text in ("a", "abcd", "abcde", "née 東京 🙂"):
        assert "".join(pieces(text)) == text
        assert len(pieces(text)) == count(text)
    assert pieces("") == []


def test_same_question_same_answer_streamed_or_not() -> None:
    asked = ask()
    streamed = ask(stream=True, stream_options={"include_usage": True}, simulate={"split": 1}, n=3)
    assert one(asked).content == chat(1, streamed, "plain", 20)[0].content


def test_seed_model_and_question_each_change_the_answer() -> None:
    texts = {
        one(ask()).content,
        one(ask(), seed=2).content,
        one(ask("Who?")).content,
        one({**ask(), "model": "gpt-4.1"}).content,
        one({**ask(), "seed": 7}).content,
    }
    assert len(texts) == 5


def test_several_choices_differ() -> None:
    choices = chat(1, ask(n=3), "plain", 20)
    assert [choice.index for choice in choices] == [0, 1, 2]
    assert len({choice.content for choice in choices}) == 3


def test_cap_cuts_the_answer_and_says_so() -> None:
    for capped in (ask(max_tokens=5), ask(max_completion_tokens=5)):
        choice = one(capped)
        assert (choice.finish_reason, choice.visible_tokens) == ("length", 5)
        assert (one(ask()).content or "") != choice.content
    assert one(ask(max_tokens=20)).finish_reason == "stop"


def test_stop_sequence_ends_the_text_before_it() -> None:
    whole = one(ask()).content or ""
    stop = whole[10:13]
    for wanted in (stop, ["never said", stop]):
        text = one(ask(stop=wanted)).content or ""
        assert stop not in text


def test_reasoning_models_think_in_steps_of_64_and_within_the_cap() -> None:
    for model in ("o1", "o3-mini", "o4-mini", "gpt-5-nano", "openai/gpt-5"):
        thought = one({**ask(), "model": model}).reasoning_tokens
        assert thought > 0
        assert thought % 64 == 0
    assert one(ask()).reasoning_tokens == 0
    assert one({**ask(reasoning_effort="minimal"), "model": "gpt-5"}).reasoning_tokens == 0
    capped = one({**ask(max_completion_tokens=40), "model": "gpt-5"})
    assert (capped.reasoning_tokens, capped.content, capped.finish_reason) == (40, "", "length")


def test_tools_are_called_when_named_mentioned_or_required() -> None:
    tools = [WEATHER, CLOCK]

    def called(body: dict[str, Any]) -> list[str]:
        return [call.name for call in one(body).tool_calls]

    assert called(ask("Why?", tools=tools)) == []
    assert called(ask("Please get_weather", tools=tools)) == ["get_weather"]
    assert called(ask("get_weather and get_time", tools=tools)) == ["get_weather", "get_time"]
    assert called(ask("get_weather and get_time", tools=tools, parallel_tool_calls=False)) == ["get_weather"]
    assert called(ask("get_weather", tools=tools, tool_choice="none")) == []
    assert len(called(ask("Why?", tools=tools, tool_choice="required"))) == 1
    named = {"type": "function", "function": {"name": "get_time"}}
    assert called(ask("Why?", tools=tools, tool_choice=named)) == ["get_time"]


def test_tool_result_is_answered_with_text() -> None:
    body = ask("get_weather", tools=[WEATHER])
    body["messages"] += [
        {"role": "assistant", "content": None},
        {"role": "tool", "content": "get_weather: 20"},
    ]
    assert one(body).tool_calls == []


def test_tool_arguments_follow_the_tools_schema_and_finish_reasons_are_openais() -> None:
    choice = one(ask("get_weather", tools=[WEATHER]))
    arguments = orjson.loads(choice.tool_calls[0].arguments)
    assert isinstance(arguments["city"], str)
    assert arguments["unit"] in ("C", "F")
    assert (choice.finish_reason, choice.content) == ("tool_calls", None)
    named = {"type": "function", "function": {"name": "get_weather"}}
    assert one(ask(tools=[WEATHER], tool_choice=named)).finish_reason == "stop"


def test_capped_tool_call_is_cut() -> None:
    choice = one(ask("get_weather", tools=[WEATHER], max_tokens=5))
    assert choice.finish_reason == "length"
    assert choice.visible_tokens == 5
    assert one(ask("get_weather", tools=[WEATHER], max_tokens=1)).content == ""


def test_structured_output_is_json_of_that_schema_or_a_refusal() -> None:
    schema = {"type": "object", "properties": {"n": {"type": "integer"}}, "required": ["n"]}
    wanted = {"type": "json_schema", "json_schema": {"name": "x", "schema": schema}}
    assert type(orjson.loads(one(ask(response_format=wanted)).content or "")["n"]) is int
    assert isinstance(orjson.loads(one(ask(response_format={"type": "json_object"})).content or ""), dict)
    assert (
        one(ask(response_format={"type": "text"})).content
        == one(ask(response_format={"type": "text"})).content
    )
    refused = one(ask(response_format=wanted), style="refusing")
    assert refused.content is None
    assert refused.refusal


def test_answer_is_what_it_is_told_to_say_unless_a_tool_is_called() -> None:
    told = '{"name": "Elbe"}'
    form = {"type": "json_schema", "json_schema": {"schema": {"type": "object"}}}
    for body in (ask(), ask(response_format=form), ask(tools=[WEATHER])):
        (choice,) = chat(1, body, "refusing", 20, told)
        assert (choice.content, choice.finish_reason) == (told, "stop")
    (capped,) = chat(1, ask(max_tokens=2), "plain", 20, told)
    assert (capped.content, capped.finish_reason) == (told[:8], "length")
    (called,) = chat(1, ask("get_weather", tools=[WEATHER]), "plain", 20, told)
    assert called.content is None and called.tool_calls


def test_styles_differ_where_drift_would_show() -> None:
    assert "**" in write(Random(1), "markdown", 200)
    assert "sorry" in write(Random(3), "refusing", 40) or "can't" in write(Random(3), "refusing", 40)
    terse, verbose = write(Random(1), "terse", 200), write(Random(1), "verbose", 200)
    assert terse.count(".") > 2 * verbose.count(".")


def test_legacy_completions_default_to_16_tokens_and_may_echo() -> None:
    (choice,) = completion(1, {"model": "m"}, "Once", "plain", 64)
    assert (choice.visible_tokens, choice.finish_reason) == (16, "length")
    (echoed,) = completion(1, {"model": "m", "max_tokens": 100, "echo": True}, "Once", "plain", 20)
    assert (echoed.echo, echoed.visible_tokens) == ("Once", 20)


def test_prompts_are_counted_by_their_text_tools_and_media() -> None:
    assert chat_prompt(ask("12345678")) == 2
    assert chat_prompt(ask("")) == 1
    parts = [{"type": "text", "text": "1234"}, {"type": "image_url", "image_url": {"url": "data:"}}]
    assert chat_prompt({"messages": [{"role": "user", "content": parts}]}) == 1 + 85
    assert chat_prompt(ask("1234", tools=[CLOCK])) > 10


def test_only_long_prompts_are_cached_in_steps_of_128() -> None:
    assert [cached(tokens) for tokens in (1, 1023, 1024, 1151, 1152)] == [0, 0, 1024, 1024, 1152]


def test_inputs_are_text_token_ids_or_lists_of_these() -> None:
    assert inputs("a") == ["a"]
    assert inputs([1, 2]) == [[1, 2]]
    assert inputs(["a", [1, 2]]) == ["a", [1, 2]]
    bads: list[Any] = [None, [], 3, [[]], [1, "a"], [["a"]], {}]
    for bad in bads:
        with pytest.raises(ValueError, match="neither"):
            inputs(bad)
