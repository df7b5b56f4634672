"""Figures of runs side by side: of repeats, the median and the range.

Figures that were not measured are None; `math.inf` is "never".
"""

import math
from collections.abc import Callable, Mapping, Sequence
from statistics import median
from typing import Any, NamedTuple

from stalewatch.reports.words import NBSP, count, milliseconds, percent, span

Result = Mapping[str, Any]
Figure = float | None


def recovered_after(kind: str, figure: str = "rto_s") -> Callable[[Result], Figure]:
    """Return a figure of the recovery of reads or writes."""

    def found(result: Result) -> Figure:
        times = (result.get("recovery") or {}).get(kind) or {}
        value: Figure = times.get(figure)
        return math.inf if value is None and times.get("attempts") and times.get("sustained_known", True) else value

    return found


def lost_writes(result: Result) -> Figure:
    """Return how many acknowledged writes were lost."""
    rpo, row = result.get("rpo"), result["guarantees"]["lost_writes"]
    if rpo is not None:
        lost: Figure = rpo.get("lost_writes")
        return lost
    return row["violated"] if row["checked"] else None


def _stale(*path: str) -> Callable[[Result], Figure]:
    def found(result: Result) -> Figure:
        value: Any = result["guarantees"]["stale_reads"]
        for name in path:
            value = (value or {}).get(name)
        return value  # type: ignore[no-any-return] # a number of the result

    return found


def _fresh_after(percentage: str) -> Callable[[Result], Figure]:
    def found(result: Result) -> Figure:
        ages = result["guarantees"]["stale_reads"].get("fresh_after_s") or {}
        value: Figure = ages.get(percentage)
        return math.inf if value is None and percentage in ages else value

    return found


def _latency(kind: str, statistic: str) -> Callable[[Result], Figure]:
    def found(result: Result) -> Figure:
        value: Figure = ((result.get("latency") or {}).get(kind) or {}).get("service_ms", {}).get(statistic)
        return value

    return found


def per_second(result: Result) -> Figure:
    """Return how many operations succeeded a second."""
    operations, duration_s = result.get("operations"), result.get("duration_s")
    return sum(row["ok"] for row in operations.values()) / duration_s if operations and duration_s else None


def ms(value: float) -> str:
    """Return milliseconds with their unit."""
    return f"{milliseconds(value)}{NBSP}ms"


def _age(seconds: float) -> str:
    return span(seconds) if seconds else "at once"


class Column(NamedTuple):
    """One figure of a run: how it is found and written, and what "never" means."""

    figure: Callable[[Result], Figure]
    write: Callable[[float], str]
    never: str = "never"

    def written(self, value: float) -> str:
        """Return a value in words."""
        return self.never if value == math.inf else self.write(value)


COLUMNS: Mapping[str, Column] = {
    "nobody could write": Column(recovered_after("write"), span, "to the end"),
    "nobody could read": Column(recovered_after("read"), span, "to the end"),
    "writes lost": Column(lost_writes, count),
    "stale reads": Column(_stale("rate"), percent),
    "worst staleness": Column(_stale("staleness_s", "max"), span),
    "99 % fresh after": Column(_fresh_after("99"), _age, "not shown"),
    "99.9 % fresh after": Column(_fresh_after("99.9"), _age, "not shown"),
    "operations/s": Column(per_second, count),
    "write p50": Column(_latency("write", "p50"), ms),
    "write p99": Column(_latency("write", "p99"), ms),
    "read p50": Column(_latency("read", "p50"), ms),
    "read p99": Column(_latency("read", "p99"), ms),
}
"""The figures of runs side by side, in the order of the questions."""


def by_group(groups: Sequence[str], results: Sequence[Result]) -> dict[str, list[Result]]:
    """Return the repeats of each group, in the order in which groups appear first."""
    members: dict[str, list[Result]] = {}
    for group, result in zip(groups, results, strict=True):
        members.setdefault(group, []).append(result)
    return members


def side_by_side(groups: Sequence[str], results: Sequence[Result]) -> tuple[list[str], list[list[str]]]:
    """Return the headings and one row a group: the figure, or the median and the range of its runs."""
    members = by_group(groups, results)
    dash = f"{NBSP}– "  # noqa: RUF001 # a range
    found = {
        heading: [spread(column, runs, before="\n(", dash=dash) for runs in members.values()]
        for heading, column in COLUMNS.items()
    }
    shown = {heading: cells for heading, cells in found.items() if any(cells)}
    headings = ["", "runs", *shown] if len(members) < len(results) else ["", *shown]
    sizes = [[str(len(runs))] for runs in members.values()] if len(members) < len(results) else [[] for _ in members]
    columns = zip(*shown.values(), strict=True)
    return headings, [[group, *size, *cells] for group, size, cells in zip(members, sizes, columns, strict=True)]


def spread(column: Column, results: Sequence[Result], before: str = " (", dash: str = " - ") -> str:
    """Return the median, and the range if there is one; "never" counts as more than any figure.

    Nothing if no result has the figure.
    """
    known = sorted(value for value in map(column.figure, results) if value is not None)
    if not known:
        return ""
    missing = f", {len(results) - len(known)} without" if len(known) < len(results) else ""
    least, most = column.written(known[0]), column.written(known[-1])
    if least == most:
        return f"{least}{missing}"
    if least.partition(NBSP)[2] == most.partition(NBSP)[2]:  # one unit is enough
        least = least.partition(NBSP)[0]
    return f"{column.written(median(known))}{before}{least}{dash}{most}{missing})"
