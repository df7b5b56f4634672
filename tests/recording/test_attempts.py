"""What a drill's figures are made of: what is kept of a run, what travels, and that nothing is counted twice."""

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


def evidence_of(*operations: Operation) -> AttemptLog:
    judge, evidence = Judge(), AttemptLog()
    for operation in operations:
        evidence.on_operation(operation, judge.observe(operation))
    evidence.on_end(judge.finish())
    return evidence


def as_told(evidence: AttemptLog) -> dict[str, object]:
    packed = evidence.packed()
    return {**packed, "attempts": sorted(packed["attempts"]), "losses": sorted(map(repr, packed["losses"]))}


def test_attempts_are_kept_by_kind_and_outcome_and_one_that_never_ended_too() -> None:
    found = {name: (list(one.starts), list(one.ends)) for name, one in evidence_of(*RUN).attempts.items()}
    assert found == {
        ("write", "ok"): ([10, 30, 35, 61], [20, 40, 45, 62]),
        ("read", "ok"): ([50], [60]),
        ("write", "unknown"): ([63], [NEVER]),
    }


def test_violations_stand_at_the_start_of_what_broke_the_promise() -> None:
    found = {name: sorted(starts) for name, starts in evidence_of(*RUN).violations.items()}
    assert found["stale_reads"] == [50]
    assert found["lost_writes"] == [30, 35, 61]


def test_what_is_lost_is_named_and_a_superseded_write_told_apart() -> None:
    assert sorted(evidence_of(*RUN).losses, key=lambda loss: loss.start or 0) == [
        LostWrite("k", 2, 30, 40),
        LostWrite("k", 3, 35, 45, superseded=True),
        LostWrite("list", "a-1", 61, 62, item=True),
    ]


def test_all_was_read_finally_only_where_every_final_read_was_ok() -> None:
    failed = Final(key="k", start=80, end=90, outcome="unknown")
    assert evidence_of(*RUN).read_finally
    assert not evidence_of(WRITE, failed).read_finally
    assert not evidence_of(WRITE).read_finally


def test_it_travels_unchanged() -> None:
    evidence = evidence_of(*RUN)
    sent = msgspec.msgpack.decode(msgspec.msgpack.encode(evidence.packed()))
    assert as_told(AttemptLog.unpacked(sent)) == as_told(evidence)


def test_what_is_taken_in_pieces_adds_up_to_the_whole() -> None:
    judge, pieces, evidence = Judge(), AttemptLog(), AttemptLog()
    for operation in RUN:
        evidence.on_operation(operation, judge.observe(operation))
        pieces.merge(evidence.drain())
    evidence.on_end(judge.finish())
    pieces.merge(evidence.drain())
    assert as_told(pieces) == as_told(evidence_of(*RUN))
    assert not evidence.attempts
    assert not evidence.losses
