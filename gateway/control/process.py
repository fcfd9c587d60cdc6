"""The control process: everything that may take its time, so that the line need not."""

from __future__ import annotations

import argparse
import asyncio
import hashlib
import os
import platform
import signal
import socket
import sys
from collections.abc import Iterable, Iterator
from importlib.metadata import version
from pathlib import Path
from typing import Any

from gateway.clock import monotonic_ms, monotonic_s, now_ms, now_s
from gateway.control.admin import Routes, build_app, is_loopback
from gateway.control.admin_port import AdminPort
from gateway.control.alert_file import AlertFile
from gateway.control.alerts import Alerts
from gateway.control.budget_routes import BudgetRoutes
from gateway.control.budgets import Budgets
from gateway.control.console_routes import ConsoleRoutes
from gateway.control.drift.part import DriftPart
from gateway.control.drift.probe_routes import ProbeRoutes
from gateway.control.drift.routes import DriftRoutes
from gateway.control.exemplars import Exemplars
from gateway.control.explain_routes import ExplainRoutes
from gateway.control.exposition import Exposition, Sample
from gateway.control.first_call import YOUR_KEY, first_call
from gateway.control.logwriter import LogWriter
from gateway.control.objects import StoredObjects
from gateway.control.otel_environment import OtelMistake, read_otel
from gateway.control.present import Present
from gateway.control.processes import Processes
from gateway.control.recorder import Recorder
from gateway.control.reload import Reloader
from gateway.control.webhook import Webhook
from gateway.link.control_end import WorkerLinks
from gateway.link.keeper_queries import KeeperQueries
from gateway.link.target_table import TargetTable
from gateway.telemetry import table
from gateway.telemetry.diagnostics import report_escaped, say
from gateway.telemetry.meters import ControlMeters
from gateway.telemetry.pulse import Pulse
from gateway.telemetry.slots import SlotFile

EXPORT_S = 2.0
"""How long the end waits for a collector."""


