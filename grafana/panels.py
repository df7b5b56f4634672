"""Panels as data, and the typed builder of each kind of panel."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from grafana_foundation_sdk.builders import barchart, common, dashboard, heatmap, prometheus, stat, statetimeline
from grafana_foundation_sdk.builders import timeseries as series
from grafana_foundation_sdk.models import common as looks
from grafana_foundation_sdk.models import dashboard as models
from grafana_foundation_sdk.models.heatmap import HeatmapColorMode
from grafana_foundation_sdk.models.prometheus import PromQueryFormat

DATASOURCE = models.DataSourceRef(type_val="prometheus", uid="${datasource}")

GREEN, YELLOW, RED, BLUE = "green", "yellow", "red", "blue"
Steps = Mapping[float, str]
"""Colours by the value from which they apply; below the lowest value it is green."""

DASHED = [models.DynamicConfigValue(id_val="custom.lineStyle", value={"fill": "dash", "dash": [8, 6]})]


@dataclass(frozen=True)
class Query:
    """A query and the legend of its series; an `instant` query is evaluated only at the end of the range."""

    expr: str
    legend: str = ""
    instant: bool = False
    buckets: bool = False


@dataclass(frozen=True, kw_only=True)
class Panel:
    """A panel: what it shows, the unit by Grafana's name, and the values from which it is yellow or red."""

    kind: str
    title: str
    description: str
    unit: str
    queries: tuple[Query, ...]
    width: int = 12
    height: int = 8
    steps: Steps | None = None
    stacked: bool = False
    minimum: float | None = 0
    maximum: float | None = None
    dashed: str = ""
    """A regular expression: matching series are drawn dashed."""
    log: bool = False
    """Whether the y axis is logarithmic."""


Builder = Any
"""The SDK's panel builders have the same methods but no common type."""


def built(panel: Panel, number: int) -> Builder:
    """Return the builder of a panel."""
    builder = _KINDS[panel.kind](panel)
    builder.id(number).title(panel.title).description(panel.description).datasource(DATASOURCE)
    builder.height(panel.height).span(panel.width)
    if panel.kind != "heatmap":
        builder.unit(panel.unit)
    if panel.steps is not None:
        builder.thresholds(_thresholds(panel.steps))
    for position, query in enumerate(panel.queries):
        builder.with_target(_target(query, chr(ord("A") + position)))
    return builder


def _target(query: Query, name: str) -> prometheus.Dataquery:
    target = prometheus.Dataquery().ref_id(name).expr(query.expr).datasource(DATASOURCE)
    target.legend_format(query.legend)
    if query.buckets:
        target.format(PromQueryFormat.HEATMAP)
    elif query.instant:
        target.format(PromQueryFormat.TABLE)
    return target.instant() if query.instant else target.range()


def _thresholds(steps: Steps) -> dashboard.ThresholdsConfig:
    found = [models.Threshold(value=None, color=GREEN)]
    found += [models.Threshold(value=value, color=color) for value, color in steps.items()]
    return dashboard.ThresholdsConfig().mode(models.ThresholdsMode.ABSOLUTE).steps(found)


def _series(panel: Panel) -> Builder:
    chart = (
        series.Panel().line_width(2).fill_opacity(15 if panel.stacked else 5).show_points(looks.VisibilityMode.NEVER)
    )
    chart.legend(
        common.VizLegendOptions()
        .display_mode(looks.LegendDisplayMode.TABLE)
        .placement(looks.LegendPlacement.BOTTOM)
        .show_legend(True)
        .calcs(["lastNotNull", "max"])
    )
    chart.tooltip(common.VizTooltipOptions().mode(looks.TooltipDisplayMode.MULTI).sort(looks.SortOrder.DESCENDING))
    if panel.minimum is not None and not panel.log:
        chart.min(panel.minimum)
    if panel.maximum is not None:
        chart.max(panel.maximum)
    if panel.stacked:
        chart.stacking(common.StackingConfig().mode(looks.StackingMode.NORMAL))
    if panel.steps:
        chart.thresholds_style(common.GraphThresholdsStyleConfig().mode(looks.GraphThresholdsStyleMode.DASHED))
    if panel.log:
        chart.scale_distribution(common.ScaleDistributionConfig().type(looks.ScaleDistribution.LOG).log(10))
    if panel.dashed:
        chart.override_by_regexp(panel.dashed, DASHED)
    return chart


def _stat(panel: Panel) -> Builder:
    last = common.ReduceDataOptions().calcs(["lastNotNull"])
    chart = stat.Panel().reduce_options(last).graph_mode(looks.BigValueGraphMode.AREA)
    return chart.color_mode(looks.BigValueColorMode.BACKGROUND if panel.steps else looks.BigValueColorMode.VALUE)


def _heatmap(panel: Panel) -> Builder:
    chart = heatmap.Panel().calculate(False).show_legend().filter_values(heatmap.FilterValueRange().le(1e-9))
    chart.y_axis(heatmap.YAxisConfig().unit(panel.unit))
    return chart.color(heatmap.HeatmapColorOptions().mode(HeatmapColorMode.SCHEME).scheme("Oranges").steps(64))


def _timeline(_: Panel) -> Builder:
    states = {"0": models.ValueMappingResult(text="no", color="#55555540", index=0)}
    states["1"] = models.ValueMappingResult(text="yes", color=BLUE, index=1)
    chart = statetimeline.Panel().show_value(looks.VisibilityMode.NEVER).merge_values(True)
    return chart.mappings([models.ValueMap(options=states)])


def _bars(_: Panel) -> Builder:
    chart = barchart.Panel().x_field("age").fill_opacity(80).show_value(looks.VisibilityMode.AUTO)
    for transformation in (
        models.DataTransformerConfig(
            id_val="convertFieldType",
            options={"conversions": [{"targetField": "age", "destinationType": "number"}]},
        ),
        models.DataTransformerConfig(id_val="sortBy", options={"sort": [{"field": "age"}]}),
        models.DataTransformerConfig(
            id_val="convertFieldType",
            options={"conversions": [{"targetField": "age", "destinationType": "string"}]},
        ),
        models.DataTransformerConfig(
            id_val="organize",
            options={"excludeByName": {"Time": True}, "renameByName": {"Value": "stale"}},
        ),
    ):
        chart.with_transformation(transformation)
    return chart.min(0).max(1)


_KINDS: Mapping[str, Callable[[Panel], Builder]] = {
    "series": _series,
    "stat": _stat,
    "heatmap": _heatmap,
    "timeline": _timeline,
    "bars": _bars,
}
