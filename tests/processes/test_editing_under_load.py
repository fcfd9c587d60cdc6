"""An operator edits policy while calls flow: none fails, and each is answered under one policy."""

from __future__ import annotations

import asyncio

import openai

from tests.conftest import StartGateway, StartSimulator
from tests.running import KEY, Gateway, eventually, policy_for

MESSAGES = [{"role": "user", "content": "Which way?"}]
CALLERS = 24


async def test_edits_under_load_fail_no_call_and_move_all_of_them(
    serve: StartGateway, simulate: StartSimulator
) -> None:
    first, second = await simulate(output_tokens=5), await simulate(output_tokens=5)
    gateway = await serve(policy_for(first.url), workers=2)
    stopping = asyncio.Event()
    answered = [0] * CALLERS

    async def call(client: openai.AsyncOpenAI, turn: int) -> None:
        while not stopping.is_set():
            if turn % 2 == 0:
                chunks = [
                    chunk
                    async for chunk in await client.chat.completions.create(
                        model="gpt-4o-mini",
                        messages=MESSAGES,
                        stream=True,  # type: ignore[call-overload]
                    )
                ]
                assert chunks[-1].choices[0].finish_reason == "stop"
            else:
                answer = await client.chat.completions.create(
                    model="gpt-4o-mini",
                    messages=MESSAGES,  # type: ignore[arg-type]
                )
                assert answer.choices[0].message.content
            answered[turn] += 1

    async def each_has_called_anew() -> None:
        """All that was under way is answered, and a call of each caller that began later."""
        before = answered.copy()
        await eventually(lambda: all(now > then + 1 for now, then in zip(answered, before, strict=True)))

    async with (
        openai.AsyncOpenAI(base_url=gateway.url, api_key=KEY, max_retries=0) as client,
        asyncio.TaskGroup() as tasks,
    ):
        for turn in range(CALLERS):
            tasks.create_task(call(client, turn))
        for edit in range(8):
            target = second if edit % 2 == 0 else first
            await gateway.edit(policy_for(target.url))
            await each_has_called_anew()
            others = first if target is second else second
            asked = others.requests.total
            await each_has_called_anew()
            assert others.requests.total == asked, "a call went by the policy before"
        gateway.policy_file.write_text("models: {broken: [}\n")
        await eventually(lambda: _problems(gateway))
        await each_has_called_anew()
        stopping.set()
    assert await gateway.metric("headgate_requests_total", outcome="ok") == sum(answered)
    assert await gateway.metric("headgate_requests_total") == sum(answered)
    assert await gateway.metric("headgate_policy_reloads_total", result="rejected") >= 1
    records = await gateway.log_lines(sum(answered))
    assert {record["outcome"] for record in records} == {"ok"}
    assert first.bill.total().attempts + second.bill.total().attempts == sum(answered)


async def _problems(gateway: Gateway) -> bool:
    return bool((await gateway.admin_json("/admin/policy"))["problems"])
