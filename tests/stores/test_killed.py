"""kill -9 of the process that owns the file: what was answered is there, and the books agree."""

from __future__ import annotations

import random
import subprocess
import sys
from pathlib import Path

from gateway.stores.embedded import EmbeddedStore
from tests.stores.invariants import broken
from tests.stores.killed import NOW_MS, TERMS
from tests.stores.teller import DAY, RUNNING, TEAM, row

KILLS = 4


def kill_after(path: Path, epoch: int, lines: int) -> tuple[int, int, int]:
    """Lets the process print so many lines, then kills it: what it had used of the day's money in all when it
    was answered last, when it asked last, and how often it asked."""
    command = [sys.executable, "-m", "tests.stores.killed", str(path), str(epoch)]
    said = []
    with subprocess.Popen(
        command, stdout=subprocess.PIPE, text=True, cwd=Path(__file__).parents[2]
    ) as process:
        assert process.stdout is not None
        said += [process.stdout.readline() for _ in range(lines)]
        process.kill()
        said += [line for line in process.stdout if line.endswith("\n")]
    assert all(said), "it ended by itself"
    answered = [int(line[1:]) for line in said if line.startswith("=")]
    asked = [int(line) for line in said if not line.startswith("=")]
    return answered[-1], asked[-1], len(asked)


async def test_after_every_kill_the_book_is_what_was_answered(tmp_path: Path) -> None:
    path, before = tmp_path / "ledger.db", 0
    for epoch in range(1, KILLS + 1):
        answered, asked, number = kill_after(path, epoch, random.Random(epoch).randint(20, 400))
        store = EmbeddedStore(path, lambda: NOW_MS)
        assert broken(store.book) == [] and await store.verify() == []
        balances = {each.bucket: each for each in await store.balances()}
        # Of an exchange that was not answered, all is there, or nothing.
        assert balances[DAY].spent in (before + answered, before + asked)
        assert balances[TEAM].spent == balances[DAY].spent
        assert balances[DAY].held == balances[RUNNING].held == 50
        # Its journal is read: it held nothing. It does not know whether its last row was written.
        charges = {DAY: asked - answered, TEAM: asked - answered}
        rows = [row(charges, f"r{epoch}.{number}", NOW_MS)] if asked > answered else []
        await store.bury("w0", epoch, {DAY: asked, TEAM: asked}, {}, rows)
        before = before + asked
        after = {each.bucket: each for each in await store.balances()}
        assert after[DAY].free == TERMS[DAY].limit - before
        assert after[RUNNING].free == TERMS[RUNNING].limit
        assert sum(each["nanousd"] for each in await store.spend([], 0, 1 << 60)) == before
        assert await store.verify() == []
        await store.close()
