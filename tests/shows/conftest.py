"""Which store a show runs on."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.shows.world import Deploy
from tests.stores.redis_server import RedisServer


@pytest.fixture
def deploy(request: pytest.FixtureRequest) -> Iterator[Deploy]:
    """ "embedded-4": one gateway of four workers; "redis-4": four gateways on a Redis."""
    kind, _, count = request.param.partition("-")
    if kind == "embedded":
        yield Deploy(1, int(count))
        return
    server = RedisServer().start()
    try:
        yield Deploy(int(count), 1, server)
    finally:
        server.stop()
