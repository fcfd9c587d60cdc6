"""What every store must do: edits, top-ups, shadows, and the sums of the ledger."""

from __future__ import annotations

import pytest

from gateway.quota.contract import MONEY, Store, Terms
from tests.stores.teller import DAY, MONEY_1000, TEAM, Clock, Teller, free, opened, row


async def test_a_lowered_limit_gives_nothing_more_and_a_raised_one_does(store: Store) -> None:
    owner = Teller(store, "w0")
    await owner.tell({DAY: 600}, terms={DAY: MONEY_1000})
    assert await store.set_terms({"day": Terms(MONEY, 500, stamp=7)}) == [DAY]
    assert (await owner.tell({DAY: 1})).refused
    assert await store.set_terms({"day": Terms(MONEY, 900, stamp=6)}) == []
    assert await store.set_terms({"day": Terms(MONEY, 601, stamp=8)}) == [DAY]
    assert (await owner.tell({DAY: 1})).granted


async def test_who_names_a_bucket_by_older_terms_is_told_the_newer(store: Store) -> None:
    newer = Terms(MONEY, 500, stamp=7)
    await store.set_terms({"day": newer})
    reply = await Teller(store, "w0").tell({DAY: 501}, terms={DAY: MONEY_1000})
    assert reply.refused and reply.edited == {DAY: newer}


async def test_who_names_a_bucket_by_newer_terms_edits_the_rule(store: Store) -> None:
    await Teller(store, "w0").tell({DAY: 600}, terms={DAY: MONEY_1000})
    await Teller(store, "w1").tell({TEAM: 1}, terms={TEAM: MONEY_1000, DAY: Terms(MONEY, 700, stamp=3)})
    assert await free(store, DAY) == 100


async def test_a_lowered_limit_shuts_purses(store: Store) -> None:
    owner, _ = await opened(store, "w0", DAY, MONEY_1000, 500)
    await store.set_terms({"day": Terms(MONEY, 900, stamp=7)})
    assert (await owner.tell()).shut == [DAY]


async def test_a_shadow_refuses_nobody_and_says_what_it_would_have(store: Store) -> None:
    owner = Teller(store, "w0")
    shadow = {DAY: MONEY_1000._replace(shadow=True)}
    assert (await owner.tell({DAY: 900}, terms=shadow)).over == []
    reply = await owner.tell({DAY: 200})
    assert (reply.granted, reply.over) == ([2], [DAY])


async def test_a_top_up_is_free_at_once_and_a_bucket_that_is_not_there_has_none(store: Store) -> None:
    owner = Teller(store, "w0")
    await owner.tell({DAY: 1000}, terms={DAY: MONEY_1000})
    assert (await store.adjust(DAY, 150, {"who": "root", "reason": "asked"})).free == 150
    assert (await owner.tell({DAY: 150})).granted
    with pytest.raises(KeyError):
        await store.adjust("nobody|all|", 1, {"who": "root"})


async def test_rows_are_summed_by_what_is_asked_for(store: Store, clock: Clock) -> None:
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


async def test_use_without_a_row_is_a_difference(store: Store) -> None:
    owner = Teller(store, "w0")
    await owner.tell({DAY: 500}, terms={DAY: MONEY_1000})
    await owner.tell(used={DAY: 180}, rows=[row({DAY: 100})])
    wrong = await store.verify()
    assert len(wrong) == 1 and DAY in wrong[0]
