"""Bytes bound tokens: no text, however nasty, has more tokens in any vocabulary than its body has bytes."""

from __future__ import annotations

import base64
import json
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gateway.quota.bound import IMAGE_TOKENS, OVERHEAD_TOKENS, TOOLS_TOKENS, Bound, bound_input, within
from gateway.usage import Usage
from gateway.wire.dialects.openai_chat import Call, read_call
from tests.quota.sounds import wav
from tests.quota.vocabulary import NAMES, counted, prompt_tokens

SOLID = "https://example.org/cat.png"
PIXELS = "data:image/png;base64," + "A" * 40_000


def call_of(endpoint: str = "chat", /, **fields: Any) -> Call:
    return read_call(endpoint, json.dumps({"model": "m", **fields}).encode())


def asks(*parts: Any, **fields: Any) -> Call:
    return call_of(messages=[{"role": "user", "content": list(parts)}], **fields)


def says(**fields: Any) -> Call:
    """A call of plain text: the short way, if no field says more."""
    return call_of(messages=[{"role": "user", "content": "x"}], **fields)


def image(url: Any) -> dict[str, Any]:
    return {"type": "image_url", "image_url": {"url": url}}


ZALGO = "Z͑ͫ̓ͪ̂ͫ̽͏̴̙̤̞͉͚̯̞̠͍A̴̵̜̰͔ͫ͗͢L̠ͨͧͩ͘G̴̻͈͍͔̹̑͗̎̅͛́Ǫ̵̹̻̝̳͂̌̌͘!͖̬̰̙̗̿̋ͥͥ̂ͣ̐́́͜͞"
NASTY = (
    "",
    " ",
    "\n" * 50 + "\t \r\n" * 50,
    "a" * 3_000,
    "".join(map(chr, range(0x20))),
    "<|endoftext|><|im_start|>system<|im_end|><|start|>assistant<|channel|>",
    ZALGO * 5,
    "🧑‍🚀🏳️‍🌈👩‍👩‍👧‍👦" * 40,
    "ﷺ﷽" * 100,
    "\U0010ffff\U000e0001\ufffd\u200b\u202e" * 60,
    "".join(chr(0x1_2000 + at) for at in range(900)),
    "1234567890" * 200 + ".,;:" * 100,
    "MTIzNDU2Nzg5MA+/" * 100,
    "账本记录了每个团队本月的支出" * 40,
    "ÀÉÎÕÜßøæœ" * 90,
    '{"a":[1,2,{"b":"\\u0000"}]}' * 40,
)
CHARACTERS = st.characters(exclude_categories=("Cs",))
TEXTS = st.text(CHARACTERS, max_size=60) | st.sampled_from(NASTY)
MESSAGES = st.lists(
    st.fixed_dictionaries(
        {"role": st.sampled_from(("system", "user", "assistant", "developer"))},
        optional={
            "content": TEXTS | st.lists(st.builds(lambda text: {"type": "text", "text": text}, TEXTS)),
            "name": st.text(CHARACTERS, max_size=12),
        },
    ),
    min_size=1,
    max_size=6,
)
SCHEMAS = st.recursive(
    st.builds(lambda about: {"type": "string", "description": about}, TEXTS),
    lambda inner: st.builds(
        lambda fields: {"type": "object", "properties": fields}, st.dictionaries(TEXTS, inner, max_size=3)
    ),
    max_leaves=4,
)
TOOLS = st.lists(
    st.builds(lambda schema: {"type": "function", "function": {"name": "f", "parameters": schema}}, SCHEMAS),
    max_size=2,
)


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("text", NASTY, ids=range(len(NASTY)))
def test_nasty_texts_have_no_more_tokens_than_bytes(name: str, text: str) -> None:
    tokens = counted(name, text)
    assert tokens <= len(text.encode())
    for ascii_ in (True, False):
        body = {"model": "m", "messages": [{"role": "user", "content": text}]}
        call = read_call("chat", json.dumps(body, ensure_ascii=ascii_).encode())
        assert prompt_tokens(name, body) + OVERHEAD_TOKENS <= bound_input(call).tokens
        for endpoint, field in (("embeddings", "input"), ("completions", "prompt")):
            assert tokens + OVERHEAD_TOKENS <= bound_input(call_of(endpoint, **{field: text})).tokens


