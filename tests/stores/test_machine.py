"""Random owners over a bad line, against the contract: see `machine.py` for what must hold.

MACHINE_SEED moves the seeds; a failure names its own.
"""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from gateway.stores.embedded import EmbeddedStore
from tests.stores.machine import Machine
from tests.stores.memory import MemoryStore
from tests.stores.teller import HandClock

SEED = int(os.environ.get("MACHINE_SEED", "1"))


async def run_embedded(path: Path, seed: int, steps: int) -> None:
    clock = HandClock()
    store = EmbeddedStore(path, lambda: clock.now_ms)
    await Machine(store, clock, seed).run(steps)
    await store.close()


@pytest.mark.parametrize("seed", range(SEED, SEED + 8))
async def test_the_book(seed: int) -> None:
    clock = HandClock()
    await Machine(MemoryStore(clock), clock, seed).run(11_000)


async def test_the_embedded_store(tmp_path: Path) -> None:
    await run_embedded(tmp_path / "ledger.db", SEED, 12_000)


def kept(store: EmbeddedStore, now_ms: int) -> dict[str, object]:
    """What a store must know again after it was closed; rates as of now, for a full one is not written."""
    book = store.book
    for bucket in book.buckets.values():
        bucket.refill(now_ms)
    return {
        "rules": book.rules,
        "buckets": {
            name: [getattr(bucket, field) for field in KEPT_OF_BUCKETS]
            for name, bucket in book.buckets.items()
        },
        "outs": {
            (name, key): [getattr(out, field) for field in KEPT_OF_OUTS]
            for name, bucket in book.buckets.items()
            for key, out in bucket.outs.items()
        },
        "owners": {
            key: (owner.state, owner.ended_ms, owner.is_back, owner.reply if owner.state == "alive" else None)
            for key, owner in book.owners.items()
            if owner.buckets
        },
    }


KEPT_OF_BUCKETS = (
    "terms",
    "total",
    "out",
    "at_ms",
    "rest",
    "spent",
    "adjusted",
    "hold",
    "parts",
    "adjustments",
)
KEPT_OF_OUTS = ("given", "used", "returned", "out", "written", "parts", "held", "open")


async def test_a_store_that_is_opened_again_is_the_same_after_every_step(tmp_path: Path) -> None:
    clock = HandClock()
    store = EmbeddedStore(tmp_path / "ledger.db", lambda: clock.now_ms)
    machine = Machine(store, clock, SEED)
    for _ in range(400):
        await machine.step()
        await store.expire()  # writes what only time has changed
        again = EmbeddedStore(tmp_path / "ledger.db", lambda: clock.now_ms)
        assert kept(again, clock.now_ms) == kept(store, clock.now_ms), f"seed {SEED}, step {machine.steps}"
        await again.close()


@pytest.mark.proof
@pytest.mark.timeout(1_800)
async def test_a_million_steps(tmp_path: Path) -> None:
    for seed in range(SEED + 1_000, SEED + 1_080):
        clock = HandClock()
        await Machine(MemoryStore(clock), clock, seed).run(10_000)
    for seed in range(SEED + 2_000, SEED + 2_010):
        await run_embedded(tmp_path / f"{seed}.db", seed, 20_000)
