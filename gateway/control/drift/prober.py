"""The prober: asks golden prompts on a schedule, judges the answers, tells of changes.

Each suite asks each of its targets one shard of its prompts at a time, `every` so often and a random bit
earlier or later, so that nobody else's schedule is met. What is due after a stop is spread, not made up for.
"""

from __future__ import annotations

import asyncio
import random
import secrets
import sqlite3
from collections.abc import Awaitable, Callable, Iterator, Mapping
from dataclasses import dataclass, field
from hashlib import blake2b
from typing import Any

from gateway.control.drift.probe_calls import DayBudget, ProbeCalls, Unasked
from gateway.control.drift.probe_file import ProbeFile
from gateway.control.exposition import Sample
from gateway.drift.compare import Comparing
from gateway.drift.golden import Golden
from gateway.drift.lexicon import refuses
from gateway.drift.probed import Probed, Verdict
from gateway.drift.schema import fits
from gateway.telemetry import probe_table
from gateway.telemetry.diagnostics import report
from gateway.telemetry.meters import ControlMeters

LOOK_S = 1.0
RUNS = 20
"""Runs by hand that can still be asked about."""
Table = Mapping[str, Any]
Name = tuple[str, str]
"""(suite, target)."""
Tell = Callable[[dict[str, Any]], Awaitable[None]]
Judged = Callable[[dict[str, Any]], None]
COMPARING = Comparing(lambda text: refuses(text)[1], fits)


class NoSuchProbe(LookupError):
    """There is no suite, or no target of it, of that name: a sentence."""


@dataclass(slots=True)
class Run:
    """A run by hand: a line for each answer so far."""

    id: str
    total: int
    lines: list[dict[str, Any]] = field(default_factory=list)
    done: bool = False


