"""`make soak`: a whole gateway under load, faults and reloads for a while, and what it kept of them."""

from __future__ import annotations

import argparse
import asyncio
import hashlib
import json
import sys
import tempfile
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import aiohttp

from tests.running import KEY, ROOT, Gateway, eventually
from tests.soak.verdict import MIB, Seen, Watched, failures, judges_slope, look, slope

WORKERS = 2
SAMPLE_EVERY_S, RELOAD_EVERY_S = 5.0, 10.0
BAD_RELOAD_EVERY = 6
"""Every sixth policy is no policy."""
SETTLES_S = 30.0
"""Until all is idle after the load: an idle connection to a provider stays for three seconds."""
_POLICY = """\
version: 1
providers:
  first: {{base_url: "{first}", api_key: {{env: UPSTREAM_KEY}}, idle: 3s}}
  second: {{base_url: "{second}", api_key: {{env: UPSTREAM_KEY}}, idle: 3s}}
models:
  gpt-4o-mini: {{targets: [first/gpt-4o-mini, second/gpt-4o-mini], timeouts: {timeouts}}}
  text-embedding-3-small: {{targets: [second/embed, first/embed], timeouts: {timeouts}}}
prices:
  first/*: {{input: {price}, output: 0.60}}
  second/*: {{input: 0.15, output: 0.60}}
teams:
  search: {{models: ["*"]}}
keys:
  app: {{team: search, sha256: {sha256}}}
"""


def policy(first: str, second: str, version: int, wait_s: int) -> str:
    """Two providers, each of them the fallback of the other, which may keep a call waiting for `wait_s`;
    `version` makes it another policy."""
    return _POLICY.format(
        first=first,
        second=second,
        timeouts=f"{{first_token: {wait_s}s, stall: {wait_s}s, total: {3 * wait_s}s}}",
        price=f"0.{150 + version % 100}",
        sha256=hashlib.sha256(KEY.encode()).hexdigest(),
    )


def patience_s(seconds: float) -> int:
    """How long a provider may be silent. A busy machine's is no less silent than one that is told to be, so
    a long run waits longer than a short one has time to."""
    return 3 if seconds < 120 else 10


