"""An honest worker as a model: purses, holds, cumulative reports; what it was billed is the truth."""

from __future__ import annotations

import random
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from gateway.quota.contract import RATE, ROLLING, SLICES, SLOTS, Exchange, Reply, Terms, Want
from tests.stores.teller import row

STOPS_MS = 27_000
"""After so long without an answer a worker spends nothing of its purses."""


@dataclass
class Hold:
    """A call under way: what it holds, and the slice and time at which it began."""

    amounts: dict[str, int]
    accounts: dict[str, str]
    at_ms: int


@dataclass
class Worker:
    """One epoch of a worker. `truth[bucket]` sums what was really used, `uses` when it was held."""

    name: str
    epoch: int
    rules: Mapping[str, Terms]
    dice: random.Random
    truth: dict[str, int]
    uses: list[tuple[str, int, int]]
    seq: int = 0
    wants: int = 0
    got: dict[str, int] = field(default_factory=dict)
    used: dict[str, int] = field(default_factory=dict)
    told: dict[str, int] = field(default_factory=dict)
    """`used` of the last exchange that was answered."""
    returned: dict[str, int] = field(default_factory=dict)
    purse: dict[str, int] = field(default_factory=dict)
    open: set[str] = field(default_factory=set)
    holds: list[Hold] = field(default_factory=list)
    rows: list[list[Any]] = field(default_factory=list)
    sent_rows: list[list[Any]] = field(default_factory=list)
    asked: dict[int, dict[str, int]] = field(default_factory=dict)
    """Wants without an answer, or parked."""
    pending: Exchange | None = None
    answered_ms: int = 0
    sent_ms: int = 0
    ever_lost: bool = False

    def account(self, bucket: str, now_ms: int) -> str:
        terms = self.rules[bucket]
        return f"{bucket}#{now_ms * SLICES // terms.window_ms}" if terms.kind == ROLLING else bucket

    def ask(self, now_ms: int) -> Exchange:
        """The next exchange: news, often a want with what is there of it, a wish."""
        dice, self.seq = self.dice, self.seq + 1
        wants = []
        if dice.random() < 0.8:
            self.wants += 1
            needs = self.needs()
            deposit = {name: min(self.purse.get(name, 0), need) for name, need in needs.items()}
            deposit = {name: amount for name, amount in deposit.items() if amount}
            for name, amount in deposit.items():
                self.give_back(name, amount)
            wants.append(Want(self.wants, self.name, needs, deposit))
            self.asked[self.wants] = needs
        for name in list(self.purse):
            if self.purse[name] and (name not in self.open or dice.random() < 0.05):
                self.give_back(name, self.purse[name])
        self.sent_rows, self.rows, self.sent_ms = self.rows, [], now_ms
        self.pending = Exchange(
            self.name,
            self.epoch,
            self.seq,
            terms=self.rules if self.seq == 1 else {},
            used=dict(self.used),
            returned=dict(self.returned),
            rows=self.sent_rows,
            wants=wants,
            wishes={name: dice.randint(1, 120) for name in dice.sample(list(self.rules), dice.randint(0, 2))},
            held={name: self.held(name) for name in self.rules},
        )
        return self.pending

    def needs(self) -> dict[str, int]:
        """Mostly small; one in seven needs what lies in the purses of others."""
        names = self.dice.sample(list(self.rules), self.dice.randint(1, 4))
        most = self.dice.choice((4, 8, 8, 16)) if self.dice.random() < 0.85 else 300
        return {
            name: self.dice.randint(1, most if self.rules[name].kind != SLOTS else max(1, most // 40))
            for name in names
        }

    def give_back(self, bucket: str, amount: int) -> None:
        self.purse[bucket] = self.purse.get(bucket, 0) - amount
        self.returned[bucket] = self.returned.get(bucket, 0) + amount

    def held(self, bucket: str) -> int:
        return sum(hold.amounts.get(bucket, 0) for hold in self.holds)

    def gain(self, bucket: str, amount: int) -> None:
        self.got[bucket] = self.got.get(bucket, 0) + amount
        self.purse[bucket] = self.purse.get(bucket, 0) + amount

    def hear(self, reply: Reply, now_ms: int) -> None:
        """The answer to `pending` (by its number), or one for wants that were parked."""
        if reply.seq:
            if self.pending is None or self.pending.seq != reply.seq:
                return
            self.told = dict(self.pending.used)
            self.pending, self.sent_rows, self.answered_ms = None, [], self.sent_ms
        elif not self.asked.keys() & {*reply.granted, *(refusal.id for refusal in reply.refused)}:
            return  # It was told already: an exchange that was parked came twice.
        for id_ in reply.granted:
            needs = self.asked.pop(id_, None)
            if needs is not None:
                for name, need in needs.items():
                    self.gain(name, need)
                self.hold(needs, now_ms)
        for refusal in reply.refused:
            self.asked.pop(refusal.id, None)
        for given in (reply.back, reply.slices):
            for name, amount in given.items():
                self.gain(name, amount)
        self.open |= reply.slices.keys()
        self.open -= set(reply.shut)

    def hold(self, needs: Mapping[str, int], now_ms: int) -> None:
        """A call begins: its needs leave the purses. Slots, requests and tokens alike are held."""
        for name, need in needs.items():
            self.purse[name] -= need
        self.holds.append(Hold(dict(needs), {name: self.account(name, now_ms) for name in needs}, now_ms))

    def may_hold(self, needs: Mapping[str, int], now_ms: int) -> bool:
        return now_ms < self.answered_ms + STOPS_MS and all(
            name in self.open and self.purse.get(name, 0) >= need for name, need in needs.items()
        )

    def settle(self, now_ms: int) -> None:
        """A call ends: part of its hold was used, the rest goes to an open purse or back."""
        hold = self.holds.pop(self.dice.randrange(len(self.holds)))
        charges = {}
        for name, amount in hold.amounts.items():
            kind, account = self.rules[name].kind, hold.accounts[name]
            spent = 0 if kind == SLOTS else self.bill(name, self.dice.randint(0, amount), hold.at_ms)
            if spent:
                self.used[account] = self.used.get(account, 0) + spent
                if kind != RATE:
                    charges[account] = spent
            self.purse[name] = self.purse.get(name, 0) + amount - spent
            if name not in self.open:
                self.give_back(name, self.purse[name])
        if charges:
            request = f"{self.name}.{self.epoch}.{self.dice.random()}"
            self.rows.append(row(charges, request, now_ms))

    def bill(self, bucket: str, amount: int, at_ms: int) -> int:
        self.truth[bucket] = self.truth.get(bucket, 0) + amount
        self.uses.append((bucket, at_ms, amount))
        return amount

    def die(self) -> dict[str, int]:
        """Killed: what its journal holds. Of that, anything may be billed."""
        holds: dict[str, int] = {}
        for hold in self.holds:
            for name, amount in hold.amounts.items():
                account = hold.accounts[name]
                holds[account] = holds.get(account, 0) + amount
                if self.rules[name].kind != SLOTS:
                    self.bill(name, self.dice.randint(0, amount), hold.at_ms)
        return holds
