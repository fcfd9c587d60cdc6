"""Drift as one part of control: the watch over answers, what is done about alarms, probes, who is told."""

from __future__ import annotations

import asyncio
import hashlib
import secrets
import sqlite3
from collections.abc import Awaitable, Callable, Iterator, Mapping
from pathlib import Path
from typing import Any, Protocol

from gateway.clock import now_s
from gateway.control.drift.acting import DriftActions
from gateway.control.drift.probe_calls import DayBudget, ProbeCalls
from gateway.control.drift.probe_file import ProbeFile
from gateway.control.drift.prober import Prober
from gateway.control.drift.service import DriftService, body_of
from gateway.control.exposition import Sample
from gateway.drift.words import probe_sentence, sentence
from gateway.policy.compile import Compiled
from gateway.policy.drift_actions import Standing
from gateway.policy.probe_access import with_probes
from gateway.telemetry.diagnostics import say
from gateway.telemetry.meters import ControlMeters


class Events(Protocol):
    """Where events go, if there is an OTLP endpoint (`control.otlp.Otlp`)."""

    def drifted(self, alarm: Mapping[str, Any], text: str) -> None: ...

    def probe_drifted(self, alarm: Mapping[str, Any], text: str) -> None: ...

    def evaluated(self, verdict: Mapping[str, Any]) -> None: ...


class DriftPart:
    """`compiled` gives the policy in force, `again` has it put in force anew, `webhook` is told a body (and
    keeps it), `events` gives where events go, None for nowhere. `listen` is the callers' port."""

    def __init__(
        self,
        state: Path,
        listen: str,
        meters: ControlMeters,
        compiled: Callable[[], Compiled | None],
        again: Callable[[], Awaitable[None]],
        webhook: Callable[[dict[str, Any]], Awaitable[None]],
        events: Callable[[], Events | None],
    ) -> None:
        self._state = state
        self._url = _reachable(listen)
        self._meters = meters
        self._compiled = compiled
        self._again = again
        self._webhook = webhook
        self._events = events
        self._actions = DriftActions()
        self._key = f"hg-{secrets.token_urlsafe(32)}"
        self._prober: Prober | None = None
        self._tasks: set[asyncio.Task[Any]] = set()
        self.service = DriftService(state / "drift.db", self._watch, meters, self._drifted, self._stood)

    def amend(self, compiled: Compiled) -> Mapping[str, Any]:
        """What is shipped for a policy: with models as they are while alarms stand, and a way for probes."""
        if compiled.probes["suites"]:
            self._open_probes()
        tables = {**compiled.tables, "models": self._actions.amend(compiled.tables)}
        digest = hashlib.sha256(self._key.encode()).hexdigest()
        return with_probes(tables, compiled.probes, digest)

    def start(self) -> None:
        """There is a policy by now."""
        self.service.start()

    def _open_probes(self) -> None:
        if self._prober is not None:
            return
        try:
            file = ProbeFile(self._state / "probes.db")
        except (sqlite3.Error, ValueError, OSError) as error:
            say(f"probes are not sent: {error}")
            return
        budget = DayBudget(file, now_s)
        calls = ProbeCalls(self._url, self._key, budget)
        self._prober = Prober(
            file, calls, budget, self._probes, self._meters, self._probe_drifted, self._evaluated, now_s
        )
        self._begin(self._prober.run())

    def prober(self) -> Prober | None:
        """None: the policy has no suites, or had none yet."""
        return self._prober

    def streams(self) -> list[dict[str, Any]]:
        """All streams, with what is done about each."""
        return self._actions.shown(self.service.streams())

    def samples(self) -> Iterator[Sample]:
        """The gauges. May be called from any thread."""
        yield from self.service.samples()
        yield from self._actions.samples()
        if self._prober is not None:
            yield from self._prober.samples()

    async def close(self) -> None:
        """Writes down what it knows."""
        for task in self._tasks:
            task.cancel()
        if self._prober is not None:
            await self._prober.close()
        await asyncio.to_thread(self.service.close)

    def _watch(self) -> Mapping[str, Any] | None:
        compiled = self._compiled()
        return None if compiled is None else compiled.tables["drift_watch"]

    def _probes(self) -> Mapping[str, Any] | None:
        compiled = self._compiled()
        return None if compiled is None else compiled.probes

    async def _drifted(self, alarm: dict[str, Any]) -> None:
        """Tells everybody of an alarm; when this returns it is known, or will be sent for a day."""
        text = sentence(alarm)
        say(f"drift: {text}")
        events = self._events()
        if events is not None:
            events.drifted(alarm, text)
        await self._webhook(body_of(alarm, text))

    async def _probe_drifted(self, alarm: dict[str, Any]) -> None:
        text = probe_sentence(alarm)
        say(f"drift: {text}")
        events = self._events()
        if events is not None:
            events.probe_drifted(alarm, text)
        await self._webhook(body_of(alarm, text))
        compiled = self._compiled()
        for model in () if compiled is None else compiled.tables["models"]:
            if any(target["name"] == alarm["target"] for target in model["targets"]):
                await self.service.probed((model["name"], alarm["target"]), alarm["at_s"])

    def _evaluated(self, verdict: dict[str, Any]) -> None:
        events = self._events()
        if events is not None:
            events.evaluated(verdict)

    def _stood(self, alarms: frozenset[Standing]) -> None:
        self._actions.stand(alarms)
        self._begin(self._again())

    def _begin(self, work: Any) -> None:
        task = asyncio.get_running_loop().create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)


def _reachable(listen: str) -> str:
    """The callers' port as it is reached from this host."""
    host, _, port = listen.rpartition(":")
    return f"http://{ {'0.0.0.0': '127.0.0.1', '[::]': '[::1]', '': '127.0.0.1'}.get(host, host) }:{port}"
