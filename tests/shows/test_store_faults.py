"""A Redis that fails under whole gateways: what callers see, what goes out, and what the books say."""

from __future__ import annotations

import asyncio
import time
from collections import Counter
from collections.abc import Awaitable, Callable, Iterable
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from tests.running import Gateway, eventually
from tests.shows.books import Books, StateFolder
from tests.shows.callers import Answer, Line, body_of
from tests.shows.provider import Provider, cost_of
from tests.shows.redis_faults import LONG, SHORT, Fault
from tests.shows.world import MODEL, Deploy, policy_of, provider, started
from tests.stores.redis_server import RedisServer
from tests.stores.slow_line import SlowLine

GATEWAYS = 2
CALLERS = 2
"""Of each group at each gateway."""
PAUSE_S = 0.01
GROUPS = ("closed", "tight", "open", "share")
TOKENS = 400
"""All calls cost nearly what is held for them, so that purses are soon empty."""
RATE, BURST = 10, 10
TIGHT_NANOUSD = 60_000_000
"""Some 250 calls, in closed mode as `closed`."""
RULES = f"""
budgets:
  - {{name: closed, match: {{team: closed}}, usd: 3, every: month}}
  - {{name: tight, match: {{team: tight}}, usd: 0.06, every: month}}
  - {{name: open, match: {{team: open}}, usd: 3, every: month, when_store_down: open}}
limits:
  - {{name: share, match: {{team: share}}, requests: {RATE}/s, burst: {BURST}}}
"""
CODES = {"store_unavailable": 503, "insufficient_quota": 429, "budget_held": 429, "rate_limit_exceeded": 429}
WARM_S = 0.5
"""Purses have something by then."""
PURSES_S = 3.0
"""Purses keep at most what the calls of two seconds hold, and these use 78 % of it."""
LONGEST_S = 1.5
"""A call waits 1 s for its keeper at most."""
BACK_S = 5.0
"""So long after an outage calls are served as before it, and the books agree with the bill."""


@dataclass(slots=True)
class Made:
    """One call and its answer."""

    group: str
    gateway: int
    answer: Answer

    @property
    def is_degraded(self) -> bool:
        return "x-headgate-degraded" in self.answer.headers


@dataclass
class Load:
    """Callers of all groups at all gateways, and all that they made."""

    addresses: list[str]
    made: list[Made] = field(default_factory=list)
    streams: list[Made] = field(default_factory=list)
    stopping: asyncio.Event = field(default_factory=asyncio.Event)

    async def run(self) -> None:
        async with asyncio.TaskGroup() as tasks:
            for gateway, address in enumerate(self.addresses):
                for group in GROUPS * CALLERS:
                    tasks.create_task(self._caller(group, gateway, Line(address, group)))

    async def _caller(self, group: str, gateway: int, line: Line) -> None:
        number = 0
        while not self.stopping.is_set():
            number += 1
            answer = await line.call(body_of(MODEL, f"What is {id(line):x}-{number:05}?", TOKENS))
            self.made.append(Made(group, gateway, answer))
            await asyncio.sleep(PAUSE_S)
        line.close()

    async def stream(self, group: str, gateway: int, lasts_s: float) -> Answer:
        """One that is under way for so long, once it is let through."""
        simulate = {"tokens_per_s": 40 / lasts_s, "output_tokens": 40}
        line = Line(self.addresses[gateway], group)
        body = body_of(MODEL, f"Tell of {group} {gateway}.", 40, stream=True, simulate=simulate)
        answer = await line.call(body)
        while answer.code == "store_unavailable":
            answer = await line.call(body)
        line.close()
        self.streams.append(Made(group, gateway, answer))
        return answer

    def since(self, at_s: float, until_s: float = float("inf")) -> list[Made]:
        """What was asked from then on."""
        return [made for made in self.made if at_s <= made.answer.begun_s < until_s]

    def is_served(self, at_s: float) -> bool:
        """Whether calls of each group are, at each gateway, that were asked after that time: those that the
        limits of their group let through."""
        served = {
            (made.group, made.gateway)
            for made in self.since(at_s)
            if not made.is_degraded and made.answer.code in ("", "insufficient_quota")
        }
        return len(served) == len(GROUPS) * len(self.addresses)


