"""A page with the panels of a dashboard, drawn from a real Prometheus, to look at: roughly what Grafana would show."""

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from html import escape
from itertools import pairwise
from typing import Any

import plotly.graph_objects as go
from plotly.offline import get_plotlyjs

from grafana.panels import Panel, Query
from tests.metrics.conftest import Series, Values

Ask = Callable[[Query], list[Series]]
Band = tuple[str, float, float, str]
"""A name, the start, the end and the color."""

ROW_PX = 38
UNITS = {"s": " s", "ops": "/s", "percentunit": " %", "bytes": " MB", "short": ""}
SCALES = {"percentunit": 100, "bytes": 1 / (1 << 20)}
COLORS = ("#73bf69", "#f2cc0c", "#5794f2", "#ff9830", "#f2495c", "#b877d9", "#37872d", "#fade2a", "#8ab8ff", "#ffb357")
BACKGROUND = {"green": "#1a6b2f", "yellow": "#a07400", "red": "#a3182f"}

STYLE = """
body { background: #111217; color: #ccccdc; font: 13px Inter, Arial, sans-serif; margin: 8px; width: 1584px }
h1 { font-size: 18px; font-weight: 500; margin: 4px 8px 10px }
.board { display: grid; grid-template-columns: repeat(24, 1fr); gap: 8px }
.panel { background: #181b1f; border: 1px solid #2a2d33; border-radius: 3px; overflow: hidden; position: relative }
.panel h2 { font-size: 13px; font-weight: 500; margin: 6px 10px 0; height: 18px }
.value { font-size: 44px; font-weight: 500; text-align: center; line-height: 2.2 }
"""


def page(title: str, panels: Sequence[Panel], ask: Ask, bands: Sequence[Band]) -> str:
    """Return the page of a dashboard."""
    parts = [_panel(number, panel, ask, bands) for number, panel in enumerate(panels)]
    return (
        f"<!doctype html><meta charset=utf-8><title>{escape(title)}</title><style>{STYLE}</style>"
        f"<script>{get_plotlyjs()}</script><h1>stalewatch: {escape(title)}</h1><div class=board>{''.join(parts)}</div>"
    )


def _panel(number: int, panel: Panel, ask: Ask, bands: Sequence[Band]) -> str:
    height = panel.height * ROW_PX
    if panel.kind == "stat":
        (found,) = ask(panel.queries[0])
        value = next(value for _, value in reversed(found.values) if math.isfinite(value))
        color = "#181b1f"
        if panel.steps is not None:
            passed = [name for step, name in panel.steps.items() if value >= step]
            color = BACKGROUND[passed[-1] if passed else "green"]
        text = f"{value * SCALES.get(panel.unit, 1):.4g}{UNITS[panel.unit]}"
        inside, style = f'<div class="value drawn">{text}</div>', f"background:{color}"
    else:
        inside, style = (
            f"<div id=chart{number} style='height:{height - 26}px'></div>{_plot(number, panel, ask, bands)}",
            "",
        )
    place = f"grid-column:span {panel.width};height:{height}px;{style}"
    return f'<div class=panel style="{place}"><h2>{escape(panel.title)}</h2>{inside}</div>'


def _plot(number: int, panel: Panel, ask: Ask, bands: Sequence[Band]) -> str:
    traces = list(_TRACES[panel.kind](panel, ask))
    figure = go.Figure(traces)
    figure.update_layout(
        template="plotly_dark",
        margin={"l": 58, "r": 10, "t": 6, "b": 6},
        paper_bgcolor="#181b1f",
        plot_bgcolor="#181b1f",
        colorway=COLORS,
        showlegend=panel.kind == "series",
        legend={"orientation": "h", "y": -0.12, "font": {"size": 10}},
        font={"size": 11},
    )
    if panel.kind == "bars":
        figure.update_xaxes(type="category", title="seconds since the write, up to")
    else:
        figure.update_xaxes(type="date", tickformat="%H:%M:%S")
        for name, begin, end, color in bands:
            figure.add_vrect(x0=_time(begin), x1=_time(end), fillcolor=color, opacity=0.14, line_width=0, name=name)
    figure.update_yaxes(
        ticksuffix=UNITS[panel.unit] if panel.kind != "timeline" else None,
        type="log" if panel.log else None,
        rangemode="tozero",
    )
    options = "{displayModeBar: false}"
    return f"<script>(f => Plotly.newPlot('chart{number}', f.data, f.layout, {options}))({figure.to_json()})</script>"


def _time(at: float) -> float:
    return at * 1000


def _name(query: Query, labels: Mapping[str, str]) -> str:
    name = query.legend
    for label, value in labels.items():
        name = name.replace(f"{{{{{label}}}}}", value)
    return name


def _lines(panel: Panel, ask: Ask) -> Iterable[Any]:
    scale = SCALES.get(panel.unit, 1)
    for query in panel.queries:
        for series in ask(query):
            name = _name(query, series.labels)
            dashed = panel.dashed and name.startswith(panel.dashed.strip("/^"))
            yield go.Scatter(
                x=[_time(at) for at, _ in _with_gaps(series.values)],
                y=[value * scale if math.isfinite(value) else None for _, value in _with_gaps(series.values)],
                name=name,
                mode="lines",
                line={"width": 1.6, "dash": "dash" if dashed else "solid"},
                stackgroup="one" if panel.stacked else None,
            )


def _with_gaps(values: Values) -> Values:
    """Return the values with NaN in every gap, so that no line is drawn across it."""
    times = {round(at): value for at, value in values}
    return [(at, times.get(at, math.nan)) for at in range(min(times), max(times) + 1)]


def _timeline(panel: Panel, ask: Ask) -> Iterable[Any]:
    (query,) = panel.queries
    found = sorted(ask(query), key=lambda series: series.labels["node"], reverse=True)
    times = sorted({at for series in found for at, _ in series.values})
    known = [dict(series.values) for series in found]
    yield go.Heatmap(
        x=[_time(at) for at in times],
        y=[f"{series.labels['node']}" for series in found],
        z=[[one.get(at) for at in times] for one in known],
        colorscale=[[0, "#33353c"], [1, "#5794f2"]],
        zmin=0,
        zmax=1,
        ygap=6,
        showscale=False,
    )


def _heatmap(panel: Panel, ask: Ask) -> Iterable[Any]:
    (query,) = panel.queries
    buckets = sorted(ask(query), key=lambda series: float(series.labels["le"]))
    times = [at for at, _ in buckets[0].values]
    rows = [[0.0] * len(times)] + [[value for _, value in series.values] for series in buckets]
    yield go.Heatmap(
        x=[_time(at) for at in times],
        y=[series.labels["le"] for series in buckets],
        z=[[up - low for low, up in zip(lower, upper, strict=True)] for lower, upper in pairwise(rows)],
        colorscale=[[0, "#181b1f"], [0.02, "#5a3a12"], [1, "#ffd9a0"]],
        showscale=False,
    )


def _bars(panel: Panel, ask: Ask) -> Iterable[Any]:
    (query,) = panel.queries
    found = sorted(ask(query), key=lambda series: float(series.labels["age"]))
    yield go.Bar(
        x=[series.labels["age"] for series in found],
        y=[series.values[-1][1] * SCALES[panel.unit] for series in found],
    )


_TRACES: Mapping[str, Callable[[Panel, Ask], Iterable[Any]]] = {
    "series": _lines,
    "timeline": _timeline,
    "heatmap": _heatmap,
    "bars": _bars,
}
