"""A soak in short: all of it but the time; and the verdict on a gateway that keeps what it should not."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace

import pytest

from tests.soak.run import main
from tests.soak.verdict import MIB, STRANGER, Sample, Seen, Watched, failures, slope

LABELS = frozenset({("model", "gpt-4o-mini"), ("outcome", "ok")})


def samples(growth_mib: float, *, wobble_mib: float = 0.0) -> list[Sample]:
    """Twenty minutes at a sample each five seconds, growing by so much in ten minutes."""
    sizes = [40 + growth_mib * at_s / 600 + wobble_mib * (-1) ** at_s for at_s in range(0, 1200, 5)]
    return [Sample(5.0 * turn, int(size * MIB), 20, 6) for turn, size in enumerate(sizes)]


def seen(growth_mib: float = 0.0) -> Seen:
    """A run in which all went well."""
    base = Sample(0.0, 30 * MIB, 20, 6)
    return Seen(
        seconds=1200,
        watched=[Watched("worker 0", 1, base, samples(growth_mib), base)],
        sent=1000,
        logged=1000,
        unexpected=[],
        series=200,
        labels=[LABELS] * 4,
        streams_open=0,
        restarts=0,
        log_dropped=0,
        said="headgate: policy rejected: not valid YAML\n",
        reloads=5,
        accepted=4,
        accepted_counted=4,
    )


def after(files: int, sockets: int) -> Callable[[Seen], Seen]:
    """What is open after the load."""

    def change(run: Seen) -> Seen:
        (worker,) = run.watched
        return replace(run, watched=[replace(worker, after=Sample(1230.0, MIB, files, sockets))])

    return change


BAD: dict[str, tuple[Callable[[Seen], Seen], str]] = {
    "memory": (lambda run: seen(1.2), "worker 0 grows by +1.20 ± 0.00 MiB per 10 minutes"),
    "files": (after(23, 6), "worker 0 has 23 open files after the load, 20 before it"),
    "sockets": (after(20, 9), "worker 0 has 9 open sockets after the load, 6 before it"),
    "a process": (
        lambda run: replace(run, watched=[replace(run.watched[0], after=None)]),
        "worker 0 is gone",
    ),
    "streams": (lambda run: replace(run, streams_open=2), "headgate_streams_open is 2"),
    "names": (
        lambda run: replace(run, labels=[LABELS | {("model", STRANGER + "5f")}] * 4),
        "1 labels of metrics are names that callers made up",
    ),
    "labels": (
        lambda run: replace(run, labels=[LABELS, LABELS, LABELS, LABELS | {("model", "x")}]),
        "nobody had half way: [('model', 'x')]",
    ),
    "a log line": (lambda run: replace(run, logged=999), "999 log lines for 1000 calls"),
    "a line twice": (lambda run: replace(run, logged=1001), "1001 log lines for 1000 calls"),
    "dropped lines": (lambda run: replace(run, log_dropped=4), "4 log lines were dropped"),
    "a worker": (lambda run: replace(run, restarts=1), "1 workers died"),
    "a reload": (
        lambda run: replace(run, accepted_counted=3),
        "4 good policies were written, 3 were accepted",
    ),
    "a traceback": (lambda run: replace(run, said="Traceback (most"), "The gateway wrote 'Traceback'"),
    "an error": (lambda run: replace(run, said="headgate: internal error: KeyError"), "'internal error'"),
    "a status": (lambda run: replace(run, unexpected=["plain: 200 was due (status 502)"]), "status 502"),
}


def test_good_run_has_no_failure() -> None:
    assert failures(seen()) == []
    assert failures(seen(0.9)) == []
    assert failures(after(22, 8)(seen())) == []


@pytest.mark.parametrize("what", BAD)
def test_what_is_left_behind_or_lost_is_one_sentence(what: str) -> None:
    change, sentence = BAD[what]
    (said,) = failures(change(seen()))
    assert sentence in said


def test_growth_is_not_judged_in_a_short_run() -> None:
    assert failures(replace(seen(50.0), seconds=60)) == []


def test_slope_is_that_of_the_line_and_its_confidence_that_of_the_scatter() -> None:
    exact, scattered = slope(samples(3.0)), slope(samples(3.0, wobble_mib=0.5))
    assert exact.mib == pytest.approx(3.0, abs=1e-4) and exact.within_mib < 1e-4
    assert scattered.mib == pytest.approx(3.0, abs=0.1)
    assert 0.05 < scattered.within_mib < 0.2


def test_few_seconds_of_everything_leave_nothing_behind(capsys: pytest.CaptureFixture[str]) -> None:
    status = main(["--minutes", "0.1", "--rate", "40", "--json"])
    said = capsys.readouterr()
    assert (status, said.err) == (0, "")
    found = json.loads(said.out)
    assert found["sent"] == found["logged"] > 200
    assert found["reloads"] >= 6
    assert {process["growth"] for process in found["processes"].values()} == {None}
    kinds = {kind.rpartition(" ")[0] for kind in found["answers"]}
    assert {"plain", "streamed", "slow reader", "idle", "half-open", "leaver", "stranger"} <= kinds
