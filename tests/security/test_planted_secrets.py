"""Nothing that was planted comes out, on any path of a call, with any mistake in a policy, whatever dies."""

from __future__ import annotations

import asyncio
import json
import os
import signal
from collections.abc import Awaitable, Callable
from contextlib import suppress
from pathlib import Path

import aiohttp
import pytest

from gateway.simulator.faults import NAMES
from gateway.simulator.server import Simulator
from tests.collector import Collector
from tests.conftest import StartGateway
from tests.running import eventually
from tests.security.listening import CONTENT, GOOD, Listening, answer_of, stream_of
from tests.security.planted import (
    ADMIN,
    ANSWER,
    BASIC,
    BROKEN,
    CALLER,
    CALLER_HEADER,
    ENVIRON,
    EXPIRED,
    HEADER,
    MODEL,
    PASSWORD,
    PATH,
    POLICY,
    PROMPT,
    QUERY,
    SAID,
    SECOND,
    SERVER,
    SET_COOKIE,
    UNUSABLE,
    UPSTREAM,
    WRONG,
    X_SECRET,
    Scene,
    policy_text,
)


@pytest.fixture
async def scene(
    serve: StartGateway,
    simulator: Simulator,
    provider: Listening,
    http: aiohttp.ClientSession,
    collector: Collector,
    tmp_path: Path,
) -> Scene:
    (tmp_path / "second-key").write_text(SECOND + "\n")
    environ = {**ENVIRON, "UPSTREAM_PROXY": f"http://me:{PASSWORD}@127.0.0.1:{provider.port}"}
    environ |= collector.environ()
    gateway = await serve(policy_text(tmp_path, simulator), environ=environ)
    return Scene(gateway, provider, simulator, http, tmp_path, collector)


# The paths a call can take: each does its worst, and keeps what came of it.


async def good_answers(scene: Scene) -> None:
    good = json.loads(json.dumps(GOOD).replace("Yes.", ANSWER))
    good["model"], good["system_fingerprint"], good["service_tier"] = f"m-{UPSTREAM}", ANSWER, ANSWER
    named = (ANSWER, UPSTREAM)
    """A caller gets the answer as it is; what a provider calls its model must not take a key into traces."""
    theirs = [("set-cookie", SET_COOKIE), ("server", SERVER), ("x-secret", X_SECRET), ("x-request-id", "r-1")]
    scene.scripted.answer = answer_of(good, 200, *theirs)
    await scene.call("plain", may=named)
    await scene.call("route by tag", model="faulty", fields={"metadata": {"job": "x"}}, may=named,
                     **{"x-headgate-tags": "special"})  # fmt: skip
    await scene.call("fallback", model="dead", may=named)
    scene.scripted.answer = answer_of({**good, "filler": "x" * (1 << 20)}, 200, *theirs)
    await scene.call("long", may=named)
    chunk = json.loads(json.dumps(CONTENT).replace("Yes.", ANSWER))
    scene.scripted.answer = stream_of(chunk, "[DONE]", headers=tuple(theirs))
    await scene.call("streamed", stream=True, may=(ANSWER,))
    scene.scripted.answer = stream_of(chunk, headers=tuple(theirs))
    await scene.call("cut", stream=True, may=(ANSWER,))
    assert PASSWORD not in str(scene.scripted.heads) and BASIC in str(scene.scripted.heads)


async def refusals_that_quote(scene: Scene) -> None:
    quoted = f"{SAID}: {UPSTREAM} {SECOND} Token {HEADER} {PASSWORD} Basic {BASIC}"
    theirs = [
        ("set-cookie", SET_COOKIE),
        ("server", SERVER),
        ("x-secret", X_SECRET),
        ("www-authenticate", X_SECRET),
    ]
    for status in (400, 401, 402, 403, 404, 407, 408, 409, 422, 429, 500, 502, 503, 504, 529):
        error = {
            "message": quoted,
            "code": UPSTREAM,
            "type": HEADER,
            "param": SECOND,
            "inner": {UPSTREAM: [quoted]},
        }
        scene.scripted.answer = answer_of({"error": error}, status, *theirs)
        told = (SAID,) if status not in (401, 403, 407, 408, 504) else ()
        for stream in (False, True):
            await scene.call(f"quoting {status}", stream=stream, may=told)
        scene.scripted.answer = answer_of(f"<h1>{quoted}</h1>".encode(), status, *theirs)
        await scene.call(f"HTML {status}")
    scene.scripted.answer = answer_of({"error": {"message": quoted}})
    await scene.call("error in a 200", may=(SAID,))
    scene.scripted.answer = answer_of({"error": {"message": f"Incorrect API key provided: {UPSTREAM}"}}, 401)
    await scene.call("OpenAI's words")
    for location in (f"http://{UPSTREAM}@127.0.0.1:1/", f"/{X_SECRET}"):
        scene.scripted.answer = answer_of({}, 302, ("location", location), *theirs)
        await scene.call("redirect")
    failure = {"error": {"message": quoted, "code": UPSTREAM}}
    scene.scripted.answer = stream_of(failure, headers=tuple(theirs))
    await scene.call("error event first", stream=True, may=(SAID,))
    scene.scripted.answer = stream_of(CONTENT, failure, "[DONE]", headers=tuple(theirs))
    await scene.call("error event later", stream=True, may=(SAID,))


