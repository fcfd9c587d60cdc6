"""A Redis that may lose what it is told, and a gateway that is started on it."""

from __future__ import annotations

from collections.abc import Iterator

import aiohttp
import pytest

from gateway.simulator.server import Simulator
from tests.conftest import StartGateway
from tests.running import KEY, policy_for
from tests.stores.redis_server import RedisServer

pytestmark = pytest.mark.system

STRICT = "budgets: [{name: month, usd: 5, every: month}]"
ESTIMATE = "budgets: [{name: month, usd: 5, every: month, class: estimate}]"


@pytest.fixture
def redis_server() -> Iterator[RedisServer]:
    server = RedisServer().start()
    yield server
    server.stop()


@pytest.fixture
def lossy(redis_server: RedisServer) -> RedisServer:
    redis_server.run("CONFIG", "SET", "appendfsync", "everysec")
    redis_server.run("CONFIG", "SET", "maxmemory-policy", "allkeys-lru")
    return redis_server


def policy(simulator: Simulator, server: RedisServer, budgets: str, more: str = "") -> str:
    store = f'store: {{redis: "{server.url}"{more}}}'
    return policy_for(simulator.url, rest=f"{budgets}\n{store}")


async def answer(url: str) -> tuple[int, str]:
    body = {"model": "gpt-4o-mini", "messages": [{"role": "user", "content": "Hello"}]}
    headers = {"authorization": f"Bearer {KEY}"}
    async with aiohttp.request("POST", f"{url}/chat/completions", json=body, headers=headers) as response:
        document = await response.json()
        return response.status, document.get("error", {}).get("code", "")


async def test_gateway_with_a_strict_budget_does_not_start_on_it_and_says_what_to_do(
    simulator: Simulator, lossy: RedisServer, serve: StartGateway
) -> None:
    with pytest.raises(AssertionError, match="the gateway ended with 2") as ended:
        await serve(policy(simulator, lossy, STRICT))
    said = str(ended.value)
    assert "maxmemory-policy is allkeys-lru, not noeviction; appendfsync is everysec, not always" in said
    assert "`accept_lossy_store: true` under `store` of the policy" in said
    assert "the gateway does not start" in said


@pytest.mark.parametrize(
    ("budgets", "more"),
    [(STRICT, ", accept_lossy_store: true"), (ESTIMATE, "")],
    ids=["accepted", "estimate"],
)
async def test_gateway_starts_on_it_where_that_is_accepted_or_no_budget_is_strict(
    simulator: Simulator, lossy: RedisServer, serve: StartGateway, budgets: str, more: str
) -> None:
    gateway = await serve(policy(simulator, lossy, budgets, more))
    assert await answer(gateway.url) == (200, "")


async def test_gateway_that_runs_goes_on_with_all_but_strict_budgets_and_with_them_when_it_is_mended(
    simulator: Simulator, redis_server: RedisServer, serve: StartGateway
) -> None:
    gateway = await serve(policy(simulator, redis_server, ESTIMATE))
    redis_server.run("CONFIG", "SET", "appendfsync", "everysec")
    await gateway.edit(policy(simulator, redis_server, STRICT))
    assert await answer(gateway.url) == (503, "store_unavailable")
    assert "appendfsync is everysec" in gateway.said()
    redis_server.run("CONFIG", "SET", "appendfsync", "always")
    await gateway.ready()
    assert await answer(gateway.url) == (200, "")
