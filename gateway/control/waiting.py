"""Wants that wait until other owners have returned what lies idle with them. Pure: times are arguments."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import NamedTuple

from gateway.quota.contract import Want


class Parked(NamedTuple):
    """A want that is to be decided again."""

    owner: str
    epoch: int
    want: Want
    short: frozenset[str]
    """The buckets that did not suffice."""
    deadline_s: float
    """When it is decided whoever has answered."""


class _Recall(NamedTuple):
    sure_seq: int
    """An exchange with this number was certainly sent after the recall had come."""
    deadline_s: float


_Answers = Callable[[str, _Recall], bool]
"""(bucket, recall) → whether it is answered."""


class Waiting:
    """Parked wants in the order in which they came, and the recalls that they wait for.

    A want is due when all owners that were asked for its buckets have answered, or at its deadline, but
    never before an earlier one that is short of the same bucket. All wants wait equally long, so the earlier
    one's deadline comes first and nobody waits past his own.
    """

    def __init__(self) -> None:
        self._parked: list[Parked] = []
        self._recalls: dict[str, dict[str, _Recall]] = {}

    def __len__(self) -> int:
        return len(self._parked)

    def recall(self, owner: str, bucket: str, sure_seq: int, deadline_s: float) -> None:
        """An owner is asked for a bucket. A recall that it has not answered yet stays as it is."""
        self._recalls.setdefault(bucket, {}).setdefault(owner, _Recall(sure_seq, deadline_s))

    def park(self, parked: Parked) -> None:
        """One want more, once. It waits for the recalls of its buckets, whoever they were made for."""
        if all(
            (waits.owner, waits.epoch, waits.want.id) != (parked.owner, parked.epoch, parked.want.id)
            for waits in self._parked
        ):
            self._parked.append(parked)

    def drop(self, owner: str) -> None:
        """Wants of an owner that nobody waits for any more. What it was asked for by a recall stays asked."""
        self._parked = [parked for parked in self._parked if parked.owner != owner]

    def comes_late(self, owner: str, seq: int, buckets: Iterable[str], wants: Iterable[Want]) -> bool:
        """Whether an exchange of an owner answers a recall (as `told`) for parked wants that need what its
        own wants need: those are decided first."""
        if not self._parked or not self._recalls:
            return False
        named = set(buckets)
        answered = {
            bucket
            for bucket, owners in self._recalls.items()
            if owner in owners and (bucket in named or seq >= owners[owner].sure_seq)
        }
        awaited: set[str] = set()
        for parked in self._parked:
            if not answered.isdisjoint(parked.short):
                awaited |= parked.want.needs.keys()
        return any(not awaited.isdisjoint(want.needs) for want in wants)

    def told(self, owner: str, seq: int, buckets: Iterable[str]) -> bool:
        """An exchange of an owner was booked, which names `buckets` as returned or acknowledged. True if it
        answered a recall: wants may be due."""
        if not self._recalls:
            return False
        named = set(buckets)
        return self._answered(owner, lambda bucket, recall: bucket in named or seq >= recall.sure_seq)

    def gone(self, owner: str) -> bool:
        """An owner is dead and settled: nobody waits for it. True if somebody did."""
        return self._answered(owner, lambda bucket, recall: True)

    def due(self, now_s: float) -> list[Parked]:
        """The wants that are to be decided now, in order; they wait no more."""
        self._forget(now_s)
        due: list[Parked] = []
        still: list[Parked] = []
        before: set[str] = set()
        for parked in self._parked:
            is_ready = now_s >= parked.deadline_s or self._recalls.keys().isdisjoint(parked.short)
            if is_ready and before.isdisjoint(parked.short):
                due.append(parked)
            else:
                still.append(parked)
                before |= parked.short
        self._parked = still
        return due

    def deadline_s(self) -> float | None:
        """When to ask for due wants whatever is told; None: nobody waits."""
        return min((parked.deadline_s for parked in self._parked), default=None)

    def _answered(self, owner: str, is_answered: _Answers) -> bool:
        done = [
            bucket
            for bucket, owners in self._recalls.items()
            if owner in owners and is_answered(bucket, owners[owner])
        ]
        for bucket in done:
            self._drop(bucket, owner)
        return bool(done)

    def _forget(self, now_s: float) -> None:
        late = [
            (bucket, owner)
            for bucket, owners in self._recalls.items()
            for owner, recall in owners.items()
            if now_s >= recall.deadline_s
        ]
        for bucket, owner in late:
            self._drop(bucket, owner)

    def _drop(self, bucket: str, owner: str) -> None:
        owners = self._recalls[bucket]
        del owners[owner]
        if not owners:
            del self._recalls[bucket]
