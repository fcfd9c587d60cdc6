"""A price turns usage into nano-dollars exactly: kinds are lines, lines round up, tiers are cliffs."""

from __future__ import annotations

from fractions import Fraction
from math import ceil

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from gateway.pricing.price import Price
from gateway.usage import KINDS, Usage

Tiers = list[tuple[int, dict[str, int]]]


def prices(**named: int) -> dict[str, int]:
    """Pico-dollars per token of every kind; 0 if not given."""
    return {**dict.fromkeys(KINDS, 0), **named}


def flat(**named: int) -> Price:
    return Price.from_table({"standard": [(0, prices(**named))]})


@pytest.mark.parametrize(
    ("usage", "nano"),
    [
        (Usage(), 0),
        (Usage(input=1), 1),
        (Usage(input=1_000), 150),
        (Usage(input=1_001), 151),
        (Usage(input=1, output=1), 2),
        (Usage(input=1_000_000, output=1_000_000), 150_000 + 600_000),
        (Usage(input=1, output=1, reasoning=1), 3),
        (Usage(1, 1, 1, 1, 1, 1, 1), 7),
        (Usage(reasoning=2_000), 1_400),
    ],
)  # fmt: skip
def test_each_kind_is_a_line_that_rounds_up(usage: Usage, nano: int) -> None:
    # Pico-dollars a token, so small that a thousand tokens are a few hundred nano-dollars.
    price = flat(
        input=150,
        cached_input=75,
        cache_write=190,
        audio_input=999,
        output=600,
        reasoning=700,
        audio_output=1,
    )
    assert price.cost_nanousd(usage) == nano


@pytest.mark.parametrize("kind", KINDS)
def test_each_kind_is_billed_at_its_own_price(kind: str) -> None:
    price = flat(**{name: 1_000 * 10**place for place, name in enumerate(KINDS)})
    usage = Usage()
    setattr(usage, kind, 3)
    assert price.cost_nanousd(usage) == 3 * 10 ** KINDS.index(kind)


LONG: Tiers = [(0, prices(input=1_000, output=2_000)), (200, prices(input=3_000, output=5_000))]


@pytest.mark.parametrize("rows", [LONG, LONG[::-1]])
@pytest.mark.parametrize(
    ("usage", "nano"),
    [
        (Usage(input=200, output=10), 200 + 20),
        (Usage(input=201, output=10), 603 + 50),
        (Usage(input=1, cached_input=199, output=1), 1 + 2),
        (Usage(input=1, cached_input=200, output=1), 3 + 5),
        (Usage(input=200, output=10_000), 200 + 20_000),
        (Usage(output=1), 2),
    ],
)
def test_one_token_above_a_tiers_start_reprices_the_whole_call(rows: Tiers, usage: Usage, nano: int) -> None:
    assert Price.from_table({"standard": rows}).cost_nanousd(usage) == nano


def test_highest_of_several_tiers_that_applies_is_taken() -> None:
    rows: Tiers = [(start, prices(input=1_000 * (place + 1))) for place, start in enumerate((0, 10, 20))]
    price = Price.from_table({"standard": rows})
    assert [price.cost_nanousd(Usage(input=tokens)) for tokens in (10, 11, 20, 21)] == [10, 22, 40, 63]


@pytest.mark.parametrize(
    ("tier", "nano"), [("", 1), ("standard", 1), ("default", 1), ("auto", 1), ("flex", 2)]
)
def test_tier_that_the_answer_names_has_its_own_prices(tier: str, nano: int) -> None:
    table = {"standard": [(0, prices(input=1_000))], "flex": [(0, prices(input=2_000))]}
    assert Price.from_table(table).cost_nanousd(Usage(input=1, service_tier=tier)) == nano


COUNTS = st.one_of(st.integers(0, 5_000), st.integers(0, 10**12))
PRICES = st.fixed_dictionaries(dict.fromkeys(KINDS, st.integers(0, 10**9)))


@settings(deadline=None)
@given(
    usage=st.builds(Usage, *[COUNTS] * 7),
    base=PRICES,
    above=st.dictionaries(st.integers(1, 20_000), PRICES, max_size=3),
)
@example(Usage(input=1, output=1), prices(input=1, output=1), {})
@example(Usage(input=7, output=9), prices(input=1_001, output=999), {7: prices(), 6: prices(input=1)})
def test_cost_is_the_exact_sum_rounded_up_line_by_line(
    usage: Usage, base: dict[str, int], above: dict[int, dict[str, int]]
) -> None:
    price = Price.from_table({"standard": [(0, base), *above.items()]})
    reached = [start for start in above if usage.total_input > start]
    rate = above[max(reached)] if reached else base
    exact = sum(
        ceil(Fraction(tokens) * Fraction(rate[kind], 1_000))
        for kind, tokens in zip(KINDS, usage.by_kind(), strict=True)
    )
    assert price.cost_nanousd(usage) == exact


def test_what_a_cache_keeps_for_an_hour_has_its_own_price() -> None:
    prices = {**dict.fromkeys(KINDS, 1_000), "cache_write": 1_250, "hour_cache_write": 2_000}
    price = Price.from_table({"standard": [(0, prices)]})
    usage = Usage(input=10, cache_write=100, hour_cache_write=40)
    assert price.cost_nanousd(usage) == 10 + 75 + 80
    assert Price.from_table({"standard": [(0, dict.fromkeys(KINDS, 1_000))]}).cost_nanousd(usage) == 110
