"""The rest of OpenAI's API: open to whom the policy says, guarded by team, and otherwise passed as it is."""

from __future__ import annotations

import asyncio
import hashlib
import json
from collections.abc import Mapping
from typing import Any

import pytest

from gateway.simulator.server import Simulator
from gateway.wire.dialects.openai_families import FAMILIES
from tests.line.conftest import StartRelay
from tests.relaying import Answered, Relay
from tests.running import KEY, policy_for

OTHER_KEY = "hg-" + "o" * 43
CLOSED_KEY = "hg-" + "c" * 43
BOUNDARY = "b0undary"
JSONL = b'{"custom_id": "1"}\n'


def sha256(key: str) -> str:
    return hashlib.sha256(key.encode()).hexdigest()


def open_policy(url: str, *, more: str = "", models: str = '["gpt-*", whisper-1, "tts-*"]') -> str:
    """Everything open to the teams `search` and `other`, nothing to `closed`."""
    families = ", ".join(FAMILIES)
    passages = "\n".join(f"  {family}: {{provider: upstream{more}}}" for family in FAMILIES)
    text = policy_for(
        url,
        rest=f"""  app-other: {{team: other, sha256: {sha256(OTHER_KEY)}}}
  app-closed: {{team: closed, sha256: {sha256(CLOSED_KEY)}}}
pass_through:
{passages}""",
    )
    return text.replace(
        '  search: {models: ["*"]}',
        f"""  search: {{models: {models}, pass_through: [{families}]}}
  other: {{models: {models}, pass_through: [{families}]}}
  closed: {{models: ["*"]}}""",
    )


def form(*parts: tuple[str, str, bytes], boundary: str = BOUNDARY) -> bytes:
    """(name, further disposition, content) → a multipart body."""
    blocks = [
        f'--{boundary}\r\nContent-Disposition: form-data; name="{name}"{more}\r\n\r\n'.encode()
        + content
        + b"\r\n"
        for name, more, content in parts
    ]
    return b"".join(blocks) + f"--{boundary}--\r\n".encode()


FORM = {"content-type": f"multipart/form-data; boundary={BOUNDARY}"}
FILE = ("file", '; filename="a.jsonl"', JSONL)


@pytest.fixture
async def opened(start: StartRelay, simulator: Simulator) -> Relay:
    return await start(open_policy(simulator.url))


async def ask(
    relay: Relay,
    method: str,
    path: str,
    body: Any = None,
    *,
    key: str = KEY,
    headers: Mapping[str, str] | None = None,
) -> Answered:
    """One call; `body` is JSON unless it is bytes."""
    sent = {"authorization": f"Bearer {key}", **(headers or {})}
    data = body
    if body is not None and not isinstance(body, bytes):
        data, sent["content-type"] = json.dumps(body).encode(), "application/json"
    async with relay.http.request(method, relay.url + path, data=data, headers=sent) as answer:
        return Answered(answer.status, answer.headers, await answer.read())


async def uploaded(relay: Relay, key: str = KEY) -> str:
    answer = await ask(relay, "POST", "/files", form(("purpose", "", b"batch"), FILE), key=key, headers=FORM)
    assert answer.status == 200, answer.body
    return str(answer.json["id"])


async def batched(relay: Relay, key: str = KEY) -> dict[str, Any]:
    file = await uploaded(relay, key)
    asked = {"input_file_id": file, "endpoint": "/v1/chat/completions", "completion_window": "24h"}
    answer = await ask(relay, "POST", "/batches", asked, key=key)
    assert answer.status == 200, answer.body
    return dict(answer.json)


# who may


@pytest.mark.parametrize("family", FAMILIES)
async def test_family_is_closed_unless_key_or_team_and_policy_name_it(
    start: StartRelay, simulator: Simulator, family: str
) -> None:
    methods, path = FAMILIES[family][0].split(" ")
    method = methods.rpartition(",")[2]
    relay = await start(open_policy(simulator.url))
    refused = await ask(relay, method, path, {}, key=CLOSED_KEY)
    assert (refused.status, refused.error["code"]) == (404, "unknown_url")
    assert "pass_through" in refused.error["message"]
    relay.use(policy_for(simulator.url))
    assert (await ask(relay, method, path, {})).status == 404
    assert not simulator.requests