@dataclass
class Soak:
    """One run. `say` gets a line of progress about once a second."""

    gateway: Gateway
    providers: list[str]
    seconds: float
    rate: float
    say: Callable[[str], None]
    watched: list[Watched] = field(default_factory=list)
    series: int = 0
    labels: list[frozenset[tuple[str, str]]] = field(default_factory=list)
    reloads: int = 0
    accepted: int = 0
    progress: dict[str, Any] = field(default_factory=dict)
    account: dict[str, Any] = field(default_factory=dict)
    _is_over: asyncio.Event = field(default_factory=asyncio.Event)

    async def run(self) -> Seen:
        """Load, rest, and what was seen."""
        gateway = self.gateway
        loop = asyncio.get_running_loop()
        self._began_s = loop.time()
        running = gateway.running()
        assert gateway.process is not None
        pids = {f"worker {index}": pid for index, pid in enumerate(running["worker_pids"])}
        pids |= {"control": running["control_pid"], "supervisor": gateway.process.pid}
        await self._first_call()
        await self._scrape()
        self.watched = [Watched(name, pid, look(pid, 0.0)) for name, pid in pids.items()]
        beside = [
            loop.create_task(self._every(min(SAMPLE_EVERY_S, self.seconds / 20), self._sample)),
            loop.create_task(self._every(min(RELOAD_EVERY_S, self.seconds / 8), self._reload)),
        ]
        try:
            await self._load()
        finally:
            self._is_over.set()
            ended = await asyncio.gather(*beside, return_exceptions=True)
        for result in ended:
            if isinstance(result, Exception):
                raise result
        return await self._rest()

    async def _first_call(self) -> None:
        """What is opened by the first answer of all, and stays open, is no leak: the state of drift."""
        body = {"model": "gpt-4o-mini", "messages": [{"role": "user", "content": "Where is the sea?"}]}
        headers = {"authorization": f"Bearer {KEY}"}
        where = f"{self.gateway.url}/chat/completions"
        async with aiohttp.request("POST", where, json=body, headers=headers) as answer:
            assert answer.status == 200, await answer.text()

        async def is_judged() -> bool:
            return await self.gateway.metric("headgate_drift_analyzed_total") == 1

        await eventually(is_judged, says=self.gateway.said)

    async def _load(self) -> None:
        command = [sys.executable, "-m", "tests.soak.load", self.gateway.url]
        command += ["--rate", str(self.rate), "--seconds", str(self.seconds)]
        process = await asyncio.create_subprocess_exec(
            *command, cwd=ROOT, stdout=asyncio.subprocess.PIPE, limit=1 << 20
        )
        assert process.stdout is not None
        try:
            async for line in process.stdout:
                said = json.loads(line)
                if said.get("over"):
                    self.account = said
                else:
                    self.progress = said
                    self.say(self._line())
        finally:
            if process.returncode is None and not self.account:
                process.kill()
            await process.wait()
        if not self.account:
            raise RuntimeError(f"the load ended with {process.returncode}")

    async def _every(self, period_s: float, act: Callable[[], Any]) -> None:
        # An act is not broken off: half a reload would be counted wrong.
        while True:
            with suppress(TimeoutError):
                await asyncio.wait_for(self._is_over.wait(), period_s)
                return
            await act()

    async def _sample(self) -> None:
        at_s = asyncio.get_running_loop().time() - self._began_s
        for each in self.watched:
            each.samples.append(look(each.pid, at_s))
        await self._scrape()

    async def _scrape(self) -> None:
        scrape = await self.gateway.metrics()
        self.series = len(scrape)
        # A policy's hash is another with each policy, and the one before is gone.
        self.labels.append(frozenset(label for _, labels in scrape for label in labels if label[0] != "hash"))

    async def _reload(self) -> None:
        """Another policy; now and then one that is none, which must be refused."""
        self.reloads += 1
        gateway = self.gateway
        if self.reloads % BAD_RELOAD_EVERY:
            self.accepted += 1
            await gateway.edit(policy(*self.providers, self.reloads, patience_s(self.seconds)))
            return
        before = await gateway.metric("headgate_policy_reloads_total", result="rejected")
        gateway.policy_file.write_text("models: {broken: [}\n")

        async def refused() -> bool:
            return await gateway.metric("headgate_policy_reloads_total", result="rejected") > before

        await eventually(refused, says=gateway.said)

    async def _rest(self) -> Seen:
        """Waits until all is idle, then looks a last time."""
        gateway, sent = self.gateway, self.account["sent"] + 1

        async def is_idle() -> bool:
            self._look_after()
            return (
                await gateway.metric("headgate_streams_open") == 0
                and _lines(gateway.log) >= sent
                and all(each.after and each.after.fds <= each.base.fds for each in self.watched)
            )

        try:
            await eventually(is_idle, within_s=SETTLES_S)
        except AssertionError:
            pass  # the verdict says what is left
        self._look_after()
        await self._scrape()
        return Seen(
            seconds=self.seconds,
            watched=self.watched,
            sent=sent,
            logged=_lines(gateway.log),
            unexpected=self._unexpected(),
            series=self.series,
            labels=self.labels,
            streams_open=await gateway.metric("headgate_streams_open"),
            restarts=await gateway.metric("headgate_worker_restarts_total"),
            log_dropped=await gateway.metric("headgate_log_dropped_total"),
            said=gateway.said(),
            reloads=self.reloads,
            accepted=self.accepted,
            accepted_counted=await gateway.metric("headgate_policy_reloads_total", result="accepted") - 1,
        )

    def _unexpected(self) -> list[str]:
        told: list[str] = self.account["unexpected"]
        more = self.account["unexpected_count"] - len(told)
        return [*told, f"{more} more"] if more else told

    def _look_after(self) -> None:
        for each in self.watched:
            try:
                each.after = look(each.pid, self.seconds)
            except OSError:
                each.after = None

    def _line(self) -> str:
        minutes, seconds = divmod(int(asyncio.get_running_loop().time() - self._began_s), 60)
        memory = " ".join(f"{each.samples[-1].rss_bytes / MIB:.1f}" for each in self.watched if each.samples)
        files = " ".join(str(each.samples[-1].fds) for each in self.watched if each.samples)
        told = self.progress
        return (
            f"{minutes:02}:{seconds:02} of {self.seconds / 60:g}m: {told['sent']} calls, {told['open']} open"
            f"  unexpected {told['unexpected']}  MiB {memory}  files {files}  series {self.series}"
            f"  reloads {self.reloads}"
        )


