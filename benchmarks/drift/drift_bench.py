"""How soon drift is found, how often it is found where there is none, and how others do on the same answers.

make drift-bench                    # ten minutes at most; data in ../shared/data/drift, if it is there
make drift-bench ARGS="--data DIR"  # other recordings of the same form
make drift-bench ARGS="--full"      # 10^7 answers without a change
"""

from __future__ import annotations

import argparse
import json
import os
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import asdict, dataclass
from functools import cache
from itertools import pairwise
from pathlib import Path

import numpy as np
from drift_peers import PEERS
from drift_rows import Answers, read_folder, renamed, sample_of

from gateway.drift.answer_channels import ANSWER, INDEX
from gateway.drift.asked_channels import ASKED
from gateway.drift.detector import Growth
from gateway.drift.effect import compare
from gateway.drift.features import Reader
from gateway.drift.layout import Layout
from gateway.drift.performance_channels import PERFORMANCE
from gateway.drift.sample import Sample
from gateway.drift.stream import Settings, Stream, Tables

TABLES = Tables(Layout(ANSWER), Layout(ASKED), Layout(PERFORMANCE))
SHUFFLES = 40
REFERENCE = 500


@dataclass(frozen=True)
class Row:
    """One line of the table. Delays are answers from the change to the alarm; `found` a share; false alarms
    are of `answers` without a change."""

    case: str
    method: str
    found: float = 0.0
    median: float = 0.0
    p90: float = 0.0
    start_error: float = 0.0
    channel: str = ""
    named_right: float = 0.0
    false_alarms: int = 0
    answers: int = 0


@cache
def _answers(folder: str) -> list[Answers]:
    return read_folder(Path(folder))


def _pairs(answers: Sequence[Answers]) -> Iterator[tuple[Answers, Answers]]:
    """Each snapshot of a model's answers to a task with the next one, and models of one snapshot with
    others."""
    by_model: dict[tuple[str, str], list[Answers]] = {}
    for one in answers:
        by_model.setdefault((one.task, one.model), []).append(one)
    single: dict[str, Answers] = {}
    for (task, _), snapshots in by_model.items():
        snapshots.sort(key=lambda one: one.snapshot)
        yield from pairwise(snapshots)
        if len(snapshots) == 1:
            if task in single:
                yield single[task], snapshots[0]
            single[task] = snapshots[0]


def _delay(old: Answers, new: Answers, seed: int) -> tuple[int, float, str, bool] | None:
    """One shuffle without replacement: answers until the alarm, how far off its start is, the channel it
    names, and whether that is one of the five that moved most."""
    random = np.random.default_rng(seed)
    before = random.permutation(len(old.samples))[: _reference(old)]
    after = random.permutation(len(new.samples))
    stream = Stream("m", "t", TABLES, Settings(growth=Growth(arm_at=min(500, len(before)))))
    number = 0
    for index in before:
        number += 1
        stream.take(renamed(old.samples[index], number))
    for count, index in enumerate(after, 1):
        number += 1
        for alarm in stream.take(renamed(new.samples[index], number)):
            if alarm.kind == "answers":
                named = alarm.moved[0].channel
                return count, abs(alarm.since_s - (len(before) + 1)), named, named in _largest(old, new)
    return None


def _reference(old: Answers) -> int:
    return min(REFERENCE, len(old.samples))


def _largest(old: Answers, new: Answers) -> set[str]:
    """The five channels with the largest true effects, and those as large but for 0.02."""
    layout = TABLES.answers
    before, after = (layout.histogram(answers.bins()).astype(float) for answers in (old, new))
    told = [np.add.reduceat(counts, layout.first) for counts in (before, after)]
    size = compare(layout, before, after, told[0], told[1], len(new.samples)).size
    return {layout.names[index] for index in np.flatnonzero(size >= np.sort(size)[-5] - 0.02)}


def _found(folder: str, pair: int) -> list[Row]:
    old, new = list(_pairs(_answers(folder)))[pair]
    case = f"{old.task}: {old.snapshot} → {new.snapshot}"
    results = [_delay(old, new, seed) for seed in range(SHUFFLES)]
    rows = [_row(case, "Headgate", results)]
    reference, stream = old.bins(), new.bins()
    for name, peer in PEERS.items():
        delays = []
        for seed in range(5):
            random = np.random.default_rng(seed)
            chosen = reference[random.permutation(len(reference))[: _reference(old)]]
            first = next(peer(chosen, stream[random.permutation(len(stream))]), None)
            delays.append(None if first is None else (first, 0.0, "", False))
        rows.append(_row(case, name, delays))
    return rows


