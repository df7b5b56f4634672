"""The JSON that every command prints of what was checked; the field names are fixed."""

import json
from collections.abc import Mapping
from typing import Any

from stalewatch.checkers.distribution import Distribution
from stalewatch.checkers.verdict import Findings, Verdict, Violation
from stalewatch.history.codec import encode

MOST_ITEMS = 1000
"""How many items the final read of a list may show in a witness; longer ones are in the history."""

QUANTILES = {"p50": 0.50, "p95": 0.95, "p99": 0.99}


def guarantees(verdicts: Mapping[str, Verdict]) -> dict[str, Any]:
    """Return the ``guarantees`` object: a row for each of the nine, whatever was checked."""
    return {name: _guarantee(verdict) for name, verdict in verdicts.items()}


def check_result(findings: Findings) -> dict[str, Any]:
    """Return what `stalewatch check` prints of what a finished judge found."""
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
    return row


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
    """Return an operation as in the history, but for a list so long that five witnesses would fill the result."""
    items = operation.get("items") or ()
    if len(items) <= MOST_ITEMS:
        return operation
    return {**{name: value for name, value in operation.items() if name != "items"}, "items_left_out": len(items)}


def latency(service: Distribution, response: Distribution) -> dict[str, Any]:
    """Return both latencies of one kind of operation; the response time is null in a closed loop."""
    return {"service_ms": _milliseconds(service), "response_ms": _milliseconds(response) if response.count else None}


def _milliseconds(times: Distribution) -> dict[str, float | None]:
    if not times.count:
        return dict.fromkeys(("avg", *QUANTILES, "max"))
    quantiles = times.quantiles_ns(*QUANTILES.values())
    return {
        "avg": times.mean_ns / 1e6,
        **{name: ns / 1e6 for name, ns in zip(QUANTILES, quantiles, strict=True)},
        "max": times.max_ns / 1e6,
    }


def run_result(
    findings: Findings, about: Mapping[str, Any], latencies: Mapping[str, tuple[Distribution, Distribution]]
) -> dict[str, Any]:
    """Return the JSON result of a run: `about` holds database, options, run, duration_s, operations and errors."""
    return {
        **check_result(findings),
        **about,
        "latency": {kind: latency(*times) for kind, times in latencies.items()},
    }
