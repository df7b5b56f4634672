"""What a worker's report has to satisfy before any of it is counted.

Separate from the messages, which say how a report is sent: here is what makes one of the right types impossible.
"""

import json
import re
from collections import Counter
from collections.abc import Iterable, Iterator
from itertools import chain
from typing import NamedTuple

import msgspec

from stalewatch.checkers.judge import GUARANTEES
from stalewatch.checkers.verdict import AGE_EDGES_NS, WITNESSES, Violation
from stalewatch.exit_codes import DONE, UNREACHABLE, USAGE
from stalewatch.locust import messages
from stalewatch.locust.messages import Counts, DistributionState, VerdictRow, WorkerReport
from stalewatch.locust.options import DATABASES
from stalewatch.recording.attempts import PackedAttempts
from stalewatch.recording.statistics import KINDS
from stalewatch.workloads import WORKLOADS

EXIT_CODES = frozenset({DONE, USAGE, UNREACHABLE})
"""The exit codes that a worker's failure can have; a missed expectation is the master's to find."""

MOST_CAUSES = 100
LONGEST_TEXT = 10_000
ADDRESS = re.compile(r"[A-Za-z0-9._:\[\]-]{1,255}:\d{1,5}")
NS = 1_000_000_000
TIME_BYTES = 8


class BadReport(Exception):
    """A report that cannot be true; the message says why."""


class Period(NamedTuple):
    """The time in which a run's operations can have happened, in ns of the master's clock, with much to spare."""

    first: int
    last: int

    def holds(self, moment: int) -> bool:
        """Return whether a moment is in it."""
        return self.first <= moment <= self.last


def decoded(data: object) -> WorkerReport:
    """Return the report that a worker sent as bytes; raise `BadReport` if they are none."""
    if not isinstance(data, bytes):
        raise BadReport("it is not bytes")
    try:
        return messages.decode(data)
    except (msgspec.MsgspecError, ValueError, RecursionError) as error:  # ValueError: text that is no UTF-8
        raise BadReport(str(error)) from None


def check(report: WorkerReport, period: Period) -> None:
    """Raise `BadReport` if a report contradicts itself, or contains what no worker reports."""
    found = chain(
        *map(_row_problems, report.verdicts),
        _kind_problems(report.counts),
        _second_problems(report.counts, period),
        _attempt_problems(report.attempts),
        _text_problems(report),
        _end_problems(report, period),
    )
    problem = next(found, None)
    if problem is None and len({row.name for row in report.verdicts}) < len(report.verdicts):
        problem = "it has two rows of one guarantee"
    if problem is not None:
        raise BadReport(problem)


def _row_problems(row: VerdictRow) -> Iterator[str]:
    if row.name not in GUARANTEES:
        yield f"there is no guarantee {row.name[:50]!r}"
    if row.violated > row.checked:
        yield f"{row.name}: {row.violated} of {row.checked} are violated"
    if sum(row.causes.values()) > row.violated or len(row.causes) > MOST_CAUSES:
        yield f"{row.name}: more causes than violations"
    if max(row.at_least, sum(row.behind.values())) > row.violated:
        yield f"{row.name}: more stale than violated"
    yield from _times_problems(row.name, row.staleness, row.violated)
    for bucket, (checked, stale) in row.freshness.items():
        if bucket > len(AGE_EDGES_NS) or stale > checked:
            yield f"{row.name}: bucket {bucket} of the freshness has {stale} stale reads of {checked}"
    if sum(checked for checked, _ in row.freshness.values()) > row.checked:
        yield f"{row.name}: more fresh than checked"
    if len(row.witnesses) > min(WITNESSES, row.violated + len(row.corrected)):
        yield f"{row.name}: more witnesses than violations"
    for one in (*row.witnesses, *row.corrected):
        yield from _witness_problems(row.name, one)


def _witness_problems(guarantee: str, one: Violation) -> Iterator[str]:
    if one.guarantee != guarantee:
        yield f"{guarantee}: a witness of {one.guarantee[:50]!r}"
    if not one.operations:
        yield f"{guarantee}: a witness without operations"
    if min(one.staleness_ns or 0, one.versions_behind or 0, one.age_ns or 0) < 0:
        yield f"{guarantee}: a witness with a negative number"
    if any(operation.end is not None and operation.end < operation.start for operation in one.operations):
        yield f"{guarantee}: an operation of a witness ends before it starts"


def _times_problems(name: str, times: DistributionState, most: int) -> Iterator[str]:
    counts, exact, total, largest = times
    if sum(counts.values()) > most:
        yield f"{name}: more times than operations"
    least, top = sum(value * count for value, count in counts.items()), max(counts, default=0)
    if (least, top) != (total, largest) if exact or not counts else not (least <= total and top <= largest <= total):
        yield f"{name}: times that do not add up"


