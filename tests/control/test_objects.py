"""Whose stored objects are whose outlives a restart, and an answer that cannot be given is none."""

from __future__ import annotations

import sqlite3
from pathlib import Path

import pytest

from gateway.control.objects import StoredObjects


def question(do: str, team: str, *ids: str, provider: str = "openai") -> dict[str, object]:
    return {"n": 1, "do": do, "provider": provider, "team": team, "ids": list(ids)}


async def test_first_team_that_an_object_was_made_for_keeps_it(tmp_path: Path) -> None:
    objects = StoredObjects(tmp_path / "objects.db")
    assert await objects.answer(question("record", "a", "file-1", "file-2")) == {
        "owned": ["file-1", "file-2"]
    }
    assert await objects.answer(question("record", "b", "file-1", "file-3")) == {"owned": ["file-3"]}
    objects.close()
    objects = StoredObjects(tmp_path / "objects.db")
    assert await objects.answer(question("owned", "a", "file-1", "file-3", "file-9")) == {"owned": ["file-1"]}
    assert await objects.answer(question("owned", "a", "file-1", provider="azure")) == {"owned": []}
    objects.close()
    assert (tmp_path / "objects.db").stat().st_mode & 0o777 == 0o600


@pytest.mark.parametrize("state", ["torn", "newer", "folder"])
async def test_file_that_cannot_be_used_is_said_and_answers_nothing(
    tmp_path: Path, capfd: pytest.CaptureFixture[str], state: str
) -> None:
    path = tmp_path / "objects.db"
    if state == "torn":
        path.write_bytes(b"SQLite format 3\0" + b"\xff" * 5_000)
    elif state == "folder":
        path.mkdir()
    else:
        with sqlite3.connect(path) as db:
            db.execute("PRAGMA user_version = 99")
    objects = StoredObjects(path)
    assert await objects.answer(question("owned", "a", "file-1")) == {}
    objects.close()
    assert "objects.db cannot be used, so calls for stored objects are refused" in capfd.readouterr().err
