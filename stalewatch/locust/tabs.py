"""What our tabs of Locust's web page show: their columns and rows, and the chart of stale reads."""

from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from typing import NamedTuple

from stalewatch.checkers.verdict import Distribution, Verdict, Violation
from stalewatch.clients.databases import DATABASES
from stalewatch.clients.errors import without_credentials
from stalewatch.locust.master_run import MasterRun, WorkerRecord
from stalewatch.locust.result import unchecked
from stalewatch.metrics.nodes import FaultTime
from stalewatch.recording.totals import no_totals
from stalewatch.reports.words import proof_words


class Tab(NamedTuple):
    """A tab of the page: its title and key, and the columns of its table."""

    title: str
    key: str
    structure: list[dict[str, str]]


def _columns(**titles: str) -> list[dict[str, str]]:
    return [{"key": key, "title": title} for key, title in titles.items()]


CONSISTENCY = Tab(
    "Consistency",
    "consistency",
    _columns(
        guarantee="Guarantee",
        checked="# Checked",
        violated="# Violated",
        rate="Rate",
        interval="95 % interval",
        verdict="Verdict",
        staleness="Staleness p50 / p95 / max (ms)",
        witness="Newest witness",
    ),
)
WITNESSES = Tab(
    "Witnesses",
    "witnesses",
    _columns(guarantee="Guarantee", cause="Cause", staleness="Staleness (ms)", proof="Operations that prove it"),
)

WORKERS = Tab(
    "Worker Runs",
    "worker-runs",
    _columns(
        worker="Worker run",
        state="State",
        operations="# Operations",
        stalled="Stalled (s)",
        trouble="Trouble",
        unchecked="Not checked",
    ),
)
TABS = (CONSISTENCY, WITNESSES, WORKERS)

MAX_POINTS = 400
"""The most points of the chart: of a longer run, several seconds make one."""

TabRow = dict[str, str | int]


def consistency_rows(run: MasterRun | None) -> list[TabRow]:
    """Return a row for each guarantee, and one for the whole run.

    After a reset, the rows of guarantees count from then on; the other always tells of the whole run.
    The page sorts rows by `name` until a column heading is clicked.
    """
    totals = no_totals() if run is None else run.shown
    newest = {violation.guarantee: violation for violation in _newest(run)}
    rows = [
        _row(
            guarantee=verdict.name,
            verdict=verdict.verdict.replace("_", " "),
            witness=proof(newest[verdict.name], run) if verdict.name in newest else "",
            **_figures(verdict),
        )
        for verdict in totals.findings.verdicts.values()
    ]
    rows.append(_whole_run(run))
    return [{"name": f"{number:04}", **row} for number, row in enumerate(rows)]


def _whole_run(run: MasterRun | None) -> TabRow:
    """Return the row of the whole run, whatever was reset: its verdict, once there is one."""
    totals = no_totals() if run is None else run.totals
    verdict: str = "unknown" if run is None else run.verdict
    notes = [f"{totals.operations} operations", *([] if run is None else _addresses(run))]
    if run is not None and run.outcome is not None:
        verdict = run.outcome.result["verdict"]
        if run.cut_short:
            notes.append(f"ended early: {run.cut_short}")
    return _row(guarantee="whole run", verdict=verdict, witness="; ".join(notes))


def _addresses(run: MasterRun) -> Iterator[str]:
    """Yield where the servers are, which the page's form cannot set."""
    for row in (DATABASES[name] for name in run.databases if name in DATABASES):
        given = [getattr(run.options, one.name, None) for one in row.flags() if one.field in row.addresses]
        if any(given):
            yield f"{row.label} at {' '.join(without_credentials(one) for one in given if one)}"


def _row(**cells: str | int) -> TabRow:
    return {**{column["key"]: "" for column in CONSISTENCY.structure}, **cells}


def _figures(verdict: Verdict) -> TabRow:
    figures: TabRow = {"checked": verdict.checked, "violated": verdict.violated}
    if verdict.rate is not None and verdict.interval is not None:
        low, high = verdict.interval
        figures |= {"rate": f"{verdict.rate:.4f}", "interval": f"{low:.4f}-{high:.4f}"}
    if verdict.staleness.count:
        figures["staleness"] = _quantiles(verdict.staleness)
    return figures


