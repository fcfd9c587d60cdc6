"""Probes on the admin port: how suites stand, a run now, and learning anew."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from aiohttp import web

from gateway.control.admin_port import WHO, json_answer, refusal
from gateway.control.drift.prober import NoSuchProbe, Prober
from gateway.telemetry.diagnostics import say


class ProbeRoutes:
    """`GET /admin/probes`; `POST /admin/probes/run` and `/admin/probes/reset` with {"suite"} and perhaps
    {"target"}; `GET /admin/probes/run?id=&from=` for the lines of a run from a number on. `prober` gives
    None if the policy has no suites."""

    def __init__(self, prober: Callable[[], Prober | None]) -> None:
        self._prober = prober

    def add_to(self, app: web.Application) -> None:
        """Adds the routes."""
        app.router.add_get("/admin/probes", self.standing)
        app.router.add_get("/admin/probes/run", self.progress)
        app.router.add_post("/admin/probes/run", self.run)
        app.router.add_post("/admin/probes/reset", self.reset)

    async def standing(self, request: web.Request) -> web.Response:
        """All suites."""
        prober = self._prober()
        nothing: dict[str, Any] = {"suites": [], "today": {"nanousd": 0, "tokens": 0}, "budget": None}
        return json_answer(nothing if prober is None else prober.told())

    async def run(self, request: web.Request) -> web.Response:
        """Begins a run."""
        asked = await _asked(request)
        prober = self._prober()
        if asked is None:
            return refusal(400, "bad_body", 'Send {"suite": …} and, for one target only, {"target": …}.')
        if prober is None:
            return refusal(404, "no_such_suite", _NONE)
        try:
            run = prober.start_run(*asked)
        except NoSuchProbe as error:
            return refusal(404, "no_such_suite", str(error.args[0]))
        say(f"probes: {request[WHO]} had {asked[0]} asked now")
        return json_answer({"id": run.id, "total": run.total}, status=202)

    async def progress(self, request: web.Request) -> web.Response:
        """What a run has brought."""
        prober, first = self._prober(), request.query.get("from", "0")
        run = None if prober is None else prober.run_of(request.query.get("id", ""))
        if run is None or not first.isdecimal() or len(first) > 9:
            return refusal(404, "no_such_run", "There is no run of that id any more.")
        return json_answer({"total": run.total, "done": run.done, "lines": run.lines[int(first) :]})

    async def reset(self, request: web.Request) -> web.Response:
        """Forgets what answers were like."""
        asked = await _asked(request)
        prober = self._prober()
        if asked is None:
            return refusal(400, "bad_body", 'Send {"suite": …} and, for one target only, {"target": …}.')
        if prober is None:
            return refusal(404, "no_such_suite", _NONE)
        try:
            targets = prober.reset(*asked)
        except NoSuchProbe as error:
            return refusal(404, "no_such_suite", str(error.args[0]))
        say(f"probes: {request[WHO]} had {asked[0]} of {', '.join(targets)} learnt anew")
        return json_answer({"suite": asked[0], "targets": targets})


_NONE = "The policy has no suites of golden prompts: name one under drift.probes.suites."


async def _asked(request: web.Request) -> tuple[str, str] | None:
    try:
        told: Any = await request.json()
    except ValueError:
        return None
    if not isinstance(told, dict) or not {"suite"} <= told.keys() <= {"suite", "target"}:
        return None
    suite, target = told["suite"], told.get("target", "")
    return (suite, target) if isinstance(suite, str) and isinstance(target, str) else None
