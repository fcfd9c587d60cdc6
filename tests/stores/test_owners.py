"""What every store must do: owners that are lost, die, and come again."""

from __future__ import annotations

from gateway.quota.contract import SLOTS, Store, Terms
from tests.stores.teller import (
    DAY,
    MONEY_1000,
    RPM,
    RUNNING,
    TEN_A_SECOND,
    Clock,
    Teller,
    balance,
    free,
    row,
)


async def test_what_was_given_and_never_arrived_comes_back(store: Store) -> None:
    owner = Teller(store, "w0")
    await owner.tell({DAY: 300}, terms={DAY: MONEY_1000})
    await owner.tell({DAY: 200})
    await store.hello("w0", 1, {DAY: 300})
    assert await free(store, DAY) == 700
    # It asks again with the same number, for it never had the reply.
    assert (await owner.again()).granted == [2]
    assert await free(store, DAY) == 500


async def test_the_dead_pay_for_their_open_holds_and_no_more(store: Store) -> None:
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


async def test_what_the_dead_said_late_changes_nothing(store: Store) -> None:
    owner = Teller(store, "w0")
    await owner.tell({DAY: 300}, terms={DAY: MONEY_1000})
    late = owner.exchange({DAY: 10}, used={DAY: 40}, rows=[row({DAY: 40})])
    await store.bury("w0", 1, {DAY: 40}, {DAY: 100}, [row({DAY: 40})])
    assert (await store.exchange(late)).granted == []
    assert await free(store, DAY) == 860
    assert await store.verify() == []


async def test_what_the_dead_used_beyond_their_journal_is_booked_once(store: Store) -> None:
    owner = Teller(store, "w0")
    await owner.tell({DAY: 300}, terms={DAY: MONEY_1000})
    late = owner.exchange(used={DAY: 90}, rows=[row({DAY: 90})])
    await store.bury("w0", 1, {DAY: 40}, {DAY: 30})
    for _ in range(2):
        await store.exchange(late)
        assert (await balance(store, DAY)).spent == 90
    assert await free(store, DAY) == 910
    assert await store.verify() == []


async def test_the_dead_name_buckets_that_nobody_asked_for_yet(store: Store) -> None:
    """A worker has written down an account, and died before the store heard of it."""
    rules = {bucket.partition("|")[0]: terms for bucket, terms in ((DAY, MONEY_1000), (RPM, TEN_A_SECOND))}
    await store.set_terms(rules)
    await store.bury("w0", 1, {DAY: 0, RPM: 3}, {})
    owner = Teller(store, "w1")
    assert (await owner.tell({DAY: 1_000}, terms={DAY: MONEY_1000})).granted == [1]
    assert await free(store, RPM) == TEN_A_SECOND.burst - 3


async def test_a_worker_that_comes_again_is_another_owner(store: Store) -> None:
    await Teller(store, "w0").tell({DAY: 300}, terms={DAY: MONEY_1000})
    reborn = Teller(store, "w0", epoch=2)
    assert (await reborn.tell({DAY: 500}, terms={DAY: MONEY_1000})).granted
    await store.bury("w0", 1, {DAY: 40}, {})
    assert await free(store, DAY) == 460
    await reborn.tell(used={DAY: 500})
    assert (await balance(store, DAY)).spent == 540


async def test_a_lost_host_has_spent_its_money_until_its_journal_is_read(store: Store, clock: Clock) -> None:
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


async def test_a_lost_host_that_is_heard_of_again_explains_itself(store: Store, clock: Clock) -> None:
    owner = Teller(store, "w0")
    await owner.tell({DAY: 300}, terms={DAY: MONEY_1000})
    await clock.advance(30_001)
    assert await store.expire() == ["w0"]
    await owner.tell(used={DAY: 120}, rows=[row({DAY: 120})])
    await owner.tell(returned={DAY: 180})
    assert (await balance(store, DAY)).spent == 120
    assert await free(store, DAY) == 880
    assert await store.verify() == []


async def test_every_exchange_renews_the_lease(store: Store, clock: Clock) -> None:
    owner = Teller(store, "w0")
    await owner.tell({DAY: 300}, terms={DAY: MONEY_1000})
    for _ in range(3):
        await clock.advance(20_000)
        await owner.tell()
        assert await store.expire() == []


async def test_the_slots_of_an_epoch_are_free_when_the_next_one_speaks(store: Store) -> None:
    first, second = Teller(store, "w0", epoch=1), Teller(store, "w0", epoch=2)
    await first.tell({RUNNING: 2, DAY: 300}, terms={RUNNING: Terms(SLOTS, 2), DAY: MONEY_1000})
    await store.hello("w0", 2, {})
    assert [await free(store, bucket) for bucket in (RUNNING, DAY)] == [2, 700]
    assert (await second.tell({RUNNING: 2})).granted
    assert (await first.tell({DAY: 1})).granted == []
    assert await store.bury("w0", 1, {DAY: 40}, {DAY: 10, RUNNING: 2}) == {DAY: 50}
    assert [await free(store, bucket) for bucket in (RUNNING, DAY)] == [0, 950]
    assert await store.verify() == []
