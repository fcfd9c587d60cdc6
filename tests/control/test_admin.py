"""The admin port: who may ask what, and what it answers."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import aiohttp
import pytest

from gateway.control.admin import build_app, is_loopback
from gateway.control.console_routes import PATHS
from gateway.control.exposition import Exposition
from tests.control.conftest import KEY, Fake, Serve, console, no_budgets

OPEN = [("GET", path) for path in ("/livez", "/readyz", "/metrics", *PATHS)]
GUARDED = {
    ("GET", "/admin/policy"): 200,
    ("GET", "/admin/targets"): 200,
    ("GET", "/admin/workers"): 200,
    ("GET", "/admin/console"): 200,
    ("POST", "/admin/reload"): 200,
    ("GET", "/admin/budgets"): 503,
    ("POST", "/admin/budgets/none/top-up"): 404,
    ("POST", "/admin/budgets/none/reset"): 404,
    ("GET", "/admin/spend"): 503,
    ("GET", "/admin/ledger/verify"): 503,
}
"""Route → what it answers those who may ask: there is no keeper here, and no budget called none."""


def test_every_route_is_in_these_tables(fake: Fake, tmp_path: Path) -> None:
    app = build_app(fake, Exposition(tmp_path, lambda: ()), [no_budgets(), console()], loopback=True)
    routes = {
        (route.method, route.resource.canonical)
        for route in app.router.routes()
        if route.resource is not None and route.method != "HEAD"
    }
    assert routes == {*OPEN, *((method, path.replace("none", "{name}")) for method, path in GUARDED)}


async def ask(http: aiohttp.ClientSession, method: str, url: str, **headers: str) -> tuple[int, Any]:
    sent = {name.replace("_", "-"): value for name, value in headers.items()}
    sent["accept-encoding"] = "identity"
    async with http.request(method, url, headers=sent) as answer:
        is_json = answer.content_type == "application/json"
        return answer.status, await answer.json() if is_json else await answer.text()


@pytest.mark.parametrize("loopback", [True, False])
@pytest.mark.parametrize(("method", "path"), OPEN)
async def test_health_and_metrics_are_open_to_all(
    http: aiohttp.ClientSession, serve_admin: Serve, method: str, path: str, loopback: bool
) -> None:
    url = await serve_admin(loopback=loopback)
    for headers in ({}, {"authorization": "Bearer wrong"}, {"host": "elsewhere.example"}):
        assert (await ask(http, method, url + path, **headers))[0] == 200


@pytest.mark.parametrize(("method", "path"), GUARDED)
async def test_admin_routes_need_a_key_or_a_loopback_listener_asked_by_its_name(
    http: aiohttp.ClientSession, serve_admin: Serve, fake: Fake, method: str, path: str
) -> None:
    answered = GUARDED[method, path]
    for loopback, headers, status in [
        (True, {}, answered),
        (True, {"host": "localhost:9464"}, answered),
        (True, {"host": "evil.example"}, 401),
        (True, {"authorization": "Bearer wrong"}, 401),
        (True, {"authorization": f"Bearer {KEY}", "host": "gateway.internal"}, answered),
        (False, {}, 401),
        (False, {"host": "localhost"}, 401),
        (False, {"authorization": "Bearer wrong"}, 401),
        (False, {"authorization": f"Bearer {KEY}"}, answered),
    ]:
        url = await serve_admin(loopback=loopback)
        reloads = fake.reloads
        got, body = await ask(http, method, url + path, **headers)
        assert got == status, (loopback, headers)
        if status == 401:
            assert body["error"]["code"] == "invalid_admin_key"
            assert fake.reloads == reloads


async def test_other_pages_cannot_make_a_browser_reload(
    http: aiohttp.ClientSession, serve_admin: Serve, fake: Fake
) -> None:
    url = await serve_admin()
    status, body = await ask(http, "POST", f"{url}/admin/reload", origin="http://evil.example")
    assert (status, body["error"]["code"], fake.reloads) == (403, "foreign_origin", 0)
    assert (await ask(http, "POST", f"{url}/admin/reload", origin=url))[0] == 200


async def test_reload_that_is_rejected_is_a_conflict(
    http: aiohttp.ClientSession, serve_admin: Serve, fake: Fake
) -> None:
    fake.accepts = False
    assert (await ask(http, "POST", f"{await serve_admin()}/admin/reload"))[0] == 409


async def test_readiness_gives_its_reasons(
    http: aiohttp.ClientSession, serve_admin: Serve, fake: Fake
) -> None:
    url = await serve_admin()
    assert await ask(http, "GET", f"{url}/readyz") == (200, {"status": "ready"})
    fake.reasons = ["no policy"]
    assert await ask(http, "GET", f"{url}/readyz") == (503, {"status": "not ready", "reasons": ["no policy"]})
    assert (await ask(http, "GET", f"{url}/livez"))[0] == 200


async def test_metrics_come_in_the_format_that_is_asked_for(
    http: aiohttp.ClientSession, serve_admin: Serve
) -> None:
    url = await serve_admin()
    for accept, kind in (
        ("*/*", "text/plain"),
        ("application/openmetrics-text; version=1.0.0", "application/openmetrics-text"),
    ):
        headers = {"accept": accept, "accept-encoding": "identity"}
        async with http.get(f"{url}/metrics", headers=headers) as answer:
            assert answer.content_type == kind
            assert 'headgate_retries_total{model="m",target="a/x"} 3.0' in await answer.text()


@pytest.mark.parametrize(
    ("method", "path", "status"),
    [
        ("GET", "/console", 404),
        ("GET", "/console/", 404),
        ("GET", "/console/../admin.py", 404),
        ("GET", "/admin/keys", 404),
        ("GET", "/admin/reload", 405),
        ("POST", "/metrics", 405),
    ],
)
async def test_other_routes_are_errors_in_the_same_shape(
    http: aiohttp.ClientSession, serve_admin: Serve, method: str, path: str, status: int
) -> None:
    got, body = await ask(http, method, await serve_admin() + path)
    assert got == status
    assert {"message", "type", "param", "code"} == body["error"].keys()


@pytest.mark.parametrize(
    ("host", "loop"),
    [("127.0.0.1", True), ("127.9.9.9", True), ("::1", True), ("localhost", True), ("LOCALHOST", True),
     ("0.0.0.0", False), ("::", False), ("10.0.0.1", False), ("localhost.evil.example", False), ("", False)],
)  # fmt: skip
def test_loopback_names(host: str, loop: bool) -> None:
    assert is_loopback(host) is loop