class Control:
    """The parts of control, and what they ask of one another."""

    def __init__(self, options: argparse.Namespace) -> None:
        self._options = options
        self._stopping = asyncio.Event()
        self._leaving = False
        self._simulator: Any = None
        self._targets = TargetTable.open(options.targets)
        slots = Path(options.slots_dir)
        self._slots = SlotFile.open(slots / "control")
        meters = ControlMeters(self._slots)
        self._writer = LogWriter(options.log, meters.log_dropped)
        self._objects = StoredObjects(Path(options.state) / "objects.db")
        self._drift = DriftPart(
            Path(options.state),
            options.listen,
            meters,
            lambda: self._reloader.compiled,
            lambda: self._reloader.again(),
            self._tell,
            lambda: None if self._otlp is None else self._otlp.events,
        )
        answers = self._drift.service.take
        self._links = WorkerLinks(self._writer.write, self._objects.answer, self._traced, answers)
        self._otel = read_otel(os.environ, lambda text: say(f"warning: {text}"))
        self._keeper = KeeperQueries(options.keeper_socket)
        self._reloader = Reloader(
            Path(options.policies),
            Path(options.state),
            self._targets.row,
            self._links.switch,
            self._simulated_url,
            meters,
            self._otel.sampling if self._otel.traces else None,
            self._drift.amend,
        )
        exemplars = Exemplars()
        self._exposition = Exposition(slots, self._samples, exemplars)
        exports = self._otel.traces or self._otel.metrics or self._otel.logs
        self._otlp = self._exports(exemplars, meters) if exports else None
        alerts = AlertFile(Path(options.state) / "alerts.db")
        self._alert_file = alerts
        self._webhook = Webhook(alerts, self._alerts_table, now_ms, meters.alerted)
        self._alerts = Alerts(alerts, self._webhook, self._alerts_table)
        self._budgets = Budgets(
            self._keeper,
            self._rules,
            now_ms,
            lambda standings: self._alerts.see(standings, now_ms()),
            lambda: self._alerts.is_watching(self._rules()),
        )
        self._processes = Processes(self._running, meters)
        self._recorder = Recorder(slots, self._processes.memory)
        present = Present(
            self,
            self._budgets,
            self._keeper,
            self._tables,
            self._drift.streams,
            workers=options.workers,
            listen=options.listen,
        )
        self._console = ConsoleRoutes(self._recorder, present.told)
        self._tasks: set[asyncio.Task[Any]] = set()

    async def run(self) -> int:
        """Until SIGTERM; the exit code."""
        loop = asyncio.get_running_loop()
        loop.set_exception_handler(report_escaped)
        loop.add_reader(self._options.life_fd, os._exit, 1)
        loop.add_signal_handler(signal.SIGTERM, self._stopping.set)
        # A terminal's Ctrl-C reaches all processes; the supervisor alone decides what it means.
        loop.add_signal_handler(signal.SIGINT, lambda: None)
        loop.add_signal_handler(signal.SIGHUP, self._hang_up)
        loop.add_signal_handler(signal.SIGUSR1, self._leave)
        admin_socket = socket.socket(fileno=self._options.admin_fd)
        loopback = is_loopback(admin_socket.getsockname()[0])
        await self._links.start(socket.socket(fileno=self._options.control_socket_fd))
        self._keeper.start()
        budgets = BudgetRoutes(self._keeper, self._rules, now_ms)
        drift = DriftRoutes(
            self._drift.service, self._drift.streams, lambda: str(self.policy()["hash"]), now_s
        )
        explain = ExplainRoutes(
            lambda: self._reloader.shipped,
            self._keeper,
            lambda row: self._targets.state(row, monotonic_ms()),
            now_ms,
        )
        routes: list[Routes] = [budgets, self._console, drift, explain, ProbeRoutes(self._drift.prober)]
        port = AdminPort(build_app(self, self._exposition, routes, loopback=loopback))
        await port.start(admin_socket)
        if not await self._reloader.first():
            return 2
        if not loopback and not list(self.admin_keys()):
            say("--admin is off loopback and open to all: set HEADGATE_ADMIN_KEY or admin.keys.")
            return 2
        self._drift.start()
        pulse = Pulse(loop, self._slots, "control")
        self._start(self._reloader.watch())
        self._start(self._budgets.run())
        self._start(self._webhook.run())
        self._start(self._recorder.run())
        if self._options.banner:
            self._start(self._banner("{}:{}".format(*admin_socket.getsockname()[:2])))
        await self._stopping.wait()
        pulse.stop()
        for task in self._tasks:
            task.cancel()
        await asyncio.wait(self._tasks)
        await self._links.close()
        await self._drift.close()
        await self._keeper.close()
        await port.close()
        if self._otlp is not None:
            await asyncio.to_thread(self._otlp.close, EXPORT_S)
        if self._simulator is not None:
            await self._simulator.stop()
        self._recorder.close()
        self._objects.close()
        self._alert_file.close()
        self._writer.close()
        return 0

    # what the admin port asks

    def not_ready(self) -> list[str]:
        if self._leaving or self._stopping.is_set():
            return ["stopping"]
        compiled = self._reloader.compiled
        if compiled is None:
            return ["no policy"]
        used, hash_ = self._links.in_force(), compiled.tables["hash"]
        late = [f"worker {index}" for index in range(self._options.workers) if used.get(index) != hash_]
        if compiled.tables.get("rules") and self._links.keeper_in_force() != hash_:
            late.append("the keeper")
        reasons = [f"{who} has not taken up the policy" for who in late]
        return reasons + [f"store: {self._keeper.why}"] * bool(self._keeper.why)

    def policy(self) -> dict[str, Any]:
        reloader = self._reloader
        compiled = reloader.compiled
        return {
            "hash": None if compiled is None else compiled.tables["hash"],
            "age_s": round(monotonic_s() - reloader.since_s, 3),
            "warnings": [] if compiled is None else [str(warning) for warning in compiled.warnings],
            "problems": [problem.as_json() for problem in reloader.last_problems],
        }

    def targets(self) -> list[dict[str, Any]]:
        names = {0: "ejected", 1: "trial", 2: "up"}
        return [
            {"model": model, "target": target, "state": names[state]}
            for model, target, state in self._states()
        ]

    def workers(self) -> list[dict[str, Any]]:
        return [{"index": index, "policy": hash_} for index, hash_ in sorted(self._links.in_force().items())]

    def admin_keys(self) -> Iterable[str]:
        key = os.environ.get("HEADGATE_ADMIN_KEY")
        if key:
            yield hashlib.sha256(key.encode()).hexdigest()
        if self._reloader.compiled is not None:
            yield from self._reloader.compiled.admin_keys

    async def reload(self) -> bool:
        return await self._reloader.load()

    def scraped(self) -> None:
        self._budgets.look()

    def _rules(self) -> list[dict[str, Any]]:
        compiled = self._reloader.compiled
        return [] if compiled is None else list(compiled.tables["rules"])

    def _tables(self) -> dict[str, Any] | None:
        compiled = self._reloader.compiled
        return None if compiled is None else compiled.tables

    def _alerts_table(self) -> dict[str, Any] | None:
        compiled = self._reloader.compiled
        return None if compiled is None else compiled.tables["alerts"]

    # what is measured here

    def _samples(self) -> Iterator[Sample]:
        reloader = self._reloader
        yield table.BUILD_INFO, (version("headgate"), platform.python_version()), 1
        yield from self._processes.samples()
        ready = 0
        if reloader.compiled is not None:
            hash_ = reloader.compiled.tables["hash"]
            ready = sum(used == hash_ for used in self._links.in_force().values())
        yield table.WORKERS_READY, (), ready
        if reloader.compiled is not None:
            yield table.POLICY_INFO, (reloader.compiled.tables["hash"],), 1
            yield table.POLICY_AGE, (), monotonic_s() - reloader.since_s
        for model, target, state in self._states():
            yield table.TARGET_STATE, (model, target), state
        yield from self._budgets.samples()
        yield from self._drift.samples()

    def _running(self) -> Iterable[tuple[str, int]]:
        yield "control", os.getpid()
        yield "supervisor", os.getppid()
        yield from self._links.processes()

    def _states(self) -> Iterator[tuple[str, str, int]]:
        compiled = self._reloader.compiled
        now_ms = monotonic_ms()
        for model in () if compiled is None else compiled.tables["models"]:
            for target in model["targets"]:
                yield model["name"], target["name"], self._targets.state(target["row"], now_ms)

    # what goes to a collector

    def _exports(self, exemplars: Exemplars, meters: ControlMeters) -> Any:
        # Imported only by those who use it: it takes 20 MB.
        from gateway.control.otlp import Otlp

        options = self._options
        return Otlp(
            self._otel,
            self._traces_table,
            self._exposition,
            exemplars,
            meters,
            listen=options.listen,
            started_ms=options.started_ms,
        )

    def _traced(self, lines: bytes) -> None:
        if self._otlp is not None:
            self._otlp.take(lines)

    def _traces_table(self) -> dict[str, Any] | None:
        compiled = self._reloader.compiled
        return None if compiled is None else compiled.tables["traces"]

    async def _tell(self, body: dict[str, Any]) -> None:
        """Has the policy's webhook told of something, if there is one; it is kept when this returns."""
        if self._alerts_table() is not None:
            await self._alerts.tell(body, now_ms())

    # the rest

    def _leave(self) -> None:
        self._leaving = True

    def _hang_up(self) -> None:
        self._writer.reopen()
        self._start(self._reloader.load())

    def _start(self, work: Any) -> None:
        task = asyncio.get_running_loop().create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _simulated_url(self) -> str:
        if self._simulator is None:
            # Imported only by those who use it: half of control's memory otherwise.
            from gateway.simulator.server import start
            from gateway.simulator.settings import Settings

            self._simulator = await start(
                "127.0.0.1",
                0,
                Settings(
                    # What callers said must not be kept here, nor be there to be looked at.
                    first_token_ms=150,
                    tokens_per_s=120,
                    output_tokens=60,
                    max_requests=0,
                ),
            )
        return str(self._simulator.url)

    async def _banner(self, admin: str) -> None:
        """What to paste, once everything is ready."""
        await self._links.all_switched(self._options.workers)
        compiled = self._reloader.compiled
        assert compiled is not None
        url, key, curl = first_call(self._options.listen, compiled.tables)
        lines = [
            f"headgate: serving {len(compiled.tables['models'])} models on {url}",
            f"headgate: see what happens on http://{admin}/",
            "",
            curl,
            "",
            f"OPENAI_BASE_URL={url} OPENAI_API_KEY={key}",
            "",
        ]
        if key == YOUR_KEY:
            lines.insert(1, "headgate: make a key for callers with: headgate keys new")
        sys.stderr.write("\n".join(lines) + "\n")


def main(arguments: list[str] | None = None) -> int:
    """Started by the supervisor with everything it needs as flags."""
    parser = argparse.ArgumentParser(prog="headgate-control")
    for name in ("--policies", "--state", "--listen", "--slots-dir", "--targets", "--log", "--keeper-socket"):
        parser.add_argument(name, required=True)
    for name in ("--admin-fd", "--control-socket-fd", "--workers", "--life-fd", "--started-ms"):
        parser.add_argument(name, type=int, required=True)
    parser.add_argument("--banner", action="store_true")
    options = parser.parse_args(arguments)

    async def run() -> int:
        try:
            control = Control(options)
        except OSError as error:
            say(f"--log {options.log} cannot be written: {error.strerror}.")
            return 2
        except OtelMistake as mistake:
            say(str(mistake))
            return 2
        return await control.run()

    return asyncio.run(run())


if __name__ == "__main__":
    sys.exit(main())
