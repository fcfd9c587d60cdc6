"""What befalls a real redis-server: killed, stopped, read-only, full, emptied, set back."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import pytest

from gateway.quota.contract import MONEY, RATE, Exchange, StoreDown, StoreLate, StoreLost, Terms, Want
from gateway.stores.breaker import OPEN_S, Breaker
from gateway.stores.redis import RedisStore
from tests.stores.redis_server import RedisServer
from tests.stores.slow_line import SlowLine

X, R = "x|key=a|2026-11-25", "r|all|"
TERMS = {X: Terms(MONEY, 1000, stamp=1), R: Terms(RATE, 600, burst=10, window_ms=60_000, stamp=1)}
Open = Callable[..., RedisStore]


@pytest.fixture
async def open_store(redis_server: RedisServer) -> AsyncIterator[Open]:
    made: list[RedisStore] = []

    def make(host_id: str = "h1", **more: Any) -> RedisStore:
        made.append(RedisStore(redis_server.url, host_id=host_id, **{"deadline_s": 2.0, **more}))
        return made[-1]

    yield make
    for store in made:
        await store.close()


def ask(owner: str, seq: int, need: int = 0, **more: Any) -> Exchange:
    return Exchange(owner, 1, seq, TERMS, wants=[Want(seq, "app", {X: need}, {})] if need else [], **more)


async def free(store: RedisStore) -> int:
    return {each.bucket: each.free for each in await store.balances()}[X]


async def refused_at_once(store: RedisStore) -> bool:
    start = time.monotonic()
    with pytest.raises(StoreDown, match="lately"):
        await store.expire()
    return time.monotonic() - start < 0.05


async def until_it_answers(store: RedisStore, question: Exchange) -> Any:
    async with asyncio.timeout(5):
        while True:
            try:
                return await store.exchange(question)
            except StoreLost:
                raise
            except StoreDown:
                await asyncio.sleep(OPEN_S / 5)


async def test_a_killed_server_fails_fast_and_forgets_nothing(
    redis_server: RedisServer, open_store: Open
) -> None:
    store = open_store(deadline_s=0.1)
    question = ask("h1/a", 1, 400)
    reply = await store.exchange(question)
    redis_server.kill9()
    for _ in range(3):
        with pytest.raises(StoreDown, match="cannot be reached"):
            await store.exchange(ask("h1/a", 2, 100))
    assert await refused_at_once(store)
    redis_server.start()
    assert await until_it_answers(store, question) == reply
    assert await free(store) == 600


async def test_a_stopped_server_costs_a_deadline_and_answers_belong_to_their_questions(
    redis_server: RedisServer, open_store: Open
) -> None:
    store = open_store(deadline_s=0.1)
    await store.exchange(ask("h1/a", 1, 400))
    redis_server.sigstop()
    second = ask("h1/a", 2, 100)
    for is_late in (True, True, False):
        start = time.monotonic()
        with pytest.raises(StoreDown, match="no answer in time") as caught:
            await store.exchange(second)
        assert isinstance(caught.value, StoreLate) == is_late
        assert 0.09 < time.monotonic() - start < 1.0
    assert await refused_at_once(store)
    redis_server.sigcont()
    # What was sent while it stood still is applied when it goes on: asked again, it is the same.
    assert (await until_it_answers(store, second)).granted == [2]
    assert await free(store) == 500
    assert (await store.exchange(ask("h1/a", 3, 7))).granted == [3]


async def test_a_stall_is_one_failure_however_many_wait(redis_server: RedisServer, open_store: Open) -> None:
    store = open_store(deadline_s=0.1)
    await store.exchange(ask("h1/a", 1, 400))
    redis_server.sigstop()
    waiting = [store.exchange(ask(f"h1/{name}", 1, 10)) for name in "bcdef"]
    failed = await asyncio.gather(*waiting, return_exceptions=True)
    assert [type(error) for error in failed] == [StoreLate] * 5
    redis_server.sigcont()
    for name in "bcdef":
        assert (await until_it_answers(store, ask(f"h1/{name}", 1, 10))).granted == [1]
    assert await free(store) == 1000 - 400 - 5 * 10


async def test_a_slow_server_costs_a_deadline_and_books_once(
    redis_server: RedisServer, open_store: Open
) -> None:
    async with SlowLine(redis_server.socket) as line:
        store = RedisStore(line.url, host_id="h1")
        await store.exchange(ask("h1/a", 1, 400))
        line.delay_s = 0.15
        start = time.monotonic()
        with pytest.raises(StoreDown, match="no answer in time"):
            await store.exchange(ask("h1/a", 2, 100, used={X: 300}))
        assert time.monotonic() - start < 1.0
        line.delay_s = 0.01
        second = ask("h1/a", 2, 100, used={X: 300})
        assert (await until_it_answers(store, second)).granted == [2]
        assert [(each.spent, each.free) for each in await store.balances("x")] == [(300, 500)]
        await store.close()


async def test_a_far_server_is_up_again_when_its_connections_have_broken(redis_server: RedisServer) -> None:
    """A new connection, which asks two things before it serves, and an answer take longer than one may."""
    async with SlowLine(redis_server.socket) as line:
        store = RedisStore(line.url, host_id="h1", deadline_s=0.2)
        await store.exchange(ask("h1/a", 1, 400))
        line.delay_s = 0.1
        for kind in ("normal", "pubsub"):
            redis_server.run("CLIENT", "KILL", "TYPE", kind, "SKIPME", "yes")
        await until_it_answers(store, ask("h1/a", 2, 100))
        # Three at once want three connections.
        others = [until_it_answers(store, ask(f"h1/{name}", 1, 10)) for name in "bcd"]
        assert [reply.granted for reply in await asyncio.gather(*others)] == [[1]] * 3
        await store.close()


async def test_a_store_that_refuses_writes_is_down_with_a_reason(
    redis_server: RedisServer, open_store: Open
) -> None:
    store = open_store(deadline_s=1.0)
    await store.exchange(ask("h1/a", 1, 400))
    redis_server.readonly()
    with pytest.raises(StoreDown, match=r"^READONLY$"):
        await store.exchange(ask("h1/a", 2, 100))
    redis_server.readonly(False)
    redis_server.run("CONFIG", "SET", "maxmemory", "1")
    with pytest.raises(StoreDown, match=r"^OOM$"):
        await store.exchange(ask("h1/a", 2, 100))
    redis_server.run("CONFIG", "SET", "maxmemory", "0")
    redis_server.run("SCRIPT", "FLUSH")
    assert (await store.exchange(ask("h1/a", 2, 100))).granted == [2]
    assert await free(store) == 500


async def test_no_reason_holds_the_password(redis_server: RedisServer) -> None:
    redis_server.run("CONFIG", "SET", "requirepass", "right")
    store = RedisStore(redis_server.url.replace("unix://", "unix://:hunter2@"), host_id="h1")
    with pytest.raises(StoreDown) as caught:
        await store.expire()
    assert "hunter2" not in str(caught.value) and "WRONGPASS" in str(caught.value)
    await store.close()


async def test_an_emptied_store_is_put_together_from_its_hosts(
    redis_server: RedisServer, open_store: Open, tmp_path: Path
) -> None:
    one, two = open_store("h1", copy=tmp_path / "1.db"), open_store("h2", copy=tmp_path / "2.db")
    await one.exchange(ask("h1/a", 1, 300))
    await one.exchange(ask("h1/a", 2, used={X: 120}, returned={X: 30}))
    await one.adjust(X, 50, {"id": "top-up"})
    await two.exchange(ask("h2/b", 1, 200))
    await two.exchange(ask("h2/b", 2, used={X: 80}))
    assert await two.bury("h2/dead", 1, {}, {}) == {}
    before = await free(one)
    assert before == 1050 - 270 - 200
    redis_server.flush()
    for store in (one, two):
        with pytest.raises(StoreLost):
            await store.exchange(ask("h9/new", 1, 900))
    # Both have told what they know; told again, it is the same. Nothing is granted before the time is up.
    await one.rebuild()
    for store in (one, two):
        with pytest.raises(StoreLost):
            await store.exchange(ask("h9/new", 1, 900))
    await two.rebuild()
    one.clock = two.clock = "+2000"
    assert await free(one) == before
    assert await one.verify() == []
    assert (await one.exchange(ask("h1/a", 3, 580, used={X: 270}))).granted == [3]
    assert await free(two) == 0
    assert (await two.exchange(ask("h2/b", 3, 1))).refused[0].bucket == X


async def test_a_rate_of_an_emptied_store_is_empty_and_in_no_debt(
    redis_server: RedisServer, open_store: Open
) -> None:
    """10 a second, 100 at once; 995 were used since the owner began."""
    store, bucket = open_store("h1"), "q|all|"
    terms = {bucket: Terms(RATE, 600, burst=100, window_ms=60_000, stamp=1)}
    for turn in range(10):
        store.clock = f"+{10_000 * turn}"
        await store.exchange(Exchange("h1/a", 1, turn + 1, terms, used={bucket: 95 + 100 * turn}))
    redis_server.flush()
    with pytest.raises(StoreLost):
        await store.expire()
    store.clock = "+92000"
    await store.exchange(Exchange("h1/a", 1, 11, terms, used={bucket: 997}))
    assert [each.free for each in await store.balances("q")] == [pytest.approx(2 * 10 - 2, abs=1)]


async def test_a_host_that_never_wrote_does_not_hide_the_loss(
    redis_server: RedisServer, open_store: Open
) -> None:
    one, new = open_store("h1"), open_store("h2")
    await one.exchange(ask("h1/a", 1, 700))
    redis_server.flush()
    assert (await new.exchange(ask("h2/b", 1, 10))).granted == [1]
    with pytest.raises(StoreLost):
        await one.exchange(ask("h1/a", 2, 10))
    for store in (one, new):
        store.clock = "+2000"
    assert await free(one) == 290


async def test_lost_writes_are_noticed_though_others_wrote_since(
    redis_server: RedisServer, open_store: Open, tmp_path: Path
) -> None:
    one, two = open_store("h1", copy=tmp_path / "1.db"), open_store("h2")
    await one.exchange(ask("h1/a", 1, 500))
    await two.exchange(ask("h2/b", 1, 5))
    saved = redis_server.folder / "appendonly.aof"
    size = saved.stat().st_size
    await one.exchange(ask("h1/a", 2, 50, used={X: 400}))
    redis_server.kill9()
    with saved.open("r+b") as file:
        file.truncate(size)
    redis_server.start()
    for seq in range(2, 5):
        await until_it_answers(two, ask("h2/b", seq, 1))
    with pytest.raises(StoreLost):
        await until_it_answers(one, ask("h1/a", 3, 1))
    with pytest.raises(StoreLost):
        await two.exchange(ask("h2/b", 5, 1))
    one.clock = "+2000"
    assert await free(one) == 1000 - 550 - 8
    assert await one.verify() == []


async def test_the_host_remembers_over_a_restart(
    redis_server: RedisServer, open_store: Open, tmp_path: Path
) -> None:
    first = RedisStore(redis_server.url, host_id="h1", copy=tmp_path / "copy.db")
    await first.exchange(ask("h1/a", 1, 500))
    await first.exchange(ask("h1/a", 2, used={X: 500}))
    await first.close()
    redis_server.flush()
    again = open_store("h1", copy=tmp_path / "copy.db")
    with pytest.raises(StoreLost):
        await again.expire()
    again.clock = "+2000"
    assert [(each.spent, each.free) for each in await again.balances()] == [(500, 500)]


async def test_a_store_that_may_forget_says_why(redis_server: RedisServer, open_store: Open) -> None:
    store = open_store(deadline_s=1.0)
    assert await store.unfit() == ""
    redis_server.run("CONFIG", "SET", "appendfsync", "everysec")
    redis_server.run("CONFIG", "SET", "maxmemory-policy", "allkeys-lru")
    assert await store.unfit() == (
        "maxmemory-policy is allkeys-lru, not noeviction; appendfsync is everysec, not always"
    )
    redis_server.run("ACL", "SETUSER", "default", "-config")
    assert "does not let its settings be read" in await store.unfit()


def test_a_breaker_lets_one_trial_through_every_quarter_second() -> None:
    breaker = Breaker()
    for now in (0.0, 0.1, 0.2):
        assert breaker.lets_through(now)
        breaker.failed(now, now)
    assert not breaker.lets_through(0.3)
    assert breaker.lets_through(0.46)
    assert not breaker.lets_through(0.47)
    breaker.left()
    assert breaker.lets_through(0.48)
    breaker.failed(0.48, 0.48)
    assert not breaker.lets_through(0.7)
    assert breaker.lets_through(0.74)
    breaker.succeeded()
    assert breaker.lets_through(0.74) and breaker.lets_through(0.74) and not breaker.is_open
