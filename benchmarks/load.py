"""One run of load against one system: wrk, or paced for paced streams, with the CPU it cost on both sides."""

import json
import os
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from machine import ROOT, BenchError, Rig
from processes import core_busy_ns, cpu_ns, pinned, tree
from systems import KEY, System, Upstream

# upstream.c: events of 220 bytes in one streamed answer.
CHUNKS_PER_STREAM = 100
PACED_STREAMS = 64


@dataclass(frozen=True, slots=True)
class Sample:
    """One run. CPU is per request, or per chunk of streams; latency is of an answer, or of a paced chunk."""

    cpu_us: float
    cpu_us_worker: float
    upstream_us: float
    rps: float
    p50_us: float
    p99_us: float
    noise_percent: float


@dataclass(frozen=True, slots=True)
class Load:
    """What to send: a scenario at a number of connections for some seconds."""

    rig: Rig
    scenario: str
    connections: int
    body_file: Path

    def run(self, system: System, upstream: Upstream, seconds: int) -> Sample:
        """Sends the load and reads what it cost; BenchError when any answer was not a whole 200."""
        pids = tree(system.process.pid)
        cpu_before = {pid: cpu_ns(pid) for pid in pids}
        upstream_before = cpu_ns(upstream.pid)
        busy_before, begin = core_busy_ns(self.rig.cores.gateway), time.monotonic_ns()
        result = self._send(system, seconds)
        wall_ns, busy_ns = time.monotonic_ns() - begin, core_busy_ns(self.rig.cores.gateway) - busy_before
        upstream_ns = cpu_ns(upstream.pid) - upstream_before
        if tree(system.process.pid) != pids:
            raise BenchError(
                f"{system.name} started or lost a process during the run, so its CPU cannot be told."
            )
        spent = {pid: cpu_ns(pid) - before for pid, before in cpu_before.items()}
        units, errors = result["units"], result["errors"]
        if errors or not units:
            raise BenchError(
                f"{system.name}, {self.scenario}, {self.connections} connections: "
                f"{errors} requests failed and {units} were answered, so there is nothing to compare."
            )
        requests: float = units
        if self.scenario == "stream_paced":
            requests /= CHUNKS_PER_STREAM
        elif self.scenario.startswith("stream"):
            units *= CHUNKS_PER_STREAM
        return Sample(
            cpu_us=sum(spent.values()) / 1e3 / units,
            cpu_us_worker=spent[system.worker] / 1e3 / units,
            upstream_us=upstream_ns / 1e3 / units,
            rps=requests / result["duration_us"] * 1e6,
            p50_us=result["p50_us"],
            p99_us=result["p99_us"],
            noise_percent=max(0.0, 100 * (busy_ns - sum(spent.values())) / wall_ns),
        )

    def _send(self, system: System, seconds: int) -> dict[str, int]:
        environment = dict(os.environ)
        if self.scenario == "stream_paced":
            command = [str(self.rig.folder / "paced"), str(system.port), str(self.connections), str(seconds)]
            command += [KEY, str(self.body_file)]
        else:
            script = str(ROOT / "benchmarks/wrk.lua")
            command = [
                self.rig.tools.wrk,
                "-t1",
                f"-c{self.connections}",
                f"-d{seconds}s",
                "--timeout",
                "10s",
            ]
            command += ["-s", script, f"http://127.0.0.1:{system.port}/v1/chat/completions"]
            environment |= {"BENCH_BODY": str(self.body_file), "BENCH_TOKEN": KEY}
        with pinned(self.rig.cores.load):
            try:
                done = subprocess.run(
                    command,
                    check=False,
                    env=environment,
                    capture_output=True,
                    text=True,
                    timeout=seconds + 30,
                )
            except subprocess.TimeoutExpired:
                raise BenchError(
                    f"The load on {system.name} did not end {seconds + 30} s after its start."
                ) from None
        if done.returncode:
            raise BenchError(f"{system.name}, {self.scenario}: {done.stderr.strip() or done.stdout.strip()}")
        line = next(line for line in done.stdout.splitlines() if line.startswith(("RESULT ", "{")))
        result: dict[str, int] = json.loads(line.removeprefix("RESULT "))
        return result


@contextmanager
def sampled(worker: int, seconds: int, folder: Path) -> Iterator[list[str]]:
    """Samples a process with perf while the body runs; the list holds the hottest places afterwards."""
    lines: list[str] = []
    data = folder / "perf.data"
    command = [
        "perf",
        "record",
        "-q",
        "-F",
        "997",
        "-o",
        str(data),
        "-p",
        str(worker),
        "--",
        "sleep",
        str(seconds),
    ]
    with subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True) as recorder:
        yield lines
        _, complaint = recorder.communicate(timeout=seconds + 30)
    if recorder.returncode:
        lines.append(f"perf could not sample: {complaint.strip()}")
        return
    report = [
        "perf",
        "report",
        "-i",
        str(data),
        "--stdio",
        "--no-children",
        "--percent-limit",
        "0.7",
        "--sort",
    ]
    for sort in ("dso", "dso,symbol"):
        done = subprocess.run([*report, sort], check=False, capture_output=True, text=True, timeout=60)
        found = [line.rstrip(" -") for line in done.stdout.splitlines() if line.strip() and line[0] != "#"]
        lines += found[:40]
        lines.append("")