@dataclass(slots=True)
class Times:
    """Of one fault, in seconds of `time.monotonic`."""

    begun_s: float
    known_s: float
    """When each keeper knew that the store is out."""
    healed_s: float
    back_s: float
    """When all were served as before."""


class StoodStill(AssertionError):
    """Too many calls were without the store, in a fault that is none to them: something stood still."""


class Trial:
    """Faults that befall the Redis of some gateways, one after the other."""

    def __init__(self, server: RedisServer, slow: SlowLine, gateways: list[Gateway], load: Load) -> None:
        self._server, self._slow, self._gateways, self._load = server, slow, gateways, load

    async def one(self, fault: Fault) -> str:
        """Judges what callers saw of it; what they saw, in a line."""
        load = self._load
        before_s = time.monotonic()
        await eventually(lambda: load.is_served(before_s), says=lambda: f"before {fault.name}")
        lasts_s = WARM_S + fault.lasts_s + 1
        streams = [
            asyncio.create_task(load.stream(group, gateway, lasts_s))
            for group in ("closed", "open")
            for gateway in range(len(load.addresses))
        ]
        await asyncio.sleep(WARM_S)
        times = await self._befall(fault)
        ended = await asyncio.gather(*streams)
        assert [answer.status for answer in ended] == [200] * len(ended)
        assert all(b"data: [DONE]" in answer.body for answer in ended), "a stream was cut"
        judge_answers(fault, load.since(before_s), times)
        return said(fault, load.since(times.begun_s, times.back_s), times)

    async def _befall(self, fault: Fault) -> Times:
        load = self._load
        begun_s = known_s = time.monotonic()
        async with fault.befall(self._server, self._slow):
            if fault.is_outage and fault.is_steady:
                await self._all(lambda gateway: gateway.metric("headgate_store_up"), 0)
                known_s = time.monotonic()
            await asyncio.sleep(fault.lasts_s)
        healed_s = time.monotonic()
        await eventually(
            lambda: load.is_served(healed_s),
            within_s=BACK_S,
            says=lambda: f"not served after {fault.name}: {counted(load.since(healed_s))}",
        )
        return Times(begun_s, known_s, healed_s, time.monotonic())

    async def _all(self, ask: Callable[[Gateway], Awaitable[float]], value: float) -> None:
        async def is_so() -> bool:
            return all([await ask(gateway) == value for gateway in self._gateways])

        await eventually(is_so, says=lambda: "\n".join(gateway.said() for gateway in self._gateways))


def judge_answers(fault: Fault, made: list[Made], times: Times) -> None:
    """What callers may see of a fault, and of none."""
    for each in made:
        answer = each.answer
        assert CODES.get(answer.code, 200) == answer.status, (fault.name, each)
        if answer.status == 503:
            assert each.group in ("closed", "tight") and answer.wait_s > 0, (fault.name, each)
        if each.group == "open":
            assert answer.status == 200, (fault.name, each)
    if not fault.is_outage:
        # But for a moment in which a busy machine let an answer wait for more than 100 ms.
        odd = [each for each in made if each.is_degraded or each.answer.code == "store_unavailable"]
        if len(odd) > len(made) // 10:
            raise StoodStill((fault.name, counted(made)))
    if not (fault.is_outage and fault.is_steady):
        return
    out = [each for each in made if times.known_s <= each.answer.begun_s < times.healed_s]
    # Purses had what a second's calls need; then nothing goes out that only the store could cover.
    late_s = times.known_s + PURSES_S
    late = [each for each in out if each.answer.begun_s > late_s]
    assert [each for each in late if each.group == "closed" and each.answer.status == 200] == [], fault.name
    assert all(each.is_degraded for each in late if each.group == "open"), fault.name
    assert late or times.healed_s - times.known_s < PURSES_S + 1, fault.name
    shared = Counter(each.gateway for each in out if each.group == "share" and each.answer.status == 200)
    # Its part of the burst, its part of the rate, and what its purse had.
    most = BURST / GATEWAYS + RATE / GATEWAYS * (times.healed_s - times.known_s) + BURST + 1
    assert max(shared.values(), default=0) <= most, (fault.name, shared, most)


