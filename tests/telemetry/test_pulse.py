"""The pulse of a loop tells how late it is."""

from __future__ import annotations

import asyncio
import time
from pathlib import Path

from gateway.telemetry import table
from gateway.telemetry.pulse import PULSE_S, Pulse
from gateway.telemetry.slots import SlotFile, read_slots


async def test_loop_that_stands_still_shows_for_how_long(tmp_path: Path) -> None:
    beats = asyncio.Semaphore(0)
    pulse = Pulse(
        asyncio.get_running_loop(), SlotFile.create(tmp_path / "slots", 256), "worker", beats.release
    )
    await beats.acquire()
    stood_s = 0.3
    time.sleep(PULSE_S + stood_s)  # noqa: ASYNC251 (what a callback that takes too long does)
    await beats.acquire()
    pulse.stop()
    (values,) = [
        values
        for name, labels, values in read_slots(tmp_path / "slots")
        if (name, labels) == (table.LOOP_LAG.name, ("worker",))
    ]
    counts, total_s = values[:-1], values[-1] / 1e9
    assert sum(counts) == 2
    assert total_s >= stood_s
    late = [
        count
        for bound, count in zip((*table.LOOP_LAG.buckets, float("inf")), counts, strict=True)
        if bound > 0.25
    ]
    assert sum(late) >= 1


async def test_stopped_pulse_beats_no_more(tmp_path: Path) -> None:
    beats: list[int] = []
    pulse = Pulse(
        asyncio.get_running_loop(),
        SlotFile.create(tmp_path / "slots", 256),
        "worker",
        lambda: beats.append(1),
    )
    pulse.stop()
    await asyncio.sleep(2 * PULSE_S)
    assert beats == []
