"""One purse: what a worker was given of one bucket and has not used, held or returned.

A purse is shut until the store opens it: then it may keep a slice and what its calls give back. What is shut
is exact: each call asks for its need, and what it leaves goes straight back.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import NamedTuple

from gateway.quota.contract import RATE, ROLLING, SLICES, SLOTS, Refusal, Terms
from gateway.quota.rule import Rule
from gateway.quota.share import Share

ONE = 0
TOKENS, INPUT_TOKENS, OUTPUT_TOKENS = 1, 2, 3
LIKELY_TOKENS, LIKELY_INPUT, LIKELY_OUTPUT = 4, 5, 6
NANOUSD, LIKELY_NANOUSD = 7, 8
"""Places in a call's amounts: what it needs of a bucket, as the most it may take or as an estimate."""
AMOUNTS = 9

_MOST = {"tokens": TOKENS, "input_tokens": INPUT_TOKENS, "output_tokens": OUTPUT_TOKENS, "usd": NANOUSD}
_LIKELY = {
    "tokens": LIKELY_TOKENS,
    "input_tokens": LIKELY_INPUT,
    "output_tokens": LIKELY_OUTPUT,
    "usd": LIKELY_NANOUSD,
}
_SPENT = {"tokens": 0, "input_tokens": 1, "output_tokens": 2, "usd": 3}


class Spent(NamedTuple):
    """What an attempt consumed, by the place that a purse's `measure` names."""

    tokens: int
    input_tokens: int
    output_tokens: int
    nanousd: int


UNUSED = Spent(0, 0, 0, 0)

FLOOR_SHIFT = 10
"""A purse may hold limit / 1,024 though nobody asked in the last second: hits rise from 79 to 90 %."""
LOW_WATER = 4
"""More is asked for when a purse falls below this part of its target: 232 trips per 1,000 calls become 40."""
_DECAY = math.exp(-0.1)
"""Of the demand, in a tick of 100 ms: it remembers a second."""