def counted(made: Iterable[Made]) -> dict[str, int]:
    """Answers by group and kind."""
    kinds = Counter(
        f"{each.group} {each.answer.code or each.answer.status}{' degraded' * each.is_degraded}"
        for each in made
    )
    return dict(sorted(kinds.items()))


def said(fault: Fault, made: list[Made], times: Times) -> str:
    """What is worth a look."""
    longest_s = max((each.answer.ended_s - each.answer.begun_s for each in made), default=0.0)
    return (
        f"{fault.name}: known after {times.known_s - times.begun_s:.2f} s, served again "
        f"{times.back_s - times.healed_s:.2f} s after its end; longest call {longest_s:.2f} s; "
        f"{counted(made)}"
    )


async def agree(
    deploy: Deploy, gateways: list[Gateway], upstream: Provider, load: Load, *, has_rows: bool
) -> None:
    """All that was billed is posted, and nothing else; each call once."""
    bill = {entry.id: cost_of(entry) for entry in upstream.bill()}
    served = [each for each in load.made if each.answer.status == 200]
    costs: Counter[str] = Counter()
    for each in served:
        costs[each.group] += bill[each.answer.document["id"]]
    for each in load.streams:
        costs[each.group] += bill[each.answer.body.partition(b'"id":"')[2].partition(b'"')[0].decode()]
    books = Books({}, {}, 0, [], [])

    async def is_settled() -> bool:
        nonlocal books
        books = await deploy.books(gateways)
        posted = {account.partition("|")[0]: amount for account, amount in books.posted.items()}
        return not books.held and all(
            posted.get(group) == costs[group] for group in ("closed", "tight", "open")
        )

    await eventually(is_settled, within_s=BACK_S, says=lambda: f"posted {books.posted}, billed {costs}")
    assert books.wrong == []
    assert max(each.answer.ended_s - each.answer.begun_s for each in load.made) < LONGEST_S
    assert costs["tight"] <= TIGHT_NANOUSD
    assert sum(sum(j.holds.values()) for each in gateways for j in StateFolder(each.state).journals()) == 0
    if has_rows:
        rows = Counter(row["request_id"] for row in books.rows if row["nanousd"])
        assert [request for request, times in rows.items() if times != 1] == []
        assert {each.answer.headers["x-request-id"] for each in served} <= rows.keys()


async def befall(folder: Path, faults: Iterable[Fault]) -> None:
    """Some faults, one after the other, of a Redis that two gateways share."""
    faults = list(faults)
    server = RedisServer().start()
    try:
        async with SlowLine(server.socket) as slow:
            is_far = any(fault.befall.__name__ in ("slow", "far") for fault in faults)
            deploy = Deploy(GATEWAYS, 1, server, slow.url if is_far else "")
            with provider(folder, output_tokens=TOKENS) as upstream:
                policy = policy_of(upstream.url, {group: group for group in GROUPS}, RULES)
                with started(deploy(folder / "gateways", policy)) as gateways:
                    for gateway in gateways:
                        await gateway.ready()
                    load = Load([gateway.running()["listen"] for gateway in gateways])
                    loading = asyncio.create_task(load.run())
                    trial = Trial(server, slow, gateways, load)
                    for fault in faults:
                        try:
                            line = await trial.one(fault)
                        except StoodStill:
                            # A disk that is busy with something else for half a second does so once.
                            line = await trial.one(fault)
                        print(f"\n{line}", flush=True)
                    load.stopping.set()
                    await loading
                    has_rows = not any(fault.forgets_rows for fault in faults)
                    await agree(deploy, gateways, upstream, load, has_rows=has_rows)
    finally:
        server.stop()


@pytest.mark.system
async def test_callers_and_books_bear_faults_of_the_store(tmp_path: Path) -> None:
    await befall(tmp_path, SHORT)


@pytest.mark.proof
@pytest.mark.timeout(120)
@pytest.mark.parametrize("fault", LONG, ids=lambda fault: fault.name)
async def test_callers_and_books_bear_a_fault_of_the_store(tmp_path: Path, fault: Fault) -> None:
    await befall(tmp_path, [fault])
