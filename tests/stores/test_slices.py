"""What every store must do: slices ahead of need, and deposits."""

from __future__ import annotations

from gateway.quota.contract import Store
from tests.stores.teller import DAY, MONEY_1000, TEAM, Teller, free, opened


async def test_slices_are_a_part_of_what_is_free_and_owners_share_it(store: Store) -> None:
    _, first = await opened(store, "w0", DAY, MONEY_1000, 10_000)
    assert first == 1000 // 2
    _, second = await opened(store, "w1", DAY, MONEY_1000, 10_000)
    assert second == 500 // (2 * 2)


async def test_a_purse_is_shut_while_a_share_is_less_than_four_holds(store: Store) -> None:
    owner = Teller(store, "w0")
    reply = await owner.tell({DAY: 150}, terms={DAY: MONEY_1000}, wishes={DAY: 100})
    assert (reply.slices, reply.shut) == ({}, [DAY])


async def test_a_wish_below_one_hold_gets_nothing(store: Store) -> None:
    owner = Teller(store, "w0")
    reply = await owner.tell({DAY: 50}, terms={DAY: MONEY_1000}, wishes={DAY: 49})
    assert (reply.slices, reply.shut) == ({DAY: 0}, [])


async def test_deposits_come_back_where_the_purse_is_open_and_the_bucket_not_short(store: Store) -> None:
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


async def test_deposits_stay_where_somebody_else_waits(store: Store) -> None:
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
