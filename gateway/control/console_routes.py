"""The console: one page that shows a running gateway to people, and the JSON that the page reads.

The page is the same for everybody and holds nothing of this gateway, so it is open as `/livez` is; what it
shows is behind the admin port's guard. It needs nothing from elsewhere, and a browser is told to take nothing
from there.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Protocol

from aiohttp import web

from gateway.clock import now_ms
from gateway.control.admin_port import json_answer, refusal

FOLDER = Path(__file__).with_name("console")
_KINDS = {".css": "text/css", ".html": "text/html", ".js": "text/javascript", ".svg": "image/svg+xml"}
FILES = sorted(path.name for path in FOLDER.iterdir() if path.suffix in _KINDS)
PATHS: Mapping[str, str] = {"/": "index.html"} | {
    f"/console/{name}": name for name in FILES if name != "index.html"
}
"""Path → file."""
HEADERS = {
    "content-security-policy": (
        "default-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
    ),
    "x-content-type-options": "nosniff",
    "referrer-policy": "no-referrer",
    "cross-origin-opener-policy": "same-origin",
    "cross-origin-resource-policy": "same-origin",
    "cache-control": "no-cache",
}


class Past(Protocol):
    """Where the last hour is kept; `control.recorder.Recorder` is one."""

    async def told(self, since_ms: int) -> dict[str, Any]:
        """Series after a moment, figures of now and tables."""


class ConsoleRoutes:
    """`present` tells how the gateway stands now: policy, targets, workers, budgets, store and more."""

    def __init__(self, past: Past, present: Callable[[], dict[str, Any]]) -> None:
        self._past = past
        self._present = present
        self._files = {name: _file(FOLDER / name) for name in FILES}

    def add_to(self, app: web.Application) -> None:
        """Registers them."""
        for path in PATHS:
            app.router.add_get(path, self.file)
        app.router.add_get("/admin/console", self.data)

    async def file(self, request: web.Request) -> web.Response:
        """One file of the page."""
        body, kind, tag = self._files[PATHS[request.path]]
        headers = {**HEADERS, "etag": tag}
        if request.headers.get("if-none-match") == tag:
            return web.Response(status=304, headers=headers)
        answer = web.Response(body=body, content_type=kind, charset="utf-8", headers=headers)
        answer.enable_compression()
        return answer

    async def data(self, request: web.Request) -> web.Response:
        """All that the page shows. `since` leaves out what it has of the last hour."""
        query = request.query
        since = query.get("since", "0")
        if len(query) > ("since" in query) or not since.isdecimal() or len(since) > 15:
            return refusal(400, "bad_parameter", "There is since: milliseconds since 1970.")
        answer = json_answer({"now": now_ms(), **self._present(), **await self._past.told(int(since))})
        answer.headers["cache-control"] = "no-store"
        answer.enable_compression()
        return answer


def _file(path: Path) -> tuple[bytes, str, str]:
    """(bytes, content type, entity tag) of a file."""
    body = path.read_bytes()
    return body, _KINDS[path.suffix], f'"{hashlib.sha256(body).hexdigest()[:16]}"'
