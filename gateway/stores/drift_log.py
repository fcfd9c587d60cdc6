"""What gateways on one Redis share of drift: a log of answers' samples, and what was made of it.

Every gateway appends; one at a time, who has the lease, reads the log in its order and writes down the
streams' states with the place in the log up to which they were made. Whoever leads next goes on from there
and comes to the same. A leader that has lost its lease cannot write any more. The log holds bins and keyed
hashes, no texts.

For a thread: each method waits for its answer, `DEADLINE_S` at most, and raises `StoreDown`.
"""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple, TypeVar

from redis.exceptions import RedisClusterException, RedisError

from gateway.quota.contract import StoreDown
from gateway.stores.redis_client import client_of, reason_of

DEADLINE_S = 1.0
LEASE_MS = 5_000
"""After so long without a word another gateway takes over; the word is given every second at least."""
MOST_ENTRIES = 50_000
"""Of the log, 250 bytes each: two minutes of four gateways at the default of 100 answers a second each, of
which a state is a quarter behind at most."""
MOST_ALARMS = 1_000
START = b"0-0"
"""The place before the first entry of a log."""
_SCRIPTS = Path(__file__).parent / "scripts"
_APPEND, _LEAD, _COMMIT = (
    (_SCRIPTS / f"drift_{name}.lua").read_text() for name in ("append", "lead", "commit")
)
_WRITTEN = ("lease", "at", "states", "alarms", "moments", "counts", "untold", "told", "done")
"""In the order of `drift_commit.lua`."""
Result = TypeVar("Result")


class NewAlarm(NamedTuple):
    """An alarm to be written down: `series` is what it counts under."""

    id: str
    at_s: float
    series: bytes
    body: bytes


@dataclass(frozen=True, slots=True)
class Commit:
    """What a leader writes at once. `at` is the place up to which all streams were read; `told` is for
    everybody to show; empty: as they are. `done` answers orders."""

    at: bytes = b""
    told: bytes = b""
    states: Mapping[bytes, bytes] | None = None
    alarms: Sequence[NewAlarm] = ()
    forgotten: Sequence[bytes] = ()
    done: Mapping[bytes, bytes] | None = None


class DriftLog:
    """One log. `version` tells apart those whose entries mean other things. ValueError: `url` is no address
    (`redis_client`)."""

    def __init__(self, url: str, version: str) -> None:
        self._client = client_of(url, DEADLINE_S, decode=False)
        self._runner = asyncio.Runner()
        self._names = {name: f"headgate:{{drift}}:{version}:{name}" for name in (*_WRITTEN, "log", "key")}

    def key(self, fresh: bytes) -> bytes:
        """The key of all hashes: `fresh` if there is none yet."""
        name = self._names["key"]
        self._do(self._client.set(name, fresh, nx=True))
        found: bytes | None = self._do(self._client.get(name))
        if found is None:
            raise StoreDown("the key of hashes is gone")
        return found

    def append(self, entries: Sequence[bytes]) -> None:
        """At the end of the log. If there is no answer it may have been done; entries may be there twice."""
        self._do(self._client.eval(_APPEND, 1, self._names["log"], MOST_ENTRIES, *entries))

    def lead(self, token: str) -> int:
        """0: another one leads; 1: the lease is ours from now on; 2: it still is."""
        return int(self._do(self._client.eval(_LEAD, 1, self._names["lease"], token, LEASE_MS)))

    def read(self, after: bytes, most: int) -> list[tuple[bytes, bytes]]:
        """(place, entry) of what follows a place."""
        found = self._do(self._client.xread({self._names["log"]: after}, count=most))
        return [(place, fields[b"d"]) for _, entries in found for place, fields in entries]

    def states(self) -> tuple[bytes, dict[bytes, bytes]]:
        """The place up to which all streams were read, and their states by name."""
        at = self._do(self._client.get(self._names["at"]))
        return at or START, dict(self._do(self._client.hgetall(self._names["states"])))

    def state(self, name: bytes) -> bytes | None:
        """One stream's."""
        found: bytes | None = self._do(self._client.hget(self._names["states"], name))
        return found

    def commit(self, token: str, what: Commit) -> list[str] | None:
        """Writes it, all or nothing; the ids of alarms that are new. None: another one leads."""
        states, done = what.states or {}, what.done or {}
        parts: list[bytes | str | float] = [part for pair in states.items() for part in pair]
        for alarm in what.alarms:
            parts += [alarm.id, alarm.at_s, alarm.series, alarm.body]
        parts += what.forgotten
        parts += [part for pair in done.items() for part in pair]
        counts = (len(states), len(what.alarms), len(what.forgotten), len(done))
        names = [self._names[name] for name in _WRITTEN]
        told = (token, what.at, what.told, MOST_ALARMS, *counts, *parts)
        new = self._do(self._client.eval(_COMMIT, len(names), *names, *told))
        return None if new is None else [id_.decode() for id_ in new]

    def told(self) -> bytes:
        """What the leader told last, for everybody to show; empty if none did."""
        return self._do(self._client.get(self._names["told"])) or b""

    def done(self, id_: bytes) -> bytes | None:
        """The answer to an order, once there is one."""
        found: bytes | None = self._do(self._client.hget(self._names["done"], id_))
        return found

    def counts(self) -> dict[bytes, int]:
        """Series → alarms ever."""
        found = self._do(self._client.hgetall(self._names["counts"]))
        return {series: int(count) for series, count in found.items()}

    def alarms(self, most: int) -> list[bytes]:
        """The latest, newest first."""
        ids = self._do(self._client.zrevrange(self._names["moments"], 0, most - 1))
        return self._bodies(ids)

    def untold(self) -> list[bytes]:
        """Those of which nobody said that they were told."""
        return self._bodies(sorted(self._do(self._client.smembers(self._names["untold"]))))

    def set_told(self, id_: str) -> None:
        """An alarm was told."""
        self._do(self._client.srem(self._names["untold"], id_))

    def close(self) -> None:
        """Ends its connections."""
        try:
            self._runner.run(self._client.aclose())
        except (RedisError, OSError):
            pass  # they are gone already
        self._runner.close()

    def _bodies(self, ids: Sequence[bytes]) -> list[bytes]:
        if not ids:
            return []
        found = self._do(self._client.hmget(self._names["alarms"], ids))
        return [body for body in found if body is not None]

    def _do(self, asked: Coroutine[Any, Any, Result]) -> Result:
        try:
            return self._runner.run(asyncio.wait_for(asked, DEADLINE_S))
        except (RedisError, RedisClusterException, OSError, TimeoutError) as error:
            raise StoreDown(reason_of(error)) from None
