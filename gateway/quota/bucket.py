"""A bucket: one rule for one subject (and window), and what each owner has of it.

Whole numbers throughout: `total` is what is not proven used, `out` what owners have of it, so `total - out`
is free. Money: spent + total = limit + adjusted. A rate's total never passes its burst, with what is out
included; so the use in any w ms is at most burst + rate x w, however old a purse or late a report is.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field

from gateway.quota.contract import MONEY, RATE, ROLLING, SLICES, SLOTS, Terms
from gateway.quota.tickets import Tickets

Moved = list[tuple[int, int]]
"""(slice, nano-dollars) posted; slices of money are 0."""

ASKED_MS = 2_000
"""Who asked for a bucket within this time shares it."""
LONGEST_MS = 86_400_000
"""Nothing is held for longer: a batch has a day."""
_NEVER = -(1 << 62)


@dataclass(slots=True)
class Out:
    """What one epoch of an owner has of one bucket. `given`, `used` and `returned` only grow."""

    given: int = 0
    used: int = 0
    returned: int = 0
    out: int = 0
    """Given, not reported, and not written off."""
    written: dict[int, int] = field(default_factory=dict)
    """Slice → given and not reported, but counted as used: the owner was lost, or died with it held."""
    parts: dict[int, int] = field(default_factory=dict)
    """Rolling: slice → used in this epoch, in all."""
    held: int = 0
    """By open calls, as last told."""
    open: bool = False
    """It may keep a slice and what its calls give back."""
    asked_ms: int = _NEVER

    @property
    def idle(self) -> int:
        return max(0, self.out - self.held)

    @property
    def lost(self) -> int:
        """What was written off."""
        return sum(self.written.values())

    def take_written(self, amount: int, part: int) -> Moved:
        """Takes up to `amount` from what was written off, from `part` first: what was taken, by slice."""
        taken: Moved = []
        for each in [part, *self.written] if self.written and amount > 0 else ():
            if (there := min(amount, self.written.get(each, 0))) > 0:
                self.written[each] -= there
                taken.append((each, there))
                amount -= there
        if taken:
            self.written = {each: left for each, left in self.written.items() if left}
        return taken


@dataclass(slots=True)
class Bucket:
    """A bucket at a moment. Methods that take `now_ms` suppose that `refill(now_ms)` was called."""

    id: str
    terms: Terms
    total: int
    at_ms: int
    """Rates: refilled until."""
    out: int = 0
    rest: int = 0
    """Rates: refilled below one unit, in units / `window_ms`."""
    spent: int = 0
    """Money: posted. Rolling: posted and still in the window."""
    adjusted: int = 0
    """Money: topped up, and still in the window."""
    hold: float = 0.0
    """The running mean of needs."""
    parts: dict[int, int] = field(default_factory=dict)
    """Rolling: slice → spent less topped up, of slices in the window."""
    adjustments: dict[int, int] = field(default_factory=dict)
    """Rolling: slice → topped up."""
    outs: dict[str, Out] = field(default_factory=dict)
    waits: dict[str, int] = field(default_factory=dict)
    """Owners with a want that waits for a recall → until when."""
    tickets: Tickets = field(default_factory=Tickets)
    touched_ms: int = _NEVER

    @property
    def free(self) -> int:
        return self.total - self.out

    @property
    def is_money(self) -> bool:
        return self.terms.kind in (MONEY, ROLLING)

    def refill(self, now_ms: int) -> bool:
        """Lets time pass: rates refill, slices leave a rolling window, tickets lapse. Whether a number that
        is kept has changed. Time that went back does not count."""
        kind = self.terms.kind
        if kind == RATE:
            if self.tickets:
                self.tickets.lapse(now_ms)
            return self._refill_rate(now_ms)
        if kind == ROLLING and self.parts:
            return self._leave(now_ms)
        return False

    def _refill_rate(self, now_ms: int) -> bool:
        passed, self.at_ms = now_ms - self.at_ms, max(self.at_ms, now_ms)
        if passed <= 0 or self.total >= self.terms.burst:
            self.rest = 0 if self.total >= self.terms.burst else self.rest
            return False
        units, self.rest = divmod(passed * self.terms.limit + self.rest, self.terms.window_ms)
        self.total += units
        if self.total >= self.terms.burst:
            self.total, self.rest = self.terms.burst, 0
        return True

    def _leave(self, now_ms: int) -> bool:
        """A slice leaves when all of it is older than the window: at most one slice late, never early."""
        first = self.part_at(now_ms) - SLICES
        gone = [part for part in self.parts if part < first]
        for part in gone:
            left = self.parts.pop(part)
            topped = self.adjustments.pop(part, 0)
            self.total += left
            self.spent -= left + topped
            self.adjusted -= topped
        return bool(gone)

    def part_at(self, now_ms: int) -> int:
        """The slice of a moment; 0 where there are none."""
        return now_ms * SLICES // self.terms.window_ms if self.terms.kind == ROLLING else 0

    def account(self, part: int) -> str:
        """The account of a slice."""
        return f"{self.id}#{part}" if self.terms.kind == ROLLING else self.id

    def out_of(self, owner: str) -> Out:
        """An owner's part, made if need be."""
        found = self.outs.get(owner)
        if found is None:
            found = self.outs[owner] = Out()
        return found

    def available(self, who: str, now_ms: int) -> int:
        """What a request of `who` may take: free, less what others were promised."""
        free = self.total - self.out
        if not self.tickets:
            return free
        # What is due was refilled for just that; what is owed for later is not there yet.
        due = self.tickets.ask(who, now_ms)
        return max(min(due, free), free - self.tickets.owed + due)

    def learn(self, need: int) -> None:
        """A want of `need` was seen: the mean of about the last eight."""
        self.hold += (need - self.hold) / 8 if self.hold else need

    def take(self, out: Out, amount: int) -> None:
        """Gives an amount to an owner."""
        out.given += amount
        out.out += amount
        self.out += amount

    def give_uncounted(self, out: Out, need: int) -> None:
        """Shadow rates and slots that are short: the owner gets the need as if it were used and forgotten, so
        that the bucket goes on as one that had refused."""
        out.given += need
        out.written[0] = out.written.get(0, 0) + need

    def use(self, out: Out, amount: int, part: int, now_ms: int) -> Moved:
        """An owner used `amount` more, in a slice: what it says first explains what was written off. What
        exceeds all that it had is used all the same."""
        out.used += amount
        if self.terms.kind == ROLLING:
            if part not in out.parts:
                self._drop_parts(out, now_ms)
            out.parts[part] = out.parts.get(part, 0) + amount
        moved = [(each, -taken) for each, taken in out.take_written(amount, part)]
        fresh = amount + sum(taken for _, taken in moved)
        self._let_go(out, min(fresh, out.out))
        if self.is_money:
            moved.append((part, amount))
            self._post(moved, now_ms)
            return moved
        if self.terms.kind == RATE:
            self.total -= fresh
        return []

    def give_back(self, out: Out, amount: int, now_ms: int) -> Moved:
        """An owner returned `amount` more. What was written off comes back as money; rates do not get it
        again, for somebody else may have had the refill since."""
        out.returned += amount
        moved = [(each, -taken) for each, taken in out.take_written(amount, 0)]
        self._let_go(out, min(amount + sum(taken for _, taken in moved), out.out))
        if not self.is_money:
            return []
        self._post(moved, now_ms)
        return moved

    def write_off(self, out: Out, now_ms: int) -> Moved:
        """An owner is lost: what it has counts as used, until it is heard of."""
        amount, part = out.out, self.part_at(now_ms)
        if not amount:
            return []
        self._let_go(out, amount)
        out.written[part] = out.written.get(part, 0) + amount
        if self.terms.kind == RATE:
            self.total -= amount
        if not self.is_money:
            return []
        self._post([(part, amount)], now_ms)
        return [(part, amount)]

    def settle(self, out: Out, holds: Iterable[tuple[int, int]], now_ms: int) -> Moved:
        """An owner is dead, and its journal says what it held, by slice: that counts as used, all else that
        it had comes back (to a rate only what was still out)."""
        held = dict(holds) if self.terms.kind != SLOTS else {}
        before = {part: -amount for part, amount in out.written.items()}
        was_out, was_written, total = out.out, -sum(before.values()), sum(held.values())
        out.returned += max(0, was_out + was_written - total)
        self._let_go(out, was_out)
        out.written, out.held, out.open = held, 0, False
        if self.terms.kind == RATE:
            self.total -= max(0, total - was_written)
        if not self.is_money:
            return []
        moved = [(part, held.get(part, 0) + before.get(part, 0)) for part in {**before, **held}]
        self._post(moved, now_ms)
        return moved

    def reconcile(self, out: Out, got: int, now_ms: int) -> Moved:
        """What was given and did not arrive was never out; what arrived and is not known here is."""
        more, out.given = got - out.given, got
        if more >= 0:
            out.out += more
            self.out += more
            return []
        returned = out.returned
        moved = self.give_back(out, -more, now_ms)
        out.returned = returned
        return moved

    def adjust(self, amount: int, now_ms: int) -> None:
        """Tops up. A rolling window forgets it with its slice, a rate never has more than its burst."""
        self.total += amount
        self.adjusted += amount
        if self.terms.kind == RATE:
            self.total = min(self.total, self.terms.burst)
        elif self.terms.kind == ROLLING:
            part = self.part_at(now_ms)
            self.parts[part] = self.parts.get(part, 0) - amount
            self.adjustments[part] = self.adjustments.get(part, 0) + amount

    def edit(self, terms: Terms) -> bool:
        """New terms: the total moves by the difference, and may fall below what is out. Whether they say
        anything new."""
        old, is_new = self.terms, terms._replace(stamp=0) != self.terms._replace(stamp=0)
        self.total += terms.most - old.most
        self.terms = terms
        if terms.window_ms != old.window_ms:
            self.rest = 0
            for parts in (self.parts, self.adjustments):
                # Slices of the new length, by when the old ones began.
                moved = [(part * old.window_ms // terms.window_ms, amount) for part, amount in parts.items()]
                parts.clear()
                for part, amount in moved:
                    parts[part] = parts.get(part, 0) + amount
        return is_new

    def is_waited_for(self, now_ms: int, but: str = "") -> bool:
        """Whether a want waits for a recall of this bucket, of any owner but one."""
        if self.waits:
            self.waits = {owner: until for owner, until in self.waits.items() if until > now_ms}
        return any(owner != but for owner in self.waits)

    def _drop_parts(self, out: Out, now_ms: int) -> None:
        """Forgets what an owner used in slices that no call can be of any more: else they are as many as the
        owner is old."""
        first = self.part_at(now_ms - LONGEST_MS) - 2 * SLICES
        if out.parts and min(out.parts) < first:
            out.parts = {part: used for part, used in out.parts.items() if part >= first}

    def _let_go(self, out: Out, amount: int) -> None:
        out.out -= amount
        self.out -= amount
        out.held = min(out.held, out.out)

    def _post(self, moved: Moved, now_ms: int) -> None:
        """Books money as spent. What belongs to a slice that has left the window changes no total."""
        first = self.part_at(now_ms) - SLICES
        for part, amount in moved:
            if self.terms.kind == ROLLING:
                if part < first:
                    continue
                self.parts[part] = self.parts.get(part, 0) + amount
            self.total -= amount
            self.spent += amount
