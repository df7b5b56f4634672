"""A worker's report for tests, and what it is about."""

from stalewatch.checkers.judge import Judge
from stalewatch.checkers.verdict import Findings
from stalewatch.history.operation import Read, Write
from stalewatch.locust.messages import WorkerReport, counts_of, verdict_rows
from stalewatch.recording.statistics import Stall, Statistics


def observed(at: int = 0) -> tuple[Findings, Statistics]:
    """Return findings and statistics of a write, a stale read, and a read that failed, at some ns of the epoch."""
    judge, statistics = Judge(), Statistics()
    for operation in (
        Write(session="a", key="k", version=1, start=at + 1, end=at + 2, outcome="ok"),
        Read(session="a", key="k", version=0, start=at + 5, end=at + 9, outcome="ok", due=at + 3),
        Read(session="b", key="k", start=at + 10, end=at + 11, outcome="unknown", error="Lost"),
    ):
        statistics.on_operation(operation, judge.observe(operation))
    return judge.drain(), statistics


def report(number: int = 0, *, last: bool = False, stalls: tuple[Stall, ...] = (), at: int = 0) -> WorkerReport:
    """Return worker 3's report on these operations."""
    findings, statistics = observed(at)
    return WorkerReport(
        run="r",
        worker=3,
        number=number,
        host="h",
        phase="load",
        done=0,
        total=0,
        unit="",
        verdicts=verdict_rows(findings),
        counts=counts_of(statistics),
        duplicate_items=0,
        phantom_items=0,
        stalls=list(stalls),
        settings={"memory": {"topology": "leader"}},
        histories=[],
        clock_error_ns=7,
        failure=None,
        exit_code=0,
        last=last,
        ended_cleanly=True,
        extra_results={},
        counting_from_ns=at,
    )
