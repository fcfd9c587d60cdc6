"""The worst case is the wall: no usage within a call's bounds costs more than what was held for it."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import assume, example, given, settings
from hypothesis import strategies as st

from gateway.pricing.price import HOUR_WRITE, UNLIMITED, Price, Worst
from gateway.usage import KINDS, Usage

Rows = list[tuple[int, dict[str, int]]]

PICO = st.integers(0, 3) | st.integers(0, 2_000) | st.integers(0, 10**9)
PRICES = st.fixed_dictionaries(dict.fromkeys(KINDS, PICO))
WITH_HOURS = st.fixed_dictionaries(dict.fromkeys(KINDS, PICO), optional={HOUR_WRITE: PICO})
STARTS = st.integers(0, 30) | st.integers(0, 300_000)
ROWS: st.SearchStrategy[Rows] = st.lists(st.tuples(STARTS, WITH_HOURS), min_size=1, max_size=3)
TIERS = ("default", "flex", "priority", "fast")
ANSWERED = ("", "standard", "auto", "scale", *TIERS)
NANO = st.integers(0, 2 * 10**10)


@st.composite
def tables(draw: st.DrawFn) -> dict[str, Any]:
    """A price table of any shape: standard alone or beside other tiers, each with rows in any order."""
    table: dict[str, Any] = {"standard": draw(ROWS)}
    table |= draw(st.dictionaries(st.sampled_from(TIERS), ROWS, max_size=2))
    if draw(st.booleans()):
        table["fees"] = draw(st.fixed_dictionaries({}, optional={"call": NANO, "search": NANO}))
    return table


TOKENS = st.integers(0, 40) | st.integers(0, 400_000)


def shared(draw: st.DrawFn, tokens: int, parts: int) -> list[int]:
    """At most so many tokens, cut into parts anyhow."""
    cuts = sorted(draw(st.lists(st.integers(0, tokens), min_size=parts, max_size=parts)))
    return [high - low for low, high in zip([0, *cuts], cuts, strict=False)]


@st.composite
def billed(draw: st.DrawFn, input_tokens: int, output_tokens: int, *, has_audio: bool) -> Usage:
    """A usage within the bounds."""
    usage = Usage()
    usage.input, usage.cached_input, usage.cache_write, spoken = shared(draw, input_tokens, 4)
    usage.hour_cache_write = draw(st.integers(0, usage.cache_write))
    usage.output, usage.reasoning, heard = shared(draw, output_tokens, 3)
    if has_audio:
        usage.audio_input, usage.audio_output = spoken, heard
    else:
        usage.input, usage.output = usage.input + spoken, usage.output + heard
    return usage


@settings(deadline=None, max_examples=100)
@given(data=st.data(), table=tables(), input_tokens=TOKENS, output_tokens=TOKENS, has_audio=st.booleans())
def test_no_usage_within_the_bounds_costs_more_than_what_is_held(
    data: st.DataObject, table: dict[str, Any], input_tokens: int, output_tokens: int, has_audio: bool
) -> None:
    price = Price.from_table(table)
    pinned = data.draw(st.sampled_from(("", "auto", "unheard-of", *TIERS)))
    searches = data.draw(st.integers(0, 3))
    worst = price.worst(input_tokens, has_audio=has_audio, service_tier=pinned, searches=searches)
    held = worst.nanousd(input_tokens, output_tokens)
    usage = data.draw(billed(input_tokens, output_tokens, has_audio=has_audio))
    is_pinned = pinned == "default" or (pinned in table and pinned != "")
    answered = (pinned, "default", "standard", "") if is_pinned else ANSWERED
    usage.searches = data.draw(st.integers(0, searches))
    for usage.service_tier in answered:
        assert price.cost_nanousd(usage) <= held


@settings(deadline=None, max_examples=60)
@given(table=tables(), count=st.integers(0, 60))
@example({"standard": [(0, dict.fromkeys(KINDS, 1))]}, 1)
def test_seven_lines_of_one_token_each_are_held_with_all_their_rounding(
    table: dict[str, Any], count: int
) -> None:
    price = Price.from_table(table)
    usage = Usage(*[count] * 7)
    for usage.service_tier in ANSWERED:
        assert price.cost_nanousd(usage) <= price.worst(4 * count).nanousd(4 * count, 3 * count)


@settings(deadline=None, max_examples=60)
@given(prices=PRICES, tokens=st.tuples(TOKENS, TOKENS))
def test_not_a_nano_dollar_more_than_rounding_is_held_beyond_what_a_call_can_cost(
    prices: dict[str, int], tokens: tuple[int, int]
) -> None:
    price = Price.from_table({"standard": [(0, prices)]})
    dearest_in = max(("input", "cached_input", "cache_write", "audio_input"), key=lambda kind: prices[kind])
    dearest_out = max(("output", "reasoning", "audio_output"), key=lambda kind: prices[kind])
    usage = Usage()
    setattr(usage, dearest_in, tokens[0])
    setattr(usage, dearest_out, tokens[1])
    assert price.worst(tokens[0]).nanousd(*tokens) - price.cost_nanousd(usage) <= 6


@settings(deadline=None, max_examples=60)
@given(table=tables(), input_tokens=TOKENS, left=st.integers(0, 5_000) | st.integers(0, 10**12))
@example({"standard": [(0, dict.fromkeys(KINDS, 1_000))]}, 0, 0)
@example({"standard": [(0, dict.fromkeys(KINDS, 1_000))]}, 1, 4)
def test_most_output_that_fits_is_exact(table: dict[str, Any], input_tokens: int, left: int) -> None:
    worst = Price.from_table(table).worst(input_tokens)
    most = worst.output_for(left, input_tokens)
    if most is None:
        assert worst.nanousd(input_tokens, 0) > left
        return
    assert worst.nanousd(input_tokens, most) <= left
    assume(most != UNLIMITED)
    assert worst.nanousd(input_tokens, most + 1) > left


def priced(**named: int) -> dict[str, int]:
    return {**dict.fromkeys(KINDS, 0), **named}


def test_longer_inputs_are_held_at_the_dearest_price_they_may_reach() -> None:
    rows = [(0, priced(input=5, output=1)), (100, priced(input=3, output=9)), (200, priced(input=7))]
    price = Price.from_table({"standard": rows})
    assert [price.worst(tokens)[:2] for tokens in (0, 100, 101, 200, 201)] == [
        (5, 1), (5, 1), (5, 9), (5, 9), (7, 9),
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("pinned", "pico"),
    [
        ("", 9), ("auto", 9), ("scale", 9), ("default", 2), ("flex", 2), ("priority", 9),
        (None, 9), (["flex"], 9), ({}, 9), (7, 9),
    ],
)  # fmt: skip
def test_tier_that_a_call_pins_bounds_its_price(pinned: object, pico: int) -> None:
    table = {
        "standard": [(0, priced(input=2, output=4))],
        "flex": [(0, priced(input=1, output=2))],
        "priority": [(0, priced(input=9, output=8))],
    }
    assert Price.from_table(table).worst(10, service_tier=pinned).input_pico == pico


@pytest.mark.parametrize("tier", ["default", "standard"])
def test_tier_that_a_call_pins_may_be_full_and_another_answer_it(tier: str) -> None:
    table = {"standard": [(0, priced(input=1))], "flex": [(0, priced(input=2))]}
    table[tier] = [(0, priced(input=9))]
    assert Price.from_table(table).worst(10, service_tier="flex").input_pico == 9


def test_audio_is_held_only_where_there_may_be_some() -> None:
    price = Price.from_table({"standard": [(0, priced(input=1, output=2, audio_input=30, audio_output=60))]})
    assert price.worst(1)[:2] == (30, 60)
    assert price.worst(1, has_audio=False)[:2] == (1, 2)


def test_fees_are_charged_and_held_by_the_call_and_by_the_search() -> None:
    price = Price.from_table({"standard": [(0, priced(input=1_000))], "fees": {"call": 5, "search": 70}})
    assert price.cost_nanousd(Usage(input=2)) == 7
    assert price.cost_nanousd(Usage(input=2, reasoning=1, searches=2)) == 147
    assert price.worst(2, searches=2) == Worst.of(1_000, 0)._replace(fee_nanousd=145)


def test_free_model_is_held_at_nothing() -> None:
    worst = Price.from_table({"standard": [(0, priced())]}).worst(1_000_000)
    assert worst.nanousd(1_000_000, 1_000_000) == 0
    assert worst.output_for(0, 1_000_000) == UNLIMITED
