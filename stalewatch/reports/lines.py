"""The plain lines of a run: one figure each, never wrapped, easy to read and to grep."""

from collections.abc import Iterator, Mapping
from typing import Any

from stalewatch.engine.result import why_nothing_succeeded
from stalewatch.reports.reasons import first_broken_words, verdict_clause
from stalewatch.reports.words import converged, drill_sentence, recovery_time, why_unread

Result = Mapping[str, Any]

RATES = {
    "stale_read_rate": "stale_reads",
    "ryw_violation_rate": "read_your_writes",
    "monotonic_violation_rate": "monotonic_reads",
}

PERCENTILES = ("p50", "p95", "p99", "max")

DOCUMENT_PARTS = {
    "register": "register writes",
    "basket": "basket items",
    "count": "increments",
    "fields": "field writes",
}
"""What can be lost of each part of a document in the conflict workload."""


def plain_lines(result: Result) -> Iterator[str]:
    """Yield the lines of a run's JSON result: its figures, and last the answer."""
    yield from figure_lines(result)
    yield from answer_lines(result)


def answer_lines(result: Result) -> Iterator[str]:
    """Yield what happened in a drill, what broke first, why the verdict is what it is, and last the verdict."""
    if "recovery" in result:
        yield f"drill: {drill_sentence(result)}"
    if (first := first_broken_words(result)) is not None:
        yield f"broke first: {first}"
    yield f"{result['verdict']} means: {verdict_clause(result)}"
    yield f"verdict: {result['verdict']}"


def figure_lines(result: Result) -> Iterator[str]:
    """Yield one line for each figure of a run, and before them what keeps the others from meaning much."""
    yield from _warnings(result)
    for kind in ("write", "read"):
        yield f"{kind} avg/p95 ms: {_average_p95(result['latency'][kind]['service_ms'])}"
        response = result["latency"][kind]["response_ms"]
        if response is not None:
            yield f"{kind} response avg/p95 ms: {_average_p95(response)}"
    yield from _read_strategy(result)
    yield from _guarantees(result)
    yield from _resolution(result)
    if result.get("final_reads_s") is not None:
        yield f"final reads s: {result['final_reads_s']:.2f}"
    yield from _speed(result)
    for kind, outcomes in result["operations"].items():
        yield f"{kind}s ok/fail/unknown: {outcomes['ok']} / {outcomes['fail']} / {outcomes['unknown']}"
    for error in result.get("errors", ()):
        yield f"{error['operation']} {error['outcome']}: {error['count']} x {error['error']}"
    yield from drill_lines(result)
    if result.get("stalled_operations"):
        yield f"left out of latencies: {result['stalled_operations']} operations during which this process was stalled"


def _warnings(result: Result) -> Iterator[str]:
    fruitless = why_nothing_succeeded(result)
    if fruitless is not None:
        yield fruitless
    if result.get("drill_trouble"):
        yield f"the drill was not completed: {result['drill_trouble']}"
    if result.get("ended_early"):
        yield f"the run ended early: {result['ended_early']}"
    if result.get("interrupted"):
        yield "interrupted: no final reads were made, so lost writes were not checked"
    if result.get("unread_keys") and not result.get("interrupted"):
        yield (
            f"final reads of {result['unread_keys']} keys failed, so their writes were not checked for losses: "
            f"{why_unread(result)}"
        )
    if result.get("history_error"):
        yield f"the history is incomplete: {result['history_error']}"


def _read_strategy(result: Result) -> Iterator[str]:
    """Yield how often a read strategy fell back, and what that cost; nothing for plain reads."""
    found = result.get("read_strategy")
    if found is None or found["strategy"] == "plain":
        return
    failed = f", and {found['failed_fallbacks']} that failed" if found["failed_fallbacks"] else ""
    yield f"read strategy: {found['strategy']}, fallbacks: {found['fallbacks']} of {found['reads']} reads{failed}"
    if found["fallbacks"]:
        yield f"fallback reads avg/p95 ms: {_average_p95(found['fallback_ms'])}"
        yield f"other reads avg/p95 ms: {_average_p95(found['other_ms'])}"


def _guarantees(result: Result) -> Iterator[str]:
    guarantees = result["guarantees"]
    for line, guarantee in RATES.items():
        yield f"{line}: {_rate(guarantees[guarantee])}"
    yield f"conflicts: {guarantees['conflicts']['violated']}"
    yield f"lost_writes: {_rate(guarantees['lost_writes'])}"
    if guarantees["unique_ids"]["checked"]:
        yield f"unique_id_violation_rate: {_rate(guarantees['unique_ids'])}"
    for items in ("duplicate_items", "phantom_items"):
        if result.get(items):
            yield f"{items}: {result[items]}"
    if vanished := guarantees["read_regressions"].get("causes", {}).get("vanished"):
        yield f"vanished_values: {vanished}"
    if guarantees["stale_reads"]["violated"]:
        staleness = guarantees["stale_reads"]["staleness_s"]
        figures = " / ".join(f"{staleness[name] * 1e3:.2f}" for name in ("p50", "p95", "max"))
        yield f"staleness p50/p95/max ms: {figures}"
    yield f"fresh after ms: {_fresh_after(guarantees['stale_reads'])}"