async def answers_that_are_none(scene: Scene) -> None:
    head = b"HTTP/1.1 200 OK\r\nx-secret: " + X_SECRET.encode() + b"\r\n"
    secret = f"{UPSTREAM} {ANSWER}".encode()
    for number, answer in enumerate([
        head + b"content-length: 9\r\nbroken " + secret + b"\r\n\r\n{}",
        head + b"content-length: 500\r\n\r\n" + secret,
        head + b"content-length: 30\r\n\r\n" + secret[:30],
        head + b"transfer-encoding: chunked\r\n\r\n" + secret,
        head + b"content-type: text/event-stream\r\n\r\ndata: \xff" + secret + b"\n\n",
        head + b"content-type: text/event-stream\r\n\r\ndata: " + b"x" * (1 << 20) + secret,
        secret,
        head + b"x: " + b"y" * 70_000 + secret + b"\r\n\r\n",
        b"HTTP/1.1 999 " + secret + b"\r\ncontent-length: 0\r\n\r\n",
    ]):  # fmt: skip
        scene.scripted.answer = answer
        for stream in (False, True):
            await scene.call(f"no answer {number}", model="broken", stream=stream)


async def every_fault_of_the_simulator(scene: Scene) -> None:
    def call(fault: str, stream: bool) -> Awaitable[int]:
        asks = {"simulate": {"fault": fault}}
        return scene.call(f"{fault} streamed={stream}", asks, model="faulty", stream=stream)

    for batch in range(0, len(NAMES), 8):
        names = NAMES[batch : batch + 8]
        await asyncio.gather(*(call(fault, stream) for fault in names for stream in (False, True)))


async def refused_callers(scene: Scene) -> None:
    for key in (WRONG, EXPIRED, UPSTREAM, ADMIN):
        assert await scene.call("wrong key", key=key) == 401
    assert await scene.call("Basic", authorization=f"Basic {CALLER}") == 401
    assert await scene.call("unknown model", model=MODEL) == 404
    assert await scene.call("unknown path", to=f"/{PATH}") == 404
    assert (
        await scene.call("path of a deployment", to=f"/../openai/deployments/{PATH}/chat/completions") == 404
    )
    assert await scene.call("coding", **{"content-encoding": BROKEN}) == 415
    for number, fields in enumerate([
        {"model": [MODEL]}, {"stream": BROKEN}, {"max_tokens": BROKEN}, {"n": -1},
        {"stream": True, "stream_options": BROKEN},
    ]):  # fmt: skip
        assert await scene.call(f"wrong type {number}", fields) == 400
    for number, body in enumerate([
        b"", b"{", f'{{"{BROKEN}": {PROMPT}'.encode(), f'"{PROMPT}"'.encode(), f'["{PROMPT}"]'.encode(),
        b'{"a": "\xff' + PROMPT.encode() + b'"}', f'{{"x": {"[" * 3000}"{PROMPT}"'.encode(),
        f'{{"model": "{MODEL}", "x": {"[" * 300}"{PROMPT}"{"]" * 300}}}'.encode(),
        f'{{"model": "scripted", "x": {"[" * 300}"{PROMPT}"{"]" * 300}}}'.encode(),
        f'{{"model": "scripted", "x": "\\ud800{PROMPT}"}}'.encode(),
        f'{{"x": 1e999, "{PROMPT}": NaN}}'.encode(),
    ]):  # fmt: skip
        assert await scene.call(f"bad JSON {number}", body) >= 400


