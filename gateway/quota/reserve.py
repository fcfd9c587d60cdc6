"""What calls take from a worker's purses, and how it ends: a call takes from several at once or not at all.

This runs for every call that a limit or a budget counts: what can be known before is in `Seats`, and what can
be looked at for many calls together, `quota.purses` does when the store is told, or at the tick.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

from gateway.quota.contract import Refusal
from gateway.quota.hold import PLACES, Book, Hold, Seat, Seats
from gateway.quota.purse import Purse
from gateway.quota.share import Share


class Reserve:
    """What is held and used. Times are arguments, as in `Purses`."""

    def __init__(self, journal: Book) -> None:
        self.until_s = 0.0
        """Until when purses may serve: the lease, by our own clock."""
        self.has_refunds = False
        """True if a purse that is shut has something to give back: within 5 ms."""
        self._journal = journal
        self._values = journal.values
        self._free_holds = journal.free_holds
        self._names: dict[int, str] = {}
        """Account → its name."""
        self._touched: list[Seats] = []
        """Seats of calls that took or gave back; their purses have news and are active."""
        self._news: set[Purse] = set()
        self._wishes: set[Purse] = set()
        self._lending: set[Purse] = set()
        """Purses whose shares may owe something."""

    def take(self, seats: Iterable[Seat], amounts: Sequence[int], now_s: float) -> Hold | None:
        """Takes the needs of a call from all its purses, or nothing (None). A few additions: no I/O. Raises
        `JournalFull`; nothing has changed then."""
        if now_s >= self.until_s:
            return None
        seats = seats if type(seats) is Seats else Seats(seats)
        is_low = False
        for purse, place in seats.all:
            left = purse.balance - amounts[place]
            # A purse that is shut has no low water: then this asks whether there is enough.
            if left < purse.low:
                if left < 0:
                    return None
                is_low = True
        values, held, free, record = self._values, seats.held, self._free_holds, -1
        if held and free and not seats.is_long:
            # Written as `Journal.hold` does, in one go.
            record = at = free.pop()
            for purse, place, _ in held:
                need = amounts[place]
                values[at + 1] = purse.account
                values[at + 2] = need
                at += 2
                purse.balance -= need
                purse.held += need
                purse.asked += need
            values[record] = seats.pairs
        elif held:
            record = self._record(seats, amounts)
            for purse, place, _ in held:
                need = amounts[place]
                purse.balance -= need
                purse.held += need
                purse.asked += need
        for purse, place in seats.requests:
            need = amounts[place]
            purse.balance -= need
            purse.asked += need
            values[purse.account] += need
        for purse, place in seats.slots:
            need = amounts[place]
            purse.balance -= need
            purse.held += need
            purse.asked += need
        if not seats.is_touched:
            self._touch(seats)
        if is_low:
            self._wishes.update(purse for purse, _ in seats.all if purse.balance < purse.low)
        return Hold(seats, amounts, record)

    def uncovered(self, seats: Iterable[Seat], amounts: Sequence[int], served: Mapping[Purse, Share]) -> Hold:
        """A hold without the store: of the purses in `served` from their shares, whether these have it or
        not, of all others as usual."""
        seats = seats if type(seats) is Seats else Seats(seats)
        hold = Hold(seats, amounts, self._record(seats, amounts))
        hold.uncovered = served
        for purse, place in seats.all:
            need = amounts[place]
            if purse in served:
                served[purse].take(need)
                self._lending.add(purse)
                purse.lent += 0 if purse.at_once else need
                continue
            purse.balance -= need
            if purse.at_once:
                self._values[purse.account] += need
                self._news.add(purse)
            else:
                purse.held += need
        return hold

    def consumed(self, purse: Purse) -> int:
        """Of a rate: what calls have used in all, and what those under way hold."""
        return int(self._values[purse.account]) + purse.held

    def refusal(self, seats: Iterable[Seat], amounts: Sequence[int], now_s: float) -> Refusal | None:
        """The store's last word, if it still stands: so much was refused a moment ago."""
        for purse, place in seats:
            need = amounts[place]
            if purse.balance < need and now_s < purse.dry_until_s and need >= purse.dry_need:
                return purse.refusal
        return None

    def settle(self, hold: Hold, spent: Sequence[int] | None) -> tuple[Mapping[str, int], int]:
        """Ends a hold: what was used (`Spent`; None: not known, so all that was held) is written down, the
        rest goes back. Returns what was charged to accounts of money, and by how much that passes what was
        held as the most it could be."""
        values, seats, amounts, lent = self._values, hold.seats, hold.amounts, hold.uncovered
        charges: dict[str, int] = {}
        overshoot = 0
        at = hold.record + 1
        end = at + PLACES
        for purse, place, measure in seats.held:
            need = amounts[place]
            used = need if spent is None else spent[measure]
            # The account is that of the hold's own time, which stands in the journal.
            account = values[at]
            at += 2
            if at == end:
                at = values[end] + 1
                end = at + PLACES
            if lent and purse.is_rate and purse in lent:
                lent[purse].take(used - need)
                used = 0
            if used:
                values[account] += used
            if purse.is_money:
                charges[self._names[account]] = used
                if used - need > overshoot and purse.is_wall and need:
                    overshoot = used - need
            if lent and purse in lent:
                self._lending.add(purse)
                purse.lent -= need
                need = 0
            purse.held -= need
            purse.balance = balance = purse.balance + need - used
            if balance < 0 or not purse.is_open:
                self._check(purse)
        if seats.slots:
            self._free(hold)
        if not seats.is_touched:
            self._touch(seats)
        record = hold.record
        if record >= 0:
            if seats.is_long:
                self._journal.clear(record)
            else:
                values[record] = 0
                self._free_holds.append(record)
        return charges, overshoot

    def free(self, slots: Hold, busy_s: float) -> None:
        """Ends what a call held as one of several at once, for so long."""
        for purse, _ in slots.seats.slots:
            purse.busy_s += (busy_s - purse.busy_s) / 8 if purse.busy_s else busy_s
        self._free(slots)
        if not slots.seats.is_touched:
            self._touch(slots.seats)

    def _free(self, hold: Hold) -> None:
        for purse, place in hold.seats.slots:
            need = hold.amounts[place]
            if purse in hold.uncovered:
                self._lending.add(purse)
                purse.lent -= need
                continue
            purse.held -= need
            purse.balance += need
            if not purse.is_open:
                self.has_refunds = True

    def release(self, hold: Hold, kept: Hold, attempt: Seats) -> Hold:
        """Parts a hold in two: the calls at once that a call holds until its end (`kept` if nothing of it was
        let through without the store), which are returned, and what its first attempt holds. `attempt`: the
        seats of the hold that are counted for attempts."""
        if hold.uncovered:
            kept = Hold(kept.seats, hold.amounts, -1)
            kept.uncovered = hold.uncovered
        hold.seats = attempt
        return kept

    def _record(self, seats: Seats, amounts: Sequence[int]) -> int:
        """Writes down what is about to be held; -1 if that is nothing. Raises `JournalFull`; nothing has
        changed then."""
        pairs = [(purse.account, amounts[place]) for purse, place, _ in seats.held]
        return self._journal.hold(pairs) if pairs else -1

    def _check(self, purse: Purse) -> None:
        """Something came back to a purse that is shut, or more was used than it has."""
        if purse.balance < 0:
            # What was used beyond the hold comes from what else we have. More than that is no debt of ours:
            # the store takes it from the total.
            purse.balance = max(purse.balance, -purse.held)
        elif not purse.is_open:
            self.has_refunds = True

    def _touch(self, seats: Seats) -> None:
        """A call took or gave back: once for all calls until the store is told, or the tick."""
        seats.is_touched = True
        self._touched.append(seats)
