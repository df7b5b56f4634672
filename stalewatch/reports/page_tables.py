"""The page's tables as rows of text, and the operations of a witness with their places on a common time scale."""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from stalewatch.reports import lines
from stalewatch.reports.page_charts import LATENCIES
from stalewatch.reports.words import GUARANTEE_WORDS, NO_VALUE, count, milliseconds, percent, plain, span

Result = Mapping[str, Any]
Results = Sequence[Result]
Operation = Mapping[str, Any]
Row = dict[str, Any]

MARKS: Mapping[str, str] = {"holds": "✓", "violated": "✗", "no_evidence": "?", "not_applicable": "—"}
"""Tell the verdicts apart without colours."""

STATISTICS = ("avg", "p50", "p95", "p99", "max")
PERCENTILES = ("p50", "p95", "p99", "max")

CAUSES: Mapping[str, str] = {
    "lag": "replication lag",
    "lost": "the newer version was lost in the end",
    "vanished": "the final read holds nothing as new",
    "conflict": "conflict: the newer version is a sibling of the one shown",
    "monotonic_writes": "its author had written the missing version before",
    "writes_follow_reads": "its author had read the missing version before",
    "failed": "the write had failed",
    "not_started": "the write started only after the read",
    "never_written": "no such write",
    "duplicate": "it was there twice",
    "phantom": "nobody appended it, or its append failed",
    "smaller": "smaller than an id drawn before",
}

NOT_JUDGED: Result = {"verdict": "no_evidence", "checked": 0, "violated": 0, "rate": None, "interval": None}
"""Stands for a guarantee that the version of stalewatch that wrote the result did not have."""

ENDLESS_SCALE = 1.25
"""If an operation never ended, the scale is this much longer than the others need, so that its bar stands out."""


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


def fresh_after(labels: Sequence[str], results: Results) -> list[list[str]]:
    """Return one row for each run with stale reads: how long after a write 99 % and 99.9 % of the reads are fresh."""
    rows = zip(labels, (result["guarantees"]["stale_reads"] for result in results), strict=True)
    return [
        [label, *("no such time seen" if age is None else span(age) for age in row["fresh_after_s"].values())]
        for label, row in rows
        if row["violated"] and row.get("fresh_after_s")
    ]


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


def options(results: Results) -> list[Row]:
    """Return one row for each option that any run has, with one value for each run; those that differ come first."""
    every = [dict(_flat(result.get("options") or {})) for result in results]
    names = dict.fromkeys(name for one in every for name in one)
    rows = [{"name": name, "values": [one.get(name, NO_VALUE) for one in every]} for name in names]
    shown = [row | {"differs": len(set(row["values"])) > 1} for row in rows if set(row["values"]) != {NO_VALUE}]
    return sorted(shown, key=lambda row: not row["differs"])


def _flat(values: Result, prefix: str = "") -> Iterator[tuple[str, str]]:
    for name, value in values.items():
        if isinstance(value, Mapping):
            yield from _flat(value, f"{prefix}{name}.")
        else:
            yield f"{prefix}{name}", plain(value)


def recovery(result: Result) -> list[tuple[str, str]]:
    """Return what a drill measured, in words and figures; nothing for a run without faults."""
    return list(_recovery(result)) if "recovery" in result else []


def _recovery(result: Result) -> Iterator[tuple[str, str]]:
    for fault in result.get("faults") or ():
        yield "fault", " ".join(str(fault[name]) for name in ("fault", "node") if fault.get(name))
    for kind, times in result["recovery"].items():
        yield f"longest time without a successful {kind}", _or_never(times.get("rto_s"))
        yield f"until {kind}s worked reliably again", _or_never(times.get("sustained_rto_s"))
        yield f"seconds in which less than 99 % of the {kind}s succeeded", count(times.get("degraded_s") or 0)
    lost = result.get("rpo")
    if lost and lost["lost_writes"] is None:
        yield "acknowledged writes lost", "not checked"
    elif lost:
        bound = "" if lost.get("exact") else "at least "
        yield "acknowledged writes lost", f"{bound}{count(lost['lost_writes'])}, over {span(lost.get('span_s'))}"
    if result.get("two_primaries_s"):
        yield "time with two primaries", " to ".join(span(end) for end in result["two_primaries_s"])
    if "converged_s" in result:
        yield "from the heal until all replicas agreed", _or_never(result["converged_s"])


def losses(result: Result) -> list[list[str]]:
    """Return what conflict resolution lost, one row for each part of the documents; nothing for other runs."""
    return [[part, count(lost), count(acknowledged)] for part, lost, acknowledged in lines.losses(result)]


def _or_never(seconds: float | None) -> str:
    return "never" if seconds is None else span(seconds)


def witnesses(result: Result) -> list[Row]:
    """Return the violated guarantees of a run, each with its witnesses."""
    return [
        {"guarantee": name, "witnesses": [_witness(one) for one in row["witnesses"]]}
        for name, row in result["guarantees"].items()
        if row["witnesses"]
    ]


def _witness(witness: Result) -> Row:
    operations = witness["operations"]
    first = min(operation["start"] for operation in operations)
    last = max(operation["end"] or operation["start"] for operation in operations)
    endless = any(operation["end"] is None for operation in operations)
    length = max(1, last - first) * (ENDLESS_SCALE if endless else 1)
    return {
        "caption": ", ".join(_caption(witness)),
        "operations": [_operation(operation, first, length) for operation in operations],
    }


def _caption(witness: Result) -> Iterator[str]:
    if witness.get("cause"):
        yield CAUSES.get(witness["cause"], str(witness["cause"]))
    if witness.get("staleness_s") is not None:
        yield f"stale for {span(witness['staleness_s'])}"


def _operation(operation: Operation, first: int, length: float) -> Row:
    """Return a row: times in ms since the first operation, and the bar's place and width in percent of the scale."""
    start, end = operation["start"], operation["end"]
    width = (first + length if end is None else end) - start
    return {
        "kind": operation["op"],
        "name": _name(operation),
        "session": operation.get("session", ""),
        "key": operation["key"],
        "content": ", ".join(_content(operation)),
        "node": operation.get("node", ""),
        "start": _offset_ms(start - first),
        "end": "never" if end is None else _offset_ms(end - first),
        "left": round((start - first) / length * 100, 3),
        "width": round(width / length * 100, 3),
        "open": end is None,
    }


def _offset_ms(nanoseconds: int) -> str:
    return f"{nanoseconds / 1e6:,.3f}"


def _name(operation: Operation) -> str:
    name = "final read" if operation["op"] == "final" else str(operation["op"])
    outcome = operation.get("outcome", "ok")
    error = f": {operation['error']}" if operation.get("error") else ""
    return name if outcome == "ok" else f"{name} ({outcome}{error})"


def _content(operation: Operation) -> Iterator[str]:
    for name in ("version", "item", "value"):
        if operation.get(name) is not None:
            yield str(operation[name]) if name == "version" else f"{name} {operation[name]}"
    if operation.get("siblings"):
        yield f"siblings {', '.join(str(version) for version in operation['siblings'])}"
    if operation.get("items") is not None:
        yield f"{len(operation['items']):,} items"
    if operation.get("items_left_out"):
        yield f"{operation['items_left_out']:,} items"
    depends = operation.get("depends")
    if depends:
        yield f"depends on version {depends['version']} of {depends['key']}"
