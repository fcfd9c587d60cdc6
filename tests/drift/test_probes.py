"""Probes from end to end: golden prompts to a real gateway, and what is told of the answers."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import sys
from typing import Any

import aiohttp
import pytest

from tests.collector import Collector, attributes
from tests.conftest import StartGateway, StartSimulator
from tests.drift.test_gateway import WATCH, Receiver, calls, receiver, told
from tests.running import KEY, ROOT, Gateway, eventually, policy_for

__all__ = ["receiver"]
PROMPTS = 8
TARGET = "upstream/gpt-4o"


def probes(**told: Any) -> str:
    """A policy's section: one suite that is asked by hand, unless `told` says otherwise."""
    prompts = {f"p{number}": {"ask": f"What is {number}?"} for number in range(PROMPTS - 1)}
    prompts["right"] = {"ask": "Say something.", "regex": ".+"}
    suite = {"name": "core", "prompts": prompts, "targets": ["gpt-4o"], "every": "1d", **told}
    budget = suite.pop("budget", {"usd_per_day": 5, "max_tokens_per_day": 10_000_000})
    section = {"suites": [suite], "budget": budget}
    return "\n" + WATCH.strip()[:-1] + f", probes: {json.dumps(section)}}}\n"


async def probe(gateway: Gateway, *arguments: str) -> tuple[int, str]:
    """`headgate probe …`: its exit code, and all it says."""
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "gateway.cli.main", "probe", *arguments, "--state", str(gateway.state)),
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.STDOUT,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
    )
    said, _ = await process.communicate()
    return process.returncode or 0, said.decode()


async def run(http: aiohttp.ClientSession, gateway: Gateway, times: int = 1) -> list[dict[str, Any]]:
    """All prompts of the suite, so many times; the lines of the last."""
    found: dict[str, Any] = {}
    for _ in range(times):
        async with http.post(f"{gateway.admin}/admin/probes/run", json={"suite": "core"}) as answer:
            assert answer.status == 202, await answer.text()
            where = f"{gateway.admin}/admin/probes/run?id={(await answer.json())['id']}"

        async def is_done() -> bool:
            async with http.get(where) as answer:  # noqa: B023
                found.update(await answer.json())
            return bool(found["done"])

        await eventually(is_done, says=gateway.said)
    return list(found["lines"])


async def standing(http: aiohttp.ClientSession, gateway: Gateway) -> dict[str, Any]:
    async with http.get(f"{gateway.admin}/admin/probes") as answer:
        return dict(await answer.json())


async def test_a_change_is_found_by_golden_prompts_alone(
    serve: StartGateway,
    simulate: StartSimulator,
    http: aiohttp.ClientSession,
    receiver: tuple[str, Receiver],
    collector: Collector,
) -> None:
    simulator = await simulate(change_at=5 * PROMPTS + 1, change_style="terse")
    alerts = f'\nalerts: {{webhook: "{receiver[0]}"}}\n'
    policy = policy_for(str(simulator.url), rest=probes() + alerts)
    gateway = await serve(policy, environ=collector.environ())
    lines = await run(http, gateway, 5)
    assert [line["result"] for line in lines] == ["ok"] * PROMPTS
    assert lines[-1]["passes"] is True and lines[0]["passes"] is None and lines[0]["agreement"] == 1.0
    (suite,) = (await standing(http, gateway))["suites"]
    assert (suite["state"], suite["evidence"], suite["learnt"]) == ("ok", 0.0, PROMPTS)
    lines = await run(http, gateway, 3)
    assert all(line["agreement"] < 0.5 for line in lines[:-1])
    (suite,) = (await standing(http, gateway))["suites"]
    assert suite["state"] == "drift" and suite["evidence"] >= 6
    labels = {"suite": "core", "target": TARGET}
    assert await gateway.metric("headgate_probe_log10_evidence", **labels) >= 6
    assert await gateway.metric("headgate_probe_runs_total", **labels, result="ok") == 8 * PROMPTS
    assert await gateway.metric("headgate_probe_cost_usd_total", **labels) > 0
    async with asyncio.timeout(10):
        while not (sent := [json.loads(body) for _, body in receiver[1].came_of("drift.probes")]):
            await receiver[1].anything.wait()
    assert sent[0]["id"] == f"drift_{suite['alarm']['id']}" and sent[0]["suite"] == "core"
    await eventually(lambda: len(events(collector, "gen_ai.evaluation.result")) == 8 * PROMPTS)
    event = events(collector, "gen_ai.evaluation.result")[PROMPTS - 1]
    assert event["gen_ai.evaluation.name"] == "core/right"
    assert event["gen_ai.evaluation.score.label"] == "pass"
    await eventually(lambda: events(collector, "headgate.drift.detected"))
    code, said = await probe(gateway, "status")
    assert code == 1 and "changed since" in said and "$" in said
    code, said = await probe(gateway, "reset", "core")
    assert code == 0 and f"answers of {TARGET} are learnt anew" in said
    code, said = await probe(gateway, "status")
    assert code == 0 and "learning" in said


def events(collector: Collector, name: str) -> list[dict[str, Any]]:
    return [attributes(record.attributes) for record in collector.events if record.event_name == name]