def _row(case: str, method: str, results: Sequence[tuple[int, float, str, bool] | None]) -> Row:
    found = [result for result in results if result is not None]
    if not found:
        return Row(case, method)
    delays = [result[0] for result in found]
    names = [result[2] for result in found]
    # Whoever did not find it in all there is took longer than all of it.
    late = [*delays, *[float("inf")] * (len(results) - len(found))]
    return Row(
        case,
        method,
        found=len(found) / len(results),
        median=float(np.quantile(late, 0.5, method="higher")),
        p90=float(np.quantile(late, 0.9, method="higher")),
        start_error=float(np.median([result[1] for result in found])),
        channel=max(set(names), key=names.count),
        named_right=float(np.mean([result[3] for result in found])),
    )


def _null(folder: str, which: int, seed: int, count: int) -> list[Row]:
    """Answers drawn from one snapshot, again and again: every alarm is false."""
    answers = _answers(folder)[which]
    random = np.random.default_rng(seed)
    stream = Stream("m", "t", TABLES, Settings())
    alarms = 0
    for number, index in enumerate(random.integers(len(answers.samples), size=count)):
        for alarm in stream.take(renamed(answers.samples[index], number)):
            if alarm.kind == "answers":
                alarms += 1
                stream.start_over()
    rows = [Row(answers.name, "Headgate", false_alarms=alarms, answers=count)]
    few = min(count, 20_000)
    bins = answers.bins()
    for name, peer in PEERS.items():
        chosen = bins[random.integers(len(bins), size=REFERENCE)]
        drawn = bins[random.integers(len(bins), size=few)]
        rows.append(Row(answers.name, name, false_alarms=sum(1 for _ in peer(chosen, drawn)), answers=few))
    return rows


def _sessions(folder: str, which: int, seed: int, count: int) -> list[Row]:
    """The same answers in sessions: twenty callers, each some turns on one prompt, popular prompts more
    often."""
    answers = _answers(folder)[which]
    by_prompt: dict[int, list[Sample]] = {}
    for sample in answers.samples:
        by_prompt.setdefault(sample.prompt, []).append(sample)
    prompts = sorted(by_prompt)
    random = np.random.default_rng(seed)
    popular = 1 / np.arange(1, len(prompts) + 1)
    popular /= popular.sum()
    stream = Stream("m", "t", TABLES, Settings())
    sessions = [[0, 0] for _ in range(20)]
    alarms = 0
    for number in range(count):
        session = sessions[int(random.integers(20))]
        if session[1] == 0:
            session[:] = [int(random.choice(len(prompts), p=popular)), 1 + int(random.geometric(0.2))]
        session[1] -= 1
        prompt = prompts[session[0]]
        own = by_prompt[prompt]
        drawn = renamed(own[int(random.integers(len(own)))], number)
        for alarm in stream.take(Sample(**{**asdict(drawn), "prompt": prompt})):
            if alarm.kind == "answers":
                alarms += 1
                stream.start_over()
    return [Row(f"{answers.name}, sessions", "Headgate", false_alarms=alarms, answers=count)]


def _wrap(text: str) -> str:
    return f"```\n{text}\n```"


def _preamble(text: str) -> str:
    return f"Sure! {text}"


def _cut(text: str) -> str:
    return text[:256]


def _refuse(text: str) -> str:
    return "I'm sorry, but I can't assist with that request."


INJECTED: dict[str, tuple[Callable[[str], str], float]] = {
    "20 % in code fences": (_wrap, 0.2),
    "20 % begin with Sure!": (_preamble, 0.2),
    "20 % cut at 256 characters": (_cut, 0.2),
    "10 points more refusals": (_refuse, 0.1),
    "5 points more refusals": (_refuse, 0.05),
}


def _injected(folder: str, which: int, name: str) -> list[Row]:
    """Changes made to answers that did not change, against a reference of 5,000."""
    answers = _answers(folder)[which]
    change, share = INJECTED[name]
    reader = Reader(b"benchmark")
    changed = [
        sample_of(reader, change(text), str(index), answers.task)
        for index, text in enumerate(answers.texts[:2000])
    ]
    results: list[tuple[int, float, str, bool] | None] = []
    for seed in range(10):
        random = np.random.default_rng(seed)
        stream = Stream("m", "t", TABLES, Settings())
        for number in range(5_000):
            stream.take(renamed(answers.samples[int(random.integers(len(answers.samples)))], number))
        found = None
        for count in range(1, 4_001):
            is_changed = random.random() < share
            among = changed if is_changed else answers.samples
            drawn = renamed(among[int(random.integers(len(among)))], 5_000 + count)
            alarm = next((alarm for alarm in stream.take(drawn) if alarm.kind == "answers"), None)
            if alarm is not None:
                named = alarm.moved[0].channel
                found = (count, abs(alarm.since_s - 5_001), named, named in INDEX)
                break
        results.append(found)
    return [_row(f"{answers.name}: {name}", "Headgate", results)]


