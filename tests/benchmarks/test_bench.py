"""The bench measures what it says it does, on both systems and in all scenarios."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
COLUMNS = {
    "system",
    "scenario",
    "connections",
    "cpu_us",
    "cpu_us_worker",
    "cpu_us_per_chunk",
    "rps",
    "p50_us",
    "p99_us",
    "rss_mb",
    "ratio_to_nginx",
}
TRANSLATED = ("translated", "stream_translated")
BESIDE = {
    "limits_embedded": "ungoverned",
    "limits_redis": "ungoverned",
    "drift": "unwatched",
    "stream_drift": "unwatched",
    "traced_10": "untraced",
    "traced_100": "untraced",
    **dict.fromkeys(TRANSLATED, "relayed"),
}
ALONE = ("plain", "stream_burst", "stream_paced", "tls")
LACKING = [
    " or ".join(programs)
    for programs in (("nginx",), ("wrk",), ("cc", "gcc", "clang"))
    if not any(
        shutil.which(name) or shutil.which(name, path="/usr/sbin:/usr/local/sbin") for name in programs
    )
]


def bench(*arguments: str, path: str | None = None) -> subprocess.CompletedProcess[str]:
    environment = dict(os.environ) if path is None else {**os.environ, "PATH": path}
    return subprocess.run(
        [sys.executable, str(ROOT / "benchmarks/run.py"), *arguments],
        env=environment,
        check=False,
        capture_output=True,
        text=True,
        timeout=200,
    )


@pytest.mark.system
@pytest.mark.timeout(240)  # 40 s for the second on a machine that does nothing else
@pytest.mark.skipif(bool(LACKING), reason=f"the bench needs {', '.join(LACKING)}")
@pytest.mark.parametrize(
    "scenarios",
    [ALONE, tuple(name for name in BESIDE if name not in TRANSLATED), TRANSLATED],
    ids=["alone", "beside", "translated"],
)
def test_a_short_run_gives_a_row_for_each_system_and_scenario(scenarios: tuple[str, ...]) -> None:
    asked = ("--scenarios", ",".join(scenarios), "--connections", "8", "--seconds", "1", "--repeats", "1")
    done = bench(*asked, "--json")
    assert done.returncode == 0, done.stderr
    assert "WARNING" not in done.stderr  # every measured call was logged with a cost
    rows = json.loads(done.stdout)
    assert {(row["system"], row["scenario"], row["connections"]) for row in rows} == {
        (system, scenario, 64 if scenario == "stream_paced" else 8)
        for system in ("nginx", "headgate")
        for scenario in scenarios
    } | {(BESIDE[scenario], scenario, 8) for scenario in scenarios if scenario in BESIDE}
    governed = [row for row in rows if row["trips_per_1000"] is not None]
    assert [(row["system"], row["scenario"]) for row in governed] == [
        ("headgate", scenario) for scenario in scenarios if scenario.startswith("limits_")
    ]
    assert all(row["purse_misses_percent"] < 50 for row in governed)
    for row in rows:
        assert row.keys() >= COLUMNS
        assert 0 < row["cpu_us_worker"] <= row["cpu_us"]
        assert 0 < row["p50_us"] <= row["p99_us"]
        assert row["rps"] > 0 and row["rss_mb"] > 0
        assert row["cpu_us_per_chunk"] == (row["cpu_us"] if row["scenario"].startswith("stream") else None)
        beside = next(r for r in rows if r["system"] == "nginx" and r["scenario"] == row["scenario"])
        assert row["ratio_to_nginx"] == pytest.approx(row["cpu_us"] / beside["cpu_us"], abs=0.01)


def test_a_missing_compiler_is_named_and_nothing_is_started(tmp_path: Path) -> None:
    done = bench("--systems", "nginx", "--scenarios", "plain", path=str(tmp_path))
    assert done.returncode == 2
    assert "a C compiler" in done.stderr and "wrk" in done.stderr
    assert "Traceback" not in done.stderr and done.stdout == ""


@pytest.mark.parametrize(
    ("option", "value", "complaint"),
    [
        (
            "--scenarios",
            "fast",
            "choose from plain, stream_burst, stream_paced, tls, limits_embedded, ",
        ),
        ("--seconds", "0", "a whole number from 1 to 60"),
        ("--connections", "32,x", "a whole number from 1 to 4096"),
    ],
)
def test_an_option_out_of_range_is_explained(option: str, value: str, complaint: str) -> None:
    done = bench(option, value)
    assert done.returncode == 2
    assert complaint in done.stderr and "Traceback" not in done.stderr
