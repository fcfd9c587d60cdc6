"""Stamps only grow: over restarts, over a clock that is put back, over files that are spoilt."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from gateway.control.stamp import StampFile


def tables(hash_: str, limit: int = 1) -> dict[str, Any]:
    return {"hash": hash_, "rules": [{"name": "r", "limit": limit}]}


def accept(file: StampFile, policy: dict[str, Any], now_ms: int) -> int:
    stamp = file.of(policy, now_ms)
    file.keep(policy, stamp)
    return stamp


def test_another_policy_is_later_and_the_same_is_not(tmp_path: Path) -> None:
    file = StampFile(tmp_path / "stamp.json")
    assert accept(file, tables("a"), 1_000) == 1_000
    assert file.of(tables("a"), 2_000) == 1_000
    assert accept(file, tables("b"), 2_000) == 2_000
    assert accept(file, tables("a"), 2_000) == 2_001, "back to what it was is an edit too"


def test_it_grows_though_the_clock_was_put_back_and_the_process_began_anew(tmp_path: Path) -> None:
    path = tmp_path / "stamp.json"
    assert accept(StampFile(path), tables("a"), 5_000) == 5_000
    assert StampFile(path).of(tables("a"), 70) == 5_000
    assert accept(StampFile(path), tables("b"), 70) == 5_001
    assert StampFile(path).of(tables("c"), 70) == 5_002


def test_other_rules_of_the_same_words_are_another_policy(tmp_path: Path) -> None:
    path = tmp_path / "stamp.json"
    accept(StampFile(path), tables("a"), 5_000)
    assert StampFile(path).of(tables("a", limit=2), 6_000) == 6_000


def test_policy_that_was_only_looked_at_changes_nothing(tmp_path: Path) -> None:
    file = StampFile(tmp_path / "stamp.json")
    accept(file, tables("a"), 1_000)
    file.of(tables("b"), 2_000)
    assert file.of(tables("a"), 3_000) == 1_000


@pytest.mark.parametrize(
    "content", [b"", b"[]", b"1", b'{"stamp": 5}', b'{"policy": "a", "stamp": "x"}', b"\xff"]
)
def test_spoilt_file_counts_as_none(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "stamp.json"
    path.write_bytes(content)
    assert accept(StampFile(path), tables("a"), 1_000) == 1_000
    assert StampFile(path).of(tables("a"), 2_000) == 1_000
