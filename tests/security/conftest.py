"""The lines of `tests/line`, and a provider that says what it is told to say."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest

from tests.line.conftest import catalogue, relay, start
from tests.security.listening import Listening

__all__ = ["catalogue", "relay", "start"]


@pytest.fixture
async def provider() -> AsyncIterator[Listening]:
    provider = Listening()
    await provider.start()
    yield provider
    await provider.stop()
