"""The book of buckets: what a store decides, as plain tables. The time is an argument.

The algorithm is escrow (O'Neil 1986) with recall: owners are given slices ahead of need, and before a want is
refused, what lies idle elsewhere is called back.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from gateway.quota.bucket import Bucket, Out, Owner
from gateway.quota.contract import (
    MONEY,
    RATE,
    ROLLING,
    SLOTS,
    Balance,
    Exchange,
    Refusal,
    Reply,
    Terms,
    Want,
)
from gateway.quota.tickets import HORIZON_MS, Tickets

LEASE_MS = 30_000
WAITED_MS = 50
"""How long a parked want keeps its buckets from being sliced: longer than any recall may take (25 ms)."""
DRY_MS = 2
"""How long an owner may refuse by itself: 2 ms err in 5.5 % of refusals, 50 ms in 14 %."""
FAR_DRY_MS = 250
"""The same for rates when even a ticket would be beyond the horizon."""


@dataclass(slots=True)
class _OwnerState:
    epoch: int
    lease_ms: int
    seq: int = 0
    reply: Reply | None = None


def rule_of(bucket: str) -> str:
    """The rule that a bucket belongs to."""
    return bucket.partition("|")[0]


def account_of(account: str) -> tuple[str, int | None]:
    """The bucket of an account, and the part of its window if that is a rolling one."""
    bucket, _, part = account.partition("#")
    return bucket, int(part) if part else None


class Book:
    """All buckets of a store, and the owners they are given to."""

    def __init__(self) -> None:
        self.buckets: dict[str, Bucket] = {}
        self.rules: dict[str, Terms] = {}
        """The newest terms of each rule that was ever named."""
        self._owners: dict[str, _OwnerState] = {}
        self._tickets: dict[str, Tickets] = {}
        self._told: dict[tuple[Owner, str], int] = {}
        """Of rolling windows: what an owner has used of an account, in all."""

    # operations

    def hello(self, owner: str, epoch: int, got: Mapping[str, int], now_ms: int) -> None:
        """See `contract.Store.hello`."""
        who = self._heard(owner, epoch, now_ms)
        for bucket_id, share in self._shares(who):
            arrived = got.get(bucket_id, 0)
            if arrived < share.given:
                share.given = arrived
                self.buckets[bucket_id].recount()

    def exchange(self, exchange: Exchange, now_ms: int) -> Reply:
        """See `contract.Store.exchange`."""
        owner = self._heard(exchange.owner, exchange.epoch, now_ms)
        state = self._owners[exchange.owner]
        if not exchange.final and exchange.seq == state.seq and state.reply is not None:
            return state.reply
        reply = Reply(exchange.seq)
        self._name(exchange.terms, reply, now_ms)
        self._settle(owner, exchange.used, exchange.returned, now_ms)
        for bucket_id, held in exchange.held.items():
            if bucket_id in self.buckets:
                self.buckets[bucket_id].share(owner).held = held
        for want in exchange.wants:
            self._decide(owner, want, reply, now_ms, final=exchange.final)
        for bucket_id, wish in exchange.wishes.items():
            self._grant_wish(owner, bucket_id, wish, reply, now_ms)
        reply.owners = sum(other.lease_ms - LEASE_MS + 2_000 >= now_ms for other in self._owners.values())
        if not exchange.final:
            state.seq, state.reply = exchange.seq, reply
        return reply

    def bury(
        self, owner: str, epoch: int, used: Mapping[str, int], holds: Mapping[str, int], now_ms: int
    ) -> dict[str, int]:
        """See `contract.Store.bury`."""
        who = (owner, epoch)
        self._find(who)
        posted: dict[str, int] = {}
        for account in {**used, **holds}:
            bucket_id, part = account_of(account)
            bucket = self.buckets.get(bucket_id)
            if bucket is None or who not in bucket.outs:
                continue
            bucket.refresh(now_ms)
            more = self._use(who, account, bucket, part, used.get(account, 0))
            held = holds.get(account, 0)
            if held and bucket.terms.kind != SLOTS:
                share = bucket.outs[who]
                more += bucket.use(share, held if part is not None else share.used + held, part)
            if more:
                posted[account] = more
        for bucket_id, _ in list(self._shares(who)):
            bucket = self.buckets[bucket_id]
            del bucket.outs[who]
            bucket.recount()
        self._told = {key: told for key, told in self._told.items() if key[0] != who}
        state = self._owners.get(owner)
        if state is not None and state.epoch == epoch:
            del self._owners[owner]
        return posted

    def expire(self, now_ms: int) -> list[str]:
        """See `contract.Store.expire`."""
        gone = []
        for name, state in self._owners.items():
            who = (name, state.epoch)
            alive = [(bucket, share) for bucket, share in self._shares(who) if not share.is_lost]
            if state.lease_ms < now_ms and alive:
                gone.append(name)
                for bucket_id, share in alive:
                    self.buckets[bucket_id].lose(share)
        return gone

    def set_terms(self, terms: Mapping[str, Terms], now_ms: int) -> list[str]:
        """See `contract.Store.set_terms`."""
        changed = []
        for rule, fresh in terms.items():
            known = self.rules.get(rule)
            if known is not None and known.stamp >= fresh.stamp:
                continue
            self.rules[rule] = fresh
            self._tickets = {name: kept for name, kept in self._tickets.items() if rule_of(name) != rule}
            for bucket_id, bucket in self.buckets.items():
                if rule_of(bucket_id) == rule and bucket.terms.kind == fresh.kind:
                    bucket.refresh(now_ms)
                    if bucket.edit(fresh):
                        changed.append(bucket_id)
        return changed

    def adjust(self, bucket_id: str, amount: int) -> Balance:
        """See `contract.Store.adjust`."""
        bucket = self.buckets[bucket_id]
        bucket.total += amount
        return self._balance(bucket_id, bucket)

    def balances(self, now_ms: int, rule: str = "") -> list[Balance]:
        """See `contract.Store.balances`."""
        found = []
        for bucket_id, bucket in self.buckets.items():
            if not rule or rule_of(bucket_id) == rule:
                bucket.refresh(now_ms)
                found.append(self._balance(bucket_id, bucket))
        return found

    # owners

    def _heard(self, owner: str, epoch: int, now_ms: int) -> Owner:
        """An owner speaks: its lease begins anew, and what was given up for lost is found again."""
        state = self._owners.get(owner)
        if state is None or state.epoch < epoch:
            state = self._owners[owner] = _OwnerState(epoch, 0)
        if state.epoch == epoch:
            state.lease_ms = now_ms + LEASE_MS
        self._find((owner, epoch))
        return owner, epoch

    def _find(self, who: Owner) -> None:
        for bucket_id, share in self._shares(who):
            self.buckets[bucket_id].find_again(share)

    def _shares(self, who: Owner) -> Iterator[tuple[str, Out]]:
        for bucket_id, bucket in self.buckets.items():
            share = bucket.outs.get(who)
            if share is not None:
                yield bucket_id, share

    # what is told

    def _name(self, terms: Mapping[str, Terms], reply: Reply, now_ms: int) -> None:
        for bucket_id, told in terms.items():
            known = self.rules.setdefault(rule_of(bucket_id), told)
            if known.stamp > told.stamp and known != told:
                reply.edited[bucket_id] = known
            if bucket_id not in self.buckets:
                self.buckets[bucket_id] = Bucket.full(known, now_ms)

    def _settle(
        self, owner: Owner, used: Mapping[str, int], returned: Mapping[str, int], now_ms: int
    ) -> None:
        for account, amount in used.items():
            bucket_id, part = account_of(account)
            bucket = self.buckets.get(bucket_id)
            if bucket is not None:
                bucket.refresh(now_ms)
                self._use(owner, account, bucket, part, amount)
        for bucket_id, amount in returned.items():
            bucket = self.buckets.get(bucket_id)
            if bucket is not None:
                bucket.refresh(now_ms)
                bucket.put_back(bucket.share(owner), amount)

    def _use(self, owner: Owner, account: str, bucket: Bucket, part: int | None, used: int) -> int:
        share = bucket.share(owner)
        if part is None:
            return bucket.use(share, used)
        told = self._told.get((owner, account), 0)
        self._told[owner, account] = max(told, used)
        return bucket.use(share, used - told, part)

    # what is asked

    def _decide(self, owner: Owner, want: Want, reply: Reply, now_ms: int, *, final: bool) -> None:
        """All of a want, or nothing of it."""
        short = []
        for bucket_id, need in want.needs.items():
            bucket = self.buckets[bucket_id]
            bucket.refresh(now_ms)
            bucket.need(need)
            bucket.share(owner).asked_ms = now_ms
            if not bucket.terms.shadow and self._available(bucket_id, bucket, want.who, now_ms) < need:
                short.append(bucket_id)
        if not short:
            self._grant(owner, want, reply, now_ms)
        elif final or not self._recall(owner, want, short, reply, now_ms):
            self._refuse(owner, want, short, reply, now_ms)

    def _available(self, bucket_id: str, bucket: Bucket, who: str, now_ms: int) -> int:
        tickets = self._tickets.get(bucket_id)
        if tickets is None:
            return bucket.free
        tickets.refresh(now_ms)
        return bucket.free - tickets.kept(who, now_ms)

    def _grant(self, owner: Owner, want: Want, reply: Reply, now_ms: int) -> None:
        for bucket_id, need in want.needs.items():
            bucket = self.buckets[bucket_id]
            bucket.take(bucket.share(owner), need)
            if bucket_id in self._tickets:
                self._tickets[bucket_id].claim(want.who, now_ms)
            if bucket.terms.shadow and bucket.free < 0:
                reply.over.append(bucket_id)
        reply.granted.append(want.id)

    def _recall(self, owner: Owner, want: Want, short: list[str], reply: Reply, now_ms: int) -> bool:
        """Calls back what is idle of the buckets that are short; False if there is nothing to call."""
        idle = {bucket_id: self.buckets[bucket_id].holders_of_idle(owner) for bucket_id in short}
        if not any(idle.values()):
            return False
        for bucket_id in short:
            bucket = self.buckets[bucket_id]
            bucket.waited_until_ms = now_ms + WAITED_MS
            for holder in idle[bucket_id]:
                bucket.outs[holder].is_open = False
                names = reply.recalls.setdefault(bucket_id, [])
                if holder[0] not in names:
                    names.append(holder[0])
        reply.parked[want.id] = short
        return True

    def _refuse(self, owner: Owner, want: Want, short: list[str], reply: Reply, now_ms: int) -> None:
        refusals = [self._refusal(bucket_id, want, now_ms) for bucket_id in short]
        # Who can say nothing makes wait the longest.
        blamed = max(refusals, key=lambda refusal: (refusal.wait_ms < 0, refusal.wait_ms))
        reply.refused.append(blamed)
        for bucket_id, amount in want.deposit.items():
            bucket = self.buckets[bucket_id]
            share = bucket.share(owner)
            if bucket_id not in short and share.is_open and amount <= bucket.free:
                bucket.take(share, amount)
                reply.back[bucket_id] = reply.back.get(bucket_id, 0) + amount

    def _refusal(self, bucket_id: str, want: Want, now_ms: int) -> Refusal:
        bucket, need = self.buckets[bucket_id], want.needs[bucket_id]
        terms, free = bucket.terms, self._available(bucket_id, bucket, want.who, now_ms)
        wait_ms, dry_ms = -1, DRY_MS
        if terms.kind == RATE and need <= terms.burst:
            tickets = self._tickets.get(bucket_id)
            if tickets is None:
                tickets = self._tickets[bucket_id] = Tickets(terms.limit, terms.window_ms)
            due_ms = tickets.issue(want.who, need, bucket.free, now_ms)
            wait_ms, dry_ms = (HORIZON_MS, FAR_DRY_MS) if due_ms is None else (due_ms, 0)
        is_held = terms.kind in (MONEY, ROLLING) and bucket.total >= need
        return Refusal(want.id, bucket_id, wait_ms, dry_ms, is_held, max(0, free))

    def _grant_wish(self, owner: Owner, bucket_id: str, wish: int, reply: Reply, now_ms: int) -> None:
        bucket = self.buckets[bucket_id]
        bucket.refresh(now_ms)
        share = bucket.share(owner)
        share.asked_ms = now_ms
        # Tickets are promises: a rate that has some is shared out by the call.
        has_tickets = bucket_id in self._tickets and bool(self._tickets[bucket_id].queue)
        given = None if has_tickets else bucket.slice(share, wish, now_ms)
        if given is None:
            share.is_open = False
            reply.shut.append(bucket_id)
        else:
            reply.slices[bucket_id] = given

    def _balance(self, bucket_id: str, bucket: Bucket) -> Balance:
        held = sum(min(share.held, share.out) for share in bucket.outs.values())
        return Balance(bucket_id, bucket.terms, bucket.spent, held, bucket.out - held, bucket.free)
