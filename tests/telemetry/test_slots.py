"""Slots: what is counted is read while it is written, outlives its writer, and has a bound."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gateway.telemetry import table
from gateway.telemetry.metric import Metric
from gateway.telemetry.slots import (
    OTHER,
    SERIES_PER_METRIC,
    SLOTS,
    VALUES_PER_LABEL,
    SlotFile,
    read_slots,
    width,
)
from gateway.telemetry.table import SERIES_OVERFLOW

Read = dict[tuple[str, tuple[str, ...]], list[int]]


def read(path: Path) -> Read:
    """What a reader sees; a series that is there twice fails."""
    rows = list(read_slots(path))
    found = {(name, labels): values for name, labels, values in rows}
    assert len(found) == len(rows)
    return found


def counted(path: Path) -> Read:
    """Without the series that are still zero."""
    return {series: values for series, values in read(path).items() if any(values)}


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "worker-0"


@pytest.fixture
def slots(path: Path) -> SlotFile:
    return SlotFile.create(path)


@pytest.mark.parametrize("metric", table.ALL, ids=lambda metric: metric.name)
def test_histogram_has_a_slot_per_bucket_one_for_infinity_and_one_for_the_sum(metric: Metric) -> None:
    assert width(metric) == (len(metric.buckets) + 2 if metric.kind == "histogram" else 1)


def test_what_is_written_is_read_while_its_writer_goes_on(slots: SlotFile, path: Path) -> None:
    first = slots.series(table.RETRIES, ("fast", "openai/x"))
    slots.values[first] += 3
    assert counted(path) == {("headgate_retries_total", ("fast", "openai/x")): [3]}
    slots.values[first] += 4
    second = slots.series(table.RETRIES, ("größe", 'quote"\n'))
    slots.values[second] += 2**62
    assert counted(path) == {
        ("headgate_retries_total", ("fast", "openai/x")): [7],
        ("headgate_retries_total", ("größe", 'quote"\n')): [2**62],
    }


def test_series_is_given_once_and_series_do_not_overlap(slots: SlotFile, path: Path) -> None:
    names = [(table.OVERHEAD, ()), (table.STREAMS_OPEN, ()), (table.FIRST_TOKEN, ("m", "t"))]
    names += [(table.FALLBACKS, ("m", f"reason-{number}")) for number in range(50)]
    firsts = [slots.series(metric, labels) for metric, labels in names]
    assert [slots.series(metric, labels) for metric, labels in names] == firsts
    for number, ((metric, _), first) in enumerate(zip(names, firsts, strict=True), 1):
        for slot in range(first, first + width(metric)):
            assert slots.values[slot] == 0
            slots.values[slot] = number
    found = counted(path)
    for number, (metric, labels) in enumerate(names, 1):
        assert found[metric.name, labels] == [number] * width(metric)


def test_writer_that_died_while_it_added_a_series_left_nothing_behind(path: Path) -> None:
    slots = SlotFile.create(path)
    slots.values[slots.series(table.RETRIES, ("m", "t"))] += 5
    whole = path.read_bytes()
    slots.series(table.FALLBACKS, ("m", "half-written"))
    torn = bytearray(path.read_bytes())
    torn[:24] = whole[:24]  # its last step is the count in the header
    path.write_bytes(torn)
    replacement = SlotFile.open(path)
    replacement.values[replacement.series(table.FALLBACKS, ("m", "a longer one than that"))] += 7
    assert counted(path) == {
        ("headgate_retries_total", ("m", "t")): [5],
        ("headgate_fallbacks_total", ("m", "a longer one than that")): [7],
    }


def test_replacement_goes_on_in_the_same_file(slots: SlotFile, path: Path) -> None:
    first = slots.series(table.RETRIES, ("m", "t"))
    slots.values[first] += 5
    slots.series(table.FIRST_TOKEN, ("m", "t"))
    replacement = SlotFile.open(path)
    assert replacement.series(table.RETRIES, ("m", "t")) == first
    replacement.values[first] += 1
    new = replacement.series(table.OVERHEAD, ())
    replacement.values[new] += 9
    assert counted(path) == {
        ("headgate_retries_total", ("m", "t")): [6],
        ("headgate_overhead_seconds", ()): [9] + [0] * (width(table.OVERHEAD) - 1),
    }


def test_gauges_start_at_zero_and_counters_go_on(slots: SlotFile, path: Path) -> None:
    slots.values[slots.series(table.STREAMS_OPEN, ())] = 12
    slots.values[slots.series(table.RETRIES, ("m", "t"))] = 5
    replacement = SlotFile.open(path)
    replacement.zero_gauges()
    assert counted(path) == {("headgate_retries_total", ("m", "t")): [5]}


def test_metric_with_too_many_series_counts_the_rest_as_other(slots: SlotFile, path: Path) -> None:
    names = [(f"m{number // 1000}", f"t{number % 1000}") for number in range(SERIES_PER_METRIC)]
    firsts = {slots.series(table.RETRIES, labels) for labels in names}
    assert len(firsts) == SERIES_PER_METRIC
    other = slots.series(table.RETRIES, (OTHER, OTHER))
    assert other not in firsts
    for number in range(3):
        assert slots.series(table.RETRIES, ("m", f"late-{number}")) == other
        assert slots.series(table.RETRIES, ("m", f"late-{number}")) == other
    assert slots.series(table.RETRIES, ("m0", "t7")) in firsts
    # Other metrics, and whoever opens the file next, have the same view.
    assert slots.series(table.UNPRICED, ("m", "late-0")) != other
    assert SlotFile.open(path).series(table.RETRIES, ("m", "late-9")) == other
    rows = [labels for name, labels in read(path) if name == table.RETRIES.name]
    assert len(rows) == SERIES_PER_METRIC + 1
    assert read(path)[SERIES_OVERFLOW.name, (table.RETRIES.name,)] == [4]


def test_label_with_too_many_values_counts_the_rest_as_other_in_that_label(
    slots: SlotFile, path: Path
) -> None:
    for number in range(VALUES_PER_LABEL):
        slots.series(table.RETRIES, ("m", f"t{number}"))
    other = slots.series(table.RETRIES, ("m", OTHER))
    assert other != slots.series(table.RETRIES, (OTHER, OTHER))
    assert slots.series(table.RETRIES, ("m", "late")) == other
    assert slots.series(table.RETRIES, ("n", "later")) == slots.series(table.RETRIES, ("n", OTHER))
    assert slots.series(table.RETRIES, ("n", "t7")) not in (other, slots.series(table.RETRIES, ("n", OTHER)))
    again = SlotFile.open(path)
    assert again.series(table.RETRIES, ("m", "latest")) == other
    assert read(path)[SERIES_OVERFLOW.name, (table.RETRIES.name,)] == [3]


def test_full_file_counts_as_other_without_harm_to_what_is_there(path: Path) -> None:
    # Room for the "_other" of the metric and for five more.
    slots = SlotFile.create(path, slots=6)
    given = [slots.series(table.RETRIES, ("m", f"t{number}")) for number in range(8)]
    assert len(set(given)) == 6
    assert given[5:] == [slots.series(table.RETRIES, (OTHER, OTHER))] * 3
    for first in given:
        slots.values[first] += 1
    assert counted(path) == {
        **{("headgate_retries_total", ("m", f"t{number}")): [1] for number in range(5)},
        ("headgate_retries_total", (OTHER, OTHER)): [3],
    }


def test_metric_that_has_not_even_room_for_other_is_an_error(path: Path) -> None:
    slots = SlotFile.create(path, slots=6)
    with pytest.raises(MemoryError):
        slots.series(table.OVERHEAD, ())


def test_labels_too_long_for_the_directory_count_as_other(slots: SlotFile) -> None:
    long = "x" * (1 << 20)
    firsts = [slots.series(table.RETRIES, (long, str(number))) for number in range(5)]
    assert len(set(firsts)) == 4
    assert firsts[-2:] == [slots.series(table.RETRIES, (OTHER, OTHER))] * 2


def test_file_of_another_kind_is_refused(path: Path) -> None:
    path.write_bytes(b"\1" * 4096)
    with pytest.raises(ValueError, match="not a slot file"):
        SlotFile.open(path)


def test_new_file_is_sparse_and_replaces_the_old_one_whole(slots: SlotFile, path: Path) -> None:
    slots.values[slots.series(table.RETRIES, ("m", "t"))] += 1
    SlotFile.create(path)
    assert read(path) == {}
    assert path.stat().st_size > 8 * SLOTS
    assert path.stat().st_blocks * 512 < 64 * 1024
    assert [entry.name for entry in path.parent.iterdir()] == [path.name]


LABELS = st.text(st.sampled_from('ab"\\é\n,\u2028'), max_size=4)
STEPS = st.lists(st.tuples(st.sampled_from(["m", "n"]) | LABELS, LABELS, st.integers(0, 2**40)), max_size=25)


@settings(deadline=None, max_examples=50)
@given(STEPS, st.integers(0, 24))
def test_sums_are_those_of_the_increments_whoever_wrote_them(
    tmp_path_factory: pytest.TempPathFactory, steps: list[tuple[str, str, int]], dies_after: int
) -> None:
    path = tmp_path_factory.mktemp("slots") / "worker-0"
    slots = SlotFile.create(path, slots=256)
    expected: dict[tuple[str, str], int] = {}
    for place, (model, target, by) in enumerate(steps):
        slots.values[slots.series(table.RETRIES, (model, target))] += by
        expected[model, target] = expected.get((model, target), 0) + by
        if place == dies_after:
            slots = SlotFile.open(path)
    assert {labels: values[0] for (_, labels), values in counted(path).items()} == {
        labels: count for labels, count in expected.items() if count
    }
