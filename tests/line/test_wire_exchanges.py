"""Recorded exchanges with OpenAI and Azure, replayed: what the caller gets is what the provider said."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, replace
from typing import Any
from urllib.parse import urlsplit

import pytest
import yaml

from gateway.http.message import chunk
from tests.conftest import DATA
from tests.line.conftest import StartRelay
from tests.relaying import Answered
from tests.running import policy_for

pytestmark = pytest.mark.skipif(
    not (DATA / "wire").is_dir(), reason="no recorded exchanges: put them into ../shared/data/wire"
)
ENDPOINTS = ("/chat/completions", "/completions", "/embeddings")
REFUSED_HERE = "completion-bad-request"
"""Its max_tokens is negative, which the gateway refuses itself: in the same words but for the message."""
NOT_HANDED_ON = {"content-length", "transfer-encoding", "connection", "content-encoding"}


@dataclass(frozen=True)
class Exchange:
    """One recorded request and its answer."""

    name: str
    path: str
    request: dict[str, Any]
    status: int
    headers: dict[str, str]
    body: bytes

    @property
    def endpoint(self) -> str:
        return next(path for path in ENDPOINTS if self.path.endswith(path))

    @property
    def streamed(self) -> bool:
        return "event-stream" in self.headers.get("Content-Type", "")

    @property
    def events(self) -> list[str]:
        """The data of each event of a stream."""
        blocks = self.body.decode().split("\n\n")
        return [block.strip().removeprefix("data: ") for block in blocks if block.strip()]

    @property
    def asks_usage(self) -> bool:
        return bool((self.request.get("stream_options") or {}).get("include_usage"))


def recorded() -> list[Exchange]:
    found = []
    for file in sorted((DATA / "wire").glob("*.yaml")):
        for interaction in yaml.safe_load(file.read_text())["interactions"]:
            request, response = interaction["request"], interaction["response"]
            path = urlsplit(request["url"]).path
            if path.endswith(ENDPOINTS):
                headers = {name: values[0] for name, values in response["headers"].items()}
                body = response["body"].encode()
                found.append(
                    Exchange(file.stem, path, json.loads(request["body"]), response["code"], headers, body)
                )
    return found


EXCHANGES = recorded()
ASKING = [exchange for exchange in EXCHANGES if exchange.asks_usage]
EVERY = pytest.mark.parametrize("exchange", EXCHANGES, ids=lambda exchange: exchange.name)


@asynccontextmanager
async def replaying(exchange: Exchange, asked: list[tuple[str, dict[str, Any]]]) -> AsyncIterator[str]:
    """A provider that answers as recorded and keeps (path, body) of what it was asked."""

    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        head = (await reader.readuntil(b"\r\n\r\n")).decode()
        length = int(head.lower().partition("content-length: ")[2].partition("\r")[0])
        asked.append((head.split(" ")[1], json.loads(await reader.readexactly(length))))
        lines = [f"HTTP/1.1 {exchange.status} As Recorded"]
        lines += [
            f"{name}: {value}"
            for name, value in exchange.headers.items()
            if name.lower() not in NOT_HANDED_ON
        ]
        framing = (
            "transfer-encoding: chunked" if exchange.streamed else f"content-length: {len(exchange.body)}"
        )
        writer.write("\r\n".join([*lines, framing, "connection: close", "\r\n"]).encode())
        if exchange.streamed:
            # Cut where no event ends, as networks do.
            for at in range(0, len(exchange.body), 777):
                writer.write(chunk(exchange.body[at : at + 777]))
            writer.write(chunk(b"", last=True))
        else:
            writer.write(exchange.body)
        await writer.drain()
        writer.close()

    server = await asyncio.start_server(answer, "127.0.0.1", 0)
    async with server:
        yield f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"


def policy_of(exchange: Exchange, url: str) -> str:
    """The model of the request at a provider of the kind that was asked."""
    model = model_of(exchange)
    target = json.dumps({"provider": "upstream", "model": model})
    text = policy_for(f"{url}/v1", models=f"  recorded: {{targets: [{target}]}}")
    if "/deployments/" in exchange.path:
        text = text.replace(
            f'{{base_url: "{url}/v1",', f'{{dialect: azure, base_url: "{url}", api_version: 2025-01-01,'
        )
    return text


def model_of(exchange: Exchange) -> str:
    if "/deployments/" in exchange.path:
        return exchange.path.split("/deployments/")[1].split("/")[0]
    return str(exchange.request["model"])


async def replay(
    start: StartRelay, exchange: Exchange
) -> tuple[Answered, dict[str, Any], list[tuple[str, dict[str, Any]]]]:
    """(the caller's answer, the log line, what the provider was asked)."""
    asked: list[tuple[str, dict[str, Any]]] = []
    async with replaying(exchange, asked) as url:
        relay = await start(policy_of(exchange, url))
        answer = await relay.post({**exchange.request, "model": "recorded"}, exchange.endpoint)
    (record,) = await relay.logged()
    return answer, record, asked


def test_there_are_exchanges_to_replay() -> None:
    assert len(EXCHANGES) >= 40
    assert sum(exchange.streamed for exchange in EXCHANGES) >= 5
    assert sum(exchange.status >= 400 for exchange in EXCHANGES) >= 7
    assert len(ASKING) >= 2


@EVERY
async def test_exchange_comes_through(start: StartRelay, exchange: Exchange) -> None:
    answer, record, asked = await replay(start, exchange)
    assert answer.status == exchange.status
    if exchange.name == REFUSED_HERE:
        assert not asked
        said = json.loads(exchange.body)["error"]
        assert all(answer.error[name] == said[name] for name in ("type", "param", "code"))
        return
    ((path, sent),) = asked
    if exchange.streamed:
        assert_same_events(answer, exchange)
    elif exchange.status == 200:
        assert answer.json == json.loads(exchange.body)
    else:
        said = json.loads(exchange.body)["error"]
        assert {name: answer.error[name] for name in ("message", "type", "param", "code")} == {
            name: said.get(name) for name in ("message", "type", "param", "code")
        }
    assert_sent(exchange, path, sent)
    assert_counted(exchange, record)


@pytest.mark.parametrize("exchange", ASKING, ids=lambda exchange: exchange.name)
async def test_usage_the_caller_did_not_ask_for_is_taken_out(start: StartRelay, exchange: Exchange) -> None:
    fields = {name: value for name, value in exchange.request.items() if name != "stream_options"}
    unasked = replace(exchange, request=fields)
    answer, record, ((path, sent),) = await replay(start, unasked)
    assert len(answer.events) == len(exchange.events) - 1
    assert_same_events(answer, unasked)
    assert_sent(unasked, path, sent)
    assert_counted(unasked, record)


def assert_same_events(answer: Answered, exchange: Exchange) -> None:
    """The recorded events, without the one that only include_usage brings if it was not asked for."""
    expected = [event for event in exchange.events if exchange.asks_usage or not is_usage(event)]
    assert answer.events == expected
    assert answer.events.count("[DONE]") == 1


def is_usage(event: str) -> bool:
    """True for the event that only include_usage brings."""
    fields = {} if event == "[DONE]" else json.loads(event)
    return bool(fields.get("usage")) and not fields.get("choices")


def assert_sent(exchange: Exchange, path: str, sent: dict[str, Any]) -> None:
    """Every field of the request reached the provider; a stream's usage was asked for."""
    assert urlsplit(path).path == exchange.path
    assert urlsplit(path).query == ("api-version=2025-01-01" if "/deployments/" in path else "")
    expected = {**exchange.request, "model": model_of(exchange)}
    if exchange.request.get("stream"):
        expected["stream_options"] = {**(exchange.request.get("stream_options") or {}), "include_usage": True}
    assert sent == expected


def assert_counted(exchange: Exchange, record: dict[str, Any]) -> None:
    """The log has the provider's own usage."""
    usage = usage_of(exchange)
    if exchange.status != 200:
        assert (record["outcome"], record["usage_source"]) == ("upstream_failed", "none")
    elif usage is None:
        assert record["usage_source"] == "estimated"
    else:
        prompt, completion = (
            usage.get("prompt_tokens_details") or {},
            usage.get("completion_tokens_details") or {},
        )
        assert (record["input_tokens"], record["output_tokens"]) == (
            usage["prompt_tokens"],
            usage.get("completion_tokens", 0),
        )
        assert record["cached_input_tokens"] == prompt.get("cached_tokens", 0)
        assert record["reasoning_tokens"] == completion.get("reasoning_tokens", 0)
        assert record["usage_source"] == "provider"
        assert record["cost_nanousd"] > 0


def usage_of(exchange: Exchange) -> dict[str, Any] | None:
    """The usage in a recorded answer, if it has one."""
    if exchange.status != 200:
        return None
    if not exchange.streamed:
        return dict(json.loads(exchange.body)["usage"])
    found = [json.loads(event).get("usage") for event in exchange.events if event != "[DONE]"]
    return next((usage for usage in reversed(found) if usage), None)
