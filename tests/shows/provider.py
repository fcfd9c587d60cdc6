"""The simulated provider as a process of its own, and its bill."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterable
from contextlib import suppress
from pathlib import Path

from gateway.simulator.bill import Entry, read
from tests.running import ROOT

CHEAP, DEAR = "cheap", "dear"
PRICES = {CHEAP: (150, 75, 600), DEAR: (600, 300, 2400)}
"""Nano-dollars a token: input, cached input, output."""


def cost_of(entry: Entry) -> int:
    """What a line of the bill costs, in nano-dollars."""
    whole, cached, output = PRICES[entry.model]
    fresh = entry.input_tokens - entry.cached_input_tokens
    return fresh * whole + entry.cached_input_tokens * cached + entry.output_tokens * output


class Provider:
    """It answers at `url`, with `output_tokens` after `first_token_ms` unless a call says otherwise."""

    def __init__(self, folder: Path, *, output_tokens: int = 12, first_token_ms: float = 0) -> None:
        self.file = folder / "bill.jsonl"
        command = [sys.executable, "-m", "gateway.cli.main", "simulate", "--port", "0"]
        command += ["--first-token-ms", f"{first_token_ms}", "--tokens-per-s", "0"]
        command += ["--output-tokens", f"{output_tokens}", "--bill", str(self.file)]
        self._process = subprocess.Popen(command, cwd=ROOT, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE)
        assert self._process.stdout is not None
        said = self._process.stdout.readline().decode()
        self.url = next(word for word in said.split() if word.startswith("http"))

    def bill(self) -> list[Entry]:
        """All that was billed so far."""
        with suppress(FileNotFoundError):
            return list(read(self.file))
        return []

    def stop(self) -> None:
        """Ends it."""
        self._process.terminate()
        self._process.wait(10)
        assert self._process.stdout is not None
        self._process.stdout.close()


def total_of(bill: Iterable[Entry]) -> int:
    """In nano-dollars."""
    return sum(map(cost_of, bill))
