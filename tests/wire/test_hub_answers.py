"""Whole answers keep what every dialect knows; usage adds up to the provider's totals, whatever it says."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from gateway.usage import Usage
from gateway.wire.answered import Answer, Began, Used
from gateway.wire.dialect import ANTHROPIC, CHAT, RESPONSES, Dialect
from gateway.wire.dialects.openai_chat import MAX_TOKENS
from gateway.wire.json import dumps, read_object
from gateway.wire.speech import speech_of
from tests.wire.hub_strategies import EACH, PAIR, answers, heard

SOME = settings(max_examples=60, deadline=None)
NUMBERS = (
    st.integers(0, 10**6)
    | st.sampled_from([0, -1, 1, MAX_TOKENS, MAX_TOKENS + 1, 2**63, -(2**63)])
    | st.sampled_from([None, True, False, 0.0, 1.5, -0.5, "", "7", [], [7], {}, {"a": 1}])
)


@EACH
@SOME
@given(answer=answers())
def test_what_every_dialect_knows_is_kept(dialect: Dialect, answer: Answer) -> None:
    found = dialect.read_answer(read_object(dumps(dialect.write_answer(answer))))
    assert found is not None
    assert heard(found) == heard(answer)
    assert (found.id.removeprefix("resp_"), found.model) == (answer.id, answer.model)


@PAIR
@SOME
@given(answer=answers())
def test_an_answer_is_the_same_in_the_callers_dialect(
    provider: Dialect, caller: Dialect, answer: Answer
) -> None:
    fields = provider.write_answer(answer)
    told = speech_of(caller, provider).told(fields, dumps(fields), 0.0)
    assert told is not None and told.usage == answer.usage
    found = caller.read_answer(read_object(told.body))
    assert found is not None and heard(found) == heard(answer)
    seen = CHAT.read_answer(told.fields)
    assert seen is not None and heard(seen) == heard(answer)


@EACH
@pytest.mark.parametrize("fields", [{}, {"choices": []}, {"content": "x"}, {"error": {}}, {"choices": {}}])
def test_what_is_no_answer_is_none(dialect: Dialect, fields: dict[str, Any]) -> None:
    assert dialect.read_answer(fields) is None


# usage


def tables(numbers: st.SearchStrategy[Any]) -> dict[Dialect, st.SearchStrategy[dict[str, Any]]]:
    """A usage with some of the names of its dialect."""

    def table(*names: str, **details: Any) -> st.SearchStrategy[dict[str, Any]]:
        return st.fixed_dictionaries({}, optional=dict.fromkeys(names, numbers) | details)

    of_input = table("cached_tokens", "cache_write_tokens", "audio_tokens") | numbers
    of_output = table("reasoning_tokens", "audio_tokens") | numbers
    return {
        CHAT: table(
            *("prompt_tokens", "completion_tokens", "total_tokens", "prompt_cache_hit_tokens"),
            prompt_tokens_details=of_input,
            completion_tokens_details=of_output,
        ),
        ANTHROPIC: table(
            *("input_tokens", "cache_read_input_tokens", "cache_creation_input_tokens", "output_tokens"),
            output_tokens_details=table("thinking_tokens") | numbers,
        ),
        RESPONSES: table(
            *("input_tokens", "output_tokens", "total_tokens"),
            input_tokens_details=of_input,
            output_tokens_details=of_output,
        ),
    }


ODD, GOOD = tables(NUMBERS), tables(st.integers(0, 40))
ANTHROPIC_TABLES = ODD[ANTHROPIC] | GOOD[ANTHROPIC]


def count(value: Any) -> int:
    return value if type(value) is int else 0


def chat_totals(table: dict[str, Any]) -> tuple[int, int]:
    """What the kinds add up to. Reasoning counts beside completion where the total says so (xAI)."""
    asked, answered = count(table.get("prompt_tokens")), count(table.get("completion_tokens"))
    details = table.get("completion_tokens_details")
    thought = count(details.get("reasoning_tokens")) if type(details) is dict else 0
    beside = thought and count(table.get("total_tokens")) == asked + answered + thought
    return asked, answered + thought if beside else answered


def anthropic_totals(table: dict[str, Any]) -> tuple[int, int]:
    """Cache reads and writes are beside `input_tokens`; thoughts are in `output_tokens`."""
    names = ("input_tokens", "cache_read_input_tokens", "cache_creation_input_tokens")
    return sum(count(table.get(name)) for name in names), count(table.get("output_tokens"))


def responses_totals(table: dict[str, Any]) -> tuple[int, int]:
    """What was cached is in `input_tokens`, thoughts are in `output_tokens`; both are always told."""
    return table["input_tokens"], table["output_tokens"]


TOTALS = {CHAT: chat_totals, ANTHROPIC: anthropic_totals, RESPONSES: responses_totals}


@EACH
@settings(max_examples=200, deadline=None)
@given(data=st.data())
def test_kinds_are_never_negative_and_add_up_whatever_is_told(dialect: Dialect, data: st.DataObject) -> None:
    table = data.draw(ODD[dialect] | GOOD[dialect])
    usage = dialect.read_usage({"usage": table})
    if usage is not None:
        assert min(usage.by_kind()) >= 0
        assert (usage.total_input, usage.total_output) == TOTALS[dialect](table)
        assert max(usage.total_input, usage.total_output) <= 3 * MAX_TOKENS


@EACH
@settings(max_examples=100, deadline=None)
@given(usage=st.builds(Usage, *[st.integers(0, 10**6)] * 7))
def test_good_numbers_are_always_believed(dialect: Dialect, usage: Usage) -> None:
    answer = dialect.write_answer(Answer("msg_x", "m", [], usage))
    found = dialect.read_usage(answer)
    assert found is not None
    assert (found.total_input, found.total_output) == (usage.total_input, usage.total_output)
    assert (found.cached_input, found.cache_write) == (usage.cached_input, usage.cache_write)
    assert found.reasoning == usage.reasoning


@EACH
@pytest.mark.parametrize("table", [None, [], "x", 7, {}, {"tokens": 5}])
def test_no_usage_is_not_a_usage_of_zero(dialect: Dialect, table: Any) -> None:
    assert dialect.read_usage({"usage": table}) is None
    assert dialect.read_usage({}) is None


@pytest.mark.parametrize("bad", [-1, 1.5, "7", True, [7], {}, MAX_TOKENS + 1])
@pytest.mark.parametrize(
    "name", ["input_tokens", "output_tokens", "cache_read_input_tokens", "cache_creation_input_tokens"]
)
def test_usage_with_one_number_that_cannot_be_is_not_believed(name: str, bad: Any) -> None:
    assert ANTHROPIC.read_usage({"usage": {"input_tokens": 1, "output_tokens": 1, name: bad}}) is None


@settings(max_examples=100, deadline=None)
@given(first=ANTHROPIC_TABLES, second=ANTHROPIC_TABLES, third=ANTHROPIC_TABLES)
@example(
    {"input_tokens": 5, "output_tokens": 9, "output_tokens_details": {"thinking_tokens": 8}},
    {"output_tokens": 2},
    {"output_tokens": -1},
)
def test_usage_of_a_stream_holds_the_last_number_of_each_kind(
    first: dict[str, Any], second: dict[str, Any], third: dict[str, Any]
) -> None:
    reader, known = ANTHROPIC.reader(), {}
    told = [{"type": "message_start", "message": {"usage": first}}]
    told += [{"type": "message_delta", "usage": table} for table in (second, third)]
    for table, fields in zip((first, second, third), told, strict=True):
        for said in reader.read(dumps(fields)):
            usage = said.usage if isinstance(said, Used | Began) else None
            if usage is not None:
                known |= {name: value for name, value in table.items() if value is not None}
                assert min(usage.by_kind()) >= 0
                assert (usage.total_input, usage.total_output) == anthropic_totals(known)
            # What a stream begins with is known of its input alone: it is not yet what was used.
            assert not isinstance(said, Used) or table.get("output_tokens") is not None
