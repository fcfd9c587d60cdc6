"""The keeper as a process, with the embedded store, and workers' links to it."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from itertools import count
from pathlib import Path

import pytest

from gateway.link.keeper_queries import KeeperQueries, NoAnswer
from gateway.quota.contract import Exchange
from tests.control.keeping.keeper_process import KeeperProcess
from tests.control.keeping.purse import MONEY, SLOTS, Purse, money, row, slots, want
from tests.control.keeping.worker_process import start_worker
from tests.running import eventually

Join = Callable[..., Awaitable[Purse]]

NUMBERS = count()


@pytest.fixture(scope="module")
def keeper(tmp_path_factory: pytest.TempPathFactory) -> Iterator[KeeperProcess]:
    """One for all tests of this file: each uses buckets and workers of its own."""
    keeper = KeeperProcess(tmp_path_factory.mktemp("keeper"))
    yield keeper
    keeper.close()


@pytest.fixture
def bucket() -> str:
    """A name that no other test has used."""
    return f"calls-{next(NUMBERS)}|all|"


@pytest.fixture
async def join(keeper: KeeperProcess) -> AsyncIterator[Join]:
    """`await join("name")`: a worker that is connected."""
    joined: list[Purse] = []

    async def join(name: str, epoch: int = 1, journal: Path | str = "") -> Purse:
        joined.append(Purse(keeper.socket, f"{name}-{next(NUMBERS)}", epoch, journal))
        return await joined[-1].up()

    yield join
    for purse in joined:
        await purse.close()


@pytest.fixture
async def books(keeper: KeeperProcess) -> AsyncIterator[KeeperQueries]:
    """Control's link."""
    books = KeeperQueries(str(keeper.socket))
    yield books
    await books.close()


# exchanges


async def test_worker_is_granted_what_there_is_and_refused_beyond(join: Join, bucket: str) -> None:
    worker = await join("worker")
    wants = [want(number, {bucket: 4}) for number in (1, 2, 3)]
    reply = await worker.exchange(terms=slots(bucket), wants=wants)
    assert (reply.seq, reply.granted, [refusal.id for refusal in reply.refused]) == (1, [1, 2], [3])
    assert worker.link.got == {bucket: 8}
    reply = await worker.exchange(returned={bucket: 4}, wants=[want(4, {bucket: 6})])
    assert (reply.seq, reply.granted, worker.link.got) == (2, [4], {bucket: 14})


async def test_bucket_that_the_store_was_never_told_of_is_refused_and_all_else_goes_on(
    join: Join, bucket: str
) -> None:
    worker = await join("worker")
    wants = [want(1, {bucket: 1}), want(2, {bucket: 1, "nowhere|all|": 1})]
    reply = await worker.exchange(terms=slots(bucket), wants=wants, wishes={"nowhere|all|": 5})
    assert reply.granted == [1] and [refusal.bucket for refusal in reply.refused] == ["nowhere|all|"]


# recalls


async def test_want_is_granted_from_what_lay_idle_elsewhere(join: Join, bucket: str) -> None:
    rich, poor = await join("rich"), await join("poor")
    await rich.hoards(bucket, 400)
    reply = await poor.exchange(terms=money(bucket), wants=[want(1, {bucket: 900})])
    assert list(reply.parked) == [1] and reply.recalls == {}
    assert (await poor.decided()).granted == [1]
    assert rich.heard("recall") == [[bucket]]
    assert poor.link.got == {bucket: 900}


async def test_want_is_decided_when_an_owner_never_answers(join: Join, bucket: str) -> None:
    rich, poor = await join("rich"), await join("poor")
    await rich.hoards(bucket, 400)
    rich.answers_recalls = False
    await poor.exchange(terms=money(bucket), wants=[want(1, {bucket: 900})])
    assert [refusal.id for refusal in (await poor.decided()).refused] == [1]