async def test_key_opens_and_closes_families_by_itself(start: StartRelay, simulator: Simulator) -> None:
    policy = open_policy(simulator.url)
    policy = policy.replace("team: closed,", "team: closed, pass_through: [moderations],")
    policy = policy.replace("team: other,", "team: other, pass_through: [],")
    relay = await start(policy)
    asked = {"input": "x"}
    assert (await ask(relay, "POST", "/moderations", asked, key=CLOSED_KEY)).status == 200
    assert (await ask(relay, "POST", "/moderations", asked, key=OTHER_KEY)).status == 404


@pytest.mark.parametrize(
    "path",
    [
        "/organization/users", "/organization/costs", "/projects", "/realtime/client_secrets",
        "/chatkit/sessions",
        "/unknown", "/files/", "/files//content", "/files/../models", "/files/%2e%2e", "/files/a/b/c",
        "/fine_tuning/checkpoints/x/permissions", "/files/file-1;x", "/openai/v1/files", "/files?a=<x>",
    ],
)  # fmt: skip
async def test_what_is_no_family_is_404(opened: Relay, simulator: Simulator, path: str) -> None:
    reader, writer = await opened.connect()
    head = f"GET /v1{path} HTTP/1.1\r\nhost: x\r\nauthorization: Bearer {KEY}\r\nconnection: close\r\n\r\n"
    writer.write(head.encode())
    answer = await reader.read()
    writer.close()
    assert answer.startswith(b"HTTP/1.1 404 "), answer
    assert not simulator.requests


async def test_method_that_a_path_does_not_take_is_405(opened: Relay) -> None:
    answer = await ask(opened, "PUT", "/files")
    assert (answer.status, answer.headers["allow"]) == (405, "GET, POST")


async def test_both_spellings_of_the_base_url_work(opened: Relay) -> None:
    azure = opened.url.replace("/v1", "/openai/v1")
    async with opened.http.get(f"{azure}/files", headers={"authorization": f"Bearer {KEY}"}) as answer:
        assert (await answer.json())["data"] == []


# models


async def test_named_model_must_be_one_of_the_keys(opened: Relay, simulator: Simulator) -> None:
    refused = await ask(opened, "POST", "/images/generations", {"model": "dall-e-3", "prompt": "x"})
    assert (refused.status, refused.error["code"], refused.error["param"]) == (
        403,
        "model_not_allowed",
        "model",
    )
    refused = await ask(opened, "POST", "/images/generations", {"model": ["gpt-image-1"], "prompt": "x"})
    assert refused.status == 403
    assert not simulator.requests
    assert (await ask(opened, "POST", "/images/generations", {"model": "gpt-image-1"})).status == 200


@pytest.mark.parametrize("first", ["model", "file"])
async def test_model_in_a_form_is_checked_wherever_it_stands(
    opened: Relay, simulator: Simulator, first: str
) -> None:
    parts = [("model", "", b"secret-model"), ("file", '; filename="a.wav"', b"x" * 300_000)]
    body = form(*(parts if first == "model" else reversed(parts)))
    refused = await ask(opened, "POST", "/audio/transcriptions", body, headers=FORM)
    assert (refused.status, refused.error["code"]) == (403, "model_not_allowed")
    # Whatever of it the provider saw was no whole request.
    assert not simulator.requests