def _lines(log: Path) -> int:
    if not log.exists():
        return 0
    with log.open("rb") as file:
        return sum(block.count(b"\n") for block in iter(lambda: file.read(1 << 20), b""))


@asynccontextmanager
async def provider() -> AsyncIterator[str]:
    """A simulated provider as a process; its base URL."""
    program = "from gateway.cli.simulate import app; app()"
    flags = ("--port", "0", "--first-token-ms", "0", "--tokens-per-s", "0")
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-c", program, *flags, cwd=ROOT, stdout=asyncio.subprocess.PIPE
    )
    assert process.stdout is not None
    try:
        first = (await process.stdout.readline()).decode()
        yield next(word for word in first.split() if word.startswith("http://"))
    finally:
        process.terminate()
        await process.wait()


async def soak(seconds: float, rate: float, say: Callable[[str], None]) -> tuple[Seen, dict[str, Any]]:
    """(what was seen, the load's account) of one run."""
    with tempfile.TemporaryDirectory(prefix="headgate-soak-") as folder:
        async with provider() as first, provider() as second:
            gateway = Gateway(
                Path(folder), policy(first, second, 0, patience_s(seconds)), workers=WORKERS, environ={}
            )
            gateway.start()
            try:
                await gateway.ready()
                run = Soak(gateway, [first, second], seconds, rate, say)
                return await run.run(), run.account
            finally:
                gateway.stop()


def report(seen: Seen, account: dict[str, Any]) -> str:
    """The table at the end."""
    lines = [
        f"{'process':12} {'MiB first':>9} {'last':>7} {'most':>7} {'files':>11} {'sockets':>11}  later growth"
    ]
    for each in seen.watched:
        sizes = [sample.rss_bytes / MIB for sample in each.samples]
        after = each.after or each.base
        grows = (
            str(slope(each.second_half()))
            if judges_slope(seen.seconds)
            else "not judged: the run is too short"
        )
        lines.append(
            f"{each.name:12} {sizes[0]:9.1f} {sizes[-1]:7.1f} {max(sizes):7.1f} "
            f"{each.base.fds:5}→{after.fds:<5} {each.base.sockets:5}→{after.sockets:<5}  {grows}"
        )
    answers = ", ".join(f"{kind}: {count}" for kind, count in sorted(account["answers"].items()))
    lines.append(
        f"{seen.sent} calls, {seen.logged} log lines, {seen.reloads} reloads, {seen.series} metric series"
    )
    lines.append(answers)
    return "\n".join(lines)


def as_json(seen: Seen, account: dict[str, Any]) -> str:
    """The same for programs."""
    judged = judges_slope(seen.seconds)
    processes = {
        each.name: {
            "rss_bytes": [sample.rss_bytes for sample in each.samples],
            "growth": slope(each.second_half())._asdict() if judged else None,
            "files": [each.base.fds, each.after.fds if each.after else None],
            "sockets": [each.base.sockets, each.after.sockets if each.after else None],
        }
        for each in seen.watched
    }
    fields = {name: getattr(seen, name) for name in ("seconds", "sent", "logged", "series", "reloads")}
    return json.dumps(
        {**fields, "processes": processes, "answers": account["answers"], "failures": failures(seen)},
        indent=2,
    )


def main(arguments: list[str] | None = None) -> int:
    """Exit status 0 if nothing was left behind, 1 with the sentences that failed."""
    parser = argparse.ArgumentParser(prog="make soak", description=__doc__)
    parser.add_argument("--minutes", type=float, default=20.0)
    parser.add_argument("--rate", type=float, default=100.0, help="calls per second")
    parser.add_argument("--json", action="store_true", help="the result as JSON on stdout")
    options = parser.parse_args(arguments)
    terminal = sys.stderr.isatty()

    def say(line: str) -> None:
        if terminal:
            sys.stderr.write(f"\r\x1b[K{line}")
            sys.stderr.flush()

    seen, account = asyncio.run(soak(options.minutes * 60, options.rate, say))
    if terminal:
        sys.stderr.write("\n")
    print(as_json(seen, account) if options.json else report(seen, account))
    failed = failures(seen)
    for sentence in failed:
        print(sentence, file=sys.stderr)
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
