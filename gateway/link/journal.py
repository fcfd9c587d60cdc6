"""The journal: what a worker holds and has used, in a mapped file that outlives it.

One file per worker and epoch, locked by the worker while it lives. A kill -9 tears no page of it, so whoever
reads it afterwards knows every open hold, and all that was used and not yet told. (It is not synced: after a
loss of power the store's lease settles what was out.) The order of writes leaves money in neither place at
worst, never in two: a hold is written before its attempt's first byte leaves; at settling the use is added
first, then the hold is cleared.

Whole numbers of 8 bytes in this machine's order: a head, then accounts (used, length of the name, name), then
holds (count, then pairs of account and amount).
"""

from __future__ import annotations

import fcntl
import mmap
import os
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

_MAGIC = 0x48474A4E_4C000001
ACCOUNTS = 1 << 16
HOLDS = 1 << 15
PAIRS = 7
"""Accounts that one hold's record takes; a hold of more takes several records."""
NEXT = 15
"""Place in a record where the next one of the same hold is named; 0: there is none."""
UNFINISHED = ".new"
"""Ends the name of a journal that is being made."""
_HEAD = 8
_ACCOUNT = 32
_HOLD = 16
_NAME_BYTES = (_ACCOUNT - 2) * 8
_HOLDS_AT = _HEAD + ACCOUNTS * _ACCOUNT
_SIZE = (_HOLDS_AT + HOLDS * _HOLD) * 8
"""18 MiB, of which the kernel keeps the pages that were written."""


class JournalFull(Exception):
    """There is no room for another account or hold."""


class Journal:
    """A worker's own journal. `values[at]` of an account is what was used of it in this epoch, in all."""

    __slots__ = ("_fd", "_free_accounts", "_map", "free_holds", "path", "values")

    def __init__(self, folder: Path, owner: str, epoch: int) -> None:
        folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        self.path = folder / f"{owner}.{epoch}"
        fresh = self.path.with_name(self.path.name + UNFINISHED)
        self._fd = os.open(fresh, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
        # Locked before it has its name: nobody may find it free.
        fcntl.flock(self._fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        os.ftruncate(self._fd, _SIZE)
        self._map = mmap.mmap(self._fd, _SIZE)
        self.values = memoryview(self._map).cast("q")
        self.values[0], self.values[1] = _MAGIC, epoch
        fresh.rename(self.path)
        self._free_accounts = list(range(_HOLDS_AT - _ACCOUNT, _HEAD - 1, -_ACCOUNT))
        self.free_holds = list(range(len(self.values) - _HOLD, _HOLDS_AT - 1, -_HOLD))
        """Records that nothing stands in. Whoever takes one out writes pairs there, as `hold` does, and their
        number last."""

    def account(self, name: str) -> int:
        """Makes an account; where its use is counted. Raises `JournalFull`."""
        encoded = name.encode()
        if len(encoded) > _NAME_BYTES or not self._free_accounts:
            raise JournalFull
        at = self._free_accounts.pop()
        values = self.values
        values[at] = 0
        self._map[(at + 2) * 8 : (at + 2) * 8 + len(encoded)] = encoded
        values[at + 1] = len(encoded)
        return at

    def forget(self, at: int) -> None:
        """Ends an account that no hold names and whose use the store knows."""
        self.values[at + 1] = 0
        self._free_accounts.append(at)

    def hold(self, pairs: Sequence[tuple[int, int]]) -> int:
        """Writes a hold of (account, amount) pairs; where it stands: the accounts at every second place after
        it, in their order. Of more than `PAIRS` the last place of its record tells where it goes on. Raises
        `JournalFull`, and has written nothing then."""
        if len(pairs) > PAIRS:
            return self._long(pairs)
        if not self.free_holds:
            raise JournalFull
        at = place = self.free_holds.pop()
        values = self.values
        for account, amount in pairs:
            values[place + 1] = account
            values[place + 2] = amount
            place += 2
        values[at] = (place - at) // 2
        return at

    def _long(self, pairs: Sequence[tuple[int, int]]) -> int:
        following = self.hold(pairs[PAIRS:])
        try:
            at = self.hold(pairs[:PAIRS])
        except JournalFull:
            self.clear(following)
            raise
        self.values[at + NEXT] = following
        return at

    def clear(self, at: int) -> None:
        """Ends a hold."""
        values = self.values
        values[at] = 0
        self.free_holds.append(at)
        if values[at + NEXT]:
            following, values[at + NEXT] = values[at + NEXT], 0
            self.clear(following)

    def held(self) -> set[int]:
        """The accounts that holds name."""
        values = self.values
        found: set[int] = set()
        for place, pairs in enumerate(values[_HOLDS_AT::_HOLD].tolist()):
            if pairs:
                at = _HOLDS_AT + place * _HOLD
                found.update(values[at + 1 : at + 1 + 2 * pairs : 2].tolist())
        return found

    def close(self) -> None:
        """Unmaps it and gives up the lock; the file stays for whoever settles it."""
        self.values.release()
        self._map.close()
        os.close(self._fd)


class Journaled(NamedTuple):
    """What a dead worker's journal says."""

    owner: str
    epoch: int
    used: dict[str, int]
    """Account → used in the epoch, in all."""
    holds: dict[str, int]
    """Account → held by calls that never ended."""


def is_abandoned(path: Path) -> bool:
    """True if the worker that wrote it is gone."""
    try:
        fd = os.open(path, os.O_RDWR | os.O_CLOEXEC)
    except FileNotFoundError:
        return False
    try:
        fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    finally:
        os.close(fd)
    return True


def read_journal(path: Path) -> Journaled | None:
    """What a journal says; None if it was cut off while it was made (its worker had held nothing)."""
    owner, _, epoch = path.name.rpartition(".")
    data = path.read_bytes()
    if len(data) != _SIZE:
        return None
    values = memoryview(data).cast("q")
    if values[0] != _MAGIC or values[1] != int(epoch):
        return None
    used: dict[str, int] = {}
    names: dict[int, str] = {}
    # Lists made at once: 98,000 places one by one would keep other threads waiting for 15 ms.
    for place, length in enumerate(values[_HEAD + 1 : _HOLDS_AT : _ACCOUNT].tolist()):
        if 0 < length <= _NAME_BYTES:
            at = _HEAD + place * _ACCOUNT
            names[at] = data[(at + 2) * 8 : (at + 2) * 8 + length].decode()
            used[names[at]] = values[at]
    holds: dict[str, int] = {}
    for place, pairs in enumerate(values[_HOLDS_AT::_HOLD].tolist()):
        if not pairs:
            continue
        at = _HOLDS_AT + place * _HOLD
        for pair in range(min(pairs, PAIRS)):
            name = names.get(values[at + 1 + 2 * pair])
            if name is not None and values[at + 2 + 2 * pair]:
                holds[name] = holds.get(name, 0) + values[at + 2 + 2 * pair]
    return Journaled(owner, int(epoch), used, holds)
