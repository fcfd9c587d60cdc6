"""Who gets what of the admin port: every route, method, credential and listener there is; and bad HTTP."""

from __future__ import annotations

import asyncio
import itertools
import json
from pathlib import Path
from typing import Any

import aiohttp
import pytest

from gateway.control.admin import build_app
from gateway.control.console_routes import PATHS
from gateway.control.exposition import Exposition
from tests.control.conftest import KEY, Fake, Serve, console, no_budgets

OPEN = {"/livez", "/readyz", "/metrics", *PATHS}
"""What anybody may ask. All else that the application serves is guarded."""
UNKNOWN = [
    "/console",
    "/console/",
    "/console/index.html",
    "/console/console_routes.py",
    "/admin",
    "/admin/",
    "/admin/policy/",
    "/admin/keys",
    "/ADMIN/POLICY",
    "/livez/x",
    "/favicon.ico",
]
WITHOUT_KEEPER = {
    "/admin/budgets": 503,
    "/admin/budgets/{name}/top-up": 404,
    "/admin/budgets/{name}/reset": 404,
    "/admin/spend": 503,
    "/admin/ledger/verify": 503,
}
"""What those routes answer here who need a keeper, or a budget of the policy."""
METHODS = ["GET", "HEAD", "POST", "PUT", "DELETE", "PATCH", "OPTIONS", "TRACE"]
CALLERS = "hg-" + "c" * 43

CREDENTIALS: dict[str, list[tuple[str, str]]] = {
    "none": [],
    "key in the query": [],
    "admin key": [("authorization", f"Bearer {KEY}")],
    "caller's key": [("authorization", f"Bearer {CALLERS}")],
    "wrong key": [("authorization", f"Bearer {KEY}x")],
    "empty": [("authorization", "")],
    "empty Bearer": [("authorization", "Bearer ")],
    "no scheme": [("authorization", KEY)],
    "Basic": [("authorization", f"Basic {KEY}")],
    "two, the first right": [("authorization", f"Bearer {KEY}"), ("authorization", "Bearer x")],
    "two, the second right": [("authorization", "Bearer x"), ("authorization", f"Bearer {KEY}")],
    "not UTF-8": [("authorization", "Bearer \xff")],
    "key of a worker": [("x-api-key", KEY), ("authorization", f"Bearer {CALLERS}")],
}
LISTENERS = {
    "loopback": (True, "127.0.0.1:9464"),
    "loopback by name": (True, "localhost"),
    "loopback by another name": (True, "rebound.evil.example:9464"),
    "loopback by a name like it": (True, "localhost.evil.example"),
    "loopback by no name": (True, "[::1"),
    "off loopback": (False, "127.0.0.1:9464"),
    "off loopback by its name": (False, "gateway.internal:9464"),
}


def routes(fake: Fake, folder: Path) -> dict[str, set[str]]:
    """Path → methods, as the application itself has them."""
    found: dict[str, set[str]] = {}
    for route in build_app(
        fake, Exposition(folder, lambda: ()), [no_budgets(), console()], loopback=True
    ).router.routes():
        assert route.resource is not None
        found.setdefault(route.resource.canonical, set()).add(route.method)
    return found


def expected(path: str, method: str, credentials: str, listener: str, served: dict[str, set[str]]) -> int:
    """The rule: an open path, an admin key, or nothing at all on loopback under its own name."""
    own = listener in ("loopback", "loopback by name") and credentials in ("none", "key in the query")
    if path not in OPEN and credentials != "admin key" and not own:
        return 401
    if path not in served:
        return 404
    if method not in served[path]:
        return 405
    if path in ("/admin/budgets", "/admin/spend", "/admin/console") and credentials == "key in the query":
        return 400
    return WITHOUT_KEEPER.get(path, 200)


