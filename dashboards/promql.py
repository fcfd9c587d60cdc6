"""What a query asks for: which metrics and labels of the table, and what an alert's condition measures."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping
from typing import Any

import promql_parser as promql

from gateway.telemetry.metric import Metric
from gateway.telemetry.table import BY_NAME

ANY: Mapping[str, str] = {
    "__rate_interval": "5m",
    "__range": "6h",
    "datasource": "prometheus",
    "job": ".+",
    "instance": ".+",
    "team": ".+",
    "model": ".+",
}
"""A value for each variable of the dashboards."""
_COMPARISONS = (">", "<", "==", "!=", ">=", "<=")
_SIDES = ("and", "or", "unless")


def filled(query: str, values: Mapping[str, str] = ANY) -> str:
    """A dashboard's query with its variables replaced, as Grafana sends it. `$1` is for label_replace."""
    return re.sub(r"\$\{?([a-z_]+)\}?", lambda found: values[found[1]], query)


def queries_of(text: str) -> Iterator[tuple[str, str]]:
    """(where it stands, PromQL) of all panels and annotations of a dashboard."""
    board: dict[str, Any] = json.loads(text)
    for panel in board["panels"]:
        for target in panel.get("targets", ()):
            yield f"{panel['title']} {target['refId']}", target["expr"]
    for annotation in board["annotations"]["list"]:
        yield annotation["name"], annotation["expr"]


def selectors(query: str) -> list[promql.VectorSelector]:
    """Every selector of a query. Raises ValueError where it is no PromQL."""
    found: list[promql.VectorSelector] = []

    def visit(node: promql.Expr) -> bool:
        if isinstance(node, promql.VectorSelector):
            found.append(node)
        return True

    promql.walk(promql.parse(query), pre_visit=visit)
    return found


def metric_of(sample: str) -> Metric | None:
    """The row of the table that a sample's name (with _bucket, _sum or _count for a histogram) belongs to."""
    metric = BY_NAME.get(sample)
    if metric is not None:
        return metric if metric.kind != "histogram" else None
    family = BY_NAME.get(re.sub(r"_(bucket|sum|count)$", "", sample))
    return family if family is not None and family.kind == "histogram" else None


def measured(query: str) -> list[str]:
    """What a condition compares with its thresholds: with `a > 1 and b < 2`, a and b. A query that compares
    nothing measures itself; `absent` measures what should be there."""
    return [node.prettify() for node in _measured(promql.parse(query))]


def _measured(node: promql.Expr) -> Iterator[promql.Expr]:
    if isinstance(node, promql.ParenExpr):
        yield from _measured(node.expr)
    elif isinstance(node, promql.Call) and node.func.name == "absent":
        yield from _measured(node.args[0])
    elif isinstance(node, promql.BinaryExpr) and str(node.op) in _SIDES:
        yield from _measured(node.lhs)
        yield from _measured(node.rhs)
    elif isinstance(node, promql.BinaryExpr) and str(node.op) in _COMPARISONS:
        for side in (node.lhs, node.rhs):
            if not isinstance(side, promql.NumberLiteral):
                yield side
    else:
        yield node
