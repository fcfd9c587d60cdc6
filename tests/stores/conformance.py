"""What every store must do: one suite over `quota.contract.Store`.

A module of tests inherits `Conformance` in a class of its own and has a fixture `make_store`: a coroutine
function without arguments that gives a fresh, empty store. The fixture `clock` belongs to the store:
`await clock.advance(ms)` moves its time on, `clock.now_ms` reads it.

    class TestEmbedded(Conformance):
        ...
"""

from __future__ import annotations

import random
from collections.abc import Awaitable, Callable, Mapping
from typing import Any, Protocol

import pytest

from gateway.quota.contract import (
    MONEY,
    RATE,
    ROLLING,
    SLOTS,
    Balance,
    Exchange,
    Reply,
    Store,
    Terms,
    Want,
)

MINUTE = 60_000
DAY, TEAM = "day|key=app|2026-11-01", "team|team=search|2026-11-01"
ROLL, RPM, RUNNING = "roll|key=app|rolling", "rate.requests|key=app|", "rate.concurrent|key=app|"
MONEY_1000 = Terms(MONEY, 1000)
TEN_A_SECOND = Terms(RATE, 600, burst=10, window_ms=MINUTE)


class Clock(Protocol):
    """The store's time."""

    @property
    def now_ms(self) -> int: ...
    async def advance(self, ms: int) -> None: ...


MakeStore = Callable[[], Awaitable[Store]]


class Teller:
    """An owner: numbers its exchanges and sums what it reports, as a worker does."""

    def __init__(self, store: Store, name: str, epoch: int = 1) -> None:
        self.store, self.name, self.epoch = store, name, epoch
        self.seq = self.want = 0
        self.used: dict[str, int] = {}
        self.returned: dict[str, int] = {}
        self.last: Exchange | None = None

    def exchange(
        self,
        needs: Mapping[str, int] | None = None,
        *,
        terms: Mapping[str, Terms] | None = None,
        used: Mapping[str, int] | None = None,
        returned: Mapping[str, int] | None = None,
        who: str = "app",
        deposit: Mapping[str, int] | None = None,
        **more: Any,
    ) -> Exchange:
        """The next exchange. `used` and `returned`: what comes to what was told before."""
        self.seq += 1
        for told, news in ((self.used, used), (self.returned, {**(returned or {}), **(deposit or {})})):
            for name, amount in (news or {}).items():
                told[name] = told.get(name, 0) + amount
        wants = []
        if needs is not None:
            self.want += 1
            wants.append(Want(self.want, who, needs, deposit or {}))
        self.last = Exchange(
            self.name,
            self.epoch,
            self.seq,
            terms=terms or {},
            used={name: self.used[name] for name in used or {}},
            returned={name: self.returned[name] for name in {**(returned or {}), **(deposit or {})}},
            wants=wants,
            **more,
        )
        return self.last

    async def tell(self, needs: Mapping[str, int] | None = None, **more: Any) -> Reply:
        return await self.store.exchange(self.exchange(needs, **more))

    async def again(self) -> Reply:
        """The last one, as after a lost reply."""
        assert self.last is not None
        return await self.store.exchange(self.last)

    async def finally_(self) -> Reply:
        """The last one's wants, as the keeper asks after a recall."""
        assert self.last is not None
        wants = self.last.wants
        return await self.store.exchange(Exchange(self.name, self.epoch, 0, wants=wants, final=True))


async def balance(store: Store, bucket: str) -> Balance:
    return next(each for each in await store.balances() if each.bucket == bucket)


async def free(store: Store, bucket: str) -> int:
    return (await balance(store, bucket)).free


def row(charges: Mapping[str, int], request: str = "r1", time_ms: int = 1_000, **more: Any) -> list[Any]:
    """A usage row that cost what it charges."""
    fields: dict[str, Any] = {
        "time_ms": time_ms,
        "request_id": request,
        "attempt": 1,
        "key": "app",
        "team": "search",
        "model": "fast",
        "target": "openai/gpt-4o",
        "status": 200,
        "outcome": "ok",
        "input": 10,
        "cached_input": 0,
        "cache_write": 0,
        "audio_input": 0,
        "output": 5,
        "reasoning": 0,
        "audio_output": 0,
        "nanousd": max(charges.values(), default=0),
        "estimated": 0,
        "charges": dict(charges),
    }
    return list({**fields, **more}.values())