@pytest.mark.parametrize(
    "parts",
    [
        [("model", "", b"whisper-1"), ("model", "", b"secret-model"), FILE],
        [("model", '; filename="m"', b"secret-model"), FILE],
        [("model[]", "", b"secret-model"), FILE],
        [("model", '\r\nContent-Type: application/json', b'"secret-model"'), FILE],
        [("model", "\r\nContent-Transfer-Encoding: base64", b"c2VjcmV0LW1vZGVs"), FILE],
        [("model", '; name="x"', b"secret-model"), FILE],
        [("model", "\nx: y", b"secret-model"), FILE],
        [("model", "", b"\xff"), FILE],
        [("x", '"\r\ncontent-disposition: form-data; name="model', b"secret-model"), FILE],
    ],
)  # fmt: skip
async def test_form_that_could_be_read_in_two_ways_is_refused(
    opened: Relay, simulator: Simulator, parts: list[tuple[str, str, bytes]]
) -> None:
    refused = await ask(opened, "POST", "/audio/transcriptions", form(*parts), headers=FORM)
    assert (refused.status, refused.error["type"]) == (400, "invalid_request_error")
    assert not simulator.requests


async def test_name_of_the_policy_becomes_the_targets(start: StartRelay, simulator: Simulator) -> None:
    policy = open_policy(simulator.url, models='["*"]').replace(
        "models:\n", "models:\n  painter: {targets: [upstream/gpt-image-1]}\n", 1
    )
    relay = await start(policy)
    answer = await ask(relay, "POST", "/images/generations", {"model": "painter", "prompt": "x"})
    assert (answer.status, answer.headers["x-headgate-target"]) == (200, "upstream/gpt-image-1")
    assert simulator.requests[0].body["model"] == "gpt-image-1"
    refused = await ask(
        relay,
        "POST",
        "/images/edits",
        form(("model", "", b"painter"), ("image", '; filename="i"', b"x")),
        headers=FORM,
    )
    assert refused.status == 400
    assert "gpt-image-1" in refused.error["message"]


# whose


async def test_stored_objects_are_their_teams_alone(opened: Relay, simulator: Simulator) -> None:
    batch = await batched(opened)
    file = batch["input_file_id"]
    asked = len(simulator.requests)
    for method, path, body in [
        ("GET", f"/files/{file}", None),
        ("DELETE", f"/files/{file}", None),
        ("GET", f"/files/{file}/content", None),
        ("GET", f"/batches/{batch['id']}", None),
        ("POST", f"/batches/{batch['id']}/cancel", None),
        ("POST", "/batches", {"input_file_id": file, "endpoint": "/v1/embeddings"}),
        ("POST", "/fine_tuning/jobs", {"model": "gpt-4o-mini", "training_file": file}),
        ("POST", "/responses", {"model": "gpt-4o", "input": [{"content": [{"file_id": file}]}]}),
        ("GET", f"/batches?after={batch['id']}", None),
    ]:
        answer = await ask(opened, method, path, body, key=OTHER_KEY)
        assert (answer.status, answer.error["code"]) == (404, "not_found"), path
    assert len(simulator.requests) == asked
    assert (await ask(opened, "GET", f"/files/{file}")).json["id"] == file
    assert (await ask(opened, "GET", f"/files/{file}/content")).body == JSONL
    # A batch's result is its team's too.
    assert (await ask(opened, "GET", f"/files/{batch['output_file_id']}/content")).body == b"{}"
    assert (await ask(opened, "GET", f"/files/{batch['output_file_id']}", key=OTHER_KEY)).status == 404
    assert (await ask(opened, "DELETE", f"/files/{file}")).json["deleted"] is True


async def test_file_in_a_chat_must_be_the_teams(opened: Relay, simulator: Simulator) -> None:
    file = await uploaded(opened)
    part = {"type": "file", "file": {"file_id": file}}
    chat = {"model": "gpt-4o", "messages": [{"role": "user", "content": [part]}]}
    refused = await opened.post(chat, key=OTHER_KEY)
    assert (refused.status, refused.error["code"]) == (404, "not_found")
    assert [request.path for request in simulator.requests] == ["/v1/files"]
    assert (await opened.post(chat)).status == 200


async def test_lists_show_what_is_the_teams(opened: Relay) -> None:
    mine, theirs = await uploaded(opened), await uploaded(opened, OTHER_KEY)
    page = (await ask(opened, "GET", "/files")).json
    assert [row["id"] for row in page["data"]] == [mine]
    assert (page["first_id"], page["last_id"]) == (mine, mine)
    page = (await ask(opened, "GET", "/files", key=OTHER_KEY)).json
    assert [row["id"] for row in page["data"]] == [theirs]


