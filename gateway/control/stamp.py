"""When a policy was accepted: a number that only grows, by which stores tell new terms from old ones."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import orjson


class StampFile:
    """The stamp of the policy in force, kept in the state folder.

    The same policy keeps its stamp over restarts, so that a gateway which comes up with an older policy than
    its neighbours does not undo their edits in a store that they share. Another policy gets a greater one,
    also if the clock was put back in between.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._policy, self._stamp = _read(path)

    def of(self, tables: Mapping[str, Any], now_ms: int) -> int:
        """Milliseconds since the epoch at which the policy of these tables was accepted: now, if it is not
        the one of the last `keep`."""
        return self._stamp if _name(tables) == self._policy else max(now_ms, self._stamp + 1)

    def keep(self, tables: Mapping[str, Any], stamp: int) -> None:
        """To be called before anybody uses the stamp. Raises `OSError` if it cannot be written; it holds
        until the next start all the same."""
        self._policy, self._stamp = _name(tables), stamp
        fresh = self._path.with_suffix(".new")
        with fresh.open("wb") as file:
            file.write(orjson.dumps({"policy": self._policy, "stamp": stamp}))
            file.flush()
            os.fsync(file.fileno())
        fresh.replace(self._path)


def _name(tables: Mapping[str, Any]) -> str:
    """What the policy says, and what came of it: another release may make other rules of the same words."""
    return hashlib.sha256(orjson.dumps([tables["hash"], tables["rules"]])).hexdigest()


def _read(path: Path) -> tuple[str, int]:
    try:
        kept = orjson.loads(path.read_bytes())
        policy, stamp = kept["policy"], kept["stamp"]
    except (OSError, ValueError, TypeError, KeyError):
        # None yet, or spoilt: the clock alone must do.
        return "", 0
    return (policy, stamp) if type(policy) is str and type(stamp) is int else ("", 0)
