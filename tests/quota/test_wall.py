"""All parts together: what a provider that keeps to the cap bills is never above what was held, and that is
never above what was left."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import product
from typing import Any

import orjson
from hypothesis import event, given, settings
from hypothesis import strategies as st

from gateway.pricing.price import Price
from gateway.quota.bound import bound_input
from gateway.quota.cap import asked_of, cap_of, fitting_cap, floor_of, is_reasoning, written
from gateway.simulator import answers, tokens
from gateway.usage import KINDS, Usage, split_usage
from gateway.wire.dialects.openai_chat import CAP_FIELDS, read_call, write_body
from tests.pricing.test_worst import ANSWERED, billed, tables
from tests.quota import sounds

PICTURE = {"type": "image_url", "image_url": {"url": "data:image/png;base64," + "A" * 300}}
SPEECH = {"type": "input_audio", "input_audio": {"data": sounds.SPEECH, "format": "wav"}}
CONTENTS = st.text(max_size=80) | st.lists(
    st.builds(lambda text: {"type": "text", "text": text}, st.text(max_size=40))
    | st.sampled_from((PICTURE, SPEECH)),
    max_size=3,
)
TOOL = {
    "type": "function",
    "function": {"name": "look", "parameters": {"type": "object", "properties": {"a": {"type": "string"}}}},
}
CAPS = st.integers(1, 300) | st.integers(1, 7_000)
CONTEXT = 128_000
BODIES = st.fixed_dictionaries(
    {
        "model": st.sampled_from(("gpt-4o", "o3", "gpt-5-mini")),
        "messages": st.lists(
            st.builds(lambda text: {"role": "user", "content": text}, CONTENTS), min_size=1, max_size=3
        ),
    },
    optional={
        "n": st.integers(1, 4),
        "max_tokens": CAPS,
        "max_completion_tokens": CAPS,
        "tools": st.just([TOOL]),
        "tool_choice": st.sampled_from(("auto", "required")),
        "service_tier": st.sampled_from(("auto", "default", "flex", "priority")),
        "modalities": st.just(["text", "audio"]),
    },
)


@settings(deadline=None, max_examples=80)
@given(
    data=st.data(),
    fields=BODIES,
    elsewhere=st.sampled_from(({}, {}, {}, {"web_search_options": {}}, {"previous_response_id": "resp_1"})),
    table=tables(),
    left_percent=st.just(100) | st.integers(0, 130),
    default=st.integers(1, 300) | st.integers(1, 20_000),
    field=st.sampled_from(("max_tokens", "max_completion_tokens")),
)
def test_bill_is_within_the_hold_and_the_hold_within_what_is_left(
    data: st.DataObject,
    fields: dict[str, Any],
    elsewhere: dict[str, Any],
    table: dict[str, Any],
    left_percent: int,
    default: int,
    field: str,
) -> None:
    price = Price.from_table(table)
    fields = {**fields, **elsewhere}
    call = read_call("chat", orjson.dumps(fields))
    bound, asked = bound_input(call), asked_of(call)
    input_tokens = bound.held_tokens(CONTEXT)
    assert input_tokens == (CONTEXT if elsewhere else bound.tokens)
    floor = floor_of(is_reasoning=is_reasoning(call.model))
    pinned = fields.get("service_tier", "")
    worst = price.worst(input_tokens, has_audio=bound.has_audio, service_tier=pinned, searches=bound.searches)
    wanted = cap_of(asked, endpoint="chat", default_tokens=default, floor=floor)
    least, whole = (worst.nanousd(input_tokens, asked.output_tokens(out)) for out in (0, wanted))
    left = least + (whole - least) * left_percent // 100
    cap = fitting_cap(asked, wanted, worst.output_for(left, input_tokens), floor)
    event("refused" if cap is None else "shrunk" if cap < wanted else "whole")
    if cap is None:
        assert worst.nanousd(input_tokens, asked.output_tokens(min(wanted, floor))) > left
        return
    held = worst.nanousd(input_tokens, asked.output_tokens(cap))
    assert held <= left

    body = orjson.loads(write_body(call, call.model, cap=written(call, cap, field)))
    # A model that would go on beyond the cap, at the simulated provider; where the cap is large, its
    # reasoning alone.
    choices = answers.chat(1, body, "plain", cap + 50 if cap <= 500 else 1)
    reasoning = sum(choice.reasoning_tokens for choice in choices)
    output = reasoning + sum(choice.visible_tokens for choice in choices)
    prompt = tokens.chat_prompt(body)
    assert prompt <= bound.tokens
    assert output <= asked.output_tokens(cap)
    # And one that counts as many tokens as there can be: all of one kind, or cut anyhow.
    most = fields.get("n", 1) * max(body[name] for name in CAP_FIELDS if name in body)
    kinds = [kind for kind in KINDS if bound.has_audio or "audio" not in kind]
    bills = [split_usage(prompt, output, reasoning=reasoning)]
    bills += [Usage(**{taken: input_tokens, given_out: most}) for taken, given_out in _pairs(kinds)]
    bills.append(data.draw(billed(input_tokens, most, has_audio=bound.has_audio)))
    if pinned in ("default", *(table.keys() - {"standard", "fees"})):
        answered: tuple[str, ...] = (pinned, "default")
    else:
        answered = ANSWERED
    for usage in bills:
        usage.searches = int("web_search_options" in fields)
        for usage.service_tier in answered:
            assert price.cost_nanousd(usage) <= held


def _pairs(kinds: list[str]) -> Iterator[tuple[str, str]]:
    """Every kind of input with every kind of output."""
    outputs = ("output", "reasoning", "audio_output")
    return product(
        [kind for kind in kinds if kind not in outputs], [kind for kind in kinds if kind in outputs]
    )
