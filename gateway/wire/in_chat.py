"""What was said in another dialect, in chat's words: for whoever looks at calls afterwards, off the line.

Nothing here raises: what cannot be read gives nothing."""

from __future__ import annotations

from collections.abc import Mapping

from gateway.errors import GatewayError
from gateway.wire.conversation import Judged, Toward
from gateway.wire.dialect import ANTHROPIC, CHAT, RESPONSES, Dialect
from gateway.wire.json import dumps, try_object
from gateway.wire.sse import BadStream
from gateway.wire.translated import TranslatedStream

_DIALECTS: Mapping[str, Dialect] = {dialect.name: dialect for dialect in (CHAT, ANTHROPIC, RESPONSES)}


def request_in_chat(dialect: str, body: bytes) -> bytes:
    """A request's body by the name of its caller's dialect; "" is chat's own."""
    speaks, fields = _DIALECTS.get(dialect), try_object(body)
    if speaks is None or speaks is CHAT or fields is None:
        return body
    try:
        said = speaks.read_request(fields)
        return dumps(CHAT.write_request(said, Toward(said.model), None, Judged()))
    except (GatewayError, TypeError):
        return b""


def answer_in_chat(dialect: str, answer: bytes, *, streamed: bool) -> bytes:
    """An answer as its caller got it: a plain one, or a stream from its beginning on."""
    speaks = _DIALECTS.get(dialect)
    if speaks is None or speaks is CHAT:
        return answer
    if streamed:
        return _stream_in_chat(speaks, answer)
    fields = try_object(answer)
    found = None if fields is None else speaks.read_answer(fields)
    return b"" if found is None else dumps(CHAT.write_answer(found))


def _stream_in_chat(speaks: Dialect, answer: bytes) -> bytes:
    stream = TranslatedStream(speaks.reader(), CHAT.writer(True))
    try:
        return stream.feed(answer)
    except BadStream:
        return b""