async def test_probes_confirm_an_alarm_of_answers(
    serve: StartGateway, simulate: StartSimulator, http: aiohttp.ClientSession
) -> None:
    simulator = await simulate(change_at=300 + 5 * PROMPTS + 1, change_style="terse")
    gateway = await serve(policy_for(str(simulator.url), rest=probes()))
    await calls(http, gateway, range(300))
    await told(http, gateway, lambda stream: stream["answers"] == 300)
    await run(http, gateway, 5)
    await run(http, gateway, 3)
    assert (await standing(http, gateway))["suites"][0]["state"] == "drift"
    await calls(http, gateway, range(300, 380))
    stream = await told(http, gateway, lambda stream: stream["state"] == "drift" and stream["answers"] >= 380)
    assert stream["alarm"]["cause"] == "confirmed"
    assert stream["answers"] == 380, "answers to probes are not among them"


async def test_a_day_costs_no_more_than_its_budget(
    serve: StartGateway, simulate: StartSimulator, http: aiohttp.ClientSession
) -> None:
    simulator = await simulate()
    policy = policy_for(str(simulator.url), rest=probes(budget={"usd_per_day": 0.0005}))
    gateway = await serve(policy)
    lines = await run(http, gateway, 4)
    assert lines[-1]["result"] == "budget" and "budget" in lines[-1]["why"]
    today = (await standing(http, gateway))["today"]
    assert 0 < today["nanousd"] <= 500_000
    assert await gateway.metric("headgate_probe_runs_total", result="budget") > 0
    async with http.get(f"{str(simulator.url).removesuffix('/v1')}/_simulator/bill") as answer:
        billed = await answer.json()
    assert billed["total"]["attempts"] < 4 * PROMPTS


async def test_what_was_learnt_and_spent_outlives_a_kill(
    serve: StartGateway, simulate: StartSimulator, http: aiohttp.ClientSession
) -> None:
    simulator = await simulate()
    gateway = await serve(policy_for(str(simulator.url), rest=probes()))
    await run(http, gateway, 2)
    before = await standing(http, gateway)
    os.kill(gateway.running()["control_pid"], signal.SIGKILL)
    await gateway.ready()
    await eventually(lambda: has_asked(http, gateway, 2 * PROMPTS))
    after = await standing(http, gateway)
    assert after["today"] == before["today"]
    assert after["suites"][0]["learnt"] == before["suites"][0]["learnt"]
    await run(http, gateway)
    assert await has_asked(http, gateway, 3 * PROMPTS)


async def has_asked(http: aiohttp.ClientSession, gateway: Gateway, times: int) -> bool:
    told = await standing(http, gateway)
    return bool(told["suites"]) and told["suites"][0]["asked"] == times


async def test_a_schedule_is_kept(
    serve: StartGateway, simulate: StartSimulator, http: aiohttp.ClientSession
) -> None:
    simulator = await simulate()
    gateway = await serve(policy_for(str(simulator.url), rest=probes(every="1s", shards=2, jitter="0%")))

    async def went_round() -> bool:
        told = await standing(http, gateway)
        return bool(told["suites"]) and told["suites"][0]["asked"] >= 2 * PROMPTS

    await eventually(went_round, within_s=20, says=gateway.said)


async def test_nobody_else_may_use_their_way(
    serve: StartGateway, simulate: StartSimulator, http: aiohttp.ClientSession
) -> None:
    """Their models are no caller's, limits of everybody are not theirs, and they stand in no list."""
    simulator = await simulate()
    limits = "\nlimits: [{name: all, requests: 1/h, burst: 1}]"
    limits += "\nbudgets: [{name: none, usd: 0.0000001, every: day}]"
    gateway = await serve(policy_for(str(simulator.url), rest=probes() + limits))
    lines = await run(http, gateway)
    assert [line["result"] for line in lines] == ["ok"] * PROMPTS
    headers = {"authorization": f"Bearer {KEY}"}
    body = {"model": f"_probe:{TARGET}", "messages": [{"role": "user", "content": "x"}]}
    async with http.post(f"{gateway.url}/chat/completions", json=body, headers=headers) as answer:
        assert answer.status == 403
    async with http.get(f"{gateway.url}/models", headers=headers) as answer:
        assert "_probe" not in await answer.text()
    async with http.get(f"{gateway.admin}/admin/targets") as answer:
        assert "_probe" not in await answer.text()
    assert await gateway.metric("headgate_requests_total", team="_probes") == PROMPTS


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        (("run", "nothing"), "There is no suite 'nothing' with a target; there are: core."),
        (("run", "core", "--target", "x/y"), "does not ask 'x/y'; it asks: upstream/gpt-4o."),
    ],
)
async def test_a_wrong_name_is_told(
    serve: StartGateway, simulate: StartSimulator, arguments: tuple[str, ...], expected: str
) -> None:
    gateway = await serve(policy_for(str((await simulate()).url), rest=probes()))
    code, said = await probe(gateway, *arguments)
    assert code == 2 and expected in said


async def test_a_run_by_hand_shows_each_verdict(serve: StartGateway, simulate: StartSimulator) -> None:
    gateway = await serve(policy_for(str((await simulate()).url), rest=probes()))
    code, said = await probe(gateway, "run", "core")
    assert code == 0 and "1 of 1 as expected, 0 without an answer" in said and "passes" in said
    code, said = await probe(gateway, "run", "core", "--json")
    assert code == 0 and len(json.loads(said)["answers"]) == PROMPTS