async def opened(store: Store, name: str, bucket: str, terms: Terms, slice_: int) -> tuple[Teller, int]:
    """An owner with an open purse of a bucket, and what is in it."""
    owner = Teller(store, name)
    await owner.tell({bucket: 1}, terms={bucket: terms})
    reply = await owner.tell(returned={bucket: 1}, held={bucket: 0}, wishes={bucket: slice_})
    assert reply.slices.get(bucket), reply
    return owner, reply.slices[bucket]


class Conformance:
    """Every rule of the contract. Read the names."""

    # wants

    async def test_a_want_gets_all_or_nothing(self, make_store: MakeStore) -> None:
        store = await make_store()
        owner = Teller(store, "w0")
        terms = {DAY: MONEY_1000, TEAM: MONEY_1000}
        assert (await owner.tell({DAY: 900}, terms=terms)).granted == [1]
        reply = await owner.tell({DAY: 200, TEAM: 5})
        assert reply.granted == []
        assert [(each.id, each.bucket, each.wait_ms, each.free) for each in reply.refused] == [
            (2, DAY, -1, 100)
        ]
        assert (await free(store, DAY), await free(store, TEAM)) == (100, 1000)

    async def test_wants_of_one_exchange_are_decided_in_their_order(self, make_store: MakeStore) -> None:
        store = await make_store()
        wants = [Want(id_, "app", {DAY: need}, {}) for id_, need in ((1, 600), (2, 500), (3, 400))]
        reply = await store.exchange(Exchange("w0", 1, 1, terms={DAY: MONEY_1000}, wants=wants))
        assert reply.granted == [1, 3]
        assert [each.id for each in reply.refused] == [2]

    async def test_money_that_is_held_may_come_free_and_money_spent_does_not(
        self, make_store: MakeStore
    ) -> None:
        store = await make_store()
        owner = Teller(store, "w0")
        await owner.tell({DAY: 900}, terms={DAY: MONEY_1000})
        reply = await owner.tell({DAY: 200})
        assert reply.refused[0].is_held
        reply = await owner.tell({DAY: 200}, used={DAY: 900}, held={DAY: 0})
        assert not reply.refused[0].is_held
        assert (await owner.tell({DAY: 100})).granted

    async def test_use_and_returns_are_sums_of_the_epoch(self, make_store: MakeStore) -> None:
        store = await make_store()
        owner = Teller(store, "w0")
        await owner.tell({DAY: 500}, terms={DAY: MONEY_1000})
        await owner.tell(used={DAY: 100})
        await owner.tell(used={DAY: 50}, returned={DAY: 150})
        assert await free(store, DAY) == 650
        assert (await balance(store, DAY)).spent == 150
        await owner.tell(used={DAY: 0}, returned={DAY: 0})
        assert await free(store, DAY) == 650

    async def test_the_same_exchange_again_gets_the_same_reply_and_changes_nothing(
        self, make_store: MakeStore
    ) -> None:
        store = await make_store()
        owner = Teller(store, "w0")
        await owner.tell({DAY: 500}, terms={DAY: MONEY_1000})
        reply = await owner.tell({DAY: 100}, used={DAY: 500}, rows=[row({DAY: 500})])
        before = await store.balances()
        for _ in range(3):
            again = await owner.again()
            assert (again.seq, again.granted, again.refused) == (reply.seq, [2], [])
        assert await store.balances() == before
        assert await store.verify() == []

    async def test_an_exchange_older_than_the_last_changes_nothing(self, make_store: MakeStore) -> None:
        store = await make_store()
        owner = Teller(store, "w0")
        first = owner.exchange({DAY: 500}, terms={DAY: MONEY_1000})
        await store.exchange(first)
        await owner.tell({DAY: 100}, used={DAY: 400}, returned={DAY: 100})
        before = await store.balances()
        await store.exchange(first)
        assert await store.balances() == before

    async def test_use_above_what_was_given_is_booked_and_nothing_is_granted(
        self, make_store: MakeStore
    ) -> None:
        store = await make_store()
        owner = Teller(store, "w0")
        await owner.tell({DAY: 1000}, terms={DAY: MONEY_1000})
        await owner.tell(used={DAY: 1200})
        assert (await balance(store, DAY)).spent == 1200
        assert await free(store, DAY) == -200
        reply = await owner.tell({DAY: 1})
        assert reply.refused and not reply.refused[0].is_held

    async def test_slots_are_never_used_up(self, make_store: MakeStore) -> None:
        store = await make_store()
        owner = Teller(store, "w0")
        terms = {RUNNING: Terms(SLOTS, 2)}
        assert (await owner.tell({RUNNING: 1}, terms=terms)).granted
        assert (await owner.tell({RUNNING: 1})).granted
        reply = await owner.tell({RUNNING: 1})
        assert [(each.bucket, each.wait_ms) for each in reply.refused] == [(RUNNING, -1)]
        assert (await owner.tell({RUNNING: 1}, returned={RUNNING: 1})).granted

    # recalls

    async def test_what_lies_idle_elsewhere_is_called_back_before_a_refusal(
        self, make_store: MakeStore
    ) -> None:
        store = await make_store()
        one, idle = await opened(store, "w0", DAY, MONEY_1000, 500)
        two = Teller(store, "w1")
        parked = await two.tell({DAY: 900}, terms={DAY: MONEY_1000})
        assert (parked.granted, parked.refused) == ([], [])
        assert (parked.parked, parked.recalls) == ({1: [DAY]}, {DAY: ["w0"]})
        # While somebody waits nothing is sliced, and the purse is shut.
        reply = await one.tell(returned={DAY: idle}, wishes={DAY: 100}, acks=[DAY])
        assert (reply.slices.get(DAY, 0), reply.shut) == (0, [DAY])
        assert (await two.finally_()).granted == [1]

    async def test_a_last_decision_is_taken_once(self, make_store: MakeStore) -> None:
        store = await make_store()
        one, idle = await opened(store, "w0", DAY, MONEY_1000, 500)
        two = Teller(store, "w1")
        assert (await two.tell({DAY: 900}, terms={DAY: MONEY_1000})).parked
        await one.tell(returned={DAY: idle}, acks=[DAY])
        assert [(await two.finally_()).granted for _ in range(3)] == [[1]] * 3
        assert await free(store, DAY) == 100

    async def test_a_parked_want_is_refused_for_good_if_nothing_came(self, make_store: MakeStore) -> None:
        store = await make_store()
        await opened(store, "w0", DAY, MONEY_1000, 500)
        two = Teller(store, "w1")
        assert (await two.tell({DAY: 900}, terms={DAY: MONEY_1000})).parked
        final = await two.finally_()
        assert (final.granted, final.parked) == ([], {})
        assert [each.bucket for each in final.refused] == [DAY]

    async def test_nobody_is_called_who_holds_all_it_has_or_whose_purse_is_shut(
        self, make_store: MakeStore
    ) -> None:
        store = await make_store()
        one, idle = await opened(store, "w0", DAY, MONEY_1000, 500)
        await one.tell(held={DAY: idle})
        shut = Teller(store, "w2")
        await shut.tell({DAY: 100}, terms={DAY: MONEY_1000})
        two = Teller(store, "w1")
        reply = await two.tell({DAY: 900}, terms={DAY: MONEY_1000})
        assert (reply.parked, [each.id for each in reply.refused]) == ({}, [1])

    async def test_two_that_cross_over_two_buckets_never_refuse_each_other(
        self, make_store: MakeStore
    ) -> None:
        """500 of 500: each has opened the bucket that the other needs too."""
        store = await make_store()
        for seed in range(500):
            dice = random.Random(seed)
            one, other = f"x{seed}|all|2026", f"y{seed}|all|2026"
            terms = {one: MONEY_1000, other: MONEY_1000}
            owners = []
            for name, bucket in ((f"a{seed}", one), (f"b{seed}", other)):
                owner, idle = await opened(store, name, bucket, MONEY_1000, 900)
                owners.append((owner, bucket, idle))
            dice.shuffle(owners)
            needs, granted, parked = {one: 800, other: 800}, 0, []
            for owner, bucket, idle in owners:
                reply = await owner.tell(needs, terms=terms, deposit={bucket: idle}, held={bucket: 0})
                granted += len(reply.granted)
                if reply.parked:
                    parked.append(owner)
            for owner in parked:
                granted += len((await owner.finally_()).granted)
            assert granted == 1, f"seed {seed}"

    # slices

    async def test_slices_are_a_part_of_what_is_free_and_owners_share_it(self, make_store: MakeStore) -> None:
        store = await make_store()
        _, first = await opened(store, "w0", DAY, MONEY_1000, 10_000)
        assert first == 1000 // 2
        _, second = await opened(store, "w1", DAY, MONEY_1000, 10_000)
        assert second == 500 // (2 * 2)

    async def test_a_purse_is_shut_while_a_share_is_less_than_four_holds(self, make_store: MakeStore) -> None:
        store = await make_store()
        owner = Teller(store, "w0")
        reply = await owner.tell({DAY: 150}, terms={DAY: MONEY_1000}, wishes={DAY: 100})
        assert (reply.slices, reply.shut) == ({}, [DAY])

    async def test_a_wish_below_one_hold_gets_nothing(self, make_store: MakeStore) -> None:
        store = await make_store()
        owner = Teller(store, "w0")
        reply = await owner.tell({DAY: 50}, terms={DAY: MONEY_1000}, wishes={DAY: 49})
        assert (reply.slices, reply.shut) == ({DAY: 0}, [])

    async def test_deposits_come_back_where_the_purse_is_open_and_the_bucket_not_short(
        self, make_store: MakeStore
    ) -> None:
        store = await make_store()
        owner, idle = await opened(store, "w0", DAY, MONEY_1000, 500)
        reply = await owner.tell(
            {DAY: 100, TEAM: 2000}, terms={TEAM: MONEY_1000}, deposit={DAY: 100}, held={DAY: 0}
        )
        assert [each.bucket for each in reply.refused] == [TEAM]
        assert reply.back == {DAY: 100}
        assert await free(store, DAY) == 1000 - idle
        shut = Teller(store, "w1")
        await shut.tell({DAY: 100}, terms={DAY: MONEY_1000})
        reply = await shut.tell({DAY: 100, TEAM: 2000}, deposit={DAY: 100})
        assert reply.refused and reply.back == {}

    async def test_deposits_stay_where_somebody_else_waits(self, make_store: MakeStore) -> None:
        store = await make_store()
        one, first = await opened(store, "w0", DAY, MONEY_1000, 300)
        await opened(store, "w1", DAY, MONEY_1000, 100)
        # All of it is held when the recall comes, so that purse stays open.
        await one.tell(held={DAY: first})
        three = Teller(store, "w2")
        assert (await three.tell({DAY: 700}, terms={DAY: MONEY_1000})).parked
        reply = await one.tell(
            {DAY: 100, TEAM: 2000}, terms={TEAM: MONEY_1000}, deposit={DAY: first}, held={DAY: 0}
        )
        assert reply.refused and reply.back == {}

    # rates

    async def test_a_rate_refills_up_to_its_burst(self, make_store: MakeStore, clock: Clock) -> None:
        store = await make_store()
        owner = Teller(store, "w0")
        assert (await owner.tell({RPM: 10}, terms={RPM: TEN_A_SECOND})).granted
        await owner.tell(used={RPM: 10})
        await clock.advance(500)
        assert await free(store, RPM) == 5
        await clock.advance(5_000)
        assert await free(store, RPM) == 10

    async def test_no_window_of_a_rate_is_passed_whatever_lies_in_purses_how_long(
        self, make_store: MakeStore, clock: Clock
    ) -> None:
        """Every window of 10 s, while three owners hold slices, return some and use the rest late."""
        dice = random.Random(7)
        store = await make_store()
        rate = Terms(RATE, 600, burst=60, window_ms=MINUTE)
        owners = [Teller(store, f"w{number}") for number in range(3)]
        purses = dict.fromkeys(range(3), 0)
        spent: list[tuple[int, int]] = []
        for _ in range(600):
            await clock.advance(dice.choice((0, 50, 300, 1000)))
            number = dice.randrange(3)
            owner, terms = owners[number], {RPM: rate}
            need = dice.randint(1, 8)
            use = dice.randint(0, purses[number])
            back = dice.randint(0, purses[number] - use) if dice.random() < 0.3 else 0
            spent.append((clock.now_ms, use))
            purses[number] -= use + back
            reply = await owner.tell(
                {RPM: need},
                terms=terms,
                used={RPM: use},
                returned={RPM: back},
                held={RPM: 0},
                wishes={RPM: 30},
                who=owner.name,
            )
            purses[number] += need * len(reply.granted) + reply.slices.get(RPM, 0)
        for start, _ in spent:
            used = sum(amount for at, amount in spent if start < at <= start + 10_000)
            assert used <= 60 + 100
        assert sum(amount for _, amount in spent) > 1_000

    async def test_who_comes_when_its_ticket_says_is_let_in_and_who_pushes_in_is_not(
        self, make_store: MakeStore, clock: Clock
    ) -> None:
        store = await make_store()
        owner = Teller(store, "w0")

        async def call(who: str) -> int | None:
            """None if it was let in, else how long it is to wait."""
            reply = await owner.tell({RPM: 1}, terms={RPM: TEN_A_SECOND}, who=who)
            if reply.granted:
                await owner.tell(used={RPM: 1})
                return None
            assert reply.refused[0].dry_ms == 0
            return reply.refused[0].wait_ms

        assert [await call("a") for _ in range(10)] == [None] * 10
        assert [await call("a"), await call("a")] == [100, 200]
        await clock.advance(99)
        assert await call("b") is not None
        await clock.advance(1)
        assert await call("b") is not None
        assert await call("a") is None
        await clock.advance(100)
        assert await call("c") is not None
        assert await call("a") is None

    async def test_what_is_beyond_the_horizon_gets_no_ticket(
        self, make_store: MakeStore, clock: Clock
    ) -> None:
        store = await make_store()
        owner = Teller(store, "w0")
        slow = {RPM: Terms(RATE, 1, burst=1, window_ms=10 * MINUTE)}
        await owner.tell({RPM: 1}, terms=slow)
        refusal = (await owner.tell({RPM: 1}, used={RPM: 1})).refused[0]
        assert refusal.wait_ms == MINUTE and 0 < refusal.dry_ms <= 250

    async def test_a_ticket_that_is_not_claimed_lapses_after_a_second(
        self, make_store: MakeStore, clock: Clock
    ) -> None:
        store = await make_store()
        owner = Teller(store, "w0")
        await owner.tell({RPM: 10}, terms={RPM: TEN_A_SECOND}, who="a")
        assert (await owner.tell({RPM: 10}, used={RPM: 10}, who="a")).refused[0].wait_ms == 1_000
        await clock.advance(2_001)
        assert (await owner.tell({RPM: 10}, who="b")).granted
        # Whoever let one lapse is only told when it might get in, and nothing is kept for it.
        refusal = (await owner.tell({RPM: 1}, used={RPM: 10}, who="a")).refused[0]
        assert (refusal.wait_ms, refusal.dry_ms > 0) == (100, True)
        await clock.advance(100)
        assert (await owner.tell({RPM: 1}, who="c")).granted

    # rolling windows

    async def test_what_was_spent_leaves_a_rolling_window_with_its_slice_and_never_early(
        self, make_store: MakeStore, clock: Clock
    ) -> None:
        store = await make_store()
        owner = Teller(store, "w0")
        rolling = Terms(ROLLING, 1000, window_ms=60 * MINUTE)
        await owner.tell({ROLL: 800}, terms={ROLL: rolling})
        account = f"{ROLL}#{clock.now_ms // MINUTE}"
        await owner.tell(used={account: 800}, rows=[row({account: 800})])
        into = clock.now_ms % MINUTE
        await clock.advance(60 * MINUTE - into)
        assert (await balance(store, ROLL)).spent == 800
        await clock.advance(MINUTE)
        assert ((await balance(store, ROLL)).spent, await free(store, ROLL)) == (0, 1000)
        assert await store.verify() == []

    # owners

    async def test_what_was_given_and_never_arrived_comes_back(self, make_store: MakeStore) -> None:
        store = await make_store()
        owner = Teller(store, "w0")
        await owner.tell({DAY: 300}, terms={DAY: MONEY_1000})
        await owner.tell({DAY: 200})
        await store.hello("w0", 1, {DAY: 300})
        assert await free(store, DAY) == 700
        # It asks again with the same number, for it never had the reply.
        assert (await owner.again()).granted == [2]
        assert await free(store, DAY) == 500

    async def test_the_dead_pay_for_their_open_holds_and_no_more(self, make_store: MakeStore) -> None:
        store = await make_store()
        owner = Teller(store, "w0")
        terms = {DAY: MONEY_1000, RUNNING: Terms(SLOTS, 2), RPM: TEN_A_SECOND}
        await owner.tell({DAY: 300, RUNNING: 2, RPM: 6}, terms=terms)
        used, holds = {DAY: 40, RPM: 3}, {DAY: 100, RUNNING: 1, RPM: 1}
        posted = await store.bury("w0", 1, used, holds)
        assert posted[DAY] == 140
        assert [await free(store, bucket) for bucket in (DAY, RUNNING, RPM)] == [860, 2, 6]
        assert not any((await store.bury("w0", 1, used, holds)).values())
        assert [await free(store, bucket) for bucket in (DAY, RUNNING, RPM)] == [860, 2, 6]
        assert await store.verify() == []

    async def test_what_the_dead_said_late_changes_nothing(self, make_store: MakeStore) -> None:
        store = await make_store()
        owner = Teller(store, "w0")
        await owner.tell({DAY: 300}, terms={DAY: MONEY_1000})
        late = owner.exchange({DAY: 10}, used={DAY: 40}, rows=[row({DAY: 40})])
        await store.bury("w0", 1, {DAY: 40}, {DAY: 100}, [row({DAY: 40})])
        assert (await store.exchange(late)).granted == []
        assert await free(store, DAY) == 860
        assert await store.verify() == []

    async def test_what_the_dead_used_beyond_their_journal_is_booked_once(
        self, make_store: MakeStore
    ) -> None:
        store = await make_store()
        owner = Teller(store, "w0")
        await owner.tell({DAY: 300}, terms={DAY: MONEY_1000})
        late = owner.exchange(used={DAY: 90}, rows=[row({DAY: 90})])
        await store.bury("w0", 1, {DAY: 40}, {DAY: 30})
        for _ in range(2):
            await store.exchange(late)
            assert (await balance(store, DAY)).spent == 90
        assert await free(store, DAY) == 910
        assert await store.verify() == []

    async def test_a_worker_that_comes_again_is_another_owner(self, make_store: MakeStore) -> None:
        store = await make_store()
        await Teller(store, "w0").tell({DAY: 300}, terms={DAY: MONEY_1000})
        reborn = Teller(store, "w0", epoch=2)
        assert (await reborn.tell({DAY: 500}, terms={DAY: MONEY_1000})).granted
        await store.bury("w0", 1, {DAY: 40}, {})
        assert await free(store, DAY) == 460
        await reborn.tell(used={DAY: 500})
        assert (await balance(store, DAY)).spent == 540

    async def test_a_lost_host_has_spent_its_money_until_its_journal_is_read(
        self, make_store: MakeStore, clock: Clock
    ) -> None:
        store = await make_store()
        owner = Teller(store, "w0")
        terms = {DAY: MONEY_1000, RUNNING: Terms(SLOTS, 2), RPM: TEN_A_SECOND}
        await owner.tell({DAY: 300, RUNNING: 2, RPM: 10}, terms=terms)
        await clock.advance(30_000)
        assert await store.expire() == []
        await clock.advance(1)
        assert await store.expire() == ["w0"]
        assert await store.expire() == []
        assert [await free(store, bucket) for bucket in (DAY, RUNNING, RPM)] == [700, 2, 0]
        await store.bury("w0", 1, {DAY: 40}, {DAY: 100})
        assert [await free(store, bucket) for bucket in (DAY, RUNNING, RPM)] == [860, 2, 0]
        assert await store.verify() == []

    async def test_a_lost_host_that_is_heard_of_again_explains_itself(
        self, make_store: MakeStore, clock: Clock
    ) -> None:
        store = await make_store()
        owner = Teller(store, "w0")
        await owner.tell({DAY: 300}, terms={DAY: MONEY_1000})
        await clock.advance(30_001)
        assert await store.expire() == ["w0"]
        await owner.tell(used={DAY: 120}, rows=[row({DAY: 120})])
        await owner.tell(returned={DAY: 180})
        assert (await balance(store, DAY)).spent == 120
        assert await free(store, DAY) == 880
        assert await store.verify() == []

    async def test_every_exchange_renews_the_lease(self, make_store: MakeStore, clock: Clock) -> None:
        store = await make_store()
        owner = Teller(store, "w0")
        await owner.tell({DAY: 300}, terms={DAY: MONEY_1000})
        for _ in range(3):
            await clock.advance(20_000)
            await owner.tell()
            assert await store.expire() == []

    # edits

    async def test_a_lowered_limit_gives_nothing_more_and_a_raised_one_does(
        self, make_store: MakeStore
    ) -> None:
        store = await make_store()
        owner = Teller(store, "w0")
        await owner.tell({DAY: 600}, terms={DAY: MONEY_1000})
        assert await store.set_terms({"day": Terms(MONEY, 500, stamp=7)}) == [DAY]
        assert (await owner.tell({DAY: 1})).refused
        assert await store.set_terms({"day": Terms(MONEY, 900, stamp=6)}) == []
        assert await store.set_terms({"day": Terms(MONEY, 601, stamp=8)}) == [DAY]
        assert (await owner.tell({DAY: 1})).granted

    async def test_who_names_a_bucket_by_older_terms_is_told_the_newer(self, make_store: MakeStore) -> None:
        store = await make_store()
        newer = Terms(MONEY, 500, stamp=7)
        await store.set_terms({"day": newer})
        reply = await Teller(store, "w0").tell({DAY: 501}, terms={DAY: MONEY_1000})
        assert reply.refused and reply.edited == {DAY: newer}

    async def test_who_names_a_bucket_by_newer_terms_edits_the_rule(self, make_store: MakeStore) -> None:
        store = await make_store()
        await Teller(store, "w0").tell({DAY: 600}, terms={DAY: MONEY_1000})
        await Teller(store, "w1").tell({TEAM: 1}, terms={TEAM: MONEY_1000, DAY: Terms(MONEY, 700, stamp=3)})
        assert await free(store, DAY) == 100

    async def test_a_lowered_limit_shuts_purses(self, make_store: MakeStore) -> None:
        store = await make_store()
        owner, _ = await opened(store, "w0", DAY, MONEY_1000, 500)
        await store.set_terms({"day": Terms(MONEY, 900, stamp=7)})
        assert (await owner.tell()).shut == [DAY]

    async def test_a_shadow_refuses_nobody_and_says_what_it_would_have(self, make_store: MakeStore) -> None:
        store = await make_store()
        owner = Teller(store, "w0")
        shadow = {DAY: MONEY_1000._replace(shadow=True)}
        assert (await owner.tell({DAY: 900}, terms=shadow)).over == []
        reply = await owner.tell({DAY: 200})
        assert (reply.granted, reply.over) == ([2], [DAY])

    async def test_a_top_up_is_free_at_once_and_a_bucket_that_is_not_there_has_none(
        self, make_store: MakeStore
    ) -> None:
        store = await make_store()
        owner = Teller(store, "w0")
        await owner.tell({DAY: 1000}, terms={DAY: MONEY_1000})
        assert (await store.adjust(DAY, 150, {"who": "root", "reason": "asked"})).free == 150
        assert (await owner.tell({DAY: 150})).granted
        with pytest.raises(KeyError):
            await store.adjust("nobody|all|", 1, {"who": "root"})

    # the ledger

    async def test_rows_are_summed_by_what_is_asked_for(self, make_store: MakeStore, clock: Clock) -> None:
        store = await make_store()
        owner = Teller(store, "w0")
        await owner.tell({DAY: 500}, terms={DAY: MONEY_1000})
        now = clock.now_ms
        rows = [
            row({DAY: 100}, "r1", now),
            row({DAY: 30}, "r2", now, team="ads"),
            row({DAY: 50}, "r3", now),
        ]
        await owner.tell(used={DAY: 180}, rows=rows)
        found = await store.spend(["team"], 0, now + 1)
        assert {each["team"]: (each["calls"], each["input"], each["nanousd"]) for each in found} == {
            "search": (2, 20, 150),
            "ads": (1, 10, 30),
        }
        assert sum(each["nanousd"] for each in await store.spend([], 0, now + 1)) == 180
        assert await store.verify() == []

    async def test_use_without_a_row_is_a_difference(self, make_store: MakeStore) -> None:
        store = await make_store()
        owner = Teller(store, "w0")
        await owner.tell({DAY: 500}, terms={DAY: MONEY_1000})
        await owner.tell(used={DAY: 180}, rows=[row({DAY: 100})])
        wrong = await store.verify()
        assert len(wrong) == 1 and DAY in wrong[0]
