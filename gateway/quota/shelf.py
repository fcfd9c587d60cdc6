"""The shelf: the buckets of a book, what each owner has of them, and what is posted to their accounts.

`changes` collects what a store has to keep.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

from gateway.quota.bucket import Bucket, Moved, Out
from gateway.quota.changes import Changes, Entry
from gateway.quota.contract import MONEY, ROLLING, Balance, Terms
from gateway.quota.owners import Owner

IDLE_MS = 3_600_000
"""Buckets that nothing is out of, and that nobody named for this long, leave memory (1 KB each)."""
NEWEST_IDLE_MS = 32 * 86_400_000
"""The same for the latest window of a subject, which operators look at: longer than a month: it is over."""
SWEPT_AT_ONCE = 2_000
"""Buckets that one `expire` looks at: about 1 ms."""


def rule_of(bucket: str) -> str:
    """The rule that a bucket belongs to."""
    return bucket.partition("|")[0]


def account_of(account: str) -> tuple[str, int]:
    """The bucket of an account, and its slice (0 where there are none)."""
    bucket, _, part = account.partition("#")
    return bucket, int(part or 0)


class Shelf:
    """Buckets and owners. `recover(bucket)` finds a bucket that left memory, None if there never was one."""

    def __init__(self, recover: Callable[[str], Bucket | None]) -> None:
        self.buckets: dict[str, Bucket] = {}
        self.rules: dict[str, Terms] = {}
        """The newest terms of each rule that was ever named."""
        self.owners: dict[str, Owner] = {}
        """By key."""
        self.changes = Changes()
        self._recover = recover
        self._windows: dict[str, str] = {}
        """Rule and subject → the latest window of money that is in memory."""
        self._to_sweep: list[str] = []

    def balances(self, now_ms: int, rule: str = "") -> list[Balance]:
        """See `contract.Store.balances`. Windows that ended are not there once nothing is out of them."""
        return [
            self.balance(bucket_id, now_ms)
            for bucket_id in self.buckets
            if not rule or rule_of(bucket_id) == rule
        ]

    def balance(self, bucket_id: str, now_ms: int) -> Balance:
        """One bucket's."""
        bucket = self.buckets[bucket_id]
        self._refill(bucket, now_ms)
        held = sum(out.held for out in bucket.outs.values())
        spent = bucket.spent if bucket.is_money else 0
        return Balance(bucket.id, bucket.terms, spent, held, bucket.out - held, bucket.free)

    def add(self, bucket: Bucket) -> None:
        """A bucket is in memory from now on."""
        self.buckets[bucket.id] = bucket
        if bucket.terms.kind == MONEY:
            subject = bucket.id.rpartition("|")[0]
            self._windows[subject] = max(bucket.id, self._windows.get(subject, ""))

    def _find(self, bucket_id: str) -> Bucket | None:
        bucket = self.buckets.get(bucket_id)
        if bucket is None and (bucket := self._recover(bucket_id)) is not None:
            self.add(bucket)
            told = self.rules.get(rule_of(bucket_id))
            if told is not None and told.kind == bucket.terms.kind and told.stamp > bucket.terms.stamp:
                bucket.edit(told)
                self.changes.buckets.add(bucket_id)
        return bucket

    def _out(self, bucket: Bucket, owner: Owner) -> Out:
        """An owner's part of a bucket, which is about to change."""
        out = bucket.outs.get(owner.key)
        if out is None:
            out = bucket.outs[owner.key] = Out()
            owner.buckets.add(bucket.id)
        self.changes.buckets.add(bucket.id)
        self.changes.outs.add((bucket.id, owner.key))
        return out

    def _refill(self, bucket: Bucket, now_ms: int) -> None:
        if bucket.refill(now_ms):
            self.changes.buckets.add(bucket.id)

    def _create(self, bucket_id: str, terms: Terms, now_ms: int) -> Bucket:
        bucket = Bucket(bucket_id, terms, terms.most, now_ms, touched_ms=now_ms)
        self.add(bucket)
        self.changes.buckets.add(bucket_id)
        return bucket

    def _evict(self, now_ms: int) -> None:
        """Lets some of the idle buckets go from memory: closed windows, and what is full anyway. They stay in
        the store, and are as they were when somebody names them again."""
        if not self._to_sweep:
            self._to_sweep = list(self.buckets)
        for bucket_id in self._to_sweep[-SWEPT_AT_ONCE:]:
            bucket = self.buckets.get(bucket_id)
            if bucket is None or not self._is_idle(bucket, now_ms):
                continue
            del self.buckets[bucket_id]
            subject = bucket_id.rpartition("|")[0]
            if self._windows.get(subject) == bucket_id:
                del self._windows[subject]
            for key in bucket.outs:
                if key in self.owners:
                    self.owners[key].buckets.discard(bucket_id)
            self.changes.evicted.append(bucket_id)
        del self._to_sweep[-SWEPT_AT_ONCE:]

    def _is_idle(self, bucket: Bucket, now_ms: int) -> bool:
        idle_ms = now_ms - bucket.touched_ms
        if idle_ms <= IDLE_MS or bucket.out:
            return False
        self._refill(bucket, now_ms)
        if bucket.parts or any(out.written for out in bucket.outs.values()):
            return False
        is_newest = self._windows.get(bucket.id.rpartition("|")[0]) == bucket.id
        return not is_newest or idle_ms > NEWEST_IDLE_MS

    # what is booked

    def _use(
        self, owner: Owner, used: Mapping[str, int], moved: dict[str, int], now_ms: int
    ) -> dict[str, int]:
        """Books use, in all of the epoch by account; the differences. Sums in `moved` what money was posted,
        with what had been written off before and is known now."""
        more = {}
        for account, amount in used.items():
            bucket_id, part = account_of(account)
            bucket = self._find(bucket_id)
            if bucket is None:
                terms = self.rules.get(rule_of(bucket_id)) or _owed(account)
                if terms is None:
                    continue
                bucket = self._create(bucket_id, terms, now_ms)
            out = self._out(bucket, owner)
            rolling = bucket.terms.kind == ROLLING
            fresh = amount - (out.parts.get(part, 0) if rolling else out.used)
            if fresh > 0:
                self._refill(bucket, now_ms)
                bucket.touched_ms = now_ms
                more[account] = fresh
                sum_moved(moved, bucket, bucket.use(out, fresh, part, now_ms))
        return more

    def _book(self, bucket: Bucket, moved: Moved, kind: str, owner: Owner, now_ms: int) -> None:
        for part, amount in moved:
            self._enter(bucket.account(part), amount, kind, owner.key, now_ms)

    def _enter(self, account: str, amount: int, kind: str, who: str, now_ms: int) -> None:
        """Posts money that no row explains."""
        if amount:
            self.changes.post(account, amount)
            self.changes.entries.append(Entry(now_ms, account, kind, amount, who))


def _owed(account: str) -> Terms | None:
    """Of a bucket whose terms nobody told since the store lost it. Money is not forgotten for that: it is
    owed until the terms come, which are an edit then. None: it is no money."""
    if not account_of(account)[0].rpartition("|")[2]:
        return None
    terms = Terms(ROLLING, 0, window_ms=1) if "#" in account else Terms(MONEY, 0)
    return terms._replace(stamp=-1)


def sum_moved(moved: dict[str, int], bucket: Bucket, more: Moved) -> None:
    """Adds what was posted of a bucket, by account."""
    for part, amount in more:
        account = bucket.account(part)
        moved[account] = moved.get(account, 0) + amount
