"""A whole gateway as its users run it: the supervisor and its children as processes, real sockets."""

from __future__ import annotations

import asyncio
import hashlib
import json
import os
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import aiohttp
from prometheus_client.parser import text_string_to_metric_families

ROOT = Path(__file__).parent.parent
KEY = "hg-" + "t" * 43
"""The caller's key in `policy_for`; its sha256 stands there."""
SECRET = "sk-upstream-secret"
MODELS = ("gpt-4o-mini", "gpt-4o", "text-embedding-3-small", "gpt-3.5-turbo-instruct")


def policy_for(url: str, *, rest: str = "", models: str = "") -> str:
    """A policy with one provider `upstream` at `url`, the models of `MODELS` and one key; `models` are
    further lines under `models:`, `rest` further top-level text."""
    lines = ["version: 1", "providers:", f'  upstream: {{base_url: "{url}", api_key: {{env: UPSTREAM_KEY}}}}']
    lines += ["models:", *(f"  {name}: {{targets: [upstream/{name}]}}" for name in MODELS)]
    lines += [models, "prices:", "  upstream/*: {input: 0.15, cached_input: 0.075, output: 0.60}"]
    lines += ["teams:", '  search: {models: ["*"]}', "keys:"]
    lines += [f"  app: {{team: search, sha256: {hashlib.sha256(KEY.encode()).hexdigest()}}}", rest]
    return "\n".join(lines) + "\n"


class Gateway:
    """A running gateway: `url` is the OpenAI base URL, `admin` that of the control plane.

    Its files stand in `folder`: `policies/policy.yaml`, `state/`, `calls.jsonl`, `stderr.txt`.
    """

    def __init__(self, folder: Path, policy: str, *, workers: int = 1, environ: dict[str, str]) -> None:
        self.policy_file = folder / "policies" / "policy.yaml"
        self.state = folder / "state"
        self.log = folder / "calls.jsonl"
        self.errors = folder / "stderr.txt"
        self.workers = workers
        self.url = self.admin = ""
        self._folder = folder
        self._environ = {**os.environ, "PYTHONPATH": str(ROOT), "UPSTREAM_KEY": SECRET, **environ}
        self.policy_file.parent.mkdir(exist_ok=True)
        self.policy_file.write_text(policy)
        self.process: subprocess.Popen[bytes] | None = None

    def start(self, *flags: str, output: int | None = None) -> None:
        """Starts the process; `ready` waits until it serves. Further flags come last, and so win. `output` is
        where stdout and stderr go instead of `stderr.txt`."""
        command = [sys.executable, "-m", "gateway.cli.main", "serve"]
        command += ["--policies", str(self.policy_file.parent), "--state", str(self.state)]
        command += ["--listen", "127.0.0.1:0", "--admin", "127.0.0.1:0"]
        command += ["--workers", str(self.workers), "--log", str(self.log), "--drain-delay", "0s", *flags]
        with self.errors.open("ab") as errors:
            self.process = subprocess.Popen(
                command,
                cwd=self._folder,
                env=self._environ,
                stdin=subprocess.DEVNULL,
                stdout=errors if output is None else output,
                stderr=errors if output is None else output,
            )

    def running(self) -> dict[str, Any]:
        """The state folder's run.json: pid, listen, admin, control_pid, keeper_pid, worker_pids."""
        return dict(json.loads((self.state / "run.json").read_text()))

    async def ready(self, *, within_s: float = 20) -> None:
        """Until every worker serves the policy. Raises with the gateway's own words if it ends before."""
        await eventually(self._is_ready, within_s=within_s, says=self.said)

    async def _is_ready(self) -> bool:
        assert self.process is not None
        if self.process.poll() is not None:
            raise AssertionError(f"the gateway ended with {self.process.returncode}: {self.said()}")
        try:
            running = self.running()
            self.admin = f"http://{running['admin']}"
            self.url = f"http://{running['listen']}/v1"
            async with aiohttp.request("GET", f"{self.admin}/readyz") as answer:
                return answer.status == 200
        except (FileNotFoundError, aiohttp.ClientError):
            return False

    def said(self) -> str:
        """What it wrote to stdout and stderr."""
        return self.errors.read_text()

    def logged(self) -> list[dict[str, Any]]:
        """The log lines so far."""
        return [json.loads(line) for line in self.log.read_text().splitlines()] if self.log.exists() else []

    async def log_lines(self, count: int) -> list[dict[str, Any]]:
        """The log, once it has at least `count` lines."""
        await eventually(lambda: len(self.logged()) >= count, says=lambda: f"{self.logged()}")
        return self.logged()

    async def admin_json(self, path: str) -> Any:
        """The answer of the admin API to a GET."""
        async with aiohttp.request("GET", self.admin + path) as answer:
            return await answer.json()

    async def metrics(self) -> dict[tuple[str, frozenset[tuple[str, str]]], float]:
        """One scrape: (sample name, its labels) → value."""
        async with aiohttp.request("GET", f"{self.admin}/metrics") as answer:
            text = await answer.text()
        return {
            (sample.name, frozenset(sample.labels.items())): sample.value
            for family in text_string_to_metric_families(text)
            for sample in family.samples
        }

    async def metric(self, name: str, **labels: str) -> float:
        """The sum of a metric's samples that have these labels."""
        scrape = await self.metrics()
        return sum(
            value for (sample, has), value in scrape.items() if sample == name and has >= set(labels.items())
        )

    async def edit(self, policy: str) -> None:
        """Writes the policy file and waits until every worker serves it."""
        before = (await self.admin_json("/admin/policy"))["hash"]
        self.policy_file.write_text(policy)

        async def switched() -> bool:
            hashes = {row["policy"] for row in (await self.admin_json("/admin/workers"))["workers"]}
            return len(hashes) == 1 and before not in hashes

        await eventually(switched, says=self.said)

    def stop(self) -> int:
        """SIGTERM, then the exit code. The calls under way are finished first."""
        assert self.process is not None
        if self.process.poll() is None:
            self.process.send_signal(signal.SIGTERM)
        return self.process.wait(timeout=45)


async def eventually(
    holds: Callable[[], Any], *, within_s: float = 15, says: Callable[[], str] = lambda: ""
) -> None:
    """Waits until `holds()` (or what it awaits) is true: for files and processes, which send no events.

    Raises AssertionError with `says()` when the time is up.
    """
    loop = asyncio.get_running_loop()
    deadline_s = loop.time() + within_s
    while True:
        answer = holds()
        if asyncio.iscoroutine(answer):
            answer = await answer
        if answer:
            return
        if loop.time() > deadline_s:
            raise AssertionError(f"not within {within_s} s. {says()}")
        await asyncio.sleep(0.01)