def _fresh_after(row: Result) -> str:
    if not row["violated"]:
        return "no stale read seen" if row["checked"] else "n/a (no evidence)"
    ages = {name: "n/a" if age is None else f"{age * 1e3:g}" for name, age in row["fresh_after_s"].items()}
    return ", ".join(f"{name}% {age}" for name, age in ages.items())


def _rate(row: Result) -> str:
    if row["rate"] is None:
        return "n/a (0/0, no evidence)"
    low, high = row["interval"]
    return f"{row['rate']:.4f} ({row['violated']}/{row['checked']}, 95% {low:.4f}-{high:.4f})"


def _average_p95(latency: Mapping[str, float | None]) -> str:
    return " / ".join("n/a" if latency[name] is None else f"{latency[name]:.2f}" for name in ("avg", "p95"))


def _speed(result: Result) -> Iterator[str]:
    total, seconds = sum(sum(outcomes.values()) for outcomes in result["operations"].values()), result["duration_s"]
    yield f"operations: {total} in {seconds:.1f} s" + (f", {total / seconds:.0f}/s" if seconds else "")
    for kind in ("write", "read"):
        times = result["latency"][kind]["service_ms"]
        if times["max"] is not None:
            yield f"{kind} p50/p95/p99/max ms: {' / '.join(f'{times[name]:.2f}' for name in PERCENTILES)}"


def _resolution(result: Result) -> Iterator[str]:
    resolved = resolution(result)
    if resolved is not None:
        yield f"resolution: {resolved}"
    for what, lost, acknowledged in losses(result):
        yield f"lost {what}: {lost}/{acknowledged}"


def resolution(result: Result) -> str | None:
    """Return how conflicts were resolved, in a few words; None for a run without the conflict workload."""
    found = result.get("resolution")
    return None if found is None else f"{found['strategy']} ({found['merged']} merged, {found['errors']} errors)"


def losses(result: Result) -> Iterator[tuple[str, int, int]]:
    """Yield what conflict resolution lost: a part of the documents, how much was lost, how much was acknowledged."""
    for part, counts in result.get("losses", {}).items():
        yield DOCUMENT_PARTS.get(part, part), counts["lost"], counts["acknowledged"]


def drill_lines(result: Result) -> Iterator[str]:
    """Yield the lines of a drill, one figure each; nothing for a run without one."""
    if "recovery" not in result:
        return
    for fault in result["faults"]:
        yield f"fault: {fault['fault']} {fault['node']}, s: {fault['start_s']:.2f} - {_seconds(fault['end_s'])}"
    for kind, found in result["recovery"].items():
        times = (recovery_time(found, figure) for figure in ("rto_s", "sustained_rto_s"))
        yield f"{kind} rto/sustained s: {' / '.join(times)}"
        yield f"{kind} seconds below 99 %: {found['degraded_s']}"
    yield f"rpo lost writes: {_rpo(result['rpo'])}"
    if result.get("two_primaries_s"):
        low, high = result["two_primaries_s"]
        yield f"two primaries s: {low:.2f} - {high:.2f}"
    if result.get("probed"):
        yield f"converged s: {converged(result)}"
    for phase, seen in result.get("phases", {}).items():
        yield f"{phase}: {_phase(seen)}"


def _rpo(rpo: Result) -> str:
    if rpo["lost_writes"] is None:
        return "unknown (the final reads failed or were not made)"
    span = "" if rpo["span_s"] is None else f", acknowledged within {rpo['span_s']:.3f} s"
    superseded = f", not counting {rpo['superseded']} superseded writes" if rpo.get("superseded") else ""
    bound = "exact" if rpo["exact"] else "a lower bound: newer writes of a key hide older losses"
    items = f"; exact for lists: {rpo['lost_items']} of {rpo['appended']} items" if rpo.get("appended") else ""
    return f"{rpo['lost_writes']}{span}{superseded} ({bound}{items})"


def _phase(seen: Result) -> str:
    operations = {
        kind: " / ".join(str(count) for count in counts.values()) for kind, counts in seen["operations"].items()
    }
    counted = ", ".join(f"{kind}s ok/fail/unknown {counts}" for kind, counts in operations.items())
    violations = ", ".join(f"{count} {name}" for name, count in seen["violations"].items() if count)
    return f"{counted}; {violations or 'no violation'}"


def _seconds(seconds: float | None) -> str:
    return "never" if seconds is None else f"{seconds:.2f}"
