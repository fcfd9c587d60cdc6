"""What buckets hold, as far as somebody who asks knows: by the balances of a running gateway, by what is
assumed, or full. It stands where a worker has its purses, and decides as a store does; nothing is taken.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping, Sequence

from gateway.quota.bucket import Bucket
from gateway.quota.contract import RATE, Balance, Refusal, Want
from gateway.quota.decision import DRY_MS, refuse
from gateway.quota.hold import Seats
from gateway.quota.purse import Purse
from gateway.quota.rule import Rule


class Levels:
    """Buckets at the moment `now_ms`.

    `balances`: those that are known, by the names of their buckets. `used`: of the others how much is used,
    by the name of a rule or of its entry in the policy, as an amount of its unit (nano-dollars for budgets)
    or, if it is a float, a share of the limit. What neither tells is full.
    """

    def __init__(
        self, now_ms: int, balances: Iterable[Balance] = (), used: Mapping[str, int | float] | None = None
    ) -> None:
        self.now_ms = now_ms
        self._balances = {balance.bucket: balance for balance in balances}
        self._used = used or {}
        self._purses: dict[str, Purse] = {}

    # as `quota.purses.Purses` has it for `quota.plan.Planner`

    def purse(self, bucket: str, make: Callable[[], Purse]) -> Purse:
        """The purse that stands for a bucket."""
        found = self._purses.get(bucket)
        if found is None:
            found = self._purses[bucket] = make()
        return found

    def place(self, purse: Purse, part: int) -> None:
        """Nothing is held, so there is no account to hold it in."""
        purse.part = part

    # what there is

    def bucket(self, purse: Purse) -> Bucket:
        """A bucket as a store would have it now; a new one each time, for a refusal may leave tickets."""
        told = self._balances.get(purse.bucket)
        if told is None:
            used = self.used(purse.rule)
            total = max(0, purse.terms.most - used) if purse.is_rate else purse.terms.most - used
            return Bucket(purse.bucket, purse.terms, total, self.now_ms, spent=used if purse.is_money else 0)
        # What lies idle with workers is called back before anything is refused.
        total = told.free + told.idle + told.held
        found = Bucket(purse.bucket, told.terms, total, self.now_ms, out=told.held, spent=told.spent)
        if purse.terms.stamp >= told.terms.stamp:
            found.edit(purse.terms)
        return found

    def used(self, rule: Rule) -> int:
        """What is assumed to be used of a rule's buckets."""
        assumed = self._used.get(rule.name, self._used.get(rule.policy_name, 0))
        most = rule.burst if rule.kind == RATE else rule.limit
        return math.ceil(assumed * most) if isinstance(assumed, float) else assumed

    def refusal(self, seats: Seats, amounts: Sequence[int], who: str) -> Refusal | None:
        """What the store would refuse these needs with; None: it has them all. `who`: the caller's key."""
        buckets = {purse.bucket: self.bucket(purse) for purse, _ in seats}
        needs = {purse.bucket: amounts[place] for purse, place in seats if amounts[place]}
        short = [name for name, need in needs.items() if _is_short(buckets[name], who, need, self.now_ms)]
        if not short:
            return None
        return refuse(buckets, "", Want(0, who, needs, {}), short, self.now_ms, DRY_MS)[0]


def _is_short(bucket: Bucket, who: str, need: int, now_ms: int) -> bool:
    return not bucket.terms.shadow and bucket.available(who, now_ms) < need
