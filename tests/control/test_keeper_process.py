"""The keeper as a process, with the embedded store, and workers' links to it."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from itertools import count
from pathlib import Path

import pytest

from tests.control.keeping.keeper_process import KeeperProcess
from tests.control.keeping.purse import Purse, slots, want

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


async def test_worker_is_granted_what_there_is_and_refused_beyond(join: Join, bucket: str) -> None:
    worker = await join("worker")
    wants = [want(number, {bucket: 4}) for number in (1, 2, 3)]
    reply = await worker.exchange(terms=slots(bucket), wants=wants)
    assert (reply.seq, reply.granted, [refusal.id for refusal in reply.refused]) == (1, [1, 2], [3])
    assert worker.link.got == {bucket: 8}
    reply = await worker.exchange(returned={bucket: 4}, wants=[want(4, {bucket: 6})])
    assert (reply.seq, reply.granted, worker.link.got) == (2, [4], {bucket: 14})


async def test_exchange_waits_for_a_keeper_that_is_not_there_yet(tmp_path: Path, bucket: str) -> None:
    keeper = KeeperProcess(tmp_path / "state")
    worker = Purse(keeper.socket, "worker-0")
    await worker.link.start()
    reply = await worker.exchange(terms=slots(bucket), wants=[want(1, {bucket: 4})])
    assert reply.granted == [1]
    await worker.close()
    assert keeper.stop() == 0
    keeper.close()
