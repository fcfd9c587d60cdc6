"""What workers, the keeper and the stores say to one another about buckets.

A *bucket* is one rule for one subject, and for money in one window: `RULE|SUBJECT|WINDOW`. Its quantity
is whole: requests, tokens, calls, or nano-dollars. An *owner* (a worker of a host) is given amounts by the
store; what it was given and has neither used nor returned is `out`, and `free = total - out`. All that an
owner reports is cumulative over its epoch, so a message that comes twice changes nothing.

An *account* is what use is reported to: the bucket, or for a rolling window `BUCKET#SLICE`, the sixtieth of
the window in which the use was held.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple, Protocol

MONEY, ROLLING, RATE, SLOTS = "money", "rolling", "rate", "slots"
"""Kinds of buckets: money of a calendar window; of a rolling one; what refills (requests, tokens); calls at
once."""

SLICES = 60
"""Parts of a rolling window: what was spent leaves the window with its part, at most one part late."""


class Terms(NamedTuple):
    """What a rule says of each of its buckets."""

    kind: str
    limit: int
    """Money: nano-dollars per window. Rates: units per `window_ms`. Slots: calls at once."""
    burst: int = 0
    """Rates: the most there may be at a moment. Others: as `limit`."""
    window_ms: int = 0
    """Rates: what `limit` is per. Rolling: the window. Others: 0."""
    shadow: bool = False
    """Granted whatever is left; a refusal is only told (`Reply.over`)."""
    stamp: int = 0
    """Milliseconds since the epoch at which the policy was accepted: the newest terms of a rule hold."""

    @property
    def most(self) -> int:
        """The total of a full bucket."""
        return self.burst if self.kind == RATE else self.limit


class Want(NamedTuple):
    """One call's need of several buckets: all or nothing."""

    id: int
    """Unique within the owner's epoch."""
    who: str
    """The caller's key: for whom a ticket is kept."""
    needs: Mapping[str, int]
    deposit: Mapping[str, int]
    """What the owner had of them and has just returned (it is in `Exchange.returned`): given back with a
    refusal where nobody else waits for it."""


class Refusal(NamedTuple):
    """Why a want was refused: the bucket with the longest wait."""

    id: int
    bucket: str
    wait_ms: int
    """Rates: until the ticket's time; a want that several rates refuse gets one time, from which all of them
    keep what it needs. -1: nobody can say (slots, money). 0 is never given."""
    dry_ms: int
    """How long the owner may refuse as large a need by itself."""
    is_held: bool
    """Money: what is missing is with owners and not known to be spent, so it may come free."""
    free: int = 0
    """What a want of this bucket alone could have now: a cap may shrink to fit it."""


class Recall(NamedTuple):
    """An owner that is to return what lies idle with it of a bucket: all that it was given in answers up to
    the one to `seq`. What a later answer gave it was decided after the recall, and is its own."""

    owner: str
    epoch: int
    seq: int

    def is_answered_by(self, epoch: int, seq: int, *, acks: bool) -> bool:
        """Whether an exchange of the owner says what became of it. It does if it was sent after the answer to
        the recall's number had come, and names the bucket in `acks`; or after the next answer, which tells
        the owner of the recall as well (`Reply.shut`). What is returned without that had crossed it."""
        return epoch == self.epoch and (seq > self.seq + 1 or (acks and seq > self.seq))


@dataclass(slots=True)
class Exchange:
    """What an owner tells and asks. `seq` counts up from 1 in an epoch; the same again gets the same reply,
    unless `hello` took back what that reply gave: then its wants are decided anew. An earlier number gives
    nothing."""

    owner: str
    epoch: int
    seq: int
    terms: Mapping[str, Terms] = field(default_factory=dict)
    """Of buckets that this epoch names for the first time."""
    used: Mapping[str, int] = field(default_factory=dict)
    """Account → used in this epoch, in all. May exceed what was given (an overshoot). Of a slice of a rolling
    window it is remembered for two windows, and for a day at least."""
    returned: Mapping[str, int] = field(default_factory=dict)
    """Bucket → returned in this epoch, in all."""
    rows: Sequence[Sequence[Any]] = ()
    """Usage rows (`quota.row.Row`), one for each attempt that was settled; new ones only. Kept in the same
    transaction as `used`."""
    wants: Sequence[Want] = ()
    wishes: Mapping[str, int] = field(default_factory=dict)
    """Bucket → the slice that the owner would like to have."""
    held: Mapping[str, int] = field(default_factory=dict)
    """Bucket → held by open calls of the owner now: tells money held from money idle in purses."""
    final: bool = False
    """True when wants are decided for the last time: nothing is parked any more. The keeper then asks, with
    `seq` 0 and nothing else, for wants that were parked; the same wants again get the same decision, until
    the store is opened anew or the owner says `hello` without what it was given. The reply says nothing of
    purses, for it may overtake one that has a number, or be overtaken."""
    acks: Sequence[str] = ()
    """Recalled buckets of which the owner keeps nothing idle any more: what it had, also by all answers
    before this exchange, is in `returned`. It answers a recall also if it had nothing. From then on its purse
    is shut, all that it still has counts as held, and it is not told again (`Reply.shut`)."""