@dataclass(slots=True, eq=False)
class Purse:
    """A purse. `returned` and its accounts' use are sums over the worker's epoch."""

    bucket: str
    rule: Rule
    terms: Terms
    until_ms: float = math.inf
    """Its calendar window's end: nothing is taken from it after that."""
    balance: int = 0
    """May be below 0 by what calls used beyond their holds; never by more than is held."""
    held: int = 0
    lent: int = 0
    """Held by calls that were let through though the store could not be asked."""
    share: Share | None = None
    """Of the bucket, for as long as the store cannot be asked; `own_share` makes it."""
    returned: int = 0
    is_open: bool = False
    opened: int = 0
    """The number of the last answer that opened it."""
    recalled: int = 0
    """That of the last recall: answers up to it, which it overtook, do not open it."""
    is_named: bool = False
    """True once the store was told its terms."""
    need_at: int = ONE
    measure: int = 0
    at_once: bool = False
    """Requests are used when they are taken: nothing of them is held."""
    has_slots: bool = False
    is_money: bool = False
    is_rate: bool = False
    is_wall: bool = False
    """The most that a call can take is held, and no call goes out without it."""
    accounts: dict[int, int] = field(default_factory=dict)
    """Part of a rolling window (else 0) → where the journal counts its use."""
    account: int = -1
    """The account of holds that are taken now."""
    part: int = 0
    asked: int = 0
    """Taken since the last tick."""
    demand: float = 0.0
    """What was taken in the last second."""
    typical: float = 0.0
    """The running mean of needs."""
    low: int = 0
    is_active: bool = False
    dry_until_s: float = 0.0
    dry_need: int = 0
    refusal: Refusal | None = None
    """The last one that the store gave."""
    level: float = 0.0
    """Rates: what there was in all, as far as this worker can know, at `level_s` (0: nobody asked yet)."""
    level_s: float = 0.0
    seen: int = 0
    """What had been consumed then by this worker's calls."""
    busy_s: float = 0.0
    """Slots: how long a call keeps one, the running mean."""
    told_returned: int = 0
    told_held: int = 0
    """What the store takes for held."""

    @classmethod
    def of(cls, bucket: str, rule: Rule, terms: Terms, until_ms: float) -> Purse:
        """A new one, shut and empty."""
        purse = cls(bucket, rule, terms, until_ms)
        purse.take_rule(rule)
        return purse

    def take_rule(self, rule: Rule) -> None:
        """The rule as the policy in force has it."""
        self.rule = rule
        self.need_at = (_MOST if rule.strict else _LIKELY).get(rule.measure, ONE)
        self.measure = _SPENT.get(rule.measure, 0)
        self.at_once = rule.measure == "requests"
        self.has_slots = rule.kind == SLOTS
        self.is_money = rule.is_money
        self.is_rate = rule.kind == RATE
        self.is_wall = rule.strict and not rule.is_shadow

    def own_share(self, owners: int, now_s: float) -> Share:
        """Its share of the bucket, as one of `owners`, by the terms in force."""
        if self.share is None or self.share.terms != self.terms:
            self.share = Share(self.terms, owners, now_s)
        return self.share.at(now_s)

    def part_at(self, wall_ms: int) -> int:
        """The part of a rolling window that a moment is in, never one before the last; 0 for others."""
        if self.terms.kind != ROLLING:
            return 0
        return max(self.part, wall_ms * SLICES // self.terms.window_ms)

    def part_ends_ms(self) -> float:
        """When the account of its holds changes."""
        if self.terms.kind != ROLLING:
            return self.until_ms
        return -(-(self.part + 1) * self.terms.window_ms // SLICES)

    def name_of(self, part: int) -> str:
        """The account of a part."""
        return f"{self.bucket}#{part}" if self.terms.kind == ROLLING else self.bucket

    def opens(self, seq: int) -> bool:
        """An answer has a slice for it: it is open, unless a recall overtook that answer."""
        if seq <= self.recalled:
            return False
        self.is_open, self.opened, self.low = True, seq, self.target() // LOW_WATER
        return True

    def heed(self, seq: int) -> bool:
        """A recall came of what answers up to `seq` gave. False if a later one has opened it: it is not
        meant."""
        if self.opened > seq:
            return False
        self.recalled = max(seq, self.recalled)
        return True

    def target(self) -> int:
        """What it would like to have: the demand of a second, and at least a thousandth of the limit."""
        return max(int(self.demand) + self.asked, self.terms.most >> FLOOR_SHIFT, 1)

    def remaining(self, consumed: int, owners: int, now_s: float) -> int:
        """Rates: what the bucket still has, as far as we can know: it refills, and each of `owners` takes
        from it as much as we do (`consumed`, in all). No less than what we have ourselves."""
        terms, level = self.terms, self.level
        burst = terms.burst
        if self.level_s:
            level += (now_s - self.level_s) * 1000 * terms.limit / terms.window_ms
        else:
            level = float(burst)
        level -= (consumed - self.seen) * owners
        if level > burst:
            level = burst
        self.level, self.level_s, self.seen = level, now_s, consumed
        balance = self.balance if self.balance < burst else burst
        return max(0, int(level), balance)

    def note(self, need: int) -> None:
        """A call needs so much."""
        self.asked += need
        self.typical += (need - self.typical) / 8 if self.typical else need

    def decay(self) -> None:
        """A tenth of a second has passed."""
        self.demand = self.demand * _DECAY + self.asked
        self.asked = 0
        self.low = self.target() // LOW_WATER if self.is_open else 0

    def excess(self) -> int:
        """What it has beyond what it can use: more than twice its target. All of it where not even one call
        fits into the target."""
        target = self.target()
        if self.balance <= 2 * target + self.typical:
            return 0
        return self.balance if target < self.typical and self.demand < 1 else self.balance - target
