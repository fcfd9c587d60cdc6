"""The last hour as the console shows it: rates, quantiles, tables, and that it stays small."""

from __future__ import annotations

import math
import random
import tracemalloc

import pytest

from gateway.control import history
from gateway.control.history import BINS, NAMES_PER_BIN, POINTS, ROWS, STEP_S, History, quantile
from gateway.control.tally import ALL, HISTOGRAMS, MEASURES, Row, Sums

DAY_MS = 86_400_000
STEP_MS = round(STEP_S * 1000)
NOON_MS = 20_000 * DAY_MS + DAY_MS // 2


def measures(**values: int) -> list[int]:
    return [values.get(name, 0) for name in MEASURES]


def observed(dimension: str, *seconds: float) -> list[int]:
    """Counts by bucket of what was observed."""
    bounds = (*HISTOGRAMS[dimension].buckets, math.inf)
    counts = [0] * len(bounds)
    for value in seconds:
        counts[next(place for place, bound in enumerate(bounds) if value <= bound)] += 1
    return counts


class Past:
    """A history that is told one look every five seconds."""

    def __init__(self, at_ms: int = NOON_MS) -> None:
        self.history = History()
        self.at_ms, self.clock_s = at_ms, 100.0
        self.rows: dict[Row, list[int]] = {ALL: measures()}
        self.histograms: dict[Row, list[int]] = {}

    def count(self, row: Row, **values: int) -> None:
        """So much more in a row."""
        before = self.rows.get(row, measures())
        self.rows[row] = [a + b for a, b in zip(before, measures(**values), strict=True)]

    def look(self, *, steps: int = 1, **gauges: float) -> Past:
        for _ in range(steps):
            sums = Sums(
                {row: list(values) for row, values in self.rows.items()},
                {row: list(values) for row, values in self.histograms.items()},
            )
            self.history.step(self.at_ms, self.clock_s, sums, gauges)
            self.at_ms, self.clock_s = self.at_ms + STEP_MS, self.clock_s + STEP_S
        return self

    def column(self, name: str) -> list[float]:
        return self.history.series()["columns"][name]


@pytest.mark.parametrize(
    ("counts", "share", "value"),
    [
        ([0, 0, 0, 0], 0.5, None),
        ([4, 0, 0, 0], 0.5, 0.5),
        ([0, 4, 0, 0], 0.5, 1.5),
        ([0, 4, 0, 0], 1.0, 2.0),
        ([2, 2, 0, 0], 0.5, 1.0),
        ([1, 0, 3, 0], 0.5, 2 + 2 / 3),
        ([0, 0, 0, 9], 0.5, 4.0),
        ([1, 0, 0, 99], 0.01, 1.0),
    ],
)
def test_quantile_is_what_promql_would_say(counts: list[int], share: float, value: float | None) -> None:
    assert quantile(counts, (1.0, 2.0, 4.0), share) == (None if value is None else pytest.approx(value))


def test_quantile_lies_in_the_bucket_of_the_true_one() -> None:
    rng = random.Random(1)
    bounds = HISTOGRAMS["duration"].buckets
    for _ in range(200):
        values = sorted(rng.expovariate(1) for _ in range(rng.randint(1, 300)))
        share = rng.choice([0.5, 0.95])
        true = values[math.ceil(share * len(values)) - 1]
        told = quantile(observed("duration", *values), bounds, share)
        upper = next(bound for bound in bounds if true <= bound)
        lower = max((bound for bound in bounds if bound < true), default=0.0)
        assert told is not None and lower <= told <= upper


def test_first_look_is_where_counting_begins_and_no_point() -> None:
    past = Past()
    past.count(Row("outcome", "ok"), calls=1_000)
    assert not past.history.has_begun
    past.look()
    assert past.history.has_begun
    assert past.history.series()["at"] == []
    assert past.history.summary()["calls_per_s"] == 0


def test_rates_are_what_came_between_two_looks_over_the_time_between_them() -> None:
    past = Past().look()
    past.count(Row("outcome", "ok"), calls=50)
    past.count(Row("error_type", "provider_timeout"), failed=5)
    past.count(Row("kind", "cached_input"), tokens=500)
    past.count(ALL, cost=2_000_000_000, retries=10)
    past.look().look()
    past.count(Row("outcome", "ok"), calls=30)
    past.clock_s += STEP_S  # a look that came late
    past.look()
    assert past.column("calls.ok") == [10, 0, 3]
    assert past.column("calls.refused") == [0, 0, 0]
    assert past.column("errors.provider_timeout") == [1, 0, 0]
    assert past.column("tokens.cached") == [100, 0, 0]
    assert past.column("usd_per_hour") == [1440, 0, 0]
    assert past.column("again.retries") == [2, 0, 0]


def test_columns_that_come_later_are_unknown_before() -> None:
    past = Past().look(memory=1.0)
    past.look(**{"memory.worker": 5.0})
    past.count(Row("error_type", "gateway_internal"), failed=5)
    past.look(**{"memory.worker": 6.0})
    assert past.column("memory.worker") == [5, 6]
    assert math.isnan(past.column("errors.gateway_internal")[0])
    assert past.column("errors.gateway_internal")[1] == 1


