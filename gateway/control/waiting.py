"""Wants that wait until other owners have returned what lies idle with them. Pure: times are arguments."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable
from typing import NamedTuple

from gateway.quota.contract import Recall, Want


class Parked(NamedTuple):
    """A want that is to be decided again."""

    owner: str
    connection: int
    """The one on which it came: on a later one the worker asks for it anew."""
    want: Want
    short: frozenset[str]
    """The buckets that did not suffice."""
    deadline_s: float
    """When it is decided whoever has answered."""


class _Asked(NamedTuple):
    recall: Recall
    deadline_s: float


_Answers = Callable[[str, Recall], bool]
"""(bucket, recall) → whether it is answered."""


class Waiting:
    """Parked wants in the order in which they came, and the recalls that they wait for.

    A want is due when all owners that were asked for its buckets have answered, or at its deadline, but
    never before an earlier one that is short of the same bucket. All wants wait equally long, so the earlier
    one's deadline comes first and nobody waits past his own.
    """

    def __init__(self) -> None:
        self._parked: list[Parked] = []
        self._recalls: dict[str, dict[str, _Asked]] = {}
        """Bucket → owner → what it was asked for last."""

    def __len__(self) -> int:
        return len(self._parked)

    def recall(self, bucket: str, recall: Recall, deadline_s: float) -> None:
        """An owner is asked for a bucket: a later recall takes the place of one that it has not answered yet,
        and an earlier one, which comes after it, changes nothing."""
        asked = self._recalls.setdefault(bucket, {})
        before = asked.get(recall.owner)
        if before is None or before.recall < recall:
            asked[recall.owner] = _Asked(recall, deadline_s)

    def park(self, parked: Parked) -> None:
        """One want more. It waits for the recalls of its buckets, whoever they were made for."""
        self._parked.append(parked)

    def drop(self, owner: str) -> None:
        """Wants of an owner that nobody waits for any more. What it was asked for by a recall stays asked."""
        self._parked = [parked for parked in self._parked if parked.owner != owner]

    def comes_late(
        self,
        owner: str,
        epoch: int,
        seq: int,
        acks: Collection[str],
        returned: Collection[str],
        wants: Iterable[Want],
    ) -> bool:
        """Whether an exchange of an owner brings what parked wants wait for, in answer to their recall (as
        `told`) or not, and has wants that need what these need: those are decided first."""
        if not self._parked or not self._recalls:
            return False
        brought = {
            bucket
            for bucket, owners in self._recalls.items()
            if owner in owners
            and (bucket in returned or owners[owner].recall.is_answered_by(epoch, seq, acks=bucket in acks))
        }
        awaited: set[str] = set()
        for parked in self._parked:
            if not brought.isdisjoint(parked.short):
                awaited |= parked.want.needs.keys()
        return any(not awaited.isdisjoint(want.needs) for want in wants)

    def told(self, owner: str, epoch: int, seq: int, acks: Collection[str]) -> bool:
        """An exchange of an owner was booked. True if it answered a recall: wants may be due."""
        return self._answered(
            owner, lambda bucket, recall: recall.is_answered_by(epoch, seq, acks=bucket in acks)
        )

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
            if owner in owners and is_answered(bucket, owners[owner].recall)
        ]
        for bucket in done:
            self._drop(bucket, owner)
        return bool(done)

    def _forget(self, now_s: float) -> None:
        late = [
            (bucket, owner)
            for bucket, owners in self._recalls.items()
            for owner, asked in owners.items()
            if now_s >= asked.deadline_s
        ]
        for bucket, owner in late:
            self._drop(bucket, owner)

    def _drop(self, bucket: str, owner: str) -> None:
        owners = self._recalls[bucket]
        del owners[owner]
        if not owners:
            del self._recalls[bucket]