async def test_wants_that_come_with_the_answer_to_a_recall_are_decided_after_those_that_wait(
    join: Join, bucket: str
) -> None:
    rich, poor = await join("rich"), await join("poor")
    await rich.hoards(bucket, 400)
    rich.answers_recalls = False
    await poor.exchange(terms=money(bucket), wants=[want(1, {bucket: 900})])
    # Both returned 400 and 600 are free: it could be granted at once, and the other never.
    reply = await rich.exchange(returned={bucket: 400}, acks=[bucket], wants=[want(7, {bucket: 500})])
    assert list(reply.parked) == [7] and not reply.granted
    assert (await poor.decided()).granted == [1]
    assert [refusal.id for refusal in (await rich.decided()).refused] == [7]


async def test_two_hoarders_that_cross_over_two_budgets_are_decided_one_after_the_other(
    join: Join, bucket: str
) -> None:
    one, other, second = await join("one"), await join("other"), bucket.replace("calls", "second")
    await one.hoards(bucket, 400)
    await other.hoards(second, 400)
    needs = {bucket: 900, second: 900}
    for worker, has in ((one, bucket), (other, second)):
        worker.returned[has] = worker.idle.pop(has)
        worker.link.send(
            Exchange(
                "",
                0,
                0,
                terms=money(bucket, second),
                returned=worker.returned,
                wants=[want(1, needs, {has: 400})],
            )
        )
    outcomes = []
    for worker in (one, other):
        await worker.until(lambda worker=worker: any(r.granted or r.refused for r in worker.replies))
        outcomes += [len(reply.granted) for reply in worker.replies if reply.granted or reply.refused]
    assert sorted(outcomes) == [0, 1]


async def test_what_waits_when_the_connection_breaks_is_dropped_and_goes_back(
    join: Join, bucket: str
) -> None:
    rich, poor = await join("rich"), await join("poor")
    await rich.hoards(bucket, 400)
    rich.answers_recalls = False
    await poor.exchange(terms=money(bucket), wants=[want(1, {bucket: 900})])
    poor.link._end.transport.abort()
    assert await poor.hears("lost") == [1]
    await poor.hears("connected", 2)
    await rich.exchange(returned={bucket: 400}, acks=[bucket])
    reply = await poor.exchange(wants=[want(2, {bucket: 1000})])
    assert reply.granted == [2], "nothing was given to want 1"
    assert all(reply.seq for reply in poor.replies)


# deaths


async def test_exchange_waits_for_a_keeper_that_is_not_there_yet(tmp_path: Path, bucket: str) -> None:
    keeper = KeeperProcess(tmp_path / "state")
    worker = Purse(keeper.socket, "worker-0")
    await worker.link.start()
    reply = await worker.exchange(terms=slots(bucket), wants=[want(1, {bucket: 4})])
    assert reply.granted == [1]
    await worker.close()
    assert keeper.stop() == 0
    keeper.close()


async def test_exchanges_of_a_keeper_that_is_killed_are_answered_once_by_the_next(
    keeper: KeeperProcess, join: Join, bucket: str
) -> None:
    worker = await join("worker")
    number, granted, used = count(2), 1, 0
    await worker.exchange(terms=money(bucket), wants=[want(1, {bucket: 3})])
    for death in range(3):
        for _ in range(20):
            used += 1
            need = next(number)
            asked = [want(need, {bucket: 3})]
            reply = await worker.exchange(used={bucket: used}, rows=[row(used, bucket)], wants=asked)
            granted += len(reply.granted)
        used += 1
        asked = [want(next(number), {bucket: 3})]
        worker.link.send(Exchange("", 0, 0, used={bucket: used}, rows=[row(used, bucket)], wants=asked))
        if death:  # at another moment: it may have been booked
            await asyncio.sleep(0.0003 * death)
        keeper.kill()
        keeper.start()
        await worker.hears("connected", death + 2)
        await worker.until(lambda: worker.link.is_free)
        granted += len(worker.replies[-1].granted)
    assert (granted, used, worker.link.got) == (64, 63, {bucket: 192})
    reply = await worker.exchange(wants=[want(next(number), {bucket: 1000})])
    assert reply.refused[0].free == 1000 - 192
    assert keeper.rows(f"SELECT spent, total FROM buckets WHERE id = '{bucket}'") == [(63, 1000 - 63)]
    assert keeper.rows("SELECT count(*), count(DISTINCT request_id) FROM usage") == [(63, 63)]


