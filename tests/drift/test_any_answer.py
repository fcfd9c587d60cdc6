"""Answers of every script, of junk and of any size: never an error, always bins."""

from __future__ import annotations

import random

import pytest

from tests.fuzz.targets_drift import Answered, any_answer


@pytest.mark.parametrize(
    "answers", [2_000, pytest.param(1_000_000, marks=[pytest.mark.proof, pytest.mark.timeout(3600)])]
)
def test_any_answer_is_read(answers: int) -> None:
    draw, target = random.Random(answers), Answered()
    for number in range(answers):
        answer = any_answer(draw)
        try:
            target.check(answer, draw)
        except Exception as error:
            raise AssertionError(f"answer {number}: {answer[:300]!r}") from error
