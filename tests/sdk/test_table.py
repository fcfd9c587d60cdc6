"""The matrix in the README is what comes out when it is tried."""

from __future__ import annotations

import hashlib

from gateway.simulator.server import Simulator
from tests.conftest import StartGateway
from tests.running import KEY, ROOT
from tests.sdk.matrix import policy_of
from tests.sdk.table import YES, markdown, tried


async def test_matrix_of_the_readme_is_what_comes_out(serve: StartGateway, simulator: Simulator) -> None:
    gateway = await serve(policy_of(simulator.url, hashlib.sha256(KEY.encode()).hexdigest()))
    found = await tried(gateway.url, simulator)
    assert [cell for cells in found.values() for cell in cells if cell != YES] == []
    assert markdown(found) in (ROOT / "README.md").read_text(), "make matrix ARGS=--write"
