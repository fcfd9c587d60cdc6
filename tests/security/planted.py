"""A gateway full of secrets and words of callers and providers, and every place where they could come out."""

from __future__ import annotations

import asyncio
import base64
import hashlib
import json
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import aiohttp

from gateway.simulator.server import Simulator
from tests.collector import Collector
from tests.running import Gateway
from tests.security.listening import Listening


def planted(what: str) -> str:
    return f"canary-{what}-7f3a9c51"


CALLER, EXPIRED, WRONG = planted("hg-caller"), planted("hg-expired"), planted("hg-wrong")
ADMIN = planted("admin-key")
UPSTREAM, SECOND, HEADER, PASSWORD = (planted(what) for what in ("sk-key", "sk-file", "sk-header", "proxy"))
SET_COOKIE, SERVER, X_SECRET = planted("cookie"), planted("server"), planted("x-secret")
PROMPT, TOOL, METADATA, TAG = planted("prompt"), planted("tool"), planted("metadata"), planted("tag")
CALLER_HEADER, QUERY, PATH, MODEL = planted("header"), planted("query"), planted("path"), planted("model")
BROKEN, POLICY, UNUSABLE = planted("broken"), planted("policy"), planted("unusable")
ANSWER, SAID = planted("answer"), planted("said")
BASIC = base64.b64encode(f"me:{PASSWORD}".encode()).decode()
NEEDLES = [value for name, value in list(globals().items()) if name.isupper() and isinstance(value, str)]
"""All that was planted, and the one that is sent in another spelling."""
ENVIRON = {
    "UPSTREAM_KEY": UPSTREAM,
    "UPSTREAM_HEADER": f"Token {HEADER}",
    "UPSTREAM_PROXY": "",
    "HEADGATE_ADMIN_KEY": ADMIN,
    "UNUSABLE": f"{UNUSABLE} with blanks",
}

POLICY_TEXT = """
version: 1
providers:
  simulated:
    base_url: "{simulator}"
    api_key: {{env: UPSTREAM_KEY}}
    headers: {{x-token: {{env: UPSTREAM_HEADER}}}}
  scripted:
    base_url: http://upstream.invalid/v1
    api_keys: [{{env: UPSTREAM_KEY}}, {{file: {folder}/second-key}}]
    headers: {{x-token: {{env: UPSTREAM_HEADER}}}}
    proxy: {{env: UPSTREAM_PROXY}}
  dead: {{base_url: "http://127.0.0.1:1/v1", api_key: {{env: UPSTREAM_KEY}}}}
models:
  faulty: {{targets: [simulated/m], {patient}, {hasty}}}
  slow: {{targets: [simulated/m]}}
  scripted: {{targets: [scripted/m], {patient}}}
  broken: {{targets: [scripted/m], {patient}, {hasty}}}
  dead: {{targets: [dead/m, scripted/m], {patient}}}
teams: {{t: {{models: ["*"]}}}}
keys:
  caller: {{team: t, sha256: {caller}}}
  gone: {{team: t, expires: 2020-01-01, sha256: {expired}}}
routes: [{{name: tagged, match: {{tag: special, metadata: {{job: x}}}}, use: scripted}}]
"""
PATIENT = "retries: {attempts: 0}, health: {failures: 1000, eject: 1s}"
HASTY = "timeouts: {total: 800ms, first_token: 500ms, stall: 500ms}"


@dataclass
class Scene:
    """A gateway, what stands behind it, and everything that callers got, by the path they took."""

    gateway: Gateway
    scripted: Listening
    simulator: Simulator
    http: aiohttp.ClientSession
    folder: Path
    collector: Collector
    """Gets the traces of all calls, and metrics."""
    got: list[tuple[str, bytes]] = field(default_factory=list)

    async def call(
        self,
        path: str,
        fields: dict[str, Any] | bytes | None = None,
        *,
        model: str = "scripted",
        stream: bool = False,
        key: str = CALLER,
        to: str = "/chat/completions",
        may: tuple[str, ...] = (),
        **headers: str,
    ) -> int:
        """One call as a caller makes it, full of what only its provider may see; the status."""
        body = {
            "model": model,
            "stream": stream,
            "messages": [{"role": "user", "content": PROMPT}],
            "tools": [{"type": "function", "function": {"name": "f", "description": TOOL}}],
            "metadata": {"job": METADATA},
            **(fields if isinstance(fields, dict) else {}),
        }
        sent = {
            "authorization": f"Bearer {key}",
            "x-headgate-tags": f"a,{TAG}",
            "x-own": CALLER_HEADER,
            **headers,
        }
        data = fields if isinstance(fields, bytes) else json.dumps(body).encode()
        got = b""
        async with self.http.post(self.gateway.url + to + f"?q={QUERY}", data=data, headers=sent) as answer:
            got += str(answer.headers).encode()
            try:
                async for piece in answer.content.iter_any():
                    got += piece
            except aiohttp.ClientPayloadError:
                got += b" (cut)"
        self.keep(path, got, may)
        return answer.status

    async def raw(self, path: str, data: bytes, admin: bool = False) -> None:
        """Bytes that are no proper request, to either port."""
        where = self.gateway.admin if admin else self.gateway.url.removesuffix("/v1")
        host, port = where.removeprefix("http://").split(":")
        reader, writer = await asyncio.open_connection(host, int(port))
        writer.write(data)
        writer.write_eof()
        self.keep(path, await asyncio.wait_for(reader.read(), 10))
        writer.close()

    def keep(self, path: str, got: bytes, may: tuple[str, ...] = ()) -> None:
        """What may be there is taken out, after a look whether it is: else the path was not taken."""
        for needle in may:
            assert needle.encode() in got, (path, got[:500])
            got = got.replace(needle.encode(), b"")
        self.got.append((path, got))

    async def found(self) -> list[str]:
        """Where anything that was planted came out."""
        gateway = self.gateway
        sinks = list(self.got)
        sinks += [("output", gateway.said().encode()), ("log", gateway.log.read_bytes())]
        sinks += [(f"OTLP {number}", body) for number, body in enumerate(self.collector.bodies)]
        sinks += list(files_of(gateway.state))
        if gateway.process is not None and gateway.process.poll() is None:
            running = gateway.running()
            pids = [running["pid"], running["control_pid"], *running["worker_pids"]]
            sinks += [(f"cmdline {pid}", Path(f"/proc/{pid}/cmdline").read_bytes()) for pid in pids]
            for route in (
                "/metrics",
                "/readyz",
                "/livez",
                "/admin/policy",
                "/admin/targets",
                "/admin/workers",
            ):
                for headers in ({"authorization": f"Bearer {ADMIN}"}, {"authorization": f"Bearer {CALLER}"}):
                    async with self.http.get(gateway.admin + route, headers=headers) as answer:
                        sinks.append((route, str(answer.headers).encode() + await answer.read()))
        return [
            f"{needle} in {sink}" for sink, data in sinks for needle in NEEDLES if needle.encode() in data
        ]


def files_of(folder: Path) -> Iterator[tuple[str, bytes]]:
    return ((str(path), path.read_bytes()) for path in folder.rglob("*") if path.is_file())


def policy_text(folder: Path, simulator: Simulator) -> str:
    digests = {
        name: hashlib.sha256(key.encode()).hexdigest()
        for name, key in (("caller", CALLER), ("expired", EXPIRED))
    }
    return POLICY_TEXT.format(simulator=simulator.url, folder=folder, patient=PATIENT, hasty=HASTY, **digests)
