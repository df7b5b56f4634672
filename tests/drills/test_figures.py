"""The figures of a drill from its attempt log: phases, recovery, losses, and what must not be claimed."""

from stalewatch.drills.recovery import NS, LoadTimes, figures
from stalewatch.history.operation import Append, Fault, Final, Operation, Read, Write
from stalewatch.reports.lines import drill_lines
from stalewatch.reports.words import GUARANTEE_WORDS, drill_sentence, run_sentence
from tests.recording.test_attempts import log_of


def write(start: float, version: int, outcome: str = "ok") -> Write:
    at = round(start * NS)
    return Write(session="a", key="k", version=version, start=at, end=at + NS // 100, outcome=outcome)  # type: ignore[arg-type]


LOAD = LoadTimes(1 * NS, 15 * NS)
FAULT = Fault(fault="kill", node="n:1", start=3 * NS, end=6 * NS)
WRITES = [write(n, n, "unknown" if 3 <= n < 7 else "ok") for n in range(1, 15)]


def test_phases_are_assigned_by_when_operations_started() -> None:
    phases = figures(log_of(*WRITES), [FAULT], LOAD, read_finally=True)["phases"]
    assert [phases[name]["operations"]["write"] for name in ("before", "during", "after")] == [
        {"ok": 2, "fail": 0, "unknown": 0},
        {"ok": 0, "fail": 0, "unknown": 3},
        {"ok": 8, "fail": 0, "unknown": 1},
    ]
    assert phases["before"]["latency_ms"]["write"]["avg"] == 10
    assert phases["during"]["latency_ms"]["write"]["avg"] is None


def test_the_outage_of_writes_is_measured_from_writes_alone() -> None:
    found = figures(log_of(*WRITES), [FAULT], LOAD, read_finally=True)["recovery"]
    assert found["write"]["rto_s"] == 5
    assert found["write"]["sustained_rto_s"] == 5
    assert found["write"]["meanwhile"] == {"ok": 0, "fail": 0, "unknown": 4}
    assert found["read"]["attempts"] == 0


def lost(*operations: Operation, read_finally: bool = True) -> dict[str, object]:
    found: dict[str, object] = figures(log_of(*operations), [FAULT], LOAD, read_finally=read_finally)["rpo"]
    return found


ITEMS = [Append(session="a", key="l", item=f"a-{n}", start=n * NS, end=n * NS + 1, outcome="ok") for n in (1, 2, 4)]
LAST = Final(key="l", items=["a-1"], start=20 * NS, end=21 * NS, outcome="ok")


def test_violations_that_final_reads_reveal_count_by_the_start_of_what_violated() -> None:
    read = Read(session="b", key="k", version=2, start=4 * NS, end=5 * NS, outcome="ok")
    vanished = Final(key="k", version=1, siblings=[0], start=20 * NS, end=21 * NS, outcome="ok")
    twice = Final(key="l", items=["a-1", "a-2", "a-4", "a-4", "x"], start=20 * NS, end=21 * NS, outcome="ok")
    log = log_of(write(1, 1), write(2, 2), read, *ITEMS, vanished, twice)
    phases = figures(log, [FAULT], LOAD, read_finally=True)["phases"]
    assert [phases[name]["violations"] for name in ("before", "during", "after")] == [
        {"read_regressions": 0, "conflicts": 0, "lost_writes": 1, "unexpected_items": 0},
        {"read_regressions": 0, "conflicts": 0, "lost_writes": 0, "unexpected_items": 1},
        {"read_regressions": 1, "conflicts": 1, "lost_writes": 0, "unexpected_items": 1},
    ]


def test_losses_of_a_ledger_are_exact() -> None:
    found = lost(*ITEMS, LAST)
    assert (found["lost_writes"], found["span_s"], found["exact"]) == (2, 2, True)
    assert (found["lost_items"], found["appended"]) == (2, 3)


def test_with_registers_the_sum_is_a_lower_bound_and_the_items_are_exact() -> None:
    found = lost(write(0.5, 1), *ITEMS, LAST)
    assert (found["lost_writes"], found["exact"], found["lost_items"]) == (2, False, 2)


def test_without_final_reads_losses_are_unknown() -> None:
    found = lost(*ITEMS, read_finally=False)
    assert (found["lost_writes"], found["span_s"], found["exact"], found["lost_items"]) == (None, None, False, None)


def test_a_drill_without_a_fault_has_no_recovery() -> None:
    found = figures(log_of(*WRITES), [], LOAD, read_finally=True)
    assert found["faults"] == []
    assert {kind: (one["rto_s"], one["degraded_s"]) for kind, one in found["recovery"].items()} == {
        "read": (None, 0),
        "write": (None, 0),
    }


NOTHING = {"violated": 0}


def result(*operations: Operation, read_finally: bool = True) -> dict[str, object]:
    names = ("stale_reads", "monotonic_reads", "read_your_writes", "unique_ids", "phantom_reads", "conflicts")
    found = figures(log_of(*operations), [FAULT], LOAD, read_finally=read_finally)
    return {**found, "guarantees": dict.fromkeys(names, NOTHING), "probed": True, "converged_s": None}


def test_the_figures_are_summarized_in_a_sentence() -> None:
    assert drill_sentence(result(*WRITES, *ITEMS[:0])) == (
        "n:1 was killed at 2.0 s; writes recovered after 5.00 s; "
        "no acknowledged write was lost, unless a newer write hides it"
    )
    assert "2 acknowledged writes were lost, all acknowledged within 2.00 s" in drill_sentence(
        result(*WRITES[:0], *ITEMS, LAST)
    )
    assert "lost writes were not checked" in drill_sentence(result(*WRITES, read_finally=False))


def test_nodes_that_were_hit_at_the_same_time_are_named_together() -> None:
    names = (("kill", "n:1", 3), ("kill", "n:2", 3), ("wipe", "n:3", 5), ("kill", "n:1", 9))
    faults = [Fault(fault=fault, node=node, start=at * NS, end=10 * NS) for fault, node, at in names]
    found = result(*WRITES) | figures(log_of(*WRITES), faults, LOAD, read_finally=True)
    said = "each of n:1 and n:2 was killed at 2.0 s, n:3 lost its disk at 4.0 s; writes"
    assert drill_sentence(found).startswith(said)
    found["guarantees"] = {name: {"violated": 0, "verdict": "no_evidence"} for name in GUARANTEE_WORDS}
    assert run_sentence(found).startswith(said)


def test_writes_that_never_recovered_are_reported_as_never() -> None:
    never = [write(1, 1), write(2, 2), *(write(n, n, "unknown") for n in range(3, 15))]
    found = result(*never) | {"convergence_wait_s": 60.2}
    lines = list(drill_lines(found))
    assert "write rto/sustained s: never / never" in lines
    assert "converged s: not within 60 s after the load" in lines
    assert "writes did not recover" in drill_sentence(found)
    assert "the replicas did not agree: not within 60 s after the load" in drill_sentence(found)


def test_a_load_that_ended_too_early_is_not_called_never() -> None:
    late = [write(n / 10, n, "unknown" if n == 90 else "ok") for n in range(10, 130) if not 90 < n < 120]
    found = result(*late)
    assert found["recovery"]["write"]["sustained_known"] is False  # type: ignore[index]
    assert "write rto/sustained s: 3.10 / the load ended too early to tell" in list(drill_lines(found))
    assert "writes resumed after 3.10 s, but the load ended too early to tell whether for good" in drill_sentence(found)
    assert "read rto/sustained s: none attempted / none attempted" in list(drill_lines(found))


def test_reads_and_writes_have_separate_recovery_times() -> None:
    reads = [Read(session="b", key="k", version=0, start=n * NS, end=n * NS + 5, outcome="ok") for n in range(1, 15)]
    found = figures(log_of(*WRITES, *reads), [FAULT], LOAD, read_finally=True)["recovery"]
    assert (found["read"]["rto_s"], found["write"]["rto_s"]) == (1, 5)


def test_writes_that_never_ended_are_an_outage_without_an_end() -> None:
    hung = [
        Write(session=f"s{n}", key="k", version=20 + n, start=12 * NS, end=None, outcome="unknown") for n in range(3)
    ]
    reads = [Read(session="b", key="k", version=0, start=n * NS, end=n * NS + 5, outcome="ok") for n in range(1, 41)]
    writes = [write(n, n) for n in range(1, 12)]
    load = LoadTimes(1 * NS, 40 * NS)
    found = figures(log_of(*writes, *reads, *hung), [FAULT], load, read_finally=False)["recovery"]["write"]
    assert (found["rto_s"], found["sustained_rto_s"]) == (None, None)
    assert found["degraded_s"] >= 27


def test_a_late_failure_after_the_load_is_not_an_outage() -> None:
    writes = [write(n / 10, n) for n in range(10, 150)]
    late = Write(session="c", key="k", version=500, start=14 * NS, end=17 * NS, outcome="unknown")
    found = figures(log_of(*writes, late), [FAULT], LOAD, read_finally=True)["recovery"]["write"]
    assert found["rto_s"] == 0.1
