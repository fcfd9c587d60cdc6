"""Which purses a call of a key needs at a target: worked out once where nothing of the call itself counts."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Protocol

from gateway.policy.snapshot import Key, Model, Target
from gateway.quota.cap import DEFAULT_OUTPUT_TOKENS
from gateway.quota.contract import MONEY, RATE, ROLLING
from gateway.quota.hold import Hold, Seat, Seats
from gateway.quota.purse import (
    AMOUNTS,
    LIKELY_INPUT,
    LIKELY_NANOUSD,
    LIKELY_OUTPUT,
    LIKELY_TOKENS,
    NANOUSD,
    ONE,
    Purse,
)
from gateway.quota.rule import Rule
from gateway.quota.subject import OTHER, Caller, subjects, user_of
from gateway.quota.window import window

UNCOUNTED: tuple[int, ...] = (1,) + (0,) * (AMOUNTS - 1)
"""The amounts of a call of which only requests and calls at once count."""
if TYPE_CHECKING:
    from gateway.quota.need import Guess

_COUNTS_INPUT = frozenset({"tokens", "input_tokens", "usd"})

_LIKELY = frozenset({LIKELY_INPUT, LIKELY_NANOUSD, LIKELY_OUTPUT, LIKELY_TOKENS})


MOST_ALIKE = 1024
"""Plans of users and tags that are kept."""


class Plan:
    """The purses of one kind of call. `until_ms`: the plan holds until then (a window ends)."""

    __slots__ = (
        "attempts",
        "default_output",
        "first",
        "guess",
        "guesses",
        "guesses_money",
        "has_money",
        "is_measured",
        "is_strict",
        "kept",
        "must_price",
        "refuses_unbounded",
        "requests",
        "tells_rates",
        "tokens",
        "told",
        "told_until_s",
        "until_ms",
        "writes_cap",
    )

    def __init__(self, seats: Sequence[tuple[Rule, Seat]], until_ms: float) -> None:
        # What is counted once for a call, whatever becomes of its attempts.
        calls = [seat for rule, seat in seats if is_by_call(rule)]
        self.attempts = Seats(seat for rule, seat in seats if not is_by_call(rule))
        self.first = Seats((*calls, *self.attempts.all))
        slots = Seats(seat for seat in calls if seat[0].has_slots)
        self.kept = Hold(slots, UNCOUNTED, -1) if slots.all else None
        """What of the first hold is kept until the call ends: of all calls the same."""
        self.until_ms = until_ms
        places = {place for _, (_, place) in seats}
        self.is_measured = bool(places - {ONE})
        """True if the call must be measured: tokens or money count."""
        self.guesses = any(place in _LIKELY for place in places)
        """True if something holds an estimate."""
        self.guesses_money = LIKELY_NANOUSD in places
        told = [
            purse for rule, (purse, _) in seats if rule.kind == RATE and not (rule.attempts or rule.is_shadow)
        ]
        self.requests = tuple(purse for purse in told if purse.at_once)
        """Rates of the caller, of which its answers tell what is left."""
        self.tokens = tuple(purse for purse in told if not purse.at_once)
        self.tells_rates = bool(told)
        self.told, self.told_until_s = b"", 0.0
        """What answers tell of them, and until when."""
        self.guess: Guess | None = None
        """What is learned of the target; whoever measures a call sets it."""
        enforced = [rule for rule, _ in seats if not rule.is_shadow]
        budgets = [rule for rule in enforced if rule.is_money]
        self.has_money = bool(places & {NANOUSD, LIKELY_NANOUSD})
        self.writes_cap = any(rule.measure not in ("requests", "concurrent") for rule in enforced)
        """True if the output cap goes into the body: a cap that is only assumed is no bound."""
        self.must_price = any(rule.unpriced == "refuse" for rule in budgets)
        strict = [rule for rule in enforced if rule.strict and rule.measure in _COUNTS_INPUT]
        self.is_strict = bool(strict)
        """True if its input must be bounded."""
        self.refuses_unbounded = any(rule.unbounded == "refuse" for rule in strict)
        self.default_output = min(
            (rule.default_output_tokens for rule in budgets), default=DEFAULT_OUTPUT_TOKENS
        )

    def rule_of(self, bucket: str) -> Rule | None:
        """The rule of one of its buckets."""
        return next((purse.rule for purse, _ in self.first if purse.bucket == bucket), None)


def is_by_call(rule: Rule) -> bool:
    """True for what counts calls and not attempts: requests and calls at once, unless it looks at targets."""
    return not rule.attempts and rule.measure in ("requests", "concurrent")


class Keeps(Protocol):
    """Where purses are kept: `quota.purses.Purses`, or `quota.level.Levels` for who only asks."""

    def purse(self, bucket: str, make: Callable[[], Purse]) -> Purse: ...
    def place(self, purse: Purse, part: int) -> None: ...


class Planner:
    """Makes plans for one policy."""

    def __init__(self, purses: Keeps, stamp: int) -> None:
        self._purses = purses
        self._stamp = stamp
        self.known: dict[tuple[Key, Model, Target], Plan] = {}
        """Plans of keys whose calls are all alike, each until its `until_ms`."""
        self._static: dict[Key, bool] = {}
        self._alike: dict[tuple[object, ...], Plan] = {}
        """Plans of other keys, by target and seats: a user seldom calls once. To make one costs 15 µs."""
        self._known: dict[tuple[str, str], set[str]] = {}
        """Subjects by rule and window, of rules per user or tag."""
        self._wall_ms = 0

    def plan(
        self,
        key: Key,
        model: Model,
        target: Target,
        caller: Caller,
        document: Mapping[str, object],
        wall_ms: int,
    ) -> Plan:
        """What a call needs at a target. `document`: its body, for its user.

        Raises `link.journal.JournalFull` for the 65,537th account.
        """
        known = self.known.get((key, model, target))
        if known is not None and wall_ms < known.until_ms:
            return known
        # The day's clock may step back; windows do not begin again for that.
        self._wall_ms = wall_ms = max(wall_ms, self._wall_ms)
        user = user_of(document)
        seats: list[tuple[Rule, Seat]] = []
        for rule in key.rules:
            name = target.name if rule.attempts else ""
            found = subjects(rule, caller, model.name, name, user)
            # Tags beyond the most are one, of which a call is counted once.
            for purse in dict.fromkeys(self._purse(rule, subject, wall_ms) for subject in found):
                seats.append((rule, (purse, purse.need_at)))
        until_ms = min((purse.part_ends_ms() for _, (purse, _) in seats), default=math.inf)
        is_static = self._static.get(key)
        if is_static is None:
            is_static = self._static[key] = all(rule.is_static for rule in key.rules)
        if is_static:
            made = self.known[key, model, target] = Plan(seats, until_ms)
            return made
        index = (target, *seats)
        alike = self._alike.get(index)
        if alike is None or alike.until_ms != until_ms:
            if len(self._alike) >= MOST_ALIKE:
                self._alike.clear()
            alike = self._alike[index] = Plan(seats, until_ms)
        return alike

    def _purse(self, rule: Rule, subject: str, wall_ms: int) -> Purse:
        until_ms, name = math.inf, ""
        if rule.kind == MONEY:
            name, _, ends_ms = window(rule.every, rule.timezone, wall_ms)
            until_ms = float(ends_ms)
        elif rule.kind == ROLLING:
            name = "rolling"
        if not rule.is_static:
            subject = self._told_apart(rule, subject, name)
        bucket = f"{rule.name}|{subject}|{name}"
        terms = rule.terms(self._stamp)

        def make() -> Purse:
            made = Purse.of(bucket, rule, terms, until_ms)
            made.part = made.part_at(wall_ms)
            return made

        purse = self._purses.purse(bucket, make)
        if purse.rule is not rule:
            purse.take_rule(rule)
        self._purses.place(purse, purse.part_at(wall_ms))
        return purse

    def _told_apart(self, rule: Rule, subject: str, name: str) -> str:
        """Beyond `max_subjects` users (or tags) are one."""
        known = self._known.get((rule.name, name))
        if known is None:
            # Of windows that ended nobody asks again.
            self._known = {at: kept for at, kept in self._known.items() if at[0] != rule.name}
            known = self._known[rule.name, name] = set()
        if subject in known:
            return subject
        if len(known) < rule.max_subjects:
            known.add(subject)
            return subject
        parts = [part.split("=", 1) for part in subject.split(",")]
        return ",".join(f"{what}={OTHER if what in ('user', 'tag') else whom}" for what, whom in parts)
