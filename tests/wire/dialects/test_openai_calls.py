"""A caller's body is read strictly in what we act on and goes on whole in what we do not."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gateway.errors import BAD_JSON, BAD_REQUEST, BELOW_MINIMUM, WRONG_TYPE, GatewayError, Kind
from gateway.wire.dialects.openai_chat import ENDPOINTS, OPERATIONS, Call, read_call, write_body

SECRET = "sk-do-not-repeat"
SCALARS = st.none() | st.booleans() | st.integers(-(2**63), 2**64 - 1) | st.text(max_size=8)
VALUES = st.recursive(
    SCALARS,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=6), inner, max_size=3),
    max_leaves=8,
)
ACTED_ON = frozenset(
    {"model", "stream", "stream_options", "max_tokens", "max_completion_tokens", "n", "best_of", "metadata"}
)


def body_of(**fields: Any) -> bytes:
    return json.dumps({"model": "m", **fields}).encode()


def call_of(endpoint: str = "chat", /, **fields: Any) -> Call:
    return read_call(endpoint, body_of(**fields))


def sent(call: Call, model: str = "served", *, asks_usage: bool = True) -> dict[str, Any]:
    """What a provider reads of a call; a key written twice fails."""

    def once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
        names = [name for name, _ in pairs]
        assert len(names) == len(set(names)), f"written twice: {names}"
        return dict(pairs)

    body: dict[str, Any] = json.loads(write_body(call, model, asks_usage=asks_usage), object_pairs_hook=once)
    return body


def refusal(body: bytes, endpoint: str = "chat", model: str | None = None) -> GatewayError:
    with pytest.raises(GatewayError) as caught:
        read_call(endpoint, body, model)
    return caught.value


BAD: list[tuple[bytes, Kind, str | None]] = [
    (b"", BAD_JSON, None),
    (b"not json", BAD_JSON, None),
    (b'{"model": "m", "x": "\xff"}', BAD_JSON, None),
    (b"\xef\xbb\xbf" + body_of(), BAD_JSON, None),
    (b'{"model": "m", "temperature": NaN}', BAD_JSON, None),
    (b'{"model": "m", "seed": 18446744073709551616}', BAD_JSON, None),
    (b'[{"model": "m"}]', BAD_JSON, None),
    (b"{}", BAD_REQUEST, "model"),
    (body_of(model=None), BAD_REQUEST, "model"),
    (body_of(model=""), BAD_REQUEST, "model"),
    (body_of(model=1), WRONG_TYPE, "model"),
    (body_of(model=["m"]), WRONG_TYPE, "model"),
    (body_of(stream="true"), WRONG_TYPE, "stream"),
    (body_of(stream=1), WRONG_TYPE, "stream"),
    (body_of(stream=0), WRONG_TYPE, "stream"),
    (body_of(stream=[]), WRONG_TYPE, "stream"),
    (body_of(max_tokens=-1), BELOW_MINIMUM, "max_tokens"),
    (body_of(max_tokens=1.0), WRONG_TYPE, "max_tokens"),
    (body_of(max_tokens="5"), WRONG_TYPE, "max_tokens"),
    (body_of(max_tokens=True), WRONG_TYPE, "max_tokens"),
    (b'{"model": "m", "max_tokens": 1e2}', WRONG_TYPE, "max_tokens"),
    (body_of(max_completion_tokens=-5), BELOW_MINIMUM, "max_completion_tokens"),
    (body_of(max_completion_tokens={}), WRONG_TYPE, "max_completion_tokens"),
    (body_of(best_of="3"), WRONG_TYPE, "best_of"),
    (body_of(n=-1), BELOW_MINIMUM, "n"),
    (body_of(n=0.5), WRONG_TYPE, "n"),
    (body_of(n=False), WRONG_TYPE, "n"),
    (body_of(stream=True, stream_options=[]), WRONG_TYPE, "stream_options"),
    (body_of(stream=True, stream_options="usage"), WRONG_TYPE, "stream_options"),
]


@pytest.mark.parametrize(("body", "kind", "param"), BAD)
def test_what_no_provider_could_read_is_refused_and_named(body: bytes, kind: Kind, param: str | None) -> None:
    error = refusal(body)
    assert (error.kind, error.param) == (kind, param)
    assert error.kind.status == 400
    assert param is None or f"'{param}'" in error.message


def test_embeddings_are_not_streamed() -> None:
    error = refusal(body_of(input="x", stream=True), "embeddings")
    assert (error.kind, error.param) == (BAD_REQUEST, "stream")
    assert not call_of("embeddings", input="x", stream=False).stream


@pytest.mark.parametrize("field", ["model", "stream", "max_tokens", "max_completion_tokens", "n"])
def test_refusal_never_repeats_what_was_sent(field: str) -> None:
    error = refusal(json.dumps({"model": "m", field: [SECRET]}).encode())
    assert SECRET not in error.message
    assert SECRET not in str(error)


@pytest.mark.parametrize(
    "fields",
    [
        {"stream": None, "max_tokens": None, "max_completion_tokens": None, "n": None},
        {"max_tokens": 0, "n": 0},
        {"max_tokens": 2**64 - 1, "n": 10**6},
        {"temperature": 99, "top_p": -1, "messages": "not a list"},
        {"stream": False, "stream_options": [1]},
        {"stream": True, "stream_options": None},
        {"stream": True, "stream_options": {}},
    ],
)
def test_ranges_and_other_fields_are_the_providers_to_judge(fields: dict[str, Any]) -> None:
    assert call_of(**fields).fields == {"model": "m", **fields}


def test_call_says_what_we_act_on() -> None:
    body = body_of(messages=[], stream=True, stream_options={"include_usage": True}, metadata={"team": "a"})
    call = read_call("completions", body)
    assert (call.endpoint, call.model, call.stream, call.wants_usage) == ("completions", "m", True, True)
    assert call.size == len(body)
    assert call.metadata == {"team": "a"}


@pytest.mark.parametrize("metadata", [None, "x", ["team"], 3])
def test_metadata_that_is_no_object_matches_nothing_but_goes_on(metadata: Any) -> None:
    call = call_of(metadata=metadata)
    assert call.metadata == {}
    assert sent(call)["metadata"] == metadata
    assert call_of().metadata == {}


@pytest.mark.parametrize("value", [False, None, 1, "true"])
def test_usage_is_wanted_only_if_asked_for_in_so_many_words(value: Any) -> None:
    assert not call_of(stream=True, stream_options={"include_usage": value}).wants_usage
    assert not call_of(stream=False, stream_options={"include_usage": True}).wants_usage


@pytest.mark.parametrize("body", [b"{}", body_of(), body_of(model="other"), body_of(model=7)])
def test_model_of_the_path_wins_over_that_of_the_body(body: bytes) -> None:
    call = read_call("chat", body, "deployment")
    assert call.model == "deployment"
    assert sent(call, "served")["model"] == "served"


def test_path_without_a_model_is_refused() -> None:
    assert refusal(body_of(), model="").param == "model"


def test_last_of_duplicate_keys_wins_and_one_goes_upstream() -> None:
    body = (
        b'{"model": "first", "max_tokens": -1, "stream": "no", "user": "a", "model": "m", '
        b'"max_tokens": 7, "stream": false, "user": "b", "nested": {"x": 1, "x": 2}}'
    )
    call = read_call("chat", body)
    assert call.model == "m"
    assert sent(call) == {
        "model": "served",
        "max_tokens": 7,
        "stream": False,
        "user": "b",
        "nested": {"x": 2},
    }


@settings(deadline=None)
@given(st.dictionaries(st.text(max_size=8).filter(lambda name: name not in ACTED_ON), VALUES, max_size=6))
def test_fields_we_do_not_know_survive(fields: dict[str, Any]) -> None:
    call = call_of(**fields)
    assert sent(call) == {"model": "served", **fields}


@pytest.mark.parametrize(
    ("given", "goes"),
    [
        ({}, {"include_usage": True}),
        ({"stream_options": None}, {"include_usage": True}),
        ({"stream_options": {}}, {"include_usage": True}),
        ({"stream_options": {"include_usage": False}}, {"include_usage": True}),
        (
            {"stream_options": {"include_obfuscation": False}},
            {"include_obfuscation": False, "include_usage": True},
        ),
        ({"stream_options": {"include_usage": True, "x": 1}}, {"include_usage": True, "x": 1}),
    ],
)
def test_stream_asks_for_usage_and_keeps_its_other_options(given: dict[str, Any], goes: object) -> None:
    assert sent(call_of(stream=True, **given)) == {"model": "served", "stream": True, "stream_options": goes}


@pytest.mark.parametrize("fields", [{}, {"stream": False}, {"stream_options": {"include_usage": True}}])
def test_plain_call_gets_no_options_of_ours(fields: dict[str, Any]) -> None:
    for asks_usage in (True, False):
        assert sent(call_of(**fields), asks_usage=asks_usage) == {"model": "served", **fields}


@pytest.mark.parametrize("options", [None, {}, {"include_usage": False}, {"include_usage": True}, {"x": 1}])
def test_provider_that_refuses_stream_options_gets_none(options: dict[str, Any] | None) -> None:
    call = call_of(stream=True, stream_options=options)
    assert sent(call, asks_usage=False) == {"model": "served", "stream": True}


@pytest.mark.parametrize("options", [{"include_usage": True}, {"include_usage": False, "x": 1}])
@pytest.mark.parametrize("order", [(True, False, True), (False, True, False)])
def test_each_target_of_a_call_gets_its_own_body(options: dict[str, Any], order: tuple[bool, ...]) -> None:
    call = call_of(stream=True, stream_options=options, user="u")
    for place, asks_usage in enumerate(order):
        body = sent(call, f"served-{place}", asks_usage=asks_usage)
        assert body["model"] == f"served-{place}"
        assert body["user"] == "u"
        assert body.get("stream_options") == ({**options, "include_usage": True} if asks_usage else None)
    assert call.model == "m"


def test_every_endpoint_has_a_path_and_an_operation() -> None:
    assert dict(ENDPOINTS) == {
        "chat": "/chat/completions",
        "completions": "/completions",
        "embeddings": "/embeddings",
    }
    assert OPERATIONS == {"chat": "chat", "completions": "text_completion", "embeddings": "embeddings"}


@pytest.mark.parametrize(
    ("given", "cap", "goes"),
    [
        ({}, ("max_tokens", 9), {"max_tokens": 9}),
        ({"max_tokens": 500}, ("max_tokens", 9), {"max_tokens": 9}),
        ({"max_completion_tokens": 500}, ("max_tokens", 9), {"max_tokens": 9}),
        (
            {"max_tokens": 1, "max_completion_tokens": 500},
            ("max_completion_tokens", 9),
            {"max_completion_tokens": 9},
        ),
    ],
)
def test_cap_stands_in_one_field_and_is_not_the_next_targets(
    given: dict[str, Any], cap: tuple[str, int], goes: dict[str, Any]
) -> None:
    call = call_of(**given, stream=True)
    body = json.loads(write_body(call, "served", cap=cap))
    assert body == {
        "model": "served", "stream": True, "stream_options": {"include_usage": True}, **goes,
    }  # fmt: skip
    again = json.loads(write_body(call, "served"))
    assert {name: again.get(name) for name in given} == given
