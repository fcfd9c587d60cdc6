"""All purses of one worker: what is said to the store of what calls took and gave back (`quota.reserve`).

Nothing here waits or does I/O. `exchange` puts together what is to be said, `answered` takes in the reply.
Times are arguments: seconds of a clock that never steps, and milliseconds of the day's clock for windows. The
algorithm is escrow with recall.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence

from gateway.quota.contract import Exchange, Refusal, Reply, Terms, Want
from gateway.quota.hold import Ask, Book, Hold, Seat, Seats
from gateway.quota.purse import Purse
from gateway.quota.reserve import Reserve
from gateway.quota.rows import Rows

LEASE_S = 27.0
"""Purses serve for so long after the last exchange that was answered: 0.9 of the store's lease."""
RENEW_S = 1.0
"""An owner that has nothing to say says so this often."""


class Purses(Reserve):
    """The purses of one worker in one epoch."""

    def __init__(self, journal: Book) -> None:
        super().__init__(journal)
        self.rows = Rows()
        self.owners = 1
        """Workers that asked the store in the last 2 s."""
        self._purses: dict[str, Purse] = {}
        self._told: dict[int, int] = {}
        """Account → use that was told."""
        self._active: set[Purse] = set()
        self._acks: set[str] = set()
        self._queue: list[Ask] = []
        self._asked: dict[int, Ask] = {}
        """Asks that were sent."""
        self._last_id = 0
        self._said_s = 0.0
        self._is_telling = False
        """True while an exchange is not answered: what it tells, nobody but the journal may know."""

    # purses

    def purse(self, bucket: str, make: Callable[[], Purse]) -> Purse:
        """The purse of a bucket; made with an account in the journal, which may raise `JournalFull`."""
        found = self._purses.get(bucket)
        if found is None:
            found = make()
            self.place(found, found.part)
            self._purses[bucket] = found
        return found

    def place(self, purse: Purse, part: int) -> None:
        """From now on holds of a purse are written to the account of this part of its window."""
        at = purse.accounts.get(part)
        if at is None:
            name = purse.name_of(part)
            at = purse.accounts[part] = self._journal.account(name)
            self._names[at], self._told[at] = name, 0
        purse.part, purse.account = part, at

    # what calls ask

    def ask(self, who: str, seats: Iterable[Seat], amounts: Sequence[int]) -> Ask:
        """The store is to decide; `Ask.decided` hears of it."""
        seats = seats if type(seats) is Seats else Seats(seats)
        self._last_id += 1
        ask = Ask(self._last_id, who, seats, amounts)
        self._queue.append(ask)
        for purse, place in seats:
            purse.note(amounts[place])
            if not purse.is_active:
                purse.is_active = True
                self._active.add(purse)
            if purse.balance < amounts[place]:
                self._wishes.add(purse)
        return ask

    def undecided(self) -> list[Ask]:
        """The store is out: whoever waits for it is to be told. What it grants late goes into the purses."""
        waiting = [ask for ask in (*self._asked.values(), *self._queue) if ask.decided is not None]
        self._queue = []
        return waiting

    def leave(self, ask: Ask) -> None:
        """Nobody waits for an ask any more."""
        ask.decided = None
        if ask in self._queue:
            self._queue.remove(ask)

    def _look(self) -> None:
        """Looks over what calls touched."""
        for seats in self._touched:
            seats.is_touched = False
            for purse, _ in seats.all:
                self._news.add(purse)
                if not purse.is_active:
                    purse.is_active = True
                    self._active.add(purse)
        self._touched = []

    # what is said to the store

    @property
    def is_hurried(self) -> bool:
        """True if somebody waits: a call, or whoever recalled something."""
        return bool(self._queue or self._acks)

    @property
    def has_news(self) -> bool:
        """True if there is anything to say."""
        return bool(self._queue or self._acks or self._wishes or self._news or self._touched or self.rows)

    def exchange(self, now_s: float) -> Exchange | None:
        """What is to be said now; None if there is nothing, and the lease need not be renewed."""
        if not self.has_news and now_s < self._said_s + RENEW_S:
            return None
        self._look()
        said = Exchange("", 0, 0)
        terms: dict[str, Terms] = {}
        said.wants = [self._want(ask, terms) for ask in self._queue]
        self._asked.update((ask.id, ask) for ask in self._queue)
        self._queue = []
        said.wishes = {
            purse.bucket: max(0, purse.target() - max(0, purse.balance))
            for purse in self._wishes
            if self._is_named(purse, terms)
        }
        self._wishes = set()
        said.used, said.returned, said.held = self._tell(terms)
        said.acks, self._acks = sorted(self._acks), set()
        said.rows = self.rows.take()
        said.terms = terms
        self._said_s = now_s
        self._is_telling = True
        return said

    def connected(self) -> None:
        """The store may have forgotten the terms of our buckets: they are told again with their next want."""
        for purse in self._purses.values():
            purse.is_named = False

    def dropped(self, wants: Iterable[int]) -> None:
        """These waited for a recall when the keeper went: they are asked anew, as other wants."""
        for number in wants:
            ask = self._asked.pop(number, None)
            if ask is not None and ask.decided is not None:
                self._last_id += 1
                ask.id = self._last_id
                self._queue.append(ask)

    def _want(self, ask: Ask, terms: dict[str, Terms]) -> Want:
        needs, deposit = {}, {}
        for purse, place in ask.seats:
            need = ask.amounts[place]
            if not need:
                continue
            self._is_named(purse, terms)
            needs[purse.bucket] = need
            has = min(purse.balance, need)
            if has > 0:
                purse.balance -= has
                purse.returned += has
                deposit[purse.bucket] = has
            self._news.add(purse)
        return Want(ask.id, ask.who, needs, deposit)

    def _is_named(self, purse: Purse, terms: dict[str, Terms]) -> bool:
        if not purse.is_named:
            purse.is_named = True
            terms[purse.bucket] = purse.terms
        return True

    def _tell(self, terms: dict[str, Terms]) -> tuple[dict[str, int], dict[str, int], dict[str, int]]:
        used: dict[str, int] = {}
        returned: dict[str, int] = {}
        held: dict[str, int] = {}
        values, told = self._values, self._told
        for purse in self._news:
            self._is_named(purse, terms)
            if not purse.is_open and purse.balance > 0:
                purse.returned, purse.balance = purse.returned + purse.balance, 0
            for account in purse.accounts.values():
                if values[account] != told[account]:
                    used[self._names[account]] = told[account] = values[account]
            if purse.returned != purse.told_returned:
                returned[purse.bucket] = purse.told_returned = purse.returned
            if purse.held != purse.told_held:
                held[purse.bucket] = purse.told_held = purse.held
        self._news = set()
        self.has_refunds = False
        return used, returned, held

    # what the store says

    def answered(self, reply: Reply, renewed_s: float, now_s: float) -> list[tuple[Ask, Hold | Refusal]]:
        """Takes in a reply (or, with `seq` 0, what became of wants that waited): the asks that are decided,
        for whoever waits for them. `renewed_s`: when the exchange was sent that this answers."""
        if reply.seq:
            self._is_telling = False
            self._news |= self._lending
            while self._lending:
                purse = self._lending.pop()
                self._values[purse.account] += purse.own_share(self.owners, now_s).owed()
            if now_s >= self.until_s:
                # The lease may have run out, and what we had been written off: of a rate others may have had
                # the refill since, so what is left of it is none any more.
                self.give_all_back()
            self.until_s = renewed_s + LEASE_S
            self.owners = reply.owners
        self._take_in(reply)
        decided: list[tuple[Ask, Hold | Refusal]] = []
        for number in reply.granted:
            ask = self._asked.pop(number, None)
            if ask is not None:
                hold = self._granted(ask)
                if hold is not None:
                    if reply.over:
                        hold.over = [purse for purse, _ in ask.seats if purse.bucket in reply.over]
                    decided.append((ask, hold))
        for refusal in reply.refused:
            ask = self._asked.pop(refusal.id, None)
            if ask is not None:
                self._refused(ask, refusal, renewed_s, now_s)
                if ask.decided is not None:
                    decided.append((ask, refusal))
        for bucket, amount in reply.back.items():
            self._gain(bucket, amount)
        if reply.slices:
            decided += self._serve_queue(now_s)
        return decided

    def recalled(self, seq: int, buckets: Sequence[str]) -> None:
        """Somebody waits for what is idle of these by answers up to `seq`: nothing of it is kept. What a
        later answer gave was decided when nobody waited any more."""
        kept = {purse.bucket for purse in self._known(buckets) if not purse.heed(seq)}
        self._acks.update(bucket for bucket in buckets if bucket not in kept)
        for purse in self._known(self._acks):
            self._shut(purse)

    def wet(self, buckets: Sequence[str]) -> None:
        """There may be something again."""
        for purse in self._known(buckets):
            purse.dry_until_s = 0.0

    def _known(self, buckets: Iterable[str]) -> list[Purse]:
        return [self._purses[bucket] for bucket in buckets if bucket in self._purses]

    def switch(self, terms: Mapping[str, Terms]) -> None:
        """A policy is in force, with these terms by rule: purses of rules that changed or are gone are given
        back at once."""
        for purse in self._purses.values():
            new = terms.get(purse.rule.name)
            if new is None or new.kind != purse.terms.kind:
                self._shut(purse)
            elif new._replace(stamp=0) != purse.terms._replace(stamp=0):
                purse.terms, purse.is_named, purse.dry_until_s = new, False, 0.0
                self._shut(purse)

    def tick(self, now_s: float, wall_ms: int) -> None:
        """Every 100 ms: demand fades, what is idle goes back, ended windows are closed."""
        self._look()
        for purse in list(self._active):
            purse.decay()
            if purse.held != purse.told_held:
                self._news.add(purse)
            if wall_ms >= purse.until_ms:
                self._shut(purse)
            elif purse.is_open and (excess := purse.excess()) > 0:
                purse.balance -= excess
                purse.returned += excess
                self._news.add(purse)
            if purse.demand < 1:
                purse.is_active = False
                self._active.discard(purse)

    def close_windows(self, wall_ms: int) -> list[str]:
        """Lets go of what no call can use any more and the store was told: windows that ended an hour ago,
        old parts. The buckets of those windows."""
        self._look()
        old: list[tuple[Purse, int]] = []
        over: list[str] = []
        for purse in list(self._purses.values()):
            if wall_ms >= purse.until_ms and purse.balance:
                self._shut(purse)
            if self._is_telling:
                continue
            is_over = wall_ms >= purse.until_ms + 3_600_000
            if is_over and not (purse in self._news or purse.held or purse.balance):
                old += [(purse, part) for part in purse.accounts]
                del self._purses[purse.bucket]
                self._active.discard(purse)
                over.append(purse.bucket)
            elif len(purse.accounts) > 1:
                # Holds are taken in the newest part alone.
                old += [(purse, part) for part in purse.accounts if part < purse.part]
        held = self._journal.held() if old else ()
        for purse, part in old:
            account = purse.accounts[part]
            if account not in held and self._values[account] == self._told[account]:
                del purse.accounts[part], self._names[account], self._told[account]
                self._journal.forget(account)
        return over

    def give_all_back(self) -> None:
        """The worker ends: nothing is kept."""
        for purse in [each for each in self._purses.values() if each.balance or each.is_open]:
            self._shut(purse)

    def _shut(self, purse: Purse) -> None:
        """Nothing more is taken from what it has now."""
        purse.is_open, purse.low = False, 0
        if purse.balance > 0:
            purse.returned, purse.balance = purse.returned + purse.balance, 0
            self.has_refunds = True
        self._news.add(purse)

    def _gain(self, bucket: str, amount: int) -> None:
        purse = self._purses.get(bucket)
        if purse is None:
            return
        purse.balance += amount
        if not purse.is_open:
            self._news.add(purse)
            self.has_refunds = True

    def _take_in(self, reply: Reply) -> None:
        for bucket, amount in reply.slices.items():
            if bucket in self._purses and self._purses[bucket].opens(reply.seq):
                self._acks.discard(bucket)  # A recall before is over, and it keeps what it has.
            self._gain(bucket, amount)
        for purse in self._known(reply.shut):
            self._shut(purse)
        for purse in self._known(reply.edited):
            purse.terms = reply.edited[purse.bucket]

    def _granted(self, ask: Ask) -> Hold | None:
        """What was granted is ours; a hold of it, or None if nobody waits for it."""
        for purse, place in ask.seats:
            purse.dry_until_s = 0.0
            # The store counts what it grants as held, until it hears otherwise.
            purse.told_held += ask.amounts[place]
        if ask.decided is not None:
            return self._owned(ask)
        for purse, place in ask.seats:
            purse.balance += ask.amounts[place]
            self._news.add(purse)
        self.has_refunds = True
        return None

    def _owned(self, ask: Ask) -> Hold:
        hold = Hold(ask.seats, ask.amounts, self._record(ask.seats, ask.amounts))
        for purse, place in ask.seats:
            need = ask.amounts[place]
            if purse.at_once:
                self._values[purse.account] += need
                self._news.add(purse)
            else:
                purse.held += need
        return hold

    def _refused(self, ask: Ask, refusal: Refusal, sent_s: float, now_s: float) -> None:
        purse = self._purses.get(refusal.bucket)
        if purse is None:
            return
        purse.refusal = refusal
        purse.level, purse.level_s, purse.seen = refusal.free, now_s, self.consumed(purse)
        # A rate is dry until the next ticket is due, from when it was asked, not from when the answer came:
        # else who comes at that moment is refused (1 of 80 on a busy machine).
        purse.dry_until_s = (sent_s if refusal.wait_ms > 0 else now_s) + refusal.dry_ms / 1000
        purse.dry_need = next((ask.amounts[place] for each, place in ask.seats if each is purse), 0)

    def _serve_queue(self, now_s: float) -> list[tuple[Ask, Hold | Refusal]]:
        """Those that have not been asked for yet may find what they need in a slice, the oldest first."""
        served: list[tuple[Ask, Hold | Refusal]] = []
        for ask in list(self._queue):
            hold = self.take(ask.seats, ask.amounts, now_s)
            if hold is not None:
                self._queue.remove(ask)
                served.append((ask, hold))
        return served