async def test_list_reads_on_until_something_is_the_teams(opened: Relay, simulator: Simulator) -> None:
    mine = await uploaded(opened)
    for _ in range(5):
        await uploaded(opened, OTHER_KEY)
    page = (await ask(opened, "GET", "/files?limit=2&purpose=batch")).json
    assert [row["id"] for row in page["data"]] == [mine]
    assert page["has_more"] is False
    assert [request.path.partition("after=")[0] for request in simulator.requests][-2:] == [
        "/v1/files?limit=2&purpose=batch&"
    ] * 2


async def test_stored_response_is_its_teams_plain_and_streamed(opened: Relay) -> None:
    for stream in (False, True):
        asked = {"model": "gpt-4o", "input": "Hello", "stream": stream}
        answer = await ask(opened, "POST", "/responses", asked)
        assert answer.status == 200
        if stream:
            first = json.loads(answer.body.partition(b"data: ")[2].partition(b"\n")[0])
            id_ = first["response"]["id"]
            assert answer.body.count(b"response.completed") == 2
        else:
            id_ = answer.json["id"]
        assert (await ask(opened, "GET", f"/responses/{id_}")).status == 200
        assert (await ask(opened, "GET", f"/responses/{id_}", key=OTHER_KEY)).status == 404
        followed = {"model": "gpt-4o", "input": "And?", "previous_response_id": id_}
        assert (await ask(opened, "POST", "/responses", followed)).status == 200
        assert (await ask(opened, "POST", "/responses", followed, key=OTHER_KEY)).status == 404


async def test_text_that_looks_like_an_id_makes_nobody_its_owner(opened: Relay) -> None:
    theirs = await uploaded(opened, OTHER_KEY)
    content = json.dumps({"id": "file-neverseen1", "output_file_id": "file-neverseen2"}).encode()
    file = await ask(opened, "POST", "/files", form(("file", '; filename="x.json"', content)), headers=FORM)
    assert (await ask(opened, "GET", f"/files/{file.json['id']}/content")).body == content
    for id_ in (theirs, "file-neverseen1", "file-neverseen2"):
        assert (await ask(opened, "GET", f"/files/{id_}")).status == 404


async def test_without_the_record_stored_objects_are_refused_with_503(opened: Relay) -> None:
    file = await uploaded(opened)

    def no_answer(question: object, told: Any) -> Any:
        asyncio.get_running_loop().call_soon(told, {})
        return lambda: None

    opened.line.ask = no_answer
    answer = await ask(opened, "GET", f"/files/{file}")
    assert (answer.status, answer.error["code"]) == (503, "records_unavailable")
    assert answer.headers["retry-after"] == "1"
    assert (await ask(opened, "POST", "/moderations", {"input": "x"})).status == 200


# what it costs


async def test_usage_and_price_per_call(start: StartRelay, simulator: Simulator) -> None:
    relay = await start(open_policy(simulator.url, more=", usd_per_call: 0.04"))
    answer = await ask(relay, "POST", "/images/generations", {"model": "gpt-image-1", "prompt": "x"})
    assert answer.headers["x-headgate-cost-usd"] == "0.040000000"
    await ask(relay, "GET", "/files")
    pictures, files = await relay.logged(2)
    assert pictures["cost_nanousd"] == 40_000_000
    assert (pictures["input_tokens"], pictures["output_tokens"]) == (12, 272)
    assert (pictures["target"], pictures["outcome"], pictures["usage_source"]) == (
        "upstream/images",
        "ok",
        "provider",
    )
    assert (files["cost_nanousd"], files["usage_source"]) == (0, "none")
    assert (
        relay.counted("headgate_cost_usd_total", "search", "app", "images", "upstream/images") == 40_000_000
    )
    assert relay.counted("headgate_attempts_total", "files", "upstream/files", "ok") == 1
    assert relay.counted("headgate_requests_total", "search", "app", "files", "upstream/files", "ok", "") == 1


