"""The JSON result of a run, assembled only here; the field names are fixed."""

import json
from collections.abc import Mapping
from typing import Any

from stalewatch.checkers.verdict import FRESH_PERCENTAGES, AgeBucket, Distribution, Findings, Verdict, Violation
from stalewatch.history.codec import encode
from stalewatch.recording.statistics import SOURCES, Statistics
from stalewatch.recording.totals import Totals
from stalewatch.workloads import lost_writes_exact

MAX_ITEMS = 1000
"""The most items that a witness shows of a list's final read. Longer lists are in the history."""

QUANTILES = {"p50": 0.50, "p95": 0.95, "p99": 0.99}


def guarantees(verdicts: Mapping[str, Verdict]) -> dict[str, Any]:
    """Return the ``guarantees`` object: one entry for each guarantee, whether or not anything was checked."""
    return {name: _guarantee(verdict) for name, verdict in verdicts.items()}


def check_result(findings: Findings) -> dict[str, Any]:
    """Return the JSON result of `stalewatch check`, from the findings of a finished judge."""
    return {
        "verdict": findings.verdict(),
        "complete": findings.complete,
        "guarantees": guarantees(findings.verdicts),
        "duplicate_items": findings.duplicate_items,
        "phantom_items": findings.phantom_items,
    }


def _guarantee(verdict: Verdict) -> dict[str, Any]:
    row: dict[str, Any] = {
        "verdict": verdict.verdict,
        "checked": verdict.checked,
        "violated": verdict.violated,
        "rate": verdict.rate,
        "interval": None if verdict.interval is None else list(verdict.interval),
        "witnesses": [_witness(violation) for violation in verdict.witnesses],
    }
    if verdict.causes or verdict.name == "stale_reads":
        row["causes"] = dict(verdict.causes)
    if verdict.name == "stale_reads":
        row["staleness_s"] = _staleness(verdict.staleness)
        row["staleness_at_least"] = verdict.at_least
        row["freshness"] = [_bucket(bucket) for bucket in verdict.freshness.buckets() if bucket.checked]
        row["fresh_after_s"] = {
            name: _seconds(verdict.freshness.fresh_after_ns(share)) for name, share in FRESH_PERCENTAGES.items()
        }
    return row


def _bucket(bucket: AgeBucket) -> dict[str, float | None]:
    return {
        "from_s": _seconds(bucket.from_ns),
        "to_s": _seconds(bucket.to_ns),
        "checked": bucket.checked,
        "stale": bucket.stale,
    }


def _seconds(nanoseconds: int | None) -> float | None:
    return None if nanoseconds is None else nanoseconds / 1e9


def _staleness(staleness: Distribution) -> dict[str, float | None]:
    if not staleness.count:
        return dict.fromkeys((*QUANTILES, "max"))
    quantiles = staleness.quantiles_ns(*QUANTILES.values())
    return {**{name: ns / 1e9 for name, ns in zip(QUANTILES, quantiles, strict=True)}, "max": staleness.max_ns / 1e9}


def _witness(violation: Violation) -> dict[str, Any]:
    return {
        "operations": [_shown(json.loads(encode(operation))) for operation in violation.operations],
        "cause": violation.cause,
        "staleness_s": None if violation.staleness_ns is None else violation.staleness_ns / 1e9,
    }


def _shown(operation: dict[str, Any]) -> dict[str, Any]:
    """Return an operation as in the history, but without the items of a list so long that it would swamp the result."""
    items = operation.get("items") or ()
    if len(items) <= MAX_ITEMS:
        return operation
    return {**{name: value for name, value in operation.items() if name != "items"}, "items_left_out": len(items)}


def latency(service: Distribution, response: Distribution) -> dict[str, Any]:
    """Return the latencies of one kind of operation; in a closed loop the response time is null."""
    return {"service_ms": _milliseconds(service), "response_ms": _milliseconds(response) if response.count else None}


def _read_strategy(options: Mapping[str, Any], statistics: Statistics) -> dict[str, Any]:
    """Return how often a read strategy fell back, and the latency of those reads beside that of the others."""
    by_database = [values for values in options.values() if isinstance(values, Mapping)]
    named = [values["read_strategy"] for values in (options, *by_database) if "read_strategy" in values]
    if not named:
        return {}
    first, fallback = (statistics.strategy[source] for source in SOURCES)
    return {
        "read_strategy": {
            "strategy": ",".join(sorted(set(named))),
            "reads": statistics.outcomes["read"]["ok"],
            "fallbacks": statistics.fallbacks,
            "failed_fallbacks": statistics.failed_fallbacks,
            "fallback_ms": _milliseconds(fallback),
            "other_ms": _milliseconds(first),
        }
    }


def _milliseconds(times: Distribution) -> dict[str, float | None]:
    if not times.count:
        return dict.fromkeys(("avg", *QUANTILES, "max"))
    quantiles = times.quantiles_ns(*QUANTILES.values())
    return {
        "avg": times.mean_ns / 1e6,
        **{name: ns / 1e6 for name, ns in zip(QUANTILES, quantiles, strict=True)},
        "max": times.max_ns / 1e6,
    }


def why_nothing_succeeded(result: Mapping[str, Any]) -> str | None:
    """Return the first words about a run of which no operation succeeded; None if one did."""
    counts: Mapping[str, Mapping[str, int]] = result["operations"]
    if any(row["ok"] for row in counts.values()):
        return None
    attempted = sum(sum(row.values()) for row in counts.values())
    errors = sorted(result["errors"], key=lambda row: row["count"], reverse=True)
    said = f", most often with {errors[0]['error']}" if errors else ""
    return f"no operation succeeded: {attempted} attempted{said}; nothing was tested"


def _verdict(found: str, *, certain: bool) -> str:
    """Return the verdict of a run; one of which something is not known is not ``valid``."""
    return "unknown" if found == "valid" and not certain else found


def _counts_losses(checked: Mapping[str, Any], rpo: Mapping[str, Any] | None) -> bool:
    """Return whether the run tells of lost writes at all, and a drill how many were lost."""
    return bool(checked["guarantees"]["lost_writes"]["checked"]) and (rpo is None or rpo["lost_writes"] is not None)


_NOTHING_UNREAD: Mapping[str, Any] = {"unread_keys": 0, "unread_error": None}


def run_result(
    totals: Totals,
    *,
    database: str,
    run: str,
    options: Mapping[str, Any],
    duration_s: float,
    workload_results: Mapping[str, Any],
    extra: Mapping[str, Any],
    ended_early: str | None = None,
) -> dict[str, Any]:
    """Return the JSON result of a run.

    `workload_results` holds the names of the ``workloads``, their results, and how many written keys
    could not be read finally. If that leaves no evidence of lost writes, or a drill without their number, the verdict
    is not ``valid``; nor is it if the load ended before its time, and `ended_early` is why.
    """
    checked = check_result(totals.findings)
    unproved = workload_results.get("unread_keys") and not _counts_losses(checked, extra.get("rpo"))
    checked["verdict"] = _verdict(checked["verdict"], certain=not unproved and ended_early is None)
    return {
        **checked,
        "database": database,
        "run": run,
        "options": dict(options),
        "duration_s": duration_s,
        "ended_early": ended_early,
        **totals.statistics.figures(),
        **_NOTHING_UNREAD,
        **workload_results,
        **_read_strategy(options, totals.statistics),
        "lost_writes_exact": lost_writes_exact(workload_results["workloads"]),
        **extra,
        "latency": {kind: latency(*times) for kind, times in totals.statistics.latencies().items()},
    }
