"""What a provider's plain answer told us of its usage: disjoint kinds that add up, or nothing at all."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gateway.usage import KINDS, Usage, estimated_usage
from gateway.wire.dialects.openai_chat import (
    MAX_TOKENS,
    read_usage,
    usage_in_tail,
)


def read(usage: Any) -> Usage | None:
    return read_usage({"usage": usage})


def kinds_of(usage: Usage | None) -> dict[str, int]:
    assert usage is not None
    return {kind: tokens for kind, tokens in zip(KINDS, usage.by_kind(), strict=True) if tokens}


SHAPES: dict[str, tuple[dict[str, Any], dict[str, int]]] = {
    "plain": (
        {"usage": {"prompt_tokens": 12, "completion_tokens": 5, "total_tokens": 17}},
        {"input": 12, "output": 5},
    ),
    "embeddings": ({"usage": {"prompt_tokens": 8, "total_tokens": 8}}, {"input": 8}),
    "openai": (
        {
            "usage": {
                "prompt_tokens": 2006,
                "completion_tokens": 300,
                "total_tokens": 2306,
                "prompt_tokens_details": {"cached_tokens": 1920, "audio_tokens": 0},
                "completion_tokens_details": {
                    "reasoning_tokens": 192,
                    "audio_tokens": 0,
                    "accepted_prediction_tokens": 0,
                    "rejected_prediction_tokens": 0,
                },
            }
        },
        {"input": 86, "cached_input": 1920, "output": 108, "reasoning": 192},
    ),
    "openai with audio": (
        {
            "usage": {
                "prompt_tokens": 100,
                "completion_tokens": 50,
                "prompt_tokens_details": {"audio_tokens": 60, "cached_tokens": 10, "cache_write_tokens": 5},
                "completion_tokens_details": {"audio_tokens": 30, "reasoning_tokens": 15},
            }
        },
        {
            "input": 25,
            "audio_input": 60,
            "cached_input": 10,
            "cache_write": 5,
            "output": 5,
            "audio_output": 30,
            "reasoning": 15,
        },
    ),
    "azure, details null": (
        {
            "usage": {
                "prompt_tokens": 9,
                "completion_tokens": 3,
                "total_tokens": 12,
                "prompt_tokens_details": None,
                "completion_tokens_details": None,
            },
            "prompt_filter_results": [],
        },
        {"input": 9, "output": 3},
    ),
    "mistral": (
        {
            "usage": {
                "prompt_tokens": 20,
                "completion_tokens": 4,
                "total_tokens": 24,
                "num_cached_tokens": 16,
            }
        },
        {"input": 4, "cached_input": 16, "output": 4},
    ),
    "deepseek": (
        {
            "usage": {
                "prompt_tokens": 30,
                "completion_tokens": 20,
                "total_tokens": 50,
                "prompt_cache_hit_tokens": 24,
                "prompt_cache_miss_tokens": 6,
                "completion_tokens_details": {"reasoning_tokens": 12},
            }
        },
        {"input": 6, "cached_input": 24, "output": 8, "reasoning": 12},
    ),
    "deepseek, cached named twice": (
        {
            "usage": {
                "prompt_tokens": 30,
                "completion_tokens": 1,
                "prompt_cache_hit_tokens": 24,
                "prompt_tokens_details": {"cached_tokens": 24},
            }
        },
        {"input": 6, "cached_input": 24, "output": 1},
    ),
    "groq stream": (
        {"x_groq": {"id": "r", "usage": {"prompt_tokens": 7, "completion_tokens": 2}}, "usage": None},
        {"input": 7, "output": 2},
    ),
    "xai, reasoning beside completion": (
        {
            "usage": {
                "prompt_tokens": 10,
                "completion_tokens": 5,
                "total_tokens": 115,
                "completion_tokens_details": {"reasoning_tokens": 100},
            }
        },
        {"input": 10, "output": 5, "reasoning": 100},
    ),
    "reasoning within completion": (
        {
            "usage": {
                "prompt_tokens": 10,
                "completion_tokens": 105,
                "total_tokens": 115,
                "completion_tokens_details": {"reasoning_tokens": 100},
            }
        },
        {"input": 10, "output": 5, "reasoning": 100},
    ),
    "parts above their totals": (
        {
            "usage": {
                "prompt_tokens": 10,
                "completion_tokens": 5,
                "prompt_tokens_details": {"cached_tokens": 8, "audio_tokens": 8, "cache_write_tokens": 99},
                "completion_tokens_details": {"reasoning_tokens": 99, "audio_tokens": 99},
            }
        },
        {"cached_input": 8, "cache_write": 2, "reasoning": 5},
    ),
    "details of another type": (
        {
            "usage": {
                "prompt_tokens": 3,
                "completion_tokens": 1,
                "prompt_tokens_details": [1],
                "completion_tokens_details": "x",
            }
        },
        {"input": 3, "output": 1},
    ),
    "the most that is believed": ({"usage": {"prompt_tokens": MAX_TOKENS}}, {"input": MAX_TOKENS}),
    "nothing consumed": ({"usage": {"prompt_tokens": 0, "completion_tokens": 0}}, {}),
}


@pytest.mark.parametrize("shape", SHAPES)
def test_usage_of_every_dialect_becomes_disjoint_kinds(shape: str) -> None:
    answer, kinds = SHAPES[shape]
    usage = read_usage(answer)
    assert kinds_of(usage) == kinds
    assert usage is not None
    assert not usage.estimated


@pytest.mark.parametrize(
    "answer",
    [
        {},
        {"usage": None},
        {"usage": []},
        {"usage": 5},
        {"x_groq": {"id": "r"}},
        {"x_groq": "r"},
        {"usage": {}},
        {"usage": {"input_tokens": 5, "output_tokens": 7}},
    ],
)
def test_answer_without_usage_in_these_words_has_none_rather_than_zero(answer: dict[str, Any]) -> None:
    assert read_usage(answer) is None


ABSURD = [-1, MAX_TOKENS + 1, 2**63, 1.5, 12.0, "12", True, [1], {"a": 1}]
COUNTS = [
    ("prompt_tokens",),
    ("completion_tokens",),
    ("total_tokens",),
    ("prompt_cache_hit_tokens",),
    ("num_cached_tokens",),
    ("prompt_tokens_details", "cached_tokens"),
    ("prompt_tokens_details", "cache_write_tokens"),
    ("prompt_tokens_details", "audio_tokens"),
    ("completion_tokens_details", "reasoning_tokens"),
    ("completion_tokens_details", "audio_tokens"),
]


@pytest.mark.parametrize("value", ABSURD, ids=repr)
@pytest.mark.parametrize("path", COUNTS, ids=".".join)
def test_numbers_that_cannot_be_true_are_not_believed(path: tuple[str, ...], value: Any) -> None:
    table: dict[str, Any] = {"prompt_tokens": 10, "completion_tokens": 5}
    nested = table.setdefault(path[0], {}) if len(path) == 2 else table
    nested[path[-1]] = value
    assert read(table) is None


NUMBERS = st.integers(0, 5_000)
PARTS = ("cached_tokens", "cache_write_tokens", "audio_tokens")


@settings(deadline=None)
@given(NUMBERS, NUMBERS, st.fixed_dictionaries({}, optional=dict.fromkeys(PARTS, NUMBERS)), NUMBERS, NUMBERS)
def test_kinds_add_up_to_the_providers_totals(
    prompt: int, completion: int, of_input: dict[str, int], reasoning: int, audio: int
) -> None:
    usage = read(
        {
            "prompt_tokens": prompt,
            "completion_tokens": completion,
            "prompt_tokens_details": of_input,
            "completion_tokens_details": {"reasoning_tokens": reasoning, "audio_tokens": audio},
        }
    )
    assert usage is not None
    assert (usage.total_input, usage.total_output) == (prompt, completion)
    assert sum(usage.by_kind()) == prompt + completion
    assert min(usage.by_kind()) >= 0


ANYTHING = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(2**63), 2**64)
    | st.floats(allow_nan=False)
    | st.text(max_size=5),
    lambda inner: (
        st.lists(inner, max_size=2)
        | st.dictionaries(
            st.sampled_from(sorted({name for path in COUNTS for name in path} | {"usage", "x_groq"})), inner
        )
    ),
    max_leaves=12,
)


@settings(deadline=None)
@given(ANYTHING, ANYTHING, ANYTHING)
def test_usage_of_any_answer_is_sound_or_not_read(usage: Any, groq: Any, tier: Any) -> None:
    found = read_usage({"usage": usage, "x_groq": groq, "service_tier": tier})
    if found is not None:
        assert all(0 <= tokens <= 2 * MAX_TOKENS for tokens in found.by_kind())
        assert type(found.service_tier) is str


def test_tier_of_the_answer_is_kept_for_its_price() -> None:
    assert read_usage({"usage": {"prompt_tokens": 1}, "service_tier": "flex"}) == Usage(
        1, service_tier="flex"
    )
    assert read_usage({"usage": {"prompt_tokens": 1}, "service_tier": None}) == Usage(1)


@pytest.mark.parametrize(("sizes", "tokens"), [((0, 0), (0, 0)), ((1, 4), (1, 1)), ((5, 400), (2, 100))])
def test_estimate_is_four_bytes_a_token_rounded_up(sizes: tuple[int, int], tokens: tuple[int, int]) -> None:
    assert estimated_usage(*sizes) == Usage(tokens[0], output=tokens[1], estimated=True)


TAIL = '"choices": [{"message": {"content": "%s"}}], "usage": %s, "service_tier": "x"}'


@pytest.mark.parametrize(
    ("tail", "kinds"),
    [
        (TAIL % ("hi", '{"prompt_tokens": 3, "completion_tokens": 2}'), {"input": 3, "output": 2}),
        (
            TAIL % ("hi", '{"prompt_tokens": 3, "prompt_tokens_details": {"cached_tokens": 1}}'),
            {"input": 2, "cached_input": 1},
        ),
        ('{"usage": {"prompt_tokens": 1}, "x": {"usage": {"prompt_tokens": 9}}}', {"input": 9}),
        (TAIL % ("hi", '{"prompt_tokens": 3, "completion_tok'), None),
        (TAIL % ("hi", '{"prompt_tokens": -3}'), None),
        (TAIL % ("hi", "{prompt}"), None),
        (TAIL % (r"{\"usage\": {}", "null"), None),
        ('"usage": null, "timings": {"prompt_n": 5}}', None),
        ('"usage": {"prompt_tokens": 3, "prompt_tokens_details": {}', None),
        ('"usage"', None),
        ("data", None),
        ("", None),
    ],
)
def test_usage_is_found_at_the_end_of_a_long_answer(tail: str, kinds: dict[str, int] | None) -> None:
    usage = usage_in_tail(tail.encode())
    if kinds is None:
        assert usage is None
    else:
        assert kinds_of(usage) == kinds