def _mixes(folder: str) -> list[Row]:
    """Three tasks through one stream: 80/10/10 becomes 10/10/80 with and without another model; and another
    model for a tenth of the traffic."""
    answers = _answers(folder)
    pairs = list({old.task: (old, new) for old, new in _pairs(answers)}.values())[:3]
    if len(pairs) < 3:
        return []
    rows = []
    for name, mix, which in (
        ("mix 80/10/10 → 10/10/80, no change", (0.1, 0.1, 0.8), ()),
        ("mix 80/10/10 → 10/10/80 and another model", (0.1, 0.1, 0.8), (0, 1, 2)),
        ("another model for a tenth of the traffic", (0.8, 0.1, 0.1), (2,)),
    ):
        results: list[tuple[int, float, str, bool] | None] = []
        for seed in range(10):
            random = np.random.default_rng(seed)
            stream = Stream("m", "t", TABLES, Settings())
            found = None
            for number in range(8_000):
                has_changed = number >= 4_000
                task = int(random.choice(3, p=mix if has_changed else (0.8, 0.1, 0.1)))
                source = pairs[task][1 if has_changed and task in which else 0]
                drawn = renamed(source.samples[int(random.integers(len(source.samples)))], number)
                alarm = next((alarm for alarm in stream.take(drawn) if alarm.kind == "answers"), None)
                if alarm is not None:
                    found = (number - 3_999, abs(alarm.since_s - 4_000), alarm.cause, True)
                    break
            results.append(found)
        rows.append(_row(name, "Headgate", results))
    return rows


def main(arguments: Sequence[str] | None = None) -> int:
    """The table, on standard output; `--json` for machines, `--plot` for eyes."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    root = Path(__file__).resolve().parents[2]
    parser.add_argument(
        "--data", type=Path, default=root.parent / "shared/data/drift", help="recorded answers"
    )
    parser.add_argument(
        "--full", action="store_true", help="10^7 answers without a change instead of 4 x 10^5"
    )
    parser.add_argument("--only", choices=("found", "null", "sessions", "injected", "mixes"), help="one part")
    parser.add_argument("--json", action="store_true", help="one JSON array instead of the table")
    parser.add_argument("--plot", type=Path, help="writes the plot, a PNG, there")
    options = parser.parse_args(arguments)
    if not options.data.is_dir():
        parser.error(f"{options.data} is not there: --data takes a folder of TASK__MODEL.jsonl.gz files")
    rows = _run(options)
    if options.json:
        sys.stdout.write(json.dumps([asdict(row) for row in rows]) + "\n")
    else:
        sys.stdout.write(_text(rows))
    if options.plot is not None:
        from drift_plot import plot

        plot(rows, options.plot)
    return 0


def _run(options: argparse.Namespace) -> list[Row]:
    folder = str(options.data)
    answers = _answers(folder)
    many = [index for index, one in enumerate(answers) if len(one.samples) >= 1_000]
    count = 10_000_000 // max(len(many), 1) if options.full else 50_000
    jobs: list[tuple[str, Callable[..., list[Row]], tuple[object, ...]]] = []
    jobs += [("found", _found, (folder, pair)) for pair in range(len(list(_pairs(answers))))]
    jobs += [("null", _null, (folder, which, which, count)) for which in many]
    unchanged = [which for which in many if len({s.prompt for s in answers[which].samples}) < 1_000]
    jobs += [("sessions", _sessions, (folder, which, which, count)) for which in unchanged]
    jobs += [("injected", _injected, (folder, which, name)) for which in unchanged[:1] for name in INJECTED]
    jobs += [("mixes", _mixes, (folder,))]
    jobs = [job for job in jobs if options.only in (None, job[0])]
    rows: list[Row] = []
    started_s = time.monotonic()
    with ProcessPoolExecutor(os.cpu_count()) as pool:
        running = [pool.submit(work, *arguments) for _, work, arguments in jobs]
        for done, future in enumerate(running, 1):
            rows += future.result()
            if sys.stderr.isatty():
                sys.stderr.write(f"\r{done} of {len(jobs)} parts, {time.monotonic() - started_s:.0f} s ")
    return rows


def _text(rows: Sequence[Row]) -> str:
    lines = [f"{'change':58} {'method':28} {'found':>5} {'median':>7} {'p90':>6} {'start':>6}  channel"]
    for row in rows:
        if not row.answers:
            found = f"{row.found:5.0%}"
            if row.found:
                found += f" {row.median:7.0f} {row.p90:6.0f} {row.start_error:6.0f}"
                found += f"  {row.channel} {row.named_right:.0%}"
            lines.append(f"{row.case[:58]:58} {row.method:28} {found}")
    lines += ["", f"{'no change':58} {'method':28} {'alarms':>6} {'answers':>9} {'of 10^6':>8}"]
    for row in rows:
        if row.answers:
            rate = row.false_alarms / row.answers * 1e6
            lines.append(
                f"{row.case[:58]:58} {row.method:28} {row.false_alarms:6} {row.answers:9} {rate:8.0f}"
            )
    return "\n".join(lines) + "\n"


if __name__ == "__main__":
    sys.exit(main())