def _kind_problems(counts: Counts) -> Iterator[str]:
    if any(set(each) != set(KINDS) for each in (counts.outcomes, counts.service, counts.response)):
        yield "its counts are not those of reads and writes"
        return
    errors: Counter[tuple[str, str]] = Counter()
    for kind, outcome, _, times in counts.errors:
        errors[kind, outcome] += times
    for kind in KINDS:
        outcomes = counts.outcomes[kind]
        if any(errors[kind, outcome] != (outcome != "ok") * outcomes.get(outcome, 0) for outcome in messages.OUTCOMES):
            yield f"{kind}: its errors are not those of its outcomes"
        for latencies in (counts.service, counts.response):
            yield from _times_problems(kind, latencies[kind], outcomes.get("ok", 0))
    reads = counts.outcomes["read"]
    for source, of_source in counts.strategy.items():
        yield from _times_problems(source, of_source, reads.get("ok", 0))
    if counts.fallbacks > reads.get("ok", 0):
        yield "more fallbacks than reads"
    if counts.failed_fallbacks > reads.get("fail", 0) + reads.get("unknown", 0):
        yield "more failed fallbacks than failed reads"
    if counts.stalled > sum(outcomes.get("ok", 0) for outcomes in counts.outcomes.values()):
        yield "more stalled operations than operations"


def _second_problems(counts: Counts, period: Period) -> Iterator[str]:
    summed: Counter[str] = Counter()
    for second, numbers in counts.seconds.items():
        summed.update(numbers)
        if not period.holds(second * NS):
            yield f"second {second} is not in the run"
    expected = {f"{kind}_{name}": n for kind, row in counts.outcomes.items() for name, n in row.items()}
    if any(summed.pop(name, 0) != expected.get(name, 0) for name in messages.SECOND_NAMES):
        yield "its seconds do not add up to its operations"
    if summed.keys() - GUARANTEES.keys():
        yield "its seconds count what is neither an operation nor a guarantee"
    if not all(map(period.holds, counts.last_ok.values())):
        yield "its last operation was not in the run"


def _attempt_problems(packed: PackedAttempts | None) -> Iterator[str]:
    if packed is None:
        return
    times = [*(starts for *_, starts, _ in packed["attempts"]), *packed["violations"].values()]
    if any(len(one) % TIME_BYTES for one in times):
        yield "the times of its attempts are no whole numbers"
    if any(len(starts) != len(ends) for *_, starts, ends in packed["attempts"]):
        yield "some of its attempts have a start and no end"
    if {kind for kind, *_ in packed["attempts"]} - set(KINDS):
        yield "its attempts are neither reads nor writes"
    if packed["violations"].keys() - GUARANTEES.keys():
        yield "its attempts violate what is no guarantee"
    if min(packed["appended"], *packed["finals"].values(), 0) < 0:
        yield "its attempts have negative counts"


def _text_problems(report: WorkerReport) -> Iterator[str]:
    texts: Iterable[str | None] = (
        report.host,
        report.phase,
        report.unit,
        report.failure,
        *(file.path for file in report.histories),
        *(error for *_, error, _ in report.counts.errors),
    )
    if any(len(text) > LONGEST_TEXT or "\0" in text for text in texts if text is not None):
        yield "it has a text that is too long, or a NUL in one"
    if report.metrics is not None and not ADDRESS.fullmatch(report.metrics):
        yield f"its metrics are not at HOST:PORT: {report.metrics[:100]!r}"
    if report.settings.keys() - DATABASES.keys():
        yield f"there is no database {min(report.settings.keys() - DATABASES.keys())[:50]!r}"
    try:
        json.dumps([report.settings, report.extra_results, report.done, report.total], allow_nan=False)
    except (TypeError, ValueError, RecursionError) as error:
        yield f"its results are no JSON: {error}"


def _end_problems(report: WorkerReport, period: Period) -> Iterator[str]:
    if report.exit_code not in EXIT_CODES or (report.exit_code and not report.failure):
        yield f"exit code {report.exit_code} {'is none of ours' if report.failure else 'without a failure'}"
    if report.counting_from_ns is not None and not period.holds(report.counting_from_ns):
        yield "its operations did not start to count in the run"
    if any(stall.end < stall.start for stall in report.stalls):
        yield "a stall that ends before it starts"
    if unknown := set(report.extra_results.get("workloads", ())) - WORKLOADS.keys():
        yield f"there is no workload {min(unknown)[:50]!r}"
