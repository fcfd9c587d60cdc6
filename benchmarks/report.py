"""From samples to rows, and rows to a table a person can read."""

from dataclasses import dataclass
from statistics import median

from load import Sample
from systems import BESIDE

Row = dict[str, str | float | None]

# What Headgate promises at 32 connections (64 paced streams): (scenario, key of the row, most it may be).
BARS: tuple[tuple[str, str, float], ...] = (
    ("plain", "ratio_worker", 3.0),
    ("plain", "ratio_to_nginx", 4.0),
    ("stream_burst", "ratio_to_nginx", 1.3),
    ("stream_paced", "ratio_to_nginx", 2.0),
    ("plain", "rss_mb_worker", 70.0),
    ("plain", "rss_mb", 250.0),
    ("plain", "start_ms", 1500.0),
    ("limits_embedded", "more_us_worker", 3.0),
    ("limits_embedded", "purse_misses_percent", 1.0),
    ("limits_embedded", "trips_per_1000", 100.0),
    ("limits_redis", "more_us_worker", 3.0),
    ("limits_redis", "purse_misses_percent", 1.0),
    ("limits_redis", "trips_per_1000", 100.0),
    ("drift", "more_us_worker", 2.0),
    ("stream_drift", "more_us_worker", 0.05),
    ("traced_10", "more_us_worker", 2.0),
    ("traced_100", "more_us_worker", 8.0),
    ("translated", "more_us_worker", 50.0),
    ("stream_translated", "more_us_worker", 4.0),
)
BAR_CONNECTIONS = (32, 64)

# (key of the row, title, width)
_COLUMNS = (
    ("system", "system", 11),
    ("scenario", "scenario", 16),
    ("connections", "conns", 6),
    ("cpu_us", "cpu_us", 8),
    ("ratio_to_nginx", "ratio", 7),
    ("cpu_us_worker", "worker_us", 10),
    ("ratio_worker", "ratio", 7),
    ("rps", "rps", 8),
    ("p50_us", "p50_us", 8),
    ("p99_us", "p99_us", 8),
    ("rss_mb", "rss_mb", 7),
    ("rss_mb_worker", "worker_mb", 10),
    ("start_ms", "start_ms", 9),
    ("upstream_us", "upstream_us", 12),
    ("noise_percent", "noise_%", 8),
    ("more_us_worker", "more_us", 9),
    ("purse_misses_percent", "misses_%", 9),
    ("trips_per_1000", "trips/1000", 11),
)


@dataclass(frozen=True, slots=True)
class Measured:
    """All repeats of one system in one scenario at one number of connections."""

    system: str
    scenario: str
    connections: int
    samples: list[Sample]
    rss_mb: float
    rss_mb_worker: float
    start_ms: float
    counted: dict[str, float] | None = None
    """What it counted of purses and of the store meanwhile, if it has limits."""


def rows(measured: list[Measured]) -> list[Row]:
    """One row each: medians of the repeats; ratios are of those medians, null without nginx beside it."""
    base = {(m.system, m.scenario, m.connections): m for m in measured}
    return [
        _row(
            m,
            base.get(("nginx", m.scenario, m.connections)),
            base.get((BESIDE[m.scenario].name, m.scenario, m.connections)) if m.scenario in BESIDE else None,
        )
        for m in measured
    ]


def _row(m: Measured, nginx: Measured | None, beside: Measured | None) -> Row:
    def of(field: str, source: Measured = m) -> float:
        value = median(float(getattr(sample, field)) for sample in source.samples)
        return float(f"{value:.4g}")

    cpu_us, cpu_us_worker = of("cpu_us"), of("cpu_us_worker")
    return {
        "system": m.system,
        "scenario": m.scenario,
        "connections": m.connections,
        "cpu_us": cpu_us,
        "cpu_us_worker": cpu_us_worker,
        "cpu_us_per_chunk": cpu_us if m.scenario.startswith("stream") else None,
        "rps": of("rps"),
        "p50_us": of("p50_us"),
        "p99_us": of("p99_us"),
        "rss_mb": round(m.rss_mb, 1),
        "ratio_to_nginx": round(cpu_us / of("cpu_us", nginx), 2) if nginx else None,
        "ratio_worker": round(cpu_us_worker / of("cpu_us", nginx), 2) if nginx else None,
        "rss_mb_worker": round(m.rss_mb_worker, 1),
        "start_ms": round(m.start_ms, 1),
        "upstream_us": of("upstream_us"),
        "noise_percent": round(of("noise_percent"), 1),
        "more_us_worker": _more(m, cpu_us_worker - of("cpu_us_worker", beside)) if beside else None,
        **_limits(m.counted or {}),
    }


def _more(m: Measured, more_us: float) -> float | None:
    """CPU of the worker beyond that of the Headgate beside it."""
    return round(more_us, 3) if m.system == "headgate" else None


def _limits(counted: dict[str, float]) -> Row:
    """What limits cost: calls that had to ask, and round trips to the store; null where there are none."""
    hits, misses = (
        counted.get(f'headgate_purse_hits_total{{hit="{hit}"}}', 0.0) for hit in ("true", "false")
    )
    calls = hits + misses
    trips = counted.get("headgate_store_round_trips_total", 0.0)
    return {
        "purse_misses_percent": round(100 * misses / calls, 3) if calls else None,
        "trips_per_1000": round(1000 * trips / calls, 2) if calls else None,
    }


def table(all_rows: list[Row]) -> str:
    """The rows as aligned text, and below them how Headgate stands against its bars."""
    lines = ["".join(title.rjust(width) for _, title, width in _COLUMNS)]
    for row in all_rows:
        lines.append("".join(_cell(row[key]).rjust(width) for key, _, width in _COLUMNS))
    return "\n".join(lines + _verdicts(all_rows))


def _cell(value: str | float | None) -> str:
    if isinstance(value, float):
        return f"{value:.0f}" if value >= 1000 else f"{value:g}"
    return "-" if value is None else str(value)


def _verdicts(all_rows: list[Row]) -> list[str]:
    lines = []
    for scenario, key, most in BARS:
        for row in all_rows:
            value = row[key]
            if (
                row["system"] != "headgate"
                or row["scenario"] != scenario
                or row["connections"] not in BAR_CONNECTIONS
            ):
                continue
            if isinstance(value, float):
                verdict = "kept" if value <= most else "MISSED"
                lines.append(
                    f"  {verdict:7} {scenario} at {row['connections']}: {key} {value} (at most {most:g})"
                )
    return ["", "Bars:", *lines] if lines else []
