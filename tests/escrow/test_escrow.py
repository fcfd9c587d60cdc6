"""Workers, journals, the keeper and the book together, at random: see `machine.py` for what must hold.

MACHINE_SEED moves the seeds; a failure names its own. 100,000 steps here, 1.5 million as a proof. A seeded
walk and no hypothesis machine: a step is an action with the five to ten messages, timers and writes that
follow from it, and takes 0.5 ms.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from gateway.stores.embedded import EmbeddedStore
from tests.escrow.both import Both
from tests.escrow.machine import (
    BUSTLE,
    CALM,
    CROSSING,
    CROWDED,
    DRAWN,
    FAIR,
    UNFAIR,
    WEIGHTS,
    Line,
    Machine,
    forget_what_is_not_kept,
)
from tests.escrow.virtual import VirtualLoop
from tests.stores.memory import MemoryStore
from tests.stores.redis_server import RedisServer

SEED = int(os.environ.get("MACHINE_SEED", "1"))


class Remembered(MemoryStore):
    """A store in memory that outlives its keeper, as a file does."""

    def again(self) -> Remembered:
        """As the next keeper finds it."""
        forget_what_is_not_kept(self.book)
        return self


class Filed(EmbeddedStore):
    """The embedded store; the next keeper opens the file again."""

    def __init__(self, machine: Machine) -> None:
        super().__init__(machine.folder / "ledger.db", lambda: machine.now_ms)
        self.machine = machine

    def again(self) -> Filed:
        """As the next keeper finds it."""
        self._connection.close()
        return Filed(self.machine)


def walk(
    folder: Path,
    seed: int,
    steps: int,
    weights: Mapping[str, float] = WEIGHTS,
    make_store: Any = Remembered,
    line: Line = FAIR,
    drawn: Sequence[str] = DRAWN,
) -> Machine:
    """One run in virtual time."""
    folder.mkdir(exist_ok=True)
    loop = VirtualLoop()
    machine = Machine(loop, seed, folder, make_store, weights, line=line, drawn=drawn)
    try:
        loop.run_until_complete(machine.run(steps, 1_000 if drawn is DRAWN else 250))
    finally:
        for worker in machine.workers:
            if not worker.is_dead:
                worker.is_dead = True
                worker.journal.values = worker._memory
                worker.journal.close()
        loop.finish()
    return machine


@pytest.mark.parametrize("seed", range(SEED, SEED + 3))
def test_nothing_is_lost_or_made_whatever_fails(tmp_path: Path, seed: int) -> None:
    walk(tmp_path, seed, 3_000)


@pytest.mark.parametrize("seed", range(SEED, SEED + 2))
def test_nobody_is_refused_what_lies_idle_nor_waits_in_vain(tmp_path: Path, seed: int) -> None:
    walk(tmp_path, seed + 500, 3_000, CALM)


@pytest.mark.parametrize("seed", range(SEED, SEED + 6))
def test_nothing_is_lost_or_made_on_an_unfair_line(tmp_path: Path, seed: int) -> None:
    walk(tmp_path, seed + 700, 6_000, line=UNFAIR)


@pytest.mark.parametrize("seed", range(SEED, SEED + 6))
def test_messages_that_cross_cost_nobody_what_lies_idle(tmp_path: Path, seed: int) -> None:
    walk(tmp_path, seed + 900, 6_000, CALM, line=CROSSING)


@pytest.mark.parametrize("seed", range(SEED, SEED + 6))
def test_messages_that_cross_in_a_crowd_cost_nobody_what_lies_idle(tmp_path: Path, seed: int) -> None:
    machine = walk(tmp_path, seed + 950, 3_000, BUSTLE, line=CROSSING, drawn=CROWDED)
    assert machine.counts["decided"] > 10, "there were recalls"


@pytest.mark.parametrize("line", [FAIR, UNFAIR])
def test_the_embedded_store_is_the_same_for_the_next_keeper(tmp_path: Path, line: Line) -> None:
    walk(tmp_path, SEED, 1_000, make_store=Filed, line=line)


@pytest.fixture(scope="module")
def redis_server() -> Iterator[RedisServer]:
    server = RedisServer("--appendonly", "no").start()
    yield server
    server.stop()


def test_redis_and_the_book_are_the_same_on_an_unfair_line(tmp_path: Path, redis_server: RedisServer) -> None:
    on_both = partial(Both, redis_server)
    walk(tmp_path / "failing", SEED, 1_000, make_store=on_both, line=UNFAIR)
    walk(tmp_path / "calm", SEED, 1_000, CALM, on_both, CROSSING)


@pytest.mark.proof
@pytest.mark.timeout(3_600)
def test_a_million_steps(tmp_path: Path) -> None:
    for seed in range(SEED + 1_000, SEED + 1_200):
        walk(tmp_path / str(seed), seed, 3_000)
    for seed in range(SEED + 2_000, SEED + 2_100):
        walk(tmp_path / str(seed), seed, 3_000, CALM)
    for seed in range(SEED + 3_000, SEED + 3_050):
        walk(tmp_path / str(seed), seed, 2_000, make_store=Filed)


@pytest.mark.proof
@pytest.mark.timeout(3_600)
def test_a_million_steps_on_an_unfair_line(tmp_path: Path, redis_server: RedisServer) -> None:
    on_both = partial(Both, redis_server)
    for seed in range(SEED + 4_000, SEED + 4_130):
        walk(tmp_path / str(seed), seed, 3_000, line=UNFAIR)
    for seed in range(SEED + 5_000, SEED + 5_130):
        walk(tmp_path / str(seed), seed, 3_000, CALM, line=CROSSING)
    for seed in range(SEED + 6_000, SEED + 6_020):
        walk(tmp_path / str(seed), seed, 3_000, make_store=Filed, line=UNFAIR)
    for seed in range(SEED + 7_000, SEED + 7_040):
        walk(tmp_path / str(seed), seed, 2_000, make_store=on_both, line=UNFAIR)
    for seed in range(SEED + 8_000, SEED + 8_040):
        walk(tmp_path / str(seed), seed, 2_000, CALM, on_both, CROSSING)
