"""The show: a real Prometheus scrapes a gateway under the demonstration's load, and every query of every
dashboard, rule and runbook is asked of it. What is empty then stands in a list, with its reason.
"""

from __future__ import annotations

import asyncio
import json
import os
import re
import socket
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import ExitStack
from pathlib import Path

import aiohttp
import pytest

from dashboards import build, promql
from dashboards.demo.load import KEYS
from tests.conftest import StartGateway, StartSimulator
from tests.dashboards.prometheus import JOB, Prometheus, samples
from tests.dashboards.test_rules import ALERTS, RECORDS, RUNBOOKS
from tests.running import ROOT, Gateway, eventually
from tests.stores.redis_server import RedisServer
from tests.test_docs import blocks_of

pytestmark = [pytest.mark.system, pytest.mark.timeout(360)]

LEAST_S, MOST_S, CALLS_PER_S = 60, 180, 25
SCRAPES_S = 3
"""Scrapes of Prometheus in this time see what stands now."""
MOST_CONNECTIONS = 100
FILLED = {**promql.ANY, "__rate_interval": "10s", "__range": f"{MOST_S}s", "job": JOB}

NO_OTLP = "no OTLP endpoint is given to the gateway of the show"
A_WEEK = "compares with a week ago"
ALL = "there is time for all answers of the show"
SAME = "the providers of the show say one name"
FEW = "a handful of names find room for their series"
PLAIN = "the show's provider sends nothing that is not known"
EXPECTED_EMPTY: dict[str, str] = {
    "providers: Events not known A": PLAIN,
    "cost: This week and last week B": A_WEEK,
    "alert HeadgateCostSpike 2": A_WEEK,
    "reliability: Traces A": NO_OTLP,
    "alert HeadgateSeriesOverflow 1": FEW,
    "reliability: Series without room A": FEW,
    "runbook series-overflow 1": FEW,
    "drift: Another name in the answers A": SAME,
    "alert HeadgateIdentityChanged 1": SAME,
    "runbook drift 4": SAME,
    "alert HeadgateDriftBlind 1": ALL,
}
"""Where a query stands → why it has no data in a minute of the show. What has data does not belong here."""


@pytest.fixture
def redis() -> Iterator[RedisServer]:
    server = RedisServer().start()
    yield server
    server.stop()


@pytest.fixture
async def prometheus(
    gateway: Gateway, tmp_path: Path, system_tool: Callable[[str], str]
) -> AsyncIterator[Prometheus]:
    server = Prometheus(system_tool("prometheus"), tmp_path / "prometheus", gateway.admin)
    try:
        yield await server.start()
    finally:
        server.stop()


@pytest.fixture
async def gateway(serve: StartGateway, simulate: StartSimulator, redis: RedisServer) -> Gateway:
    """The demonstration: its policy, its two providers, its Redis."""
    north = await simulate(
        first_token_ms=50, tokens_per_s=400, output_tokens=80, change_at=240, change_style="terse"
    )
    south = await simulate(first_token_ms=150, tokens_per_s=200, output_tokens=120)
    return await serve(
        (ROOT / "dashboards/demo/policies/demo.yaml").read_text(),
        *("--max-connections-per-address", str(MOST_CONNECTIONS)),
        workers=2,
        environ={"NORTH_URL": north.url, "SOUTH_URL": south.url, "REDIS_URL": redis.url},
    )


async def accidents(gateway: Gateway, redis: RedisServer, http: aiohttp.ClientSession) -> None:
    """What the load leaves out: a provider that cheats and one that fails for a while, a store that is out, a
    policy that is none and one with a budget that is spent, too many connections."""
    headers = {"authorization": f"Bearer {KEYS['lab-notebook']}"}
    for simulated in ({"overrun_tokens": 5000}, *[{"fault": "status_503"}] * 40):
        messages = [{"role": "user", "content": "Where is the river?"}]
        fields = {"model": "chat", "messages": messages, "max_tokens": 10, "simulate": simulated}
        async with http.post(f"{gateway.url}/chat/completions", json=fields, headers=headers) as answer:
            await answer.read()

    redis.sigstop()
    await eventually(lambda: is_refused_for_want_of_a_store(gateway))
    redis.sigcont()

    policy = gateway.policy_file.read_text()
    gateway.policy_file.write_text(policy + "nonsense: true\n")
    await eventually(lambda: gateway.metric("headgate_policy_reloads_total", result="rejected"))
    await gateway.edit(policy.replace("usd: 5, rolling", "usd: 0.0001, rolling"))

    host, _, port = gateway.running()["listen"].rpartition(":")
    with ExitStack() as idle:
        for _ in range(2 * MOST_CONNECTIONS + 50):
            idle.enter_context(socket.create_connection((host, int(port))))
        await eventually(lambda: gateway.metric("headgate_shed_total", reason="connections"))


