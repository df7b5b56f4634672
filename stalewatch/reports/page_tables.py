"""The page's tables, as rows of text: the guarantee matrix, latencies, staleness, errors, options, recovery, losses."""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from stalewatch.reports import losses as reports_losses
from stalewatch.reports.page_charts import LATENCIES
from stalewatch.reports.page_words import CAUSES, NONE, WORDS, count, milliseconds, percent, plain, span

Results = Sequence[Mapping[str, Any]]
Row = dict[str, Any]

MARKS: Mapping[str, str] = {"holds": "✓", "violated": "✗", "no_evidence": "?", "not_applicable": "—"}
"""What tells the verdicts apart where colours cannot."""

STATISTICS = ("avg", "p50", "p95", "p99", "max")
PERCENTILES = ("p50", "p95", "p99", "max")


def matrix(results: Results) -> list[Row]:
    """Return a row a guarantee, with a cell a run."""
    return [
        {"name": name, "promise": promise, "cells": [_cell(result["guarantees"][name], name) for result in results]}
        for name, (promise, _, _) in WORDS.items()
    ]


def _cell(row: Mapping[str, Any], name: str) -> Row:
    verdict = row["verdict"]
    return {
        "mark": MARKS.get(verdict, ""),
        "verdict": verdict.replace("_", " "),
        "kind": "fact" if verdict == "violated" and name == "conflicts" else verdict,
        "rate": percent(row["rate"]),
        "counts": f"{count(row['violated'])} / {count(row['checked'])}" if row["checked"] else "",
        "interval": " to ".join(percent(end) for end in row["interval"] or ()),
    }


def latencies(labels: Sequence[str], results: Results) -> list[list[str]]:
    """Return a row a run, kind of operation and kind of latency, in milliseconds."""
    return [
        [label, f"{operation}s", words, *(milliseconds(times[kind][statistic]) for statistic in STATISTICS)]
        for label, result in zip(labels, results, strict=True)
        for operation, times in result.get("latency", {}).items()
        for kind, words in LATENCIES.items()
        if times.get(kind) is not None
    ]


def staleness(labels: Sequence[str], results: Results) -> list[list[str]]:
    """Return a row a run that had stale reads: how many, why, and for how long what they showed had been old."""
    return [
        [label, _causes(row), count(row["violated"]), *_percentiles(row)]
        for label, row in zip(labels, (result["guarantees"]["stale_reads"] for result in results), strict=True)
        if row["violated"]
    ]


def _causes(row: Mapping[str, Any]) -> str:
    causes = row.get("causes") or {}
    return ", ".join(f"{CAUSES.get(cause, cause).partition(':')[0]} {count(times)}" for cause, times in causes.items())


def _percentiles(row: Mapping[str, Any]) -> Iterator[str]:
    times = row.get("staleness_s") or {}
    bound = "≥ " if row.get("staleness_at_least") else ""
    for name in PERCENTILES:
        yield f"{bound if name == 'max' else ''}{span(times.get(name))}"


def errors(result: Mapping[str, Any]) -> list[list[str]] | None:
    """Return a row a kind of error of a run; None where errors were not counted."""
    if result.get("errors") is None:
        return None
    return [
        [str(row["operation"]), str(row["outcome"]), str(row["error"]) or NONE, count(row["count"])]
        for row in result["errors"]
    ]


def options(results: Results) -> list[Row]:
    """Return a row an option that any run has, with a value a run; first those in which the runs differ."""
    every = [dict(_flat(result.get("options") or {})) for result in results]
    names = dict.fromkeys(name for one in every for name in one)
    rows = [{"name": name, "values": [one.get(name, NONE) for one in every]} for name in names]
    told = [row | {"differs": len(set(row["values"])) > 1} for row in rows if set(row["values"]) != {NONE}]
    return sorted(told, key=lambda row: not row["differs"])


def _flat(values: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, str]]:
    for name, value in values.items():
        if isinstance(value, Mapping):
            yield from _flat(value, f"{prefix}{name}.")
        else:
            yield f"{prefix}{name}", plain(value)


def recovery(result: Mapping[str, Any]) -> list[tuple[str, str]]:
    """Return what a drill measured, in words and figures; nothing for a run without faults."""
    return list(_recovery(result)) if "recovery" in result else []


def _recovery(result: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    for fault in result.get("faults") or ():
        yield "fault", " ".join(str(fault[name]) for name in ("fault", "node") if fault.get(name))
    for kind, times in result["recovery"].items():
        yield f"longest time without a successful {kind}", _or_never(times.get("rto_s"))
        yield f"until {kind}s worked reliably again", _or_never(times.get("sustained_rto_s"))
        yield f"seconds in which {kind}s worked only partly", count(times.get("degraded_s") or 0)
    lost = result.get("rpo")
    if lost:
        bound = "" if lost.get("exact") else "at least "
        yield "acknowledged writes lost", f"{bound}{count(lost['lost_writes'])}, over {span(lost.get('span_s'))}"
    if result.get("two_primaries_s"):
        yield "two primaries at a time for", " to ".join(span(end) for end in result["two_primaries_s"])
    if "converged_s" in result:
        yield "from heal until all replicas agreed", _or_never(result["converged_s"])


def losses(result: Mapping[str, Any]) -> list[list[str]]:
    """Return what a way to resolve conflicts cost, a row a part of the documents; nothing for other runs."""
    return [[what, count(lost), count(acknowledged)] for what, lost, acknowledged in reports_losses.losses(result)]


def _or_never(seconds: float | None) -> str:
    return "never" if seconds is None else span(seconds)
