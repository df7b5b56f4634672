"""Several runs in one table, and what they showed in a sentence made of their figures."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from stalewatch.reports.page_labels import labels
from stalewatch.reports.table import show

Result = Mapping[str, Any]


def show_side_by_side(results: Sequence[Result]) -> None:
    """Print a table with a column a run."""
    columns = ("", *(label.replace(", ", "\n") for label in labels(results)))
    show("side by side", columns, [(name, *map(figure, results)) for name, figure in _ROWS.items()])


def _rate(guarantee: str) -> Callable[[Result], str]:
    return lambda result: _percent(result["guarantees"][guarantee]["rate"])


def _p95(kind: str) -> Callable[[Result], str]:
    return lambda result: _milliseconds(result["latency"][kind]["service_ms"]["p95"])


def _staleness(quantile: str) -> Callable[[Result], str]:
    return lambda result: _duration(result["guarantees"]["stale_reads"]["staleness_s"][quantile])


_ROWS: dict[str, Callable[[Result], str]] = {
    "stale reads": _rate("stale_reads"),
    "own writes missed": _rate("read_your_writes"),
    "went back in time": _rate("monotonic_reads"),
    "lost writes": lambda result: _count(result["guarantees"]["lost_writes"]),
    "staleness, median": _staleness("p50"),
    "staleness, worst": _staleness("max"),
    "write p95": _p95("write"),
    "read p95": _p95("read"),
    "verdict": lambda result: str(result["verdict"]),
}


def seen(results: Sequence[Result]) -> str:
    """Say in one sentence how often each run showed old data, the worst first, and how old it was."""
    rows = [result["guarantees"]["stale_reads"] for result in results]
    ranked = sorted(zip(labels(results), rows, strict=True), key=lambda one: -(one[1]["rate"] or 0))
    return "; ".join(f"{label}: {_stale(stale)}" for label, stale in ranked) + "."


def _stale(stale: Mapping[str, Any]) -> str:
    if not stale["checked"]:
        return "no read could be checked for staleness"
    if not stale["violated"]:
        return f"none of {stale['checked']} reads was stale"
    age = _duration(stale["staleness_s"]["max"])
    return f"{stale['violated']} of {stale['checked']} reads were stale ({_percent(stale['rate'])}), by up to {age}"


def _count(row: Mapping[str, Any]) -> str:
    return str(row["violated"]) if row["checked"] else "no evidence"


def _percent(rate: float | None) -> str:
    return "no evidence" if rate is None else f"{rate:.2%}"


def _duration(seconds: float | None) -> str:
    if seconds is None:
        return ""
    return f"{seconds:.2f} s" if seconds >= 1 else f"{seconds * 1e3:.2f} ms"


def _milliseconds(value: float | None) -> str:
    return "no evidence" if value is None else f"{value:.2f} ms"
