"""Traffic as a gateway of a small company has it, for the console to show."""

from __future__ import annotations

import asyncio
import hashlib
import math
import random
from typing import Any

import aiohttp

from gateway.simulator.settings import Settings
from tests.running import Gateway

KEYS = {"search-app": "search", "search-batch": "search", "support-bot": "support", "notebooks": "research"}
MODELS = {"chat": ("swift", "broad"), "fast": ("swift",), "reason": ("broad",), "embed": ("swift",)}


def key_of(name: str) -> str:
    """The text of a caller's key."""
    return f"hg-{name:x<43}"


def settings() -> Settings:
    """A provider that takes its time."""
    return Settings(first_token_ms=90, tokens_per_s=160, output_tokens=80, max_requests=0)


def policy(url: str) -> str:
    """Three teams, four keys, four models at two providers that are one; budgets, limits and prices."""
    lines = ["version: 1", "providers:"]
    lines += [
        f'  {name}: {{base_url: "{url}", api_key: {{env: UPSTREAM_KEY}}}}' for name in ("swift", "broad")
    ]
    lines.append("models:")
    for model, providers in MODELS.items():
        targets = ", ".join(f"{provider}/{model}" for provider in providers)
        lines.append(f"  {model}: {{targets: [{targets}], retries: {{attempts: 1, budget: 20%}}}}")
    lines += ["prices:", "  swift/*: {input: 0.4, cached_input: 0.1, output: 1.6}"]
    lines += ["  broad/*: {input: 2, cached_input: 0.5, output: 8}", "teams:"]
    lines += [f'  {team}: {{models: ["*"]}}' for team in sorted(set(KEYS.values()))]
    lines.append("keys:")
    for name, team in KEYS.items():
        digest = hashlib.sha256(key_of(name).encode()).hexdigest()
        lines.append(f"  {name}: {{team: {team}, sha256: {digest}}}")
    lines += ["limits:", "  - {name: each-key, per: key, requests: 1200/min, concurrent: 60}"]
    lines.append("  - {name: notebooks-rate, match: {key: notebooks}, requests: 90/min}")
    lines.append("budgets:")
    lines.append("  - {name: search-month, match: {team: search}, usd: 40, every: month, timezone: UTC}")
    lines.append("  - {name: support-day, match: {team: support}, usd: 0.66, every: day, timezone: UTC}")
    lines.append("  - {name: research-day, match: {team: research}, usd: 2, every: day, timezone: UTC}")
    return "\n".join(lines) + "\n"


class Traffic:
    """Calls of all keys, in waves, some of which fail. Runs until it is stopped."""

    def __init__(self, gateway: Gateway, seed: int = 5) -> None:
        self._url = gateway.url
        self._random = random.Random(seed)
        self._calls: set[asyncio.Task[None]] = set()
        self._http = aiohttp.ClientSession()

    async def run(self, per_s: float) -> None:
        """About so many calls a second."""
        began_s = asyncio.get_running_loop().time()
        while True:
            at_s = asyncio.get_running_loop().time() - began_s
            wave = 1 + 0.45 * math.sin(at_s / 23) + 0.25 * math.sin(at_s / 7.3)
            await asyncio.sleep(self._random.expovariate(max(0.2, per_s * wave)))
            call = asyncio.create_task(self._call(at_s))
            self._calls.add(call)
            call.add_done_callback(self._calls.discard)

    async def close(self) -> None:
        """Ends all calls."""
        for call in self._calls:
            call.cancel()
        await asyncio.gather(*self._calls, return_exceptions=True)
        await self._http.close()

    async def one(self, **body: Any) -> int:
        """The status of one call of search-app."""
        return await self._ask("search-app", {"model": "chat", **body})

    async def _call(self, at_s: float) -> None:
        key = self._random.choices(list(KEYS), [9, 4, 4, 2])[0]
        model = self._random.choices(list(MODELS), [8, 6, 3, 0])[0]
        body: dict[str, Any] = {"model": model, "stream": self._random.random() < 0.7}
        body["simulate"] = {"output_tokens": self._random.randint(20, 160)}
        # A provider that has a bad minute out of three.
        if self._random.random() < (0.12 if at_s % 180 > 120 else 0.02):
            body["simulate"]["fault"] = self._random.choice(["status_500", "status_503", "close"])
        try:
            await self._ask(key, body)
        except aiohttp.ClientError:
            return

    async def _ask(self, key: str, body: dict[str, Any]) -> int:
        words = " ".join(["word"] * self._random.randint(20, 400))
        asked = {"messages": [{"role": "user", "content": words}], **body}
        headers = {"authorization": f"Bearer {key_of(key)}"}
        async with self._http.post(f"{self._url}/chat/completions", json=asked, headers=headers) as answer:
            await answer.read()
            return answer.status
