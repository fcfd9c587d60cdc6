"""What a call holds of its purses, and what it asks the store for."""

from __future__ import annotations

from collections.abc import Callable, Container, Iterable, Iterator, Mapping, Sequence
from typing import Any, Protocol

from gateway.quota.contract import Refusal
from gateway.quota.purse import Purse
from gateway.quota.share import Share

Seat = tuple[Purse, int]
"""A purse that a call needs, and the place of the need in the call's amounts."""
UNDECIDED = Refusal(0, "", -1, 0, False)
"""What waiting calls are told when the store is out: nobody decides."""
_NOTHING: Mapping[Purse, Share] = {}
PAIRS = 7
"""Purses that one record of the journal has room for."""
PLACES = 2 * PAIRS
"""Places of one record after its first: an account and an amount for each purse. The place after them names
the record in which a longer hold goes on."""


class Seats:
    """The purses that a call needs, by what becomes of them; made once for all calls that need the same."""

    __slots__ = ("all", "held", "is_long", "is_touched", "pairs", "requests", "slots")

    def __init__(self, seats: Iterable[Seat]) -> None:
        self.all: tuple[Seat, ...] = tuple(seats)
        self.requests = tuple(seat for seat in self.all if seat[0].at_once)
        """Used when they are taken."""
        self.slots = tuple(seat for seat in self.all if seat[0].has_slots)
        """Held, and never used."""
        self.held: tuple[tuple[Purse, int, int], ...] = tuple(
            (purse, place, purse.measure)
            for purse, place in self.all
            if not (purse.at_once or purse.has_slots)
        )
        """Held, so that they stand in the journal; with the place of what was used."""
        self.pairs = len(self.held)
        self.is_long = self.pairs > PAIRS
        """True if one record is too short for it."""
        self.is_touched = False
        """True if their purses may have news."""

    def __iter__(self) -> Iterator[Seat]:
        return iter(self.all)


class Book(Protocol):
    """Where holds and use are written so that they outlive the worker (`link.journal.Journal`)."""

    values: Any
    free_holds: list[int]
    """Records that nothing stands in: whoever takes one out writes its pairs, and their number last; whoever
    puts one back has set that to 0."""

    def account(self, name: str) -> int: ...
    def forget(self, at: int) -> None: ...
    def hold(self, pairs: Sequence[tuple[int, int]]) -> int: ...
    def clear(self, at: int) -> None: ...
    def held(self) -> Container[int]: ...


class Hold:
    """What one attempt (or, of calls at once, one call) holds: `amounts` of `seats`, but for what is used at
    once. `record`: where the journal has it, -1 if nowhere."""

    __slots__ = ("amounts", "over", "record", "seats", "uncovered")

    def __init__(self, seats: Seats, amounts: Sequence[int], record: int) -> None:
        self.seats = seats
        self.amounts = amounts
        self.record = record
        self.over: Sequence[Purse] = ()
        """Of rules that only watch: those that would have refused it."""
        self.uncovered: Mapping[Purse, Share] = _NOTHING
        """Purses that were debited nothing, since the store could not be asked; their shares were."""


class Ask:
    """A want on its way to the store. `decided` is called once, with a hold or a refusal."""

    __slots__ = ("amounts", "decided", "id", "seats", "who")

    def __init__(self, number: int, who: str, seats: Seats, amounts: Sequence[int]) -> None:
        self.id = number
        self.who = who
        self.seats = seats
        self.amounts = amounts
        self.decided: Callable[[Hold | Refusal], None] | None = None
        """None once nobody waits: what is granted then stays in the purses."""
