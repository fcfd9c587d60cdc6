"""Messages that cross: one of each kind that once let a want be refused, or wait, beside what lay idle."""

from __future__ import annotations

import asyncio
from pathlib import Path

from gateway.link.ledger import ANSWER, EXCHANGE, RECALL, STORE
from gateway.quota.contract import MONEY, Terms
from gateway.quota.purse import Spent
from gateway.quota.rule import Rule
from tests.escrow.test_properties import Stage, play, ruled
from tests.escrow.worker import Worker, amounts_of

DAY = ruled("day", "usd", Terms(MONEY, 1_000))
TINY = ruled("tiny", "usd", Terms(MONEY, 10))
MORE = ruled("more", "usd", Terms(MONEY, 1_000))
BUCKET = "day|key=a|0"


def idle(worker: Worker) -> int:
    return worker.purses._purses[BUCKET].balance


async def hoard(stage: Stage, worker: Worker, rule: tuple[Rule, Terms, str] = DAY) -> int:
    """Gives a worker a slice of a budget; how much that is."""
    for _ in range(3):
        call = await stage.ask(worker, "a", amounts_of(0, 100), rule)
        worker.end(call, Spent(0, 0, 0, 0))
    await asyncio.sleep(0.05)
    purse = worker.purses._purses[f"{rule[0].name}|key=a|0"]
    assert purse.is_open and purse.balance >= 200
    return purse.balance


async def small_calls(stage: Stage, worker: Worker) -> None:
    """So many that it is worth while to give it a slice again."""
    for _ in range(30):
        call = await stage.ask(worker, "a", amounts_of(0, 10), DAY)
        worker.end(call, Spent(0, 0, 0, 0))
        await asyncio.sleep(0.01)


def test_a_deposit_that_crosses_a_recall_is_no_answer_to_it(tmp_path: Path) -> None:
    """What the rich worker deposits was on its way when it was asked for all that it has."""

    async def scene(stage: Stage) -> None:
        rich, poor = stage.workers
        has = await hoard(stage, rich)
        stage.fates[rich.key] = lambda kind: (0.002 if kind == EXCHANGE else 0.0001,)
        stage.begin(rich, "a", amounts_of(0, 20), DAY, TINY)
        await asyncio.sleep(0.0005)
        call = stage.begin(poor, "a", amounts_of(0, 1_000 - has // 2), DAY)
        await asyncio.sleep(0.001)
        assert 0 < idle(rich) + 20 <= has or rich.purses._acks, "it was asked before its deposit came"
        await call.is_decided.wait()
        assert call.outcome == "admitted"

    play(tmp_path, scene)


def test_a_slice_that_crosses_a_recall_opens_nothing(tmp_path: Path) -> None:
    """The store's answer to the rich worker, with a slice, is overtaken by that to the poor one, which takes
    the slice back: two connections keep no order."""

    async def scene(stage: Stage) -> None:
        rich, poor = stage.workers
        await hoard(stage, rich)
        rich.run(rich.purses.give_all_back)
        await asyncio.sleep(0.05)
        purse = rich.purses._purses[BUCKET]
        assert not purse.is_open and stage.store.book.buckets[BUCKET].out == 0
        lags_s = [0.0, 0.002]
        stage.keeper.way.lag_s = lambda asked: lags_s.pop(0) if lags_s else 0.0
        rich.purses._wishes.add(purse)
        rich.run(rich.teller._send)
        await asyncio.sleep(0.0008)
        assert stage.store.book.buckets[BUCKET].out > 0 and not purse.balance, "it is on its way"
        call = await stage.ask(poor, "a", amounts_of(0, 1_000), DAY)
        assert call.outcome == "admitted"
        assert not purse.is_open and not purse.balance
        poor.end(call, Spent(0, 0, 0, 0))
        await asyncio.sleep(0.05)
        await small_calls(stage, rich)
        assert purse.is_open, "a later slice opens it again"

    play(tmp_path, scene)


def test_a_recall_that_a_later_slice_overtook_is_over(tmp_path: Path) -> None:
    """It comes when the want that it was made for is decided, and the worker has been given a new slice."""

    async def scene(stage: Stage) -> None:
        rich, poor = stage.workers
        await hoard(stage, rich)
        stage.keeper.pipes[rich.key].in_order = False
        stage.fates[rich.key] = lambda kind: (0.5 if kind == RECALL else 0.0001,)
        call = await stage.ask(poor, "a", amounts_of(0, 900), DAY)
        assert call.outcome == "refused"
        await asyncio.sleep(0.1)
        await small_calls(stage, rich)
        purse = rich.purses._purses[BUCKET]
        assert purse.is_open
        await asyncio.sleep(0.5)
        assert purse.is_open

    play(tmp_path, scene)


def test_a_want_is_parked_once_though_its_exchange_comes_twice(tmp_path: Path) -> None:
    """The second time one of its two wants is being decided. Decided once more, together with the other, it
    would be an answer that the worker takes for one that it has heard, and the other would wait for ever."""

    async def scene(stage: Stage) -> None:
        rich, slow, poor = stage.workers
        stage.keeper.exchanges.recall_s = 0.05
        await hoard(stage, rich)
        await hoard(stage, slow, MORE)
        stage.keeper.way.lag_s = lambda asked: 0.003 if getattr(asked[0], "final", False) else 0.001
        stage.fates[rich.key] = lambda kind: (0.0001,)
        stage.fates[slow.key] = lambda kind: (0.001 if kind == EXCHANGE else 0.0001,)
        stage.fates[poor.key] = lambda kind: (0.0001, 0.003) if kind == EXCHANGE else (0.0001,)
        stage.keeper.pipes[poor.key].in_order = False
        calls = [stage.begin(poor, "a", amounts_of(0, 900), rule) for rule in (DAY, MORE)]
        for call in calls:
            await call.is_decided.wait()
        assert [call.outcome for call in calls] == ["admitted", "admitted"]
        await asyncio.sleep(0.2)
        for bucket in (BUCKET, "more|key=a|0"):
            assert stage.store.book.buckets[bucket].out == 900

    play(tmp_path, scene, workers=3)


def test_a_decision_that_overtakes_the_answer_before_it_is_heard(tmp_path: Path) -> None:
    async def scene(stage: Stage) -> None:
        rich, poor = stage.workers
        await hoard(stage, rich)
        stage.fates[rich.key] = lambda kind: (0.0001,)
        answers_s = [0.004]
        stage.fates[poor.key] = lambda kind: (answers_s.pop() if kind == ANSWER and answers_s else 0.0001,)
        stage.keeper.pipes[poor.key].in_order = False
        call = await stage.ask(poor, "a", amounts_of(0, 900), DAY)
        assert call.outcome == "admitted" and not answers_s

    play(tmp_path, scene)


def test_what_is_said_of_the_store_earlier_is_not_heard_later(tmp_path: Path) -> None:
    async def scene(stage: Stage) -> None:
        worker = stage.workers[0]
        stage.keeper.pipes[worker.key].in_order = False
        delays_s = [0.001, 0.02]
        stage.fates[worker.key] = lambda kind: (delays_s.pop() if kind == STORE else 0.0001,)
        for is_up in (False, True):
            stage.keeper.kept._set(is_up)
        await asyncio.sleep(0.1)
        assert worker.teller.is_up and not delays_s

    play(tmp_path, scene)
