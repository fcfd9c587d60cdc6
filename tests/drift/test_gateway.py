"""Drift from end to end: a provider changes its answers, and everybody who should know does."""

from __future__ import annotations

import asyncio
import hashlib
import hmac
import json
import os
import signal
import sys
from collections.abc import AsyncIterator, Callable
from typing import Any

import aiohttp
import pytest
from aiohttp import web
from opentelemetry.proto.logs.v1.logs_pb2 import LogRecord

from tests.collector import Collector, attributes
from tests.conftest import StartGateway, StartSimulator
from tests.running import KEY, ROOT, Gateway, eventually, policy_for

WATCH = """
drift: {reference: {arm_at: 100, grow_to: 2000}, sample: {max_per_second: 10000, cpu_share: 100%}}
"""
SYSTEMS = ("You help with cooking.", "You help with travel.")


async def call(
    http: aiohttp.ClientSession,
    gateway: Gateway,
    number: int,
    *,
    system: str = SYSTEMS[0],
    stream: bool = False,
    model: str = "gpt-4o",
    messages: bool = False,
) -> None:
    """One call; `messages`: in Anthropic's dialect."""
    asked = [{"role": "user", "content": f"Question {number}?"}]
    body: dict[str, Any] = {"model": model, "stream": stream}
    if messages:
        path, body = "messages", {**body, "system": system, "messages": asked, "max_tokens": 4096}
    else:
        path, body["messages"] = "chat/completions", [{"role": "system", "content": system}, *asked]
    headers = {"authorization": f"Bearer {KEY}"}
    async with http.post(f"{gateway.url}/{path}", json=body, headers=headers) as answer:
        assert answer.status == 200
        await answer.read()


BATCH = 40
"""Calls whose answers may be on their way to control: of more a busy machine drops some, since they are sent
last and nobody waits for them."""


async def calls(http: aiohttp.ClientSession, gateway: Gateway, numbers: range, **more: Any) -> None:
    before = 0.0 if len(numbers) <= BATCH else await _seen(gateway)
    for first in range(numbers.start, numbers.stop, 8):
        sent = first - numbers.start
        if sent and sent % BATCH == 0:
            await eventually(lambda: _have_come(gateway, before + sent))  # noqa: B023
        eight = range(first, min(first + 8, numbers.stop))
        await asyncio.gather(*(call(http, gateway, number, **more) for number in eight))


async def _seen(gateway: Gateway) -> float:
    """Answers that were looked at, or that it is known of that they were not."""
    return await gateway.metric("headgate_drift_analyzed_total") + await gateway.metric(
        "headgate_drift_skipped_total"
    )


async def _have_come(gateway: Gateway, answers: float) -> bool:
    return await _seen(gateway) >= answers


async def told(
    http: aiohttp.ClientSession, gateway: Gateway, until: Callable[[dict[str, Any]], bool]
) -> dict[str, Any]:
    """The one stream, once it is as it should be."""

    found: list[dict[str, Any]] = []

    async def holds() -> bool:
        async with http.get(f"{gateway.admin}/admin/drift") as answer:
            found[:] = (await answer.json())["streams"]
        return bool(found) and until(found[0])

    await eventually(holds, says=lambda: f"{found} {gateway.said()}")
    return found[0]


async def exemplars_of(http: aiohttp.ClientSession, gateway: Gateway) -> list[dict[str, str]]:
    """Texts that the gateway shows of answers since the change."""
    query = {"model": "gpt-4o", "target": "upstream/gpt-4o"}
    async with http.get(f"{gateway.admin}/admin/drift/exemplars", params=query) as answer:
        found: list[dict[str, str]] = (await answer.json())["exemplars"]
    return found


class Receiver:
    """A webhook's receiver: all that came, and what came of answers' drift."""

    def __init__(self) -> None:
        self.all: list[tuple[dict[str, str], bytes]] = []
        self.anything = asyncio.Event()
        self.has_some = asyncio.Event()

    async def take(self, request: web.Request) -> web.Response:
        body = await request.read()
        self.all.append((dict(request.headers), body))
        self.anything.set()
        self.anything = asyncio.Event()
        if json.loads(body)["type"] == "drift.detected":
            self.has_some.set()
        return web.Response()

    def came_of(self, kind: str) -> list[tuple[dict[str, str], bytes]]:
        return [came for came in self.all if json.loads(came[1])["type"] == kind]

    @property
    def came(self) -> list[tuple[dict[str, str], bytes]]:
        return self.came_of("drift.detected")


