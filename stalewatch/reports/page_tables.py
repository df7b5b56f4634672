"""The page's tables as rows of text."""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from stalewatch.reports import lines
from stalewatch.reports.page_witnesses import CAUSES
from stalewatch.reports.words import GUARANTEE_WORDS, NO_VALUE, count, milliseconds, percent, plain, span

Result = Mapping[str, Any]
Results = Sequence[Result]
Row = dict[str, Any]

MARKS: Mapping[str, str] = {"holds": "✓", "violated": "✗", "no_evidence": "?", "not_applicable": "—"}
"""Tell the verdicts apart without colours."""

LATENCIES = {"service_ms": "service time", "response_ms": "response time"}
STATISTICS = ("avg", "p50", "p95", "p99", "max")
PERCENTILES = ("p50", "p95", "p99", "max")

NOT_JUDGED: Result = {"verdict": "no_evidence", "checked": 0, "violated": 0, "rate": None, "interval": None}
"""Stands for a guarantee that the version of stalewatch that wrote the result did not have."""


def matrix(results: Results) -> list[Row]:
    """Return one row for each guarantee, with one cell for each run."""
    return [
        {
            "name": name,
            "promise": words.promise,
            "cells": [_cell(result["guarantees"].get(name, NOT_JUDGED), name) for result in results],
        }
        for name, words in GUARANTEE_WORDS.items()
    ]


def _cell(row: Result, name: str) -> Row:
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
    """Return one row for each run, operation and kind of latency, in milliseconds."""
    return [
        [label, f"{operation}s", name, *(milliseconds(times[kind][statistic]) for statistic in STATISTICS)]
        for label, result in zip(labels, results, strict=True)
        for operation, times in result.get("latency", {}).items()
        for kind, name in LATENCIES.items()
        if times.get(kind) is not None
    ]


def staleness(labels: Sequence[str], results: Results) -> list[list[str]]:
    """Return one row for each run with stale reads: their causes, their number and how stale they were."""
    return [
        [label, _causes(row), count(row["violated"]), *_percentiles(row)]
        for label, row in zip(labels, (result["guarantees"]["stale_reads"] for result in results), strict=True)
        if row["violated"]
    ]


def _causes(row: Result) -> str:
    causes = row.get("causes") or {}
    return ", ".join(f"{CAUSES.get(cause, cause).partition(':')[0]} {count(times)}" for cause, times in causes.items())


def _percentiles(row: Result) -> Iterator[str]:
    times = row.get("staleness_s") or {}
    bound = "≥ " if row.get("staleness_at_least") else ""
    for name in PERCENTILES:
        yield f"{bound if name == 'max' else ''}{span(times.get(name))}"


def freshness(result: Result) -> list[list[str]]:
    """Return one row for each bucket of the time from the newest write to a read: how many reads, how many stale."""
    row = result["guarantees"]["stale_reads"]
    return [
        [_ages(bucket), count(bucket["checked"]), count(bucket["stale"]), percent(bucket["stale"] / bucket["checked"])]
        for bucket in row.get("freshness", ())
        if row["violated"]
    ]


def _ages(bucket: Result) -> str:
    begin, end = bucket["from_s"], bucket["to_s"]
    if end is None:
        return f"{span(begin)} or more"
    return f"less than {span(end)}" if not begin else f"{span(begin)} to {span(end)}"


def errors(result: Result) -> list[list[str]] | None:
    """Return one row for each kind of error in a run; None if errors were not counted."""
    if result.get("errors") is None:
        return None
    return [
        [str(row["operation"]), str(row["outcome"]), str(row["error"]) or NO_VALUE, count(row["count"])]
        for row in result["errors"]
    ]


def options(results: Results) -> dict[str, Any]:
    """Return the options that differ, with one value for each run, and those that are the same in all runs."""
    every = [dict(_flat(result.get("options") or {})) for result in results]
    names = dict.fromkeys(name for one in every for name in one)
    values = {name: [one.get(name, NO_VALUE) for one in every] for name in names}
    return {
        "differ": [{"name": name, "values": row} for name, row in values.items() if len(set(row)) > 1],
        "same": [(name, row[0]) for name, row in values.items() if len(set(row)) == 1 and row[0] != NO_VALUE],
    }


def _flat(values: Result, prefix: str = "") -> Iterator[tuple[str, str]]:
    for name, value in values.items():
        if isinstance(value, Mapping):
            yield from _flat(value, f"{prefix}{name}.")
        else:
            yield f"{prefix}{name}", plain(value)


def losses(result: Result) -> list[list[str]]:
    """Return what conflict resolution lost, one row for each part of the documents; nothing for other runs."""
    return [[part, count(lost), count(acknowledged)] for part, lost, acknowledged in lines.losses(result)]


NODE_COLUMNS = (
    ("reads", ("read_ok",)),
    ("stale", ("stale_reads",)),
    ("own write missed", ("read_your_writes",)),
    ("went back", ("monotonic_reads",)),
    ("writes", ("write_ok",)),
    ("failed", ("read_fail", "write_fail")),
    ("unknown", ("read_unknown", "write_unknown")),
)
"""What a node answered; the shares are of its reads."""


def nodes(result: Result) -> tuple[list[str], list[list[str]]]:
    """Return the headings and one row a node, most stale reads first; columns of zeros are left out."""
    rows = sorted(result.get("nodes") or (), key=lambda row: -row.get("stale_reads", 0))
    shown = {name: fields for name, fields in NODE_COLUMNS if any(row.get(field) for row in rows for field in fields)}
    cells = [[str(row["node"]), *(_node_cell(row, fields) for fields in shown.values())] for row in rows]
    return ["node", *shown], cells


def _node_cell(row: Result, fields: Sequence[str]) -> str:
    number = sum(row.get(field, 0) for field in fields)
    share = fields[0] in GUARANTEE_WORDS and number and row.get("read_ok")
    return f"{count(number)} ({percent(number / row['read_ok'])})" if share else count(number)


def commands(labels: Sequence[str], results: Results) -> list[tuple[str, str]]:
    """Return the commands that were given, each once, with the runs that they started."""
    found: dict[str, list[str]] = {}
    for label, result in zip(labels, results, strict=True):
        if result.get("command"):
            found.setdefault(str(result["command"]), []).append(label)
    return [(", ".join(names) if len(found) > 1 else "", command) for command, names in found.items()]
