"""Targets that fail are left out for a while, tried once, and taken back; the last one never goes."""

from __future__ import annotations

import asyncio

from gateway.simulator.faults import Fault
from tests.conftest import StartSimulator
from tests.line.conftest import StartRelay
from tests.line.test_attempts import two_targets
from tests.relaying import CHAT
from tests.running import eventually, policy_for

PAIR = {**CHAT, "model": "pair"}


async def test_ejected_target_is_not_asked_until_its_time_is_up(
    start: StartRelay, simulate: StartSimulator
) -> None:
    first, second = await simulate(), await simulate()
    relay = await start(
        two_targets(first, second, "retries: {attempts: 0}, health: {failures: 3, eject: 1s}")
    )
    first.script([Fault("status_500")] * 3)
    for _ in range(3):
        assert (await relay.post(PAIR)).headers["x-headgate-target"] == "second/b"
    assert relay.line.health.down
    for _ in range(3):
        answer = await relay.post(PAIR)
        assert (answer.headers["x-headgate-target"], answer.headers["x-headgate-attempts"]) == (
            "second/b",
            "1",
        )
    assert len(first.requests) == 3
    await eventually(lambda: 1 in relay.line.health.down.values())
    assert (await relay.post(PAIR)).headers["x-headgate-target"] == "upstream/a"
    await eventually(lambda: not relay.line.health.down)


async def test_failed_trial_ejects_for_longer(start: StartRelay, simulate: StartSimulator) -> None:
    first, second = await simulate(), await simulate()
    relay = await start(
        two_targets(first, second, "retries: {attempts: 0}, health: {failures: 1, eject: 300ms}")
    )
    first.script([Fault("status_500")] * 2)
    await relay.post(PAIR)
    await eventually(lambda: 1 in relay.line.health.down.values())
    await asyncio.gather(*(relay.post(PAIR) for _ in range(5)))
    assert len(first.requests) == 2, "a trial is one call"
    assert 0 in relay.line.health.down.values()


async def test_only_target_is_asked_however_often_it_fails(
    start: StartRelay, simulate: StartSimulator
) -> None:
    simulator = await simulate()
    policy = policy_for(simulator.url).replace(
        "[upstream/gpt-4o-mini]", "[upstream/gpt-4o-mini], retries: {attempts: 0}, health: {failures: 1}"
    )
    relay = await start(policy)
    simulator.script([Fault("status_500")] * 4)
    for _ in range(4):
        assert (await relay.post()).status == 502
    assert (await relay.post()).status == 200


async def test_refusals_that_are_the_callers_fault_eject_nobody(
    start: StartRelay, simulate: StartSimulator
) -> None:
    first, second = await simulate(), await simulate()
    relay = await start(two_targets(first, second, "health: {failures: 1}"))
    for name in ("status_400", "context_window", "content_filter", "status_422"):
        first.script([Fault(name)])
        await relay.post(PAIR)
    assert not relay.line.health.down
    assert not second.requests
