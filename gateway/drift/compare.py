"""Answers to golden prompts, compared: with what is expected, and with one another.

Two answers of one model to one prompt differ, at temperature 0 too: of a free text the first 40 characters
agree in 35 % of pairs, and the words in triples to a sixth (drift.md 4.7). So agreement is a number from 0 to
1 that is compared with the agreement among earlier answers, never with 1.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from functools import lru_cache
from typing import Any

from gateway.drift.golden import Golden

PREFIX_CHARS = 40
LONGEST_CHARS = 4_000
"""Of an answer no more is compared, or kept: 128 tokens are 600 characters."""
Refuses = Callable[[str], bool]
Fits = Callable[[Any, Any], bool]

_NUMBER = re.compile(r"[-+]?(?:\d{1,3}(?:,\d{3})+|\d+)(?:\.\d+)?(?:[eE][-+]?\d{1,3})?")
_FENCE = re.compile(r"^```[\w-]*[ \t]*\n(.*?)\n?```$", re.DOTALL)
_WORD = re.compile(r"\w+")
_NOTHING = object()
_DEPTH = 64


class Comparing:
    """The comparators of one gateway. `refuses` tells a refusal, `fits` whether a value fits a JSON
    Schema."""

    def __init__(self, refuses: Refuses, fits: Fits) -> None:
        self._refuses = refuses
        self._fits = fits

    def passes(self, prompt: Golden, answer: str) -> bool | None:
        """Whether an answer is as expected; None if nothing is (similar)."""
        match prompt.comparator:
            case "exact":
                return plain(answer) == plain(str(prompt.expected))
            case "numeric":
                found = number(answer)
                return found is not None and abs(found - prompt.expected) <= prompt.tolerance
            case "json_equal":
                return same_json(json_in(answer), prompt.expected)
            case "regex":
                return _pattern(str(prompt.expected)).fullmatch(answer.strip()) is not None
            case "schema_valid":
                value = json_in(answer)
                return value is not _NOTHING and self._fits(value, prompt.expected)
            case "refusal":
                return self._refuses(answer) is bool(prompt.expected)
            case "similar":
                return None

    def agreement(self, prompt: Golden, one: str, other: str) -> float:
        """How far two answers say the same, from 0 to 1.

        Of closed-form prompts whether they do. Where only the form is asked for half of it is the verdict,
        and half (of free text all) the words: first 40 characters and word triples, each half.
        """
        if one == other:
            return 1.0
        match prompt.comparator:
            case "exact":
                return float(plain(one) == plain(other))
            case "numeric":
                numbers = number(one), number(other)
                if None in numbers:
                    return float(numbers[0] is numbers[1] and plain(one) == plain(other))
                assert numbers[0] is not None and numbers[1] is not None
                return float(abs(numbers[0] - numbers[1]) <= prompt.tolerance)
            case "json_equal":
                values = json_in(one), json_in(other)
                if _NOTHING in values:
                    return 0.0
                return float(same_json(*values))
            case "similar":
                return words_alike(one, other)
            case _:
                is_same = self.passes(prompt, one) is self.passes(prompt, other)
                return 0.5 * is_same + 0.5 * words_alike(one, other)


def words_alike(one: str, other: str) -> float:
    """Half for the same first 40 characters, half the Jaccard index of word triples."""
    return 0.5 * prefix40(one, other) + 0.5 * jaccard3(one, other)


def prefix40(one: str, other: str) -> bool:
    """Whether the first 40 characters are the same, white space aside."""
    return _prefix(one) == _prefix(other)


def jaccard3(one: str, other: str) -> float:
    """Word triples in both, of those in either. Texts of one or two words are one triple."""
    first, second = _triples(one), _triples(other)
    either = len(first | second)
    return len(first & second) / either if either else 1.0


def plain(text: str) -> str:
    """A text without case, repeated white space, and what models put around a short answer: quotes,
    asterisks, backticks, a full stop at its end."""
    return " ".join(text.casefold().split()).strip("\"'`*“”„«» ").rstrip(".!").strip("\"'`*“”„«» ")


def number(text: str) -> float | None:
    """The last number of a text: who reasons says the result last. None if there is none."""
    found = _NUMBER.findall(text)
    return float(found[-1].replace(",", "")) if found else None


def json_in(text: str) -> Any:
    """The JSON that a text is, inside of a code fence or not; a value that equals nothing if it is none."""
    bare = text.strip()
    fenced = _FENCE.match(bare)
    try:
        return json.loads(fenced[1] if fenced else bare)
    except (ValueError, RecursionError):
        return _NOTHING


def same_json(one: Any, other: Any, depth: int = 0) -> bool:
    """JSON equality: 1 is 1.0, but neither is true; the order of members does not count. What is nested
    deeper than 64 equals nothing."""
    if depth > _DEPTH:
        return False
    if isinstance(one, bool) or isinstance(other, bool):
        return one is other
    if isinstance(one, dict) and isinstance(other, dict):
        return one.keys() == other.keys() and all(
            same_json(one[name], other[name], depth + 1) for name in one
        )
    if isinstance(one, list) and isinstance(other, list):
        return len(one) == len(other) and all(
            same_json(left, right, depth + 1) for left, right in zip(one, other, strict=True)
        )
    return bool(one == other)


def _prefix(text: str) -> str:
    return " ".join(text[: 4 * PREFIX_CHARS].split())[:PREFIX_CHARS]


@lru_cache(maxsize=4096)
def _triples(text: str) -> frozenset[tuple[str, ...]]:
    words = _WORD.findall(text[:LONGEST_CHARS].casefold())
    return (
        frozenset(tuple(words[at : at + 3]) for at in range(max(1, len(words) - 2))) if words else frozenset()
    )


_pattern = lru_cache(maxsize=1024)(lambda text: re.compile(text, re.DOTALL))
