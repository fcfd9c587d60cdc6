"""Policy reload: a changed folder is checked, compiled and switched; a bad one never replaces a good one."""

from __future__ import annotations

import asyncio
import os
import sys
from collections.abc import Awaitable, Callable, Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import orjson
from watchfiles import awatch

from gateway.clock import monotonic_s
from gateway.policy.compile import Compiled, compile_policy
from gateway.policy.load import from_document, load_folder, secret_reader
from gateway.policy.merge import Policy
from gateway.policy.problem import PolicyError, Problem
from gateway.pricing.catalogue import Catalogue
from gateway.telemetry.failure import report

LOOK_MS = 1000
"""How often the folder's files are compared besides the watch: the net under symlink swaps and network
file systems, whose changes raise no event."""
DEBOUNCE_MS = 100

ACCEPTED, REJECTED = "accepted", "rejected"


class Reloader:
    """Keeps the policy in force. `switch` ships tables to the workers; `simulated_url` gives the address of
    the built-in simulated provider, starting it if need be."""

    def __init__(
        self,
        folder: Path,
        state: Path,
        row_of: Callable[[str], int],
        switch: Callable[[Mapping[str, Any]], Awaitable[object]],
        simulated_url: Callable[[], Awaitable[str]],
    ) -> None:
        self._folder = folder
        self._accepted = state / "accepted.json"
        self._row_of = row_of
        self._switch = switch
        self._simulated_url = simulated_url
        self._catalogue = Catalogue()
        self._fingerprint: object = None
        self._lock = asyncio.Lock()
        self.compiled: Compiled | None = None
        self.since_s = 0.0
        """When the policy was put in force (`monotonic_s`)."""
        self.results = {ACCEPTED: 0, REJECTED: 0}
        self.last_problems: list[Problem] = []
        """What was wrong with the folder at the last look; empty if it is in force."""

    async def first(self) -> bool:
        """The folder's policy, or the one accepted last; False if there is neither."""
        if await self.load() or not self._accepted.exists():
            return self.compiled is not None
        try:
            policy = from_document(orjson.loads(self._accepted.read_bytes()))
            await self._put_in_force(policy)
        except (PolicyError, ValueError, OSError) as error:
            _say(f"the accepted policy in {self._accepted} cannot be used either: {error}")
            return False
        _say("serving by the policy that was accepted last; the folder's is not valid")
        return True

    async def load(self, *, force: bool = False) -> bool:
        """Looks at the folder now; True if its policy is in force afterwards."""
        async with self._lock:
            self._fingerprint = _fingerprint(self._folder)
            try:
                policy = await asyncio.to_thread(load_folder, self._folder)
                changed = await self._put_in_force(policy, force=force)
            except PolicyError as error:
                self.results[REJECTED] += 1
                self.last_problems = list(error.problems)
                for problem in error.problems:
                    _say(str(problem))
                _say(
                    f"the policy in {self._folder} is rejected"
                    + ("; the one before goes on" if self.compiled else "")
                )
                return False
            self.last_problems = []
            if changed:
                self.results[ACCEPTED] += 1
                try:
                    self._keep()
                except OSError as error:
                    _say(f"the accepted policy cannot be kept in {self._accepted}: {error.strerror}")
            return True

    async def watch(self) -> None:
        """Loads again whenever the folder changes, or a price that depends on the date does."""
        watch = awatch(
            self._folder, debounce=DEBOUNCE_MS, step=50, rust_timeout=LOOK_MS, yield_on_timeout=True
        )
        async for _ in watch:
            try:
                await self._look()
            except Exception as error:
                # Whatever it was, the next change must be seen.
                self.results[REJECTED] += 1
                _say(f"the policy in {self._folder} could not be loaded")
                report(error)

    async def _look(self) -> None:
        due = self.compiled is not None and self.compiled.prices_change_at
        if due and datetime.now(UTC) >= due:
            await self.load(force=True)
        elif _fingerprint(self._folder) != self._fingerprint:
            await self.load()

    async def _put_in_force(self, policy: Policy, *, force: bool = False) -> bool:
        """Compiles and switches; False if it is the policy in force already. Raises `PolicyError`."""
        simulated = any(
            provider.dialect == "simulated" and provider.base_url is None
            for provider in policy.spec.providers.values()
        )
        url = await self._simulated_url() if simulated else None
        compiled = await asyncio.to_thread(
            compile_policy,
            policy,
            secret_of=secret_reader(),
            row_of=self._row_of,
            catalogue=self._catalogue,
            at=datetime.now(UTC),
            simulated_url=url,
        )
        if not force and self.compiled is not None and compiled.tables == self.compiled.tables:
            return False
        if self.compiled is None or compiled.warnings != self.compiled.warnings:
            for warning in compiled.warnings:
                _say(f"warning: {warning}")
        await self._switch(compiled.tables)
        self.compiled = compiled
        self.since_s = monotonic_s()
        return True

    def _keep(self) -> None:
        """Keeps the accepted policy, secrets as references, for a start with a bad folder."""
        assert self.compiled is not None
        fresh = self._accepted.with_suffix(".new")
        fd = os.open(fresh, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
        with os.fdopen(fd, "wb") as file:
            file.write(orjson.dumps(self.compiled.document))
        fresh.replace(self._accepted)


def _fingerprint(folder: Path) -> object:
    """What changes when a file of the folder does: names, sizes, times, and where symlinks lead."""
    seen = []
    for root, folders, files in os.walk(folder, followlinks=True):
        folders[:] = [name for name in folders if not name.startswith(".")]
        for name in files:
            path = os.path.join(root, name)
            try:
                found = os.stat(path)
                seen.append((path, found.st_ino, found.st_size, found.st_mtime_ns))
            except OSError as error:
                seen.append((path, error.errno or 0, 0, 0))
    return sorted(seen)


def _say(text: str) -> None:
    sys.stderr.write(f"headgate: {text}\n")
