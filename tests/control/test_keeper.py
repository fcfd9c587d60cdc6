"""The keeper between workers and the store: order, recalls, dry buckets, outages."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from gateway.link.ledger import RECALL, STORE, WET
from gateway.quota.contract import Event
from tests.control.keeping.house import House, house
from tests.control.keeping.worker import Worker, full, named, want
from tests.running import eventually


@pytest.fixture
async def home(tmp_path: Path) -> AsyncIterator[House]:
    """Buckets hold 10."""
    async with house(tmp_path) as home:
        yield home


async def hoarder(home: House, amount: int = 10, **how: str) -> Worker:
    """`worker-1` with all of `calls` idle in its purse."""
    worker = await home.worker("worker-1", **how)
    reply = await worker.exchange(wishes=full({"calls": amount}))
    assert reply.slices == full({"calls": amount})
    return worker


async def test_exchanges_of_a_worker_are_answered_in_their_order(home: House) -> None:
    worker = await home.worker()
    sent = [worker.send(wants=[want(number, {"calls": 1})]) for number in range(1, 21)]
    replies = [await worker.answer() for _ in sent]
    assert [reply.seq for reply in replies] == sent
    assert [reply.granted for reply in replies[:10]] == [[number] for number in range(1, 11)]
    assert [refusal.id for reply in replies[10:] for refusal in reply.refused] == list(range(11, 21))


async def test_exchange_that_is_said_again_after_a_reconnect_gets_the_same_reply(home: House) -> None:
    worker = await home.worker()
    first = await worker.wants(1, calls=3)
    worker.leave()
    again = await home.worker()
    again.seq = worker.seq
    again.send(again=True, wants=[want(1, {"calls": 3})])
    assert await again.answer() == first
    assert home.store.free("calls|all|") == 7


async def test_exchange_that_is_said_again_while_it_is_under_way_is_answered_once(home: House) -> None:
    worker = await home.worker()
    home_down = home.folder / "down"
    home_down.touch()
    worker.send(wants=[want(1, {"calls": 3})])
    assert await worker.told(STORE) == {"up": False, "why": ""}
    worker.send(again=True, wants=[want(1, {"calls": 3})])
    home_down.unlink()
    assert await worker.told(STORE) == {"up": True, "why": ""}
    assert (await worker.answer()).granted == [1]
    assert await worker.is_told_nothing()


async def test_message_of_nobody_closes_the_connection(home: House) -> None:
    for said in ({"seq": 1}, {"owner": "worker-0", "epoch": 2, "seq": 1}, [1]):
        worker = await home.worker()
        worker.say(33, said)
        with pytest.raises(EOFError):
            await worker.next()


# recalls


async def test_want_is_granted_from_what_lay_idle_elsewhere(home: House) -> None:
    rich, poor = await hoarder(home), await home.worker()
    home.keeper._exchanges.recall_s = 30.0
    reply = await poor.wants(1, calls=4)
    assert reply.parked == {1: named(["calls"])} and reply.recalls == {}
    assert await rich.told(RECALL) == [1, named(["calls"])]
    await rich.exchange(returned=full({"calls": 10}), acks=named(["calls"]))
    late = await poor.answer()
    assert (late.seq, late.granted) == (0, [1])
    assert [call["final"] for call in home.calls("exchange")[-2:]] == [False, True]


async def test_want_is_decided_when_an_owner_never_answers(home: House) -> None:
    rich, poor = await hoarder(home), await home.worker()
    loop = asyncio.get_running_loop()
    begun_s = loop.time()
    await poor.wants(1, calls=4)
    late = await poor.answer()
    assert [refusal.id for refusal in late.refused] == [1]
    # uvloop's timers count whole milliseconds.
    assert round(loop.time() - begun_s, 3) >= 0.005
    assert await rich.told(RECALL) == [1, named(["calls"])]


async def test_exchange_that_crossed_the_recall_is_no_answer_to_it(home: House) -> None:
    rich, poor = await hoarder(home), await home.worker()
    home.keeper._exchanges.recall_s = 30.0
    await poor.wants(1, calls=4)
    await rich.told(RECALL)
    await rich.exchange()
    assert await poor.is_told_nothing()
    await rich.exchange()
    assert (await poor.answer()).refused[0].id == 1, "this one was sent after the recall had come"


async def test_parked_wants_are_decided_in_their_order(home: House) -> None:
    rich = await hoarder(home)
    home.keeper._exchanges.recall_s = 30.0
    asking = [await home.worker(f"worker-{number}") for number in range(2, 6)]
    for worker in asking:
        assert (await worker.wants(1, calls=4)).parked if worker is asking[0] else worker.send() or True
    await rich.told(RECALL)
    await rich.exchange(returned=full({"calls": 10}), acks=named(["calls"]))
    assert (await asking[0].answer()).granted == [1]


async def test_owner_of_another_host_answers_by_an_event(home: House) -> None:
    poor = await home.worker()
    home.keeper._exchanges.recall_s = 30.0
    home.store.given["far/worker-0", "calls|all|"] = 10
    assert (await poor.wants(1, calls=4)).parked
    home.store.returned["far/worker-0", "calls|all|"] = 10
    await home.store.happened.put(Event("acked", named(["calls"]), "far/worker-0", 1, 1))
    assert (await poor.answer()).granted == [1]
    await home.store.happened.put(Event("recall", named(["calls"]), "worker-0", 1, 1))
    assert await poor.told(RECALL) == [1, named(["calls"])]
    await home.store.happened.put(Event("recall", named(["calls"]), "worker-0", 2, 1))
    assert await poor.is_told_nothing(), "it is another life's, which counts anew"


# dry buckets


async def test_worker_that_was_refused_hears_when_something_came_back(home: House) -> None:
    rich, poor = await home.worker("worker-1"), await home.worker()
    await rich.wants(1, calls=10)
    home.store.shut.add(("worker-1", "calls|all|"))
    assert (await poor.wants(1, calls=1)).refused
    await rich.exchange(returned=full({"calls": 1}))
    assert await poor.told(WET) == named(["calls"])
    await rich.exchange(returned=full({"calls": 2}))
    assert await poor.is_told_nothing(), "it is told once"


# outages


async def test_of_a_store_that_is_late_nobody_is_told(home: House) -> None:
    worker, other = await home.worker(), await home.worker("worker-1")
    trips = home.metric("headgate_store_round_trips_total")
    home.store.late = 2
    assert (await worker.wants(1, calls=1)).granted == [1]
    assert home.store.late == 0
    assert home.metric("headgate_store_round_trips_total") >= trips + 3
    assert await other.is_told_nothing()
    assert home.metric("headgate_store_up") == 1


async def test_what_was_asked_while_the_store_is_down_is_answered_when_it_is_up(home: House) -> None:
    worker, other = await home.worker(), await home.worker("worker-1")
    assert home.metric("headgate_store_up") == 1
    (home.folder / "down").touch()
    worker.send(wants=[want(1, {"calls": 1})])
    for each in (worker, other):
        assert await each.told(STORE) == {"up": False, "why": ""}
    assert home.metric("headgate_store_up") == 0
    await eventually(lambda: not home.link.is_up)
    joined_late = await home.worker("worker-2", up=False)
    trips = home.metric("headgate_store_round_trips_total")
    (home.folder / "down").unlink()
    for each in (worker, other, joined_late):
        assert await each.told(STORE) == {"up": True, "why": ""}
    reply = await worker.answer()
    assert (reply.seq, reply.granted) == (1, [1])
    assert home.metric("headgate_store_up") == 1
    assert home.metric("headgate_store_round_trips_total") > trips
    assert (await joined_late.wants(1, calls=1)).granted == [1]
