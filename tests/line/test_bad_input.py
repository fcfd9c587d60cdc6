"""Bad requests get a clear error in OpenAI's shape; nothing is sent on, echoed or logged."""

from __future__ import annotations

import json

import pytest

from gateway.simulator.server import Simulator
from tests.line.conftest import StartRelay
from tests.relaying import CHAT, Relay
from tests.running import KEY, policy_for

MARK = "zebra-5521"
"""Stands in every bad body: it must come back nowhere."""


def with_fields(**fields: object) -> bytes:
    return json.dumps({**CHAT, "user": MARK, **fields}).encode()


BAD_JSON = {
    "empty": b"",
    "text": f"hello {MARK}".encode(),
    "cut": b'{"model": "gpt-4o-mini", "user": "' + MARK.encode(),
    "trailing": with_fields() + b"}",
    "two objects": with_fields() + with_fields(),
    "array": b"[" + with_fields() + b"]",
    "string": json.dumps(MARK).encode(),
    "BOM": b"\xef\xbb\xbf" + with_fields(),
    "UTF-16": with_fields().decode().encode("utf-16"),
    "bad UTF-8": with_fields().replace(b"river", b"ri\xffver"),
    "overlong UTF-8": with_fields().replace(b"river", b"ri\xc0\xafver"),
    "lone surrogate": with_fields().replace(b"river", b"ri\\ud800ver"),
    "NaN": with_fields().replace(b'"messages"', b'"temperature": NaN, "messages"'),
    "Infinity": with_fields().replace(b'"messages"', b'"temperature": -Infinity, "messages"'),
    "beyond a double": with_fields(temperature=0).replace(b'"temperature": 0', b'"temperature": 1e999'),
    "surrogates the wrong way round": with_fields().replace(b"river", b"\\udc00\\ud800"),
    "BOM within": with_fields() + b"\xef\xbb\xbf",
    "NUL": with_fields().replace(b"river", b"ri\0ver"),
    "number with a plus": with_fields(seed=0).replace(b'"seed": 0', b'"seed": +1'),
    "number in octal": with_fields(seed=0).replace(b'"seed": 0', b'"seed": 017'),
    "comma at the end": with_fields()[:-1] + b",}",
    "beyond 64 bits": with_fields(seed=2**64),
    "far beyond 64 bits": with_fields(seed=0).replace(b'"seed": 0', b'"seed": ' + b"9" * 5000),
    "single quotes": b"{'model': 'gpt-4o-mini'}",
    "comment": b'{"model": "gpt-4o-mini" /* ' + MARK.encode() + b" */}",
    "deep": b'{"model": "gpt-4o-mini", "messages": ' + b"[" * 100_000 + b"]" * 100_000 + b"}",
}


@pytest.mark.parametrize("body", BAD_JSON.values(), ids=BAD_JSON.keys())
async def test_what_is_not_strict_json_is_400(relay: Relay, simulator: Simulator, body: bytes) -> None:
    answer = await relay.post(body)
    assert (answer.status, answer.error["type"]) == (400, "invalid_request_error")
    await assert_unheard(relay, simulator, answer.body, 400)


async def assert_unheard(relay: Relay, simulator: Simulator, body: bytes, status: int) -> None:
    (record,) = await relay.logged()
    assert record["status"] == status
    assert record["outcome"] == "refused"
    assert record["error_type"].startswith(("caller_", "policy_"))
    assert MARK.encode() not in body + relay.lines[0]
    assert not simulator.requests


@pytest.mark.parametrize(
    ("fields", "param"),
    [
        ({"model": None}, "model"),
        ({"model": ""}, "model"),
        ({"model": 5}, "model"),
        ({"model": [MARK]}, "model"),
        ({"stream": "true"}, "stream"),
        ({"stream": 1}, "stream"),
        ({"stream": True, "stream_options": MARK}, "stream_options"),
        ({"max_tokens": -1}, "max_tokens"),
        ({"max_tokens": 1.5}, "max_tokens"),
        ({"max_tokens": "10"}, "max_tokens"),
        ({"max_tokens": True}, "max_tokens"),
        ({"max_completion_tokens": -5}, "max_completion_tokens"),
        ({"n": -1}, "n"),
        ({"n": 1.0}, "n"),
        ({"n": MARK}, "n"),
    ],
)
async def test_fields_that_the_gateway_acts_on_have_their_types(
    relay: Relay, simulator: Simulator, fields: dict[str, object], param: str
) -> None:
    answer = await relay.post(with_fields(**fields))
    assert (answer.status, answer.error["param"]) == (400, param)
    assert param in answer.error["message"]
    await assert_unheard(relay, simulator, answer.body, 400)


