"""What a call holds of its purses, and what it asks the store for."""

from __future__ import annotations

from collections.abc import Callable, Container, Mapping, Sequence
from typing import Any, Protocol

from gateway.quota.contract import Refusal
from gateway.quota.purse import Purse
from gateway.quota.share import Share

Seat = tuple[Purse, int]
"""A purse that a call needs, and the place of the need in the call's amounts."""
UNDECIDED = Refusal(0, "", -1, 0, False)
"""What waiting calls are told when the store is out: nobody decides."""
_NOTHING: Mapping[Purse, Share] = {}
PLACES = 14
"""Places of one record of the journal after its first: an account and an amount for each of seven purses. The
place after them names the record in which a longer hold goes on."""


class Book(Protocol):
    """Where holds and use are written so that they outlive the worker (`link.journal.Journal`)."""

    values: Any

    def account(self, name: str) -> int: ...
    def forget(self, at: int) -> None: ...
    def hold(self, pairs: Sequence[tuple[int, int]]) -> int: ...
    def clear(self, at: int) -> None: ...
    def held(self) -> Container[int]: ...


class Hold:
    """What one attempt (or, of calls at once, one call) holds: `amounts` of `seats`, but for what is used at
    once. `record`: where the journal has it, -1 if nowhere."""

    __slots__ = ("amounts", "over", "record", "seats", "uncovered")

    def __init__(self, seats: Sequence[Seat], amounts: Sequence[int], record: int) -> None:
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

    def __init__(self, number: int, who: str, seats: Sequence[Seat], amounts: Sequence[int]) -> None:
        self.id = number
        self.who = who
        self.seats = seats
        self.amounts = amounts
        self.decided: Callable[[Hold | Refusal], None] | None = None
        """None once nobody waits: what is granted then stays in the purses."""
