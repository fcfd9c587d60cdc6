"""The official client, sync and async, takes the gateway for OpenAI."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack, ExitStack
from decimal import Decimal
from typing import Any

import openai
import pydantic
import pytest

from gateway.simulator.server import Simulator
from tests.conftest import StartSimulator
from tests.line.conftest import StartRelay
from tests.relaying import Relay
from tests.running import KEY, MODELS, SECRET, Gateway, policy_for

MODEL = "gpt-4o-mini"
MESSAGES: Any = [{"role": "user", "content": "Tell me about rivers."}]
CHECK_WEATHER: Any = {
    "type": "function",
    "function": {
        "name": "check_weather",
        "strict": True,
        "parameters": {
            "type": "object",
            "properties": {"city": {"type": "string"}},
            "required": ["city"],
            "additionalProperties": False,
        },
    },
}
WEATHER: Any = {
    "model": MODEL,
    "messages": [{"role": "user", "content": "please check_weather"}],
    "tools": [CHECK_WEATHER],
}


class River(pydantic.BaseModel):
    """What a structured answer is to hold."""

    name: str
    length_km: int
    tributaries: list[str]
    mouth: str | None


class Client:
    """One test for both clients: a call is a function of the client, run as that client wants it."""

    plain: Callable[..., Any]
    azure: Callable[..., Any]

    async def call(self, client: Any, ask: Callable[[Any], Any]) -> Any:
        """The answer of a call."""
        raise NotImplementedError

    async def chunks(self, client: Any, ask: Callable[[Any], Any]) -> list[Any]:
        """The whole of a stream or of a list."""
        raise NotImplementedError

    async def leave(self, client: Any, ask: Callable[[Any], Any]) -> Any:
        """The first chunk of a stream, which is then left."""
        raise NotImplementedError

    async def helped(self, client: Any, **asked: Any) -> tuple[list[Any], Any]:
        """The events and the final completion of the stream helper."""
        raise NotImplementedError


class AsyncClient(Client):
    plain = openai.AsyncOpenAI
    azure = openai.AsyncAzureOpenAI

    async def call(self, client: Any, ask: Callable[[Any], Any]) -> Any:
        return await ask(client)

    async def chunks(self, client: Any, ask: Callable[[Any], Any]) -> list[Any]:
        given = ask(client)
        return [chunk async for chunk in (await given if asyncio.iscoroutine(given) else given)]

    async def leave(self, client: Any, ask: Callable[[Any], Any]) -> Any:
        async with await ask(client) as stream:
            return await anext(aiter(stream))

    async def helped(self, client: Any, **asked: Any) -> tuple[list[Any], Any]:
        async with client.chat.completions.stream(**asked) as stream:
            return [event async for event in stream], await stream.get_final_completion()


class SyncClient(Client):
    plain = openai.OpenAI
    azure = openai.AzureOpenAI

    async def call(self, client: Any, ask: Callable[[Any], Any]) -> Any:
        return await asyncio.to_thread(ask, client)

    async def chunks(self, client: Any, ask: Callable[[Any], Any]) -> list[Any]:
        return await asyncio.to_thread(lambda: list(ask(client)))

    async def leave(self, client: Any, ask: Callable[[Any], Any]) -> Any:
        def first() -> Any:
            with ask(client) as stream:
                return next(iter(stream))

        return await asyncio.to_thread(first)

    async def helped(self, client: Any, **asked: Any) -> tuple[list[Any], Any]:
        def whole() -> tuple[list[Any], Any]:
            with client.chat.completions.stream(**asked) as stream:
                return list(stream), stream.get_final_completion()

        return await asyncio.to_thread(whole)


class Openai:
    """Clients of one kind; closed after the test."""

    def __init__(self, kind: Client, stack: AsyncExitStack) -> None:
        self.kind = kind
        self._stack = stack

    async def made(self, base_url: str, key: str = KEY, *, max_retries: int = 0) -> Asked:
        """A client for this base URL."""
        return await self._kept(self.kind.plain(base_url=base_url, api_key=key, max_retries=max_retries))

    async def made_for_azure(self, root: str, key: str = KEY) -> Asked:
        """A client for the dated API of Azure."""
        return await self._kept(
            self.kind.azure(azure_endpoint=root, api_key=key, api_version="2024-10-21", max_retries=0)
        )

    async def _kept(self, client: Any) -> Asked:
        if isinstance(client, openai.AsyncOpenAI):
            await self._stack.enter_async_context(client)
        else:
            self._stack.callback(client.close)
        return Asked(self.kind, client)


class Asked:
    """A client, and how it is asked."""

    def __init__(self, kind: Client, client: Any) -> None:
        self._kind = kind
        self._client = client

    async def call(self, ask: Callable[[Any], Any]) -> Any:
        return await self._kind.call(self._client, ask)
