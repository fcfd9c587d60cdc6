"""What the shows run: a provider, gateways before it, and their policy."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from tests.running import Gateway
from tests.shows.books import Books, StateFolder
from tests.shows.callers import digest_of
from tests.shows.provider import CHEAP, DEAR, PRICES, Provider
from tests.shows.redis_books import SharedState, redis_books
from tests.stores.redis_server import RedisServer

MODEL = "fast"


@dataclass(slots=True)
class Deploy:
    """Gateways that share a store: one with the embedded one, or several on a Redis."""

    gateways: int
    workers: int
    redis: RedisServer | None = None
    address: str = ""
    """Where they reach that Redis, if not at its own socket."""

    def __call__(self, folder: Path, policy: str) -> list[Gateway]:
        """Makes (and does not start) them, in a folder, with a policy."""
        if self.redis is not None:
            policy += f'store: {{redis: "{self.address or self.redis.url}"}}\n'
        folder.mkdir(exist_ok=True)
        made = []
        for number in range(self.gateways):
            own = folder / f"gateway-{number}"
            own.mkdir()
            made.append(Gateway(own, policy, workers=self.workers, environ={}))
        return made

    async def books(self, gateways: Sequence[Gateway]) -> Books:
        """What their store says."""
        if self.redis is not None:
            return await redis_books(self.redis.url)
        return StateFolder(gateways[0].state).books()

    def state(self, gateways: Sequence[Gateway]) -> StateFolder | SharedState:
        """What they have in their store and their journals."""
        if self.redis is not None:
            return SharedState(self.redis, [gateway.state for gateway in gateways])
        return StateFolder(gateways[0].state)


def policy_of(url: str, keys: Mapping[str, str], rules: str) -> str:
    """A policy with one model, `MODEL`, that falls back from a cheap target to a dear one. `keys`: name →
    team; `rules`: its limits and budgets."""
    lines = ["version: 1", "providers:", f'  upstream: {{base_url: "{url}", api_key: {{env: UPSTREAM_KEY}}}}']
    # No retries and no ejections: faults are drawn for calls, not for targets.
    lines += ["models:", f"  {MODEL}:", f"    targets: [upstream/{CHEAP}, upstream/{DEAR}]"]
    lines += ["    retries: {attempts: 0}", "    health: {failures: 1000, eject: 1ms}", "prices:"]
    for model, prices in PRICES.items():
        whole, cached, output = (price / 1000 for price in prices)
        lines += [f"  upstream/{model}: {{input: {whole}, cached_input: {cached}, output: {output}}}"]
    lines += ["teams:", *(f'  {team}: {{models: ["*"]}}' for team in sorted(set(keys.values())))]
    lines += ["keys:"]
    lines += [f"  {key}: {{team: {team}, sha256: {digest_of(key)}}}" for key, team in keys.items()]
    return "\n".join([*lines, rules]) + "\n"


@contextmanager
def provider(folder: Path, *, output_tokens: int = 12, first_token_ms: float = 0) -> Iterator[Provider]:
    """A provider, ended afterwards."""
    running = Provider(folder, output_tokens=output_tokens, first_token_ms=first_token_ms)
    try:
        yield running
    finally:
        running.stop()


@contextmanager
def started(gateways: list[Gateway]) -> Iterator[list[Gateway]]:
    """They run (`Gateway.ready` waits until they serve), and are stopped afterwards."""
    try:
        for gateway in gateways:
            gateway.start()
        yield gateways
    finally:
        for gateway in gateways:
            if gateway.process is not None:
                gateway.stop()
