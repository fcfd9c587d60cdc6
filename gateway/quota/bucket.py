"""One bucket: its total, who has how much of it, and the tickets of those that were refused.

`free = total - out`. The four moves and why they keep a limit: O'Neil's escrow (1986), with the total of a
rate capped *including* what is out, so that no window of w sees more than burst + rate·w used, whatever the
age of a slice or the lag of a report.
"""

from __future__ import annotations

from dataclasses import dataclass, field

from gateway.quota.contract import MONEY, RATE, ROLLING, SLICES, SLOTS, Terms

ACTIVE_MS = 2_000
"""An owner that asked within this time counts as one that shares the bucket."""
SHARE = 2
"""A slice is at most free / (SHARE · active owners): 1, 2, 4 and 8 use a limit equally well."""
OPEN_AT_HOLDS = 4
"""A purse is opened when its share is this many typical needs: below, it is emptied before it pays."""

Owner = tuple[str, int]
"""An owner's name and epoch."""


@dataclass(slots=True)
class Out:
    """What one owner was given, in all; `held` is what its open calls hold, as it last told."""

    given: int = 0
    used: int = 0
    returned: int = 0
    held: int = 0
    dropped: int = 0
    """Rates: taken off the total when the lease ran out; what is used of it later is paid for already."""
    is_lost: bool = False
    """True while its lease has run out."""
    is_open: bool = False
    asked_ms: int = -ACTIVE_MS - 1

    @property
    def out(self) -> int:
        """Given, and neither used nor returned; 0 if more was used than given, or if it is lost."""
        return 0 if self.is_lost else max(0, self.given - self.used - self.returned)

    @property
    def lost(self) -> int:
        """What was out when the lease ran out."""
        return max(0, self.given - self.used - self.returned) if self.is_lost else 0

    @property
    def idle(self) -> int:
        """Of what is out, what no open call holds."""
        return max(0, self.out - self.held)