@pytest.fixture
async def receiver() -> AsyncIterator[tuple[str, Receiver]]:
    """A webhook's address, and what came there."""
    told_of, app = Receiver(), web.Application()
    app.router.add_post("/hook", told_of.take)
    runner = web.AppRunner(app)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    yield f"http://127.0.0.1:{runner.addresses[0][1]}/hook", told_of
    await runner.cleanup()


async def test_a_provider_that_changes_its_answers_is_found_and_told_of(
    serve: StartGateway,
    simulate: StartSimulator,
    http: aiohttp.ClientSession,
    receiver: tuple[str, Receiver],
    collector: Collector,
) -> None:
    url, told_of = receiver
    simulator = await simulate(change_at=401, change_style="terse")
    environ = collector.environ(HOOK_SECRET="s" * 20)
    alerts = f'\nalerts: {{webhook: "{url}", secret: {{env: HOOK_SECRET}}}}\n'
    watch = WATCH.replace("drift: {", "drift: {privacy: {exemplars: text}, ")
    gateway = await serve(policy_for(str(simulator.url), rest=watch + alerts), environ=environ)
    await calls(http, gateway, range(400))
    stream = await told(http, gateway, lambda stream: stream["answers"] == 400)
    assert stream["state"] == "ok" and stream["target"] == "upstream/gpt-4o"
    await calls(http, gateway, range(400, 480))
    stream = await told(http, gateway, lambda stream: stream["state"] == "drift")
    alarm = stream["alarm"]
    assert alarm["kind"] == "answers" and alarm["cause"] == "model"
    assert alarm["answers"] <= 60 and alarm["evidence"] > 6.3
    names = {"model": "gpt-4o", "target": "upstream/gpt-4o"}
    exemplars = await exemplars_of(http, gateway)
    assert [exemplar["hash"] for exemplar in exemplars] == alarm["exemplars"] != []
    assert all(exemplar["text"] for exemplar in exemplars)
    _, said = await headgate(gateway, "explain", "gpt-4o")
    assert f"{exemplars[0]['hash']}  {exemplars[0]['text'][:20]}" in said
    assert await gateway.metric("headgate_drift_state", **names) == 4
    assert await gateway.metric("headgate_drift_alarms_total", **names, kind="answers", cause="model") == 1
    since_s = await gateway.metric("headgate_drift_changepoint_timestamp_seconds", **names)
    assert since_s == pytest.approx(alarm["since_s"])
    async with asyncio.timeout(10):
        await told_of.has_some.wait()
    headers, body = told_of.came[0]
    sent = json.loads(body)
    assert sent["type"] == "drift.detected" and sent["id"] == f"drift_{alarm['id']}"
    assert sent["moved"][0]["channel"] == alarm["moved"][0]["channel"]
    moment, _, signed = headers["x-headgate-signature"].partition(",v1=")
    expected = hmac.new(b"s" * 20, moment[2:].encode() + b"." + body, hashlib.sha256).hexdigest()
    assert hmac.compare_digest(signed, expected)
    await eventually(lambda: any(_is_of(record, alarm["id"]) for record in collector.events))
    record = next(record for record in collector.events if _is_of(record, alarm["id"]))
    event = attributes(record.attributes)
    assert record.event_name == "headgate.drift.detected"
    assert event["headgate.drift.channel"] == alarm["moved"][0]["channel"]
    assert event["headgate.drift.since"] == alarm["since_s"]


def _is_of(record: LogRecord, id_: str) -> bool:
    return bool(attributes(record.attributes)["headgate.drift.id"] == id_)