async def test_worker_that_is_killed_costs_what_it_held_and_no_more(
    keeper: KeeperProcess, join: Join, bucket: str, books: KeeperQueries
) -> None:
    owner = f"dying-{next(NUMBERS)}"
    process = start_worker(
        keeper.socket, keeper.journals, owner, 5, MONEY,
        wants={bucket: 600}, holds={bucket: 100}, used={bucket: 50},
    )  # fmt: skip
    other = await join("other")
    reply = await other.exchange(terms=money(bucket), wants=[want(1, {bucket: 850})])
    assert reply.refused[0].free == 400 and (keeper.journals / f"{owner}.5").exists()
    process.kill()
    process.wait()
    await eventually(lambda: not (keeper.journals / f"{owner}.5").exists())
    reply = await other.exchange(wants=[want(2, {bucket: 851})])
    assert reply.refused[0].free == 850, "50 were used, 100 held"
    reply = await other.exchange(wants=[want(3, {bucket: 850})])
    assert reply.granted == [3]
    rule = bucket.partition("|")[0]
    assert [row["spent"] for row in await books.ask("balances", rule=rule)] == [150]
    assert await books.ask("verify") == []


async def test_keeper_and_worker_that_are_both_killed_are_settled_at_the_next_start(
    keeper: KeeperProcess, join: Join, bucket: str
) -> None:
    owner = f"dying-{next(NUMBERS)}"
    process = start_worker(
        keeper.socket, keeper.journals, owner, 5, SLOTS, wants={bucket: 7}, holds={bucket: 7}
    )
    keeper.kill()
    process.kill()
    process.wait()
    keeper.start()
    other = await join("other")
    await eventually(lambda: not list(keeper.journals.glob(f"{owner}.*")))
    reply = await other.exchange(terms=slots(bucket), wants=[want(1, {bucket: 10})])
    assert reply.granted == [1], "calls of the dead are over"


# what operators ask


async def test_long_answers_come_in_parts_and_exchanges_pass_them(
    join: Join, bucket: str, books: KeeperQueries
) -> None:
    worker = await join("worker")
    rule, number = bucket.partition("|")[0], 3000
    terms = slots(*(f"{rule}|key=k{each}|" for each in range(number)))
    await worker.exchange(terms=terms, wants=[want(each, {name: 1}) for each, name in enumerate(terms)])
    asked = [asyncio.ensure_future(books.ask("balances", rule=rule)) for _ in range(4)]
    passed = 0
    while not all(answer.done() for answer in asked):
        await worker.exchange()
        passed += 1
    for answer in asked:
        assert {row["bucket"] for row in answer.result()} == set(terms)
    assert passed > 5


async def test_top_up_and_reset_are_told_and_questions_without_an_answer_say_why(
    join: Join, bucket: str, books: KeeperQueries
) -> None:
    worker = await join("worker")
    await worker.exchange(terms=money(bucket), wants=[want(1, {bucket: 600})])
    await worker.exchange(used={bucket: 600}, rows=[row(1, bucket, 600)])
    topped = await books.ask("adjust", bucket=bucket, amount=50, who="me", note="a gift")
    assert (topped["spent"], topped["free"]) == (600, 450)
    reset = await books.ask("reset", rule=bucket.partition("|")[0], subject="all", who="me", note="")
    assert [row["free"] for row in reset] == [1000]
    for question in ({"what": "adjust", "bucket": "no|all|", "amount": 1}, {"what": "reset", "rule": "no"}):
        with pytest.raises(NoAnswer, match="There is no bucket"):
            await books.ask(**question, who="me", note="")
    with pytest.raises(NoAnswer, match="nonsense"):
        await books.ask("spend", by=["nonsense"], since_ms=0, until_ms=1)
