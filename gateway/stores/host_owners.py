"""What one host knows of its living owners, from what went through its store: to rebuild one that lost it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from gateway.quota.contract import Exchange, OwnerState, Reply


@dataclass(slots=True)
class _Known:
    seq: int = 0
    got: dict[str, int] = field(default_factory=dict)
    used: dict[str, int] = field(default_factory=dict)
    returned: dict[str, int] = field(default_factory=dict)
    held: Mapping[str, int] = field(default_factory=dict)
    decided: set[int] = field(default_factory=set)
    """Wants that were granted in an answer which counts here already."""


class HostOwners:
    """Sums of each owner's newest epoch, as of the last exchange that was answered."""

    def __init__(self) -> None:
        self._known: dict[str, tuple[int, _Known]] = {}

    def hello(self, owner: str, epoch: int, got: Mapping[str, int]) -> None:
        """The owner says what it was given, in all."""
        known = self._of(owner, epoch)
        if known is not None:
            known.got = dict(got)
            # The last exchange may be answered anew, with other grants.
            known.seq = max(0, known.seq - 1)
            known.decided.clear()

    def answered(self, exchange: Exchange, reply: Reply) -> None:
        """An exchange was answered; the same again counts once."""
        known = self._of(exchange.owner, exchange.epoch)
        if known is None or (not exchange.final and exchange.seq <= known.seq):
            return
        for news, sums in ((exchange.used, known.used), (exchange.returned, known.returned)):
            for name, amount in news.items():
                sums[name] = max(amount, sums.get(name, 0))
        granted = {want.id for want in exchange.wants if want.id in reply.granted} - known.decided
        given = [want.needs for want in exchange.wants if want.id in granted]
        told = {refusal.id for refusal in reply.refused}
        if not exchange.final:
            known.seq, known.held, known.decided = exchange.seq, exchange.held, set()
            given += [reply.slices, reply.back]
        elif told and not told <= known.decided:
            given.append(reply.back)
        known.decided |= granted | told
        for amounts in given:
            for bucket, amount in amounts.items():
                known.got[bucket] = known.got.get(bucket, 0) + amount

    def ended(self, owner: str, epoch: int) -> None:
        """It was buried."""
        if owner in self._known and self._known[owner][0] == epoch:
            del self._known[owner]

    def states(self) -> list[OwnerState]:
        """For `rebuild`."""
        return [
            OwnerState(owner, epoch, known.seq, known.got, known.used, known.returned, known.held)
            for owner, (epoch, known) in self._known.items()
        ]

    def _of(self, owner: str, epoch: int) -> _Known | None:
        """None: a later epoch is known."""
        newest, known = self._known.get(owner, (-1, _Known()))
        if epoch > newest:
            known = _Known()
            self._known[owner] = epoch, known
        return known if epoch >= newest else None
