"""The book of buckets: what a store decides, over plain tables. The time is an argument.

The algorithm is escrow (O'Neil 1986) with recall: owners are given slices ahead of need, and before a want is
refused, what lies idle elsewhere is called back. `changes` collects what a store has to keep; what is not in
it (tickets, who waits, who asked lately) is worth nothing after a restart.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

from gateway.quota.bucket import ASKED_MS, Bucket
from gateway.quota.changes import ADJUST, CORRECTION, CRASH, LOST, Entry
from gateway.quota.contract import (
    SLOTS,
    Balance,
    Exchange,
    Recall,
    Refusal,
    Reply,
    Terms,
    Want,
)
from gateway.quota.decision import DRY_MS, refuse
from gateway.quota.owners import ALIVE, DEAD, FORGOTTEN, LEASE_MS, Owner
from gateway.quota.owners import LOST as IS_LOST
from gateway.quota.sharing import recall, slice_of, wait_for
from gateway.quota.shelf import Shelf, account_of, rule_of, sum_moved


class Book(Shelf):
    """All buckets of a store, and the owners they are given to.

    `recover(bucket)` finds a bucket that left memory, None if there never was one. `dry_ms`: how long an
    owner may refuse money or slots by itself.
    """

    def __init__(
        self, recover: Callable[[str], Bucket | None] = lambda bucket: None, dry_ms: int = DRY_MS
    ) -> None:
        super().__init__(recover)
        self.newest: dict[str, int] = {}
        """Owner's name → its latest epoch: an earlier one is given nothing, only its use is booked."""
        self.forgotten: dict[str, int] = {}
        """Owner's name → its last epoch that was forgotten."""
        self._dry_ms = dry_ms

    # operations

    def hello(self, owner: str, epoch: int, got: Mapping[str, int], now_ms: int) -> None:
        """See `contract.Store.hello`."""
        who = self._hear(owner, epoch, now_ms)
        if who is None or who.state != ALIVE:
            return
        for bucket_id in {*who.buckets, *got}:
            bucket = self._find(bucket_id)
            if bucket is None:
                continue
            out = self._out(bucket, who)
            if out.given != got.get(bucket_id, 0):
                who.is_back = True
                moved = bucket.reconcile(out, got.get(bucket_id, 0), now_ms)
                self._book(bucket, moved, CORRECTION, who, now_ms)
        if who.is_back:
            who.decided = {}
        self.changes.owners.add(who.key)

    def exchange(self, exchange: Exchange, now_ms: int) -> Reply:
        """See `contract.Store.exchange`. `KeyError`: a bucket is asked for whose terms nobody ever told;
        nothing has changed then."""
        owner = self._hear(exchange.owner, exchange.epoch, now_ms)
        if owner is None:
            return Reply(exchange.seq)
        is_new = exchange.final or exchange.seq > owner.seq
        if not is_new and not (owner.is_back and exchange.seq == owner.seq):
            return owner.reply if exchange.seq == owner.seq and owner.reply else Reply(exchange.seq)
        reply = Reply(exchange.seq)
        self._name(exchange, reply, now_ms)
        self._hear_news(owner, exchange, now_ms)
        if not is_new and owner.reply is not None:
            owner.untold.update(owner.reply.shut)  # The reply that said so was lost.
        for bucket_id in exchange.acks:
            self._hear_ack(owner, bucket_id)
        if is_new and owner.state == ALIVE:
            self.changes.rows.extend(exchange.rows)
        for want in exchange.wants:
            self._answer(owner, want, reply, now_ms, final=exchange.final)
        if owner.state == ALIVE:
            owner.asked_ms = now_ms
            for bucket_id, wish in exchange.wishes.items():
                self._grant_wish(owner, bucket_id, wish, reply, now_ms)
        if not exchange.final:
            reply.shut.extend(owner.untold)
            owner.untold.clear()
        reply.owners = sum(
            other.state == ALIVE and now_ms - other.asked_ms <= ASKED_MS for other in self.owners.values()
        )
        if not exchange.final:
            owner.seq, owner.reply, owner.is_back = exchange.seq, reply, False
            if exchange.used or exchange.returned or exchange.rows or exchange.wants or exchange.wishes:
                # One that only renews the lease may be done twice, so nobody need keep it.
                self.changes.owners.add(owner.key)
        return reply

    def bury(
        self,
        owner: str,
        epoch: int,
        used: Mapping[str, int],
        holds: Mapping[str, int],
        now_ms: int,
        rows: Sequence[Sequence[Any]] = (),
    ) -> dict[str, int]:
        """See `contract.Store.bury`. `rows`: those that are not booked yet. Money that was posted and that
        they do not explain gets an entry of its own."""
        key = f"{owner}@{epoch}"
        who = self.owners.get(key)
        if who is None:
            if epoch <= self.forgotten.get(owner, -1):
                return {}
            who = self._begin(owner, epoch, now_ms)
        moved: dict[str, int] = {}
        posted = self._use(who, used, moved, now_ms)
        by_bucket: dict[str, list[tuple[int, int]]] = {}
        for account, amount in holds.items():
            bucket_id, part = account_of(account)
            by_bucket.setdefault(bucket_id, []).append((part, amount))
            found = self._find(bucket_id)
            if who.state != DEAD and found is not None and found.terms.kind != SLOTS and amount:
                posted[account] = posted.get(account, 0) + amount
        for bucket_id in {*who.buckets, *by_bucket}:
            bucket = self._find(bucket_id)
            if bucket is not None:
                bucket.refill(now_ms)
                out = self._out(bucket, who)
                sum_moved(moved, bucket, bucket.settle(out, by_bucket.get(bucket_id, ()), now_ms))
        kind = CORRECTION if who.state in (IS_LOST, DEAD) else CRASH
        if who.state != DEAD:
            self.changes.rows.extend(rows)
            who.state, who.ended_ms = DEAD, now_ms
            for row in rows:
                for account, amount in row[-1].items():
                    moved[account] = moved.get(account, 0) - amount
                    self.changes.post(account, amount)
        for account, amount in moved.items():
            self._enter(account, amount, kind, who.key, now_ms)
        self.changes.owners.add(key)
        return {account: amount for account, amount in posted.items() if amount}

    def expire(self, now_ms: int) -> list[str]:
        """See `contract.Store.expire`. Also lets go of what is over."""
        lost = [who for who in self.owners.values() if who.state == ALIVE and who.lease_ms < now_ms]
        for who in lost:
            self._lose(who, now_ms)
        for who in [who for who in self.owners.values() if who.is_over(now_ms)]:
            self._forget(who)
        self._evict(now_ms)
        return [who.name for who in lost]

    def set_terms(self, terms: Mapping[str, Terms], now_ms: int) -> list[str]:
        """See `contract.Store.set_terms`."""
        fresh = {
            rule: told
            for rule, told in terms.items()
            if rule not in self.rules or self.rules[rule].stamp < told.stamp
        }
        self.rules.update(fresh)
        self.changes.rules.update(fresh)
        changed = []
        for bucket in list(self.buckets.values()) if fresh else ():
            told = fresh.get(rule_of(bucket.id))
            if told is not None and told.kind == bucket.terms.kind:
                bucket.refill(now_ms)
                most = bucket.terms.most
                if bucket.edit(told):
                    changed.append(bucket.id)
                if told.most < most:
                    self._shut(bucket, [key for key, out in bucket.outs.items() if out.open])
                self.changes.buckets.add(bucket.id)
        return changed

    def adjust(self, bucket_id: str, amount: int, audit: Mapping[str, Any], now_ms: int) -> Balance:
        """See `contract.Store.adjust`."""
        bucket = self._find(bucket_id)
        if bucket is None:
            raise KeyError(bucket_id)
        bucket.refill(now_ms)
        bucket.adjust(amount, now_ms)
        self.changes.buckets.add(bucket_id)
        account = bucket.account(bucket.part_at(now_ms))
        note = ", ".join(f"{name}={value}" for name, value in audit.items() if name != "who")
        self.changes.entries.append(Entry(now_ms, account, ADJUST, amount, str(audit.get("who", "")), note))
        return self.balance(bucket_id, now_ms)

    # owners

    def _hear(self, name: str, epoch: int, now_ms: int) -> Owner | None:
        """An owner speaks: its lease begins anew. What a lost one had stays written off until it says what
        became of it; its purses are shut. None: it was forgotten."""
        key = f"{name}@{epoch}"
        owner = self.owners.get(key)
        if owner is None:
            if epoch <= self.forgotten.get(name, -1):
                return None
            owner = self._begin(name, epoch, now_ms)
        owner.lease_ms = max(owner.lease_ms, now_ms + LEASE_MS)
        if owner.state == IS_LOST and epoch == self.newest[name]:
            owner.state = ALIVE
            self.changes.owners.add(key)
            for bucket in filter(None, map(self._find, owner.buckets)):
                self._shut(bucket, [key])
        return owner

    def _begin(self, name: str, epoch: int, now_ms: int) -> Owner:
        """An epoch that is new here. The one before is replaced: its process is gone, so its slots are free,
        and the rest counts as used until its journal is read. One that is older than the newest known is
        replaced from the start."""
        owner = Owner(name, epoch, now_ms + LEASE_MS)
        self.owners[owner.key] = owner
        self.changes.owners.add(owner.key)
        before = self.newest.get(name, -1)
        if epoch < before:
            owner.state, owner.ended_ms = IS_LOST, now_ms
            return owner
        self.newest[name] = epoch
        replaced = self.owners.get(f"{name}@{before}")
        if replaced is not None and replaced.state == ALIVE:
            self._lose(replaced, now_ms)
        return owner

    def _lose(self, who: Owner, now_ms: int) -> None:
        who.state, who.ended_ms = IS_LOST, now_ms
        self.changes.owners.add(who.key)
        for bucket in filter(None, map(self._find, list(who.buckets))):
            self._refill(bucket, now_ms)
            bucket.waits.pop(who.key, None)
            out = self._out(bucket, who)
            self._book(bucket, bucket.write_off(out, now_ms), LOST, who, now_ms)

    def _forget(self, who: Owner) -> None:
        for bucket_id in who.buckets:
            bucket = self.buckets.get(bucket_id)
            if bucket is not None and (out := bucket.outs.pop(who.key, None)) is not None:
                bucket.out -= out.out
                bucket.waits.pop(who.key, None)
                self.changes.buckets.add(bucket_id)
        del self.owners[who.key]
        who.state = FORGOTTEN
        self.forgotten[who.name] = max(who.epoch, self.forgotten.get(who.name, -1))
        self.changes.forgotten.append(who.key)

    # buckets

    def _name(self, exchange: Exchange, reply: Reply, now_ms: int) -> None:
        """Makes the buckets that are named for the first time, by the newest terms of their rules."""
        for bucket_id in [*exchange.wishes, *(bucket for want in exchange.wants for bucket in want.needs)]:
            if bucket_id not in exchange.terms and self._find(bucket_id) is None:
                if rule_of(bucket_id) not in self.rules:
                    raise KeyError(bucket_id)
                self._create(bucket_id, self.rules[rule_of(bucket_id)], now_ms)
        for bucket_id, told in exchange.terms.items():
            rule = rule_of(bucket_id)
            if rule not in self.rules or self.rules[rule].stamp < told.stamp:
                self.set_terms({rule: told}, now_ms)
            known = self.rules[rule]
            if known.stamp > told.stamp and known._replace(stamp=told.stamp) != told:
                reply.edited[bucket_id] = known
            if self._find(bucket_id) is None:
                self._create(bucket_id, known if known.kind == told.kind else told, now_ms)

    # what is told

    def _hear_news(self, owner: Owner, exchange: Exchange, now_ms: int) -> None:
        moved: dict[str, int] = {}
        used = self._use(owner, exchange.used, moved, now_ms)
        for bucket_id, returned in exchange.returned.items():
            bucket = self._find(bucket_id)
            if bucket is None:
                continue
            had = bucket.outs.get(owner.key)
            more = returned - (had.returned if had is not None else 0)
            if more > 0:
                self._refill(bucket, now_ms)
                sum_moved(moved, bucket, bucket.give_back(self._out(bucket, owner), more, now_ms))
        for bucket_id, held in exchange.held.items():
            bucket = self._find(bucket_id)
            if bucket is not None and (out := self._out(bucket, owner)).held != held:
                out.held = min(held, out.out)
        # The rows of a dead owner came with its journal; of a living one they are what explains its use.
        explained = used if owner.state == ALIVE else {}
        for account, amount in moved.items():
            told = explained.get(account, 0)
            if told:
                self.changes.post(account, told)
            self._enter(account, amount - told, CORRECTION, owner.key, now_ms)

    def _hear_ack(self, owner: Owner, bucket_id: str) -> None:
        """An owner has shut its purse of a bucket and returned what was idle: what it still has is held, so
        nobody waits for it again, and it need not be told."""
        bucket = self._find(bucket_id)
        out = bucket.outs.get(owner.key) if bucket is not None else None
        if bucket is None or out is None:
            return
        out.open, out.held = False, out.out
        owner.untold.discard(bucket_id)
        self._out(bucket, owner)

    # what is asked

    def _answer(self, owner: Owner, want: Want, reply: Reply, now_ms: int, *, final: bool) -> None:
        """Decides a want, once: who asks finally again is told the same."""
        if final and want.id in owner.decided:
            refusal, back = owner.decided[want.id]
        else:
            short = [] if owner.state != ALIVE else self._short(owner, want, now_ms, is_first=not final)
            if owner.state != ALIVE:
                # Nobody is there to be told when to come: a ticket would lapse, and bar its caller.
                refusal, back = Refusal(want.id, next(iter(want.needs), ""), -1, 0, False), {}
            elif not short:
                refusal, back = None, {}
                self._grant(owner, want, reply, now_ms)
            elif not final and self._park(owner, want, short, reply, now_ms):
                return
            else:
                refusal, back = refuse(self.buckets, owner.key, want, short, now_ms, self._dry_ms)
                for bucket_id, amount in back.items():
                    self.buckets[bucket_id].take(self._out(self.buckets[bucket_id], owner), amount)
            if final:
                owner.remember(want.id, refusal, back)
        if refusal is None:
            reply.granted.append(want.id)
        else:
            reply.refused.append(refusal)
        for bucket_id, amount in back.items():
            reply.back[bucket_id] = reply.back.get(bucket_id, 0) + amount

    def _short(self, owner: Owner, want: Want, now_ms: int, *, is_first: bool) -> list[str]:
        """The buckets that have less than a want needs."""
        short = []
        for bucket_id, need in want.needs.items():
            bucket = self.buckets[bucket_id]
            self._refill(bucket, now_ms)
            bucket.touched_ms = now_ms
            self._out(bucket, owner).asked_ms = now_ms
            if is_first:
                bucket.learn(need)
            else:
                # What it asks for anew meanwhile waits for the same recall.
                bucket.waits.pop(owner.key, None)
            if need > 0 and not bucket.terms.shadow and bucket.available(want.who, now_ms) < need:
                short.append(bucket_id)
        return short

    def _grant(self, owner: Owner, want: Want, reply: Reply, now_ms: int) -> None:
        for bucket_id, need in want.needs.items():
            bucket = self.buckets[bucket_id]
            out = self._out(bucket, owner)
            is_over = bucket.terms.shadow and bucket.free < need
            if is_over and bucket_id not in reply.over:
                reply.over.append(bucket_id)
            if is_over and not bucket.is_money:
                bucket.give_uncounted(out, need)
                continue
            bucket.take(out, need)
            out.held += need
            if bucket.tickets:
                bucket.tickets.claim(want.who, need, now_ms)

    def _park(self, owner: Owner, want: Want, short: Iterable[str], reply: Reply, now_ms: int) -> bool:
        """Calls back what is idle of the buckets that are short; False if that would not help."""
        found = {bucket_id: recall(self.buckets[bucket_id], owner.key, now_ms) for bucket_id in short}
        if all(holders is None for holders in found.values()):
            return False
        for bucket_id, holders in found.items():
            if holders:
                asked = sorted(map(self._recall, holders))
                reply.recalls.setdefault(bucket_id, []).extend(asked)
                self._shut(self.buckets[bucket_id], holders)
        for bucket_id in want.needs:
            # Also of what suffices now: a slice of that would leave this want short of it in the end.
            wait_for(self.buckets[bucket_id], owner.key, now_ms)
        reply.parked[want.id] = list(found)
        return True

    def _recall(self, key: str) -> Recall:
        holder = self.owners[key]
        return Recall(holder.name, holder.epoch, holder.seq)

    def _grant_wish(self, owner: Owner, bucket_id: str, wish: int, reply: Reply, now_ms: int) -> None:
        bucket = self.buckets[bucket_id]
        self._refill(bucket, now_ms)
        out = self._out(bucket, owner)
        out.asked_ms = bucket.touched_ms = now_ms
        given = slice_of(bucket, out, wish, now_ms)
        if given is None:
            reply.shut.append(bucket_id)
        else:
            reply.slices[bucket_id] = given
            bucket.take(out, given)
        out.open = given is not None
        owner.untold.discard(bucket_id)

    def _shut(self, bucket: Bucket, keys: Iterable[str]) -> None:
        """From now on these owners keep nothing of a bucket; they are told in their next reply."""
        for key in keys:
            if bucket.outs[key].open:
                bucket.outs[key].open = False
                self.owners[key].untold.add(bucket.id)
                self.changes.outs.add((bucket.id, key))
