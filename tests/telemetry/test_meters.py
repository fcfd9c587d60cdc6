"""What the line counts arrives in the slots as it was meant: right series, right bucket, nothing twice."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gateway.telemetry import table
from gateway.telemetry.meters import NONE, OTHER, CallLabels, Histogram, Meters
from gateway.telemetry.metric import Metric
from gateway.telemetry.slots import SlotFile, read_slots
from gateway.telemetry.table import BY_NAME
from gateway.usage import KINDS, Usage

LABELS = CallLabels("search", "prod", "fast", "openai/gpt-4o", "gpt-4o", "openai", "chat")
GEN_AI = ("chat", "openai", "fast", "gpt-4o", "gpt-4o")
CALL = ("search", "prod", "fast", "openai/gpt-4o")
TARGET = ("fast", "openai/gpt-4o")


class Read:
    """All series of a file that are not zero."""

    def __init__(self, path: Path) -> None:
        self.series = {(name, labels): values for name, labels, values in read_slots(path) if any(values)}

    def count(self, metric: Metric, labels: tuple[str, ...]) -> int:
        return self.series.get((metric.name, labels), [0])[0]

    def histogram(self, metric: Metric, labels: tuple[str, ...] = ()) -> tuple[dict[float, int], int]:
        """({upper bound: count}, sum in slot units) of the buckets that are not empty."""
        values = self.series.get((metric.name, labels), [0] * (len(metric.buckets) + 2))
        bounds = (*metric.buckets, float("inf"))
        return {bound: count for bound, count in zip(bounds, values, strict=False) if count}, values[-1]

    def names(self) -> set[str]:
        return {name for name, _ in self.series}


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "worker-0"


@pytest.fixture
def slots(path: Path) -> SlotFile:
    return SlotFile.create(path)


@pytest.fixture
def meters(slots: SlotFile) -> Meters:
    return Meters(slots)


@pytest.mark.parametrize(
    ("value", "bound"),
    [
        (0.0, 0.00001),
        (0.00001, 0.00001),
        (0.0000101, 0.000025),
        (0.5, 1.0),
        (1.0, 1.0),
        (1.01, float("inf")),
    ],
)
def test_value_falls_into_the_first_bucket_that_is_not_below_it(
    meters: Meters, path: Path, value: float, bound: float
) -> None:
    meters.overhead.observe(value)
    assert Read(path).histogram(table.OVERHEAD) == ({bound: 1}, int(value * 1e9))


@settings(deadline=None)
@given(st.lists(st.floats(0.0, 100.0), max_size=30))
def test_buckets_count_every_value_once_and_the_sum_is_in_nanoseconds(
    tmp_path_factory: pytest.TempPathFactory, values: list[float]
) -> None:
    path = tmp_path_factory.mktemp("slots") / "worker-0"
    histogram = Histogram(SlotFile.create(path), table.FIRST_TOKEN, TARGET)
    for value in values:
        histogram.observe(value)
    buckets, total = Read(path).histogram(table.FIRST_TOKEN, TARGET)
    low = 0.0
    for bound in (*table.FIRST_TOKEN.buckets, float("inf")):
        within = sum(low < value <= bound or value == low == 0.0 for value in values)
        assert buckets.get(bound, 0) == within
        low = bound
    assert abs(total - sum(values) * 1e9) <= len(values) + 1


def test_answered_call_counts_its_tokens_money_and_attempt(meters: Meters, path: Path) -> None:
    usage = Usage(1, 2, 4, 8, 16, 32, 64)
    call = meters.of_calls(LABELS)
    call.answered(usage, 12_345)
    call.attempted()
    read = Read(path)
    assert [read.count(table.TOKENS, ("search", *TARGET, kind)) for kind in KINDS] == list(usage.by_kind())
    assert read.count(table.COST, CALL) == 12_345
    assert read.count(table.ATTEMPTS, (*TARGET, "ok")) == 1
    assert read.histogram(table.GEN_AI_TOKEN_USAGE, (*GEN_AI, "input")) == ({16: 1}, 15)
    assert read.histogram(table.GEN_AI_TOKEN_USAGE, (*GEN_AI, "output")) == ({256: 1}, 112)
    # Not priced and not finished: these have not happened.
    assert read.names() == {
        metric.name for metric in (table.TOKENS, table.COST, table.ATTEMPTS, table.GEN_AI_TOKEN_USAGE)
    }


def test_plain_usage_is_counted_like_any_other(meters: Meters, path: Path) -> None:
    calls = meters.of_calls(LABELS)
    calls.answered(Usage(input=100, output=7), 1)
    calls.answered(Usage(input=1, cached_input=1, output=1), 1)
    read = Read(path)
    tokens = {kind: read.count(table.TOKENS, ("search", *TARGET, kind)) for kind in KINDS}
    assert {kind: count for kind, count in tokens.items() if count} == {
        "input": 101,
        "cached_input": 1,
        "output": 8,
    }


def test_answer_without_a_price_is_counted_as_unpriced_not_as_free(meters: Meters, path: Path) -> None:
    calls = meters.of_calls(LABELS)
    calls.answered(Usage(input=1), None)
    calls.answered(Usage(input=1), 0)
    read = Read(path)
    assert read.count(table.UNPRICED, TARGET) == 1
    assert read.count(table.COST, CALL) == 0


def test_finished_call_counts_once_with_its_two_durations(meters: Meters, path: Path) -> None:
    meters.of_calls(LABELS).finished(0.3, 0.015)
    read = Read(path)
    assert read.count(table.REQUESTS, (*CALL, "ok", "")) == 1
    assert read.histogram(table.GEN_AI_REQUEST_DURATION, (*GEN_AI, "")) == ({0.32: 1}, 300_000_000)
    assert read.histogram(table.GEN_AI_OPERATION_DURATION, (*GEN_AI, "")) == ({0.02: 1}, 15_000_000)
    assert read.count(table.ATTEMPTS, (*TARGET, "ok")) == 0


@pytest.mark.parametrize(("per_token_s", "buckets"), [(0.02, ({0.025: 1}, 20_000_000)), (None, ({}, 0))])
def test_stream_counts_its_first_token_and_its_pace(
    meters: Meters, path: Path, per_token_s: float | None, buckets: tuple[dict[float, int], int]
) -> None:
    meters.of_calls(LABELS).streamed(0.03, per_token_s)
    read = Read(path)
    assert read.histogram(table.FIRST_TOKEN, TARGET) == ({0.04: 1}, 30_000_000)
    assert read.histogram(table.GEN_AI_TIME_TO_FIRST_TOKEN, GEN_AI) == ({0.04: 1}, 30_000_000)
    assert read.histogram(table.GEN_AI_TIME_PER_OUTPUT_TOKEN, GEN_AI) == buckets


def test_failed_call_has_its_outcome_and_its_type(meters: Meters, path: Path) -> None:
    for _ in range(2):
        meters.failed(*CALL, "upstream_failed", "provider_timeout")
    meters.failed(NONE, NONE, OTHER, NONE, "refused", "policy_model_unknown")
    meters.failed_operation(LABELS, "provider_timeout", 0.3)
    read = Read(path)
    assert read.count(table.REQUESTS, (*CALL, "upstream_failed", "provider_timeout")) == 2
    assert read.count(table.REQUESTS, (NONE, NONE, OTHER, NONE, "refused", "policy_model_unknown")) == 1
    for metric in (table.GEN_AI_OPERATION_DURATION, table.GEN_AI_REQUEST_DURATION):
        assert read.histogram(metric, (*GEN_AI, "provider_timeout")) == ({0.32: 1}, 300_000_000)


def test_attempts_retries_and_fallbacks_have_their_own_series(meters: Meters, path: Path) -> None:
    for _ in range(3):
        meters.attempt_failed(*TARGET, "server_error")
    meters.retry(*TARGET)
    meters.retry(*TARGET)
    meters.fallback("fast", "server_error")
    meters.log_dropped(41)
    meters.log_dropped(1)
    assert Read(path).series == {
        ("headgate_attempts_total", (*TARGET, "server_error")): [3],
        ("headgate_retries_total", TARGET): [2],
        ("headgate_fallbacks_total", ("fast", "server_error")): [1],
        ("headgate_log_dropped_total", ()): [42],
    }


def test_streams_open_goes_up_and_down(meters: Meters, path: Path) -> None:
    for change in (1, 1, -1):
        meters.streams_open(change)
    assert Read(path).count(table.STREAMS_OPEN, ()) == 1
    meters.streams_open(-1)
    assert Read(path).names() == set()


def test_what_limits_do_is_counted(meters: Meters, path: Path) -> None:
    for mode in ("enforce", "shadow", "enforce"):
        meters.limit_refused("search-rate", mode)
    for _ in range(3):
        meters.purse_hit()
    meters.purse_missed()
    meters.overshot(1_500)
    read = Read(path)
    assert read.count(table.LIMIT_REFUSED, ("search-rate", "enforce")) == 2
    assert read.count(table.LIMIT_REFUSED, ("search-rate", "shadow")) == 1
    assert (read.count(table.PURSE_HITS, ("true",)), read.count(table.PURSE_HITS, ("false",))) == (3, 1)
    assert read.count(table.OVERSHOOT, ()) == 1_500


def test_sums_over_the_files_of_all_workers_are_what_was_counted(tmp_path: Path) -> None:
    for worker in range(3):
        meters = Meters(SlotFile.create(tmp_path / f"worker-{worker}"))
        # Series are met in another order by each worker.
        for target in ("a", "b", "c")[worker:] + ("a", "b", "c")[:worker]:
            meters.retry("fast", target)
        meters.of_calls(LABELS).answered(Usage(input=10), 5 * 10**worker)
    files = [Read(tmp_path / f"worker-{worker}") for worker in range(3)]
    for target in ("a", "b", "c"):
        assert sum(read.count(table.RETRIES, ("fast", target)) for read in files) == 3
    assert sum(read.count(table.COST, CALL) for read in files) == 555
    assert sum(read.count(table.TOKENS, ("search", *TARGET, "input")) for read in files) == 30


def test_calls_of_a_replaced_worker_are_counted_in_the_same_series(slots: SlotFile, path: Path) -> None:
    Meters(slots).of_calls(LABELS).answered(Usage(input=1), 1)
    before = set(Read(path).series)
    Meters(SlotFile.open(path)).of_calls(LABELS).answered(Usage(input=2), 2)
    read = Read(path)
    assert set(read.series) == before
    assert read.count(table.COST, CALL) == 3


def test_labels_of_every_series_are_as_many_as_its_metric_has(meters: Meters, path: Path) -> None:
    meters.of_calls(LABELS)
    meters.failed(*CALL, "refused", "x")
    meters.failed_operation(LABELS, "x", 0.1)
    meters.attempt_failed(*TARGET, "x")
    meters.retry(*TARGET)
    meters.fallback("fast", "x")
    meters.log_dropped(1)
    rows = [(name, labels) for name, labels, _ in read_slots(path)]
    assert len(rows) > 20
    for name, labels in rows:
        assert len(labels) == len(BY_NAME[name].labels), name
