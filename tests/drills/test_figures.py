"""A drill's figures from its evidence: the phases, what was lost, and what may not be claimed."""

from stalewatch.drills.figures import Load, figures
from stalewatch.drills.recovery import NS
from stalewatch.history.operation import Append, Fault, Final, Operation, Read, Write
from stalewatch.reports.lines import drill_lines
from stalewatch.reports.words import drill_sentence
from tests.recording.test_attempts import evidence_of


def write(start: float, version: int, outcome: str = "ok") -> Write:
    at = round(start * NS)
    return Write(session="a", key="k", version=version, start=at, end=at + NS // 100, outcome=outcome)  # type: ignore[arg-type]


LOAD = Load(1 * NS, 15 * NS)
FAULT = Fault(fault="kill", node="n:1", start=3 * NS, end=6 * NS)
WRITES = [write(n, n, "unknown" if 3 <= n < 7 else "ok") for n in range(1, 15)]


def test_before_during_and_after_go_by_when_operations_started() -> None:
    phases = figures(evidence_of(*WRITES), [FAULT], LOAD, read_finally=True)["phases"]
    assert [phases[name]["operations"]["write"] for name in ("before", "during", "after")] == [
        {"ok": 2, "fail": 0, "unknown": 0},
        {"ok": 0, "fail": 0, "unknown": 3},
        {"ok": 8, "fail": 0, "unknown": 1},
    ]
    assert phases["before"]["latency_ms"]["write"]["avg"] == 10
    assert phases["during"]["latency_ms"]["write"]["avg"] is None


def test_the_outage_is_that_of_its_kind() -> None:
    found = figures(evidence_of(*WRITES), [FAULT], LOAD, read_finally=True)["recovery"]
    assert found["write"]["rto_s"] == 5
    assert found["write"]["sustained_rto_s"] == 5
    assert found["write"]["meanwhile"] == {"ok": 0, "fail": 0, "unknown": 4}
    assert found["read"]["attempts"] == 0


def lost(*operations: Operation, read_finally: bool = True) -> dict[str, object]:
    found: dict[str, object] = figures(evidence_of(*operations), [FAULT], LOAD, read_finally=read_finally)["rpo"]
    return found


ITEMS = [Append(session="a", key="l", item=f"a-{n}", start=n * NS, end=n * NS + 1, outcome="ok") for n in (1, 2, 4)]
GONE = Final(key="l", items=["a-1"], start=20 * NS, end=21 * NS, outcome="ok")


def test_a_ledger_says_exactly_what_is_gone_and_over_how_long_a_time() -> None:
    found = lost(*ITEMS, GONE)
    assert (found["lost_writes"], found["span_s"], found["exact"]) == (2, 2, True)
    assert (found["lost_items"], found["appended"]) == (2, 3)


def test_registers_beside_it_make_the_sum_a_lower_bound_and_leave_the_items_exact() -> None:
    found = lost(write(0.5, 1), *ITEMS, GONE)
    assert (found["lost_writes"], found["exact"], found["lost_items"]) == (2, False, 2)


def test_without_final_reads_nothing_is_said_of_losses() -> None:
    found = lost(*ITEMS, read_finally=False)
    assert (found["lost_writes"], found["span_s"], found["exact"], found["lost_items"]) == (None, None, False, None)


def test_a_drill_that_broke_nothing_has_no_recovery() -> None:
    found = figures(evidence_of(*WRITES), [], LOAD, read_finally=True)
    assert found["faults"] == []
    assert {kind: (one["rto_s"], one["degraded_s"]) for kind, one in found["recovery"].items()} == {
        "read": (None, 0),
        "write": (None, 0),
    }


NOTHING = {"violated": 0}


def result(*operations: Operation, read_finally: bool = True) -> dict[str, object]:
    names = ("stale_reads", "monotonic_reads", "read_your_writes", "unique_ids", "phantom_reads", "conflicts")
    found = figures(evidence_of(*operations), [FAULT], LOAD, read_finally=read_finally)
    return {**found, "guarantees": dict.fromkeys(names, NOTHING), "probed": True, "converged_s": None}


def test_it_is_told_in_a_sentence() -> None:
    assert drill_sentence(result(*WRITES, *ITEMS[:0])) == (
        "n:1 was killed at 2.0 s; writes recovered after 5.00 s (sustained 5.00 s); "
        "no acknowledged write was lost, unless a newer write hides it"
    )
    assert "2 acknowledged writes were lost, all acknowledged within 2.00 s" in drill_sentence(
        result(*WRITES[:0], *ITEMS, GONE)
    )
    assert "lost writes were not checked" in drill_sentence(result(*WRITES, read_finally=False))


def test_what_never_came_back_is_told_so() -> None:
    never = [write(1, 1), write(2, 2), *(write(n, n, "unknown") for n in range(3, 15))]
    told = list(drill_lines(result(*never)))
    assert "write rto/sustained s: never / never" in told
    assert "converged s: never" in told
    assert "writes did not recover" in told[-1]


def test_reads_and_writes_are_told_apart() -> None:
    reads = [Read(session="b", key="k", version=0, start=n * NS, end=n * NS + 5, outcome="ok") for n in range(1, 15)]
    found = figures(evidence_of(*WRITES, *reads), [FAULT], LOAD, read_finally=True)["recovery"]
    assert (found["read"]["rto_s"], found["write"]["rto_s"]) == (1, 5)


def test_writes_that_never_ended_are_an_outage_without_an_end() -> None:
    hung = [
        Write(session=f"s{n}", key="k", version=20 + n, start=12 * NS, end=None, outcome="unknown") for n in range(3)
    ]
    reads = [Read(session="b", key="k", version=0, start=n * NS, end=n * NS + 5, outcome="ok") for n in range(1, 41)]
    writes = [write(n, n) for n in range(1, 12)]
    load = Load(1 * NS, 40 * NS)
    found = figures(evidence_of(*writes, *reads, *hung), [FAULT], load, read_finally=False)["recovery"]["write"]
    assert (found["rto_s"], found["sustained_rto_s"]) == (None, None)
    assert found["degraded_s"] >= 27


def test_a_straggler_after_the_load_is_no_outage() -> None:
    writes = [write(n / 10, n) for n in range(10, 150)]
    late = Write(session="c", key="k", version=500, start=14 * NS, end=17 * NS, outcome="unknown")
    found = figures(evidence_of(*writes, late), [FAULT], LOAD, read_finally=True)["recovery"]["write"]
    assert found["rto_s"] == 0.1
