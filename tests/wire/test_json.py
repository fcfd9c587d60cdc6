"""Bodies are read strictly: what one reader could take differently from another is refused."""

from __future__ import annotations

import json

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from gateway.errors import BAD_JSON, GatewayError
from gateway.wire.json import dumps, read_object, try_object

SECRET = b"sk-do-not-repeat"
LEAST, MOST = -(2**63), 2**64 - 1
PADS = st.text(st.sampled_from('x0é\\" '), max_size=40)


def refusal(body: bytes) -> str:
    with pytest.raises(GatewayError) as caught:
        read_object(body)
    assert caught.value.kind is BAD_JSON
    assert caught.value.__cause__ is None
    return caught.value.message


@pytest.mark.parametrize(
    ("body", "says"),
    [
        (b"", "is empty"),
        (b"\xef\xbb\xbf{}", "byte order mark"),
        (b'{"a": "\xff"}', "not valid UTF-8 (byte 7)"),
        (b'{"a": "\xed\xa0\x80"}', "not valid UTF-8"),
        (b'{"a": "\xc0\xaf"}', "not valid UTF-8"),
        ('{"a": 1}'.encode("utf-16"), "not valid UTF-8"),
        ('{"a": 1}'.encode("utf-16-le"), "not valid JSON"),
        (b'{"a": NaN}', "not valid JSON (line 1, column 7)"),
        (b'{"a": Infinity}', "not valid JSON"),
        (b'{"a": -Infinity}', "not valid JSON"),
        (b'{"a": 1e400}', "not valid JSON"),
        (b'{"a": 01}', "not valid JSON"),
        (b'{"a": "\\ud800"}', "not valid JSON"),
        (b'{"a": "\\udc00\\ud800"}', "not valid JSON"),
        (b'{"a": "\n"}', "not valid JSON"),
        (b'{"a": 1,}', "not valid JSON"),
        (b'{"a": 1} {}', "not valid JSON"),
        (b"{'a': 1}", "not valid JSON"),
        (b"{", "not valid JSON"),
        (b'{"a": ' + b"[" * 5000 + b"]" * 5000 + b"}", "not valid JSON"),
        (b'{"a": ' * 5000 + b"1" + b"}" * 5000, "not valid JSON"),
        (b"[]", "must be a JSON object"),
        (b'"{}"', "must be a JSON object"),
        (b"null", "must be a JSON object"),
        (b"1", "must be a JSON object"),
        (b'{"a": 18446744073709551616}', "beyond 64 bits"),
        (b'{"a": -9223372036854775809}', "beyond 64 bits"),
        (b"[18446744073709551616]", "beyond 64 bits"),
        (b'{"a": [{"b": ' + b"9" * 300 + b"}]}", "beyond 64 bits"),
        (b'{"a": [{"b": ' + b"9" * 5000 + b"}]}", "not valid JSON"),
    ],
)  # fmt: skip
def test_bad_body_is_refused_with_what_is_wrong(body: bytes, says: str) -> None:
    assert says in refusal(body)


@pytest.mark.parametrize(
    "body",
    [
        SECRET,
        b'{"' + SECRET + b'": NaN}',
        b'{"k": "' + SECRET + b'\xff"}',
        b'{"k": "' + SECRET + b'", "n": 99999999999999999999999}',
        b'["' + SECRET + b'"]',
        b"\xef\xbb\xbf" + SECRET,
        b'{"k": "' + SECRET + b'\\ud800"}',
    ],
)
def test_refusal_never_repeats_what_was_sent(body: bytes) -> None:
    message = refusal(body)
    assert "do-not-repeat" not in message
    assert "9999" not in message


@given(
    before=PADS,
    after=PADS,
    number=st.integers(-(10**45), 10**45)
    | st.integers(10**17, 10**21)
    | st.integers(LEAST - 3, LEAST + 3)
    | st.integers(MOST - 3, MOST + 3),
    nested=st.booleans(),
)
@example(before="", after="", number=MOST, nested=False)
@example(before="", after="", number=LEAST - 1, nested=True)
@settings(max_examples=500, deadline=None)
def test_integer_is_read_exactly_or_refused_wherever_it_stands(
    before: str, after: str, number: int, nested: bool
) -> None:
    value = [0.5, {"n": number}] if nested else number
    body = json.dumps({before: before, "n": value, "z": after}, ensure_ascii=False).encode()
    if LEAST <= number <= MOST:
        assert read_object(body)["n"] == value
    else:
        assert "beyond 64 bits" in refusal(body)


@given(offset=st.integers(0, 40), digits=st.integers(1, 60))
@settings(max_examples=300, deadline=None)
def test_run_of_digits_of_any_length_at_any_offset(offset: int, digits: int) -> None:
    run = b"7" * digits
    body = b'{"a":' + b" " * offset + run + b"}"
    if int(run) <= MOST:
        assert read_object(body) == {"a": int(run)}
    else:
        assert "beyond 64 bits" in refusal(body)


@given(
    text=st.text(st.sampled_from("0123456789"), min_size=15, max_size=80),
    value=st.floats(allow_nan=False, allow_infinity=False),
    offset=st.integers(0, 20),
)
def test_long_digits_in_text_and_in_floats_are_no_integers(text: str, value: float, offset: int) -> None:
    pad = " " * offset
    many = f'{pad}{{"{text}": "a{text}\\"{text}", "f": {value!r}, '
    many += f'"g": 0.{text}, "h": 1{text}.5, "i": 1{text}e-9}}'
    fields = read_object(many.encode())
    assert fields[text] == f'a{text}"{text}'
    assert fields["f"] == value
    assert fields["h"] == float(f"1{text}.5")


def test_last_of_duplicate_keys_wins_and_one_goes_on() -> None:
    fields = read_object(b'{"model": "a", "x": {"y": 1, "y": 2}, "model": "b"}')
    assert fields == {"model": "b", "x": {"y": 2}}
    assert dumps(fields) == b'{"model":"b","x":{"y":2}}'


def test_duplicate_key_does_not_hide_a_wide_integer() -> None:
    assert "beyond 64 bits" in refusal(b'{"a": 99999999999999999999999, "a": 1}')


JSON = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(LEAST, MOST)
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(st.characters(exclude_categories=["Cs"])),
    lambda inner: (
        st.lists(inner, max_size=4) | st.dictionaries(st.text('aé\n"', max_size=3), inner, max_size=4)
    ),
    max_leaves=12,
)


@given(fields=st.dictionaries(st.text("abc", max_size=3), JSON, max_size=5), ascii_only=st.booleans())
@settings(max_examples=100, deadline=None)
def test_what_is_read_goes_on_unchanged(fields: dict[str, object], ascii_only: bool) -> None:
    body = json.dumps(fields, ensure_ascii=ascii_only).encode()
    assert json.loads(dumps(read_object(body))) == fields


@given(
    body=st.binary(max_size=40) | st.text('{}[]":,0123456789eE+-.\\untrfals ', max_size=40).map(str.encode)
)
@settings(max_examples=300, deadline=None)
def test_any_bytes_are_an_object_or_a_refusal(body: bytes) -> None:
    try:
        assert type(read_object(body)) is dict
    except GatewayError as refused:
        assert refused.kind is BAD_JSON


@pytest.mark.parametrize("data", [b"", b"[]", b"null", b"{", b'{"a": NaN}', b'{"a": "\xff"}', b"<html>"])
def test_what_a_provider_sends_in_place_of_an_object_is_none(data: bytes) -> None:
    assert try_object(data) is None
