"""What purses save: round trips per 1,000 calls and false refusals, in virtual time, with the real code.

    python -m tests.escrow.measure [SECONDS]

2,000 calls a second of 40 keys at 4 workers, each under a request limit, a token limit, calls at once and a
budget. Steady: all is ample. Exhausted: the budget of a key has half of what is asked for.
"""

from __future__ import annotations

import sys
import tempfile
from pathlib import Path
from typing import NamedTuple

from gateway.quota.contract import MONEY, RATE, SLOTS, Refusal, Terms
from gateway.quota.purse import NANOUSD, Spent
from tests.escrow.test_properties import Stage
from tests.escrow.virtual import VirtualLoop
from tests.escrow.worker import Call, amounts_of, rule_of

KEYS, RATE_PER_S = 40, 2_000
MINUTE = 60_000


class Measured(NamedTuple):
    calls: int
    admitted: int
    refused: int
    false: int
    """Refused though what the blamed bucket lacked lay idle in some worker's purse."""
    local: float
    """Share of calls that no message was sent for and waited for, of those admitted."""
    trips: float
    """Exchanges with the store per 1,000 calls."""
    used: float
    """Exhausted: share of the budgets that was used."""


class Scene(Stage):
    false = 0
    refused_count = 0

    def refused(self, call: Call, refusal: Refusal) -> None:
        self.refused_count += 1
        need = next(call.amounts[place] for purse, place in call.seats if purse.bucket == refusal.bucket)
        idle = max(0, self.store.book.buckets[refusal.bucket].free)
        for worker in self.workers:
            purse = worker.purses._purses.get(refusal.bucket)
            idle += max(0, purse.balance) if purse is not None else 0
        self.false += idle >= need and refusal.wait_ms < 0


async def offered(stage: Scene, seconds: float, budget: int, warm_s: float) -> Measured:
    """Calls of 100 to 1,000 units of money that use 30 % to 100 % of it, and last 0.1 to 3 s."""
    dice, loop = stage.dice, stage.loop
    terms = {
        "rpm": Terms(RATE, 600_000, burst=60_000, window_ms=MINUTE),
        "tpm": Terms(RATE, 60_000_000, burst=60_000_000, window_ms=MINUTE),
        "slots": Terms(SLOTS, 5_000),
        "day": Terms(MONEY, budget),
    }
    measures = {"rpm": "requests", "tpm": "tokens", "slots": "concurrent", "day": "usd"}
    rules = {name: rule_of(name, measures[name], each) for name, each in terms.items()}
    calls = began = dry = 0
    trips = hits = misses = 0
    end_s = loop.time() + warm_s + seconds
    begin_s = loop.time() + warm_s
    is_warm = False
    at_s = loop.time()

    def end(call: Call) -> None:
        if call.hold is not None:
            share = dice.uniform(0.3, 1.0)
            money = int(call.amounts[NANOUSD] * share)
            call.worker.end(call, Spent(money, money, 0, money))

    def begin() -> None:
        nonlocal dry
        worker = dice.choice(stage.workers)
        key = f"key=k{min(dice.randrange(KEYS), dice.randrange(KEYS))}"
        money = dice.randint(100, 1_000)
        seats = []
        for name, rule in rules.items():
            purse = worker.purse(rule, terms[name], key, 0)
            seats.append((purse, purse.need_at))
        call = worker.begin(key, seats, amounts_of(money, money))
        dry += call.outcome == "dry"
        loop.call_later(dice.uniform(0.1, 3.0), end, call)

    while at_s < end_s:
        at_s += dice.expovariate(RATE_PER_S)
        await stage.until(at_s)
        if not is_warm and at_s >= begin_s:
            is_warm = True
            trips, calls, dry = stage.meters.trips, 0, 0
            hits, misses = (sum(getattr(each, name) for each in stage.workers) for name in ("hits", "misses"))
            stage.false = stage.refused_count = 0
        calls += 1
        begin()
    await stage.until(loop.time() + 0.2)
    trips = stage.meters.trips - trips
    hits = sum(worker.hits for worker in stage.workers) - hits
    misses = sum(worker.misses for worker in stage.workers) - misses
    admitted = calls - dry - stage.refused_count
    book = stage.store.book
    spent = [bucket.spent for bucket in book.buckets.values() if bucket.terms.kind == MONEY]
    _ = began
    return Measured(
        calls,
        admitted,
        stage.refused_count + dry,
        stage.false,
        hits / max(1, admitted),
        1_000 * trips / calls,
        sum(spent) / max(1, budget * len(spent)),
    )


def measure(budget: int, seconds: float, warm_s: float) -> Measured:
    loop = VirtualLoop()
    with tempfile.TemporaryDirectory() as folder:
        stage = Scene(loop, Path(folder), workers=4)

        async def run() -> Measured:
            await stage.start()
            return await offered(stage, seconds, budget, warm_s)

        try:
            return loop.run_until_complete(run())
        finally:
            for worker in stage.workers:
                worker.die()
            loop.finish()


if __name__ == "__main__":
    seconds = float(sys.argv[1]) if len(sys.argv) > 1 else 5.0
    print("steady, cold   ", measure(10_000_000_000, seconds, 0.0))
    print("steady, warm   ", measure(10_000_000_000, seconds, 3.0))
    print("exhausted      ", measure(int(RATE_PER_S / KEYS * seconds * 550 * 0.65 * 0.5), seconds, 0.0))
    print("tiny budgets   ", measure(2_000, seconds, 0.0))
