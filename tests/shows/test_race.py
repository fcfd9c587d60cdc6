"""Races for the last of a budget: nothing is overspent, nothing is lost, and nothing lies idle."""

from __future__ import annotations

import asyncio
import os
import random
import time
from collections import Counter
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path

import pytest

from tests.running import Gateway, eventually
from tests.shows.books import Books, StateFolder
from tests.shows.callers import Answer, Line, body_of, worst_nanousd
from tests.shows.provider import CHEAP, DEAR, PRICES, Provider, cost_of, total_of
from tests.shows.world import MODEL, Deploy, policy_of, provider, started

LEAVING, FAILING, FALLING_BACK = 0.10, 0.10, 0.05
"""Shares of calls whose caller leaves, that fail at both targets, that are answered by the dear one."""
KEYS = {f"key-{number}": f"team-{number % 4}" for number in range(8)}
OUTPUT_TOKENS, MOST_TOKENS = 12, 40
WORDS = ("Where does the river go? ", "What is it like? ")
CLIENTS = 1000
CALLS = int(os.environ.get("HEADGATE_RACE_CALLS", "5"))
"""Of each client: of the 20 that make the whole race a quarter, which takes as long on two cores as one seed
may. 20 in the environment runs it all."""
GIVE_UP_S = 20.0
AGAIN = ("budget_held", "store_unavailable")
"""A caller who is told that what is left is held, or that the store was too slow, asks again for so long."""


@dataclass
class Race:
    """What became of the calls of one race."""

    answered: dict[str, tuple[str, str]] = field(default_factory=dict)
    """Gateway's request id → (the provider's id of the answer, key)."""
    outcomes: Counter[str] = field(default_factory=Counter)
    refused: list[tuple[str, str, int]] = field(default_factory=list)
    """For good: (budget, key, the least that the call needed)."""
    largest: int = 0
    """Hold, in nano-dollars."""


class Callers:
    """Clients, each with a key and a connection of its own, one call after the other."""

    def __init__(self, addresses: list[str], clients: int, calls: int, seed: int) -> None:
        self._addresses, self._clients, self._calls = addresses, clients, calls
        self._dice = random.Random(seed)
        self.race = Race()

    async def run(self) -> Race:
        """All calls, at once."""
        async with asyncio.TaskGroup() as tasks:
            for number in range(self._clients):
                key = f"key-{number % len(KEYS)}"
                line = Line(self._addresses[number % len(self._addresses)], key)
                tasks.create_task(self._client(line, key, random.Random(self._dice.random())))
        return self.race

    async def _client(self, line: Line, key: str, dice: random.Random) -> None:
        for _ in range(self._calls):
            lot = dice.random()
            text = "".join(dice.choices(WORDS, k=dice.randrange(1, 6))) + f"{dice.getrandbits(40):x}"
            if lot < LEAVING:
                simulate = {"first_token_ms": 30}
                body = body_of(MODEL, text, MOST_TOKENS, simulate=simulate, stream=dice.random() < 0.5)
                await line.leave(body, dice.uniform(0, 0.04))
                self.race.outcomes["left"] += 1
            elif lot < LEAVING + FAILING:
                await self._call(
                    line, key, body_of(MODEL, text, MOST_TOKENS, simulate={"fault": "status_500"})
                )
            elif lot < LEAVING + FAILING + FALLING_BACK:
                simulate = {"by_model": {CHEAP: {"fault": "status_503"}}}
                await self._call(line, key, body_of(MODEL, text, MOST_TOKENS, simulate=simulate))
            else:
                await self._call(line, key, body_of(MODEL, text, MOST_TOKENS))
        line.close()

    async def _call(self, line: Line, key: str, body: bytes) -> None:
        until_s = time.monotonic() + GIVE_UP_S
        while True:
            answer = await line.call(body)
            self.race.outcomes[f"{answer.status} {answer.code}".strip()] += 1
            if answer.code not in AGAIN or time.monotonic() > until_s:
                break
            await asyncio.sleep(answer.wait_s)
        self._note(answer, key, body)

    def _note(self, answer: Answer, key: str, body: bytes) -> None:
        cheap, dear = (
            worst_nanousd(body, MOST_TOKENS, PRICES[model][0], PRICES[model][2]) for model in (CHEAP, DEAR)
        )
        self.race.largest = max(self.race.largest, dear)
        if answer.status == 200:
            self.race.answered[answer.headers["x-request-id"]] = answer.document["id"], key
        elif answer.code == "insufficient_quota":
            # Which of its targets it was refused at is not told: the dearer need is surely enough.
            is_dear = b"by_model" in body or b"status_500" in body
            self.race.refused.append((answer.document["error"]["budget"], key, dear if is_dear else cheap))