async def is_refused_for_want_of_a_store(gateway: Gateway) -> bool:
    return await gateway.metric("headgate_requests_total", error_type="gateway_store_unavailable") > 0


async def loaded(gateway: Gateway, redis: RedisServer, http: aiohttp.ClientSession) -> tuple[float, float]:
    """A minute of the demonstration's load, or more, until drift was acted on; its begin and its end, by the
    clock."""
    environ = {"HEADGATE_URL": gateway.url, "CALLS_PER_S": str(CALLS_PER_S), "SECONDS": str(MOST_S)}
    script = ROOT / "dashboards/demo/load.py"
    begin_s = time.time()
    load = await asyncio.create_subprocess_exec(sys.executable, str(script), env={**os.environ, **environ})
    try:
        await asyncio.sleep(LEAST_S / 4)
        await accidents(gateway, redis, http)
        await asyncio.sleep(begin_s + LEAST_S - time.time())
        await eventually(
            lambda: gateway.metric("headgate_drift_action"), within_s=begin_s + MOST_S - time.time()
        )
        await asyncio.sleep(SCRAPES_S)
        assert load.returncode is None, "the load ended by itself"
    finally:
        if load.returncode is None:
            load.kill()
            await load.wait()
    return begin_s, time.time() - 1


def lines_and_numbers() -> Iterator[tuple[str, str, bool]]:
    """(where it stands, query, whether it is asked for a moment) of all dashboards."""
    for path in sorted(build.GRAFANA.glob("*.json")):
        board = json.loads(path.read_text())
        for panel in board["panels"]:
            for target in panel.get("targets", ()):
                where = f"{path.stem}: {panel['title']} {target['refId']}"
                yield where, promql.filled(target["expr"], FILLED), bool(target.get("instant"))
        for annotation in board["annotations"]["list"]:
            yield f"{path.stem}: {annotation['name']}", promql.filled(annotation["expr"], FILLED), False


def conditions() -> Iterator[tuple[str, str]]:
    """(where it stands, query) of all rules and runbooks; of an alert, what it compares."""
    for name, rule in RECORDS.items():
        yield f"record {name}", rule["expr"]
        yield f"recorded {name}", name
    for name, rule in ALERTS.items():
        for number, query in enumerate(promql.measured(rule["expr"]), 1):
            yield f"alert {name} {number}", query
    for page in RUNBOOKS:
        for number, (kind, query) in enumerate(blocks_of(page.read_text()), 1):
            if kind == "promql":
                yield f"runbook {page.stem} {number}", query


async def test_every_query_of_dashboards_rules_and_runbooks_has_data(
    gateway: Gateway,
    prometheus: Prometheus,
    redis: RedisServer,
    http: aiohttp.ClientSession,
    system_tool: Callable[[str], str],
) -> None:
    begin_s, end_s = await loaded(gateway, redis, http)
    asked: set[str] = set()
    empty: set[str] = set()
    for where, query, is_now in lines_and_numbers():
        found = await (prometheus.at(query, end_s) if is_now else prometheus.over(query, begin_s, end_s, 1))
        asked.add(where)
        if not samples(found):
            empty.add(where)
    for where, query in conditions():
        asked.add(where)
        if not samples(await prometheus.at(query, end_s)):
            empty.add(where)
    assert len(asked) > 180
    unexpected = sorted(empty - set(EXPECTED_EMPTY))
    assert unexpected == [], f"no data: {'; '.join(unexpected)}"
    excused = sorted(set(EXPECTED_EMPTY) - empty)
    assert excused == [], f"have data, and need no excuse: {'; '.join(excused)}"

    rules = await prometheus.rules()
    assert len(rules) == len(ALERTS) + len(RECORDS)
    assert [rule for rule in rules if rule["health"] != "ok"] == []
    for series, label in variables():
        assert await prometheus.values(promql.filled(series, FILLED), label), label

    async with aiohttp.request("GET", f"{gateway.admin}/metrics") as answer:
        text = await answer.text()
    assert complaints(system_tool("promtool"), text) == ""


def complaints(promtool: str, text: str) -> str:
    """What `promtool check metrics` has to say of a scrape."""
    done = subprocess.run([promtool, "check", "metrics"], input=text, capture_output=True, text=True)
    return done.stdout + done.stderr


def variables() -> set[tuple[str, str]]:
    """(series, label) of the dashboards' variables."""
    return {
        (found[1], found[2])
        for path in build.GRAFANA.glob("*.json")
        for variable in json.loads(path.read_text())["templating"]["list"]
        if (found := re.fullmatch(r"label_values\((.*), (\w+)\)", str(variable["query"])))
    }
