"""However a call ends: what is posted is what the provider charges, or more where nobody can know."""

from __future__ import annotations

import asyncio

from gateway.simulator.faults import UNBILLED
from gateway.simulator.server import Simulator
from tests.line.conftest import StartRelay
from tests.line.ledgers import charge, governed, of_user, overshoot, prices, settle
from tests.relaying import CHAT
from tests.running import eventually

EXACT, NOTHING, UPPER, ALL_HELD = "exact", "nothing", "at least the bill", "all that was held"
HELD = 4_096 * 600
"""Nano-dollars that the output of a call without a cap is held for, by the default cap."""

ENDINGS = [
    ("none", EXACT),
    ("no_done", EXACT),
    ("double_done", EXACT),
    ("comments", EXACT),
    ("crlf", EXACT),
    ("split_bytes", EXACT),
    ("status_400", NOTHING),
    ("status_401", NOTHING),
    ("status_404", NOTHING),
    ("status_422", NOTHING),
    ("status_429", NOTHING),
    ("status_429_quota", NOTHING),
    ("status_500", NOTHING),
    ("status_503", NOTHING),
    ("context_window", NOTHING),
    ("status_408", ALL_HELD),
    ("status_504", ALL_HELD),
    ("reset", ALL_HELD),
    ("close", ALL_HELD),
    ("hang", ALL_HELD),
    ("redirect", ALL_HELD),
    ("html", ALL_HELD),
    ("gzip", ALL_HELD),
    ("truncated", UPPER),
    ("not_json", UPPER),
    ("bad_utf8", UPPER),
    ("cut", UPPER),
    ("cut_reset", UPPER),
    ("stall", UPPER),
    ("pings", UPPER),
    ("error_event", UPPER),
    ("filter_event", UPPER),
    ("big_event", UPPER),
    ("no_usage", UPPER),
    ("negative_usage", UPPER),
    ("absurd_usage", UPPER),
    ("after_done", UPPER),
]


NEVER_ENDING = ("hang", "stall", "pings")
"""What ends at a deadline of ours: all else has the time that a busy machine needs."""


async def test_every_ending(start: StartRelay, simulator: Simulator) -> None:
    patient = "  patient: {targets: [upstream/gpt-4o-mini], retries: {attempts: 0}}\n"
    relay = await start(governed(simulator.url, models=patient))
    users = {(fault, stream): f"{fault}-{stream}" for fault, _ in ENDINGS for stream in (False, True)}

    async def call(fault: str, stream: bool, model: str) -> None:
        user = users[fault, stream]
        await relay.post(
            {**CHAT, "model": model, "stream": stream, "user": user, "simulate": {"fault": fault}}
        )

    await asyncio.gather(*(call(*one, "patient") for one in users if one[0] not in NEVER_ENDING))
    await asyncio.gather(*(call(*one, "quick") for one in users if one[0] in NEVER_ENDING))
    billed = [fault for fault, _ in users if fault not in UNBILLED]
    await eventually(lambda: len(simulator.bill.entries) == len(billed))
    await settle(relay)
    of_call = {(entry.fault or "none", entry.stream): entry for entry in simulator.bill.entries}
    price = prices(relay)["gpt-4o-mini"]
    for fault, expected in ENDINGS:
        for stream in (False, True):
            user, entry = users[fault, stream], of_call.get((fault, stream))
            truth = 0 if entry is None else charge(price, entry)
            count = 0 if entry is None else entry.input_tokens + entry.output_tokens
            booked, tokens = of_user(relay, "day", user), of_user(relay, "all.tokens", user)
            if expected == EXACT:
                assert booked == truth > 0, user
                assert tokens == count, user
            elif expected == NOTHING:
                assert booked == truth == tokens == 0, user
            elif expected == ALL_HELD:
                assert HELD < booked < 1.1 * HELD, user
                assert tokens >= count, user
            else:
                assert truth <= booked < 1.1 * HELD, user
                assert tokens >= count, user
            assert of_user(relay, "all.requests", user) == 1, user
    assert len(relay.store.rows) == len(users)
    assert overshoot(relay) == 0
