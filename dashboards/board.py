"""A dashboard around its panels: variables, annotations, links to the others, identity."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass

from grafana_foundation_sdk.builders import dashboard
from grafana_foundation_sdk.cog.encoder import JSONEncoder
from grafana_foundation_sdk.models.dashboard import (
    DashboardCursorSync,
    DashboardLinkType,
    VariableOption,
    VariableRefresh,
    VariableSort,
)

from dashboards.panels import BLUE, SOURCE, PanelBuilder
from dashboards.queries import WINDOW, increase
from gateway.telemetry import table

TAG = "headgate"


@dataclass(frozen=True, slots=True)
class Row:
    """Panels under a heading."""

    title: str
    panels: Sequence[PanelBuilder]


@dataclass(frozen=True, slots=True)
class Board:
    """A dashboard. `name` is its file and, behind `headgate-`, its uid: links to it stay good."""

    name: str
    title: str
    description: str
    rows: Sequence[Row]

    def text(self) -> str:
        """The dashboard as Grafana imports it."""
        made = self._frame()
        for row in self.rows:
            made.with_row(dashboard.Row(row.title))
            for panel in row.panels:
                made.with_panel(panel)
        built = made.build()
        for number, placed in enumerate(built.panels or [], 1):
            placed.id_val = number
        return json.dumps(built, cls=JSONEncoder, indent=2, sort_keys=True) + "\n"

    def _frame(self) -> dashboard.Dashboard:
        return (
            dashboard.Dashboard(self.title)
            .uid(f"headgate-{self.name}")
            .description(self.description)
            .tags([TAG])
            .readonly()
            .refresh("30s")
            .time("now-6h", "now")
            .tooltip(DashboardCursorSync.CROSSHAIR)
            .with_variable(dashboard.DatasourceVariable("datasource").label("Data source").type("prometheus"))
            .with_variable(_choice("job", table.BUILD_INFO.name))
            .with_variable(_choice("instance", f'{table.BUILD_INFO.name}{{job=~"$job"}}'))
            .with_variable(_choice("team", _SCRAPED.format(table.REQUESTS.name)))
            .with_variable(_choice("model", _SCRAPED.format(table.REQUESTS.name)))
            .annotation(_reloads())
            .link(
                dashboard.DashboardLink("Headgate")
                .type(DashboardLinkType.DASHBOARDS)
                .tags([TAG])
                .as_dropdown(True)
                .include_vars(True)
                .keep_time(True)
            )
        )


_SCRAPED = '{}{{job=~"$job", instance=~"$instance"}}'


def _choice(label: str, series: str) -> dashboard.QueryVariable:
    """A variable with the values that a label has; all of them unless somebody chooses."""
    return (
        dashboard.QueryVariable(label)
        .label(label.capitalize())
        .datasource(SOURCE)
        .query(f"label_values({series}, {label})")
        .refresh(VariableRefresh.ON_TIME_RANGE_CHANGED)
        .sort(VariableSort.ALPHABETICAL_ASC)
        .multi(True)
        .include_all(True)
        .all_value(".+")
        .current(VariableOption(selected=True, text="All", value="$__all"))
    )


def _reloads() -> dashboard.AnnotationQuery:
    reloaded = increase(table.POLICY_RELOADS, "instance", "result", window=WINDOW)
    return (
        dashboard.AnnotationQuery()
        .name("Policy reloads")
        .datasource(SOURCE)
        .enable(True)
        .icon_color(BLUE)
        .expr(f"{reloaded} > 0")
    )
