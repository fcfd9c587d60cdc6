"""Rules ask only for what the metric table has; each alert says what to do and is tested both ways."""

from __future__ import annotations

import re
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from dashboards import promql

ROOT = Path(__file__).parents[2]
FILES = sorted((ROOT / "dashboards" / "rules").glob("*.yaml"))
TESTS = sorted((Path(__file__).parent / "rules").glob("*.yaml"))
RUNBOOKS = sorted((ROOT / "docs" / "runbooks").glob("*.md"))
ASKED_FOR = ("Availability", "FirstToken", "CostSpike", "BudgetForecast", "BudgetOvershoot", "TargetDown")
ASKED_FOR += ("FallbackRate", "LimitSaturated", "StoreDown", "PolicyReloadFailed", "PolicyOld", "Absent")
ASKED_FOR += ("TelemetryDropped", "WorkerRestarts", "SeriesOverflow")
ASKED_FOR += ("Drift", "DriftNotice", "DriftBlind", "IdentityChanged", "ProbeDrift")
"""What somebody is told of, among others."""


def rules(kind: str) -> Iterator[dict[str, Any]]:
    for path in FILES:
        for group in yaml.safe_load(path.read_text())["groups"]:
            yield from (rule for rule in group["rules"] if kind in rule)


ALERTS = {rule["alert"]: rule for rule in rules("alert")}
RECORDS = {rule["record"]: rule for rule in rules("record")}


@pytest.mark.parametrize("rule", [*ALERTS.values(), *RECORDS.values()], ids=lambda rule: rule.get("alert"))
def test_rule_asks_for_what_the_table_has(rule: dict[str, Any]) -> None:
    selectors = promql.selectors(rule["expr"])
    assert selectors
    for selector in selectors:
        name = selector.name or ""
        labels = {matcher.name for matcher in selector.matchers.matchers}
        if name in RECORDS:
            continue
        if name == "up":
            assert not labels
            continue
        metric = promql.metric_of(name)
        assert metric is not None, f"{name} is not in the metric table"
        assert labels <= {*metric.labels, "le"}
        bounds = [matcher.value for matcher in selector.matchers.matchers if matcher.name == "le"]
        assert {float(bound) for bound in bounds} <= set(metric.buckets)


def test_what_is_recorded_is_used_later_in_the_same_group() -> None:
    # Groups are evaluated side by side, in no order: an alert would look at the record of the step before.
    for path in FILES:
        for group in yaml.safe_load(path.read_text())["groups"]:
            recorded: set[str] = set()
            for rule in group["rules"]:
                names = {selector.name or "" for selector in promql.selectors(rule["expr"])}
                assert names & RECORDS.keys() <= recorded
                recorded.add(rule.get("record", ""))


def test_names_of_recorded_series_say_what_they_are_by() -> None:
    for name, rule in RECORDS.items():
        level, metric, operation = name.split(":")
        assert metric.startswith("headgate_") and operation
        by = ", ".join(level.split("_"))
        assert f"by ({by})" in rule["expr"]


def test_there_are_alerts_for_all_that_goes_wrong() -> None:
    assert [
        name for name in ASKED_FOR if not any(alert.startswith(f"Headgate{name}") for alert in ALERTS)
    ] == []


@pytest.mark.parametrize("name", ALERTS)
def test_alert_says_how_bad_it_is_and_where_help_is(name: str) -> None:
    alert = ALERTS[name]
    assert alert["labels"] == {"severity": alert["labels"]["severity"]}
    assert alert["labels"]["severity"] in ("critical", "warning")
    assert set(alert["annotations"]) == {"summary", "description", "runbook_url"}
    assert alert["annotations"]["description"].endswith(".")
    page = ROOT / alert["annotations"]["runbook_url"]
    assert page in RUNBOOKS
    assert f"`{name}`" in page.read_text()


@pytest.mark.parametrize("name", ALERTS)
def test_alert_is_tested_where_it_fires_and_where_it_does_not(name: str) -> None:
    cases = [
        case["exp_alerts"]
        for path in TESTS
        for test in yaml.safe_load(path.read_text())["tests"]
        for case in test.get("alert_rule_test", ())
        if case["alertname"] == name
    ]
    assert any(cases), "never seen to fire"
    assert not all(cases), "never seen to be silent"


@pytest.mark.parametrize("page", RUNBOOKS, ids=lambda page: page.stem)
def test_runbook_is_of_an_alert_and_says_what_to_do(page: Path) -> None:
    text = page.read_text()
    assert page in {ROOT / alert["annotations"]["runbook_url"] for alert in ALERTS.values()}
    assert re.findall(r"^## (.*)", text, re.MULTILINE) == ["First look", "Mend it"]
    for link in re.findall(r"\]\(([^)]+)\)", text):
        assert (page.parent / link).exists()
    for query in re.findall(r"^```promql\n(.*?)^```", text, re.DOTALL | re.MULTILINE):
        for selector in promql.selectors(query):
            metric = promql.metric_of(selector.name or "")
            assert metric is not None or selector.name == "up"
            if metric is not None:
                assert {matcher.name for matcher in selector.matchers.matchers} <= set(metric.labels)


@pytest.mark.system
def test_promtool_takes_the_rules_and_the_configuration(system_tool: Callable[[str], str]) -> None:
    promtool = system_tool("promtool")
    said = run(promtool, "check", "rules", "--lint=all", "--lint-fatal", *map(str, FILES))
    assert said.count("SUCCESS") == len(FILES)
    said = run(promtool, "check", "config", "--lint-fatal", str(ROOT / "dashboards" / "prometheus.yml"))
    assert f"{len(FILES)} rule files found" in said


@pytest.mark.system
@pytest.mark.parametrize("path", TESTS, ids=lambda path: path.stem)
def test_alerts_fire_when_they_should(path: Path, system_tool: Callable[[str], str]) -> None:
    assert "SUCCESS" in run(system_tool("promtool"), "test", "rules", str(path))


def run(*command: str) -> str:
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout
