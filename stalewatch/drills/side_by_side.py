"""Several runs of a drill in one table: a row a variation, with how its figures vary over the repeats."""

import math
from collections.abc import Callable, Mapping, Sequence
from statistics import median
from typing import Any

from stalewatch.drills.variations import Variation
from stalewatch.reports.table import show as show_table

Result = Mapping[str, Any]
Run = tuple[Variation, Result]


def _recovery(kind: str, figure: str) -> Callable[[Result], float | None]:
    def found(result: Result) -> float | None:
        recovery = result["recovery"][kind]
        value: float | None = recovery[figure]
        return math.inf if value is None and recovery["attempts"] else value

    return found


def _before(kind: str) -> Callable[[Result], float | None]:
    def found(result: Result) -> float | None:
        phase = result.get("phases", {}).get("before")
        value: float | None = phase and phase["latency_ms"][kind]["p50"]
        return value

    return found


def _violated(guarantee: str) -> Callable[[Result], float | None]:
    def found(result: Result) -> float | None:
        row = result["guarantees"][guarantee]
        return row["violated"] if row["checked"] else None

    return found


FIGURES: Mapping[str, Callable[[Result], float | None]] = {
    "write rto s": _recovery("write", "rto_s"),
    "sustained s": _recovery("write", "sustained_rto_s"),
    "read rto s": _recovery("read", "rto_s"),
    "lost writes": lambda result: result["rpo"]["lost_writes"],
    "within s": lambda result: result["rpo"]["span_s"],
    "ids twice": _violated("unique_ids"),
    "stale reads": _violated("stale_reads"),
    "went back": _violated("monotonic_reads"),
    "two primaries s": lambda result: (result["two_primaries_s"] or (None, None))[0],
    "converged s": lambda result: result["converged_s"],
    "write ms before": _before("write"),
    "read ms before": _before("read"),
}
"""By heading: recovery, loss, what sessions saw, and what the guarantee costs while nothing is broken."""


def show(drill: str, runs: Sequence[Run]) -> None:
    """Print the table."""
    names = {run[0].words: [result for one, result in runs if one.words == run[0].words] for run in runs}
    figures = {
        heading: [_spread([figure(result) for result in results]) for results in names.values()]
        for heading, figure in FIGURES.items()
    }
    told = {heading: cells for heading, cells in figures.items() if any(cell != "-" for cell in cells)}
    columns = ("options", "runs", *told)
    rows = [
        (words or drill, str(len(results)), *(cells[place] for cells in told.values()))
        for place, (words, results) in enumerate(names.items())
    ]
    show_table(f"{drill}: median (least - most) of the runs", columns, rows)


def _spread(values: Sequence[float | None]) -> str:
    """Return the median and the range; "never" counts as more than any figure."""
    known = sorted(value for value in values if value is not None)
    if not known:
        return "-"
    lacking = f", {len(values) - len(known)} without" if len(known) < len(values) else ""
    if known[0] == known[-1]:
        return f"{_number(known[0])}{lacking}"
    return f"{_number(median(known))} ({_number(known[0])} - {_number(known[-1])}{lacking})"


def _number(value: float) -> str:
    if value == math.inf:
        return "never"
    return str(value) if isinstance(value, int) else f"{value:.2f}"
