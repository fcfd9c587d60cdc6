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
    answered = 0

    async def call(client: openai.AsyncOpenAI, stream: bool) -> None:
        nonlocal answered
        while not stopping.is_set():
            if stream:
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
            answered += 1

    async with (
        openai.AsyncOpenAI(base_url=gateway.url, api_key=KEY, max_retries=0) as client,
        asyncio.TaskGroup() as tasks,
    ):
        for turn in range(CALLERS):
            tasks.create_task(call(client, turn % 2 == 0))
        for edit in range(8):
            target = second if edit % 2 == 0 else first
            before = answered
            await gateway.edit(policy_for(target.url))
            await eventually(lambda before=before: answered > before + 2 * CALLERS)
            others = first if target is second else second
            asked = others.requests.total
            before = answered
            await eventually(lambda before=before: answered > before + 2 * CALLERS)
            assert others.requests.total == asked, "a call went by the policy before"
        gateway.policy_file.write_text("models: {broken: [}\n")
        await eventually(lambda: _problems(gateway))
        before = answered
        await eventually(lambda before=before: answered > before + 2 * CALLERS)
        stopping.set()
    assert await gateway.metric("headgate_requests_total", outcome="ok") == answered
    assert await gateway.metric("headgate_requests_total") == answered
    assert await gateway.metric("headgate_policy_reloads_total", result="rejected") >= 1
    records = await gateway.log_lines(answered)
    assert {record["outcome"] for record in records} == {"ok"}
    assert first.bill.total().attempts + second.bill.total().attempts == answered


async def _problems(gateway: Gateway) -> bool:
    return bool((await gateway.admin_json("/admin/policy"))["problems"])