def test_quantiles_are_of_the_last_minute_and_gaps_where_nothing_was_observed() -> None:
    past = Past().look()
    past.histograms[Row("duration", "")] = observed("duration", *[0.03] * 99, 5.0)
    past.look()
    first = past.column("duration.p50")[0]
    assert 0.02 < first < 0.04
    past.look(steps=12)
    assert past.column("duration.p50")[:12] == [first] * 12
    assert math.isnan(past.column("duration.p50")[12])
    assert past.history.summary()["quantiles"]["duration"]["p50"] == pytest.approx(first, rel=1e-5)
    past.look(steps=60)
    assert past.history.summary()["quantiles"] == {}


def test_series_gives_what_came_after_a_moment() -> None:
    past = Past().look(steps=11)
    whole = past.history.series()
    assert len(whole["at"]) == 10
    later = past.history.series(whole["at"][6])
    assert later["at"] == whole["at"][7:]
    assert later["columns"]["calls.ok"] == whole["columns"]["calls.ok"][7:]
    assert past.history.series(whole["at"][-1])["at"] == []


def test_figures_are_of_the_last_five_minutes() -> None:
    past = Past().look()
    past.count(ALL, calls=1_000, failed=1_000)
    past.look(steps=61)
    past.count(ALL, calls=600, failed=60, tokens=3_000, cost=500_000_000)
    past.look()
    told = past.history.summary()
    assert told["over_s"] == 300
    assert (told["calls_per_s"], told["failed_share"], told["tokens_per_s"]) == (2, 0.1, 10)
    assert told["usd_per_hour"] == pytest.approx(6)
    assert (told["calls"], told["failed"], told["usd"]) == (1_600, 1_060, 0.5)


def test_no_calls_have_no_share_of_failures() -> None:
    assert Past().look(steps=3).history.summary()["failed_share"] is None


def test_day_begins_with_the_first_look_and_then_at_midnight() -> None:
    past = Past(at_ms=20_001 * DAY_MS - 2 * STEP_MS)
    past.count(ALL, cost=7_000_000_000)
    past.look()
    past.count(ALL, cost=1_000_000_000)
    past.look()
    before = past.history.summary()
    assert (before["usd_today"], before["today_since_ms"]) == (1, 20_001 * DAY_MS - 2 * STEP_MS)
    past.count(ALL, cost=500_000_000)
    past.look()
    after = past.history.summary()
    assert (after["usd_today"], after["today_since_ms"], after["usd"]) == (0.5, 20_001 * DAY_MS, 8.5)


def test_tables_tell_the_last_hour_and_all_time_of_each_name() -> None:
    past = Past()
    past.count(Row("team", "old"), calls=10, cost=10**9)
    past.look()
    past.count(Row("team", "search"), calls=4, failed=1, tokens=100, cost=3 * 10**9)
    past.look()
    assert [row["name"] for row in past.history.table("team")["rows"]] == ["search", "old"]
    past.look(steps=BINS * history.BIN_MS // STEP_MS)
    search = next(row for row in past.history.table("team")["rows"] if row["name"] == "search")
    assert search["hour"]["calls"] == 0
    assert search["ever"] == {
        "calls": 4, "failed": 1, "tokens": 100, "attempts": 0, "attempts_failed": 0, "retries": 0, "usd": 3
    }  # fmt: skip


def test_tables_show_the_dearest_names_and_lose_nothing_of_the_others() -> None:
    past = Past().look()
    names = NAMES_PER_BIN * 3
    for number in range(names):
        past.count(Row("key", f"k{number}"), calls=1, cost=(number + 1) * 10**9)
    past.look()
    told = past.history.table("key")
    shown = [row["name"] for row in told["rows"]]
    assert shown == [*(f"k{names - 1 - place}" for place in range(ROWS)), "_other"]
    assert told["left_out"] == names - ROWS
    assert sum(row["hour"]["calls"] for row in told["rows"]) == names
    assert sum(row["ever"]["calls"] for row in told["rows"]) == names
    assert sum(row["hour"]["usd"] for row in told["rows"]) == names * (names + 1) / 2


def test_an_hour_is_kept_and_no_more_whatever_the_number_of_names() -> None:
    past = Past()
    tracemalloc.start()
    try:
        for step in range(POINTS + 100):
            for number in range(20):
                past.count(Row("key", f"k{(step * 20 + number) % 2_000}"), calls=1, cost=1)
            past.look()
        used = tracemalloc.get_traced_memory()[0]
    finally:
        tracemalloc.stop()
    at = past.history.series()["at"]
    assert len(at) == POINTS and at[-1] - at[0] == (POINTS - 1) * STEP_MS
    assert all(len(column) == POINTS for column in past.history.series()["columns"].values())
    assert used < 8_000_000
