"""Drift on the admin port: what stands, what was found, and what an operator says to it."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import TYPE_CHECKING, Any

from aiohttp import web

from gateway.control.admin_port import WHO, json_answer, refusal
from gateway.control.drift.service import DriftService
from gateway.telemetry.diagnostics import say

if TYPE_CHECKING:
    from gateway.control.drift.desk import Desk

_ORDERS = {"reset": "accept", "relearn": "start_over", "pin": "pin"}


class DriftRoutes:
    """`GET /admin/drift` (all streams), `GET /admin/drift/alarms`, `GET /admin/drift/channels?model=&target=`
    (distributions side by side), `GET /admin/drift/exemplars?model=&target=` (texts, where the policy has
    them kept), `POST /admin/drift/{reset,relearn,pin}` with {"model", "target"} and, to
    pin, {"name"}. `streams` tells all of them with what is done; `config` names the policy in force."""

    def __init__(
        self,
        service: DriftService,
        streams: Callable[[], list[dict[str, Any]]],
        config: Callable[[], str],
        now_s: Callable[[], float],
    ) -> None:
        self._service = service
        self._streams = streams
        self._config = config
        self._now_s = now_s

    def add_to(self, app: web.Application) -> None:
        """Adds the routes."""
        app.router.add_get("/admin/drift", self.standing)
        app.router.add_get("/admin/drift/alarms", self.alarms)
        app.router.add_get("/admin/drift/channels", self.channels)
        app.router.add_get("/admin/drift/exemplars", self.exemplars)
        app.router.add_post("/admin/drift/{order}", self.order)

    async def standing(self, request: web.Request) -> web.Response:
        """All streams."""
        return json_answer({"streams": self._streams()})

    async def alarms(self, request: web.Request) -> web.Response:
        """The latest hundred alarms."""
        return json_answer({"alarms": await self._service.alarms()})

    async def channels(self, request: web.Request) -> web.Response:
        """The reference and what answers are now, of the channels that moved most."""
        name = (request.query.get("model", ""), request.query.get("target", ""))
        found = await self._service.ask(lambda desk: desk.distributions(name))
        if not found:
            return refusal(404, "no_such_stream", f"No answers of {name[0]} on {name[1]} are watched yet.")
        return json_answer({"model": name[0], "target": name[1], "channels": found})

    async def exemplars(self, request: web.Request) -> web.Response:
        """Texts of answers since the change, where the policy has them kept."""
        name = (request.query.get("model", ""), request.query.get("target", ""))
        return json_answer(
            {"model": name[0], "target": name[1], "exemplars": await self._service.exemplars(name)}
        )

    async def order(self, request: web.Request) -> web.Response:
        """An operator's word."""
        what = _ORDERS.get(request.match_info["order"])
        if what is None:
            return refusal(404, "no_such_order", "There are reset, relearn and pin.")
        told = await _object(request)
        if told is None:
            return refusal(400, "bad_body", 'Send {"model": …, "target": …} and, to pin, {"name": …}.')
        name = (told["model"], told["target"])
        label = told.get("name", "pinned")
        order = partial(_change, what, name, label, self._config(), self._now_s())
        try:
            done = await self._service.ask(order)
        except LookupError as error:
            return refusal(404, "no_such_stream", f"{error.args[0]}.")
        say(f"drift: {request[WHO]} had {what} done to {name[0]} on {name[1]}: {done}")
        return json_answer({"model": name[0], "target": name[1], "done": done})


def _change(what: str, name: tuple[str, str], label: str, config: str, at_s: float, desk: Desk) -> str:
    return desk.change(what, name, label=label, config=config, at_s=at_s)


async def _object(request: web.Request) -> dict[str, str] | None:
    """The order's details: texts of 1 to 200 characters."""
    try:
        told = await request.json()
    except ValueError:
        return None
    if not isinstance(told, dict) or not {"model", "target"} <= told.keys() <= {"model", "target", "name"}:
        return None
    is_text = all(isinstance(value, str) and 0 < len(value) <= 200 for value in told.values())
    return told if is_text else None
