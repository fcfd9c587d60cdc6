"""Ratios start safe and follow what providers report."""

from __future__ import annotations

import pytest

from gateway.quota.bound import Bound
from gateway.quota.ratio import AUDIO_BYTES, IMAGE_TOKENS, START, Ratio
from gateway.usage import Usage


def reported(tokens: int, **more: object) -> Usage:
    usage = Usage(tokens, output=5)
    for name, value in more.items():
        setattr(usage, name, value)
    return usage


def test_start_holds_more_than_english_needs() -> None:
    ratio = Ratio()
    assert (ratio.bytes_per_token, ratio.is_learned) == (START, False)
    assert ratio.input_tokens(Bound(9_000, 3_000)) == 1_101


@pytest.mark.parametrize("truth", [1.3, 2.0, 4.8])
def test_what_providers_report_takes_over(truth: float) -> None:
    ratio = Ratio()
    for _ in range(60):
        ratio.learn(Bound(10_000, 8_000), reported(int(8_000 / truth)))
    assert ratio.is_learned
    assert ratio.bytes_per_token == pytest.approx(truth, rel=0.05)
    assert 8_000 / truth < ratio.input_tokens(Bound(10_000, 8_000)) < 1.2 * 8_000 / truth


def test_start_weighs_as_much_as_one_call_of_a_thousand_tokens() -> None:
    ratio = Ratio(2.0)
    shares = []
    for _ in range(20):
        ratio.learn(Bound(9_000, 6_000), reported(1_000))
        shares.append((6 - ratio.bytes_per_token) / 4)
    assert shares[0] == pytest.approx(0.487, abs=0.001)
    assert shares[-1] == pytest.approx(0.027, abs=0.001)


def test_cached_tokens_count_as_well() -> None:
    ratio = Ratio()
    for _ in range(100):
        ratio.learn(Bound(10_000, 8_000), reported(400, cached_input=1_600))
    assert ratio.bytes_per_token == pytest.approx(4, rel=0.02)


@pytest.mark.parametrize(
    ("bound", "usage"),
    [
        (Bound(9, 9), reported(1_000, estimated=True)),
        (Bound(9, 9, images=1), reported(1_000)),
        (Bound(9, 9, audio_bytes=1), reported(1_000)),
        (Bound(9, 9, unbounded="plugins"), reported(1_000)),
        (Bound(9, 9), reported(0)),
    ],
)
def test_nothing_is_learned_from_estimates_and_media(bound: Bound, usage: Usage) -> None:
    ratio = Ratio()
    ratio.learn(bound, usage)
    assert (ratio.bytes_per_token, ratio.is_learned) == (START, False)


def test_ratio_that_cannot_be_is_bounded() -> None:
    dense, thin = Ratio(), Ratio()
    for _ in range(100):
        dense.learn(Bound(9_000, 1_000), reported(50_000))
        thin.learn(Bound(9_000_000, 9_000_000), reported(1))
    assert (dense.bytes_per_token, thin.bytes_per_token) == (1.0, 16.0)


def test_media_are_added_and_the_bound_is_never_passed() -> None:
    bound = Bound(90_000, 300, images=2, audio_bytes=10 * AUDIO_BYTES)
    assert Ratio().input_tokens(bound) == 111 + 2 * IMAGE_TOKENS + 10
    assert Ratio(1.0).input_tokens(Bound(320, 300)) == 320
