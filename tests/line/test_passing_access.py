"""Who may have what passed through, and which models it may name."""

from __future__ import annotations

import pytest

from gateway.simulator.server import Simulator
from gateway.wire.dialects.openai_families import FAMILIES
from tests.line.conftest import StartRelay
from tests.line.passing import (
    CLOSED_KEY,
    FILE,
    FORM,
    OTHER_KEY,
    ask,
    form,
    open_policy,
)
from tests.relaying import Relay
from tests.running import KEY, policy_for


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
    # Where nobody opens it, POST /responses is a call like any other, and this one names no model.
    assert (await ask(relay, method, path, {})).status == (400 if path == "/responses" else 404)
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
