"""What a call may put out is known, written where the provider reads it, and shrinks to what is left."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gateway.pricing.price import Price, Worst
from gateway.quota.cap import (
    Asked,
    asked_of,
    cap_of,
    fitting_cap,
    floor_of,
    is_reasoning,
    written,
)
from gateway.usage import KINDS
from gateway.wire.dialects.openai_chat import Call, read_call

NEW, OLD = "max_completion_tokens", "max_tokens"
SAID = {"type": "content", "content": "x" * 50}


def call_of(endpoint: str = "chat", /, **fields: Any) -> Call:
    return read_call(endpoint, json.dumps({"model": "m", **fields}).encode())


@pytest.mark.parametrize(
    ("call", "asked"),
    [
        (call_of(), Asked(None, 1)),
        (call_of(max_tokens=5), Asked(5, 1)),
        (call_of(max_completion_tokens=5, n=3), Asked(5, 3)),
        (call_of(max_tokens=5, max_completion_tokens=9), Asked(9, 1)),
        (call_of(max_tokens=0), Asked(None, 1)),
        (call_of(n=0, max_tokens=None), Asked(None, 1)),
        (call_of("completions", prompt="a", max_tokens=0), Asked(0, 1)),
        (call_of("completions", prompt="a", n=2, best_of=5), Asked(None, 5, has_unseen=True)),
        (call_of("completions", prompt=["a", "b", "c"], n=2, best_of=1), Asked(None, 6)),
        (call_of("completions", prompt=[1, 2, 3]), Asked(None, 1)),
        (call_of("completions", prompt=[[1, 2], [3]], n=4), Asked(None, 8)),
        (call_of("completions", prompt=[]), Asked(None, 1)),
        (call_of("embeddings", input="a", n=3), Asked(0, 0)),
    ],
)
def test_every_choice_that_is_generated_counts(call: Call, asked: Asked) -> None:
    assert asked_of(call) == asked


def test_rejected_prediction_is_output_beyond_the_cap() -> None:
    asked = asked_of(call_of(prediction=SAID, max_tokens=5, n=2))
    assert asked.output_tokens(5) == 2 * (5 + len(json.dumps(SAID, separators=(",", ":"))))


@pytest.mark.parametrize(
    ("asked", "limits", "cap"),
    [
        (None, {}, 4_096),
        (None, {"default_tokens": 900}, 900),
        (None, {"max_output": 1_000}, 1_000),
        (None, {"context": 8_192, "input_tokens": 5_000}, 3_192),
        (None, {"context": 8_192, "input_tokens": 8_000}, 256),
        (None, {"context": 8_192, "input_tokens": 90_000, "floor": 4_096}, 4_096),
        (None, {"context": 128_000, "input_tokens": 90_000}, 4_096),
        (50_000, {}, 50_000),
        (50_000, {"max_output": 16_384}, 16_384),
        (50_000, {"context": 8_192, "input_tokens": 8_000}, 50_000),
        (3, {"max_output": 16_384}, 3),
    ],
)
def test_cap_is_the_callers_or_the_default_below_the_ceiling(
    asked: int | None, limits: dict[str, int], cap: int
) -> None:
    assert cap_of(Asked(asked, 1), endpoint="chat", **limits) == cap


def test_legacy_completion_keeps_its_own_default() -> None:
    assert cap_of(Asked(None, 1), endpoint="completions") == 16
    assert cap_of(Asked(None, 1), endpoint="completions", default_tokens=5) == 5
    assert cap_of(Asked(700, 1), endpoint="completions") == 700
    assert cap_of(asked_of(call_of("embeddings", input="a")), endpoint="embeddings") == 0


@pytest.mark.parametrize(
    ("asked", "cap", "left", "floor", "fits"),
    [
        (Asked(None, 1), 4_096, 10**9, 256, 4_096),
        (Asked(None, 1), 4_096, 4_095, 256, 4_095),
        (Asked(None, 1), 4_096, 256, 256, 256),
        (Asked(None, 1), 4_096, 255, 256, None),
        (Asked(None, 1), 4_096, 4_095, 4_096, None),
        (Asked(10, 1), 10, 10, 256, 10),
        (Asked(10, 1), 10, 9, 256, None),
        (Asked(None, 4), 4_096, 1_027, 256, 256),
        (Asked(None, 4), 4_096, 1_023, 256, None),
        (Asked(None, 1, 100), 4_096, 400, 256, 300),
        (Asked(None, 1, 100), 4_096, 99, 256, None),
        (Asked(0, 1), 0, 0, 256, 0),
        (Asked(0, 0), 0, 0, 256, 0),
        (Asked(None, 1), 4_096, None, 256, None),
    ],
)
def test_cap_shrinks_to_what_is_left_but_not_below_the_floor(
    asked: Asked, cap: int, left: int | None, floor: int, fits: int | None
) -> None:
    assert fitting_cap(asked, cap, left, floor) == fits


def worst_of(input_pico: int, output_pico: int, fee_nanousd: int) -> Worst:
    return Worst.of(input_pico, output_pico)._replace(fee_nanousd=fee_nanousd)


@settings(deadline=None)
@given(
    worst=st.builds(worst_of, *[st.integers(0, 10**8)] * 2, st.integers(0, 10**6)),
    nanousd=st.integers(0, 10**11),
    input_tokens=st.integers(0, 10**5),
    asked=st.builds(Asked, st.none(), st.integers(1, 5), st.integers(0, 50)),
    cap=st.integers(0, 10**5),
)
def test_largest_cap_that_the_money_pays_for_is_found(
    worst: Worst, nanousd: int, input_tokens: int, asked: Asked, cap: int
) -> None:
    fits = fitting_cap(asked, cap, worst.output_for(nanousd, input_tokens))
    least = min(cap, 256)
    if fits is None:
        assert worst.nanousd(input_tokens, asked.output_tokens(least)) > nanousd
        return
    assert least <= fits <= cap
    assert worst.nanousd(input_tokens, asked.output_tokens(fits)) <= nanousd
    assert fits == cap or worst.nanousd(input_tokens, asked.output_tokens(fits + 1)) > nanousd


def test_free_model_needs_no_money_for_any_cap() -> None:
    free = Price.from_table({"standard": [(0, dict.fromkeys(KINDS, 0))]}).worst(1_000)
    assert fitting_cap(Asked(None, 128), 4_096, free.output_for(0, 1_000)) == 4_096


@pytest.mark.parametrize(
    ("call", "provider_field", "goes"),
    [
        (call_of(), NEW, (NEW, 9)),
        (call_of(), OLD, (OLD, 9)),
        (call_of(max_tokens=50), NEW, (OLD, 9)),
        (call_of(max_tokens=50), OLD, (OLD, 9)),
        (call_of(max_tokens=9), NEW, None),
        (call_of(max_tokens=9), OLD, None),
        (call_of(max_completion_tokens=50), NEW, (NEW, 9)),
        (call_of(max_completion_tokens=9), NEW, None),
        (call_of(max_completion_tokens=9), OLD, (OLD, 9)),
        (call_of(max_tokens=9, max_completion_tokens=9), NEW, (NEW, 9)),
        (call_of(max_tokens=9, max_completion_tokens=None), OLD, None),
        (call_of(prediction=SAID), NEW, (OLD, 9)),
        (call_of("completions", prompt="a"), NEW, (OLD, 9)),
        (call_of("completions", prompt="a", max_tokens=9), NEW, None),
        (call_of("embeddings", input="a"), NEW, None),
    ],
)
def test_cap_is_written_where_the_provider_reads_it(
    call: Call, provider_field: str, goes: tuple[str, int] | None
) -> None:
    assert written(call, 9, provider_field) == goes


@pytest.mark.parametrize(
    ("model", "reasons"),
    [
        ("o1", True),
        ("o3-mini-2025-01-31", True),
        ("openai/o4-mini", True),
        ("gpt-5", True),
        ("gpt-5.1-codex", True),
        ("gpt-5-mini", True),
        ("GPT-5-nano", True),
        ("deepseek-reasoner", True),
        ("deepseek-ai/DeepSeek-R1-0528", True),
        ("kimi-k2-thinking", True),
        ("Qwen/Qwen3-235B-A22B-Thinking-2507", True),
        ("magistral-medium-latest", True),
        ("gemini-2.5-pro", True),
        ("gpt-4o", False),
        ("gpt-4.1-mini", False),
        ("gpt-35-turbo", False),
        ("deepseek-chat", False),
        ("claude-sonnet-4-5", False),
        ("llama-3.1-8b-instant", False),
        ("proto1", False),
    ],
)
def test_reasoning_models_are_known_by_name_and_need_more_room(model: str, reasons: bool) -> None:
    assert is_reasoning(model) is reasons
    assert floor_of(is_reasoning=reasons) == (4_096 if reasons else 256)