async def test_tokens_cost_what_the_policy_says_of_the_model(start: StartRelay, simulator: Simulator) -> None:
    relay = await start(open_policy(simulator.url))
    for stream in (False, True):
        await ask(relay, "POST", "/responses", {"model": "gpt-4o", "input": "x", "stream": stream})
    plain, streamed = await relay.logged(2)
    # 6 input at 0.15, 4 cached at 0.075, 4 output and 2 reasoning at 0.60 dollars per million.
    assert plain["cost_nanousd"] == streamed["cost_nanousd"] == 900 + 300 + 2400 + 1200
    assert (streamed["cached_input_tokens"], streamed["reasoning_tokens"]) == (4, 2)


# how it passes


async def test_binary_answer_passes_as_it_is(opened: Relay) -> None:
    answer = await ask(opened, "POST", "/audio/speech", {"model": "tts-1", "input": "x", "voice": "alloy"})
    assert (answer.status, answer.headers["content-type"]) == (200, "audio/mpeg")
    assert answer.body == bytes(range(256)) * 64 * 8


async def test_form_passes_byte_for_byte(opened: Relay, simulator: Simulator) -> None:
    body = form(("model", "", b"whisper-1"), ("file", '; filename="\xe4.wav"', bytes(range(256)) * 2000))
    answer = await ask(opened, "POST", "/audio/transcriptions", body, headers=FORM)
    assert answer.json["text"] == "Simulated."
    (request,) = simulator.requests
    assert request.raw == body
    assert request.header("content-length") == str(len(body))
    assert request.header("content-type") == f'multipart/form-data; boundary="{BOUNDARY}"'
    assert request.header("authorization") == "Bearer sk-upstream-secret"


async def test_chunked_form_passes_too(opened: Relay, simulator: Simulator) -> None:
    body = form(("model", "", b"whisper-1"), ("file", '; filename="a"', b"x" * 200_000))

    async def pieces() -> Any:
        for at in range(0, len(body), 7_777):
            yield body[at : at + 7_777]

    async with opened.http.post(
        f"{opened.url}/audio/transcriptions",
        data=pieces(),
        headers={**FORM, "authorization": f"Bearer {KEY}"},
    ) as answer:
        assert answer.status == 200
    assert simulator.requests[0].raw == body
    assert simulator.requests[0].header("content-length") is None


