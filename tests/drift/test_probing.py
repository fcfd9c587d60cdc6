"""What is found by asking golden prompts again, and how often it is found where nothing changed."""

from __future__ import annotations

from random import Random
from statistics import fmean

import pytest

from gateway.drift.compare import Comparing, jaccard3, prefix40
from gateway.drift.golden import Golden
from gateway.drift.probing import (
    ALARM_ARL,
    MOST_ANSWERS,
    Account,
    Answers,
    agreements,
    bets,
    draw_of,
    round_p,
)
from tests.drift.answering import Law

COMPARING = Comparing(lambda text: text.startswith("I can't"), lambda value, schema: True)
OPEN = Golden("open", "Why?", "similar")


def alike(one: str, other: str) -> float:
    return COMPARING.agreement(OPEN, one, other)


def one_round(random: Random, *, changed: bool, prompts: int = 100, repeats: int = 5) -> list[float]:
    """The ranks of the first round after a baseline."""
    ranks = []
    for number in range(prompts):
        law = Law(random, f"p{number}w")
        answers = Answers("")
        for _ in range(repeats):
            text = law.answer()
            answers.add(text, agreements(answers, text, alike))
        new = (law.changed() if changed else law).answer()
        ranks.append(answers.rank(agreements(answers, new, alike), random.random()))
    return ranks


def evidence_of(ranks: list[float]) -> float:
    account = Account()
    for at, rank in enumerate(ranks):
        account.stake(rank, 1.0 + at)
    return account.log10_evidence


def test_laws_agree_as_measured_answers_do() -> None:
    random = Random(1)
    found: dict[str, list[float]] = {"rerun40": [], "rerun3": [], "changed40": [], "changed3": []}
    for number in range(3000):
        law = Law(random, f"p{number}w")
        one, again, other = law.answer(), law.answer(), law.changed().answer()
        found["rerun40"].append(prefix40(one, again))
        found["rerun3"].append(jaccard3(one, again))
        found["changed40"].append(prefix40(one, other))
        found["changed3"].append(jaccard3(one, other))
    assert fmean(found["rerun40"]) == pytest.approx(0.354, abs=0.03)
    assert fmean(found["rerun3"]) == pytest.approx(0.167, abs=0.015)
    assert fmean(found["changed40"]) == pytest.approx(0.112, abs=0.03)
    assert fmean(found["changed3"]) == pytest.approx(0.095, abs=0.015)


def test_another_version_is_found_in_one_round_of_a_hundred_prompts() -> None:
    random = Random(2)
    rounds = [one_round(random, changed=True) for _ in range(60)]
    assert sum(round_p(ranks) < 1e-3 for ranks in rounds) >= 57
    assert sum(10 ** evidence_of(ranks) >= ALARM_ARL for ranks in rounds) >= 57


def test_rerun_of_the_same_model_is_found_in_no_more_than_one_round_in_a_thousand() -> None:
    random = Random(3)
    assert sum(round_p(one_round(random, changed=False)) < 1e-3 for _ in range(100)) <= 1
    # Ranks are uniform (below), so that the rest is arithmetic.
    rounds = ([random.random() for _ in range(100)] for _ in range(20_000))
    found = sum(round_p(ranks) < 1e-3 for ranks in rounds)
    assert found <= 20 + 3 * 20**0.5


@pytest.mark.parametrize("repeats", [1, 5, pytest.param(20, marks=pytest.mark.long)])
def test_ranks_are_uniform_however_few_the_earlier_answers_are(repeats: int) -> None:
    random = Random(4)
    ranks = one_round(random, changed=False, prompts=2000, repeats=repeats)
    for tenth in range(10):
        assert sum(rank * 10 // 1 == tenth for rank in ranks) == pytest.approx(200, abs=4 * 200**0.5)


def test_ranks_of_a_model_that_repeats_itself_to_the_letter_are_uniform() -> None:
    random = Random(5)
    answers = Answers("", ["yes"], [5], [5.0])
    ranks = [answers.rank([1.0], random.random()) for _ in range(2000)]
    assert fmean(ranks) == pytest.approx(0.5, abs=0.03)
    assert answers.rank([0.0], 0.5) < 1 / 6


@pytest.mark.parametrize("bet", range(len(bets(0.5))))
def test_mean_of_every_bet_is_one(bet: int) -> None:
    steps = 6000
    assert fmean(bets((at + 0.5) / steps)[bet] for at in range(steps)) == pytest.approx(1, abs=1e-3)


def test_no_bet_can_lose_everything() -> None:
    assert min(min(bets(at / 1000)) for at in range(1001)) > 0


def test_false_alarms_come_no_more_often_than_promised() -> None:
    random = Random(6)
    line, alarms, account = 3.0, 0, Account()
    for at in range(40_000):
        account.stake(random.random(), 1.0 + at)
        if account.log10_evidence >= line:
            alarms, account = alarms + 1, Account()
    assert alarms <= 40 + 3 * 40**0.5


def test_when_it_changed_is_told() -> None:
    random = Random(7)
    account = Account()
    for at in range(500):
        account.stake(random.random(), 1_000_000.0 + at)
    for at in range(500, 560):
        account.stake(random.random() * 0.2, 1_000_000.0 + at)
    assert account.log10_evidence > 6
    assert account.since_s() == pytest.approx(1_000_500, abs=10)


def test_state_goes_through_json_at_any_moment() -> None:
    random = Random(8)
    account, answers = Account(), Answers("x")
    for at in range(30):
        text = random.choice("abcd")
        agreed = agreements(answers, text, alike)
        if answers.count:
            account.stake(answers.rank(agreed, random.random()), 5.0 + at)
        answers.add(text, agreed)
        assert Account.from_json(account.as_json()) == account
        assert Answers.from_json(answers.as_json()) == answers


def test_earlier_answers_are_bounded_and_their_sums_are_right() -> None:
    random = Random(9)
    answers = Answers("")
    law = Law(random, "w")
    for _ in range(MOST_ANSWERS + 20):
        text = random.choice((law.answer(), "the same"))
        answers.add(text, agreements(answers, text, alike))
    assert answers.count == MOST_ANSWERS
    for text, total in zip(answers.texts, answers.sums, strict=True):
        agreed = agreements(answers, text, alike)
        assert total == pytest.approx(sum(t * a for t, a in zip(answers.times, agreed, strict=True)))


def test_answer_that_is_least_like_the_others_is_not_among_them() -> None:
    answers = Answers("")
    for text in ("one two three four five", "one two three four six", "one two three four seven"):
        answers.add(text, agreements(answers, text, alike))
    assert answers.is_among(agreements(answers, "one two three four eight", alike))
    assert not answers.is_among(agreements(answers, "wholly other words", alike))


def test_draws_depend_on_what_they_are_for_alone() -> None:
    assert draw_of(7, "core", "openai/gpt-4o", "capital", 3) == draw_of(
        7, "core", "openai/gpt-4o", "capital", 3
    )
    draws = [draw_of(7, "core", "openai/gpt-4o", "capital", tick) for tick in range(2000)]
    assert fmean(draws) == pytest.approx(0.5, abs=0.03) and len(set(draws)) == 2000