@dataclass(slots=True)
class Bucket:
    """A bucket and its shares. Times are milliseconds of the store's clock."""

    terms: Terms
    at_ms: int
    """Up to when a rate was refilled, a rolling window moved."""
    total: int = 0
    out: int = 0
    spent: int = 0
    """Used so far: of a money window, all that was posted; of a rolling one, what is in the window."""
    parts: dict[int, int] = field(default_factory=dict)
    """Rolling: slice index → used."""
    outs: dict[Owner, Out] = field(default_factory=dict)
    typical: float = 0.0
    """Running mean of needs."""
    waited_until_ms: int = 0
    """Until then somebody waits for a recall: nothing is sliced."""

    @classmethod
    def full(cls, terms: Terms, now_ms: int) -> Bucket:
        """A fresh bucket: all of it free."""
        return cls(terms, now_ms, total=terms.most)

    @property
    def free(self) -> int:
        """What may be given; below 0 after a lowered limit or an overshoot."""
        return self.total - self.out

    def refresh(self, now_ms: int) -> None:
        """Refills a rate up to now; lets the parts of a rolling window leave that are out of it."""
        terms = self.terms
        if terms.kind == RATE:
            if now_ms > self.at_ms:
                units = (now_ms - self.at_ms) * terms.limit // terms.window_ms
                # Rounded up: never more than the rate, the rest of a unit is kept for the next time.
                self.at_ms += -(-units * terms.window_ms // terms.limit)
                self.total += units
                if self.total >= terms.burst:
                    self.total, self.at_ms = terms.burst, now_ms
        elif terms.kind == ROLLING:
            self.at_ms = max(self.at_ms, now_ms)
            first = self.part(now_ms) - SLICES
            for index in [index for index in self.parts if index < first]:
                gone = self.parts.pop(index)
                self.total += gone
                self.spent -= gone

    def part(self, now_ms: int) -> int:
        """The index of the part of a rolling window that a moment is in."""
        return now_ms * SLICES // self.terms.window_ms

    def share(self, owner: Owner) -> Out:
        """An owner's share, made when first asked for."""
        found = self.outs.get(owner)
        if found is None:
            found = self.outs[owner] = Out()
        return found

    def take(self, share: Out, amount: int) -> None:
        """Gives an amount to an owner."""
        share.given += amount
        self.recount()

    def put_back(self, share: Out, returned: int) -> None:
        """Books what an owner has returned, in all."""
        if returned > share.returned:
            share.dropped = max(0, share.dropped - (returned - share.returned))
            share.returned = returned
            self.recount()

    def use(self, share: Out, used: int, part: int | None = None) -> int:
        """Books what an owner has used, in all (with `part`: the difference, of that part of a rolling
        window); what that was more than before."""
        more = used if part is not None else used - share.used
        if more <= 0:
            return 0
        share.used += more
        if self.terms.kind != SLOTS:
            covered = min(more, share.dropped)
            share.dropped -= covered
            self._spend(more - covered, part)
        self.recount()
        return more

    def _spend(self, amount: int, part: int | None) -> None:
        if part is not None:
            if part < self.part(self.at_ms) - SLICES:
                return  # It would come back at once: its part has left the window.
            self.parts[part] = self.parts.get(part, 0) + amount
        self.total -= amount
        if self.terms.kind in (MONEY, ROLLING):
            self.spent += amount

    def lose(self, share: Out) -> int:
        """An owner's lease ran out: what it had may have been used. Money is spent until it is heard of
        again, rates are dropped for good, slots are free. How much that was."""
        lost = share.out
        share.is_lost = True
        if self.terms.kind == RATE:
            share.dropped += lost
        if self.terms.kind != SLOTS:
            self.total -= lost
        self.recount()
        return lost

    def find_again(self, share: Out) -> None:
        """A lost owner is heard of: its money is out again, as it was."""
        if share.is_lost:
            share.is_lost = False
            if self.terms.kind in (MONEY, ROLLING):
                self.total += share.out
            elif self.terms.kind == RATE:
                # What was dropped is not given out again; nor is it out, for it is off the total.
                share.returned += share.out
            self.recount()

    def recount(self) -> None:
        """`out` from the shares: few owners share a bucket, and a sum cannot drift."""
        self.out = sum(share.out for share in self.outs.values())

    def edit(self, terms: Terms) -> int:
        """New terms: the total moves by the difference, which is returned."""
        more = terms.most - self.terms.most
        self.terms = terms
        self.total += more
        return more

    def need(self, amount: int) -> None:
        """Notes a need, for the mean that slices are measured by."""
        self.typical += 0.1 * (amount - self.typical) if self.typical else amount

    def active(self, now_ms: int) -> int:
        """Owners that asked lately, at least 1."""
        return max(1, sum(now_ms - share.asked_ms <= ACTIVE_MS for share in self.outs.values()))

    def slice(self, share: Out, wish: int, now_ms: int) -> int | None:
        """What an owner gets of its wish; None: its purse stays, or becomes, shut."""
        if now_ms < self.waited_until_ms:
            return None
        most = max(0, self.free) // (SHARE * self.active(now_ms))
        if not share.is_open:
            if most < OPEN_AT_HOLDS * self.typical:
                return None
            share.is_open = True
        given = min(wish, most)
        if given < self.typical:
            return 0
        self.take(share, given)
        return given

    def holders_of_idle(self, but: Owner) -> list[Owner]:
        """Other owners that could give something back."""
        return [
            owner for owner, share in self.outs.items() if owner != but and share.is_open and share.idle > 0
        ]

    def wait_ms(self, need: int) -> int:
        """Rates: until there is so much, if nobody else takes it. -1: nobody can say."""
        terms = self.terms
        if terms.kind != RATE or need > terms.burst:
            return -1
        return max(1, -(-(need - self.free) * terms.window_ms // terms.limit))
