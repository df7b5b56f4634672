"""What a worker that is gone left behind: its history file holds more than it reported."""

import logging
from collections.abc import Iterator
from itertools import islice
from pathlib import Path

import gevent

from stalewatch.checkers.guarantee import JudgeContext
from stalewatch.checkers.judge import Judge
from stalewatch.history.operation import Operation
from stalewatch.history.reader import BadHistory, History
from stalewatch.locust.report import HistoryFile
from stalewatch.locust.roster import Member
from stalewatch.recording.attempts import AttemptLog
from stalewatch.recording.statistics import Statistics
from stalewatch.recording.totals import Totals

log = logging.getLogger("stalewatch")

SLICE = 2000
"""Operations that are judged at a stretch, some 10 ms, before the hub gets its turn."""


def salvage(member: Member, run: str, folder: Path | None) -> Totals:
    """Return what a lost worker did after its last report, if all of its history can be read on this machine.

    A worker hands its operations to the file in the order in which they are judged, and before it reports on them. So
    the file begins with everything that was reported, and goes on with what was done until the worker died, save the
    last second that was not written yet. Judging it from the start, and leaving out what is found among the reported
    ones, adds just the rest. One that died before it could tell of its files may have left them in `folder`.
    """
    left = folder.glob(f"{run}-w{member.worker}-*") if folder else ()
    told = member.histories or [HistoryFile(str(path), 0, 0, finished=False) for path in left]
    found = [file for file in told if _is_there(file, run, member.worker)]
    totals = Totals()
    if not found or len(found) < len(told):
        return totals
    try:
        for file in found:
            totals.merge(_rest(file))
    except BadHistory as error:
        log.warning("the history of worker %d cannot be used: %s", member.worker, error)
        return Totals()
    member.operations += totals.operations
    member.from_history = True
    return totals


def _is_there(file: HistoryFile, run: str, worker: int) -> bool:
    path = Path(file.path)
    if not path.is_file():  # it may be on another machine
        return False
    try:
        header = History([path]).headers[0]
    except BadHistory:
        return False
    return header.run == run and header.worker == worker


def _rest(file: HistoryFile) -> Totals:
    """Return what the operations show that the file holds beyond the reported ones."""
    history = History([Path(file.path)])
    judge = Judge(JudgeContext(tuple(history.sources), history.horizon_ns))
    statistics, attempts = Statistics(), AttemptLog()
    statistics.counting_from_ns = file.counting_from_ns
    operations = _in_slices(history)
    for operation, source in islice(operations, file.reported):
        judge.observe(operation, source)
    judge.drain()
    for operation, source in operations:
        violations = judge.observe(operation, source)
        attempts.on_operation(operation, violations)
        statistics.on_operation(operation, violations)
    if not file.finished:
        attempts.on_end(judge.finish())
    return Totals(judge.findings(), statistics, attempts)


def _in_slices(history: History) -> Iterator[tuple[Operation, int]]:
    for count, pair in enumerate(history.operations()):
        yield pair
        if count % SLICE == 0:
            gevent.sleep(0)
