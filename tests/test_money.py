"""Money is whole nano-dollars, every line rounds up, and what is written is what was counted."""

from __future__ import annotations

from decimal import Decimal
from fractions import Fraction
from math import ceil

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gateway.money import NANO_PER_USD, PICO_PER_NANO, line_nanousd, nanousd_of, usd, usd_text


@pytest.mark.parametrize(
    ("tokens", "pico", "nano"),
    [
        (0, 150_000, 0),
        (1, 0, 0),
        (1, 1, 1),
        (1, 1_000, 1),
        (1, 1_001, 2),
        (999, 1, 1),
        (1_001, 1, 2),
        (1_000_000, 150_000, 150_000_000),
        (10**12, 600_000_000, 6 * 10**17),
    ],
)
def test_line_rounds_up_to_the_next_nano_dollar(tokens: int, pico: int, nano: int) -> None:
    assert line_nanousd(tokens, pico) == nano


@settings(deadline=None)
@given(st.integers(0, 10**12), st.integers(0, 10**10))
def test_line_is_the_exact_product_rounded_up(tokens: int, pico: int) -> None:
    assert line_nanousd(tokens, pico) == ceil(Fraction(tokens * pico, PICO_PER_NANO))


@pytest.mark.parametrize(
    ("nano", "text"),
    [
        (0, b"0.000000000"),
        (1, b"0.000000001"),
        (1_500_000, b"0.001500000"),
        (NANO_PER_USD, b"1.000000000"),
        (12_345_678_901, b"12.345678901"),
    ],
)
def test_dollars_are_written_with_all_nine_decimals(nano: int, text: bytes) -> None:
    assert usd(nano) == text


@settings(deadline=None)
@given(st.integers(0, 10**30))
def test_dollars_read_back_are_the_same_money(nano: int) -> None:
    assert Decimal(usd(nano).decode()).as_tuple().exponent == -9
    assert Fraction(usd(nano).decode()) * NANO_PER_USD == nano


@pytest.mark.parametrize(
    ("nano", "text"),
    [
        (0, "0.00"),
        (1, "0.000000001"),
        (12_500_000_000, "12.50"),
        (-5, "-0.000000005"),
        (-NANO_PER_USD, "-1.00"),
    ],
)
def test_dollars_for_people_are_exact_and_short(nano: int, text: str) -> None:
    assert usd_text(nano) == text


@settings(deadline=None)
@given(st.integers(-(10**18), 10**18))
def test_dollars_for_people_read_back_are_the_same_money(nano: int) -> None:
    assert nanousd_of(usd_text(nano)) == nano
    assert Fraction(usd_text(nano)) * NANO_PER_USD == nano


@pytest.mark.parametrize(
    ("text", "nano"),
    [("25", 25 * NANO_PER_USD), (" 0.5 ", NANO_PER_USD // 2), ("+1", NANO_PER_USD), ("-0.000000001", -1)]
    + [
        (text, None)
        for text in ("", "1e3", "0.0000000001", "1,000", ".5", "1.", "NaN", "$5", "\u0661", "1" * 11)
    ],
)
def test_dollars_are_read_exactly_or_not_at_all(text: str, nano: int | None) -> None:
    assert nanousd_of(text) == nano
