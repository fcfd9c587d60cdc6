"""What is known of one target's answers to one suite: the earlier ones, and the test of them all."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from gateway.drift.compare import LONGEST_CHARS, Comparing
from gateway.drift.golden import Golden
from gateway.drift.probing import ALARM_ARL, Account, Answers, agreements, draw_of

_ALARM = 6.0
assert 10**_ALARM == ALARM_ARL


@dataclass(frozen=True, slots=True)
class Verdict:
    """One answer: whether it is as expected (None: nothing is), how far it agrees with the earlier ones on
    the mean (None: there are none yet), and its rank among them (None: too few yet)."""

    passes: bool | None
    agreement: float | None
    rank: float | None


@dataclass(slots=True)
class Probed:
    """The state of one (suite, target)."""

    account: Account = field(default_factory=Account)
    answers: dict[str, Answers] = field(default_factory=dict)
    latest: dict[str, Verdict] = field(default_factory=dict)
    """By prompt: of the last answer."""
    shard: int = 0
    """The one that is asked next."""
    due_s: float | None = None
    """When: a time of the day. None: not planned yet."""
    asked: int = 0
    alarm: dict[str, Any] | None = None
    """The one that stands."""

    def judge(
        self,
        prompt: Golden,
        text: str,
        at_s: float,
        *,
        comparing: Comparing,
        repeats: int,
        seed: int,
        settings: tuple[object, ...],
    ) -> Verdict:
        """One answer at a time of the day. It is judged once there are `repeats` earlier ones made with the
        same `settings`, and is one of the earlier ones from then on, unless an alarm stands."""
        text = text[:LONGEST_CHARS]
        made_for = prompt.print_with(*settings)
        known = self.answers.get(prompt.id)
        if known is None or known.made_for != made_for:
            known = self.answers[prompt.id] = Answers(made_for)
        found = agreements(known, text, lambda one, other: comparing.agreement(prompt, one, other))
        count, rank, agreement = known.count, None, None
        if count:
            agreement = sum(times * agreed for times, agreed in zip(known.times, found, strict=True)) / count
        if count >= repeats:
            rank = known.rank(found, draw_of(seed, prompt.id, self.asked))
            if self.alarm is None:
                self.account.stake(rank, at_s)
        if self.alarm is None:
            known.add(text, found)
        self.asked += 1
        verdict = self.latest[prompt.id] = Verdict(comparing.passes(prompt, text), agreement, rank)
        return verdict

    def keep_to(self, prompts: Mapping[str, Golden]) -> None:
        """Forgets prompts that are asked no more."""
        for name in self.answers.keys() - prompts.keys():
            del self.answers[name]
        for name in self.latest.keys() - prompts.keys():
            del self.latest[name]

    @property
    def evidence(self) -> float:
        """log10; passes 6 once in a million answers while nothing changes."""
        return self.account.log10_evidence

    @property
    def is_changed(self) -> bool:
        """Whether the evidence is an alarm's."""
        return self.evidence >= _ALARM

    def oddest(self, most: int = 5) -> list[str]:
        """The prompts whose last answers are least like the earlier ones."""
        ranked = [(verdict.rank, name) for name, verdict in self.latest.items() if verdict.rank is not None]
        return [name for _, name in sorted(ranked)[:most]]

    def pass_ratio(self) -> float | None:
        """Of the last answers to prompts with an expected answer."""
        told = [verdict.passes for verdict in self.latest.values() if verdict.passes is not None]
        return sum(told) / len(told) if told else None

    def agreement_ratio(self) -> float | None:
        """The mean of the last answers' agreement with the earlier ones."""
        told = [verdict.agreement for verdict in self.latest.values() if verdict.agreement is not None]
        return sum(told) / len(told) if told else None

    def forget(self) -> None:
        """Learns anew: what answers are like now is what later ones are compared with."""
        self.account, self.answers, self.latest, self.alarm = Account(), {}, {}, None

    def as_json(self) -> dict[str, Any]:
        """Plain values."""
        return {
            "account": self.account.as_json(),
            "answers": {name: answers.as_json() for name, answers in self.answers.items()},
            "latest": {
                name: [verdict.passes, verdict.agreement, verdict.rank]
                for name, verdict in self.latest.items()
            },
            "shard": self.shard,
            "due_s": self.due_s,
            "asked": self.asked,
            "alarm": self.alarm,
        }

    @classmethod
    def from_json(cls, told: Mapping[str, Any]) -> Probed:
        """From `as_json`."""
        return cls(
            Account.from_json(told["account"]),
            {name: Answers.from_json(answers) for name, answers in told["answers"].items()},
            {name: Verdict(*verdict) for name, verdict in told["latest"].items()},
            told["shard"],
            told["due_s"],
            told["asked"],
            told["alarm"],
        )