async def test_provider_that_refuses_in_mid_upload_is_heard(start: StartRelay) -> None:
    async def refuse(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        body = (
            b'{"error": {"message": "too big", "type": "invalid_request_error", "code": "x", "param": null}}'
        )
        writer.write(
            b"HTTP/1.1 413 X\r\ncontent-type: application/json\r\ncontent-length: %d\r\n\r\n%b"
            % (len(body), body)
        )
        await writer.drain()

    server = await asyncio.start_server(refuse, "127.0.0.1", 0)
    relay = await start(open_policy(f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}/v1"))
    reader, writer = await relay.connect()
    writer.write(
        f"POST /v1/files HTTP/1.1\r\nhost: x\r\nauthorization: Bearer {KEY}\r\ncontent-length: 10000000\r\n"
        f"content-type: {FORM['content-type']}\r\n\r\n".encode()
        + form(FILE).removesuffix(b"--\r\n")
        + b'\r\nContent-Disposition: form-data; name="x"; filename="y"\r\n\r\n'
        + b"y" * 100_000
    )
    answer = await asyncio.wait_for(reader.read(), 5)
    writer.close()
    server.close()
    assert answer.startswith(b"HTTP/1.1 413 ")
    assert b"too big" in answer
    assert b"connection: close" in answer


async def test_upload_larger_than_memory_passes_in_pieces(start: StartRelay) -> None:
    """A provider that reads slowly slows the caller down; nothing piles up in between."""
    release, got = asyncio.Event(), 0

    async def slow(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        nonlocal got
        await reader.readuntil(b"\r\n\r\n")
        await release.wait()
        while got < size:
            got += len(await reader.read(1 << 20))
        writer.write(
            b'HTTP/1.1 200 X\r\ncontent-type: application/json\r\ncontent-length: 12\r\n\r\n{"id":"none"}'[
                :-1
            ]
        )
        await writer.drain()

    server = await asyncio.start_server(slow, "127.0.0.1", 0, limit=1 << 16)
    relay = await start(open_policy(f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}/v1"))
    body = form(("file", '; filename="big"', b"z" * (24 << 20)))
    size = len(body)
    reader, writer = await relay.connect()
    writer.write(
        f"POST /v1/files HTTP/1.1\r\nhost: x\r\nauthorization: Bearer {KEY}\r\ncontent-length: {size}\r\n"
        f"content-type: {FORM['content-type']}\r\n\r\n".encode()
    )
    writer.write(body)
    with pytest.raises(TimeoutError):
        await asyncio.wait_for(writer.drain(), 0.5)
    assert relay.server.held_bytes == 0
    (caller,) = relay.server.connections
    assert caller.exchange is not None
    release.set()
    await asyncio.wait_for(writer.drain(), 10)
    assert (await asyncio.wait_for(reader.readline(), 10)).startswith(b"HTTP/1.1 ")
    writer.close()
    server.close()


@pytest.mark.parametrize(
    ("fault", "status", "code"),
    [
        ("status_400", 400, "invalid_value"),
        ("status_401", 502, "upstream_auth"),
        ("status_429", 429, "rate_limit_exceeded"),
        ("status_500", 502, None),
        ("close", 502, "upstream_disconnected"),
        ("reset", 502, "upstream_disconnected"),
    ],
)
async def test_provider_failure_is_mapped_and_not_repeated(
    opened: Relay, simulator: Simulator, fault: str, status: int, code: str | None
) -> None:
    simulator.script([fault], "moderations")
    answer = await ask(opened, "POST", "/moderations", {"input": "x"})
    assert (answer.status, answer.error["code"]) == (status, code)
    assert len(simulator.requests) == 1
    (record,) = await opened.logged()
    assert (record["outcome"], record["attempts"]) == ("upstream_failed", 1)


async def test_packed_answer_is_refused(start: StartRelay) -> None:
    async def packed(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        head = b"HTTP/1.1 200 X\r\ncontent-type: audio/mpeg\r\ncontent-encoding: gzip\r\n"
        writer.write(head + b"content-length: 3\r\n\r\nabc")
        await writer.drain()

    server = await asyncio.start_server(packed, "127.0.0.1", 0)
    relay = await start(open_policy(f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}/v1"))
    answer = await ask(relay, "POST", "/audio/speech", {"model": "tts-1", "input": "x"})
    server.close()
    assert (answer.status, answer.error["code"]) == (502, "bad_upstream_response")


async def test_body_of_another_type_is_refused(opened: Relay, simulator: Simulator) -> None:
    answer = await ask(opened, "POST", "/files", b"x", headers={"content-type": "application/octet-stream"})
    assert (answer.status, answer.error["code"]) == (415, "unsupported_media_type")
    assert not simulator.requests


async def test_caller_that_leaves_in_mid_upload_cancels_it(opened: Relay, simulator: Simulator) -> None:
    _, writer = await opened.connect()
    writer.write(
        f"POST /v1/files HTTP/1.1\r\nhost: x\r\nauthorization: Bearer {KEY}\r\ncontent-length: 9000000\r\n"
        f"content-type: {FORM['content-type']}\r\n\r\n".encode()
        + form(FILE).removesuffix(b"--\r\n")
        + b'\r\nContent-Disposition: form-data; name="x"; filename="y"\r\n\r\n'
        + b"y" * 100_000
    )
    await writer.drain()
    writer.close()
    (record,) = await opened.logged()
    assert record["outcome"] == "caller_gone"
    assert not simulator.requests
    assert not opened.line.exchanges
