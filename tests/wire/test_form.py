"""A form is read the same in any split, and one that could be read in two ways is refused."""

from __future__ import annotations

from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.wire.form import BadForm, FormScanner, boundary_of

HEAD = b'Content-Disposition: form-data; name="%b"'
PLAIN = frozenset({b"model"})


def part(name: bytes, content: bytes, more: bytes = b"") -> bytes:
    return b"--XyZ\r\n" + HEAD % name + more + b"\r\n\r\n" + content + b"\r\n"


def read(body: bytes, *, cuts: list[int] | None = None) -> tuple[list[tuple[str, str]], bool]:
    scanner = FormScanner(b"XyZ", plain=PLAIN)
    fields: list[tuple[str, str]] = []
    edges = [0, *sorted(cuts or []), len(body)]
    for start, end in pairwise(edges):
        fields += scanner.feed(body[start:end])
    return fields, scanner.ended


FILE = part(
    b"file",
    b"\r\n--Xy\r\n--XyQ" + bytes(range(256)) * 4,
    b'; filename="a\\"b.wav"\r\nContent-Type: audio/wav',
)
GOOD = (
    part(b"model", b"whisper-1")
    + FILE
    + part(b"prompt", "Flüsse\r\n".encode())
    + part(b"e", b"")
    + b"--XyZ--\r\n"
)
FIELDS = [("model", "whisper-1"), ("prompt", "Flüsse\r\n"), ("e", "")]


@given(cuts=st.lists(st.integers(0, len(GOOD)), max_size=40))
def test_any_split_gives_the_same_fields(cuts: list[int]) -> None:
    assert read(GOOD, cuts=cuts) == (FIELDS, True)


def test_byte_by_byte() -> None:
    assert read(GOOD, cuts=list(range(len(GOOD)))) == (FIELDS, True)


@given(junk=st.binary(max_size=200), at=st.integers(0, len(GOOD)))
def test_whatever_comes_it_is_read_or_refused(junk: bytes, at: int) -> None:
    try:
        read(GOOD[:at] + junk + GOOD[at:])
    except BadForm as bad:
        assert str(bad)


BAD = {
    "preamble": b"x" + GOOD,
    "line feed alone": GOOD.replace(b"\r\n", b"\n"),
    "no name": b"--XyZ\r\nContent-Disposition: form-data\r\n\r\nx\r\n--XyZ--\r\n",
    "no disposition": b"--XyZ\r\nContent-Type: text/plain\r\n\r\nx\r\n--XyZ--\r\n",
    "two dispositions": part(b"model", b"x", b'\r\nContent-Disposition: form-data; name="y"') + b"--XyZ--",
    "two names": part(b"model", b"x", b'; name="y"') + b"--XyZ--",
    "name in quotes with a backslash": part(b'a\\"; name=\\"model', b"x") + b"--XyZ--",
    "blank after boundary": GOOD.replace(b"--XyZ\r\n", b"--XyZ \r\n", 1),
    "fold in a head": part(b"a", b"x", b"\r\n y: z") + b"--XyZ--",
    "carriage return in a head": part(b"a", b"x", b"\rmodel") + b"--XyZ--",
    "model twice": part(b"model", b"x") * 2 + b"--XyZ--",
    "model as a file": part(b"model", b"x", b'; filename="x"') + b"--XyZ--",
    "model as a file by extended name": part(b"model", b"x", b"; filename*=utf-8''x") + b"--XyZ--",
    "model in a list": part(b"model[]", b"x") + b"--XyZ--",
    "model in a map": part(b"model[name]", b"x") + b"--XyZ--",
    "model as JSON": part(b"model", b'"x"', b"\r\nContent-Type: application/json") + b"--XyZ--",
    "model in UTF-16": part(b"model", b"x", b"\r\nContent-Type: text/plain; charset=utf-16") + b"--XyZ--",
    "encoded part": part(b"a", b"eA==", b"\r\nContent-Transfer-Encoding: base64") + b"--XyZ--",
    "field too long": part(b"a", b"x" * 70_000) + b"--XyZ--",
    "head too long": part(b"a", b"x", b"\r\nx: " + b"y" * 9_000) + b"--XyZ--",
    "field that is not UTF-8": part(b"a", b"\xff") + b"--XyZ--",
    "too many parts": part(b"a", b"") * 1_001 + b"--XyZ--",
    "boundary after a line feed": part(
        b"file", b'x\n--XyZ\nContent-Disposition: form-data; name="model"\n\nx', b'; filename="a"'
    )
    + b"--XyZ--",
    "boundary after a carriage return": part(b"a", b"x\r--XyZ\r\n") + b"--XyZ--",
    "boundary in a line": part(b"a", b"x--XyZ--") + b"--XyZ--",
    "boundary in a head": part(b"a", b"x", b"\r\nx: --XyZ") + b"--XyZ--",
    "more after the end": GOOD + b"more",
}


@pytest.mark.parametrize("body", BAD.values(), ids=BAD)
def test_form_with_two_meanings_is_refused(body: bytes) -> None:
    with pytest.raises(BadForm):
        read(body)
    with pytest.raises(BadForm):
        read(body, cuts=list(range(len(body))))


def test_form_without_its_end_is_not_ended() -> None:
    assert read(GOOD[:-6])[1] is False


def test_file_is_not_kept() -> None:
    scanner = FormScanner(b"XyZ", plain=PLAIN)
    scanner.feed(part(b"file", b"", b'; filename="a"')[:-2])
    for _ in range(100):
        scanner.feed(b"y" * 100_000)
    assert len(scanner._buffer) < 100


@pytest.mark.parametrize(
    ("content_type", "boundary"),
    [
        (b"multipart/form-data; boundary=abc", b"abc"),
        (b'Multipart/Form-Data;boundary="a b"', None),
        (b'multipart/form-data; boundary="a/b?c"', b"a/b?c"),
        (b"multipart/form-data; boundary=" + b"x" * 71, None),
        (b"multipart/form-data", None),
        (b"multipart/mixed; boundary=abc", None),
        (b"multipart/form-data; boundary=abc; boundary=def", None),
        (b"multipart/form-data; charset=utf-8; boundary=abc", None),
        (b"application/json", None),
        (b"", None),
    ],
)
def test_boundary(content_type: bytes, boundary: bytes | None) -> None:
    assert boundary_of(content_type) == boundary