async def bad_http(scene: Scene) -> None:
    key = f"authorization: Bearer {CALLER}\r\n"
    lines = {
        "long header": f"x: {BROKEN}{'y' * 70_000}\r\n",
        "NUL": f"x: {BROKEN}\0\r\n",
        "CR": f"x: {BROKEN}\rz: 1\r\n",
        "no colon": f"{BROKEN}\r\n",
        "folded": f"x: 1\r\n {BROKEN}\r\n",
        "length": f"content-length: {BROKEN}\r\n",
        "too large": "content-length: 99999999999\r\n",
        "two keys": f"authorization: Bearer {WRONG}\r\n",
        "two framings": "content-length: 5\r\ntransfer-encoding: chunked\r\n",
        "coding": f"transfer-encoding: {BROKEN}\r\n",
        "expectation": f"expect: {BROKEN}\r\n",
        "upgrade": f"connection: upgrade\r\nupgrade: {BROKEN}\r\n",
        "websocket": f"connection: upgrade\r\nupgrade: websocket\r\nsec-websocket-key: {BROKEN}\r\n",
        "many": "".join(f"x-{number}: {BROKEN}\r\n" for number in range(150)),
        "chunk": f"transfer-encoding: chunked\r\n\r\n{BROKEN}\r\n",
        "trailer": f"transfer-encoding: chunked\r\n\r\n2\r\n{{}}\r\n0\r\nx: {BROKEN}\0\r\n",
    }
    first_lines = [
        f"{BROKEN} / HTTP/1.1", f"GET {BROKEN} HTTP/1.1", f"GET /{PATH} {BROKEN}",
        f"GET http://{BROKEN}/ HTTP/1.1", f"CONNECT {BROKEN}:443 HTTP/1.1",
        f"GET /{'y' * 70_000}{PATH} HTTP/1.1", f"\x16\x03\x01{BROKEN}",
    ]  # fmt: skip
    post = f"POST /v1/chat/completions?q={QUERY} HTTP/1.1"
    for admin in (False, True):
        for name, line in lines.items():
            data = f"{post}\r\nhost: x\r\nconnection: close\r\n{key}{line}\r\n{PROMPT}"
            await scene.raw(f"bad HTTP {name}", data.encode(), admin)
        for first in first_lines:
            data = f"{first}\r\nhost: {BROKEN}\r\nconnection: close\r\n{key}\r\n"
            await scene.raw(f"bad line {first[:20]}", data.encode(), admin)


async def callers_that_leave(scene: Scene) -> None:
    for fault in ("hang", "stall"):
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0.2):
                await scene.call("left", {"simulate": {"fault": fault}}, model="slow", stream=True)


async def admin_port(scene: Scene) -> None:
    for method, headers in [
        ("GET", {"authorization": f"Bearer {WRONG}"}),
        ("GET", {"authorization": f"Bearer {ADMIN}x"}),
        ("GET", {"authorization": f"Basic {ADMIN}"}),
        ("POST", {"authorization": f"Bearer {ADMIN}", "origin": f"http://{BROKEN}"}),
        ("GET", {"expect": BROKEN, "x-own": CALLER_HEADER}),
        ("PUT", {"host": BROKEN, "cookie": CALLER_HEADER}),
    ]:
        for route in (
            f"/admin/reload?q={QUERY}",
            f"/{PATH}",
            f"/metrics?{QUERY}",
            f"/admin/policy?key={ADMIN}",
        ):
            async with scene.http.request(method, scene.gateway.admin + route, headers=headers) as answer:
                scene.keep(f"admin {method} {route}", str(answer.headers).encode() + await answer.read())


PATHS: tuple[Callable[[Scene], Awaitable[None]], ...] = (
    good_answers,
    refusals_that_quote,
    answers_that_are_none,
    every_fault_of_the_simulator,
    refused_callers,
    bad_http,
    callers_that_leave,
    admin_port,
)


async def test_nothing_planted_comes_out_on_any_path_of_a_call(scene: Scene) -> None:
    found: dict[str, list[str]] = {}
    for path in PATHS:
        before = len(scene.got)
        await path(scene)
        assert len(scene.got) > before or path is callers_that_leave
        found[path.__name__] = await scene.found()
        scene.got.clear()
    assert {name: where for name, where in found.items() if where} == {}
    assert len(scene.gateway.logged()) > 150
    assert len(scene.collector.calls()) > 100, "the traces of all these calls were looked at"
    (scene.gateway.state / "leak").write_bytes(b"\0" + HEADER.encode() + b"\0")
    scene.got.append(("somewhere", BASIC.encode()))
    assert len(await scene.found()) == 2, "what comes out is found"


