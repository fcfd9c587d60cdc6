"""A process that owns an embedded store, to be killed: `python -m tests.stores.killed FILE EPOCH`.

One owner uses money, a rate and slots. Before each exchange it prints what it has used of the day's money in
all by then, after the answer the same with `=` before it.
"""

from __future__ import annotations

import asyncio
import random
import sys

from gateway.quota.contract import MONEY, RATE, SLOTS, Terms
from gateway.stores.embedded import EmbeddedStore
from tests.stores.teller import DAY, MINUTE, RPM, RUNNING, TEAM, Teller, row

NOW_MS = 1_764_000_000_000
TERMS = {
    DAY: Terms(MONEY, 10_000_000),
    TEAM: Terms(MONEY, 10_000_000),
    RPM: Terms(RATE, 600_000, burst=600_000, window_ms=MINUTE),
    RUNNING: Terms(SLOTS, 1_000),
}


async def use(path: str, epoch: int) -> None:
    """For ever."""
    dice = random.Random(epoch)
    store = EmbeddedStore(path, lambda: NOW_MS)
    owner = Teller(store, "w0", epoch)
    total = number = 0
    await owner.tell(dict.fromkeys(TERMS, 50), terms=TERMS)
    while True:
        number += 1
        charge = dice.randint(1, 50)
        total += charge
        charges = {DAY: charge, TEAM: charge}
        print(total, flush=True)
        await owner.tell(
            dict.fromkeys(TERMS, 50),
            used={**charges, RPM: charge},
            returned={DAY: 50 - charge, TEAM: 50 - charge, RPM: 50 - charge, RUNNING: 50},
            rows=[row(charges, f"r{epoch}.{number}", NOW_MS)],
        )
        print(f"={total}", flush=True)


if __name__ == "__main__":
    asyncio.run(use(sys.argv[1], int(sys.argv[2])))
