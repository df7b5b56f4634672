"""The page's charts as data that its script draws with uPlot.

Colours are named after the style sheet's variables (``--blue``), which the script resolves, so that both themes come
from one place.
"""

import math
from bisect import bisect_right
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, NamedTuple

from stalewatch.checkers.verdict import AGE_EDGES_NS, FRESH_PERCENTAGES, Freshness, wilson
from stalewatch.reports.words import span

Result = Mapping[str, Any]
Figure = dict[str, Any]
Second = Mapping[str, Any]
Values = list[float | None]

MAX_POINTS = 600
"""A longer timeline is drawn with fewer points than seconds, of which each covers several."""


def _sum(rows: Sequence[Second], fields: Sequence[str]) -> float | None:
    """Return the total a second."""
    total = sum(int(row.get(field, 0)) for row in rows for field in fields)
    return round(total / len(rows), 3)


def _worst(rows: Sequence[Second], fields: Sequence[str]) -> float | None:
    found = [float(row[field]) for row in rows for field in fields if row.get(field) is not None]
    return max(found, default=None)


class _Line(NamedTuple):
    """A line of a panel: its name, its look, and the fields of a second that it shows."""

    name: str
    color: str
    fields: tuple[str, ...]
    dash: bool = False


class _Panel(NamedTuple):
    """One chart of the timeline; all have the same scale of time."""

    title: str
    add: Callable[[Sequence[Second], Sequence[str]], float | None]
    lines: tuple[_Line, ...]
    log: bool = False


PANELS = (
    _Panel(
        "Successful operations per second",
        _sum,
        (_Line("reads", "--blue", ("read_ok",)), _Line("writes", "--orange", ("write_ok",), dash=True)),
    ),
    _Panel(
        "Latency in ms",
        _worst,
        (
            _Line("read p50", "--blue", ("read_p50_ms",)),
            _Line("read p99", "--teal", ("read_p99_ms",)),
            _Line("write p50", "--orange", ("write_p50_ms",), dash=True),
            _Line("write p99", "--violet", ("write_p99_ms",), dash=True),
        ),
        log=True,
    ),
    _Panel(
        "Errors per second",
        _sum,
        (
            _Line("failed", "--red", ("read_fail", "write_fail")),
            _Line("unknown", "--violet", ("read_unknown", "write_unknown"), dash=True),
        ),
    ),
    _Panel("Stale reads per second", _sum, (_Line("stale reads", "--red", ("stale_reads",)),)),
)


def timeline(result: Result) -> Figure | None:
    """Return what happened in each second of a run; None for less than two seconds, which the totals cover."""
    seconds = result.get("timeline") or ()
    if len(seconds) <= 1:
        return None
    width = math.ceil(len(seconds) / MAX_POINTS)
    slices = [seconds[place : place + width] for place in range(0, len(seconds), width)]
    panels = [_panel(panel, slices) for panel in PANELS]
    return {
        "kind": "timeline",
        "seconds": width,
        "x": [(rows[0]["second"] + rows[-1]["second"] + 1) / 2 for rows in slices],
        "end": len(seconds),
        "panels": [panel for panel in panels if panel["lines"]],
        "bands": list(_bands(result, len(seconds))),
    }


def _panel(panel: _Panel, slices: Sequence[Sequence[Second]]) -> Figure:
    lines: list[Figure] = [
        {"name": one.name, "color": one.color, "dash": one.dash, "y": [panel.add(rows, one.fields) for rows in slices]}
        for one in panel.lines
    ]
    return {"title": panel.title, "log": panel.log, "lines": [line for line in lines if any(line["y"])]}


def _bands(result: Result, seconds: int) -> Iterator[Figure]:
    """Yield a band for every fault, in seconds of the timeline, whose first second began before the load did."""
    for fault in result.get("faults") or ():
        if "start_s" in fault:
            offset_s = (fault["start"] / 1e9 - fault["start_s"]) % 1 if fault.get("start") else 0.0
            end_s = seconds if fault["end_s"] is None else fault["end_s"] + offset_s
            words = " ".join(str(fault[name]) for name in ("fault", "node") if fault.get(name))
            yield {"from": round(fault["start_s"] + offset_s, 3), "to": round(end_s, 3), "name": words}


COLORS = ("--blue", "--orange", "--teal", "--violet", "--red", "--ink")
MAX_CURVES = len(COLORS)

AT_ONCE_S = 0.00005
"""Where a logarithmic axis shows the age 0."""

MOST_NINES = 5.0

TOO_FEW = FRESH_PERCENTAGES["99"]
"""A curve ends where there are too few reads to prove 99 % even if all of them are fresh."""


def freshness(groups: Mapping[str, Sequence[Result]]) -> Figure | None:
    """Return how many reads are fresh if they wait for some time after a write; None if nothing was ever stale.

    For each time, the reads at least that old count; those of repeats are added up. The share is in nines: 2 is 99 %.
    """
    curves = [(group, ages) for group, results in groups.items() if any((ages := _pooled(results)).stale)]
    if not curves:
        return None
    shown = zip(curves, COLORS, strict=False)
    return {
        "kind": "freshness",
        "curves": [{"name": group, "color": color, **_curve(ages)} for (group, ages), color in shown],
        "left_out": max(0, len(curves) - MAX_CURVES),
    }


def _pooled(results: Sequence[Result]) -> Freshness:
    """Return the reads of all runs by age."""
    ages = Freshness()
    for result in results:
        for bucket in result["guarantees"]["stale_reads"].get("freshness") or ():
            place = bisect_right(AGE_EDGES_NS, round(bucket["from_s"] * 1e9))
            ages.checked[place] += bucket["checked"]
            ages.stale[place] += bucket["stale"]
    return ages


def _curve(ages: Freshness) -> Figure:
    points: list[tuple[float, float, float, float]] = []
    checked, stale = sum(ages.checked), sum(ages.stale)
    for bucket in ages.buckets():
        if not checked or (points and wilson(0, checked)[1] > TOO_FEW):
            break
        low, high = wilson(stale, checked)
        points.append((bucket.from_ns / 1e9 or AT_ONCE_S, _nines(high), _nines(low), _nines(stale / checked)))
        checked, stale = checked - bucket.checked, stale - bucket.stale
    x, least, most, seen = map(list, zip(*points, strict=True))
    return {"x": x, "least": least, "most": most, "seen": seen, "marks": list(_marks(ages))}


def _nines(stale_share: float) -> float:
    return MOST_NINES if stale_share <= 10**-MOST_NINES else abs(round(-math.log10(stale_share), 4))


def _marks(ages: Freshness) -> Iterator[Figure]:
    """Yield the least time from which on that percentage is fresh, as in the JSON."""
    for name, share in FRESH_PERCENTAGES.items():
        after_ns = ages.fresh_after_ns(share)
        if after_ns is not None:
            words = f"after {span(after_ns / 1e9)}" if after_ns else "at once"
            yield {"name": f"{name} % {words}", "x": after_ns / 1e9 or AT_ONCE_S, "nines": _nines(share)}
