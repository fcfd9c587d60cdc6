"""The journal: what it says after its worker is gone, however it went."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from gateway.link.journal import ACCOUNTS, Journal, JournalFull, is_abandoned, read_journal


def test_it_says_what_was_used_and_what_is_held(tmp_path: Path) -> None:
    journal = Journal(tmp_path, "worker-0", 17)
    day, rate = journal.account("spend|team=a|2026-11-25"), journal.account("rate.tokens|key=ä|")
    first = journal.hold([(day, 100), (rate, 7)])
    journal.hold([(day, 30)])
    journal.values[day] += 80
    journal.clear(first)
    said = read_journal(journal.path)
    assert said is not None
    assert (said.owner, said.epoch) == ("worker-0", 17)
    assert said.used == {"spend|team=a|2026-11-25": 80, "rate.tokens|key=ä|": 0}
    assert said.holds == {"spend|team=a|2026-11-25": 30}
    journal.close()


def test_a_forgotten_account_is_not_mistaken_for_the_next_one(tmp_path: Path) -> None:
    journal = Journal(tmp_path, "worker-0", 1)
    at = journal.account("old")
    journal.values[at] = 5
    journal.forget(at)
    assert journal.account("new") == at
    said = read_journal(journal.path)
    assert said is not None and said.used == {"new": 0}
    journal.close()


def test_it_is_abandoned_only_when_its_worker_is(tmp_path: Path) -> None:
    journal = Journal(tmp_path, "worker-0", 1)
    assert not is_abandoned(journal.path)
    journal.close()
    assert is_abandoned(journal.path)
    assert not is_abandoned(tmp_path / "none.1")


def test_it_refuses_what_it_has_no_room_for(tmp_path: Path) -> None:
    journal = Journal(tmp_path, "worker-0", 1)
    with pytest.raises(JournalFull):
        journal.account("x" * 241)
    for number in range(ACCOUNTS):
        journal.account(str(number))
    with pytest.raises(JournalFull):
        journal.account("one more")
    journal.close()


def test_a_file_that_was_cut_off_says_nothing(tmp_path: Path) -> None:
    path = tmp_path / "worker-0.3"
    path.write_bytes(b"\0" * 100)
    assert read_journal(path) is None


_WORKER = """
import sys
from pathlib import Path
from gateway.link.journal import Journal
journal = Journal(Path(sys.argv[1]), "worker-0", 9)
at = journal.account("m|all|")
print("ready", flush=True)
while True:
    hold = journal.hold([(at, 10)])
    journal.values[at] += 10
    journal.clear(hold)
    print(journal.values[at], flush=True)
"""


def test_kill_9_at_any_moment_leaves_no_less_than_the_truth(tmp_path: Path) -> None:
    for _ in range(5):
        with subprocess.Popen(
            [sys.executable, "-c", _WORKER, str(tmp_path)], stdout=subprocess.PIPE, text=True
        ) as worker:
            assert worker.stdout is not None
            told = [worker.stdout.readline() for _ in range(50)]
            os.kill(worker.pid, signal.SIGKILL)
            told += worker.stdout.readlines()
        path = tmp_path / "worker-0.9"
        assert is_abandoned(path)
        said = read_journal(path)
        whole = [int(line) for line in told[1:] if line.endswith("\n")]
        assert said is not None and whole
        assert whole[-1] <= said.used["m|all|"] + said.holds.get("m|all|", 0) <= whole[-1] + 20
        path.unlink()
