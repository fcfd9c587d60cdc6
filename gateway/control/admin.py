"""The admin port: health, metrics, and what an operator asks of a running gateway."""

from __future__ import annotations

import asyncio
import hashlib
import hmac
from collections.abc import Awaitable, Callable, Iterable
from ipaddress import ip_address
from typing import Any, Protocol
from urllib.parse import urlsplit

import orjson
from aiohttp import web

from gateway.control.exposition import Exposition

_OPEN = frozenset({"/livez", "/readyz", "/metrics"})
Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]


class Gateway(Protocol):
    """What the admin port asks of control."""

    def not_ready(self) -> list[str]:
        """Why the gateway is not ready; empty if it is."""

    def policy(self) -> dict[str, Any]:
        """The policy in force, as JSON."""

    def targets(self) -> list[dict[str, Any]]:
        """Every target of the policy and its state."""

    def workers(self) -> list[dict[str, Any]]:
        """Every worker and the policy it uses."""

    def admin_keys(self) -> Iterable[str]:
        """SHA-256 (hex) of the keys that may use the admin API."""

    async def reload(self) -> bool:
        """Looks at the policy folder now; True if its policy is in force."""


def build_app(gateway: Gateway, exposition: Exposition, *, loopback: bool) -> web.Application:
    """The admin application. `loopback`: the port listens on a loopback address only."""
    admin = _Admin(gateway, exposition, loopback)
    app = web.Application(middlewares=[admin.guard], client_max_size=1 << 20)
    app.router.add_get("/livez", admin.livez)
    app.router.add_get("/readyz", admin.readyz)
    app.router.add_get("/metrics", admin.metrics)
    app.router.add_get("/admin/policy", admin.policy)
    app.router.add_get("/admin/targets", admin.targets)
    app.router.add_get("/admin/workers", admin.workers)
    app.router.add_post("/admin/reload", admin.reload)
    return app


def is_loopback(host: str) -> bool:
    """True for 127.0.0.0/8, ::1 and localhost."""
    try:
        return ip_address(host).is_loopback
    except ValueError:
        return host.lower() == "localhost"


class _Admin:
    def __init__(self, gateway: Gateway, exposition: Exposition, loopback: bool) -> None:
        self._gateway = gateway
        self._exposition = exposition
        self._loopback = loopback

    @web.middleware
    async def guard(self, request: web.Request, handler: Handler) -> web.StreamResponse:
        """Who may ask what; and errors in one shape, without a word of the request in them."""
        if request.path not in _OPEN:
            refusal = self._refusal(request)
            if refusal is not None:
                return refusal
        try:
            return await handler(request)
        except web.HTTPException as error:
            return _error(error.status, "not_found" if error.status == 404 else "bad_request", error.reason)

    def _refusal(self, request: web.Request) -> web.Response | None:
        try:
            host = urlsplit(f"//{request.host}").hostname or ""
        except ValueError:
            host = ""
        keys = list(self._gateway.admin_keys())
        offered = request.headers.get("authorization", "").removeprefix("Bearer ").encode()
        digest = hashlib.sha256(offered).hexdigest()
        known = sum(hmac.compare_digest(digest, key) for key in keys) > 0
        # Without a key only a loopback listener asked by a loopback name: a web page that had its own name
        # resolve to 127.0.0.1 comes with that name.
        if not known and not (self._loopback and is_loopback(host) and not offered):
            return _error(401, "invalid_admin_key", "Send an admin key as 'Authorization: Bearer …'.")
        origin = request.headers.get("origin")
        foreign = origin is not None and urlsplit(origin).netloc != request.host
        if foreign and request.method not in ("GET", "HEAD"):
            return _error(403, "foreign_origin", "Requests of other web pages are refused.")
        return None

    async def livez(self, request: web.Request) -> web.Response:
        return web.json_response({"status": "live"})

    async def readyz(self, request: web.Request) -> web.Response:
        reasons = self._gateway.not_ready()
        if reasons:
            return _json({"status": "not ready", "reasons": reasons}, 503)
        return _json({"status": "ready"})

    async def metrics(self, request: web.Request) -> web.Response:
        accept = request.headers.get("accept", "")
        body, content_type = await asyncio.to_thread(self._exposition.render, accept)
        answer = web.Response(body=body, headers={"content-type": content_type})
        answer.enable_compression()
        return answer

    async def policy(self, request: web.Request) -> web.Response:
        return _json(self._gateway.policy())

    async def targets(self, request: web.Request) -> web.Response:
        return _json({"targets": self._gateway.targets()})

    async def workers(self, request: web.Request) -> web.Response:
        return _json({"workers": self._gateway.workers()})

    async def reload(self, request: web.Request) -> web.Response:
        accepted = await self._gateway.reload()
        return _json(self._gateway.policy(), 200 if accepted else 409)


def _json(value: object, status: int = 200) -> web.Response:
    return web.Response(body=orjson.dumps(value), status=status, content_type="application/json")


def _error(status: int, code: str, message: str) -> web.Response:
    error = {"message": message, "type": "invalid_request_error", "param": None, "code": code}
    return _json({"error": error}, status)
