"""The page's charts, as the plain dictionaries that plotly.js draws.

Colours are named after the style sheet's variables (``--blue``), which the page's script resolves, so that both themes
come from one place. Plotly reads HTML in text, so text from results is escaped here.
"""

import html
import math
import textwrap
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from stalewatch.reports.words import count, percent

Figure = dict[str, Any]
Trace = dict[str, Any]
Results = Sequence[Mapping[str, Any]]

RATES = {
    "stale_reads": ("stale reads", "--red", "circle"),
    "read_your_writes": ("own writes missed", "--orange", "diamond"),
    "monotonic_reads": ("went back in time", "--teal", "square"),
}
"""The rates that are drawn: name, colour, and a marker that tells them apart without colour."""

STATISTICS = {
    "avg": ("average", "--ink", "line-ns-open"),
    "p50": ("p50", "--teal", "circle"),
    "p95": ("p95", "--orange", "diamond"),
    "p99": ("p99", "--violet", "square"),
}

LATENCIES = {"service_ms": "service time", "response_ms": "response time"}

SERIES = {
    "reads ok": ("--blue", "solid", ("read_ok",)),
    "writes ok": ("--orange", "solid", ("write_ok",)),
    "failed": ("--ink", "dot", ("read_fail", "write_fail")),
    "unknown": ("--violet", "dash", ("read_unknown", "write_unknown")),
}
"""The lines of the timeline: colour, dash, and the fields of a second that each adds up."""

MAX_MARKED_SECONDS = 90
"""The longest timeline on which a marker for each second is readable."""

MIN_LOG_RATIO = 20.0
"""From this ratio of the largest to the smallest latency on, a linear axis would hide the small ones."""

MAX_FINE_TICKS_RATIO = 200.0
"""Up to this ratio a logarithmic axis has room for ticks between the powers of ten."""

_RATES_PX, _LATENCY_PX, _FRAME_PX, _LINE_PX = 72, 36, 90, 18
"""Heights: a run in the rates chart, a run in the latency chart, the frame around the rows, a line of text."""


def rates(labels: Sequence[str], results: Results) -> Figure:
    """Return every run's rates of stale reads and of session violations, with their 95 % intervals."""
    offsets = dict(zip(RATES, (-0.25, 0.0, 0.25), strict=True))
    traces: list[Trace] = []
    for name, offset in offsets.items():
        points = [(place + offset, result["guarantees"][name]) for place, result in enumerate(results)]
        traces += [_dots(name, [(y, row) for y, row in points if row["rate"] is not None]), _rate_texts(points)]
    highest = max((x for trace in traces for x in trace["x"]), default=0)
    layout = _layout(_rows_px(labels, _RATES_PX) + _FRAME_PX)
    layout["xaxis"] = {"range": [0, max(highest, 0.01) * 1.02], "ticksuffix": " %"}
    layout["yaxis"] = _rows(labels)
    layout["margin"]["r"] = 90  # room for the text
    return {"data": traces, "layout": layout}


def _dots(name: str, points: Sequence[tuple[float, Mapping[str, Any]]]) -> Trace:
    title, color, symbol = RATES[name]
    rows = [row for _, row in points]
    return {
        "type": "scatter",
        "mode": "markers",
        "name": title,
        "x": [row["rate"] * 100 for row in rows],
        "y": [y for y, _ in points],
        "marker": {"color": color, "symbol": symbol, "size": 10},
        "error_x": {
            "type": "data",
            "symmetric": False,
            "array": [(row["interval"][1] - row["rate"]) * 100 for row in rows],
            "arrayminus": [(row["rate"] - row["interval"][0]) * 100 for row in rows],
            "color": color,
            "thickness": 2,
            "width": 5,
        },
        "cliponaxis": False,
        "hovertext": [_interval(row) for row in rows],
        "hovertemplate": f"{title}: %{{hovertext}}<extra></extra>",
    }


def _rate_texts(points: Sequence[tuple[float, Mapping[str, Any]]]) -> Trace:
    """Return the rates as text, to the right of their intervals, where no line crosses them."""
    return {
        "type": "scatter",
        "mode": "text",
        "x": [row["interval"][1] * 100 if row["interval"] else 0 for _, row in points],
        "y": [y for y, _ in points],
        "text": [f"   {percent(row['rate']) or 'no evidence'}" for _, row in points],
        "textposition": "middle right",
        "hoverinfo": "skip",
        "showlegend": False,
        "cliponaxis": False,
    }


