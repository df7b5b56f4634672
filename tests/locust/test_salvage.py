"""What was reported and what is salvaged are together what the history file holds, wherever the last report was."""

from pathlib import Path

import pytest
from stalewatch.locust.report import HistoryFile
from stalewatch.locust.roster import Member
from stalewatch.locust.salvage import salvage

from stalewatch.checkers.judge import Judge
from stalewatch.commands.check import judge_files
from stalewatch.engine.result import check_result
from stalewatch.history.operation import FORMAT, FORMAT_VERSION, Header, Operation, Read, Write
from stalewatch.history.reader import History
from stalewatch.history.writer import HistoryWriter
from stalewatch.recording.totals import no_totals

RUN = "r1"


def operations() -> list[Operation]:
    """Return writes and reads of which some are stale, some go back in time, and one shows what was never written."""
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
    """The history of a worker that was killed: without its last line."""
    path = tmp_path / f"{RUN}-w2-memory.jsonl"
    header = Header(format=FORMAT, version=FORMAT_VERSION, run=RUN, worker=2, clock_error_ns=0, closes=True)
    writer = HistoryWriter(path, header)
    for operation in operations():
        writer.add(operation)
    writer.abandon()
    return path


@pytest.mark.parametrize("reported", range(0, 59, 7))
def test_nothing_is_counted_twice_and_nothing_is_missing(file: Path, reported: int) -> None:
    totals = no_totals()
    judge = Judge()
    for operation, _ in list(History([file]).operations())[:reported]:
        judge.observe(operation)
    totals.findings.merge(judge.take())
    member = Member(2, "x", 0, histories=[HistoryFile(str(file), 0, reported, finished=False)], operations=reported)
    totals.merge(salvage(member, RUN, None))
    totals.findings.complete = False
    assert check_result(totals.findings) == check_result(judge_files([file]).findings())
    assert member.from_history
    assert member.operations == len(operations())


def test_a_worker_that_could_not_tell_of_its_file_left_it_in_the_masters_folder(file: Path) -> None:
    member = Member(2, "x", 0)
    totals = no_totals()
    totals.merge(salvage(member, RUN, file.parent))
    assert totals.operations == len(operations())


@pytest.mark.parametrize("other", ["worker", "run", "missing", "broken"])
def test_a_file_that_is_not_the_workers_or_cannot_be_read_adds_nothing(file: Path, other: str) -> None:
    worker, run, path = 2, RUN, file
    if other == "worker":
        worker = 3
    elif other == "run":
        run = "r2"
    elif other == "missing":
        path = file.with_name("elsewhere.jsonl")
    else:
        path.write_text(path.read_text().replace('"op":"read"', '"op":"rad"', 1))
    member = Member(worker, "x", 0, histories=[HistoryFile(str(path), 0, 0, finished=False)], operations=5)
    assert salvage(member, run, None).operations == 0
    assert not member.from_history
    assert member.operations == 5


def test_operations_of_the_warm_up_are_judged_and_not_counted(file: Path) -> None:
    member = Member(2, "x", 0, histories=[HistoryFile(str(file), 1000, 0, finished=False)])
    totals = salvage(member, RUN, None)
    assert totals.operations == sum(operation.start >= 1000 for operation in operations())
    whole = judge_files([file]).findings()
    assert totals.findings.verdicts["stale_reads"].checked == whole.verdicts["stale_reads"].checked


def test_what_was_decided_at_the_end_and_reported_is_not_decided_again(file: Path) -> None:
    with file.open("a") as lines:
        lines.write('{"op":"close","clock_error_ns":0}\n')
    whole = judge_files([file]).findings()
    assert whole.verdicts["phantom_reads"].violated == 1
    for finished, violated in ((True, 0), (False, 1)):
        history = HistoryFile(str(file), 0, len(operations()), finished)
        rest = salvage(Member(2, "x", 0, histories=[history]), RUN, None)
        assert rest.findings.verdicts["phantom_reads"].violated == violated