@dataclass(slots=True)
class Reply:
    """What the store answers."""

    seq: int
    granted: list[int] = field(default_factory=list)
    """Wants that were granted: their needs are the owner's."""
    refused: list[Refusal] = field(default_factory=list)
    parked: dict[int, list[str]] = field(default_factory=dict)
    """Wants that wait for a recall → the buckets that are short."""
    recalls: dict[str, list[Recall]] = field(default_factory=dict)
    """Bucket → the owners that hold something idle of it. They are to be asked for it."""
    back: dict[str, int] = field(default_factory=dict)
    """Deposits of refused wants that the owner may keep."""
    slices: dict[str, int] = field(default_factory=dict)
    """Bucket → given beyond need. One with a slice (0 too) is open for the owner, one in `shut` not, nor one
    that was recalled with this reply's number or a later one."""
    shut: list[str] = field(default_factory=list)
    over: list[str] = field(default_factory=list)
    """Shadow buckets that have less than nothing left."""
    edited: dict[str, Terms] = field(default_factory=dict)
    """Buckets named in `terms` whose rule has newer terms than the owner knew."""
    owners: int = 1
    """Owners that asked in the last 2 s."""


class Balance(NamedTuple):
    """One bucket as operators see it."""

    bucket: str
    terms: Terms
    spent: int
    """Money: posted in this window. Others: 0."""
    held: int
    """By open calls, as last told by the owners."""
    idle: int
    """Given to owners and not held: purses, and use not told yet."""
    free: int


class Event(NamedTuple):
    """What a store tells that many hosts share, for owners of this one."""

    kind: str
    """"recall": `owner` is to return what is idle of the buckets; "acked": `owner`, of another host, did;
    "wet": something came back to them."""
    buckets: Sequence[str]
    owner: str = ""
    epoch: int = 0
    seq: int = 0
    """Of the recall (`Recall`), or of the exchange with the `acks`."""


class Store(Protocol):
    """Owns the buckets. Times are the store's own. Every operation is atomic, and idempotent by its ids.

    Raises `StoreDown` when it cannot be asked within its deadline; the caller may ask again with the same
    ids.
    """

    async def hello(self, owner: str, epoch: int, got: Mapping[str, int]) -> None:
        """An owner (again) connects. `got`: bucket → amount given to it in this epoch, in all, as it knows:
        what was given and did not arrive goes back. A later epoch of an owner replaces the one before: its
        slots are free, the rest is lost (`expire`) until it is buried. A replaced or buried one says nothing
        new here."""
        ...

    async def exchange(self, exchange: Exchange) -> Reply:
        """Books what was used and returned, then decides wants in order, then wishes; renews the owner's
        lease. Use under a dead epoch (`bury`, `expire`, or a later epoch of the owner) is booked as a
        correction; a dead or replaced one is given nothing."""
        ...

    async def bury(
        self,
        owner: str,
        epoch: int,
        used: Mapping[str, int],
        holds: Mapping[str, int],
        rows: Sequence[Any] = (),
    ) -> dict[str, int]:
        """An owner is dead and its journal was read: `used` as in `Exchange`, `holds` (account → amount) are
        posted in full, all else it was given goes back. Also for one whose lease had run out before: its loss
        is corrected. Returns what was posted by account beyond what was reported before."""
        ...

    async def expire(self) -> list[str]:
        """Settles owners whose lease (30 s) ran out: money is spent, rates are dropped, slots are free. Their
        names. `bury` or a later exchange corrects it. Also lets go, some at each call, of what is too old:
        usage rows, closed windows, idle buckets, owners that are long dead. Call it every second or so."""
        ...

    async def set_terms(self, terms: Mapping[str, Terms]) -> list[str]:
        """New terms by rule (not bucket): totals move by the difference; the buckets that were lowered or
        raised. Older stamps than those in force change nothing."""
        ...

    async def balances(self, rule: str = "") -> list[Balance]:
        """All live buckets of a rule, or of all. Like `spend` and `verify` it does not hold the event loop
        for longer than 5 ms, however many there are."""
        ...

    async def spend(self, by: Sequence[str], since_ms: int, until_ms: int) -> list[dict[str, Any]]:
        """Sums of the usage rows from `since_ms` to before `until_ms`, a dict for each group: the columns
        named in `by` (row columns, or "day"), "calls", the token kinds and "nanousd"."""
        ...

    async def verify(self) -> list[str]:
        """What does not agree between rows, holds and balances, one sentence each; empty: all does."""
        ...

    async def adjust(self, bucket: str, amount: int, audit: Mapping[str, Any]) -> Balance:
        """Tops up a bucket by `amount` of its unit (negative: takes away), with an audit row. `KeyError`:
        there is no such bucket."""
        ...

    async def unfit(self) -> str:
        """Why what is written here may be lost, for an operator; "" if it may not."""
        ...

    def events(self) -> AsyncIterator[Event]:
        """What owners of other hosts caused, for ever; ends at once where there are none."""
        ...

    async def close(self) -> None: ...


class StoreDown(Exception):
    """The store did not answer in time, or cannot be reached."""


class StoreLate(StoreDown):
    """The store did not answer in time, which may be the machine's fault or a moment's delay: the same may be
    asked again at once, and it is not taken to be down for that."""


class StoreLost(StoreDown):
    """The store answers, but what was written to it is gone, wholly or at its end (emptied, a failover), or
    is being put together again. Nothing is granted until every host has told what it knows (`rebuild`)."""


class OwnerState(NamedTuple):
    """What a host knows of one of its owners, to rebuild a store. Sums over the epoch, as of the last
    exchange that was answered; the next exchange tells what came after."""

    owner: str
    epoch: int
    seq: int
    """Of the last exchange that was answered."""
    got: Mapping[str, int]
    """Bucket → given to it."""
    used: Mapping[str, int] = {}
    """Account → used."""
    returned: Mapping[str, int] = {}
    """Bucket → returned."""
    held: Mapping[str, int] = {}
    """Bucket → held by open calls now."""
