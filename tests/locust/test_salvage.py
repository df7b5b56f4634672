"""What a lost worker reported and what is salvaged of it add up to the contents of its history file."""

from pathlib import Path

import pytest

from stalewatch.checkers.judge import Judge
from stalewatch.commands.check import judge_files
from stalewatch.engine.result import check_result
from stalewatch.history.operation import FORMAT, FORMAT_VERSION, Header, Operation, Read, Write
from stalewatch.history.reader import History
from stalewatch.history.writer import HistoryWriter
from stalewatch.locust.master_run import WorkerRecord
from stalewatch.locust.messages import HistoryFile
from stalewatch.locust.result import salvage
from stalewatch.recording.totals import no_totals

RUN = "r1"


def operations() -> list[Operation]:
    """Return writes and reads: some reads are stale, some go back in time, and one shows a phantom."""
    found: list[Operation] = []
    for number in range(1, 20):
        at = 100 * number
        found += [
            Write(session="a", key="k", version=number, start=at, end=at + 10, outcome="ok"),
            Read(session="a", key="k", version=number - number % 3, start=at + 20, end=at + 30, outcome="ok"),
            Read(session="b", key="k", version=max(0, number - 1), start=at + 40, end=at + 50, outcome="ok"),
        ]
    found.append(Read(session="b", key="k", version=99, start=3000, end=3001, outcome="ok"))
    return found


@pytest.fixture
def file(tmp_path: Path) -> Path:
    """Return the history of a worker that was killed, without its last line."""
    path = tmp_path / f"{RUN}-w2-memory.jsonl"
    header = Header(format=FORMAT, version=FORMAT_VERSION, run=RUN, worker=2, clock_error_ns=0, closes=True)
    writer = HistoryWriter(path, header)
    for operation in operations():
        writer.add(operation)
    writer.abandon()
    return path


@pytest.mark.parametrize("reported", range(0, 59, 7))
def test_each_operation_is_counted_once_wherever_the_last_report_was(file: Path, reported: int) -> None:
    totals = no_totals()
    judge = Judge()
    for operation, _ in list(History([file]).operations())[:reported]:
        judge.observe(operation)
    totals.findings.merge(judge.drain())
    lost = WorkerRecord(2, "x", 0, histories=[HistoryFile(str(file), 0, reported, finished=False)], operations=reported)
    totals.merge(salvage(lost, RUN, file.parent))
    totals.findings.complete = False
    assert check_result(totals.findings) == check_result(judge_files([file]).findings())
    assert lost.salvaged
    assert lost.operations == len(operations())


def test_files_of_a_worker_that_never_reported_are_found_in_the_masters_folder(file: Path) -> None:
    lost = WorkerRecord(2, "x", 0)
    totals = no_totals()
    totals.merge(salvage(lost, RUN, file.parent))
    assert totals.operations == len(operations())


@pytest.mark.parametrize("other", ["worker", "run", "missing", "broken"])
def test_files_of_other_workers_and_unreadable_files_add_nothing(file: Path, other: str) -> None:
    worker, run, path = 2, RUN, file
    if other == "worker":
        worker = 3
    elif other == "run":
        run = "r2"
    elif other == "missing":
        path = file.with_name("elsewhere.jsonl")
    else:
        path.write_text(path.read_text().replace('"op":"read"', '"op":"rad"', 1))
    lost = WorkerRecord(worker, "x", 0, histories=[HistoryFile(str(path), 0, 0, finished=False)], operations=5)
    assert salvage(lost, run, None).operations == 0
    assert not lost.salvaged
    assert lost.operations == 5


def test_operations_of_the_warm_up_are_judged_but_not_counted(file: Path) -> None:
    lost = WorkerRecord(2, "x", 0, histories=[HistoryFile(str(file), 1000, 0, finished=False)])
    totals = salvage(lost, RUN, file.parent)
    assert totals.operations == sum(operation.start >= 1000 for operation in operations())
    whole = judge_files([file]).findings()
    assert totals.findings.verdicts["stale_reads"].checked == whole.verdicts["stale_reads"].checked


def test_violations_decided_at_the_end_are_counted_once(file: Path) -> None:
    with file.open("a") as lines:
        lines.write('{"op":"close","clock_error_ns":0}\n')
    whole = judge_files([file]).findings()
    assert whole.verdicts["phantom_reads"].violated == 1
    for finished, violated in ((True, 0), (False, 1)):
        history = HistoryFile(str(file), 0, len(operations()), finished)
        rest = salvage(WorkerRecord(2, "x", 0, histories=[history]), RUN, file.parent)
        assert rest.findings.verdicts["phantom_reads"].violated == violated