def _interval(row: Mapping[str, Any]) -> str:
    low, high = row["interval"]
    counts = f"{count(row['violated'])} of {count(row['checked'])}"
    return f"{percent(row['rate'])} ({counts}), 95 % interval {percent(low)} to {percent(high)}"


def latencies(labels: Sequence[str], results: Results) -> Figure | None:
    """Return one row of panels for each kind of latency measured: reads on the left, writes on the right."""
    kinds = [kind for kind in LATENCIES if any(value is not None for value in _values(results, kind))]
    if not kinds:
        return None
    panel_px = _rows_px(labels, _LATENCY_PX)
    layout = _layout(len(kinds) * (panel_px + _FRAME_PX))
    gap = _FRAME_PX / (panel_px + _FRAME_PX)
    layout["grid"] = {"rows": len(kinds), "columns": 2, "xgap": 0.06, "ygap": gap, "pattern": "independent"}
    layout["annotations"] = []
    traces: list[Trace] = []
    for place, (kind, operation) in enumerate((kind, operation) for kind in kinds for operation in ("read", "write")):
        suffix = str(place + 1) if place else ""
        axes = {"xaxis": f"x{suffix}", "yaxis": f"y{suffix}"}
        traces += [{"showlegend": place == 0} | trace | axes for trace in _panel(results, operation, kind)]
        layout[f"xaxis{suffix}"] = _scale(_values(results, kind))
        layout[f"yaxis{suffix}"] = _rows(labels if place % 2 == 0 else [""] * len(labels))
        layout["annotations"].append(_heading(f"{operation}s, {LATENCIES[kind]}", suffix))
    return {"data": traces, "layout": layout}


def _values(results: Results, kind: str) -> list[float]:
    return [
        value
        for result in results
        for times in result.get("latency", {}).values()
        for name, value in (times[kind] or {}).items()
        if name in STATISTICS and value is not None
    ]


def _panel(results: Results, operation: str, kind: str) -> Iterator[Trace]:
    times = [(result.get("latency", {}).get(operation) or {}).get(kind) or {} for result in results]
    yield _ranges(times)
    for statistic, (title, color, symbol) in STATISTICS.items():
        yield {
            "type": "scatter",
            "mode": "markers",
            "name": title,
            "legendgroup": statistic,
            "x": [one.get(statistic) for one in times],
            "y": list(range(len(times))),
            "marker": {"color": color, "symbol": symbol, "size": 10, "line": {"color": color, "width": 2}},
            "hovertemplate": f"{title}: %{{x:.3~g}} ms<extra></extra>",
        }


def _ranges(times: Sequence[Mapping[str, Any]]) -> Trace:
    """Return a line from p50 to p99 in each row; None separates the rows."""
    return {
        "type": "scatter",
        "mode": "lines",
        "x": [x for one in times for x in (one.get("p50"), one.get("p99"), None)],
        "y": [y for place in range(len(times)) for y in (place, place, None)],
        "line": {"color": "--line", "width": 4},
        "hoverinfo": "skip",
        "showlegend": False,
    }


def _scale(values: Sequence[float]) -> dict[str, Any]:
    low, high = min(values), max(values)
    if low <= 0 or high < MIN_LOG_RATIO * low:
        return {"ticksuffix": " ms", "range": [0, high * 1.05], "nticks": 6}
    decades = range(math.floor(math.log10(low)), math.ceil(math.log10(high)) + 1)
    steps = (1, 2, 5) if high < MAX_FINE_TICKS_RATIO * low else (1,)
    ticks = [step * 10.0**decade for decade in decades for step in steps]
    scale = {"type": "log", "range": [math.log10(low / 1.2), math.log10(high * 1.2)]}
    return scale | {"tickvals": ticks, "ticktext": [f"{tick:g} ms" for tick in ticks]}


def _heading(text: str, suffix: str) -> dict[str, Any]:
    place = {"xref": f"x{suffix} domain", "yref": f"y{suffix} domain", "x": 0, "y": 1, "yanchor": "bottom"}
    return {"text": f"<b>{text}</b>", "showarrow": False, "xanchor": "left", **place}


