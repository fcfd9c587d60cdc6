"""What the slots add up to, told by the meters that workers write with."""

from __future__ import annotations

from pathlib import Path

import pytest

from gateway.control.tally import ALL, MEASURES, Row, Tally
from gateway.telemetry import table
from gateway.telemetry.meters import CallLabels, Histogram, Meters
from gateway.telemetry.slots import SlotFile
from gateway.usage import Usage

LABELS = CallLabels("search", "app", "chat", "a/x", "x", "openai", "chat")


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    for name in ("worker-0", "worker-1"):
        SlotFile.create(tmp_path / name)
    return tmp_path


def shown(tally: Tally) -> dict[Row, dict[str, int]]:
    """Row → measures that are not 0."""
    rows = {
        row: {name: value for name, value in zip(MEASURES, values, strict=True) if value}
        for row, values in tally.look().rows.items()
    }
    return {row: measures for row, measures in rows.items() if measures}


def call(meters: Meters, labels: CallLabels = LABELS) -> None:
    """One that went well: 10 tokens in, 5 out, for 0.000002 dollars."""
    of_call = meters.of_calls(labels)
    of_call.attempted()
    of_call.answered(Usage(input=6, cached_input=4, output=5), 2_000)
    of_call.finished(0.5, 0.4)
    of_call.streamed(0.1, 0.01)


def test_what_workers_count_is_added_up_by_what_it_is_about(folder: Path) -> None:
    first, second = (Meters(SlotFile.open(folder / name)) for name in ("worker-0", "worker-1"))
    tally = Tally(folder)
    call(first)
    call(second)
    second.failed("search", "app", "chat", "a/x", "upstream_failed", "provider_timeout")
    second.failed("_none", "_none", "_other", "_none", "caller_gone", "caller_gone")
    second.attempt_failed("chat", "a/x", "timeout")
    second.attempt_failed("chat", "a/x", "caller_gone")
    second.retry("chat", "a/x")
    second.fallback("chat", "timeout")
    first.under_way(3, 5)
    second.under_way(4, 5)
    second.streams_open(1)
    assert shown(tally) == {
        ALL: {
            "calls": 4, "failed": 1, "tokens": 30, "cost": 4_000, "attempts": 4, "attempts_failed": 1,
            "retries": 1, "fallbacks": 1, "open_calls": 7, "open_streams": 1,
        },
        ("team", "search"): {"calls": 3, "failed": 1, "tokens": 30, "cost": 4_000},
        ("key", "app"): {"calls": 3, "failed": 1, "cost": 4_000},
        ("model", "chat"): {"calls": 3, "failed": 1, "tokens": 30, "cost": 4_000},
        ("team", "_none"): {"calls": 1},
        ("key", "_none"): {"calls": 1},
        ("model", "_other"): {"calls": 1},
        ("outcome", "ok"): {"calls": 2},
        ("outcome", "upstream_failed"): {"calls": 1},
        ("outcome", "caller_gone"): {"calls": 1},
        ("error_type", "provider_timeout"): {"failed": 1},
        ("kind", "input"): {"tokens": 12},
        ("kind", "cached_input"): {"tokens": 8},
        ("kind", "output"): {"tokens": 10},
        ("target", "chat a/x"): {"attempts": 4, "attempts_failed": 1, "retries": 1},
    }  # fmt: skip


def test_histograms_are_added_up_and_failed_calls_left_out_of_durations(folder: Path) -> None:
    meters = [Meters(SlotFile.open(folder / name)) for name in ("worker-0", "worker-1")]
    tally = Tally(folder)
    for each in meters:
        call(each)
        each.failed_operation(LABELS, "provider_timeout", 0.001)
    slots = SlotFile.open(folder / "worker-0")
    Histogram(slots, table.LOOP_LAG, ("worker",)).observe(0.002)
    Histogram(slots, table.LOOP_LAG, ("keeper",)).observe(9.0)
    found = tally.look().histograms
    assert found[Row("duration", "")] == [0] * 6 + [2] + [0] * 8
    assert sum(found[Row("first_token", "")]) == 2
    assert found[Row("lag", "worker")][2] == 1
    assert found[Row("lag", "keeper")][-1] == 1


def test_series_that_come_later_are_seen_and_counters_never_go_back(folder: Path) -> None:
    tally = Tally(folder)
    assert shown(tally) == {}
    call(Meters(SlotFile.open(folder / "worker-0")))
    assert shown(tally)[ALL]["calls"] == 1
    # A worker that was replaced: it goes on in the same file.
    call(Meters(SlotFile.open(folder / "worker-0")), LABELS._replace(team="support"))
    assert shown(tally)[ALL]["calls"] == 2
    assert shown(tally)[Row("team", "support")]["calls"] == 1


def test_files_that_are_replaced_or_gone_count_no_longer(folder: Path) -> None:
    tally = Tally(folder)
    for name in ("worker-0", "worker-1"):
        call(Meters(SlotFile.open(folder / name)))
    assert shown(tally)[ALL]["calls"] == 2
    SlotFile.create(folder / "worker-0")
    assert shown(tally)[ALL]["calls"] == 1
    (folder / "worker-1").unlink()
    assert ALL not in shown(tally)


def test_file_that_is_being_made_is_not_read(folder: Path) -> None:
    (folder / "worker-2.new").write_bytes(b"half")
    assert shown(Tally(folder)) == {}
