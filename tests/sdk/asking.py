"""One test for both clients of the `openai` package: how each of them is asked.

A call is given as a function of the client, `lambda client: client.models.list()`; the async client's is
awaited, the sync client's runs in a thread.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

import openai

from tests.running import KEY
from tests.sdk.matrix import openai_at

Ask = Callable[[Any], Any]


class AsyncSdk:
    """An async client."""

    def __init__(self, client: Any) -> None:
        self.client = client

    @classmethod
    def plain(cls, base_url: str, key: str = KEY, *, max_retries: int = 0) -> AsyncSdk:
        return cls(openai_at(base_url, key, max_retries=max_retries))

    @classmethod
    def azure(cls, root: str, key: str = KEY) -> AsyncSdk:
        """For the dated API."""
        return cls(
            openai.AsyncAzureOpenAI(azure_endpoint=root, api_key=key, api_version="2024-10-21", max_retries=0)
        )

    async def close(self) -> None:
        await self.client.close()

    async def call(self, ask: Ask) -> Any:
        """The answer."""
        return await ask(self.client)

    async def chunks(self, ask: Ask) -> list[Any]:
        """A whole stream."""
        return [chunk async for chunk in await ask(self.client)]

    async def parsed(self, raw: Any) -> list[Any]:
        """The stream of a raw answer."""
        return [chunk async for chunk in raw.parse()]

    async def leave(self, ask: Ask) -> Any:
        """The first chunk of a stream, which is left then."""
        async with await ask(self.client) as stream:
            return await anext(aiter(stream))

    async def helped(self, **asked: Any) -> tuple[list[Any], Any]:
        """The events and the final completion of `chat.completions.stream`."""
        async with self.client.chat.completions.stream(**asked) as stream:
            return [event async for event in stream], await stream.get_final_completion()


class SyncSdk:
    """A sync client, each call in a thread."""

    def __init__(self, client: Any) -> None:
        self.client = client

    @classmethod
    def plain(cls, base_url: str, key: str = KEY, *, max_retries: int = 0) -> SyncSdk:
        http = openai.DefaultHttpxClient(verify=False)
        return cls(openai.OpenAI(base_url=base_url, api_key=key, max_retries=max_retries, http_client=http))

    @classmethod
    def azure(cls, root: str, key: str = KEY) -> SyncSdk:
        """For the dated API."""
        return cls(
            openai.AzureOpenAI(azure_endpoint=root, api_key=key, api_version="2024-10-21", max_retries=0)
        )

    async def close(self) -> None:
        self.client.close()

    async def call(self, ask: Ask) -> Any:
        """The answer."""
        return await asyncio.to_thread(ask, self.client)

    async def chunks(self, ask: Ask) -> list[Any]:
        """A whole stream."""
        return await asyncio.to_thread(lambda: list(ask(self.client)))

    async def parsed(self, raw: Any) -> list[Any]:
        """The stream of a raw answer."""
        return await asyncio.to_thread(lambda: list(raw.parse()))

    async def leave(self, ask: Ask) -> Any:
        """The first chunk of a stream, which is left then."""

        def first() -> Any:
            with ask(self.client) as stream:
                return next(iter(stream))

        return await asyncio.to_thread(first)

    async def helped(self, **asked: Any) -> tuple[list[Any], Any]:
        """The events and the final completion of `chat.completions.stream`."""

        def whole() -> tuple[list[Any], Any]:
            with self.client.chat.completions.stream(**asked) as stream:
                return list(stream), stream.get_final_completion()

        return await asyncio.to_thread(whole)


Sdk = AsyncSdk | SyncSdk
