"""Whether a target still answers golden prompts as it did: ranks of agreement, and one test of them all.

A new answer to a prompt is compared with the earlier ones: is it less like them than they are like one
another? Its rank among them by agreement, ties broken at random, is uniform on (0, 1) and independent of all
earlier ranks as long as answers are exchangeable, however much a model varies of itself and however few the
earlier answers are (conformal prediction; Vovk, Gammerman and Shafer 2005, theorem 8.1): so no answer is
thrown away for calibration, and five are enough to begin with. All ranks of a (suite, target) go through one
Shiryaev-Roberts e-detector: R ← (R + 1) · e for each of a few fixed bets; evidence is the mean of their R.
While nothing changes its mean after t answers is t, so at a threshold of 10^6 the mean number of answers to a
false alarm is 10^6 at least, however often one looks (Shin, Ramdas and Rinaldo 2022).
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from hashlib import blake2b
from typing import Any

ALARM_ARL = 1e6
"""Mean number of answers between two false alarms, at least: at 600 answers a day 4.5 years."""
MOST_ANSWERS = 100
"""That are kept of a prompt, and compared with. From then on the reference stays as it is: with 100 prompts
that is one of 10,000 answers, of which the false alarms are few but no longer bounded by theory."""

_LOW = (0.02, 0.06, 1 / 6, 1 / 3, 0.5)
_HIGH = 0.8
_SLOPES = (0.3, 0.6, 0.9)
BETS = 2 * len(_LOW) + len(_SLOPES) + 1
_LOG_BETS = math.log(BETS)
_GRAIN = 9
"""Digits to which agreements are the same: sums of floats in another order are."""


def bets(rank: float) -> list[float]:
    """What each bet returns for one rank; the mean of each over (0, 1) is 1. Most bet that answers agree less
    than they did: ranks crowd near 0 (a few wholly other answers) or lean that way (all a little). One bets
    that they agree more, as of a model that was made to repeat itself."""
    found = [1 - stake + (stake / low if rank < low else 0.0) for low in _LOW for stake in (0.3, 0.8)]
    found += [1 + slope * (1 - 2 * rank) for slope in _SLOPES]
    found.append(0.7 + (0.3 / (1 - _HIGH) if rank >= _HIGH else 0.0))
    return found


@dataclass(slots=True)
class Answers:
    """The earlier answers to one prompt: distinct texts, how often each came, and the sum of each one's
    agreement with all. `made_for` is `Golden.print_with`."""

    made_for: str
    texts: list[str] = field(default_factory=list)
    times: list[int] = field(default_factory=list)
    sums: list[float] = field(default_factory=list)

    @property
    def count(self) -> int:
        """Of all."""
        return sum(self.times)

    def rank(self, agreements: Sequence[float], draw: float) -> float:
        """The rank of a new answer, from its agreement with each of `texts`: near 0 if it is less like the
        others than they are like one another."""
        count = self.count
        own = round(math.fsum(t * a for t, a in zip(self.times, agreements, strict=True)) / count, _GRAIN)
        below, equal = 0, 1
        for times, total, agreed in zip(self.times, self.sums, agreements, strict=True):
            score = round((total - 1 + agreed) / count, _GRAIN)
            below += times * (score < own)
            equal += times * (score == own)
        return (below + draw * equal) / (count + 1)

    def is_among(self, agreements: Sequence[float]) -> bool:
        """Whether a new answer is as much like the others as the least like of them is."""
        return self.rank(agreements, 1.0) * (self.count + 1) > 1.5

    def add(self, text: str, agreements: Sequence[float]) -> None:
        """Takes an answer among the earlier ones, unless there are enough."""
        if self.count >= MOST_ANSWERS:
            return
        total = 1.0
        for at, agreed in enumerate(agreements):
            self.sums[at] += agreed
            total += self.times[at] * agreed
        if text in self.texts:
            self.times[self.texts.index(text)] += 1
        else:
            self.texts.append(text)
            self.times.append(1)
            self.sums.append(total)

    def as_json(self) -> dict[str, Any]:
        """Plain values."""
        return {"for": self.made_for, "texts": self.texts, "times": self.times, "sums": self.sums}

    @classmethod
    def from_json(cls, told: Mapping[str, Any]) -> Answers:
        """From `as_json`."""
        return cls(told["for"], list(told["texts"]), list(told["times"]), list(told["sums"]))


@dataclass(slots=True)
class Account:
    """The sequential test of one (suite, target), in natural logarithms. `won` is R of each bet, `since`
    that of T: T ← (T + time) · e, so that T / R is the mean of the start times that paid."""

    won: list[float] = field(default_factory=lambda: [-math.inf] * BETS)
    since: list[float] = field(default_factory=lambda: [-math.inf] * BETS)
    ranks: int = 0

    def stake(self, rank: float, at_s: float) -> None:
        """One rank, of an answer at this time of the day."""
        self.ranks += 1
        log_time = math.log(at_s)
        for at, value in enumerate(bets(rank)):
            gained = math.log(value)
            self.won[at] = _log_sum(self.won[at], 0.0) + gained
            self.since[at] = _log_sum(self.since[at], log_time) + gained

    @property
    def log10_evidence(self) -> float:
        """Decimal logarithm of the mean of all R; 0 for less than 1."""
        return max(0.0, (_log_sum(*self.won) - _LOG_BETS) / math.log(10))

    def since_s(self) -> float:
        """When the change was, by what paid most."""
        best = max(range(BETS), key=lambda at: self.won[at])
        return math.exp(self.since[best] - self.won[best])

    def as_json(self) -> dict[str, Any]:
        """Plain values; an account that holds nothing is null."""
        empty = [None if value == -math.inf else value for value in (*self.won, *self.since)]
        return {"won": empty[:BETS], "since": empty[BETS:], "ranks": self.ranks}

    @classmethod
    def from_json(cls, told: Mapping[str, Any]) -> Account:
        """From `as_json`; a new one if other bets were made then."""
        if len(told["won"]) != BETS:
            return cls()
        won, since = (
            [-math.inf if value is None else float(value) for value in told[name]]
            for name in ("won", "since")
        )
        return cls(won, since, int(told["ranks"]))


def round_p(ranks: Sequence[float]) -> float:
    """The p-value of one round by itself: how likely so low a mean of so many uniform ranks is. Of a dozen
    ranks on the normal law serves for their sum (at p = 0.001 it errs by a tenth on the safe side)."""
    if not ranks:
        return 1.0
    z = (0.5 - math.fsum(ranks) / len(ranks)) * math.sqrt(12 * len(ranks))
    return 0.5 * math.erfc(z / math.sqrt(2))


def draw_of(seed: int, *what: object) -> float:
    """The number from [0, 1) that breaks ties: it depends on nothing but what it is for, so a replay draws
    the same."""
    told = repr((seed, what)).encode()
    return int.from_bytes(blake2b(told, digest_size=8).digest()) / 2.0**64


Agree = Callable[[str, str], float]


def agreements(answers: Answers, text: str, agree: Agree) -> list[float]:
    """Of a new text with each of the earlier ones."""
    return [agree(text, other) for other in answers.texts]


def _log_sum(*logs: float) -> float:
    most = max(logs)
    return most if most == -math.inf else most + math.log(math.fsum(math.exp(log - most) for log in logs))
