"""What is odd in an answer but does no harm reaches the caller as the same answer; each row is a test."""

from __future__ import annotations

import json
from collections.abc import Callable

import pytest

from gateway.http.message import chunk
from tests.line.conftest import StartRelay, StartScripted
from tests.line.faults.answers import (
    CONTENT,
    DONE,
    GOOD,
    GOOD_BODY,
    GOOD_STREAM,
    ROLE,
    TOLD,
    USAGE,
    delta,
    event,
)
from tests.line.faults.models import attempts, two_models
from tests.relaying import CHAT, Answered
from tests.scripted import CLOSE, STALL, STREAM_END, STREAM_HEAD, Scripted, Step, answer, streamed

PAIR = {**CHAT, "model": "pair"}
LATE = delta("late")


def of_bytes(body: bytes) -> bytes:
    """Every byte an HTTP chunk of its own."""
    return STREAM_HEAD + b"".join(chunk(body[at : at + 1]) for at in range(len(body))) + STREAM_END


def with_usage(usage: object) -> bytes:
    return streamed(CONTENT + event({"id": "c", "choices": [], "usage": usage}) + DONE)


USAGES: dict[str, object] = {
    "null": None,
    "a list": [7, 3],
    "text": "many",
    "empty": {},
    "of other words": {"tokens": 5},
    "negative": {**USAGE, "completion_tokens": -3},
    "absurd": {**USAGE, "prompt_tokens": 10**15},
    "beyond 64 bits": {**USAGE, "prompt_tokens": 10**30},
    "fractions": {"prompt_tokens": 7.5, "completion_tokens": 3.5},
    "texts": {"prompt_tokens": "7", "completion_tokens": "3"},
    "true": {"prompt_tokens": True, "completion_tokens": True},
}
"""None of these is believed."""

STREAMS: dict[str, tuple[Step, ...]] = {
    "as it should be": (streamed(GOOD_STREAM),),
    "CRLF": (streamed(GOOD_STREAM.replace(b"\n", b"\r\n")),),
    "CR": (streamed(GOOD_STREAM.replace(b"\n", b"\r")),),
    "LF, CR and CRLF in turn": (
        streamed(
            ROLE, delta("Grü").replace(b"\n", b"\r"), delta("ße").replace(b"\n", b"\r\n"),
            delta(finish="stop"), TOLD, DONE,
        ),
    ),
    "CRLF, every byte alone": (of_bytes(GOOD_STREAM.replace(b"\n", b"\r\n")),),
    "byte order mark": (streamed(b"\xef\xbb\xbf" + GOOD_STREAM),),
    "byte order mark, every byte alone": (of_bytes(b"\xef\xbb\xbf" + GOOD_STREAM),),
    "every byte alone": (of_bytes(GOOD_STREAM),),
    "no blank after the colon": (streamed(GOOD_STREAM.replace(b"data: ", b"data:")),),
    "comments": (streamed(b": hello\n\n" + GOOD_STREAM.replace(b"data:", b": ping\n\ndata:")),),
    "no last blank line": (streamed(GOOD_STREAM[:-1]),),
    "no last line end": (streamed(GOOD_STREAM[:-2]),),
    "no [DONE], but a finish": (streamed(CONTENT + TOLD),),
    "[DONE] twice": (streamed(GOOD_STREAM + DONE),),
    "an event after [DONE]": (streamed(GOOD_STREAM + LATE),),
    "an event after [DONE], later": (STREAM_HEAD + chunk(GOOD_STREAM), chunk(LATE), STALL),
    "no end of the body": (STREAM_HEAD + chunk(GOOD_STREAM), STALL),
    "no framing": (b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\n\r\n" + GOOD_STREAM, CLOSE),
    "content type in capitals": (streamed(GOOD_STREAM).replace(b"text/event", b"Text/Event"),),
    "100, 102 and 103 before": (
        b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 102 Processing\r\n\r\n",
        b"HTTP/1.1 103 Early Hints\r\nlink: </x>\r\n\r\n" + streamed(GOOD_STREAM),
    ),
    "trailers": (streamed(GOOD_STREAM)[:-2] + b"x-checksum: 1\r\n\r\n",),
}  # fmt: skip


def texts(answered: Answered) -> list[object]:
    """The events of an answer, read as an SDK reads them: no comments."""
    events = [event.removeprefix("data:") for event in answered.events if not event.startswith(":")]
    return [event if event == "[DONE]" else json.loads(event) for event in events]


async def ask(
    start: StartRelay, provider: Scripted, *, stream: bool
) -> tuple[Answered, dict[str, object], dict[str, int]]:
    """(the answer, the log line, attempts by outcome) of a call that has another target to go to."""
    relay = await start(two_models(provider.url, provider.url, "http://127.0.0.1:9/v1", ""))
    answered = await relay.post({**PAIR, "stream": stream})
    (record,) = await relay.logged()
    return answered, record, attempts(relay, "pair", "first/m")


@pytest.mark.parametrize("steps", STREAMS.values(), ids=STREAMS.keys())
async def test_odd_stream(start: StartRelay, scripted: StartScripted, steps: tuple[Step, ...]) -> None:
    answered, record, outcomes = await ask(start, await scripted(*steps), stream=True)
    assert answered.status == 200
    assert answered.headers["content-type"] == "text/event-stream; charset=utf-8"
    expected = [json.loads(data[6:]) for data in CONTENT.split(b"\n\n")[:-1]]
    assert texts(answered) == [*expected, "[DONE]"]
    assert outcomes == {"ok": 1}
    assert (record["outcome"], record["usage_source"], record["output_tokens"]) == ("ok", "provider", 3)


@pytest.mark.parametrize("name", ["an event after [DONE]", "an event after [DONE], later", "[DONE] twice"])
async def test_connection_of_a_provider_that_goes_on_after_its_end_is_not_used_again(
    start: StartRelay, scripted: StartScripted, name: str
) -> None:
    provider = await scripted(*STREAMS[name])
    relay = await start(two_models(provider.url, provider.url, "http://127.0.0.1:9/v1", ""))
    for _ in range(2):
        assert (await relay.stream(PAIR)).events[-1] == "[DONE]"
    assert provider.connections == 2


PLAIN: dict[str, bytes | tuple[Step, ...]] = {
    "as it should be": answer(GOOD_BODY),
    "blanks around": answer(b"\n\n  " + GOOD_BODY + b"\n"),
    # The body decides: small servers of models say text/plain.
    "another content type": answer(GOOD_BODY, kind="text/plain"),
    "no content type": answer(GOOD_BODY).replace(b"content-type: application/json\r\n", b""),
    "identity": answer(GOOD_BODY, 200, "content-encoding: Identity"),
    "no length": (b"HTTP/1.1 200 OK\r\n\r\n" + GOOD_BODY, CLOSE),
    "HTTP/1.0": (answer(GOOD_BODY).replace(b"HTTP/1.1", b"HTTP/1.0"), CLOSE),
    "every byte alone": of_bytes(GOOD_BODY).replace(b"text/event-stream", b"application/json"),
    "100 before": b"HTTP/1.1 100 Continue\r\n\r\n" + answer(GOOD_BODY),
    "chunk extensions": STREAM_HEAD.replace(b"text/event-stream", b"application/json")
    + chunk(GOOD_BODY).replace(b"\r\n", b';x="y"\r\n', 1)
    + STREAM_END,
}


@pytest.mark.parametrize("steps", PLAIN.values(), ids=PLAIN.keys())
async def test_odd_plain_answer(
    start: StartRelay, scripted: StartScripted, steps: bytes | tuple[Step, ...]
) -> None:
    provider = await scripted(*((steps,) if isinstance(steps, bytes) else steps))
    answered, record, outcomes = await ask(start, provider, stream=False)
    assert (answered.status, answered.json) == (200, GOOD)
    assert answered.headers["content-type"] == "application/json"
    assert "content-encoding" not in answered.headers
    assert outcomes == {"ok": 1}
    assert (record["outcome"], record["usage_source"], record["output_tokens"]) == ("ok", "provider", 3)


def plain_with(usage: object) -> bytes:
    return answer(json.dumps({**GOOD, "usage": usage}).encode())


@pytest.mark.parametrize("make", [plain_with, with_usage], ids=["plain", "streamed"])
@pytest.mark.parametrize("usage", USAGES.values(), ids=USAGES.keys())
async def test_usage_that_cannot_be_true_is_estimated_and_spoils_nothing(
    start: StartRelay, scripted: StartScripted, usage: object, make: Callable[[object], bytes]
) -> None:
    answered, record, outcomes = await ask(start, await scripted(make(usage)), stream=make is with_usage)
    assert answered.status == 200
    assert outcomes == {"ok": 1}
    if make is with_usage:
        assert texts(answered)[-1] == "[DONE]"
    else:
        assert answered.json["choices"] == GOOD["choices"]
    assert (record["outcome"], record["usage_source"]) == ("ok", "estimated")
    assert isinstance(record["output_tokens"], int)
    assert 0 < record["output_tokens"] < 1000
