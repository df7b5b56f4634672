"""What the master knows of its workers."""

import pytest

from stalewatch.checkers.judge import Judge
from stalewatch.checkers.verdict import Distribution, Findings
from stalewatch.engine.result import guarantees
from stalewatch.history.operation import Read, Write
from stalewatch.locust.report import Report, counts_of, decode, encode, verdict_rows
from stalewatch.locust.roster import Roster
from stalewatch.recording.statistics import Stall, Statistics
from stalewatch.recording.totals import no_totals


def observed() -> tuple[Findings, Statistics]:
    """Return findings and statistics of a write, of a stale read, and of a read that failed."""
    judge, statistics = Judge(), Statistics()
    for operation in (
        Write(session="a", key="k", version=1, start=1, end=2, outcome="ok"),
        Read(session="a", key="k", version=0, start=5, end=9, outcome="ok", due=3),
        Read(session="b", key="k", start=10, end=11, outcome="unknown", error="Lost"),
    ):
        statistics.on_operation(operation, judge.observe(operation))
    return judge.drain(), statistics


def report(number: int = 0, *, last: bool = False, stalls: tuple[Stall, ...] = ()) -> Report:
    return report_of(*observed(), number, last=last, stalls=stalls)


def report_of(
    findings: Findings,
    statistics: Statistics | None = None,
    number: int = 0,
    *,
    last: bool = False,
    stalls: tuple[Stall, ...] = (),
) -> Report:
    return Report(
        run="r",
        worker=3,
        number=number,
        host="h",
        phase="load",
        done=0,
        total=0,
        unit="",
        verdicts=verdict_rows(findings),
        counts=counts_of(statistics or Statistics()),
        duplicate_items=findings.duplicate_items,
        phantom_items=findings.phantom_items,
        stalls=list(stalls),
        settings={"memory": {"topology": "leader"}},
        histories=[],
        clock_error_ns=7,
        trouble=None,
        exit_code=0,
        last=last,
        whole=True,
        beyond={},
        counting_from_ns=0,
    )


def test_a_report_arrives_as_it_was_sent() -> None:
    sent = report(stalls=(Stall(1, 2),))
    arrived = decode(encode(sent))
    assert arrived == sent
    (stale,) = (row for row in arrived.verdicts if row.name == "stale_reads")
    assert stale.witnesses == sent.verdicts[0].witnesses
    totals, (findings, statistics) = arrived.totals(), observed()
    found = guarantees(findings.verdicts)
    assert found["stale_reads"]["violated"]
    assert guarantees(totals.findings.verdicts) == {name: found[name] for name in totals.findings.verdicts}
    assert totals.statistics.figures() == statistics.figures()
    assert totals.statistics.response["read"].max_ns == statistics.response["read"].max_ns == 6


def test_reports_add_up() -> None:
    roster = Roster()
    totals = no_totals()
    for number in range(3):
        totals.merge(report(number).totals())
        member = roster.take("x", report(number))
    assert member.operations == 9
    assert not member.gap
    assert totals.findings.verdicts["stale_reads"].violated == 3
    assert totals.operations == 9
    assert len(totals.findings.verdicts) == 10


def test_a_report_that_never_arrived_is_noticed() -> None:
    roster = Roster()
    for number in (0, 2):
        member = roster.take("x", report(number, last=number == 2))
    assert member.gap
    assert not member.whole


def test_who_is_silent_for_too_long_is_lost_once_and_may_come_back() -> None:
    now = 100.0
    roster = Roster(silence_s=10, now=lambda: now)
    member = roster.take("x", report())
    now = 109.0
    assert not roster.mark_lost()
    now = 111.0
    assert roster.mark_lost() == [member]
    assert not roster.mark_lost()
    assert member.state == "lost"
    assert not roster.running()
    roster.take("x", report(1))
    assert roster.running() == [member]


def test_who_has_ended_is_not_lost_however_long_ago() -> None:
    now = 100.0
    roster = Roster(silence_s=10, now=lambda: now)
    member = roster.take("x", report(last=True))
    now = 1000.0
    assert not roster.mark_lost()
    assert member.whole


@pytest.mark.parametrize("values", [1000, 100_000], ids=["exact", "rounded"])
def test_durations_arrive_as_they_were_counted(values: int) -> None:
    sent = Distribution()
    for value in range(values):
        sent.add(value * 1001)
    arrived = Distribution.restored(*sent.state())
    assert arrived.state() == sent.state()
    assert arrived.count == sent.count
    assert arrived.quantiles_ns(0.5, 0.99) == sent.quantiles_ns(0.5, 0.99)