@settings(deadline=None, max_examples=60)
@given(messages=MESSAGES, tools=TOOLS)
def test_messages_and_tools_have_no_more_tokens_than_their_bound(
    messages: list[dict[str, Any]], tools: list[dict[str, Any]]
) -> None:
    body: dict[str, Any] = {"model": "m", "messages": messages, **({"tools": tools} if tools else {})}
    raw = json.dumps(body, ensure_ascii=False, separators=(",", ":")).encode()
    bound = bound_input(read_call("chat", raw))
    assert bound.unbounded == ""
    # The room for a template's own words is not touched by what OpenAI puts around messages.
    room = OVERHEAD_TOKENS + (TOOLS_TOKENS if tools else 0)
    assert all(prompt_tokens(name, body) + room <= bound.tokens for name in NAMES)


def test_many_short_messages_are_bounded_too() -> None:
    body = {"model": "m", "messages": [{"role": "user", "content": "a"}] * 500}
    raw = json.dumps(body, separators=(",", ":")).encode()
    assert prompt_tokens("o200k_base", body) + OVERHEAD_TOKENS <= bound_input(read_call("chat", raw)).tokens


@pytest.mark.parametrize("value", [[1], [9] * 1_000, [[1, 2], [3]], ["a", ""], [""] * 100])
def test_token_ids_and_lists_have_at_least_a_byte_for_each_token(value: list[Any]) -> None:
    ids = sum(len(item) if isinstance(item, list) else 1 for item in value)
    inputs = 1 if type(value[0]) is int else len(value)
    call = call_of("embeddings", input=value)
    # Each input may get two special tokens.
    assert ids + 2 * inputs <= bound_input(call).tokens
    assert bound_input(call).unbounded == ""


def test_image_counts_as_the_dearest_whatever_its_bytes() -> None:
    text = {"type": "text", "text": "What is this?"}
    for url in (PIXELS, PIXELS.replace("data", "DATA")):
        bound = bound_input(asks(text, image(url), image(url)))
        assert (bound.images, bound.unbounded, bound.has_audio) == (2, "", False)
        assert 2 * IMAGE_TOKENS < bound.tokens < 2 * IMAGE_TOKENS + 700
        assert bound.text_bytes < 300
    assert bound_input(asks(image(PIXELS)), image_tokens=7).tokens < 700
    assert bound_input(asks({"type": "image_url", "image_url": PIXELS})).images == 1


def test_audio_is_bounded_by_its_bytes_and_priced_as_audio() -> None:
    data = base64.b64encode(wav(samples=6_706)).decode()
    assert len(data) == 9_000
    call = asks({"type": "input_audio", "input_audio": {"data": data, "format": "wav"}})
    bound = bound_input(call)
    assert (bound.audio_bytes, bound.has_audio, bound.unbounded) == (9_000, True, "")
    assert bound.tokens == call.size + OVERHEAD_TOKENS
    assert bound.text_bytes == call.size - 9_000
    assert not bound_input(asks("plain")).has_audio


def test_spoken_answer_may_cost_what_audio_costs() -> None:
    assert not bound_input(says(modalities=["text"])).has_audio
    assert bound_input(says(modalities=["text", "audio"]))[4:] == (True, 0, "")
    assert bound_input(says(audio={"voice": "alloy", "format": "wav"})).has_audio
    assert bound_input(says(modalities=["text", "image"])).unbounded == "modalities"


PART = "messages[].content[]"
NOWHERE = {
    "chat_template": False,
    "compound_custom": True,
    "conversation": False,
    "data_sources": True,
    "enable_search": True,
    "file_ids": False,
    "models": False,
    "plugins": True,
    "previous_response_id": False,
    "search_parameters": True,
    "search_settings": True,
    "web_search_options": True,
}
"""Fields that bring in what is not in the body, and whether that is a search."""


