"""The panels that dashboards are made of: a title, a description, a unit and queries, and how they look."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from grafana_foundation_sdk.builders import bargauge, common, dashboard, prometheus, stat, table, timeseries
from grafana_foundation_sdk.cog.builder import Builder
from grafana_foundation_sdk.models import common as look
from grafana_foundation_sdk.models.common import VizOrientation
from grafana_foundation_sdk.models.dashboard import (
    DataSourceRef,
    DataTransformerConfig,
    DynamicConfigValue,
    MatcherConfig,
    Panel,
    Threshold,
    ThresholdsMode,
    ValueMap,
    ValueMapping,
    ValueMappingResult,
)
from grafana_foundation_sdk.models.prometheus import PromQueryFormat

SECONDS, USD, USD_PER_HOUR, PER_SECOND, COUNT, SHARE, BYTES, TOKENS_PER_SECOND, AGO = (
    "s",
    "currencyUSD",
    "currencyUSD",
    "reqps",
    "short",
    "percentunit",
    "bytes",
    "cps",
    "dateTimeFromNow",
)
"""Grafana's names of units; AGO is of milliseconds since 1970."""
GREEN, YELLOW, RED, BLUE = "green", "yellow", "red", "blue"
SOURCE = DataSourceRef(type_val="prometheus", uid="${datasource}")
PanelBuilder = Builder[Panel]


@dataclass(frozen=True, slots=True)
class Query:
    """A PromQL expression, and what its series are called: `{{team}}` is the value of a label."""

    expr: str
    legend: str


Steps = Sequence[tuple[float | None, str]]
"""Thresholds: from this value on, this colour; the first one (None) from the beginning."""
_PLAIN: Steps = ((None, GREEN),)


def lines(
    title: str,
    description: str,
    unit: str,
    *queries: Query,
    steps: Steps = _PLAIN,
    stacked: bool = False,
    width: int = 12,
    most: float | None = None,
) -> PanelBuilder:
    """Values over time. Stacked where they are parts of one whole; the lines of `steps` are drawn."""
    panel = (
        timeseries.Panel()
        .title(title)
        .description(description)
        .datasource(SOURCE)
        .unit(unit)
        .min(0)
        .height(8)
        .span(width)
        .fill_opacity(25 if stacked else 8)
        .line_width(1)
        .show_points(look.VisibilityMode.NEVER)
        .thresholds(_thresholds(steps))
        .tooltip(
            common.VizTooltipOptions().mode(look.TooltipDisplayMode.MULTI).sort(look.SortOrder.DESCENDING)
        )
        .legend(
            common.VizLegendOptions()
            .display_mode(look.LegendDisplayMode.TABLE)
            .placement(look.LegendPlacement.BOTTOM)
            .show_legend(True)
            .calcs(["mean", "lastNotNull"])
        )
    )
    if stacked:
        panel.stacking(common.StackingConfig().mode(look.StackingMode.NORMAL).group("A"))
    if len(steps) > 1:
        panel.thresholds_style(common.GraphThresholdsStyleConfig().mode(look.GraphTresholdsStyleMode.DASHED))
    if most is not None:
        panel.max(most)
    for query, ref in zip(queries, "ABCDEFGH", strict=False):
        panel.with_target(_target(query, ref).range())
    return panel


def number(
    title: str,
    description: str,
    unit: str,
    query: Query,
    *,
    steps: Steps = _PLAIN,
    words: dict[str, tuple[str, str]] | None = None,
    width: int = 4,
    decimals: int | None = None,
) -> PanelBuilder:
    """What is so now. `words` is a value → (what is shown for it, its colour)."""
    panel = (
        stat.Panel()
        .title(title)
        .description(description)
        .datasource(SOURCE)
        .unit(unit)
        .height(4)
        .span(width)
        .graph_mode(look.BigValueGraphMode.NONE)
        .color_mode(look.BigValueColorMode.VALUE)
        .thresholds(_thresholds(steps))
        .no_value("none")
        .with_target(_target(query, "A").instant())
    )
    if words:
        panel.mappings([_in_words(words)])
    if decimals is not None:
        panel.decimals(decimals)
    return panel


def bars(
    title: str, description: str, unit: str, query: Query, *, steps: Steps = _PLAIN, width: int = 12
) -> PanelBuilder:
    """What is so now of each series, beside each other."""
    return (
        bargauge.Panel()
        .title(title)
        .description(description)
        .datasource(SOURCE)
        .unit(unit)
        .min(0)
        .height(8)
        .span(width)
        .orientation(VizOrientation.HORIZONTAL)
        .display_mode(look.BarGaugeDisplayMode.GRADIENT)
        .thresholds(_thresholds(steps))
        .with_target(_target(query, "A").instant())
    )


@dataclass(frozen=True, slots=True)
class Column:
    """A column of numbers: an instant query, by the labels of the rows."""

    name: str
    unit: str
    expr: str
    steps: Steps = _PLAIN
    words: dict[str, tuple[str, str]] | None = None


def rows(
    title: str,
    description: str,
    labels: Sequence[str],
    *columns: Column,
    width: int = 24,
    height: int = 8,
) -> PanelBuilder:
    """One row for each combination of `labels`, with the columns' numbers joined; the first column sorts."""
    panel = (
        table.Panel()
        .title(title)
        .description(description)
        .datasource(SOURCE)
        .unit("short")
        .height(height)
        .span(width)
        .thresholds(_thresholds(_PLAIN))
        .sort_by([common.TableSortByFieldState().display_name(columns[0].name).desc(True)])
    )
    for column, ref in zip(columns, "ABCDEFGH", strict=False):
        panel.with_target(
            _target(Query(column.expr, column.name), ref).instant().format(PromQueryFormat.TABLE)
        )
        panel.with_override(MatcherConfig("byName", column.name), _column_look(column))
    panel.with_transformation(DataTransformerConfig("merge", options={}))
    panel.with_transformation(
        DataTransformerConfig(
            "organize",
            options={
                "excludeByName": {"Time": True},
                "indexByName": {name: at for at, name in enumerate(labels)},
                "renameByName": (
                    {"Value": columns[0].name}
                    if len(columns) == 1
                    else {
                        f"Value #{ref}": column.name for column, ref in zip(columns, "ABCDEFGH", strict=False)
                    }
                ),
            },
        )
    )
    return panel


def _column_look(column: Column) -> list[DynamicConfigValue]:
    found = [DynamicConfigValue("unit", column.unit)]
    if len(column.steps) > 1:
        found += [
            DynamicConfigValue("thresholds", _thresholds(column.steps).build()),
            DynamicConfigValue("custom.cellOptions", {"type": "color-text"}),
        ]
    if column.words:
        found += [
            DynamicConfigValue("mappings", [_in_words(column.words)]),
            DynamicConfigValue("custom.cellOptions", {"type": "color-text"}),
        ]
    return found


def _target(query: Query, ref: str) -> prometheus.Dataquery:
    return prometheus.Dataquery().expr(query.expr).legend_format(query.legend).ref_id(ref).datasource(SOURCE)


def _thresholds(steps: Steps) -> dashboard.ThresholdsConfig:
    return (
        dashboard.ThresholdsConfig()
        .mode(ThresholdsMode.ABSOLUTE)
        .steps([Threshold(value, color) for value, color in steps])
    )


def _in_words(words: dict[str, tuple[str, str]]) -> ValueMapping:
    return ValueMap(
        {
            value: ValueMappingResult(text=text, color=color, index=at)
            for at, (value, (text, color)) in enumerate(words.items())
        }
    )
