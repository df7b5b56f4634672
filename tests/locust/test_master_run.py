"""The workers of a run as the master knows them, their reports, and their turns to open a database."""

from argparse import Namespace

import pytest

from stalewatch.checkers.judge import Judge
from stalewatch.checkers.verdict import WITNESSES, Distribution, Findings
from stalewatch.engine.result import guarantees
from stalewatch.history.operation import Final, Read, Write
from stalewatch.locust.master_run import MasterRun, Turns, WorkerRegistry
from stalewatch.locust.messages import counts_of, decode, encode, verdict_rows
from stalewatch.locust.tabs import consistency_rows, witness_rows
from stalewatch.recording.statistics import Stall, Statistics
from stalewatch.recording.totals import no_totals
from tests.locust.worker_reports import observed, report


def test_a_decoded_report_equals_the_one_that_was_sent() -> None:
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
    registry = WorkerRegistry()
    totals = no_totals()
    for number in range(3):
        totals.merge(report(number).totals())
        worker = registry.add("x", report(number))
    assert worker.operations == 9
    assert not worker.gap
    assert totals.findings.verdicts["stale_reads"].violated == 3
    assert totals.operations == 9
    assert len(totals.findings.verdicts) == 10


def test_a_missing_report_is_noticed() -> None:
    registry = WorkerRegistry()
    for number in (0, 2):
        worker = registry.add("x", report(number, last=number == 2))
    assert worker.gap
    assert not worker.complete


def test_a_silent_worker_is_reported_lost_once_and_may_come_back() -> None:
    now = 100.0
    registry = WorkerRegistry(silence_s=10, now=lambda: now)
    worker = registry.add("x", report())
    now = 109.0
    assert not registry.mark_lost()
    now = 111.0
    assert registry.mark_lost() == [worker]
    assert not registry.mark_lost()
    assert worker.state == "lost"
    assert not registry.running()
    registry.add("x", report(1))
    assert registry.running() == [worker]


@pytest.mark.parametrize(
    ("silent_s", "back", "why"),
    [(5, 0, "worker 3 was lost during the load"), (5, 1, None), (0.5, 0, None)],
    ids=["lost during the load", "came back", "lost during the end"],
)
def test_a_worker_that_was_lost_during_the_load_ended_it_early(silent_s: float, back: int, why: str | None) -> None:
    now = 100.0
    run = MasterRun("r", Namespace(), [], workers=WorkerRegistry(silence_s=10, now=lambda: now))
    run.workers.add("x", report())
    now += silent_s
    run.end_load(1, None)
    now += 20
    run.workers.mark_lost()
    if back:
        run.workers.add("x", report(1, last=True))
    assert run.cut_short == why


def test_a_worker_that_is_done_never_counts_as_lost() -> None:
    now = 100.0
    registry = WorkerRegistry(silence_s=10, now=lambda: now)
    worker = registry.add("x", report(last=True))
    now = 1000.0
    assert not registry.mark_lost()
    assert worker.complete


@pytest.mark.parametrize("values", [1000, 100_000], ids=["exact", "rounded"])
def test_a_restored_distribution_equals_the_one_that_was_sent(values: int) -> None:
    sent = Distribution()
    for value in range(values):
        sent.add(value * 1001)
    arrived = Distribution.restored(*sent.state())
    assert arrived.state() == sent.state()
    assert arrived.count == sent.count
    assert arrived.quantiles_ns(0.5, 0.99) == sent.quantiles_ns(0.5, 0.99)


def counted(run: MasterRun, findings: Findings, statistics: Statistics) -> None:
    """Add what a worker found to the run, as the master does with its report."""
    sent = report()
    sent.verdicts, sent.counts = verdict_rows(findings), counts_of(statistics)
    totals = decode(encode(sent)).totals()
    run.count(totals)
    run.add_newest(totals.findings.verdicts.values())


def rows_of(run: MasterRun) -> dict[str, dict[str, str | int]]:
    return {str(row["guarantee"]): row for row in consistency_rows(run)}


def test_a_reset_shows_less_of_each_guarantee_but_all_of_the_whole_run() -> None:
    run = MasterRun("r", Namespace(), ["memory"])
    counted(run, *observed())
    run.reset()
    rows = rows_of(run)
    assert (rows["stale_reads"]["checked"], rows["stale_reads"]["verdict"]) == (0, "no evidence")
    assert (rows["whole run"]["verdict"], rows["whole run"]["witness"]) == ("invalid", "3 operations")
    counted(run, *observed())
    rows = rows_of(run)
    assert (rows["stale_reads"]["checked"], rows["whole run"]["witness"]) == (1, "6 operations")


