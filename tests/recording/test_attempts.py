"""The attempt log: what it keeps of a run, that it survives transport, and that nothing is counted twice."""

import msgspec

from stalewatch.checkers.judge import Judge
from stalewatch.history.operation import Append, Draw, Fault, Final, Operation, Read, Write
from stalewatch.recording.attempts import NEVER, AttemptLog, LostWrite

WRITE = Write(session="a", key="k", version=1, start=10, end=20, outcome="ok")
NEWER = Write(session="a", key="k", version=2, start=30, end=40, outcome="ok")
SUPERSEDED = Write(session="b", key="k", version=3, start=35, end=45, outcome="ok", superseded=True)
STALE = Read(session="b", key="k", version=1, start=50, end=60, outcome="ok")
APPEND = Append(session="a", key="list", item="a-1", start=61, end=62, outcome="ok")
NEVER_ENDED = Draw(session="a", key="ids", start=63, end=None, outcome="unknown")
CUT = Fault(fault="isolate", node="n", start=25, end=70)
FINAL = Final(key="k", version=1, start=80, end=90, outcome="ok")
FINAL_LIST = Final(key="list", items=[], start=80, end=91, outcome="ok")
RUN = (WRITE, NEWER, SUPERSEDED, STALE, APPEND, NEVER_ENDED, CUT, FINAL, FINAL_LIST)


def log_of(*operations: Operation) -> AttemptLog:
    judge, log = Judge(), AttemptLog()
    for operation in operations:
        log.on_operation(operation, judge.observe(operation))
    log.on_end(judge.finish())
    return log


def comparable(log: AttemptLog) -> dict[str, object]:
    packed = log.packed()
    return {**packed, "attempts": sorted(packed["attempts"]), "losses": sorted(map(repr, packed["losses"]))}


def test_attempts_are_kept_by_kind_and_outcome_even_if_they_never_ended() -> None:
    found = {name: (list(one.starts), list(one.ends)) for name, one in log_of(*RUN).attempts.items()}
    assert found == {
        ("write", "ok"): ([10, 30, 35, 61], [20, 40, 45, 62]),
        ("read", "ok"): ([50], [60]),
        ("write", "unknown"): ([63], [NEVER]),
    }


def test_a_violation_has_the_start_of_the_operation_that_violated() -> None:
    found = {name: sorted(starts) for name, starts in log_of(*RUN).violations.items()}
    assert found["stale_reads"] == [50]
    assert found["lost_writes"] == [30, 35, 61]


def test_losses_are_named_and_superseded_writes_are_marked() -> None:
    assert sorted(log_of(*RUN).losses, key=lambda loss: loss.start or 0) == [
        LostWrite("k", 2, 30, 40),
        LostWrite("k", 3, 35, 45, superseded=True),
        LostWrite("list", "a-1", 61, 62, item=True),
    ]


def test_everything_was_read_finally_only_if_every_final_read_was_ok() -> None:
    failed = Final(key="k", start=80, end=90, outcome="unknown")
    assert log_of(*RUN).read_finally
    assert not log_of(WRITE, failed).read_finally
    assert not log_of(WRITE).read_finally


def test_a_log_survives_packing() -> None:
    log = log_of(*RUN)
    sent = msgspec.msgpack.decode(msgspec.msgpack.encode(log.packed()))
    assert comparable(AttemptLog.unpacked(sent)) == comparable(log)


def test_drained_logs_add_up_to_the_whole_log() -> None:
    judge, merged, log = Judge(), AttemptLog(), AttemptLog()
    for operation in RUN:
        log.on_operation(operation, judge.observe(operation))
        merged.merge(log.drain())
    log.on_end(judge.finish())
    merged.merge(log.drain())
    assert comparable(merged) == comparable(log_of(*RUN))
    assert not log.attempts
    assert not log.losses