def timeline(result: Mapping[str, Any]) -> Figure | None:
    """Return what happened in each second of a run; None for less than two seconds, which the totals cover."""
    seconds = result.get("timeline") or ()
    if len(seconds) <= 1:
        return None
    layout = _layout(380)
    layout |= {
        "hovermode": "x unified",
        "xaxis": {"ticksuffix": " s", "anchor": "y2", "range": [-0.5, len(seconds) - 0.5]},
        "yaxis": {"domain": [0.40, 1], "rangemode": "tozero", "title": {"text": "operations per second"}},
        "yaxis2": {"domain": [0, 0.28], "rangemode": "tozero", "title": {"text": "stale reads"}},
    }
    mode = "lines+markers" if len(seconds) <= MAX_MARKED_SECONDS else "lines"
    layout |= _bands(result, len(seconds))
    lines = [_line(seconds, name, *looks) for name, looks in SERIES.items()]
    shown = [line for line in lines if line["name"].endswith("ok") or any(line["y"])]
    stale = _line(seconds, "stale reads", "--red", "solid", ("stale_reads",)) | {"yaxis": "y2", "fill": "tozeroy"}
    return {"data": [line | {"mode": mode} for line in (*shown, stale)], "layout": layout}


def _bands(result: Mapping[str, Any], seconds: int) -> dict[str, Any]:
    """Return a band for every fault, from its start to its end, labelled at the first fault of its kind."""
    faults = [one for one in result.get("faults") or () if "start_s" in one]
    whole = {"yref": "paper", "y0": 0, "y1": 1, "layer": "below", "line": {"width": 0}}
    shapes = [
        {"type": "rect", "x0": one["start_s"], "x1": seconds if one["end_s"] is None else one["end_s"], **whole}
        for one in faults
    ]
    first = {one["fault"]: one["start_s"] for one in reversed(faults)}
    place = {"yref": "paper", "y": 1, "xanchor": "left", "yanchor": "top", "showarrow": False}
    return {
        "shapes": [shape | {"fillcolor": "--red", "opacity": 0.08} for shape in shapes],
        "annotations": [{"text": name, "x": start_s, **place} for name, start_s in first.items()],
    }


def _line(seconds: Sequence[Mapping[str, int]], name: str, color: str, dash: str, fields: Sequence[str]) -> Trace:
    return {
        "type": "scatter",
        "name": name,
        "x": [second["second"] for second in seconds],
        "y": [sum(second.get(field, 0) for field in fields) for second in seconds],
        "line": {"color": color, "width": 2, "dash": dash},
        "marker": {"color": color, "size": 5},
    }


def _rows(labels: Sequence[str]) -> dict[str, Any]:
    """Return an axis with one row for each run, from the top down."""
    return {
        "tickvals": list(range(len(labels))),
        "ticktext": ["<br>".join(html.escape(line, quote=False) for line in _lines(label)) for label in labels],
        "range": [len(labels) - 0.5, -0.5],
        "showgrid": False,
        "zeroline": False,
        "automargin": True,
        "ticks": "outside",
        "ticklen": 8,
        "tickcolor": "rgba(0,0,0,0)",
    }


def _lines(label: str) -> list[str]:
    return textwrap.wrap(label, 30, max_lines=3, placeholder=" …")


def _rows_px(labels: Sequence[str], row_px: int) -> int:
    """Return the height of all rows together; each is high enough for the longest label."""
    return len(labels) * max(row_px, *(len(_lines(label)) * _LINE_PX + 6 for label in labels))


def _layout(height: int) -> dict[str, Any]:
    axis: dict[str, Any] = {"gridcolor": "--line", "linecolor": "--line", "zerolinecolor": "--line", "tickangle": 0}
    axis["title"] = {"font": {"size": 13}}
    return {
        "height": height,
        "margin": {"l": 60, "r": 20, "t": 50, "b": 30},
        "modebar": {"bgcolor": "rgba(0,0,0,0)", "color": "--faint", "activecolor": "--ink"},
        "paper_bgcolor": "rgba(0,0,0,0)",
        "plot_bgcolor": "rgba(0,0,0,0)",
        "font": {"family": "system-ui, sans-serif", "size": 13, "color": "--ink"},
        "hoverlabel": {"bgcolor": "--card", "bordercolor": "--line", "font": {"color": "--ink"}},
        "legend": {"orientation": "h", "x": 0, "y": 1, "yanchor": "top", "yref": "container"},
        "template": {"layout": {"xaxis": axis, "yaxis": axis}},
    }
