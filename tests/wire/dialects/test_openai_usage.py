"""Usage in all shapes that providers use becomes disjoint kinds that add up to the provider's totals."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.usage import KINDS, Usage, estimated_usage
from gateway.wire.dialects.openai_chat import MAX_TOKENS, read_usage, usage_in_tail

SHAPES: dict[str, tuple[dict[str, Any], dict[str, int]]] = {
    "OpenAI": (
        {
            "usage": {
                "prompt_tokens": 100,
                "completion_tokens": 50,
                "total_tokens": 150,
                "prompt_tokens_details": {"cached_tokens": 60, "audio_tokens": 10},
                "completion_tokens_details": {"reasoning_tokens": 20, "audio_tokens": 5},
            }
        },
        {
            "input": 30,
            "cached_input": 60,
            "audio_input": 10,
            "output": 25,
            "reasoning": 20,
            "audio_output": 5,
        },
    ),
    "embeddings": ({"usage": {"prompt_tokens": 8, "total_tokens": 8}}, {"input": 8}),
    "no details": ({"usage": {"prompt_tokens": 3, "completion_tokens": 4}}, {"input": 3, "output": 4}),
    "null details": (
        {"usage": {"prompt_tokens": 3, "completion_tokens": 4, "prompt_tokens_details": None}},
        {"input": 3, "output": 4},
    ),
    "cache write": (
        {
            "usage": {
                "prompt_tokens": 9,
                "prompt_tokens_details": {"cached_tokens": 2, "cache_write_tokens": 3},
            }
        },
        {"input": 4, "cached_input": 2, "cache_write": 3},
    ),
    "DeepSeek": (
        {"usage": {"prompt_tokens": 9, "completion_tokens": 1, "prompt_cache_hit_tokens": 5}},
        {"input": 4, "cached_input": 5, "output": 1},
    ),
    "Mistral": (
        {"usage": {"prompt_tokens": 9, "completion_tokens": 1, "num_cached_tokens": 6}},
        {"input": 3, "cached_input": 6, "output": 1},
    ),
    "Groq": ({"x_groq": {"usage": {"prompt_tokens": 2, "completion_tokens": 1}}}, {"input": 2, "output": 1}),
    "xAI: reasoning beside completion": (
        {
            "usage": {
                "prompt_tokens": 10,
                "completion_tokens": 5,
                "total_tokens": 45,
                "completion_tokens_details": {"reasoning_tokens": 30},
            }
        },
        {"input": 10, "output": 5, "reasoning": 30},
    ),
    "parts beyond their total": (
        {
            "usage": {
                "prompt_tokens": 5,
                "completion_tokens": 2,
                "prompt_tokens_details": {"cached_tokens": 9},
                "completion_tokens_details": {"reasoning_tokens": 9},
            }
        },
        {"cached_input": 5, "reasoning": 2},
    ),
}


@pytest.mark.parametrize(("answer", "kinds"), SHAPES.values(), ids=SHAPES.keys())
def test_shape_is_read(answer: dict[str, Any], kinds: dict[str, int]) -> None:
    assert read_usage(answer) == Usage(**kinds)


@pytest.mark.parametrize(
    "usage",
    [
        None,
        [],
        "12",
        {"prompt_tokens": "12"},
        {"prompt_tokens": -1},
        {"prompt_tokens": 1.5},
        {"prompt_tokens": True},
        {"prompt_tokens": MAX_TOKENS + 1},
        {"completion_tokens": 10**30},
        {"prompt_tokens": 1, "prompt_tokens_details": {"cached_tokens": -1}},
    ],
)
def test_numbers_that_cannot_be_true_are_no_usage(usage: object) -> None:
    assert read_usage({"usage": usage}) is None


COUNTS = st.integers(0, MAX_TOKENS // 2)


@given(prompt=COUNTS, completion=COUNTS, parts=st.tuples(COUNTS, COUNTS, COUNTS, COUNTS, COUNTS))
def test_kinds_are_disjoint_and_add_up(prompt: int, completion: int, parts: tuple[int, ...]) -> None:
    cached, written, audio_in, reasoning, audio_out = parts
    usage = read_usage(
        {
            "usage": {
                "prompt_tokens": prompt,
                "completion_tokens": completion,
                "total_tokens": prompt + completion,
                "prompt_tokens_details": {
                    "cached_tokens": cached,
                    "cache_write_tokens": written,
                    "audio_tokens": audio_in,
                },
                "completion_tokens_details": {"reasoning_tokens": reasoning, "audio_tokens": audio_out},
            }
        }
    )
    assert usage is not None
    assert all(tokens >= 0 for tokens in usage.by_kind())
    assert len(usage.by_kind()) == len(KINDS)
    assert usage.total_input == prompt
    if not reasoning:
        assert usage.total_output == completion


@given(answer=st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(
        st.sampled_from(["usage", "x_groq", "prompt_tokens", "completion_tokens", "prompt_tokens_details",
                         "completion_tokens_details", "cached_tokens", "reasoning_tokens", "total_tokens"]),
        inner, max_size=5),
    max_leaves=20))  # fmt: skip
def test_nothing_a_provider_sends_as_usage_raises(answer: object) -> None:
    if isinstance(answer, dict):
        usage = read_usage(answer)
        assert usage is None or (usage.total_input >= 0 and usage.total_output >= 0)


def test_service_tier_of_the_answer_is_kept_for_its_price() -> None:
    usage = read_usage({"service_tier": "flex", "usage": {"prompt_tokens": 1}})
    assert usage is not None
    assert usage.service_tier == "flex"


def test_estimate_is_a_token_for_four_bytes_rounded_up() -> None:
    assert estimated_usage(5, 8) == Usage(input=2, output=2, estimated=True)
    assert estimated_usage(0, 0) == Usage(estimated=True)


@pytest.mark.parametrize(
    ("tail", "kinds"),
    [
        (b'text"}],"usage":{"prompt_tokens":3,"completion_tokens":4,"prompt_tokens_details":{"cached_tokens":1}}}',
         {"input": 2, "cached_input": 1, "output": 4}),
        (b'... "usage" : {"prompt_tokens": 3}, "x": {"usage": null}', None),
        (b'"usage":null}', None),
        (b'no such thing', None),
        (b'"usage":{"prompt_tokens":3', None),
    ],
)  # fmt: skip
def test_usage_at_the_end_of_a_long_answer(tail: bytes, kinds: dict[str, int] | None) -> None:
    assert usage_in_tail(tail) == (None if kinds is None else Usage(**kinds))
