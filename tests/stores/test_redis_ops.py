"""Operations on Redis: the same id changes nothing twice, the dead and the lost, the ledger, other hosts."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from gateway.quota.contract import MONEY, RATE, ROLLING, SLOTS, Event, Exchange, Recall, Terms, Want
from gateway.stores.redis import RedisStore
from tests.stores.conftest import MakeStore
from tests.stores.redis_server import RedisServer

NOW = 1_764_000_000_000
X, RATE_BUCKET, CALLS, ROLL = "x|key=a|2026-11-25", "r|key=a|", "s|all|", "w|all|rolling"
TERMS = {
    X: Terms(MONEY, 1000, stamp=1),
    RATE_BUCKET: Terms(RATE, 600, burst=10, window_ms=60_000, stamp=1),
    CALLS: Terms(SLOTS, 8, stamp=1),
    ROLL: Terms(ROLLING, 1000, window_ms=60_000, stamp=1),
}


def ask(owner: str, seq: int, needs: dict[str, int], **more: Any) -> Exchange:
    wants = [Want(seq, "app", needs, {})] if needs else []
    return Exchange(f"h1/{owner}", 1, seq, terms=TERMS, wants=wants, **more)


def row(account: str, nanousd: int, time_ms: int = NOW, target: str = "openai/gpt-4o") -> list[Any]:
    tokens = (10, 4, 0, 0, 20, 5, 0)
    name = ("id", 1, "app", "search", "fast", target, 200, "ok")
    return [time_ms, *name, *tokens, nanousd, 0, {account: nanousd}]


@pytest.fixture
def store(make_store: MakeStore) -> RedisStore:
    made = make_store()
    made.clock = f"={NOW}"
    return made


async def free(store: RedisStore, bucket: str = X) -> int:
    return {each.bucket: each.free for each in await store.balances()}[bucket]


async def test_an_exchange_that_comes_again_changes_nothing(store: RedisStore) -> None:
    first = ask("a", 1, {X: 400})
    reply = await store.exchange(first)
    assert reply.granted == [1]
    again = ask("a", 2, {X: 50}, used={X: 300}, rows=[row(X, 300)])
    assert await store.exchange(again) == await store.exchange(again)
    assert await free(store) == 550
    assert (await store.spend(["key"], 0, NOW + 1))[0]["calls"] == 1


async def test_a_last_decision_that_is_asked_again_is_the_same(store: RedisStore) -> None:
    await store.exchange(ask("a", 1, {X: 900}))
    last = Exchange("h1/b", 1, 0, terms=TERMS, wants=[Want(7, "k", {X: 60}, {})], final=True)
    assert (await store.exchange(last)).granted == [7]
    assert (await store.exchange(last)).granted == [7]
    assert await free(store) == 40


async def test_a_grant_that_was_not_heard_is_not_given_again_after_hello(store: RedisStore) -> None:
    await store.exchange(ask("a", 1, {X: 300}))
    unheard = ask("a", 2, {X: 200}, used={X: 100}, rows=[row(X, 100)])
    await store.exchange(unheard)
    await store.hello("h1/a", 1, {X: 300})
    assert await free(store) == 700
    # Decided anew, and its row is not counted twice.
    assert (await store.exchange(unheard)).granted == [2]
    assert await free(store) == 500
    assert (await store.spend(["key"], 0, NOW + 1))[0]["calls"] == 1
    assert await store.verify() == []


async def test_the_dead_pay_for_their_open_holds_and_what_they_say_later_counts_once(
    store: RedisStore,
) -> None:
    await store.exchange(ask("a", 1, {X: 300, RATE_BUCKET: 6, CALLS: 2}))
    posted = await store.bury("h1/a", 1, {X: 40, RATE_BUCKET: 1}, {X: 100, RATE_BUCKET: 2, CALLS: 1})
    assert posted == {X: 140, RATE_BUCKET: 3}
    assert await store.bury("h1/a", 1, {X: 40}, {X: 100}) == {}
    assert (await free(store), await free(store, RATE_BUCKET), await free(store, CALLS)) == (860, 7, 8)
    late = ask("a", 2, {X: 1}, used={X: 150})
    reply = await store.exchange(late)
    assert not reply.granted and [refusal.id for refusal in reply.refused] == [2]
    assert await free(store) == 850
    assert await store.verify() == []


@pytest.mark.parametrize("bucket", [X, ROLL, CALLS])
async def test_a_lost_host_is_spent_until_it_is_heard_of(store: RedisStore, bucket: str) -> None:
    most = TERMS[bucket].limit
    await store.exchange(ask("a", 1, {bucket: 6}))
    store.clock = f"={NOW + 30_000}"
    assert await store.expire() == []
    store.clock = f"={NOW + 30_001}"
    assert await store.expire() == ["h1/a"]
    assert await store.expire() == []
    assert await free(store, bucket) == (most if bucket == CALLS else most - 6)
    await store.exchange(ask("a", 2, {}))
    assert await free(store, bucket) == (most if bucket == CALLS else most - 6)
    await store.exchange(ask("a", 3, {}, returned={bucket: 6}))
    assert await free(store, bucket) == most


async def test_all_that_are_lost_at_once_are_settled(store: RedisStore) -> None:
    for index in range(5):
        await store.exchange(ask(f"w{index}", 1, {X: 10}))
    store.clock = f"={NOW + 30_001}"
    assert sorted(await store.expire()) == [f"h1/w{index}" for index in range(5)]
    assert await free(store) == 950


async def test_rates_of_a_lost_host_are_dropped_for_good(store: RedisStore) -> None:
    await store.exchange(ask("a", 1, {RATE_BUCKET: 6}))
    store.clock = f"={NOW + 30_001}"
    await store.expire()
    assert await free(store, RATE_BUCKET) == 4
    await store.exchange(ask("a", 2, {}, used={RATE_BUCKET: 2}, returned={RATE_BUCKET: 4}))
    assert await free(store, RATE_BUCKET) == 4


async def test_a_part_of_a_rolling_window_leaves_with_its_minute(store: RedisStore) -> None:
    part = NOW * 60 // 60_000
    await store.exchange(ask("a", 1, {ROLL: 600}))
    await store.exchange(ask("a", 2, {}, used={f"{ROLL}#{part}": 600}))
    for later, left in ((60_999, 400), (61_000, 1000)):
        store.clock = f"={NOW + later}"
        assert await free(store, ROLL) == left


async def test_spend_adds_whole_days_and_parts_of_days(store: RedisStore) -> None:
    day = NOW - NOW % 86_400_000
    rows = [
        row(X, 5, day + 1000),
        row(X, 7, day + 2000, "anthropic/opus"),
        row(X, 11, day + 86_400_000),
    ]
    await store.exchange(ask("a", 1, {X: 30}))
    await store.exchange(ask("a", 2, {}, used={X: 23}, rows=rows))
    assert await store.verify() == []
    all_days = await store.spend(["day", "target"], 0, day + 2 * 86_400_000)
    assert [(each["day"], each["target"], each["calls"], each["nanousd"]) for each in all_days] == [
        ("2025-11-24", "anthropic/opus", 1, 7),
        ("2025-11-24", "openai/gpt-4o", 1, 5),
        ("2025-11-25", "openai/gpt-4o", 1, 11),
    ]
    assert all_days[0]["input"] == 10 and all_days[0]["reasoning"] == 5
    store.clock = "+0"
    part = await store.spend([], day + 1500, day + 86_400_001)
    assert [(each["calls"], each["nanousd"]) for each in part] == [(2, 18)]
    assert await store.spend(["key"], day + 5000, day + 5001) == []
    with pytest.raises(ValueError, match="status"):
        await store.spend(["status"], 0, 1)


async def test_what_rows_do_not_explain_is_found(store: RedisStore) -> None:
    await store.exchange(ask("a", 1, {X: 30}))
    await store.exchange(ask("a", 2, {}, used={X: 23}, rows=[row(X, 20)]))
    assert await store.verify() == [f"{X}: 23 posted, but its rows and entries say 20"]


async def test_a_top_up_counts_once_and_needs_its_bucket(store: RedisStore) -> None:
    await store.exchange(ask("a", 1, {X: 30}))
    for _ in range(2):
        assert (await store.adjust(X, 500, {"id": "7", "who": "ann"})).free == 1470
    with pytest.raises(KeyError):
        await store.adjust("none|all|2026", 1, {})
    with pytest.raises(KeyError):
        await store.exchange(Exchange("h1/a", 1, 2, wants=[Want(1, "k", {"none|": 1}, {})]))


async def test_other_hosts_hear_of_recalls_acks_and_what_comes_back(make_store: MakeStore) -> None:
    one, two = make_store("h1"), make_store("h2")
    heard: asyncio.Queue[Event] = asyncio.Queue()

    async def listen() -> None:
        async for event in one.events():
            heard.put_nowait(event)

    listening = asyncio.create_task(listen())
    await one.exchange(ask("a", 1, {X: 10}))
    bucket_of_slice = await one.exchange(ask("a", 2, {}, used={X: 10}, wishes={X: 900}))
    assert bucket_of_slice.slices == {X: 495}
    channels = f"{one._tag}recalled"
    while not dict(await one._client.pubsub_numsub(channels))[channels]:  # noqa: ASYNC110
        await asyncio.sleep(0)
    parked = await two.exchange(Exchange("h2/b", 1, 1, TERMS, wants=[Want(1, "k", {X: 900}, {})]))
    assert parked.recalls == {X: [Recall("h1/a", 1, 2)]}
    assert await asyncio.wait_for(heard.get(), 5) == Event("recall", (X,), "h1/a", 1, 2)
    # A push may be lost: the next reply says it too.
    assert (await one.exchange(ask("a", 3, {}, returned={X: 495}))).shut == [X]
    last = Exchange("h2/b", 1, 0, wants=[Want(1, "k", {X: 900}, {})], final=True)
    assert (await two.exchange(last)).granted == [1]
    await two.exchange(Exchange("h2/b", 1, 2, acks=["y"]))
    assert await asyncio.wait_for(heard.get(), 5) == Event("acked", ["y"], "h2/b", 1, 2)
    await two.adjust(X, 5, {})
    assert await asyncio.wait_for(heard.get(), 5) == Event("wet", [X])
    listening.cancel()


async def test_what_is_long_over_leaves(make_store: MakeStore, shared_redis: RedisServer) -> None:
    store = make_store()
    day_ms = 86_400_000
    for index in range(40):
        # A worker of one day, a window of one day.
        store.clock = f"={NOW + index * day_ms}"
        bucket, owner = f"x|key=a|{index:04}", f"w{index}"
        account = f"{ROLL}#{(NOW + index * day_ms) * 60 // 60_000}"
        terms = {**TERMS, bucket: TERMS[X]}
        wants = [Want(1, "app", {bucket: 9, ROLL: 9, RATE_BUCKET: 1, CALLS: 1}, {})]
        await store.exchange(Exchange(f"h1/{owner}", 1, 1, terms, wants=wants))
        used = {bucket: 5, account: 5}
        rows = [row(bucket, 5, NOW + index * day_ms)]
        rows[0][-1][account] = 5
        await store.exchange(Exchange(f"h1/{owner}", 1, 2, used=used, rows=rows))
        await store.bury(f"h1/{owner}", 1, used, {})
        await store.expire()
        assert await store.verify() == []
    for day in range(300, 500, 20):
        store.clock = f"={NOW + day * day_ms}"
        await store.expire()
        assert await store.verify() == []
    assert await store.balances() == []

    def left(name: str) -> int:
        kind = shared_redis.run("TYPE", store._tag + name)
        return int(shared_redis.run("ZCARD" if kind == "zset" else "HLEN", store._tag + name))

    names = (
        "bucket",
        "out",
        "part",
        "lease",
        "asking",
        "names",
        "has",
        "has_part",
        "tell",
        "ticket",
        "posted",
    )
    assert {name: left(name) for name in names} == dict.fromkeys(names, 0)
    assert [left(name) for name in ("charged", "entered", "ended", "owner", "reply")] == [0] * 5


async def test_amounts_that_a_script_cannot_keep_are_refused(store: RedisStore) -> None:
    await store.exchange(ask("a", 1, {X: 10}))
    with pytest.raises(OverflowError):
        await store.exchange(ask("a", 2, {}, used={X: 1 << 53}))
    assert await free(store) == 990


async def test_a_script_that_fails_is_no_outage(store: RedisStore, shared_redis: RedisServer) -> None:
    await store.exchange(ask("a", 1, {X: 10}))
    shared_redis.run("HSET", store._tag + "bucket", X, "spoilt")
    with pytest.raises(RuntimeError, match="a script failed"):
        await store.exchange(ask("a", 2, {X: 10}))
    assert await store.set_terms({}) == []