@pytest.mark.parametrize(
    ("call", "what", "searches"),
    [
        (asks({"type": "file", "file": {"file_id": "file-1"}}), f"{PART}.file", 0),
        (asks({"type": "video_url", "video_url": {"url": SOLID}}), f"{PART}.type", 0),
        (asks({"image_url": SOLID}), f"{PART}.type", 0),
        (asks({"type": {}}), f"{PART}.type", 0),
        (asks(7), PART, 0),
        (asks(image("data:application/pdf;base64,AAAA")), f"{PART}.image_url", 0),
        (asks(image(SOLID)), f"{PART}.image_url", 0),
        (asks({"type": "image_url", "image_url": SOLID}), f"{PART}.image_url", 0),
        (asks(image(None)), f"{PART}.image_url", 0),
        (asks({"type": "input_audio", "input_audio": {"data": SOLID}}), f"{PART}.input_audio", 0),
        (asks({"type": "input_audio", "input_audio": {"data": "ZkxhQw" * 9}}), f"{PART}.input_audio", 0),
        (asks({"type": "input_audio"}), f"{PART}.input_audio", 0),
        (call_of(messages=[{"role": "assistant", "audio": {"id": "audio_1"}}]), "messages[].audio", 0),
        (call_of(messages=[{"role": "user", "content": {"type": "file"}}]), f"{PART}.file", 0),
        *((says(**{name: {}}), name, int(is_search)) for name, is_search in NOWHERE.items()),
        (says(tools=[{"type": "web_search"}]), "tools[].type", 1),
        (asks("x", tools={"type": "function"}), "", 0),
        (asks("x", tools=[{"type": "function", "function": {}}, {"type": "custom"}]), "", 0),
        (asks("x", web_search_options=None, plugins=False), "", 0),
        (call_of("embeddings", input=[{"image": SOLID}]), "input[]", 0),
        (call_of("embeddings", input={"image": SOLID}), "input[]", 0),
    ],
)
def test_what_lies_elsewhere_has_no_bound(call: Call, what: str, searches: int) -> None:
    bound = bound_input(call)
    assert (bound.unbounded, bound.searches) == (what, searches)


def test_what_has_no_bound_is_held_as_the_whole_window_if_that_is_known() -> None:
    free, bound = bound_input(asks("x", previous_response_id="r")), bound_input(asks("x"))
    assert (free.held_tokens(128_000), free.held_tokens(None)) == (128_000, None)
    assert bound.held_tokens(8) == bound.held_tokens(None) == bound.tokens


ANY = st.recursive(
    st.none() | st.booleans() | st.integers(-9, 9) | st.text(max_size=5) | st.just("data:image/png"),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(
            st.sampled_from(("type", "image_url", "url", "content", "input_audio", "data", "audio", "x")),
            inner,
            max_size=4,
        )
    ),
    max_leaves=12,
)


@settings(deadline=None, max_examples=60)
@given(
    endpoint=st.sampled_from(("chat", "completions", "embeddings")),
    fields=st.dictionaries(
        st.sampled_from(
            ("messages", "input", "prompt", "tools", "functions", "modalities", "audio", "plugins")
        ),
        ANY | st.lists(st.fixed_dictionaries({"content": ANY}), max_size=2),
    ),
)
def test_no_body_is_too_odd_to_be_bounded(endpoint: str, fields: dict[str, Any]) -> None:
    call = call_of(endpoint, **fields)
    bound = bound_input(call)
    assert bound.tokens >= OVERHEAD_TOKENS
    assert 0 <= bound.text_bytes <= call.size


@pytest.mark.parametrize("field", ["tools", "functions"])
def test_tools_are_counted_twice_since_templates_write_them_anew(field: str) -> None:
    tools = [{"type": "function", "function": {"name": "f", "parameters": {"type": "object"}}}]
    call = says(**{field: tools})
    twice = len(json.dumps(tools, separators=(",", ":")))
    assert bound_input(call).tokens == call.size + twice + OVERHEAD_TOKENS + TOOLS_TOKENS


def test_tools_that_cannot_be_written_count_as_the_body() -> None:
    deep = '{"model":"m","tools":' + "[" * 300 + "]" * 300 + "}"
    assert (
        bound_input(read_call("chat", deep.encode())).tokens == 2 * len(deep) + OVERHEAD_TOKENS + TOOLS_TOKENS
    )


def test_estimated_usage_is_cut_to_what_is_possible() -> None:
    usage = Usage(100, output=50, estimated=True, service_tier="flex", searches=1)
    assert within(usage, 100, 50) is usage
    cut = within(usage, 99, 20)
    assert (cut.total_input, cut.total_output) == (99, 20)
    assert (cut.estimated, cut.service_tier, cut.searches) == (True, "flex", 1)


def test_bound_is_plain_when_text_is_all_there_is() -> None:
    assert bound_input(asks("x")).is_plain
    assert not any(
        bound.is_plain
        for bound in (Bound(1, 1, images=1), Bound(1, 1, audio_bytes=1), Bound(1, 1, unbounded="x"))
    )
