"""Ranks are uniform and independent while answers are exchangeable; the mean of bets is 1."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gateway.drift import bets
from gateway.drift.channel import NOT_TOLD, Channel, nominal, number, rate
from gateway.drift.layout import Layout
from gateway.drift.ranks import ranks

LAYOUT = Layout([number("n", "", "", range(1, 6)), nominal("k", "", "abcdef"), rate("r", "")])


def ranked(rows: list[tuple[int, int, int]], draws: np.ndarray) -> np.ndarray:
    """The ranks of answers that come one after the other: answers × channels."""
    counts = np.zeros(LAYOUT.width, np.int32)
    found = []
    for row, draw in zip(rows, draws, strict=True):
        bins, _ = LAYOUT.bins(bytes(row))
        counts[LAYOUT.first + bins] += 1
        found.append(ranks(LAYOUT, counts, bins, draw))
    return np.array(found)


def brute(rows: list[tuple[int, int, int]], draw: np.ndarray) -> list[float]:
    """The rank of the last row, by its definition."""
    found = []
    for channel, told in enumerate(LAYOUT.channels):
        column = [row[channel] for row in rows]
        scores = [-column.count(value) for value in column] if told.kind == "nominal" else column
        above = sum(score > scores[-1] for score in scores)
        equal = sum(score == scores[-1] for score in scores)
        found.append((above + draw[channel] * equal) / len(column))
    return found


ROWS = st.lists(st.tuples(st.integers(0, 5), st.integers(0, 5), st.integers(0, 1)), min_size=1, max_size=40)


@given(ROWS, st.integers(0, 2**32))
def test_a_rank_is_what_its_definition_says(rows: list[tuple[int, int, int]], seed: int) -> None:
    draws = np.random.default_rng(seed).random((len(rows), 3))
    assert ranked(rows, draws)[-1] == pytest.approx(brute(rows, draws[-1]))


@pytest.mark.parametrize("law", ["many values", "few values", "one value"])
def test_ranks_are_uniform_and_independent(law: str) -> None:
    random = np.random.default_rng(5)
    size = {"many values": 6, "few values": 2, "one value": 1}[law]
    rows = [
        (int(random.integers(size)), min(int(random.geometric(0.5)) - 1, size - 1), 0) for _ in range(20_000)
    ]
    found = ranked(rows, random.random((len(rows), 3)))
    for column in found.T:
        # Kolmogorov: above 1.95 / sqrt(n) once in a thousand; correlation above 3.3 / sqrt(n) as often.
        distance = np.abs(np.sort(column) - np.arange(1, len(column) + 1) / len(column)).max()
        assert distance < 1.95 / np.sqrt(len(column))
        assert abs(np.corrcoef(column[1:], column[:-1])[0, 1]) < 3.3 / np.sqrt(len(column))


def test_whoever_comes_first_is_ranked_the_same_in_the_end() -> None:
    """What later answers are ranked among does not depend on the order of the earlier ones."""
    random = np.random.default_rng(1)
    rows = [tuple(int(v) for v in random.integers(0, (6, 6, 2))) for _ in range(200)]
    last, draws = (3, 2, 1), random.random((201, 3))
    shuffled = [rows[index] for index in random.permutation(200)]
    assert ranked([*rows, last], draws)[-1] == pytest.approx(ranked([*shuffled, last], draws)[-1])


@given(st.floats(1e-6, 1 - 1e-6))
@settings(max_examples=50)
def test_a_critical_bet_has_a_mean_of_one_at_every_rate(share: float) -> None:
    """Its two values weigh as much as the ranks that get them: share and 1 - share."""
    low, high = (
        bets.critical(np.array([share / 2]), np.array([share])),
        bets.critical(np.array([(1 + share) / 2]), np.array([share])),
    )
    assert share * low + (1 - share) * high == pytest.approx(np.ones_like(low))
    assert (low >= 0).all() and (high >= 0).all()


def test_fixed_bets_have_a_mean_of_one() -> None:
    grid = (np.arange(100_000) + 0.5) / 100_000
    assert bets.fixed(grid).mean(axis=0) == pytest.approx(np.ones(bets.FIXED), abs=1e-4)
    assert bets.fixed(grid).min() >= 0.2 - 1e-9


@given(st.lists(st.floats(0, 1, exclude_max=True), max_size=400))
def test_an_adaptive_bet_has_a_mean_of_one_whatever_it_has_seen(seen: list[float]) -> None:
    histograms, only = bets.fresh(1, 1), np.array([0])
    for rank in seen:
        bets.learn(histograms, only, bets.cells(np.array([rank])), 1.0)
    values = [bets.adaptive(histograms, only, np.array([cell]))[0, 0] for cell in range(bets.CELLS)]
    assert np.mean(values) == pytest.approx(1, rel=1e-4)
    assert min(values) > 0


@pytest.mark.parametrize(
    ("told", "why"),
    [
        (b"\x00", "1 bins for 3 channels"),
        (b"\x00\x00\x00\x00", "4 bins for 3 channels"),
        (b"\x06\x00\x00", "a bin that its channel has not"),
        (b"\x00\x00\x02", "a bin that its channel has not"),
    ],
)
def test_bins_that_are_none_are_refused(told: bytes, why: str) -> None:
    with pytest.raises(ValueError, match=why):
        LAYOUT.bins(told)


def test_a_channel_that_tells_nothing_is_not_counted() -> None:
    rows = np.array([[1, NOT_TOLD, 0], [NOT_TOLD, 3, 1]], np.uint8)
    counts = LAYOUT.histogram(rows)
    assert np.add.reduceat(counts, LAYOUT.first).tolist() == [1, 1, 2]


@pytest.mark.parametrize("bins", [1, 65])
def test_a_channel_has_2_to_64_bins(bins: int) -> None:
    with pytest.raises(ValueError, match=f"has {bins} bins"):
        Channel("x", "nominal", "", cells=tuple(map(str, range(bins))))


def test_a_number_falls_between_its_edges() -> None:
    channel = number("n", "", "", [0.5, 2.0])
    assert [channel.bin_of(value) for value in (-1, 0.5, 1.9, 2.0, 1e9)] == [0, 1, 1, 2, 2]
    assert [channel.middle(index) for index in range(3)] == [0.5, 1.25, 2.0]
