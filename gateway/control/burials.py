"""Workers that died: what their journals say is settled, and then the journals are gone."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from contextlib import suppress
from pathlib import Path

from gateway.clock import monotonic_s, now_s
from gateway.link.journal import UNFINISHED, Journaled, is_abandoned, read_journal
from gateway.telemetry.diagnostics import report, say

LOCKED_S = 2.0
"""How long the lock of a journal is tried after its worker's connection closed: a process that dies may hold
it a moment longer (its memory is unmapped first). One that lives holds it on, and nothing is done."""
TRY_S = 0.005
STALE_S = 60.0
"""A journal that is as old and still not finished never will be."""
UNREADABLE = ".unreadable"


class Burials:
    """The journals of a folder, named OWNER.EPOCH. `settle` books one; if it raises, the journal stays and is
    tried again."""

    def __init__(self, folder: Path, settle: Callable[[Journaled], Awaitable[None]]) -> None:
        self._folder = folder
        self._settle = settle
        self._one_at_a_time = asyncio.Lock()

    async def of(self, path: Path, is_back: Callable[[], bool]) -> bool:
        """The connection of a journal's worker closed: it has died (True when that is settled), or it lives
        and connects again."""
        deadline_s = monotonic_s() + LOCKED_S
        while path.exists() and not is_back() and monotonic_s() < deadline_s:
            if await self._bury(path):
                return True
            await asyncio.sleep(TRY_S)
        return False

    async def before(self, owner: str, epoch: int) -> None:
        """All earlier lives of a worker that starts."""
        for path in self._found(f"{owner}.*"):
            if path.name != f"{owner}.{epoch}":
                await self._bury(path)

    async def all(self) -> None:
        """All that nobody holds: whole gateways that were killed, and what could not be settled before."""
        for path in self._found("*"):
            await self._bury(path)
        for path in self._folder.glob("*" + UNFINISHED):
            with suppress(FileNotFoundError):
                if now_s() - path.stat().st_mtime > STALE_S:
                    path.unlink()

    def _found(self, pattern: str) -> list[Path]:
        return sorted(path for path in self._folder.glob(pattern) if path.suffix[1:].isdecimal())

    async def _bury(self, path: Path) -> bool:
        """True if it is done with, by this call or another."""
        async with self._one_at_a_time:
            try:
                if not is_abandoned(path):
                    return False
                # In a thread: it is 18 MiB, and grants go on meanwhile.
                journaled = await asyncio.to_thread(read_journal, path)
            except FileNotFoundError:
                return True
            except (ValueError, OSError) as error:
                self._put_aside(path, error)
                return True
            if journaled is None:
                # Nothing was ever held under it; if it is another version's, the lease settles its owner.
                say(f"the journal {path} is none of this version and is put aside")
                path.rename(path.with_name(path.name + UNREADABLE))
                return True
            await self._settle(journaled)
            path.unlink(missing_ok=True)
            return True

    def _put_aside(self, path: Path, error: Exception) -> None:
        """Its owner's lease runs out then, and all that it had counts as spent."""
        say(f"the journal {path} cannot be read and is put aside; what its worker had counts as spent")
        report(error)
        path.rename(path.with_name(path.name + UNREADABLE))
