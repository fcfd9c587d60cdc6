"""All parts together: what a provider that keeps to the cap bills is never above what was held, and that is
never above what was left."""

from __future__ import annotations

from typing import Any

import orjson
from hypothesis import event, given, settings
from hypothesis import strategies as st

from gateway.pricing.price import Price
from gateway.quota.bound import bound_input
from gateway.quota.cap import asked_of, cap_of, fitting_cap, floor_of, is_reasoning, written
from gateway.simulator import answers, tokens
from gateway.usage import Usage, split_usage
from gateway.wire.dialects.openai_chat import CAP_FIELDS, read_call, write_body
from tests.pricing.test_worst import tables
from tests.quota import sounds

PICTURE = {"type": "image_url", "image_url": {"url": "data:image/png;base64," + "A" * 300}}
SPEECH = {"type": "input_audio", "input_audio": {"data": sounds.SPEECH, "format": "wav"}}
CONTENTS = st.text(max_size=80) | st.lists(
    st.builds(lambda text: {"type": "text", "text": text}, st.text(max_size=40))
    | st.sampled_from((PICTURE, SPEECH)),
    max_size=3,
)
INPUTS, OUTPUTS = ("input", "cached_input", "cache_write"), ("output", "reasoning")
TOOL = {
    "type": "function",
    "function": {"name": "look", "parameters": {"type": "object", "properties": {"a": {"type": "string"}}}},
}
BODIES = st.fixed_dictionaries(
    {
        "model": st.sampled_from(("gpt-4o", "o3", "gpt-5-mini")),
        "messages": st.lists(
            st.builds(lambda text: {"role": "user", "content": text}, CONTENTS), min_size=1, max_size=3
        ),
    },
    optional={
        "n": st.integers(1, 4),
        "max_tokens": st.integers(1, 7_000),
        "max_completion_tokens": st.integers(1, 7_000),
        "tools": st.just([TOOL]),
        "tool_choice": st.sampled_from(("auto", "required")),
        "service_tier": st.sampled_from(("auto", "default", "flex", "priority")),
    },
)


@settings(deadline=None, max_examples=150)
@given(
    fields=BODIES,
    table=tables(),
    left_percent=st.just(100) | st.integers(60, 130) | st.integers(0, 130),
    default=st.integers(1, 20_000),
    field=st.sampled_from(("max_tokens", "max_completion_tokens")),
)
def test_bill_is_within_the_hold_and_the_hold_within_what_is_left(
    fields: dict[str, Any],
    table: dict[str, Any],
    left_percent: int,
    default: int,
    field: str,
) -> None:
    price = Price.from_table(table)
    call = read_call("chat", orjson.dumps(fields))
    bound, asked = bound_input(call), asked_of(call)
    floor = floor_of(is_reasoning=is_reasoning(call.model))
    worst = price.worst(
        bound.tokens, has_audio=bound.has_audio, service_tier=call.fields.get("service_tier") or ""
    )
    wanted = cap_of(asked, endpoint="chat", default_tokens=default, floor=floor)
    left = worst.nanousd(bound.tokens, asked.output_tokens(wanted)) * left_percent // 100
    cap = fitting_cap(asked, wanted, worst.output_for(left, bound.tokens), floor)
    event("refused" if cap is None else "shrunk" if cap < wanted else "whole")
    if cap is None:
        assert worst.nanousd(bound.tokens, asked.output_tokens(min(wanted, floor))) > left
        return
    held = worst.nanousd(bound.tokens, asked.output_tokens(cap))
    assert held <= left

    body = orjson.loads(write_body(call, call.model, cap=written(call, cap, field)))
    pinned = call.fields.get("service_tier")
    tier = pinned if pinned in ("flex", "priority") else "default"
    # A model that would go on for ever, at the simulated provider.
    choices = answers.chat(1, body, "plain", 40_000 if cap < 20_000 else 1)
    reasoning = sum(choice.reasoning_tokens for choice in choices)
    output = reasoning + sum(choice.visible_tokens for choice in choices)
    prompt = tokens.chat_prompt(body)
    assert prompt <= bound.tokens
    assert output <= asked.output_tokens(cap)
    usage = split_usage(prompt, output, reasoning=reasoning)
    usage.service_tier = tier
    assert price.cost_nanousd(usage) <= held
    # One that counts as many tokens as its body can hold, all of the kind that hurts most.
    most = body.get("n", 1) * max(body[name] for name in CAP_FIELDS if name in body)
    for taken in (*INPUTS, "audio_input")[: 3 + bound.has_audio]:
        for given_out in (*OUTPUTS, "audio_output")[: 2 + bound.has_audio]:
            full = Usage(**{taken: bound.tokens, given_out: most}, service_tier=tier)
            assert price.cost_nanousd(full) <= held