async def test_the_command_line_says_it_in_words_and_ends_it(
    serve: StartGateway, simulate: StartSimulator, http: aiohttp.ClientSession
) -> None:
    simulator = await simulate(change_at=301, change_style="terse")
    gateway = await serve(policy_for(str(simulator.url), rest=WATCH))
    await calls(http, gateway, range(300))
    await told(http, gateway, lambda stream: stream["answers"] == 300)
    code, said = await headgate(gateway, "status")
    assert code == 0 and "gpt-4o" in said and " ok " in said
    code, said = await headgate(gateway, "baseline", "pin", "gpt-4o", "--name", "before")
    assert code == 0 and "pinned 300 answers as before" in said
    await calls(http, gateway, range(300, 400))
    await told(http, gateway, lambda stream: stream["state"] == "drift")
    code, said = await headgate(gateway, "status")
    assert code == 1 and " drift " in said
    code, said = await headgate(gateway, "explain", "gpt-4o")
    assert code == 0 and "answers changed since" in said and "Nothing else changed with it" in said
    assert "█" in said and "Answers since" not in said
    assert await exemplars_of(http, gateway) == [], "no text is kept unless the policy says so"
    code, said = await headgate(gateway, "status", "--json")
    assert json.loads(said)["streams"][0]["baselines"][0]["name"] == "before"
    code, said = await headgate(gateway, "reset", "gpt-4o")
    assert code == 0 and "is the reference" in said
    code, said = await headgate(gateway, "explain", "no-such-model")
    assert code == 2 and "No answers of no-such-model are watched yet; of these they are: gpt-4o." in said


async def headgate(gateway: Gateway, *arguments: str) -> tuple[int, str]:
    """`headgate drift …`: its exit code, and all it says."""
    process = await asyncio.create_subprocess_exec(
        sys.executable,
        "-m",
        "gateway.cli.main",
        "drift",
        *arguments,
        "--state",
        str(gateway.state),
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.STDOUT,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
    )
    said, _ = await process.communicate()
    return process.returncode or 0, said.decode()


async def test_another_mix_of_questions_is_no_drift(
    serve: StartGateway, simulate: StartSimulator, http: aiohttp.ClientSession
) -> None:
    simulator = await simulate()
    gateway = await serve(policy_for(str(simulator.url), rest=WATCH))
    for number in range(0, 400, 8):
        system = SYSTEMS[1] if number % 80 == 0 else SYSTEMS[0]
        await calls(http, gateway, range(number, number + 8), system=system)
    for number in range(400, 700, 8):
        system = SYSTEMS[0] if number % 80 == 0 else SYSTEMS[1]
        await calls(http, gateway, range(number, number + 8), system=system)
    stream = await told(http, gateway, lambda stream: stream["answers"] >= 700)
    assert stream["state"] in ("ok", "notice")
    assert len(stream["strata"]) == 3


async def test_streams_are_read_as_plain_answers_are_and_other_dialects_as_chat(
    serve: StartGateway, simulate: StartSimulator, http: aiohttp.ClientSession
) -> None:
    """The same answers, streamed from some call on, then to callers of another dialect: no channel of their
    text moves, and their prompts are of the same kind."""
    simulator = await simulate()
    gateway = await serve(policy_for(str(simulator.url), rest=WATCH))
    await calls(http, gateway, range(300))
    await calls(http, gateway, range(300, 500), stream=True)
    await calls(http, gateway, range(500, 600), messages=True)
    await calls(http, gateway, range(600, 700), messages=True, stream=True)
    stream = await told(http, gateway, lambda stream: stream["answers"] == 700)
    assert stream["state"] == "ok"
    assert len(stream["strata"]) == 2


async def test_what_failed_or_was_cut_is_not_looked_at(
    serve: StartGateway, simulate: StartSimulator, http: aiohttp.ClientSession
) -> None:
    simulator = await simulate()
    gateway = await serve(policy_for(str(simulator.url), rest=WATCH))
    headers = {"authorization": f"Bearer {KEY}"}
    body = {"model": "gpt-4o", "messages": [{"role": "user", "content": "x"}], "stream": True}
    async with http.post(
        f"{gateway.url}/chat/completions", json={**body, "simulate": {"fault": "cut"}}, headers=headers
    ) as answer:
        await answer.read()
    embedding = {"model": "text-embedding-3-small", "input": "x"}
    async with http.post(f"{gateway.url}/embeddings", json=embedding, headers=headers) as answer:
        assert answer.status == 200
        await answer.read()
    await call(http, gateway, 1)
    stream = await told(http, gateway, lambda stream: stream["answers"] == 1)
    assert stream["model"] == "gpt-4o"
    assert await gateway.metric("headgate_drift_skipped_total", reason="failed") == 1


