"""Dashboards are as Grafana's linter wants them, and ask only for what the metric table has."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from promql_parser import Call, MatchOp, MatrixSelector, parse, walk

from dashboards import build, promql, queries, reference
from gateway.telemetry import table

FILES = sorted(build.GRAFANA.glob("*.json"))
SCRAPED = {"job", "instance"}


def name_of(path: Path) -> str:
    return path.stem


def board(path: Path) -> dict[str, Any]:
    return dict(json.loads(path.read_text()))


def panels(path: Path) -> list[dict[str, Any]]:
    return [panel for panel in board(path)["panels"] if panel["type"] != "row"]


def asked() -> Iterator[tuple[str, str]]:
    for path in FILES:
        for where, query in promql.queries_of(path.read_text()):
            yield f"{path.stem}: {where}", query


QUERIES = list(asked())


def test_what_is_committed_is_what_the_table_makes() -> None:
    made = build.made()
    assert {path for path in made if path.suffix == ".json"} == set(FILES)
    for path, text in made.items():
        assert path.read_text() == text, f"{path.name} is stale: make dashboards"


def test_there_is_a_dashboard_for_each_question() -> None:
    assert {path.stem for path in FILES} == {
        "overview",
        "cost",
        "reliability",
        "limits",
        "providers",
        "drift",
    }
    assert len(QUERIES) > 100


@pytest.mark.parametrize("path", FILES, ids=name_of)
def test_dashboard_has_identity_and_is_not_edited_in_place(path: Path) -> None:
    made = board(path)
    assert made["uid"] == f"headgate-{path.stem}"
    assert made["title"].startswith("Headgate / ") and made["description"]
    assert made["editable"] is False
    assert "id" not in made
    assert made["tags"] == ["headgate"]


@pytest.mark.parametrize("path", FILES, ids=name_of)
def test_variables_are_those_that_the_linter_knows(path: Path) -> None:
    source, *choices = board(path)["templating"]["list"]
    assert (source["name"], source["type"], source["query"]) == ("datasource", "datasource", "prometheus")
    assert source["label"] == "Data source"
    assert [choice["name"] for choice in choices] == ["job", "instance", "team", "model"]
    for choice in choices:
        assert choice["label"] == choice["name"].capitalize()
        assert choice["datasource"] == {"type": "prometheus", "uid": "${datasource}"}
        assert choice["multi"] and choice["includeAll"] and choice["allValue"] == ".+"
        assert choice["refresh"] == 2, "on time range change"
        series = choice["query"].removeprefix("label_values(").rpartition(",")[0]
        (selector,) = promql.selectors(promql.filled(series))
        metric = promql.metric_of(selector.name or "")
        assert metric is not None and choice["name"] in {*metric.labels, *SCRAPED}


@pytest.mark.parametrize("path", FILES, ids=name_of)
def test_panels_say_what_they_show_in_which_unit(path: Path) -> None:
    numbers = [panel["id"] for panel in board(path)["panels"]]
    assert len(set(numbers)) == len(numbers) and min(numbers) > 0
    titles = [panel["title"] for panel in panels(path)]
    assert len(set(titles)) == len(titles)
    for panel in panels(path):
        where = f"{path.stem}: {panel['title']}"
        assert panel["title"] and panel["description"].endswith("."), where
        defaults = panel["fieldConfig"]["defaults"]
        assert defaults["unit"], where
        assert defaults["thresholds"]["steps"], where
        assert panel["datasource"]["uid"] == "${datasource}", where
        refs = [target["refId"] for target in panel["targets"]]
        assert refs and len(set(refs)) == len(refs), where
        assert all(target["datasource"]["uid"] == "${datasource}" for target in panel["targets"]), where


@pytest.mark.parametrize("path", FILES, ids=name_of)
def test_panels_stand_beside_each_other(path: Path) -> None:
    taken: set[tuple[int, int]] = set()
    for panel in board(path)["panels"]:
        at = panel["gridPos"]
        cells = {(at["x"] + x, at["y"] + y) for x in range(at["w"]) for y in range(at["h"])}
        assert not cells & taken, panel["title"]
        assert at["x"] + at["w"] <= 24
        taken |= cells


@pytest.mark.parametrize("path", FILES, ids=name_of)
def test_policy_reloads_are_marked(path: Path) -> None:
    (mark,) = board(path)["annotations"]["list"]
    assert table.POLICY_RELOADS.name in mark["expr"] and mark["enable"]


@pytest.mark.parametrize(("where", "query"), QUERIES, ids=[where for where, _ in QUERIES])
def test_query_asks_for_what_the_table_has(where: str, query: str) -> None:
    for selector in promql.selectors(promql.filled(query)):
        metric = promql.metric_of(selector.name or "")
        assert metric is not None, f"{selector.name} is not in the metric table"
        labels = {matcher.name for matcher in selector.matchers.matchers}
        assert labels <= {*metric.labels, *SCRAPED, "le"}
        assert labels >= SCRAPED
        assert labels >= {"team", "model"} & set(metric.labels)


@pytest.mark.parametrize(("where", "query"), QUERIES, ids=[where for where, _ in QUERIES])
def test_query_rates_counters_over_the_interval_of_the_panel(where: str, query: str) -> None:
    filled = promql.filled(query, {**promql.ANY, "job": "$job", "instance": "$instance"})
    ranged = 0

    def visit(node: object) -> bool:
        nonlocal ranged
        if isinstance(node, Call):
            for selector in (each for each in node.args if isinstance(each, MatrixSelector)):
                ranged += 1
                assert node.func.name in ("rate", "increase")
                if node.func.name == "rate":
                    assert selector.range.total_seconds() == 300, "$__rate_interval"
        return True

    walk(parse(filled), pre_visit=visit)
    counted = [
        selector
        for selector in promql.selectors(filled)
        if (metric := promql.metric_of(selector.name or "")) is not None and metric.kind != "gauge"
    ]
    assert ranged == len(counted), "a counter or histogram is read without rate or increase"
    for selector in promql.selectors(filled):
        chosen = {matcher.name: matcher for matcher in selector.matchers.matchers}
        for label in SCRAPED:
            assert (chosen[label].op, chosen[label].value) == (MatchOp.Re, f"${label}")


def test_query_with_a_label_that_a_metric_has_not_is_not_made() -> None:
    for wrong in (
        lambda: queries.rate(table.COST, "provider"),
        lambda: queries.rate(table.COST, provider="x"),
        lambda: queries.rate(table.COST, "le"),
        lambda: queries.rate(table.CALLS_OPEN),
        lambda: queries.level(table.COST),
        lambda: queries.quantile(0.5, table.COST),
    ):
        with pytest.raises(ValueError, match=r"has no label|is no"):
            wrong()


def test_metrics_that_no_panel_shows_are_listed() -> None:
    listed = (build.ROOT / "docs" / "metrics.md").read_text().partition("## In no panel\n")[2]
    named = {line.strip("- `") for line in listed.splitlines() if line.startswith("- ")}
    seen = reference.shown(path.read_text() for path in FILES)
    assert named == set(table.BY_NAME) - seen
    assert named == {"headgate_build_info"}, "a metric that people cannot see"


def test_reference_has_every_metric_once() -> None:
    text = (build.ROOT / "docs" / "metrics.md").read_text()
    for metric in table.ALL:
        assert text.count(f"| `{metric.name}` |") == 1
        assert metric.help in text


@pytest.mark.parametrize(
    ("condition", "parts"),
    [
        ("up == 0", ["up"]),
        ("a > 1 and (b < 2 or absent(c))", ["a", "b", "c"]),
        ("sum(a) / sum(b)", ["sum(a) / sum(b)"]),
        ("a > on (job) b", ["a", "b"]),
    ],
)
def test_condition_measures_its_sides(condition: str, parts: list[str]) -> None:
    assert promql.measured(condition) == parts