async def test_missing_model_is_named(relay: Relay) -> None:
    answer = await relay.post({"messages": []})
    assert (answer.status, answer.error["param"]) == (400, "model")


async def test_streamed_embeddings_are_refused(relay: Relay, simulator: Simulator) -> None:
    fields = {"model": "text-embedding-3-small", "input": "x", "stream": True}
    answer = await relay.post(fields, "/embeddings")
    assert (answer.status, answer.error["param"]) == (400, "stream")
    assert not simulator.requests


async def test_other_fields_are_for_the_provider_to_judge(relay: Relay, simulator: Simulator) -> None:
    odd = {
        "temperature": 99,
        "top_p": "x",
        "messages": "no list",
        "x_new": {"deep": [1, None]},
        "max_tokens": 0,
    }
    await relay.post(with_fields(**odd))
    assert {name: simulator.requests[-1].body[name] for name in odd} == odd


async def test_of_duplicate_keys_the_last_wins_and_one_goes_on(relay: Relay, simulator: Simulator) -> None:
    body = b'{"model": "not-a-model", "user": "a", "model": "gpt-4o", "user": "b", "messages": []}'
    await relay.post(body)
    sent = simulator.requests[-1]
    assert (sent.body["model"], sent.body["user"]) == ("gpt-4o", "b")
    assert sent.raw.count(b'"model"') == sent.raw.count(b'"user"') == 1


@pytest.mark.parametrize("encoding", ["gzip", "deflate", "br", "zstd", "GZIP"])
async def test_compressed_body_is_415(relay: Relay, simulator: Simulator, encoding: str) -> None:
    answer = await relay.post(with_fields(), headers={"content-encoding": encoding})
    assert answer.status == 415
    await assert_unheard(relay, simulator, answer.body, 415)


async def test_identity_is_no_compression(relay: Relay) -> None:
    assert (await relay.post(headers={"content-encoding": "identity"})).status == 200


async def test_body_above_the_limit_is_413_and_not_read(start: StartRelay, simulator: Simulator) -> None:
    relay = await start(policy_for(simulator.url), max_body_bytes=100_000)
    reader, writer = await relay.connect()
    writer.write(
        b"POST /v1/chat/completions HTTP/1.1\r\nhost: x\r\nauthorization: Bearer %b\r\n"
        b"content-length: 1000000000\r\n\r\n" % KEY.encode()
    )
    head = await reader.readuntil(b"\r\n\r\n")
    assert head.startswith(b"HTTP/1.1 413 ")
    assert b"connection: close" in head
    writer.close()
    assert not simulator.requests


async def test_chunked_body_above_the_limit_is_413(start: StartRelay, simulator: Simulator) -> None:
    relay = await start(policy_for(simulator.url), max_body_bytes=100_000)
    reader, writer = await relay.connect()
    writer.write(
        b"POST /v1/chat/completions HTTP/1.1\r\nhost: x\r\nauthorization: Bearer %b\r\n"
        b"transfer-encoding: chunked\r\n\r\n" % KEY.encode()
    )
    writer.write((b"8000\r\n" + b"x" * 0x8000 + b"\r\n") * 4)
    assert (await reader.readuntil(b"\r\n\r\n")).startswith(b"HTTP/1.1 413 ")
    writer.close()
    assert not simulator.requests


async def test_too_many_bytes_held_are_503(start: StartRelay, simulator: Simulator) -> None:
    relay = await start(policy_for(simulator.url), max_held_bytes=50_000)
    reader, writer = await relay.connect()
    writer.write(
        b"POST /v1/chat/completions HTTP/1.1\r\nhost: x\r\nauthorization: Bearer %b\r\n"
        b"content-length: 90000\r\n\r\n" % KEY.encode() + b"x" * 80_000
    )
    assert (await reader.readuntil(b"\r\n\r\n")).startswith(b"HTTP/1.1 503 ")
    writer.close()
    assert not simulator.requests
