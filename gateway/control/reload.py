"""Policy reload: a changed folder is checked, compiled and switched; a bad one never replaces a good one."""

from __future__ import annotations

import asyncio
import hashlib
import os
from collections.abc import Awaitable, Callable, Iterable, Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import orjson
from watchfiles import awatch

from gateway.clock import monotonic_s, now_s
from gateway.control.stamp import StampFile
from gateway.control.vocabulary import bytes_per_token
from gateway.http.dial import Origin, new_tls_context
from gateway.policy.compile import Compiled, compile_policy
from gateway.policy.load import from_document, load_folder, policy_files, secret_reader
from gateway.policy.merge import Policy
from gateway.policy.problem import PolicyError, Problem
from gateway.policy.sampling import Sampling
from gateway.policy.spec import named_files
from gateway.pricing.catalogue import Catalogue
from gateway.telemetry.diagnostics import report, say
from gateway.telemetry.meters import ControlMeters

LOOK_MS = 1000
"""How often the folder's files are compared besides the watch: the net under symlink swaps and network
file systems, whose changes raise no event."""
DEBOUNCE_MS = 100


class Reloader:
    """Keeps the policy in force. `switch` ships tables to the workers; `simulated_url` gives the address of
    the built-in simulated provider, starting it if need be; `sampling` is as in `compile_policy`; `amend`
    gives the tables to ship for a compiled policy at this moment (`again` has it asked anew)."""

    def __init__(
        self,
        folder: Path,
        state: Path,
        row_of: Callable[[str], int],
        switch: Callable[[Mapping[str, Any]], Awaitable[object]],
        simulated_url: Callable[[], Awaitable[str]],
        meters: ControlMeters,
        sampling: Sampling | None = None,
        amend: Callable[[Compiled], Mapping[str, Any]] = lambda compiled: compiled.tables,
    ) -> None:
        self._folder = folder
        self._accepted = state / "accepted.json"
        self._stamps = StampFile(state / "stamp.json")
        self._row_of = row_of
        self._switch = switch
        self._simulated_url = simulated_url
        self._meters = meters
        self._sampling = sampling
        self._amend = amend
        self._catalogue = Catalogue()
        self._seen: object = None
        """The folder's fingerprint at the last look, and below that of the files its policy names."""
        self._named: frozenset[str] = frozenset()
        self._named_seen: object = None
        self._tls: object = None
        self._shipped: Mapping[str, Any] | None = None
        self._lock = asyncio.Lock()
        self._policy: Policy | None = None
        self.compiled: Compiled | None = None
        self.since_s = 0.0
        """When the policy was put in force (`monotonic_s`)."""
        self.last_problems: list[Problem] = []
        """What was wrong with the folder at the last look; empty if it is in force."""

    @property
    def shipped(self) -> Mapping[str, Any] | None:
        """What the workers have; None before the first policy."""
        return self._shipped

    async def first(self) -> bool:
        """The folder's policy, or the one accepted last; False if there is neither."""
        if await self.load() or not self._accepted.exists():
            return self.compiled is not None
        try:
            document = orjson.loads(self._accepted.read_bytes())
            if not isinstance(document, dict):
                raise ValueError("not a policy")
            async with self._lock:
                await self._put_in_force(from_document(document))
        except (PolicyError, ValueError, OSError) as error:
            say(f"the accepted policy in {self._accepted} cannot be used either: {error}")
            return False
        say("serving by the policy that was accepted last; the folder's is not valid")
        return True

    async def load(self, *, force: bool = False) -> bool:
        """Looks at the folder now; True if its policy is in force afterwards."""
        async with self._lock:
            self._seen = await asyncio.to_thread(self._look_at_folder)
            try:
                policy = await asyncio.to_thread(load_folder, self._folder)
                changed = await self._put_in_force(policy, force=force)
            except PolicyError as error:
                self._meters.reloaded(accepted=False)
                self.last_problems = list(error.problems)
                for problem in error.problems:
                    say(str(problem))
                goes_on = self._policy is not None
                say(f"the policy in {self._folder} is rejected" + ("; the one before goes on" * goes_on))
                await self._renew(force=force)
                return False
            self.last_problems = []
            if changed:
                self._meters.reloaded(accepted=True)
                try:
                    self._keep()
                except OSError as error:
                    say(f"the accepted policy cannot be kept in {self._accepted}: {error.strerror}")
            return True

    async def again(self) -> None:
        """The policy in force, with its models amended as they should be now."""
        async with self._lock:
            await self._renew(force=False)

    async def watch(self) -> None:
        """Loads again whenever the folder or a file that the policy names changes, or a price that depends on
        the date does."""
        while True:
            try:
                async for _ in awatch(
                    self._folder, debounce=DEBOUNCE_MS, step=50, rust_timeout=LOOK_MS, yield_on_timeout=True
                ):
                    await self._look()
            except Exception as error:
                # Whatever it was, the next change must be seen. A folder that is gone cannot be watched.
                if not isinstance(error, FileNotFoundError):
                    self._meters.reloaded(accepted=False)
                    say(f"the policy in {self._folder} could not be loaded")
                    report(error)
            await asyncio.sleep(LOOK_MS / 1000)

    async def _look(self) -> None:
        due = self.compiled is not None and self.compiled.prices_change_at
        if due and datetime.now(UTC) >= due:
            await self.load(force=True)
        elif await asyncio.to_thread(self._is_changed):
            await self.load()

    def _is_changed(self) -> bool:
        return self._look_at_folder() != self._seen or _fingerprint(self._named) != self._named_seen

    def _look_at_folder(self) -> object:
        return self._folder.is_dir(), _fingerprint(policy_files(self._folder))

    async def _renew(self, *, force: bool) -> None:
        """The folder is bad: the policy that goes on may name secrets that have changed, and prices too."""
        if self._policy is None:
            return
        try:
            await self._put_in_force(self._policy, force=force)
        except PolicyError as error:
            for problem in error.problems:
                say(str(problem))

    async def _put_in_force(self, policy: Policy, *, force: bool = False) -> bool:
        """Compiles and switches; False if it is the policy in force already. Raises `PolicyError`."""
        # Before they are read: what changes later is seen at the next look. They are watched also if the
        # policy is rejected, for that may be their fault.
        self._named = named_files(policy.spec)
        self._named_seen = _fingerprint(self._named)
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
            ratio_of=bytes_per_token,
            sampling=self._sampling,
        )
        stamp = self._stamps.of(compiled.tables, int(now_s() * 1000))
        compiled.tables["stamp"] = stamp
        shipped = self._amend(compiled)
        tls = await asyncio.to_thread(_tls_files, policy, compiled.tables["providers"])
        is_known = self.compiled is not None and compiled.tables == self.compiled.tables
        same = is_known and shipped == self._shipped and tls == self._tls
        if same and not force:
            return False
        if self.compiled is None or compiled.warnings != self.compiled.warnings:
            for warning in compiled.warnings:
                say(f"warning: {warning}")
        try:
            await asyncio.to_thread(self._stamps.keep, compiled.tables, stamp)
        except OSError as error:
            say(f"when the policy was accepted cannot be kept in {self._accepted.parent}: {error.strerror}")
        await self._switch(shipped)
        self._shipped = shipped
        self._policy, self.compiled, self._tls = policy, compiled, tls
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


