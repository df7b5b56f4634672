"""The tables of the consistency tabs, as rows of text for Locust's web page."""

from collections.abc import Iterator
from typing import NamedTuple

from stalewatch.checkers.verdict import Distribution, Verdict, Violation, overall
from stalewatch.history.operation import Append, Draw, Fault, Final, Operation, Read, Write
from stalewatch.locust.outcome import unchecked
from stalewatch.locust.run import Run
from stalewatch.recording.totals import Totals, no_totals


class Table(NamedTuple):
    """A tab of the page: its title and key, and its columns."""

    title: str
    key: str
    structure: list[dict[str, str]]


def _columns(**titles: str) -> list[dict[str, str]]:
    return [{"key": key, "title": title} for key, title in titles.items()]


CONSISTENCY = Table(
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
WITNESSES = Table(
    "Witnesses",
    "witnesses",
    _columns(guarantee="Guarantee", cause="Cause", staleness="Staleness (ms)", proof="Operations that prove it"),
)

Row = dict[str, str | int]


def consistency_rows(run: Run | None) -> list[Row]:
    """Return a row a guarantee, one for the whole run, and one for every worker of which something is to be said.

    The page sorts rows by `name` until somebody clicks on a heading.
    """
    totals = _shown(run)
    newest = {violation.guarantee: violation for violation in _newest(run)}
    verdicts = totals.findings.verdicts.values()
    rows = [
        _row(verdict.name, verdict=verdict.verdict.replace("_", " "))
        | _figures(verdict)
        | ({"witness": proof(newest[verdict.name], run)} if verdict.name in newest else {})
        for verdict in verdicts
    ]
    operations = f"{totals.operations} operations"
    whole = overall(totals.findings.verdicts, complete=run is None or run.complete)
    rows.append(_row("whole run", verdict=whole, witness=operations))
    rows += _worker_rows(run)
    return [{"name": f"{number:04}", **row} for number, row in enumerate(rows)]


def _shown(run: Run | None) -> Totals:
    if run is None:
        return no_totals()
    return run.outcome.totals if run.outcome is not None and not run.reset else run.shown


def _row(guarantee: str, checked: int | str = "", verdict: str = "", witness: str = "") -> Row:
    return {
        "guarantee": guarantee,
        "checked": checked,
        "violated": "",
        "rate": "",
        "interval": "",
        "verdict": verdict,
        "staleness": "",
        "witness": witness,
    }


def _figures(verdict: Verdict) -> Row:
    figures: Row = {"checked": verdict.checked, "violated": verdict.violated}
    if verdict.rate is not None and verdict.interval is not None:
        low, high = verdict.interval
        figures |= {"rate": f"{verdict.rate:.4f}", "interval": f"{low:.4f}-{high:.4f}"}
    if verdict.staleness.count:
        figures["staleness"] = _quantiles(verdict.staleness)
    return figures


def _quantiles(staleness: Distribution) -> str:
    p50, p95 = staleness.quantiles_ns(0.50, 0.95)
    return " / ".join(f"{ns / 1e6:.1f}" for ns in (p50, p95, staleness.max_ns))


def _worker_rows(run: Run | None) -> Iterator[Row]:
    if run is None:
        return
    for member in run.roster:
        told = [f"stood still for {member.stood_still_ns / 1e9:.1f} s"] if member.stood_still_ns else []
        if member.trouble:
            told.append(member.trouble)
        if member.lost or (run.outcome is not None and not member.whole):
            told.append(unchecked(member) or "")
        if told:
            yield _row(f"worker {member.worker}", member.operations, member.state, "; ".join(told))


def witness_rows(run: Run | None) -> list[Row]:
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


def _newest(run: Run | None) -> list[Violation]:
    """Return the newest violations in the order in which they showed."""
    return sorted(run.newest if run else (), key=lambda violation: violation.operations[-1].end or 0)


def proof(violation: Violation, run: Run | None = None) -> str:
    """Return the operations that prove a violation in words, with times relative to the first, in milliseconds.

    Keys are told without the name of the run, which they all begin with.
    """
    begin = min(operation.start for operation in violation.operations)
    words = "; ".join(_words(operation, begin) for operation in violation.operations)
    return words if run is None else words.replace(f"{run.name}-", "")


def _words(operation: Operation, begin: int) -> str:
    end = "..." if operation.end is None else f"{(operation.end - begin) / 1e6:.1f}"
    place = f" at {operation.node}" if operation.node else ""
    return f"{_what(operation)} [{(operation.start - begin) / 1e6:.1f}, {end}]{place}"


def _what(operation: Operation) -> str:
    match operation:
        case Write():
            return f"{operation.session} wrote {operation.version} to {operation.key}"
        case Read():
            return f"{operation.session} read {operation.version} from {operation.key}"
        case Append():
            return f"{operation.session} appended {operation.item} to {operation.key}"
        case Draw():
            return f"{operation.session} drew {operation.value} from {operation.key}"
        case Final():
            return f"{operation.key} held {operation.version if operation.items is None else 'other items'} in the end"
        case Fault():
            return operation.fault