def _quantiles(staleness: Distribution) -> str:
    p50, p95 = staleness.quantiles_ns(0.50, 0.95)
    return " / ".join(f"{ns / 1e6:.1f}" for ns in (p50, p95, staleness.max_ns))


def worker_rows(run: MasterRun | None) -> list[TabRow]:
    """Return a row for each worker: what it did, and what could not be checked of it."""
    return [
        {
            "name": f"{number:04}",
            "worker": f"worker {worker.worker}" + (f" on {worker.host}" if worker.host else ""),
            "state": worker.state,
            "operations": worker.operations,
            "stalled": f"{worker.stalled_ns / 1e9:.1f}" if worker.stalled_ns else "",
            "trouble": worker.failure or "",
            "unchecked": _unchecked(worker, decided=run is not None and run.outcome is not None),
        }
        for number, worker in enumerate(run.workers if run else ())
    ]


def _unchecked(worker: WorkerRecord, *, decided: bool) -> str:
    """Return what could not be checked; a worker that still runs has not made its final reads, which is no problem."""
    return "" if worker.complete_so_far and not decided else unchecked(worker) or ""


class StaleShare(NamedTuple):
    """The chart of stale reads; its times are seconds of the epoch, like those of Locust's charts."""

    start: int = 0
    end: int = 0
    points: Sequence[tuple[float, float | None]] = ()
    """The percentage of stale reads among the successful ones; None while there were no reads."""
    bands: Sequence[dict[str, str | float]] = ()
    """When faults were active, as `from`, `to` and `name`."""


def stale_share(run: MasterRun | None, faults: Iterable[FaultTime] = ()) -> StaleShare:
    """Return the chart of stale reads; after a reset, it starts anew."""
    seconds = run.shown.statistics.seconds if run else {}
    if not seconds:
        return StaleShare()
    first, last = min(seconds), max(seconds)
    step = (last - first) // MAX_POINTS + 1
    reads, stale = Counter[int](), Counter[int]()
    for second, counts in seconds.items():
        reads[(second - first) // step] += counts["read_ok"]
        stale[(second - first) // step] += counts["stale_reads"]
    points = [
        (
            first + (place + 0.5) * step,
            min(100.0, 100 * stale[place] / reads[place]) if reads[place] else None,
        )
        for place in range((last - first) // step + 1)
    ]
    end = first + len(points) * step
    return StaleShare(first, end, points, list(_bands(faults, first, end)))


def _bands(faults: Iterable[FaultTime], start_s: float, end_s: float) -> Iterator[dict[str, str | float]]:
    """Yield the time of each fault within the chart; nodes that were hit together are named together."""
    together: dict[tuple[str, int, int], list[FaultTime]] = {}
    for one in faults:
        begin, over = one.start / 1e9, end_s if one.end is None else one.end / 1e9
        if begin < end_s and over > start_s:
            together.setdefault((one.fault, round(begin), round(over)), []).append(one)
    for (fault, _, _), times in together.items():
        over = max(end_s if one.end is None else one.end / 1e9 for one in times)
        yield {
            "from": max(start_s, min(one.start for one in times) / 1e9),
            "to": min(end_s, over),
            "name": f"{fault} {', '.join(one.node for one in times if one.node)}".strip(),
        }


def witness_rows(run: MasterRun | None) -> list[TabRow]:
    """Return the newest violations, the newest first."""
    return [
        {
            "name": f"{number:04}",
            "guarantee": violation.guarantee,
            "cause": violation.cause or "",
            "staleness": "" if violation.staleness_ns is None else f"{violation.staleness_ns / 1e6:.1f}",
            "proof": proof(violation, run),
        }
        for number, violation in enumerate(reversed(_newest(run)))
    ]


def _newest(run: MasterRun | None) -> list[Violation]:
    """Return the newest violations in the order in which they were seen."""
    return sorted(run.newest if run else (), key=lambda violation: violation.operations[-1].end or 0)


def proof(violation: Violation, run: MasterRun | None = None) -> str:
    """Return the operations that prove a violation in words.

    Keys are shown without the name of the run, with which they all start.
    """
    words = proof_words(violation)
    return words if run is None else words.replace(f"{run.name}-", "")
