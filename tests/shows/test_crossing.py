"""Two calls that cross over two budgets, each lying idle at the other's worker: one of them is served."""

from __future__ import annotations

import asyncio
from collections import Counter
from pathlib import Path

import pytest

from tests.shows.callers import Line, body_of, lines_to_workers, worst_nanousd
from tests.shows.provider import CHEAP, PRICES
from tests.shows.world import MODEL, Deploy, policy_of, provider, started

LEFT, RIGHT, BOTH = "left", "right", "both"
KEYS = {LEFT: "team-0", RIGHT: "team-0", BOTH: "team-0"}
LIMIT = 3_000_000
"""Nano-dollars of each budget, of which each user has one of either side."""
USD = f"{LIMIT / 10**9:.9f}"
RULES = f"""budgets:
  - {{name: lefts, match: {{key: [left, both]}}, per: user, usd: {USD}, every: month}}
  - {{name: rights, match: {{key: [right, both]}}, per: user, usd: {USD}, every: month}}"""
WARMING = 3
"""Small calls by which a worker comes to have money lying idle."""


def small(user: str) -> bytes:
    """A call that costs next to nothing."""
    return body_of(MODEL, "Hi", 1, user=user)


def large(user: str, left: int) -> bytes:
    """A call whose worst case is all that is left, but for less than a byte of input. It is its input that is
    large: a cap would shrink."""
    whole, _, output = PRICES[CHEAP]
    empty = worst_nanousd(body_of(MODEL, "", 1, user=user, **SLOW), 1, whole, output)
    return body_of(MODEL, "x" * ((left - empty) // whole), 1, user=user, **SLOW)


SLOW = {"simulate": {"first_token_ms": 50, "output_tokens": 1}}


class Crossing:
    """Rounds of two workers of one gateway."""

    def __init__(self, lines: dict[str, list[Line]]) -> None:
        self._lines = lines
        self.admitted: Counter[int] = Counter()
        self.codes: Counter[str] = Counter()

    async def round(self, number: int) -> None:
        """Each worker gets one budget's money into its purse; then both want all of both."""
        user = f"user-{number}"
        spent = 0
        for _ in range(WARMING):
            one, other = await asyncio.gather(
                self._lines[LEFT][0].call(small(user)), self._lines[RIGHT][1].call(small(user))
            )
            assert (one.status, other.status) == (200, 200), (one, other)
            usage = one.document["usage"]
            spent += usage["prompt_tokens"] * PRICES[CHEAP][0] + usage["completion_tokens"] * PRICES[CHEAP][2]
        body = large(user, LIMIT - spent)
        answers = await asyncio.gather(*(line.call(body) for line in self._lines[BOTH]))
        for answer in answers:
            self.codes[f"{answer.status} {answer.code}".strip()] += 1
        self.admitted[sum(answer.status == 200 for answer in answers)] += 1


async def cross(deploy: Deploy, folder: Path, rounds: int) -> None:
    """So many rounds."""
    with provider(folder, output_tokens=1) as upstream:
        policy = policy_of(upstream.url, KEYS, RULES)
        with started(deploy(folder / "gateway", policy)) as gateways:
            gateway = gateways[0]
            await gateway.ready()
            running = gateway.running()
            lines = {
                key: await lines_to_workers(running["listen"], key, running["worker_pids"]) for key in KEYS
            }
            crossing = Crossing(lines)
            for number in range(rounds):
                await crossing.round(number)
    said = (
        f"\n{rounds} crossings: {dict(crossing.codes)}; calls admitted in a round: {dict(crossing.admitted)}"
    )
    print(said)
    assert crossing.admitted[0] == 0, said
    # If both were always served, they did not want the same money.
    assert crossing.admitted[1] > rounds * 0.9, said


@pytest.mark.proof
@pytest.mark.timeout(300)
@pytest.mark.parametrize("deploy", ["embedded-2"], indirect=True)
async def test_one_of_two_that_cross_is_served_500_times(deploy: Deploy, tmp_path: Path) -> None:
    await cross(deploy, tmp_path, 500)
