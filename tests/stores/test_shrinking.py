"""The machine as hypothesis drives it: fewer steps than `test_machine.py`, and a failure is made short.

A step of hypothesis costs ten of the machine, so the many steps are those of the seeds.
"""

from __future__ import annotations

from collections.abc import Coroutine
from typing import Any

from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule

from tests.stores.invariants import broken
from tests.stores.machine import WEIGHTS, WORKERS, Machine
from tests.stores.memory import MemoryStore
from tests.stores.teller import HandClock

OFTEN = [name for name, weight in WEIGHTS.items() for _ in range(max(1, round(weight / 5)))]
"""Rare ones are likelier than there: a run is short."""


def done(step: Coroutine[Any, Any, None]) -> None:
    """Runs what never waits."""
    try:
        step.send(None)
    except StopIteration:
        return
    raise AssertionError("it waits")


class Shrinking(RuleBasedStateMachine):
    """One action of the machine for each rule; `luck` decides what it draws."""

    @initialize(seed=st.integers(0, 255))
    def begin(self, seed: int) -> None:
        clock = HandClock()
        self.store = MemoryStore(clock)
        self.machine = Machine(self.store, clock, seed)

    @rule(name=st.sampled_from(OFTEN), worker=st.integers(0, WORKERS - 1), luck=st.integers(0, 255))
    def act(self, name: str, worker: int, luck: int) -> None:
        self.machine.dice.seed(luck)
        done(self.machine.act(name, self.machine.workers[worker]))

    @invariant()
    def books_agree(self) -> None:
        assert broken(self.store.book) == []

    def teardown(self) -> None:
        done(self.machine.rest())


Shrinking.TestCase.settings = settings(
    max_examples=40,
    stateful_step_count=50,
    deadline=None,
    derandomize=True,
    database=None,
    suppress_health_check=list(HealthCheck),
)
TestShrinking = Shrinking.TestCase
