"""make bench: what a request costs in Headgate, beside nginx as a plain reverse proxy on the same machine."""

import argparse
import json
import resource
import shutil
import signal
import sys
import tempfile
from collections.abc import Callable
from contextlib import ExitStack
from functools import partial
from pathlib import Path
from types import FrameType

import machine
import systems
from load import PACED_STREAMS, Load, Sample, sampled
from machine import BenchError, Rig
from processes import resident_mb, share_mb, tree
from report import Measured, rows, table
from systems import System, Upstream

SYSTEMS = ("nginx", "headgate")
SCENARIOS = ("plain", "stream_burst", "stream_paced", "tls", *systems.BESIDE)


def main() -> int:
    """Measures what the command line asks for; 2 with a sentence when it cannot."""
    choice = _arguments()
    signal.signal(signal.SIGTERM, _leave)
    try:
        tools = machine.tools(choice.systems, choice.scenarios)
        _allow_files(max(choice.connections))
        cores = machine.cores()
        _say(machine.description())
        _say(f"systems on core {cores.gateway}, load and upstream on core {cores.load}; {_plan(choice)}")
        if cores.gateway == cores.load:
            _say("Only one core: load and systems share it, so the figures are rough.")
        measured: list[Measured] = []
        with tempfile.TemporaryDirectory(prefix="headgate-bench-") as name:
            rig = Rig(tools, cores, Path(name))
            systems.build(rig)
            for scenario in choice.scenarios:
                measured += _scenario(choice, scenario, rig)
    except BenchError as error:
        print(error, file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print("Stopped.", file=sys.stderr)
        return 130
    found = rows(measured)
    print(json.dumps(found) if choice.json else table(found))
    return 0


def _scenario(choice: argparse.Namespace, scenario: str, rig: Rig) -> list[Measured]:
    connections = [PACED_STREAMS] if scenario == "stream_paced" else choice.connections
    body_file = rig.folder / f"{scenario}.json"
    body_file.write_bytes(systems.request_body(scenario, include_usage=not choice.no_include_usage))
    measured = []
    requests_of: dict[str, float] = {}
    with ExitStack() as stack:
        upstream = stack.enter_context(systems.upstream(rig))
        if scenario == "tls":
            upstream = stack.enter_context(systems.tls_front(rig, upstream))
        beside = systems.BESIDE.get(scenario)
        otlp = stack.enter_context(systems.sink(rig)) if beside is not None and beside.is_traced else 0
        redis = stack.enter_context(systems.redis(rig)) if beside is not None and beside.has_redis else None
        start = {
            "nginx": partial(systems.nginx, rig, scenario, upstream),
            "headgate": partial(systems.headgate, rig, scenario, upstream, otlp=otlp, redis=redis),
        }
        running = [stack.enter_context(start[name]()) for name in choice.systems]
        if beside is not None and "headgate" in choice.systems:
            other = systems.headgate(rig, scenario, upstream, beside.name)
            running.append(stack.enter_context(other))
        for count in connections:
            load = Load(rig, scenario, count, body_file)
            samples: dict[str, list[Sample]] = {system.name: [] for system in running}
            for system in running:  # pools filled, code warm
                load.run(system, upstream, 1)
            before = {system.name: systems.counted(system) for system in running if system.admin}
            for repeat in range(choice.repeats):
                # Turn by turn, so that what neighbours do to the machine falls on both.
                for system in running:
                    sample = load.run(system, upstream, choice.seconds)
                    samples[system.name].append(sample)
                    requests_of[system.name] = requests_of.get(system.name, 0) + sample.rps * choice.seconds
                    _say(_progress(system, scenario, count, repeat, sample))
            for system in running:
                rss_mb = sum(share_mb(pid) for pid in tree(system.process.pid))
                worker_mb = resident_mb(system.worker)
                counted = None
                if beside is not None and system.name == "headgate":
                    after = systems.counted(system)
                    counted = {name: after[name] - before[system.name].get(name, 0) for name in after}
                its = samples[system.name]
                measured.append(
                    Measured(system.name, scenario, count, its, rss_mb, worker_mb, system.start_ms, counted)
                )
        if choice.profile:
            load = Load(rig, scenario, connections[-1], body_file)
            _profile(load, running, upstream, choice.seconds)
    for system in running:
        if system.name == "headgate":
            _check_governed(system, requests_of["headgate"])
    return measured


def _check_governed(system: System, requests: float) -> None:
    """Says so when Headgate was quick because it did less: calls without a log line that has a cost."""
    log = system.folder / "calls.jsonl"
    lines = log.read_bytes().splitlines() if log.exists() else []
    priced = sum(1 for line in lines if json.loads(line).get("cost_nanousd"))
    if priced < requests * 0.99:
        _say(f"WARNING: of {requests:.0f} measured requests only {priced} were logged with a cost.")


def _profile(load: Load, running: list[System], upstream: Upstream, seconds: int) -> None:
    if not shutil.which("perf"):
        _say("perf is not installed, so there is no profile (Debian: apt-get install linux-perf).")
        return
    for system in running:
        with sampled(system.worker, seconds, load.rig.folder) as lines:
            load.run(system, upstream, seconds)
        _say("\n".join([f"\nWhere the worker of {system.name} spends {load.scenario}:", *lines]))


def _progress(system: System, scenario: str, connections: int, repeat: int, sample: Sample) -> str:
    return (
        f"  {scenario} {connections} #{repeat + 1} {system.name}: {sample.cpu_us:.2f} us "
        f"({sample.cpu_us_worker:.2f} in the worker), {sample.rps:.0f}/s, "
        f"{sample.noise_percent:.0f} % of its core taken by others"
    )


def _plan(choice: argparse.Namespace) -> str:
    steps = sum(1 if scenario == "stream_paced" else len(choice.connections) for scenario in choice.scenarios)
    seconds = steps * len(choice.systems) * (choice.repeats * choice.seconds + 1)
    return f"about {seconds} s in all"


def _allow_files(connections: int) -> None:
    # Both sides of every connection, and what the processes hold open besides.
    need = 2 * connections + 256
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if hard != resource.RLIM_INFINITY and hard < need:
        raise BenchError(
            f"{connections} connections need {need} open files; this shell allows {hard} (ulimit -n)."
        )
    if soft != resource.RLIM_INFINITY and soft < need:
        resource.setrlimit(resource.RLIMIT_NOFILE, (need, hard))


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="benchmarks/run.py", description=__doc__)
    parser.add_argument("--systems", type=_names(SYSTEMS), default=list(SYSTEMS), help=",".join(SYSTEMS))
    parser.add_argument(
        "--scenarios", type=_names(SCENARIOS), default=list(SCENARIOS), help=",".join(SCENARIOS)
    )
    parser.add_argument(
        "--connections",
        type=_numbers(1, 4096),
        default=[1, 32, 256],
        help="for all but stream_paced, which has 64",
    )
    parser.add_argument("--seconds", type=_number(1, 60), default=3, help="of each run")
    parser.add_argument(
        "--repeats", type=_number(1, 20), default=3, help="runs of each system; their median counts"
    )
    parser.add_argument("--json", action="store_true", help="print only an array of rows")
    parser.add_argument("--profile", action="store_true", help="also sample the workers with perf, to stderr")
    parser.add_argument(
        "--no-include-usage",
        action="store_true",
        help="streams whose callers do not ask for usage: Headgate does",
    )
    return parser.parse_args()


def _names(known: tuple[str, ...]) -> Callable[[str], list[str]]:
    def read(text: str) -> list[str]:
        chosen = list(dict.fromkeys(text.split(",")))
        if set(chosen) - set(known):
            raise argparse.ArgumentTypeError(f"choose from {', '.join(known)}, separated by commas")
        return chosen

    return read


def _number(least: int, most: int) -> Callable[[str], int]:
    def read(text: str) -> int:
        if not text.isdecimal() or not least <= int(text) <= most:
            raise argparse.ArgumentTypeError(f"a whole number from {least} to {most}, not {text!r}")
        return int(text)

    return read


def _numbers(least: int, most: int) -> Callable[[str], list[int]]:
    one = _number(least, most)
    return lambda text: [one(part) for part in dict.fromkeys(text.split(","))]


def _leave(_signal: int, _frame: FrameType | None) -> None:
    # As an exception, so that every process started here is ended on the way out.
    raise SystemExit(143)


def _say(text: str) -> None:
    print(text, file=sys.stderr, flush=True)


if __name__ == "__main__":
    sys.exit(main())