KEY_REF, HEADERS = "{env: UPSTREAM_KEY}", "    headers:"
MISTAKES: dict[str, tuple[str, str]] = {
    "key in the file": (KEY_REF, POLICY),
    "key for a variable": ("env: UPSTREAM_KEY", f"env: {POLICY}"),
    "key in braces": (KEY_REF, f"{{{POLICY}}}"),
    "key in a list": (KEY_REF, f"[{POLICY}]"),
    "open quote": (KEY_REF, f'"{POLICY}'),
    "open brace": (KEY_REF, f"{{env: {POLICY}"),
    "tab": (HEADERS, f"\theaders: {POLICY}"),
    "colon": (HEADERS, f"    api_key: {POLICY}: x\n    headers:"),
    "alias": (KEY_REF, f"*{POLICY}"),
    "tag": (KEY_REF, f"!{POLICY} x"),
    "not UTF-8": (KEY_REF, f"{POLICY}\udcff"),
    "header": ("{env: UPSTREAM_HEADER}", f'"{POLICY}\\n"'),
    "authorization": ("x-token: {env: UPSTREAM_HEADER}", f"authorization: {POLICY}"),
    "proxy": ("{env: UPSTREAM_PROXY}", f'"http://me:{POLICY}@proxy:1"'),
    "base_url": ("upstream.invalid", f"{POLICY}@upstream.invalid"),
    "base_url with a query": ("upstream.invalid/v1", f"upstream.invalid/v1?key={POLICY}"),
    "sha256": ("2020-01-01, sha256: ", f"2020-01-01, sha256: {POLICY}"),
    "admin key": ("routes:", f"admin: {{keys: [{{sha256: {POLICY}}}]}}\nroutes:"),
    "unknown key beside it": (HEADERS, f"    api_keey: {POLICY}\n    headers:"),
    "no such file": ("second-key", "third-key"),
    "file that holds something else": ("second-key", "unusable"),
    "variable that holds something else": ("env: UPSTREAM_KEY", "env: UNUSABLE"),
    "proxy that is none": ("env: UPSTREAM_PROXY", "env: UNUSABLE"),
    "secret for a URL": ("http://upstream.invalid/v1", '"${UPSTREAM_KEY}"'),
    "secret for a preset": ("    proxy:", '    preset: "${UPSTREAM_KEY}"\n    proxy:'),
    "secret for a number": ("    proxy:", '    max_connections: "${UPSTREAM_KEY}"\n    proxy:'),
}
"""What an operator gets wrong right beside a secret: what stands in the policy, and what instead of it."""


async def test_nothing_planted_comes_out_when_policies_are_wrong_and_processes_die(scene: Scene) -> None:
    gateway = scene.gateway
    good = policy_text(scene.folder, scene.simulator)
    (scene.folder / "unusable").write_text(f"{UNUSABLE}\n{UNUSABLE}\n")
    headers = {"authorization": f"Bearer {ADMIN}"}
    for name, (right, wrong) in MISTAKES.items():
        assert right in good
        gateway.policy_file.write_bytes(good.replace(right, wrong).encode("utf-8", "surrogateescape"))
        async with scene.http.post(f"{gateway.admin}/admin/reload", headers=headers) as answer:
            assert answer.status == 409, name
            scene.keep(f"reload {name}", await answer.read())
        assert await scene.found() == [], name
    assert gateway.said().count(" is rejected; ") >= len(MISTAKES)

    gateway.policy_file.write_text(good)
    async with scene.http.post(f"{gateway.admin}/admin/reload", headers=headers) as answer:
        assert answer.status == 200

    slow = {"simulate": {"tokens_per_s": 20, "output_tokens": 20}}
    calling = asyncio.create_task(scene.call("worker killed", slow, model="slow", stream=True))
    await scene.simulator.requests.wait()
    running = gateway.running()
    os.kill(running["worker_pids"][0], signal.SIGKILL)
    with suppress(aiohttp.ClientError):
        await calling
    os.kill(running["control_pid"], signal.SIGKILL)
    await eventually(lambda: gateway.running()["control_pid"] != running["control_pid"])
    await gateway.ready()
    scene.scripted.answer = answer_of({"error": {"message": f"no {UPSTREAM}"}}, 400)
    assert await scene.call("after") == 400
    assert await scene.found() == []

    seen = scene.simulator.requests.total
    calling = asyncio.create_task(scene.call("stopped", slow, model="slow", stream=True))
    await scene.simulator.requests.wait(seen + 1)
    assert await asyncio.to_thread(gateway.stop) == 0
    assert await calling == 200
    assert await scene.found() == []