async def test_a_model_may_be_left_out(
    serve: StartGateway, simulate: StartSimulator, http: aiohttp.ClientSession
) -> None:
    simulator = await simulate()
    models = "  quiet: {targets: [upstream/gpt-4o], drift: {enabled: false}}"
    gateway = await serve(policy_for(str(simulator.url), rest=WATCH, models=models))
    headers = {"authorization": f"Bearer {KEY}"}
    body = {"model": "quiet", "messages": [{"role": "user", "content": "x"}]}
    async with http.post(f"{gateway.url}/chat/completions", json=body, headers=headers) as answer:
        assert answer.status == 200
    await call(http, gateway, 1)
    await told(http, gateway, lambda stream: stream["answers"] == 1)
    async with http.get(f"{gateway.admin}/admin/drift") as answer:
        assert [stream["model"] for stream in (await answer.json())["streams"]] == ["gpt-4o"]


async def test_a_killed_control_neither_loses_an_alarm_nor_tells_it_twice(
    serve: StartGateway, simulate: StartSimulator, http: aiohttp.ClientSession, receiver: tuple[str, Receiver]
) -> None:
    url, told_of = receiver
    simulator = await simulate(change_at=301, change_style="terse")
    gateway = await serve(policy_for(str(simulator.url), rest=f'{WATCH}\nalerts: {{webhook: "{url}"}}\n'))
    await calls(http, gateway, range(300))
    await calls(http, gateway, range(300, 380))
    stream = await told(http, gateway, lambda stream: stream["state"] == "drift")
    for _ in range(3):
        os.kill(gateway.running()["control_pid"], signal.SIGKILL)
        await gateway.ready()
    again = await told(http, gateway, lambda stream: stream["state"] == "drift")
    assert again["alarm"]["id"] == stream["alarm"]["id"]
    await calls(http, gateway, range(380, 420))
    async with asyncio.timeout(10):
        await told_of.has_some.wait()
    assert {json.loads(body)["id"] for _, body in told_of.came} == {f"drift_{stream['alarm']['id']}"}
    assert await gateway.metric("headgate_drift_alarms_total", kind="answers") == 1


async def test_calls_go_elsewhere_while_the_alarm_stands_if_the_policy_says_so(
    serve: StartGateway, simulate: StartSimulator, http: aiohttp.ClientSession
) -> None:
    simulator, spare = await simulate(change_at=301, change_style="terse"), await simulate()
    spare_too = f'  spare: {{base_url: "{spare.url}", api_key: {{env: UPSTREAM_KEY}}}}\nmodels:'
    action = "drift: {on_alarm: {pin: spare/gpt-4o}}"
    model = f"  chat: {{targets: [upstream/gpt-4o, spare/gpt-4o], {action}}}"
    policy = policy_for(str(simulator.url), rest=WATCH, models=model)
    gateway = await serve(policy.replace("models:", spare_too, 1))
    await calls(http, gateway, range(300), model="chat")
    assert await requests_of(http, str(spare.url)) == 0
    await calls(http, gateway, range(300, 380), model="chat")
    names = {"model": "chat", "target": "upstream/gpt-4o"}
    await eventually(lambda: gateway.metric("headgate_drift_action", **names), says=gateway.said)
    assert "chat: upstream/gpt-4o drifts, and calls begin at spare/gpt-4o" in gateway.said()
    await eventually(lambda: is_answered_by(http, gateway, "spare/gpt-4o"))
    taken = await requests_of(http, str(simulator.url))
    await calls(http, gateway, range(400, 408), model="chat")
    assert await requests_of(http, str(simulator.url)) == taken
    code, said = await headgate(gateway, "explain", "chat", "--target", "upstream/gpt-4o")
    assert code == 0 and "As the policy says, calls begin at spare/gpt-4o until then." in said
    code, said = await headgate(gateway, "reset", "chat", "--target", "upstream/gpt-4o")
    assert code == 0
    await eventually(lambda: is_answered_by(http, gateway, "upstream/gpt-4o"))
    assert "chat: its calls go by the policy again" in gateway.said()


async def requests_of(http: aiohttp.ClientSession, url: str) -> int:
    async with http.get(f"{url.removesuffix('/v1')}/_simulator/requests") as answer:
        return int((await answer.json())["total"])


async def is_answered_by(http: aiohttp.ClientSession, gateway: Gateway, target: str) -> bool:
    body = {"model": "chat", "messages": [{"role": "user", "content": "Who is it?"}]}
    headers = {"authorization": f"Bearer {KEY}"}
    async with http.post(f"{gateway.url}/chat/completions", json=body, headers=headers) as answer:
        await answer.read()
        return answer.headers["x-headgate-target"] == target
