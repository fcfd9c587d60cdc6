"""One gateway in this process for a module, in front of an upstream that keeps what it receives."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from pathlib import Path

import pytest
import pytest_asyncio

from gateway.http.server import CallerTimes
from gateway.pricing.catalogue import Catalogue
from tests.http.framing.recorder import Recorder
from tests.relaying import Relay, start_relay
from tests.running import policy_for

TIMES = CallerTimes(head_s=0.2, body_s=0.2)
"""Short, for the payloads that are not whole."""


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def recorder() -> AsyncIterator[Recorder]:
    recorder = Recorder()
    server = await recorder.start()
    yield recorder
    server.close()


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def framed(recorder: Recorder, tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Relay]:
    """The gateway."""
    folder: Path = tmp_path_factory.mktemp("framing")
    async with AsyncExitStack() as stack:
        policy = policy_for(recorder.url)
        yield await start_relay(stack, folder / "line", Catalogue(), policy, times=TIMES)
