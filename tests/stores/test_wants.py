"""What every store must do: wants are granted or refused whole, once, after what is idle was called back."""

from __future__ import annotations

import random

from gateway.quota.contract import SLOTS, Exchange, Recall, Store, Terms, Want
from tests.stores.teller import (
    DAY,
    MONEY_1000,
    RUNNING,
    TEAM,
    Teller,
    balance,
    free,
    opened,
    row,
)


async def test_a_want_gets_all_or_nothing(store: Store) -> None:
    owner = Teller(store, "w0")
    terms = {DAY: MONEY_1000, TEAM: MONEY_1000}
    assert (await owner.tell({DAY: 900}, terms=terms)).granted == [1]
    reply = await owner.tell({DAY: 200, TEAM: 5})
    assert reply.granted == []
    assert [(each.id, each.bucket, each.wait_ms, each.free) for each in reply.refused] == [(2, DAY, -1, 100)]
    assert (await free(store, DAY), await free(store, TEAM)) == (100, 1000)


async def test_wants_of_one_exchange_are_decided_in_their_order(store: Store) -> None:
    wants = [Want(id_, "app", {DAY: need}, {}) for id_, need in ((1, 600), (2, 500), (3, 400))]
    reply = await store.exchange(Exchange("w0", 1, 1, terms={DAY: MONEY_1000}, wants=wants))
    assert reply.granted == [1, 3]
    assert [each.id for each in reply.refused] == [2]


async def test_money_that_is_held_may_come_free_and_money_spent_does_not(store: Store) -> None:
    owner = Teller(store, "w0")
    await owner.tell({DAY: 900}, terms={DAY: MONEY_1000})
    reply = await owner.tell({DAY: 200})
    assert reply.refused[0].is_held
    reply = await owner.tell({DAY: 200}, used={DAY: 900}, held={DAY: 0})
    assert not reply.refused[0].is_held
    assert (await owner.tell({DAY: 100})).granted


async def test_use_and_returns_are_sums_of_the_epoch(store: Store) -> None:
    owner = Teller(store, "w0")
    await owner.tell({DAY: 500}, terms={DAY: MONEY_1000})
    await owner.tell(used={DAY: 100})
    await owner.tell(used={DAY: 50}, returned={DAY: 150})
    assert await free(store, DAY) == 650
    assert (await balance(store, DAY)).spent == 150
    await owner.tell(used={DAY: 0}, returned={DAY: 0})
    assert await free(store, DAY) == 650


async def test_the_same_exchange_again_gets_the_same_reply_and_changes_nothing(store: Store) -> None:
    owner = Teller(store, "w0")
    await owner.tell({DAY: 500}, terms={DAY: MONEY_1000})
    reply = await owner.tell({DAY: 100}, used={DAY: 500}, rows=[row({DAY: 500})])
    before = await store.balances()
    for _ in range(3):
        again = await owner.again()
        assert (again.seq, again.granted, again.refused) == (reply.seq, [2], [])
    assert await store.balances() == before
    assert await store.verify() == []


async def test_an_exchange_older_than_the_last_changes_nothing(store: Store) -> None:
    owner = Teller(store, "w0")
    first = owner.exchange({DAY: 500}, terms={DAY: MONEY_1000})
    await store.exchange(first)
    await owner.tell({DAY: 100}, used={DAY: 400}, returned={DAY: 100})
    before = await store.balances()
    await store.exchange(first)
    assert await store.balances() == before


async def test_use_above_what_was_given_is_booked_and_nothing_is_granted(store: Store) -> None:
    owner = Teller(store, "w0")
    await owner.tell({DAY: 1000}, terms={DAY: MONEY_1000})
    await owner.tell(used={DAY: 1200})
    assert (await balance(store, DAY)).spent == 1200
    assert await free(store, DAY) == -200
    reply = await owner.tell({DAY: 1})
    assert reply.refused and not reply.refused[0].is_held


async def test_slots_are_never_used_up(store: Store) -> None:
    owner = Teller(store, "w0")
    terms = {RUNNING: Terms(SLOTS, 2)}
    assert (await owner.tell({RUNNING: 1}, terms=terms)).granted
    assert (await owner.tell({RUNNING: 1})).granted
    reply = await owner.tell({RUNNING: 1})
    assert [(each.bucket, each.wait_ms) for each in reply.refused] == [(RUNNING, -1)]
    assert (await owner.tell({RUNNING: 1}, returned={RUNNING: 1})).granted


