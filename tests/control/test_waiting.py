"""Wants wait for recalls, in order, and never past their deadline."""

from __future__ import annotations

import pytest

from gateway.control.refusals import MOST, Refusals
from gateway.control.waiting import Parked, Waiting
from gateway.quota.contract import Recall, Want


def parked(number: int, *short: str, deadline_s: float = 5.0) -> Parked:
    return Parked(f"asker-{number}", 1, Want(number, "app", {}, {}), frozenset(short), deadline_s)


def numbers(due: list[Parked]) -> list[int]:
    return [each.want.id for each in due]


@pytest.fixture
def waiting() -> Waiting:
    """Want 1 waits for `a` and `b` to return a bucket."""
    waiting = Waiting()
    waiting.recall("x", Recall("a", 1, 5), 5.0)
    waiting.recall("x", Recall("b", 1, 5), 5.0)
    waiting.park(parked(1, "x"))
    return waiting


def test_want_is_due_when_all_have_answered(waiting: Waiting) -> None:
    assert waiting.told("a", 1, 6, ["x"]) and waiting.due(0.0) == []
    assert waiting.told("b", 1, 6, ["x"])
    assert numbers(waiting.due(0.0)) == [1]
    assert waiting.due(9.0) == [] and waiting.deadline_s() is None


def test_want_is_due_at_its_deadline_whoever_is_silent(waiting: Waiting) -> None:
    waiting.told("a", 1, 6, ["x"])
    assert waiting.deadline_s() == 5.0
    assert waiting.due(4.999) == []
    assert numbers(waiting.due(5.0)) == [1]


def test_only_an_exchange_that_says_so_after_the_recall_or_the_next_but_one_is_an_answer(
    waiting: Waiting,
) -> None:
    waiting.told("b", 1, 6, ["x"])
    assert not waiting.told("a", 1, 5, ["x"]), "it answers a recall before"
    assert not waiting.told("a", 1, 6, ["y"])
    assert not waiting.told("a", 1, 6, []), "what it returned had crossed the recall"
    assert not waiting.told("a", 2, 9, ["x"]), "another life counts anew"
    assert not waiting.told("c", 1, 9, ["x"])
    assert waiting.due(0.0) == []
    assert waiting.told("a", 1, 7, [])
    assert numbers(waiting.due(0.0)) == [1]


def test_later_recall_of_an_owner_takes_the_place_of_an_earlier_one(waiting: Waiting) -> None:
    waiting.told("b", 1, 6, ["x"])
    waiting.recall("x", Recall("a", 1, 8), 6.0)
    waiting.recall("x", Recall("a", 1, 7), 6.0)
    assert not waiting.told("a", 1, 8, ["x"])
    assert waiting.told("a", 1, 9, ["x"])


def test_dead_owner_is_not_waited_for(waiting: Waiting) -> None:
    waiting.told("a", 1, 6, ["x"])
    assert waiting.gone("b")
    assert numbers(waiting.due(0.0)) == [1]
    assert not waiting.gone("b")


def test_want_waits_for_a_recall_that_was_made_for_another(waiting: Waiting) -> None:
    waiting.park(parked(2, "x", deadline_s=6.0))
    waiting.told("a", 1, 6, ["x"])
    assert waiting.due(0.0) == []
    waiting.told("b", 1, 6, ["x"])
    assert numbers(waiting.due(0.0)) == [1, 2]


def test_later_want_never_overtakes_one_that_is_short_of_the_same(waiting: Waiting) -> None:
    waiting.recall("y", Recall("a", 1, 5), 6.0)
    for number, short in ((2, "xy"), (3, "y"), (4, "z")):
        waiting.park(parked(number, *short, deadline_s=6.0))
    assert numbers(waiting.due(0.0)) == [4], "nobody else waits for z"
    waiting.told("a", 1, 6, ["x", "y"])
    assert waiting.due(0.0) == [], "y is answered, but 2 is before 3 and waits for x"
    waiting.told("b", 1, 6, ["x"])
    assert numbers(waiting.due(0.0)) == [1, 2, 3]


def test_owner_that_stays_silent_is_forgotten_at_its_deadline(waiting: Waiting) -> None:
    waiting.due(5.0)
    waiting.park(parked(2, "x", deadline_s=11.0))
    assert numbers(waiting.due(6.0)) == [2], "nobody is asked any more"


def test_want_is_dropped_with_its_owner(waiting: Waiting) -> None:
    waiting.park(parked(2, "x"))
    assert len(waiting) == 2
    waiting.drop("asker-1")
    assert numbers(waiting.due(5.0)) == [2]


def test_wants_come_late_with_an_answer_that_others_wait_for(waiting: Waiting) -> None:
    wait = Parked("asker-9", 1, Want(9, "app", {"x": 1, "y": 1}, {}), frozenset("x"), 5.0)
    waiting.park(wait)
    for needs in ({"x": 1}, {"y": 1}):
        mine = [Want(3, "app", needs, {})]
        assert waiting.comes_late("a", 1, 1, [], ["x"], mine), "it returns what they wait for"
        assert waiting.comes_late("a", 1, 6, ["x"], [], mine), "it has nothing to return"
        assert waiting.comes_late("a", 1, 7, [], [], mine), "it was told by an answer"
        assert not waiting.comes_late("a", 1, 5, ["x"], [], mine), "it crossed the recall"
        assert not waiting.comes_late("c", 1, 9, ["x"], [], mine), "it was not asked"
    assert not waiting.comes_late("a", 1, 6, ["x"], [], [Want(3, "app", {"z": 1}, {})])


def test_those_who_were_refused_are_told_once_and_in_time() -> None:
    refusals = Refusals()
    for owner in ("a", "b", "late"):
        refusals.note(owner, "x", 1.0 if owner == "late" else 2.0, 0.0)
    refusals.note("a", "y", 2.0, 0.0)
    assert refusals.freed(["x"], 1.5, by="b") == {"a": ["x"]}
    assert refusals.freed(["x"], 1.5) == {}
    assert refusals.everything_freed(1.5) == {"a": ["y"]}


def test_refusals_are_bounded_and_the_newest_stay() -> None:
    refusals = Refusals()
    for number in range(MOST + 1):
        refusals.note("a", f"x{number}", 2.0, 0.0)
    told = refusals.everything_freed(1.0)["a"]
    assert len(told) == MOST // 2 and told[-1] == f"x{MOST}"