def budgets(calls: int) -> tuple[str, dict[str, int]]:
    """Three scopes, one in the other, for half of what so many calls would cost in all: a team has a little
    more than its share of that, a key more than its share of its team's. The rules, and limits by budget."""
    served = 1 - LEAVING - FAILING
    each = 20 * PRICES[CHEAP][0] + OUTPUT_TOKENS * PRICES[CHEAP][2]
    demand = round(calls * each * (served + FALLING_BACK * 3))
    limits = {"all": demand // 2, "team": demand // 2 * 27 // 100, "key": demand // 2 * 14 // 100}
    lines = ["budgets:"]
    for name, limit in limits.items():
        usd = f"{limit // 10**9}.{limit % 10**9:09}"
        lines += [f"  - {{name: {name}, per: {name}, usd: {usd}, every: month}}"]
    return "\n".join(lines), limits


async def race(deploy: Deploy, folder: Path, *, clients: int, calls: int, seed: int) -> str:
    """One race, and what is promised of it. Returns its figures."""
    rules, limits = budgets(clients * calls)
    with provider(folder, output_tokens=OUTPUT_TOKENS) as upstream:
        with started(deploy(folder / "gateways", policy_of(upstream.url, KEYS, rules))) as gateways:
            for gateway in gateways:
                await gateway.ready()
                await eventually(partial(knows_store, gateway))
            begun_s = time.monotonic()
            addresses = [gateway.running()["listen"] for gateway in gateways]
            run = await Callers(addresses, clients, calls, seed).run()
            seconds = time.monotonic() - begun_s
            await asyncio.sleep(1.0)  # the promise: nothing is held after it
            books = await deploy.books(gateways)
            journals = [each for gateway in gateways for each in StateFolder(gateway.state).journals()]
            held = sum(sum(journal.holds.values()) for journal in journals)
        after = await deploy.books(gateways)
    assert (held, books.held) == (0, 0)
    assert after.wrong == books.wrong == []
    assert after.posted == books.posted
    return judged(run, books, upstream, limits, seconds)


async def knows_store(gateway: Gateway) -> bool:
    """Whether its keeper has the store."""
    return await gateway.metric("headgate_store_up") == 1


def judged(run: Race, books: Books, upstream: Provider, limits: dict[str, int], seconds: float) -> str:
    """The books against the provider's bill. Returns the figures."""
    bill = {entry.id: entry for entry in upstream.bill()}
    rows: Counter[str] = Counter()
    for row in books.rows:
        rows[row["request_id"]] += row["nanousd"] or 0
    wrong = {
        request: (rows[request], cost_of(bill[answer]))
        for request, (answer, _) in run.answered.items()
        if rows[request] != cost_of(bill[answer])
    }
    assert wrong == {}  # to the nano-dollar, call by call
    known = {answer for answer, _ in run.answered.values()}
    cut_bill = sum(cost_of(entry) for id_, entry in bill.items() if id_ not in known)
    cut_posted = sum(amount for request, amount in rows.items() if request not in run.answered)
    assert cut_posted >= cut_bill
    posted = {account.rpartition("|")[0]: amount for account, amount in books.posted.items()}
    limit_of = {account: limits[account.partition("|")[0]] for account in posted}
    total = posted["all|all"]
    assert total == sum(rows.values()) >= total_of(bill.values())
    assert {account: amount for account, amount in posted.items() if amount > limit_of[account]} == {}
    # Who was refused for good: what was left of the budget that said so was too little for the call.
    short, false = Counter[str](), 0
    for budget, key, need in run.refused:
        subject = {"all": "all", "team": f"team={KEYS[key]}", "key": f"key={key}"}[budget]
        account = f"{budget}|{subject}"
        short[account] += 1
        false += limit_of[account] - posted[account] >= need
    unused = {account: limit_of[account] - posted[account] for account in short}
    wasted = {
        account: left
        for account, left in unused.items()
        if left > limit_of[account] // 100 and left > run.largest
    }
    said = (
        f"{seconds:.1f} s; {dict(run.outcomes)}; bill {total_of(bill.values())}, posted {total} of "
        f"{limits['all']} (cut: {cut_posted} for {cut_bill}); least used of an exhausted budget "
        f"{min((1 - left / limit_of[account] for account, left in unused.items()), default=0):.2%}; "
        f"refused for good {len(run.refused)}, {false} of them falsely"
    )
    print(f"\n{said}")
    assert run.refused and wasted == {}, said
    assert false <= len(run.refused) / 100, said
    assert not any(outcome.startswith("0") for outcome in run.outcomes), said
    return said


@pytest.mark.parametrize(
    "deploy", ["embedded-2", pytest.param("redis-2", marks=pytest.mark.system)], indirect=True
)
async def test_race_of_few_callers_passes_no_budget(deploy: Deploy, tmp_path: Path) -> None:
    await race(deploy, tmp_path, clients=48, calls=8, seed=1)


@pytest.mark.proof
@pytest.mark.timeout(120)
@pytest.mark.parametrize("seed", range(20))
@pytest.mark.parametrize("deploy", ["embedded-4", "redis-4"], indirect=True)
async def test_race_of_a_thousand_callers_passes_no_budget(deploy: Deploy, tmp_path: Path, seed: int) -> None:
    await race(deploy, tmp_path, clients=CLIENTS, calls=CALLS, seed=seed)
