"""What limits and budgets cost in a worker, without sockets: python benchmarks/micro_limits.py [--profile].

A call of the bench's takes, is priced, ends and becomes a row, under the rules of `limits_embedded` and under
none; 32 are under way at a time, and the store is told of 256 at once.
"""

import asyncio
import cProfile
import pstats
import sys
import tempfile
import time
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

from machine import description
from micro import snapshot_of
from systems import KEY, LIMITS, request_body

from gateway.line.exchange import Exchange
from gateway.line.limits import Free, Governed, Ledger
from gateway.line.teller import Teller
from gateway.link.journal import Journal
from gateway.link.ledger import encode
from gateway.policy.decide import Facts
from gateway.quota.purses import Purses
from gateway.telemetry.meters import Meters
from gateway.telemetry.slots import SlotFile
from gateway.usage import Usage
from gateway.wire.dialects.openai_chat import read_call

UNDER_WAY, TOLD_AFTER = 32, 8
"""Calls under way at a time; the store is told after so many rounds of these."""
ROUNDS, TURNS = 64, 25


class Worker:
    """A worker's ledger with nobody behind it: its purses are full, and what it tells is thrown away."""

    def __init__(self, folder: Path, rules: str) -> None:
        self.snapshot = snapshot_of(rules)
        self.key = self.snapshot.key_of(KEY.encode())
        assert self.key is not None
        self.model = self.key.models["gpt-4o-mini"]
        self.target = self.model.targets[0]
        self.purses = Purses(Journal(folder, "worker-0", int(time.time() * 1000)))
        self.teller = Teller(asyncio.new_event_loop(), self.purses)
        ledger = Ledger(self.purses, self.teller)
        SlotFile.create(folder / "slots")
        meters = Meters(SlotFile.open(folder / "slots"))
        self.limits = Governed(self.snapshot, ledger, meters) if self.snapshot.rules else Free()
        self.line = SimpleNamespace(snapshot=self.snapshot, limits=self.limits, ledger=ledger, meters=meters)
        self.body = request_body("plain")
        self.purses.until_s = float("inf")
        exchange = self.exchange()
        if isinstance(self.limits, Governed):
            assert self.limits.take(exchange, self.model, self.target) is None
            for purse in self.purses._purses.values():
                purse.balance, purse.is_open = 1 << 50, True

    def exchange(self) -> Exchange:
        """A call that was read and decided."""
        exchange = Exchange(cast(Any, self.line), cast(Any, None), cast(Any, SimpleNamespace(received_s=1.0)))
        exchange.call = read_call("chat", self.body)
        exchange.key, exchange.model, exchange.target = self.key, self.model, self.target
        assert self.key is not None
        exchange.facts = Facts(self.key, "gpt-4o-mini")
        exchange.attempts = 1
        return exchange

    def fresh(self) -> list[Exchange]:
        """So many calls that have not begun."""
        return [self.exchange() for _ in range(UNDER_WAY)]

    def round(self, exchanges: list[Exchange]) -> None:
        """All of them, from what they take to their rows."""
        take, finish, model, target = self.limits.take, self.limits.finish, self.model, self.target
        for exchange in exchanges:
            exchange.claim = take(exchange, model, target)
        for exchange in exchanges:
            exchange.usage = usage = Usage(input=212, output=100)
            exchange.price(usage)
            finish(exchange)

    def tell(self) -> None:
        """What the store would be told."""
        told = self.purses.exchange(time.monotonic())
        assert told is not None
        encode(told)


def run(worker: Worker, rounds: int) -> tuple[float, float]:
    """Microseconds of a call, and of telling the store of it: the least of so many rounds each."""
    calls, told = [], []
    for _ in range(rounds // TOLD_AFTER):
        for exchanges in [worker.fresh() for _ in range(TOLD_AFTER)]:
            begun_s = time.perf_counter()
            worker.round(exchanges)
            calls.append(time.perf_counter() - begun_s)
        begun_s = time.perf_counter()
        worker.tell()
        told.append(time.perf_counter() - begun_s)
    return min(calls) / UNDER_WAY * 1e6, min(told) / (UNDER_WAY * TOLD_AFTER) * 1e6


def main() -> None:
    """The least of many turns, of the two in turn: a busy machine adds, and never takes away."""
    print(description(), file=sys.stderr)
    with tempfile.TemporaryDirectory(prefix="headgate-micro-") as name:
        workers = {
            "none": Worker(Path(name) / "none", ""),
            "three limits, a budget": Worker(Path(name) / "all", LIMITS),
        }
        if "--profile" in sys.argv:
            _profile(workers["three limits, a budget"])
            return
        best = dict.fromkeys(workers, (float("inf"), float("inf")))
        for _ in range(TURNS):
            for rules, worker in workers.items():
                call_us, told_us = run(worker, ROUNDS)
                best[rules] = (min(best[rules][0], call_us), min(best[rules][1], told_us))
    for rules, (call_us, told_us) in best.items():
        print(f"{rules:26} {call_us:8.3f} us, and {told_us:.3f} to tell the store of it")
    (none_us, untold_us), (call_us, told_us) = best.values()
    print(f"{'more':26} {call_us - none_us + told_us - untold_us:8.3f} us")


def _profile(worker: Worker) -> None:
    profile = cProfile.Profile()
    for _ in range(200):
        exchanges = worker.fresh()
        profile.enable()
        worker.round(exchanges)
        profile.disable()
    pstats.Stats(profile).sort_stats("tottime").print_stats(30)


if __name__ == "__main__":
    main()
