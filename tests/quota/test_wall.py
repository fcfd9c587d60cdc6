"""All parts together: what a provider that keeps to the cap bills is never above what was held, and that never
above what was left."""

from __future__ import annotations

from typing import Any

import orjson
from hypothesis import given, settings
from hypothesis import strategies as st

from gateway.pricing.price import Price
from gateway.quota.bound import bound_input
from gateway.quota.cap import asked_of, cap_of, fitting_cap, floor_of, is_reasoning, written
from gateway.simulator import answers, tokens
from gateway.usage import split_usage
from gateway.wire.dialects.openai_chat import read_call, write_body
from tests.pricing.test_worst import tables

PICTURE = {"type": "image_url", "image_url": {"url": "data:image/png;base64," + "A" * 300}}
SPEECH = {"type": "input_audio", "input_audio": {"data": "A" * 300, "format": "wav"}}
CONTENTS = st.text(max_size=80) | st.lists(
    st.builds(lambda text: {"type": "text", "text": text}, st.text(max_size=40))
    | st.sampled_from((PICTURE, SPEECH)),
    max_size=3,
)
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
        "max_tokens": st.integers(1, 700),
        "max_completion_tokens": st.integers(1, 700),
        "tools": st.just([TOOL]),
        "tool_choice": st.sampled_from(("auto", "required")),
        "service_tier": st.sampled_from(("auto", "default", "flex", "priority")),
    },
)


@settings(deadline=None, max_examples=120)
@given(
    data=st.data(),
    fields=BODIES,
    table=tables(),
    left=st.integers(0, 10**9) | st.integers(0, 10**14),
    default=st.integers(1, 600),
    length=st.integers(1, 2_000),
    field=st.sampled_from(("max_tokens", "max_completion_tokens")),
)
def test_bill_is_within_the_hold_and_the_hold_within_what_is_left(
    data: st.DataObject,
    fields: dict[str, Any],
    table: dict[str, Any],
    left: int,
    default: int,
    length: int,
    field: str,
) -> None:
    price = Price.from_table(table)
    call = read_call("chat", orjson.dumps(fields))
    bound, asked = bound_input(call), asked_of(call)
    floor = floor_of(is_reasoning=is_reasoning(call.model))
    worst = price.worst(
        bound.tokens, has_audio=bound.has_audio, service_tier=call.fields.get("service_tier") or ""
    )
    cap = fitting_cap(
        asked,
        cap_of(asked, endpoint="chat", default_tokens=default, floor=floor),
        worst.output_for(left, bound.tokens),
        floor,
    )
    if cap is None:
        return
    held = worst.nanousd(bound.tokens, asked.output_tokens(cap))
    assert held <= left

    body = orjson.loads(write_body(call, call.model, cap=written(call, cap, field)))
    choices = answers.chat(1, body, "plain", length)
    reasoning = sum(choice.reasoning_tokens for choice in choices)
    prompt = tokens.chat_prompt(body)
    usage = split_usage(
        prompt,
        reasoning + sum(choice.visible_tokens for choice in choices),
        cached=data.draw(st.integers(0, prompt)),
        written=data.draw(st.integers(0, prompt)),
        audio_in=data.draw(st.integers(0, prompt)) if bound.has_audio else 0,
        reasoning=reasoning,
    )
    pinned = call.fields.get("service_tier")
    usage.service_tier = pinned if pinned in ("flex", "priority") else "default"
    assert price.cost_nanousd(usage) <= held