class Kept:
    """A connection that is kept: 20,000 requests on their own would take half a minute."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._reader, self._writer = reader, writer

    @classmethod
    async def to(cls, url: str) -> Kept:
        host, port = url.removeprefix("http://").split(":")
        return cls(*await asyncio.open_connection(host, int(port)))

    async def ask(self, request: bytes) -> tuple[int, dict[str, str], bytes]:
        self._writer.write(request)
        head = await asyncio.wait_for(self._reader.readuntil(b"\r\n\r\n"), 5)
        status, headers = read_head(head[:-4])
        size = 0 if request.startswith(b"HEAD ") else int(headers["content-length"])
        return status, headers, await self._reader.readexactly(size)

    def close(self) -> None:
        self._writer.close()


def read_head(head: bytes) -> tuple[int, dict[str, str]]:
    status, *lines = head.decode().split("\r\n")
    return int(status.split()[1]), {
        name.lower(): value for name, _, value in (line.partition(": ") for line in lines)
    }


async def raw(url: str, request: bytes) -> tuple[int, dict[str, str], bytes]:
    """Status, headers and body of what a new connection gets back for these bytes."""
    host, port = url.removeprefix("http://").split(":")
    reader, writer = await asyncio.open_connection(host, int(port))
    writer.write(request)
    answer = await asyncio.wait_for(reader.read(), 5)
    writer.close()
    head, _, body = answer.partition(b"\r\n\r\n")
    return *read_head(head), body


def request(
    method: str, path: str, *headers: tuple[str, str], host: str = "127.0.0.1", close: bool = True
) -> bytes:
    lines = [f"{method} {path} HTTP/1.1", f"host: {host}", *(["connection: close"] if close else [])]
    lines += [f"{name}: {value}" for name, value in headers]
    return "\r\n".join(lines).encode("latin-1") + b"\r\n\r\n"


def error_of(body: bytes) -> dict[str, Any]:
    error: dict[str, Any] = json.loads(body)["error"]
    assert error.keys() == {"message", "type", "param", "code"}
    return error


@pytest.mark.parametrize("listener", LISTENERS)
async def test_every_route_with_every_method_and_credential(
    serve_admin: Serve, fake: Fake, tmp_path: Path, listener: str
) -> None:
    loopback, host = LISTENERS[listener]
    url = await serve_admin(loopback=loopback)
    served = routes(fake, tmp_path)
    assert served.keys() > OPEN
    wrong = []
    kept = await Kept.to(url)
    for path, method, kind in itertools.product([*served, *UNKNOWN], METHODS, CREDENTIALS):
        before = fake.reloads
        sent = path.replace("{name}", "none")
        sent += f"?key={KEY}&authorization=Bearer%20{KEY}" * (kind == "key in the query")
        status, headers, body = await kept.ask(
            request(method, sent, *CREDENTIALS[kind], host=host, close=False)
        )
        wanted = expected(path, method, kind, listener, served)
        may_reload = (path, method, wanted) == ("/admin/reload", "POST", 200)
        if status != wanted or fake.reloads - before != may_reload:
            wrong.append((path, method, kind, status, wanted))
        if status >= 400 and method != "HEAD":
            assert KEY not in str(error_of(body)) and CALLERS not in body.decode()
        assert ("allow" in headers) == (status == 405)
        assert headers.get("www-authenticate") == ("Bearer" if status == 401 else None)
    kept.close()
    assert wrong == []


async def test_without_a_key_no_path_tells_whether_it_is_there(
    serve_admin: Serve, fake: Fake, tmp_path: Path
) -> None:
    url = await serve_admin(loopback=False)
    guarded = routes(fake, tmp_path).keys() - OPEN
    for method in METHODS[2:]:
        answers = {str(await _undated(url, method, path)) for path in (*guarded, *UNKNOWN)}
        assert len(answers) == 1


async def _undated(url: str, method: str, path: str) -> object:
    status, headers, body = await raw(url, request(method, path))
    return status, sorted((name, value) for name, value in headers.items() if name != "date"), body


@pytest.mark.parametrize(
    ("origin", "refused"),
    [
        ("http://127.0.0.1:9464", False),
        ("https://127.0.0.1:9464", False),
        (None, False),
        ("http://127.0.0.1:9465", True),
        ("http://127.0.0.1", True),
        ("http://localhost:9464", True),
        ("http://evil.example", True),
        ("http://evil.example/127.0.0.1:9464", True),
        ("http://127.0.0.1:9464.evil.example", True),
        ("http://127.0.0.1:9464@evil.example", True),
        ("null", True),
        ("", True),
        ("http://[::1", True),
        ("127.0.0.1:9464", True),
        ("//127.0.0.1:9464", True),
        ("\xff", True),
    ],
)
@pytest.mark.parametrize("key", [True, False])
async def test_pages_of_others_change_nothing(
    serve_admin: Serve, fake: Fake, origin: str | None, refused: bool, key: bool
) -> None:
    url = await serve_admin()
    headers = [] if origin is None else [("origin", origin)]
    headers += [("authorization", f"Bearer {KEY}")] if key else []
    status, _, body = await raw(url, request("POST", "/admin/reload", *headers, host="127.0.0.1:9464"))
    assert (status, fake.reloads) == ((403, 0) if refused else (200, 1))
    if refused:
        assert error_of(body)["code"] == "foreign_origin"


@pytest.mark.parametrize("origin", ["http://evil.example", "null"])
async def test_pages_of_others_are_given_no_leave_to_read(serve_admin: Serve, origin: str) -> None:
    url = await serve_admin()
    for method, path in (("GET", "/admin/policy"), ("GET", "/metrics"), ("OPTIONS", "/admin/reload")):
        _, headers, _ = await raw(url, request(method, path, ("origin", origin)))
        assert not [name for name in headers if name.startswith("access-control-")]


async def test_what_is_sent_along_sets_nothing(
    http: aiohttp.ClientSession, serve_admin: Serve, fake: Fake
) -> None:
    url = await serve_admin()
    before = dict(vars(fake))
    for body in ({"keys": [], "accepts": False, "reasons": ["x"]}, {"policy": {"hash": "mine"}}, [1], None):
        async with http.post(f"{url}/admin/reload?accepts=0&keys=", json=body) as answer:
            assert (answer.status, await answer.json()) == (200, {"hash": "abc"})
    assert vars(fake) == {**before, "reloads": 4}


CANARY = "sk-canary-in-a-broken-request"
LONG = "k" * 9000
BROKEN = {
    "header of more than 8190 bytes": f"GET /livez HTTP/1.1\r\nhost: x\r\napi-key: {CANARY}{LONG}\r\n\r\n",
    "header of more than 64 KiB": f"GET / HTTP/1.1\r\nhost: x\r\nx-api-key: {CANARY}{LONG * 9}\r\n\r\n",
    "NUL in a header": f"GET /livez HTTP/1.1\r\nhost: x\r\nauthorization: Bearer {CANARY}\0\r\n\r\n",
    "CR in a header": f"GET /livez HTTP/1.1\r\nhost: x\r\nauthorization: Bearer {CANARY}\rx: y\r\n\r\n",
    "no colon": f"GET /livez HTTP/1.1\r\nhost: x\r\nBearer {CANARY}\r\n\r\n",
    "blank before the colon": f"GET /livez HTTP/1.1\r\nhost: x\r\n{CANARY} : y\r\n\r\n",
    "folded": f"GET /livez HTTP/1.1\r\nhost: x\r\nx: y\r\n {CANARY}\r\n\r\n",
    "two hosts": f"GET /livez HTTP/1.1\r\nhost: {CANARY}\r\nhost: {CANARY}\r\n\r\n",
    "method": f"{CANARY} /livez HTTP/1.1\r\nhost: x\r\n\r\n",
    "version": f"GET /livez {CANARY}\r\nhost: x\r\n\r\n",
    "target": f"GET {CANARY} HTTP/1.1\r\nhost: x\r\n\r\n",
    "long target": f"GET /{CANARY}{LONG} HTTP/1.1\r\nhost: x\r\n\r\n",
    "host that is none": f"GET /{CANARY} HTTP/1.1\r\nhost: [{CANARY}\r\nconnection: close\r\n\r\n",
    "length": f"POST /admin/reload HTTP/1.1\r\nhost: x\r\ncontent-length: {CANARY}\r\n\r\n",
    "two framings": "POST /admin/reload HTTP/1.1\r\nhost: x\r\ncontent-length: 5\r\n"
    f"transfer-encoding: chunked\r\n\r\n{CANARY}",
    "chunk size": "POST /admin/reload HTTP/1.1\r\nhost: x\r\ntransfer-encoding: chunked\r\n"
    f"connection: close\r\n\r\n{CANARY}\r\n",
    "chunk end": "POST /admin/reload HTTP/1.1\r\nhost: x\r\ntransfer-encoding: chunked\r\n"
    f"connection: close\r\n\r\n5\r\n{CANARY}\r\n0\r\n\r\n",
    "expectation": f"GET /livez HTTP/1.1\r\nhost: x\r\nconnection: close\r\nexpect: {CANARY}\r\n\r\n",
    "expectation elsewhere": f"GET /x HTTP/1.1\r\nhost: x\r\nconnection: close\r\nexpect: {CANARY}\r\n\r\n",
    "upgrade": f"GET /livez HTTP/1.1\r\nhost: x\r\nconnection: close, upgrade\r\nupgrade: {CANARY}\r\n\r\n",
    "accept": f"GET /metrics HTTP/1.1\r\nhost: x\r\nconnection: close\r\naccept: {CANARY};q=\xff\r\n\r\n",
    "TLS": f"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03{CANARY}\r\n\r\n",
}  # fmt: skip


@pytest.mark.parametrize("case", BROKEN)
async def test_what_cannot_be_read_is_repeated_nowhere(
    serve_admin: Serve,
    fake: Fake,
    case: str,
    capfd: pytest.CaptureFixture[str],
    caplog: pytest.LogCaptureFixture,
) -> None:
    status, headers, body = await raw(await serve_admin(), BROKEN[case].encode("latin-1"))
    if case not in ("accept", "upgrade"):
        assert 400 <= status < 500, body
        error_of(body)
    out, errors = capfd.readouterr()
    assert CANARY[:12] not in f"{headers}{body.decode()}{out}{errors}{caplog.text}"
    assert "Traceback" not in errors and not caplog.records
    assert fake.reloads == 0


async def test_failure_inside_is_told_by_place_alone(
    http: aiohttp.ClientSession, serve_admin: Serve, fake: Fake, capfd: pytest.CaptureFixture[str],
    caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    def fails() -> dict[str, Any]:
        raise ValueError(CANARY)

    monkeypatch.setattr(fake, "policy", fails)
    async with http.get(f"{await serve_admin()}/admin/policy") as answer:
        assert (answer.status, error_of(await answer.read())["code"]) == (500, "internal_error")
    told = capfd.readouterr().err
    assert told.startswith("headgate: internal error: ValueError at ") and told.count("\n") == 1
    assert CANARY not in told + caplog.text