class Prober:
    """`probes` gives the policy's table (`policy.probe_compile`), None before the first; `tell` is awaited
    with each alarm, once it is written down; `judged` is told each answer that was judged."""

    def __init__(
        self,
        file: ProbeFile,
        calls: ProbeCalls,
        budget: DayBudget,
        probes: Callable[[], Table | None],
        meters: ControlMeters,
        tell: Tell,
        judged: Judged,
        now_s: Callable[[], float],
    ) -> None:
        self._file = file
        self._calls = calls
        self._budget = budget
        self._probes = probes
        self._meters = meters
        self._tell = tell
        self._judged = judged
        self._now_s = now_s
        self._known: dict[Name, Probed] = {}
        self._rounds: dict[Name, asyncio.Task[None]] = {}
        self._runs: dict[str, Run] = {}
        self._tasks: set[asyncio.Task[None]] = set()

    async def run(self) -> None:
        """For ever."""
        for alarm in self._file.untold():
            self._start(self._told(alarm))
        while True:
            try:
                self._look()
            except Exception as error:  # a mistake in one round must not end the schedule
                report(error)
            await asyncio.sleep(LOOK_S)

    def _look(self) -> None:
        now = self._now_s()
        for suite, subject in self._subjects():
            name = (suite["name"], subject["target"]["name"])
            probed = self._probed(name)
            spread = suite["every_s"] * suite["jitter"] * random.random()
            if probed.due_s is None or probed.due_s < now - suite["every_s"]:
                probed.due_s = now + spread
            if now >= probed.due_s and name not in self._rounds:
                probed.due_s = now + suite["every_s"] * (1 - suite["jitter"]) + 2 * spread
                prompts = _prompts(suite)
                shard, shards = probed.shard % suite["shards"], suite["shards"]
                probed.shard = (shard + 1) % shards
                self._begin(name, suite, subject, prompts[shard::shards], None)

    def _subjects(self) -> Iterator[tuple[Table, Table]]:
        probes = self._probes()
        for suite in probes["suites"] if probes is not None else ():
            for subject in suite["subjects"]:
                yield suite, subject

    def _probed(self, name: Name) -> Probed:
        if name not in self._known:
            self._known[name] = self._file.probed(*name)
        return self._known[name]

    def _begin(
        self, name: Name, suite: Table, subject: Table, prompts: list[Golden], run: Run | None
    ) -> asyncio.Task[None]:
        task = asyncio.get_running_loop().create_task(self._round(name, suite, subject, prompts, run))
        self._rounds[name] = task
        task.add_done_callback(lambda _: self._rounds.pop(name, None))
        return task

    async def _round(
        self, name: Name, suite: Table, subject: Table, prompts: list[Golden], run: Run | None
    ) -> None:
        """Asks prompts one after the other, and judges what comes."""
        probed = self._probed(name)
        probed.keep_to({prompt.id: prompt for prompt in _prompts(suite)})
        for prompt in prompts:
            line = await self._one(name, suite, subject, prompt, probed)
            if run is not None:
                run.lines.append(line)
        alarm = self._alarm(name, subject, probed)
        try:
            self._file.keep(*name, probed, alarm)
        except sqlite3.Error as error:
            report(error)
        if alarm is not None:
            self._start(self._told(alarm))

    async def _one(
        self, name: Name, suite: Table, subject: Table, prompt: Golden, probed: Probed
    ) -> dict[str, Any]:
        line: dict[str, Any] = {"suite": name[0], "target": name[1], "prompt": prompt.id, "kind": prompt.kind}
        probes = self._probes()
        assert probes is not None
        try:
            answered = await self._calls.ask(prompt, suite, subject, probes["budget"])
        except Unasked as error:
            self._meters.probed(*name, error.result, 0)
            return {**line, "result": error.result, "why": str(error)}
        verdict = probed.judge(
            prompt,
            answered.text,
            self._now_s(),
            comparing=COMPARING,
            repeats=suite["repeats"],
            seed=suite["seed"],
            settings=(suite["temperature"], suite["seed"], subject["cap"]),
        )
        self._meters.probed(*name, "ok", answered.nanousd)
        line |= {"result": "ok", **_told(verdict), "cost_nanousd": answered.nanousd}
        self._judged({**line, "model": subject["model"], "at_s": self._now_s()})
        return line

    def _alarm(self, name: Name, subject: Table, probed: Probed) -> dict[str, Any] | None:
        """The alarm of a change that was found just now."""
        if probed.alarm is not None or not probed.is_changed:
            return None
        told = f"{name[0]}\0{name[1]}\0{probed.asked}".encode()
        probed.alarm = {
            "id": blake2b(told, digest_size=8).hexdigest(),
            "kind": "probes",
            "suite": name[0],
            "model": subject["model"],
            "target": name[1],
            "at_s": self._now_s(),
            "since_s": probed.account.since_s(),
            "evidence": probed.evidence,
            "prompts": probed.oddest(),
        }
        return probed.alarm

    async def _told(self, alarm: dict[str, Any]) -> None:
        try:
            await self._tell(alarm)
            self._file.set_told(alarm["id"])
        except Exception as error:
            report(error)

    def _start(self, work: Any) -> None:
        task = asyncio.get_running_loop().create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    # what the admin port asks

    def start_run(self, suite: str, target: str) -> Run:
        """Asks all prompts of a suite now, of one target or of all. Raises `NoSuchProbe`."""
        chosen = self._chosen(suite, target)
        run = Run(secrets.token_hex(8), sum(len(table["prompts"]) for table, _ in chosen))
        self._runs[run.id] = run
        while len(self._runs) > RUNS:
            del self._runs[next(iter(self._runs))]
        self._start(self._whole(chosen, run))
        return run

    async def _whole(self, chosen: list[tuple[Table, Table]], run: Run) -> None:
        try:
            await asyncio.gather(*(self._after_others(suite, subject, run) for suite, subject in chosen))
        finally:
            run.done = True

    async def _after_others(self, suite: Table, subject: Table, run: Run) -> None:
        name = (suite["name"], subject["target"]["name"])
        while (under_way := self._rounds.get(name)) is not None:
            await asyncio.wait([under_way])
        await self._begin(name, suite, subject, _prompts(suite), run)

    def run_of(self, id_: str) -> Run | None:
        """A run by its id."""
        return self._runs.get(id_)

    def reset(self, suite: str, target: str) -> list[str]:
        """Learns anew what answers are like; the targets. Raises `NoSuchProbe`."""
        targets = []
        for table, subject in self._chosen(suite, target):
            name = (table["name"], subject["target"]["name"])
            self._probed(name).forget()
            self._file.keep(*name, self._probed(name))
            targets.append(name[1])
        return targets

    def _chosen(self, suite: str, target: str) -> list[tuple[Table, Table]]:
        of_it = [(table, subject) for table, subject in self._subjects() if table["name"] == suite]
        if not of_it:
            known = ", ".join(sorted({table["name"] for table, _ in self._subjects()})) or "none"
            raise NoSuchProbe(f"There is no suite {suite!r} with a target; there are: {known}.")
        found = [pair for pair in of_it if target in ("", pair[1]["target"]["name"])]
        if not found:
            known = ", ".join(subject["target"]["name"] for _, subject in of_it)
            raise NoSuchProbe(f"The suite {suite!r} does not ask {target!r}; it asks: {known}.")
        return found

    def told(self) -> dict[str, Any]:
        """How all suites stand, and what the day has cost."""
        probes = self._probes()
        nanousd, tokens = self._budget.spent()
        return {
            "suites": [
                {"suite": suite["name"], "model": subject["model"], **self._standing(suite, subject)}
                for suite, subject in self._subjects()
            ],
            "today": {"nanousd": nanousd, "tokens": tokens},
            "budget": None if probes is None else dict(probes["budget"]),
        }

    def _standing(self, suite: Table, subject: Table) -> dict[str, Any]:
        target = subject["target"]["name"]
        probed = self._probed((suite["name"], target))
        learnt = sum(answers.count >= suite["repeats"] for answers in probed.answers.values())
        return {
            "target": target,
            "state": "drift" if probed.alarm else "ok" if learnt else "learning",
            "evidence": round(probed.evidence, 3),
            "pass_ratio": probed.pass_ratio(),
            "agreement_ratio": probed.agreement_ratio(),
            "prompts": len(suite["prompts"]),
            "learnt": learnt,
            "asked": probed.asked,
            "due_s": probed.due_s,
            "alarm": probed.alarm,
        }

    def samples(self) -> Iterator[Sample]:
        """The gauges."""
        for suite, subject in self._subjects():
            labels = (suite["name"], subject["target"]["name"])
            probed = self._known.get(labels)
            if probed is None:
                continue
            yield probe_table.PROBE_EVIDENCE, labels, probed.evidence
            passes, agrees = probed.pass_ratio(), probed.agreement_ratio()
            if passes is not None:
                yield probe_table.PROBE_PASSES, labels, passes
            if agrees is not None:
                yield probe_table.PROBE_AGREEMENT, labels, agrees

    async def close(self) -> None:
        """Ends what is under way: what was asked stays counted."""
        under_way = [*self._rounds.values(), *self._tasks]
        for task in under_way:
            task.cancel()
        if under_way:
            await asyncio.wait(under_way)
        await self._calls.close()
        self._file.close()


def _prompts(suite: Table) -> list[Golden]:
    return [Golden.from_table(table) for table in suite["prompts"]]


def _told(verdict: Verdict) -> dict[str, Any]:
    return {"passes": verdict.passes, "agreement": verdict.agreement, "rank": verdict.rank}
