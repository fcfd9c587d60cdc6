"""Twenty minutes of everything that a gateway meets leave nothing behind in it."""

from __future__ import annotations

import pytest

from tests.soak.run import main

pytestmark = [pytest.mark.proof, pytest.mark.timeout(30 * 60)]


def test_twenty_minutes_of_load_faults_and_reloads_leave_nothing_behind(
    capsys: pytest.CaptureFixture[str],
) -> None:
    status = main(["--minutes", "20"])
    said = capsys.readouterr()
    print(said.out)
    assert (status, said.err) == (0, "")
