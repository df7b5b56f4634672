"""The plain lines of a run: one figure each, never wrapped, made to be read by eye and by grep."""

from collections.abc import Iterator, Mapping
from typing import Any

from stalewatch.reports import recovery
from stalewatch.reports.losses import losses, resolution

RATES = {
    "stale_read_rate": "stale_reads",
    "ryw_violation_rate": "read_your_writes",
    "monotonic_violation_rate": "monotonic_reads",
}


def plain_lines(result: Mapping[str, Any]) -> Iterator[str]:
    """Yield the lines of a run's JSON result."""
    for kind in ("write", "read"):
        yield f"{kind} avg/p95 ms: {_average_p95(result['latency'][kind]['service_ms'])}"
        response = result["latency"][kind]["response_ms"]
        if response is not None:
            yield f"{kind} response avg/p95 ms: {_average_p95(response)}"
    guarantees = result["guarantees"]
    for line, guarantee in RATES.items():
        yield f"{line}: {rate(guarantees[guarantee])}"
    yield f"conflicts: {guarantees['conflicts']['violated']}"
    yield f"lost_writes: {rate(guarantees['lost_writes'])}"
    yield from _ids_and_items(result)
    if guarantees["stale_reads"]["violated"]:
        yield f"staleness p50/p95/max ms: {_staleness(guarantees['stale_reads']['staleness_s'])}"
    yield from _losses(result)
    if result.get("final_reads_s") is not None:
        yield f"final reads s: {result['final_reads_s']:.2f}"
    for kind, outcomes in result["operations"].items():
        yield f"{kind}s ok/fail/unknown: {outcomes['ok']} / {outcomes['fail']} / {outcomes['unknown']}"
    for error in result.get("errors", ()):
        yield f"{error['operation']} {error['outcome']}: {error['count']} x {error['error']}"
    yield from recovery.lines(result)
    if result.get("stalled_operations"):
        yield f"left out of latencies: {result['stalled_operations']} operations met by a standstill of our own"
    if result.get("interrupted"):
        yield "interrupted: no final reads were made, so lost writes were not looked for"
    yield f"verdict: {result['verdict']}"


def _ids_and_items(result: Mapping[str, Any]) -> Iterator[str]:
    """Yield what was found of counters and lists, where there are any."""
    ids = result["guarantees"]["unique_ids"]
    if ids["checked"]:
        yield f"unique_id_violation_rate: {rate(ids)}"
    for items in ("duplicate_items", "phantom_items"):
        if result.get(items):
            yield f"{items}: {result[items]}"


def _losses(result: Mapping[str, Any]) -> Iterator[str]:
    """Yield what a way to resolve conflicts cost, where one was at work."""
    resolved = resolution(result)
    if resolved is not None:
        yield f"resolution: {resolved}"
    for what, lost, acknowledged in losses(result):
        yield f"lost {what}: {lost}/{acknowledged}"


def rate(row: Mapping[str, Any]) -> str:
    """Return a guarantee's rate with its counts and interval."""
    if row["rate"] is None:
        return "n/a (0/0, no evidence)"
    low, high = row["interval"]
    return f"{row['rate']:.4f} ({row['violated']}/{row['checked']}, 95% {low:.4f}-{high:.4f})"


def _average_p95(latency: Mapping[str, float | None]) -> str:
    return " / ".join("n/a" if latency[name] is None else f"{latency[name]:.2f}" for name in ("avg", "p95"))


def _staleness(staleness: Mapping[str, float]) -> str:
    return " / ".join(f"{staleness[name] * 1e3:.2f}" for name in ("p50", "p95", "max"))