def _fingerprint(files: Iterable[str | os.PathLike[str]]) -> object:
    """What changes when a file does: its size, its times, and where symlinks lead."""
    seen = []
    for file in files:
        path = os.fspath(file)
        try:
            found = os.stat(path)
            seen.append((path, found.st_ino, found.st_size, found.st_mtime_ns, found.st_ctime_ns))
        except OSError as error:
            seen.append((path, error.errno or 0, 0, 0, 0))
    return sorted(seen)


def _tls_files(policy: Policy, providers: Iterable[Mapping[str, Any]]) -> dict[str, str]:
    """The digests of the certificates and keys that providers name: the tables hold only their paths. Raises
    `PolicyError` if they cannot be used."""
    digests: dict[str, str] = {}
    problems = []
    for row in providers:
        files = {name: row[name] for name in ("ca_file", "client_cert", "client_key")}
        if not any(files.values()):
            continue
        try:
            for path in filter(None, files.values()):
                digests[path] = hashlib.sha256(Path(path).read_bytes()).hexdigest()
            new_tls_context(Origin(row["scheme"], row["host"], row["port"], **files, verify=row["verify"]))
        except (OSError, ValueError) as error:
            # An SSLError is an OSError; its strerror names no file, and never what is in one.
            reason = (error.strerror if isinstance(error, OSError) else None) or type(error).__name__
            problems.append(
                policy.problem(("providers", row["name"], "tls"), f"its files cannot be used: {reason}")
            )
    if problems:
        raise PolicyError(problems)
    return digests
