"""What a worker that is gone left behind: its history file, judged again, holds more than its last report."""

import logging
from collections.abc import Iterator
from pathlib import Path

import gevent

from checkers.judge import Judge
from checkers.scene import Scene
from history.operation import Read, Write
from history.reader import BadHistory, History
from load.report import HistoryFile
from load.roster import Member
from load.totals import Totals, nothing_yet
from workloads.statistics import Statistics

log = logging.getLogger("stalewatch")

SLICE = 2000
"""Operations that are judged at a stretch, some 10 ms, before the hub gets its turn."""


def salvage(member: Member, run: str, folder: Path | None) -> bool:
    """Replace a lost worker's totals by those of its history files, if all of them can be read on this machine.

    A worker writes to its file before it reports, so the file holds all that was reported, and then what was done until
    the worker died, save the last second that it had not written yet. One that died before it could tell of its files
    may have left them in the folder of the master's own.
    """
    told = member.histories or [
        HistoryFile("", str(path), 0) for path in (folder.glob(f"{run}-w{member.worker}-*") if folder else ())
    ]
    found = [file for file in told if _is_there(file, run, member.worker)]
    if not found or len(found) < len(told):
        return False
    totals = nothing_yet()
    try:
        for file in found:
            totals.merge(_judged(file))
    except BadHistory as error:
        log.warning("the history of worker %d cannot be used: %s", member.worker, error)
        return False
    member.totals, member.from_history = totals, True
    return True


def _is_there(file: HistoryFile, run: str, worker: int) -> bool:
    path = Path(file.path)
    if not path.is_file():  # it may be on another machine
        return False
    try:
        header = History([path]).headers[0]
    except BadHistory:
        return False
    return header.run == run and header.worker == worker


def _judged(file: HistoryFile) -> Totals:
    history = History([Path(file.path)])
    judge, statistics = Judge(Scene(tuple(history.sources), history.horizon_ns)), Statistics()
    for operation, source in _in_slices(history):
        violations = judge.observe(operation, source)
        if isinstance(operation, Read | Write) and operation.start >= file.counting_from_ns:
            kind = "read" if isinstance(operation, Read) else "write"
            statistics.count(kind, operation, violations, stalled=False)
    judge.finish()
    return Totals(judge.findings(), statistics)


def _in_slices(history: History) -> Iterator[tuple[Read | Write, int]]:
    for count, pair in enumerate(history.operations()):
        yield pair  # type: ignore[misc] # every kind of operation; the judge takes them all
        if count % SLICE == 0:
            gevent.sleep(0)
