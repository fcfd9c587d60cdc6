"""What passes as an answer to a golden prompt, and what counts as the same answer."""

from __future__ import annotations

from typing import Any

import pytest

from gateway.drift.compare import Comparing, jaccard3, prefix40
from gateway.drift.golden import Comparator, Golden

COMPARING = Comparing(lambda text: "can't" in text, lambda value, schema: isinstance(value, dict))

PASSES: list[tuple[Comparator, Any, str, bool]] = [
    ("exact", "Lima", "Lima", True),
    ("exact", "Lima", " **lima**.\n", True),
    ("exact", "Lima", '"Lima."', True),
    ("exact", "Lima", "The capital is Lima", False),
    ("exact", "Lima", "", False),
    ("numeric", 1234, "1,234", True),
    ("numeric", 1234, "The result is 1234.", True),
    ("numeric", 42, "6 times 7 is 42", True),
    ("numeric", 42, "42 is 6 times 7", False),
    ("numeric", -3, "-3", True),
    ("numeric", 0.5, "0.5001", False),
    ("numeric", 42, "forty-two", False),
    ("json_equal", {"a": [1, 2]}, '```json\n{"a": [1, 2.0]}\n```', True),
    ("json_equal", {"a": 1, "b": 2}, '{"b": 2, "a": 1}', True),
    ("json_equal", {"a": 1}, '{"a": true}', False),
    ("json_equal", [1, 2], "[2, 1]", False),
    ("json_equal", {"a": 1}, 'Here it is: {"a": 1}', False),
    ("regex", r"[A-Z]{3}-\d+", "ABC-12\n", True),
    ("regex", r"[A-Z]{3}-\d+", "It is ABC-12", False),
    ("regex", r"- .+\n- .+", "- a\n- b", True),
    ("schema_valid", {}, '{"a": 1}', True),
    ("schema_valid", {}, "[1]", False),
    ("schema_valid", {}, "no json", False),
    ("refusal", True, "I can't help with that.", True),
    ("refusal", False, "I can't help with that.", False),
    ("refusal", False, "Of course.", True),
]


@pytest.mark.parametrize(("comparator", "expected", "answer", "passes"), PASSES)
def test_answer_passes(comparator: Comparator, expected: Any, answer: str, passes: bool) -> None:
    assert COMPARING.passes(Golden("x", "?", comparator, expected), answer) is passes


def test_tolerance_is_of_numbers() -> None:
    prompt = Golden("x", "?", "numeric", 3.14, tolerance=0.01)
    assert COMPARING.passes(prompt, "3.1416") and not COMPARING.passes(prompt, "3.2")


def test_free_text_neither_passes_nor_fails() -> None:
    assert COMPARING.passes(Golden("x", "?", "similar"), "anything") is None


AGREE: list[tuple[Comparator, str, str, float]] = [
    ("exact", "Lima", "lima.", 1),
    ("exact", "Lima", "Quito", 0),
    ("numeric", "it is 4", "4", 1),
    ("numeric", "4", "5", 0),
    ("numeric", "four", "Four.", 1),
    ("numeric", "four", "4", 0),
    ("json_equal", "[1]", "[ 1 ]", 1),
    ("json_equal", "[1]", "none", 0),
    ("json_equal", "none", "nothing", 0),
    ("regex", "aa", "bb", 0.5),
    ("regex", "aa", "- b", 0),
    ("refusal", "I can't do that", "I can't do that, sorry to say", 0.5 + 0.25 * 3 / 6),
    ("refusal", "I can't", "Certainly", 0),
    ("similar", "one two three four", "one two three five", 0.5 / 3),
    ("similar", "same", "same", 1),
]


@pytest.mark.parametrize(("comparator", "one", "other", "agreement"), AGREE)
def test_answers_agree(comparator: Comparator, one: str, other: str, agreement: float) -> None:
    prompt = Golden("x", "?", comparator, r"\w+" if comparator == "regex" else True)
    assert COMPARING.agreement(prompt, one, other) == pytest.approx(agreement)
    assert COMPARING.agreement(prompt, other, one) == pytest.approx(agreement)
    assert COMPARING.agreement(prompt, one, one) == 1


def test_first_forty_characters_are_compared_whatever_the_white_space() -> None:
    start = "The quick brown fox jumps over the lazy dog"
    assert prefix40(f"{start}, twice", "The  quick\nbrown fox jumps over the lazy dog?")
    assert not prefix40(start, start.replace("quick", "slow"))


def test_word_triples_do_not_hear_punctuation_or_case() -> None:
    assert jaccard3("One, two; three.", "one TWO three") == 1
    assert jaccard3("", "") == 1
    assert jaccard3("", "one") == 0
    assert jaccard3("one two three four", "two three four five") == pytest.approx(1 / 3)
    assert jaccard3("one two", "one two") == 1 and jaccard3("one two", "one") == 0


@pytest.mark.parametrize(
    "junk", ["", "\x00", "[" * 5000, "[" * 300 + "]" * 300, "9" * 5000, "```\n```", "\ud800", "é" * 100_000]
)
def test_junk_is_compared_too(junk: str) -> None:
    for comparator, expected, answer, _ in PASSES:
        prompt = Golden("x", "?", comparator, expected)
        COMPARING.passes(prompt, junk)
        assert 0 <= COMPARING.agreement(prompt, junk, answer) <= 1
