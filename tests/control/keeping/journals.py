"""Journals as files of JSON whose lock their worker holds."""

from __future__ import annotations

import fcntl
import json
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple


class Written(NamedTuple):
    """What stands in one."""

    owner: str
    epoch: int
    used: dict[str, int]
    holds: dict[str, int]
    rows: list[Any]


class Journals:
    """Reads them."""

    def read_journal(self, path: Path, /) -> Written:
        return Written(**json.loads(path.read_text()))

    def is_abandoned(self, path: Path, /) -> bool:
        with path.open("rb") as file:
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                return False
        return True


def write(folder: Path, owner: str, epoch: int, **said: Any) -> Path:
    """The journal of a worker, which nobody holds."""
    path = folder / f"{owner}.{epoch}"
    written = Written(owner, epoch, said.get("used", {}), said.get("holds", {}), said.get("rows", []))
    path.write_text(json.dumps(written._asdict()))
    return path


@contextmanager
def held(path: Path) -> Iterator[None]:
    """As long as this lasts, its worker lives."""
    with path.open("rb") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield
