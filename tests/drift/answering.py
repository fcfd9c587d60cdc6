"""A model that is not deterministic, for tests of probes: texts whose agreement is that of real ones."""

from __future__ import annotations

from random import Random


class Law:
    """How a model answers one prompt: its usual opening or another, then six of its sentences.

    The defaults give the agreement that GPT-4's answers to open questions have with a rerun of themselves
    (drift.md 4.7): the first 40 characters in 35 % of pairs, word triples .167; `changed`, that of 0314 with
    0613: 11 % and .095.
    """

    def __init__(self, random: Random, name: str, sentences: int = 19) -> None:
        self._random = random
        self._name = name
        self._usual = random.betavariate(1.2, 1.1)
        self._opening = self._words(8)
        self._sentences = [self._words(10) for _ in range(sentences)]

    def changed(self) -> Law:
        """The law of another version: its usual opening is rarer, and three sentences in ten are others."""
        other = Law(self._random, self._name, len(self._sentences))
        other._opening, other._usual = self._opening, self._usual * 0.32
        kept = [old if self._random.random() < 0.68 else self._words(10) for old in self._sentences]
        other._sentences = kept
        return other

    def answer(self) -> str:
        """One answer."""
        is_usual = self._random.random() < self._usual
        opening = self._opening if is_usual else self._words(8)
        return ". ".join((opening, *self._random.sample(self._sentences, 6)))

    def _words(self, count: int) -> str:
        return " ".join(f"{self._name}{self._random.randrange(10**6)}" for _ in range(count))
