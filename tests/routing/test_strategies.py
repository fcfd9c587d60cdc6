"""A strategy orders a model's targets and loses none; the dice and the turn are arguments."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from typing import get_args

import pytest
from hypothesis import assume, example, given, settings
from hypothesis import strategies as st

from gateway.policy.spec import ModelSpec
from gateway.routing.strategies import STRATEGIES, priority, round_robin, weighted


@dataclass(frozen=True)
class Target:
    name: str
    weight: int = 1


def targets_of(*weights: int) -> tuple[Target, ...]:
    return tuple(Target("abcdefgh"[place], weight) for place, weight in enumerate(weights))


def order(targets: tuple[Target, ...]) -> str:
    return "".join(target.name for target in targets)


WEIGHTS = st.lists(st.integers(0, 5) | st.integers(0, 10**6), min_size=1, max_size=8)
DRAWS = st.floats(0.0, 1.0, exclude_max=True)
ALMOST_ONE = 1.0 - 2.0**-53


@settings(deadline=None)
@given(st.sampled_from(sorted(STRATEGIES)), WEIGHTS, DRAWS, st.integers(0, 2**63))
def test_no_strategy_loses_or_repeats_a_target(name: str, weights: list[int], draw: float, turn: int) -> None:
    targets = targets_of(*weights)
    ordered = STRATEGIES[name](targets, draw, turn)
    assert Counter(ordered) == Counter(targets)
    assert STRATEGIES[name](targets, draw, turn) == ordered


@pytest.mark.parametrize("draw", [0.0, 0.5, ALMOST_ONE])
@pytest.mark.parametrize("turn", [0, 1, 7])
def test_priority_is_the_order_of_the_list(draw: float, turn: int) -> None:
    assert order(priority(targets_of(0, 9, 1), draw, turn)) == "abc"


@pytest.mark.parametrize(
    ("weights", "draw", "ordered"),
    [
        ((1,), 0.9, "a"),
        ((3, 1), 0.0, "ab"),
        ((3, 1), 0.7499, "ab"),
        ((3, 1), 0.75, "ba"),
        ((3, 1), ALMOST_ONE, "ba"),
        ((1, 1, 1, 1), 0.5, "cabd"),
        ((0, 1), 0.0, "ba"),
        ((1, 0), ALMOST_ONE, "ab"),
        ((0, 2, 0, 2, 0), 0.0, "bdace"),
        ((0, 2, 0, 2, 0), 0.6, "dbace"),
        ((0, 0), 0.3, "ab"),
    ],
)
def test_lot_falls_by_weight_and_weight_0_is_the_last_resort(
    weights: tuple[int, ...], draw: float, ordered: str
) -> None:
    assert order(weighted(targets_of(*weights), draw, 0)) == ordered


@settings(deadline=None)
@given(WEIGHTS, DRAWS)
@example([1, 0, 0], ALMOST_ONE)
@example([10**6, 10**6, 0], ALMOST_ONE)
def test_target_of_weight_0_is_never_ahead_of_one_with_weight(weights: list[int], draw: float) -> None:
    assume(any(weights))
    ordered = weighted(targets_of(*weights), draw, 0)
    has_weight = [target.weight > 0 for target in ordered]
    assert has_weight == sorted(has_weight, reverse=True)


@settings(deadline=None)
@given(st.lists(st.integers(0, 20), min_size=1, max_size=6).filter(any))
def test_lots_over_the_whole_range_are_shares_by_weight(weights: list[int]) -> None:
    total = sum(weights)
    # The middle of every one of `total` equal parts of [0, 1): each target gets as many as it weighs.
    firsts = Counter(weighted(targets_of(*weights), (part + 0.5) / total, 0)[0].name for part in range(total))
    assert firsts == Counter({target.name: target.weight for target in targets_of(*weights) if target.weight})


@pytest.mark.parametrize(
    ("turn", "ordered"), [(0, "abc"), (1, "bca"), (2, "cab"), (3, "abc"), (10**12 + 1, "cab")]
)
def test_round_robin_gives_each_its_turn_and_the_others_follow(turn: int, ordered: str) -> None:
    assert order(round_robin(targets_of(1, 1, 1), 0.0, turn)) == ordered


def test_strategies_are_those_a_policy_may_name() -> None:
    assert set(STRATEGIES) == set(get_args(ModelSpec.model_fields["strategy"].annotation))
