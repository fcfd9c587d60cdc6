"""Deadlines fire once, late by a tick at most, and one that breaks stops no other."""

from __future__ import annotations

import asyncio
from typing import Any

from gateway.clock import monotonic_s
from gateway.http.outbox import Outbox
from gateway.http.wheel import Deadline, Wheel


async def test_deadline_that_raises_stops_no_other() -> None:
    loop = asyncio.get_running_loop()
    told: list[dict[str, Any]] = []
    loop.set_exception_handler(lambda _, context: told.append(context))
    wheel, fired = Wheel(loop), asyncio.Event()

    def broken() -> None:
        raise RuntimeError("broken")

    first, second, third = Deadline(wheel, broken), Deadline(wheel, fired.set), Deadline(wheel, fired.set)
    now_s = monotonic_s()
    first.set(now_s)
    second.set(now_s)
    await asyncio.wait_for(fired.wait(), 2)
    fired.clear()
    third.set(monotonic_s() + 0.05)
    await asyncio.wait_for(fired.wait(), 2)
    assert [type(context["exception"]) for context in told] == [RuntimeError]
    wheel.close()


async def test_retired_deadline_keeps_nothing_and_never_fires() -> None:
    wheel, fired = Wheel(asyncio.get_running_loop()), asyncio.Event()
    retired, after = Deadline(wheel, lambda: None), Deadline(wheel, fired.set)
    seen: list[str] = []
    retired.fire = lambda: seen.append("fired")
    retired.set(monotonic_s())
    retired.retire()
    after.set(monotonic_s() + 0.1)
    await asyncio.wait_for(fired.wait(), 2)
    assert seen == []
    wheel.close()


async def test_write_that_raises_loses_no_other() -> None:
    loop = asyncio.get_running_loop()
    told: list[dict[str, Any]] = []
    loop.set_exception_handler(lambda _, context: told.append(context))
    outbox, written = Outbox(), []

    def broken(data: bytes) -> None:
        raise OSError("broken")

    outbox.write(broken, b"a")
    outbox.write(written.append, b"b")
    outbox.flush()
    assert written == [b"b"]
    assert len(told) == 1
