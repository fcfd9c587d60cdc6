"""The page and the data of the console: what is sent, with which headers, and that all of it is ours."""

from __future__ import annotations

import re

import aiohttp
import pytest

from gateway.control.console_routes import FOLDER, PATHS
from tests.control.conftest import KEY, Serve

CSP = "default-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"


async def test_page_is_sent_with_a_strict_policy_and_kept_by_its_tag(
    http: aiohttp.ClientSession, serve_admin: Serve
) -> None:
    url = await serve_admin()
    for path, file in PATHS.items():
        async with http.get(url + path, headers={"accept-encoding": "identity"}) as answer:
            assert answer.status == 200
            assert await answer.read() == (FOLDER / file).read_bytes()
            headers = answer.headers
        assert headers["content-security-policy"] == CSP
        assert headers["x-content-type-options"] == "nosniff"
        assert headers["referrer-policy"] == "no-referrer"
        assert headers["cross-origin-resource-policy"] == "same-origin"
        assert headers["cache-control"] == "no-cache"
        async with http.get(url + path, headers={"if-none-match": headers["etag"]}) as again:
            assert (again.status, await again.read()) == (304, b"")


async def test_files_have_the_types_that_nosniff_asks_for(
    http: aiohttp.ClientSession, serve_admin: Serve
) -> None:
    url = await serve_admin()
    for path, kind in {
        "/": "text/html",
        "/console/app.js": "text/javascript",
        "/console/style.css": "text/css",
        "/console/icon.svg": "image/svg+xml",
    }.items():
        async with http.get(url + path) as answer:
            assert answer.content_type == kind


async def test_page_is_the_same_for_everybody_and_data_is_not_kept(
    http: aiohttp.ClientSession, serve_admin: Serve
) -> None:
    url = await serve_admin(loopback=False)
    bodies = set()
    for headers in ({}, {"authorization": f"Bearer {KEY}"}, {"host": "elsewhere.example"}):
        async with http.get(url, headers={**headers, "accept-encoding": "identity"}) as answer:
            bodies.add(await answer.read())
    assert len(bodies) == 1
    async with http.get(f"{url}/admin/console") as answer:
        assert answer.status == 401
    async with http.get(f"{url}/admin/console", headers={"authorization": f"Bearer {KEY}"}) as answer:
        assert answer.status == 200
        assert answer.headers["cache-control"] == "no-store"


@pytest.mark.parametrize(
    ("query", "status"),
    [
        ("", 200),
        ("?since=0", 200),
        ("?since=1795680000000", 200),
        ("?since=-1", 400),
        ("?since=now", 400),
        ("?since=²", 400),
        ("?since=" + "1" * 16, 400),
        ("?until=1", 400),
        ("?since=1&since=2", 400),
    ],
)
async def test_data_is_asked_for_after_a_moment(
    http: aiohttp.ClientSession, serve_admin: Serve, query: str, status: int
) -> None:
    headers = {"accept-encoding": "identity"}
    async with http.get(f"{await serve_admin()}/admin/console{query}", headers=headers) as answer:
        assert answer.status == status
        told = await answer.json()
    if status == 200:
        since = int(query.partition("=")[2] or 0)
        assert told["version"] == "0" and told["series"] == {"since": since}


def test_page_has_nothing_inline_and_nothing_from_elsewhere() -> None:
    page = (FOLDER / "index.html").read_text()
    assert re.findall(r"<style|\sstyle=|\son\w+=|<script(?![^>]*\ssrc=)", page) == []
    named = re.findall(r'(?:src|href)="([^"#]+)"', page)
    assert named and all(f"/{name}" in PATHS for name in named)
    for path in FOLDER.iterdir():
        text = path.read_text().replace('"http://www.w3.org/2000/svg"', "")
        assert re.findall(r"(?:https?:)?//[\w.]+\.\w|@import|url\(|innerHTML|eval\(", text) == [], path.name


def test_scripts_name_only_files_and_elements_that_are_there() -> None:
    page = (FOLDER / "index.html").read_text()
    ids = set(re.findall(r'\sid="([\w-]+)"', page))
    for path in FOLDER.glob("*.js"):
        text = path.read_text()
        assert set(re.findall(r'byId\("([\w-]+)"\)', text)) <= ids
        assert all((FOLDER / name).is_file() for name in re.findall(r' from "\./([\w.]+)"', text))
    assert set(re.findall(r'(?:labelledby|for)="([\w-]+)"', page)) <= ids
    assert set(re.findall(r'href="#([\w-]+)"', page)) <= ids
