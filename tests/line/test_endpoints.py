"""Which paths there are, and what goes through them unchanged."""

from __future__ import annotations

import pytest

from gateway.simulator.server import Simulator
from tests.line.conftest import StartRelay
from tests.relaying import CHAT, Relay
from tests.running import KEY, SECRET, policy_for

COMPLETION = {"model": "gpt-3.5-turbo-instruct", "prompt": "Once"}
RESPONSE = {"model": "gpt-4o", "input": "Where is the river?"}
EMBEDDING = {"model": "text-embedding-3-small", "input": ["one", "two"]}


@pytest.mark.parametrize(
    ("path", "fields", "kind"),
    [
        ("/v1/chat/completions", CHAT, "chat.completion"),
        ("/v1/completions", COMPLETION, "text_completion"),
        ("/v1/embeddings", EMBEDDING, "list"),
        ("/v1/chat/completions?api-version=x", CHAT, "chat.completion"),
        ("/openai/v1/chat/completions", CHAT, "chat.completion"),
        ("/openai/v1/embeddings", EMBEDDING, "list"),
        ("/v1/responses", RESPONSE, "response"),
        ("/openai/v1/responses", RESPONSE, "response"),
        ("/openai/deployments/gpt-4o/chat/completions?api-version=2024-10-21", CHAT, "chat.completion"),
        (
            "/openai/deployments/gpt-3%2E5-turbo-instruct/completions?api-version=1",
            {"prompt": "x"},
            "text_completion",
        ),
        ("/openai/deployments/text-embedding-3-small/embeddings", {"input": "x"}, "list"),
    ],
)
async def test_path_is_served(
    relay: Relay, simulator: Simulator, path: str, fields: dict[str, object], kind: str
) -> None:
    answer = await relay.post(fields, f"http://{relay.host}:{relay.port}{path}")
    assert (answer.status, answer.json["object"]) == (200, kind)
    assert simulator.requests[-1].path == "/v1/" + kind_path(kind)


def kind_path(kind: str) -> str:
    return {
        "chat.completion": "chat/completions",
        "text_completion": "completions",
        "list": "embeddings",
        "response": "chat/completions",
    }[kind]


async def test_deployment_in_the_path_is_the_model(relay: Relay, simulator: Simulator) -> None:
    url = f"http://{relay.host}:{relay.port}/openai/deployments/gpt-4o/chat/completions"
    await relay.post({**CHAT, "model": "gpt-4o-mini"}, url)
    assert simulator.requests[-1].body["model"] == "gpt-4o"


@pytest.mark.parametrize(
    "path",
    [
        "/v1/responses/input_tokens",
        "/v1/chat/completions/",
        "/v1/audio/speech",
        "/",
        "/v1",
        "/metrics",
        "/v1/files/../chat",
        "/openai/deployments//chat/completions",
        "/openai/deployments/gpt-4o/images/generations",
        "/V1/chat/completions",
    ],
)
async def test_other_paths_are_404(relay: Relay, simulator: Simulator, path: str) -> None:
    reader, writer = await relay.connect()
    writer.write(
        b"POST %b HTTP/1.1\r\nhost: x\r\nauthorization: Bearer %b\r\ncontent-length: 2\r\n\r\n{}"
        % (path.encode(), KEY.encode())
    )
    head = await reader.readuntil(b"\r\n\r\n")
    writer.close()
    assert head.startswith(b"HTTP/1.1 404 ")
    assert not simulator.requests


@pytest.mark.parametrize(
    ("method", "path", "allowed"),
    [
        ("GET", "/chat/completions", "POST"),
        ("PUT", "/embeddings", "POST"),
        ("DELETE", "/completions", "POST"),
        ("OPTIONS", "/chat/completions", "POST"),
        ("TRACE", "/chat/completions", "POST"),
        ("PATCH", "/chat/completions", "POST"),
        ("GET", "/responses", "POST"),
        ("POST", "/models", "GET, HEAD"),
        ("DELETE", "/models/gpt-4o", "GET, HEAD"),
    ],
)
async def test_other_methods_are_405_and_say_which_is_right(
    relay: Relay, method: str, path: str, allowed: str
) -> None:
    headers = {"authorization": f"Bearer {KEY}"}
    async with relay.http.request(method, relay.url + path, headers=headers) as answer:
        assert (answer.status, answer.headers["allow"]) == (405, allowed)
        assert (await answer.json())["error"]["code"] == "method_not_allowed"


async def test_head_of_models_has_no_body(relay: Relay) -> None:
    headers = {"authorization": f"Bearer {KEY}"}
    async with relay.http.head(relay.url + "/models", headers=headers) as answer:
        assert (answer.status, await answer.read()) == (200, b"")
        assert int(answer.headers["content-length"]) > 0
    assert (await relay.post()).status == 200


async def test_unknown_fields_survive_in_both_directions(relay: Relay, simulator: Simulator) -> None:
    fields = {**CHAT, "x_mine": {"a": [1, 2.5, None, True, "ü"]}, "metadata": {"job": "7"}, "seed": 2**53 + 1}
    answer = await relay.post(fields)
    assert simulator.requests[-1].body == fields
    (entry,) = simulator.bill.entries
    assert answer.json["id"] == entry.id


async def test_headers_for_the_provider_are_an_allow_list(relay: Relay, simulator: Simulator) -> None:
    sent = {
        "traceparent": "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01",
        "openai-beta": "assistants=v2",
        "x-client-request-id": "mine-1",
        "x-private": "no",
        "cookie": "a=b",
        "x-forwarded-for": "10.0.0.1",
        "openai-organization": "org-mine",
    }
    await relay.post(headers=sent)
    await relay.post(headers=sent)
    for captured in simulator.requests:
        names = {name.lower() for name, _ in captured.headers}
        assert captured.header("traceparent") == sent["traceparent"]
        assert captured.header("openai-beta") == "assistants=v2"
        assert captured.header("authorization") == f"Bearer {SECRET}"
        assert not names & {"x-private", "cookie", "x-forwarded-for", "openai-organization", "x-api-key"}


async def test_answer_headers_tell_what_the_gateway_did(relay: Relay) -> None:
    answer = await relay.post()
    headers = answer.headers
    assert headers["x-headgate-target"] == "upstream/gpt-4o-mini"
    assert headers["x-headgate-attempts"] == "1"
    assert (
        headers["x-request-id"] == headers["x-headgate-request-id"] == (await relay.logged())[0]["request_id"]
    )
    assert headers["x-headgate-policy"]
    assert float(headers["x-headgate-cost-usd"]) > 0
    assert "server" not in headers and "set-cookie" not in headers


async def test_dated_azure_api_has_deployment_and_version_in_its_path(
    start: StartRelay, simulator: Simulator
) -> None:
    base = simulator.url.removesuffix("/v1")
    azure = f'upstream: {{dialect: azure, base_url: "{base}", api_version: 2024-10-21, '
    azure += "api_key: {env: UPSTREAM_KEY}}"
    policy = policy_for(simulator.url).splitlines()
    relay = await start("\n".join(f"  {azure}" if "base_url" in line else line for line in policy))
    await relay.post()
    sent = await simulator.requests.wait()
    assert sent.path == "/openai/deployments/gpt-4o-mini/chat/completions?api-version=2024-10-21"
    assert sent.header("api-key") == SECRET
    assert sent.header("authorization") is None
