"""Kinds of tokens are disjoint, in one order everywhere, and add up to the provider's totals."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gateway.usage import KINDS, Usage, split_usage

COUNTS = st.integers(0, 10**12)


def test_kinds_name_the_fields_in_the_order_of_by_kind() -> None:
    usage = Usage(1, 2, 3, 4, 5, 6, 7)
    assert tuple(getattr(usage, kind) for kind in KINDS) == usage.by_kind() == (1, 2, 3, 4, 5, 6, 7)
    assert (usage.total_input, usage.total_output) == (1 + 2 + 3 + 4, 5 + 6 + 7)
    assert Usage().by_kind() == (0,) * 7


@pytest.mark.parametrize("kind", KINDS)
def test_only_plain_input_and_output_are_no_parts(kind: str) -> None:
    usage = Usage()
    setattr(usage, kind, 1)
    assert usage.has_parts() is (kind not in ("input", "output"))


@pytest.mark.parametrize(
    ("parts", "kinds"),
    [
        ({}, (100, 0, 0, 0, 50, 0, 0)),
        ({"cached": 60}, (40, 60, 0, 0, 50, 0, 0)),
        ({"cached": 60, "written": 30, "audio_in": 10}, (0, 60, 30, 10, 50, 0, 0)),
        ({"cached": 60, "written": 50, "audio_in": 10}, (0, 60, 40, 0, 50, 0, 0)),
        ({"cached": 101}, (0, 100, 0, 0, 50, 0, 0)),
        ({"reasoning": 20, "audio_out": 30}, (100, 0, 0, 0, 0, 20, 30)),
        ({"reasoning": 51, "audio_out": 1}, (100, 0, 0, 0, 0, 50, 0)),
    ],
)
def test_part_never_takes_more_than_is_left_of_its_total(
    parts: dict[str, int], kinds: tuple[int, ...]
) -> None:
    assert split_usage(100, 50, **parts).by_kind() == kinds


@settings(deadline=None)
@given(COUNTS, COUNTS, COUNTS, COUNTS, COUNTS, COUNTS, COUNTS)
def test_kinds_add_up_whatever_a_provider_says(
    total_input: int,
    total_output: int,
    cached: int,
    written: int,
    audio_in: int,
    reasoning: int,
    audio_out: int,
) -> None:
    usage = split_usage(
        total_input,
        total_output,
        cached=cached,
        written=written,
        audio_in=audio_in,
        reasoning=reasoning,
        audio_out=audio_out,
    )
    assert (usage.total_input, usage.total_output) == (total_input, total_output)
    assert min(usage.by_kind()) >= 0
    assert not usage.estimated
