"""The admin port: health, metrics, and what an operator asks of a running gateway."""

from __future__ import annotations

import hashlib
import hmac
from collections.abc import Awaitable, Callable, Iterable
from ipaddress import ip_address
from typing import Any, Protocol
from urllib.parse import urlsplit

from aiohttp import web

from gateway.control.admin_port import WHO, json_answer, refusal
from gateway.control.console_routes import PATHS
from gateway.control.exposition import Exposition

_OPEN = frozenset({"/livez", "/readyz", "/metrics", *PATHS})
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

    def scraped(self) -> None:
        """Somebody reads the metrics. Returns at once."""


class Routes(Protocol):
    """Routes of one matter."""

    def add_to(self, app: web.Application) -> None:
        """Adds them."""


def build_app(
    gateway: Gateway, exposition: Exposition, routes: Iterable[Routes], *, loopback: bool
) -> web.Application:
    """The admin application, with more `routes`. `loopback`: the port listens on a loopback address only."""
    admin = _Admin(gateway, exposition, loopback)
    app = web.Application(middlewares=[admin.guard], client_max_size=1 << 20)
    app.router.add_get("/livez", admin.livez)
    app.router.add_get("/readyz", admin.readyz)
    app.router.add_get("/metrics", admin.metrics)
    app.router.add_get("/admin/policy", admin.policy)
    app.router.add_get("/admin/targets", admin.targets)
    app.router.add_get("/admin/workers", admin.workers)
    app.router.add_post("/admin/reload", admin.reload)
    for more in routes:
        more.add_to(app)
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
        """Who may ask what."""
        refused = None if request.path in _OPEN else self._refusal(request)
        return refused if refused is not None else await handler(request)

    def _refusal(self, request: web.Request) -> web.Response | None:
        # Not `request.host`: without the header that asks the resolver for a name of ours.
        host = request.headers.get("host", "")
        # Without a key only a loopback listener asked by a loopback name: a web page that had its own name
        # resolve to 127.0.0.1 comes with that name.
        credentials = request.headers.getall("authorization", [])
        key = self._key(credentials)
        request[WHO] = f"admin key {key[:8]}" if key else f"no key, from {request.remote}"
        if not key and (credentials or not self._loopback or not is_loopback(_name(host))):
            answer = refusal(401, "invalid_admin_key", "Send an admin key as 'Authorization: Bearer …'.")
            answer.headers["www-authenticate"] = "Bearer"
            return answer
        origin = request.headers.get("origin")
        foreign = origin is not None and not origin.endswith(f"://{host}")
        if foreign and request.method not in ("GET", "HEAD"):
            return refusal(403, "foreign_origin", "Requests of other web pages are refused.")
        return None

    def _key(self, credentials: list[str]) -> str:
        """The SHA-256 (hex) of an admin key, if there is exactly one, with a Bearer scheme; else ""."""
        scheme, _, offered = (credentials[0] if len(credentials) == 1 else "").partition(" ")
        # A header may hold bytes that are no UTF-8: aiohttp reads them as lone surrogates.
        digest = hashlib.sha256(offered.strip().encode("utf-8", "surrogateescape")).hexdigest()
        keys = list(self._gateway.admin_keys())
        is_key = sum(hmac.compare_digest(digest, key) for key in keys) > 0 and scheme.lower() == "bearer"
        return digest if is_key else ""

    async def livez(self, request: web.Request) -> web.Response:
        return json_answer({"status": "live"})

    async def readyz(self, request: web.Request) -> web.Response:
        reasons = self._gateway.not_ready()
        if reasons:
            return json_answer({"status": "not ready", "reasons": reasons}, 503)
        return json_answer({"status": "ready"})

    async def metrics(self, request: web.Request) -> web.Response:
        self._gateway.scraped()
        accept = request.headers.get("accept", "")
        body, content_type = await self._exposition.rendered(accept)
        answer = web.Response(body=body, headers={"content-type": content_type})
        answer.enable_compression()
        return answer

    async def policy(self, request: web.Request) -> web.Response:
        return json_answer(self._gateway.policy())

    async def targets(self, request: web.Request) -> web.Response:
        return json_answer({"targets": self._gateway.targets()})

    async def workers(self, request: web.Request) -> web.Response:
        return json_answer({"workers": self._gateway.workers()})

    async def reload(self, request: web.Request) -> web.Response:
        accepted = await self._gateway.reload()
        return json_answer(self._gateway.policy(), 200 if accepted else 409)


def _name(host: str) -> str:
    """The name in a Host header; "" if it is none."""
    try:
        return urlsplit(f"//{host}").hostname or ""
    except ValueError:
        return ""