async def test_what_lies_idle_elsewhere_is_called_back_before_a_refusal(store: Store) -> None:
    one, idle = await opened(store, "w0", DAY, MONEY_1000, 500)
    two = Teller(store, "w1")
    parked = await two.tell({DAY: 900}, terms={DAY: MONEY_1000})
    assert (parked.granted, parked.refused) == ([], [])
    assert (parked.parked, parked.recalls) == ({1: [DAY]}, {DAY: [Recall("w0", 1, one.seq)]})
    # While somebody waits nothing is sliced, and the purse is shut.
    reply = await one.tell(returned={DAY: idle}, wishes={DAY: 100}, acks=[DAY])
    assert (reply.slices.get(DAY, 0), reply.shut) == (0, [DAY])
    assert (await two.finally_()).granted == [1]


async def test_a_want_that_waits_for_one_bucket_keeps_the_others_that_it_needs(store: Store) -> None:
    one, idle = await opened(store, "w0", DAY, MONEY_1000, 500)
    two, has = await opened(store, "w1", TEAM, MONEY_1000, 100)
    terms = {DAY: MONEY_1000}
    # It wishes for more of what it needs itself: what it were given would be missing when it is decided.
    said = {"terms": terms, "deposit": {TEAM: has}, "held": {TEAM: 0}, "wishes": {TEAM: 900}}
    reply = await two.tell({DAY: 900, TEAM: 900}, **said)
    assert (reply.parked, reply.slices.get(TEAM, 0)) == ({2: [DAY]}, 0)
    await one.tell(returned={DAY: idle}, acks=[DAY])
    assert (await two.finally_()).granted == [2]


async def test_a_last_decision_is_taken_once(store: Store) -> None:
    one, idle = await opened(store, "w0", DAY, MONEY_1000, 500)
    two = Teller(store, "w1")
    assert (await two.tell({DAY: 900}, terms={DAY: MONEY_1000})).parked
    await one.tell(returned={DAY: idle}, acks=[DAY])
    assert [(await two.finally_()).granted for _ in range(3)] == [[1]] * 3
    assert await free(store, DAY) == 100


async def test_a_parked_want_is_refused_for_good_if_nothing_came(store: Store) -> None:
    await opened(store, "w0", DAY, MONEY_1000, 500)
    two = Teller(store, "w1")
    assert (await two.tell({DAY: 900}, terms={DAY: MONEY_1000})).parked
    final = await two.finally_()
    assert (final.granted, final.parked) == ([], {})
    assert [each.bucket for each in final.refused] == [DAY]


async def test_nobody_is_called_whose_purse_is_shut_but_who_told_that_all_is_held(store: Store) -> None:
    """A call may have ended since: what it gave back lies in the open purse."""
    one, idle = await opened(store, "w0", DAY, MONEY_1000, 500)
    await one.tell(held={DAY: idle})
    shut = Teller(store, "w2")
    await shut.tell({DAY: 100}, terms={DAY: MONEY_1000})
    two = Teller(store, "w1")
    reply = await two.tell({DAY: 900}, terms={DAY: MONEY_1000})
    assert (reply.parked, reply.recalls) == ({1: [DAY]}, {DAY: [Recall("w0", 1, one.seq)]})


async def test_a_last_decision_says_nothing_of_purses(store: Store) -> None:
    """It may overtake the answer with a slice of what it says is shut."""
    other = "other|all|2026"
    one, idle = await opened(store, "w0", DAY, MONEY_1000, 500)
    await opened(store, "w2", other, MONEY_1000, 500)
    assert (await one.tell({other: 900}, terms={other: MONEY_1000})).parked
    asks = one.last
    two = Teller(store, "w1")
    assert (await two.tell({DAY: 900}, terms={DAY: MONEY_1000})).recalls[DAY] == [Recall("w0", 1, one.seq)]
    assert one.last is asks and (await one.finally_()).shut == []
    assert (await one.tell(returned={DAY: idle})).shut == [DAY]


async def test_two_that_cross_over_two_buckets_never_refuse_each_other(store: Store) -> None:
    """500 of 500: each has opened the bucket that the other needs too."""
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


async def test_what_is_left_after_a_recall_was_acknowledged_is_held(store: Store) -> None:
    one, idle = await opened(store, "w0", DAY, MONEY_1000, 500)
    two = Teller(store, "w1")
    assert (await two.tell({DAY: 900}, terms={DAY: MONEY_1000})).recalls == {DAY: [Recall("w0", 1, one.seq)]}
    reply = await one.tell(returned={DAY: idle - 200}, acks=[DAY])
    assert reply.shut == []
    assert ((await balance(store, DAY)).held, (await balance(store, DAY)).idle) == (200, 0)
    assert (await two.finally_()).refused[0].is_held