def stale_reads_of_a_lost_write(reads: int, drain_every: int) -> list[Findings]:
    """Return what a worker reports: stale reads of a write that a final read proves lost."""
    judge, drained = Judge(), []
    judge.observe(Write(session="a", key="k", version=1, start=1, end=2, outcome="ok"))
    for number in range(1, reads + 1):
        moment = 10 * number
        judge.observe(Read(session="b", key="k", version=0, start=moment, end=moment + 1, outcome="ok"))
        if number % drain_every == 0:
            drained.append(judge.drain())
    judge.observe(Final(key="k", version=0, start=10**6, end=10**6 + 1, outcome="ok"))
    judge.finish()
    return [*drained, judge.drain()]


def test_newest_witnesses_get_the_cause_that_the_end_decides() -> None:
    run = MasterRun("r", Namespace(), ["memory"])
    *load, end = stale_reads_of_a_lost_write(reads=8 * WITNESSES, drain_every=WITNESSES)
    for findings in load:
        counted(run, findings, Statistics())
    stale = [row for row in witness_rows(run) if row["guarantee"] == "stale_reads"]
    assert {row["cause"] for row in stale} == {"lag"}
    counted(run, end, Statistics())
    corrected = [row for row in witness_rows(run) if row["guarantee"] == "stale_reads"]
    assert {row["cause"] for row in corrected} == {"lost"}
    assert [row["proof"] for row in corrected] == [row["proof"] for row in stale]


def test_after_a_reset_no_count_of_a_cause_is_negative() -> None:
    run = MasterRun("r", Namespace(), ["memory"])
    first, *later = stale_reads_of_a_lost_write(reads=4, drain_every=2)
    counted(run, first, Statistics())
    run.reset()
    for findings in later:
        counted(run, findings, Statistics())
    assert run.totals.findings.verdicts["stale_reads"].causes == {"lost": 4}
    assert min(run.shown.findings.verdicts["stale_reads"].causes.values(), default=0) >= 0
    assert run.shown.findings.verdicts["stale_reads"].violated == 2


def turns_requested_by(*workers: str) -> tuple[Turns, list[str]]:
    granted: list[str] = []
    turns = Turns(lambda worker, database: granted.append(f"{worker}:{database}"))
    for worker in workers:
        turns.request(worker, "d")
    return turns, granted


def test_the_first_worker_opens_a_database_alone() -> None:
    _, granted = turns_requested_by("a", "b", "c")
    assert granted == ["a:d"]


def test_once_a_database_is_open_all_workers_may_open_it_at_once() -> None:
    turns, granted = turns_requested_by("a", "b", "c")
    turns.end("a", "d", opened=True)
    turns.request("e", "d")
    assert granted == ["a:d", "b:d", "c:d", "e:d"]


def test_if_the_first_worker_fails_the_next_one_tries_alone() -> None:
    turns, granted = turns_requested_by("a", "b", "c")
    turns.end("a", "d", opened=False)
    assert granted == ["a:d", "b:d"]
    turns.end("b", "d", opened=True)
    assert granted == ["a:d", "b:d", "c:d"]


def test_if_the_first_worker_is_lost_the_next_one_tries_alone() -> None:
    turns, granted = turns_requested_by("a", "b", "c")
    turns.lose("a")
    turns.lose("c")
    assert granted == ["a:d", "b:d"]


def test_if_all_workers_failed_a_new_one_may_try() -> None:
    turns, granted = turns_requested_by("a")
    turns.end("a", "d", opened=False)
    turns.request("b", "d")
    assert granted == ["a:d", "b:d"]


def test_databases_have_separate_turns() -> None:
    turns, granted = turns_requested_by("a", "b")
    turns.request("b", "other")
    assert granted == ["a:d", "b:other"]


def test_the_whole_runs_row_says_where_the_servers_are() -> None:
    given = Namespace(mongo_uri="mongodb://carol:s3cret@a:27017/?replicaSet=rs0", couch_a="http://a:5984")
    shown = str(rows_of(MasterRun("r", given, ["mongo"]))["whole run"]["witness"])
    assert shown == "0 operations; MongoDB at mongodb://***@a:27017/?replicaSet=rs0"


def test_fallbacks_of_two_workers_add_up() -> None:
    run = MasterRun("r", Namespace(), ["memory"])
    for number in (1, 2):
        findings, statistics = observed()
        for fell_back, outcome in ((True, "ok"), (False, "ok"), (False, "ok"), (True, "fail")):
            read = Read(session="s", key="k", version=1, start=0, end=number, outcome=outcome)
            statistics.note_source(read, fell_back=fell_back)
            statistics.on_operation(read, ())
        counted(run, findings, statistics)
    totals = run.totals.statistics
    assert {source: (times.count, times.total_ns) for source, times in totals.strategy.items()} == {
        "first": (4, 6),
        "fallback": (2, 3),
    }
    assert (totals.fallbacks, totals.failed_fallbacks) == (2, 2)
