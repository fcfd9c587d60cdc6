"""A real Prometheus that scrapes one gateway every second, with the project's rules."""

from __future__ import annotations

import math
import socket
import subprocess
import time
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import aiohttp
import yaml

from tests.running import eventually

ROOT = Path(__file__).parents[2]
JOB = "headgate"


def samples(result: list[dict[str, Any]]) -> int:
    """How many numbers an answer holds; NaN is none."""
    values = [pair for series in result for pair in series.get("values", [series.get("value")])]
    return sum(not math.isnan(float(value)) for _, value in values)


class Prometheus:
    """Its files stand in `folder`; ended by `stop`."""

    def __init__(self, executable: str, folder: Path, admin: str) -> None:
        self._folder = folder
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            self._address = f"127.0.0.1:{free.getsockname()[1]}"
        scraped = {"job_name": JOB, "static_configs": [{"targets": [urlsplit(admin).netloc]}]}
        config = {
            "global": {"scrape_interval": "1s", "scrape_timeout": "1s", "evaluation_interval": "1s"},
            "rule_files": [str(ROOT / "dashboards/rules/*.yaml")],
            "scrape_configs": [scraped],
        }
        folder.mkdir()
        (folder / "prometheus.yml").write_text(yaml.safe_dump(config))
        self._command = [
            executable,
            f"--config.file={folder / 'prometheus.yml'}",
            f"--storage.tsdb.path={folder / 'data'}",
            f"--web.listen-address={self._address}",
            "--log.level=warn",
        ]
        self._process: subprocess.Popen[bytes] | None = None

    async def start(self) -> Prometheus:
        """Returns when it has scraped the gateway."""
        with (self._folder / "said").open("wb") as said:
            self._process = subprocess.Popen(self._command, stdout=said, stderr=said)
        await eventually(self._has_scraped, within_s=30, says=(self._folder / "said").read_text)
        return self

    async def _has_scraped(self) -> bool:
        assert self._process is not None and self._process.poll() is None
        try:
            return samples(await self.at("headgate_build_info", time.time())) > 0
        except aiohttp.ClientError:
            return False

    async def at(self, query: str, at_s: float) -> list[dict[str, Any]]:
        """An instant query, as Grafana's tables and numbers ask."""
        found = await self._ask("query", query=query, time=at_s)
        return [{"value": found["result"]}] if found["resultType"] == "scalar" else found["result"]

    async def over(self, query: str, start_s: float, end_s: float, step_s: float) -> list[dict[str, Any]]:
        """A range query, as Grafana's lines ask."""
        found = await self._ask("query_range", query=query, start=start_s, end=end_s, step=step_s)
        return list(found["result"])

    async def values(self, series: str, label: str) -> list[str]:
        """The values of a label, as Grafana's variables ask."""
        return list(await self._ask(f"label/{label}/values", **{"match[]": series}))

    async def rules(self) -> list[dict[str, Any]]:
        """Every rule with its health."""
        return [rule for group in (await self._ask("rules"))["groups"] for rule in group["rules"]]

    async def _ask(self, what: str, **fields: Any) -> Any:
        url = f"http://{self._address}/api/v1/{what}"
        params = {key: str(value) for key, value in fields.items()}
        async with aiohttp.request("GET", url, params=params) as answer:
            if answer.status == 503:
                raise aiohttp.ClientError("It is still starting.")
            said = await answer.json()
            assert answer.status == 200, f"{fields}: {said}"
            return said["data"]

    def stop(self) -> None:
        if self._process is not None:
            self._process.terminate()
            try:
                self._process.wait(20)
            finally:
                self._process.kill()
