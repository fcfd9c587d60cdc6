"""Forms: read the same in any split, refused or understood, and understood as another parser does."""

from __future__ import annotations

import random
from collections.abc import Iterable
from email import message_from_bytes
from email.message import EmailMessage
from email.policy import HTTP

from gateway.wire.form import BadForm, FormScanner
from tests.fuzz.target import pieces

HEAD = b'--B\r\nContent-Disposition: form-data; name="%b"'
MODEL = HEAD % b"model" + b"\r\n\r\nwhisper-1\r\n"
FILE = HEAD % b"file" + b'; filename="a.wav"\r\nContent-Type: audio/wav\r\n\r\n\x00\x01RIFF\r\n--\r\n'
END = b"--B--\r\n"


class Form:
    """`FormScanner`: a form with one meaning, or `BadForm`."""

    name = "form"
    corpus = (
        MODEL + FILE + END,
        FILE + MODEL + END,
        HEAD % b"prompt" + b"\r\nContent-Type: text/plain; charset=utf-8\r\n\r\n\r\n" + FILE + END,
        HEAD % b"timestamp_granularities[]" + b"\r\n\r\nword\r\n" + MODEL + END,
    )
    tokens = (
        b"\r\n",
        b"\n",
        b"\r",
        b"--B",
        b"\r\n--B\r\n",
        b"\r\n--B--",
        b"\r\n\r\n",
        b'; name="model"',
        b'name="model"',
        b"Content-Disposition: form-data",
        b"Content-Transfer-Encoding: base64",
        b'; filename="x"',
        b"; filename*=utf-8''x",
        b'"',
        b"\\",
        b";",
        b"[]",
        b"model",
    )

    def check(self, data: bytes, draw: random.Random) -> None:
        whole, split = self._read([data]), self._read(pieces(draw, data))
        assert whole == split, f"whole: {whole}; split: {split}"
        if whole is not None:
            assert [value for name, value in whole if name == "model"] == models_of(data)

    def close(self) -> None: ...

    def _read(self, parts: Iterable[bytes]) -> list[tuple[str, str]] | None:
        """The fields of a form that came to its end; None if it is none."""
        scanner = FormScanner(b"B", plain=frozenset({b"model"}))
        found: list[tuple[str, str]] = []
        try:
            for part in parts:
                found += scanner.feed(part)
        except BadForm:
            return None
        return found if scanner.ended else None


def models_of(form: bytes) -> list[str]:
    """The fields `model` that Python's own parser finds."""
    message = message_from_bytes(
        b'Content-Type: multipart/form-data; boundary="B"\r\n\r\n' + form, _class=EmailMessage, policy=HTTP
    )
    return [
        bytes(part.get_payload(decode=True) or b"").decode()
        for part in message.iter_parts()
        if isinstance(part, EmailMessage) and part.get_param("name", header="content-disposition") == "model"
    ]


TARGETS = (Form,)
