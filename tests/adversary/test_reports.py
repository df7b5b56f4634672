"""Reports that no worker would send: a report is counted as a whole or not at all, and the run goes on."""

import json
import time
from argparse import Namespace
from collections.abc import Callable
from pathlib import Path
from typing import Any

import msgspec
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from stalewatch.checkers.verdict import Violation
from stalewatch.exit_codes import DONE, UNREACHABLE, USAGE
from stalewatch.history.operation import FORMAT, FORMAT_VERSION, Header, Read
from stalewatch.history.writer import HistoryWriter
from stalewatch.locust.master_run import BackgroundResult, MasterRun, WorkerRecord
from stalewatch.locust.messages import DistributionState, HistoryFile, WorkerReport, encode
from stalewatch.locust.report_checks import BadReport, decoded
from stalewatch.locust.result import outcome, salvage, worker_row
from stalewatch.locust.tabs import consistency_rows, witness_rows
from stalewatch.recording.attempts import AttemptLog
from stalewatch.recording.statistics import Stall
from tests.locust.worker_reports import report

SENDER = "host_1"
OPTIONS = Namespace(expect=None, history_dir=None, metrics_port=None, seed="1")


def started() -> MasterRun:
    """Return a run in which worker 3 takes part."""
    run = MasterRun("r", OPTIONS, ["memory"])
    run.workers.register(SENDER, 3)
    return run


def sent(number: int = 0, *, last: bool = False) -> WorkerReport:
    return report(number, last=last, at=time.time_ns())


def figures(run: MasterRun) -> dict[str, Any]:
    """Return all that a run has counted, as JSON has it."""
    return json.loads(json.dumps(outcome(run, BackgroundResult({})).result))  # type: ignore[no-any-return]


def receive(run: MasterRun, data: object) -> None:
    """Pass bytes to the run as the master does."""
    try:
        run.receive(SENDER, decoded(data))
    except BadReport as error:
        run.refuse(SENDER, str(error))
        raise


def row(one: WorkerReport, name: str = "stale_reads") -> Any:
    return next(row for row in one.verdicts if row.name == name)


def set_row(**values: object) -> Callable[[WorkerReport], None]:
    return lambda one: [setattr(row(one), name, value) for name, value in values.items()] and None


def set_counts(**values: object) -> Callable[[WorkerReport], None]:
    return lambda one: [setattr(one.counts, name, value) for name, value in values.items()] and None


def set_all(**values: object) -> Callable[[WorkerReport], None]:
    return lambda one: [setattr(one, name, value) for name, value in values.items()] and None


NOTHING: DistributionState = ({}, True, 0, 0)
BAD: dict[str, tuple[Callable[[WorkerReport], None], str]] = {
    "negative count": (set_row(checked=-1), ">= 0"),
    "more violated than checked": (set_row(violated=9), "9 of 1 are violated"),
    "empty witness": (set_row(witnesses=[Violation("stale_reads", ())]), "a witness without operations"),
    "another guarantee's witness": (set_row(witnesses=[Violation("lost_writes", ())]), "a witness of 'lost_writes'"),
    "unknown guarantee": (set_row(name="honesty"), "no guarantee 'honesty'"),
    "one guarantee twice": (lambda one: one.verdicts.append(row(one)), "two rows of one guarantee"),
    "many causes": (set_row(causes={"lag": 10**6}), "more causes than violations"),
    "fewer than no lag": (set_row(causes={"lag": -3, "lost": 3}), "fewer than no violations of a cause"),
    "times of nobody": (set_row(staleness=({5: 10**6}, True, 5 * 10**6, 5)), "more times than operations"),
    "times that do not add up": (set_row(staleness=({5: 1}, True, 0, 0)), "times that do not add up"),
    "a bucket of freshness too far": (set_row(freshness={99: (1, 1)}), "bucket 99"),
    "operations without seconds": (set_counts(seconds={}), "seconds do not add up"),
    "a second of long ago": (lambda one: one.counts.seconds.update({1: {}}), "second 1 is not in the run"),
    "latencies of nobody": (
        lambda one: next(iter(one.counts.seconds.values())).update(read_ms_3=10**6),
        "more latencies than operations",
    ),
    "a node that answers more": (set_counts(nodes={"a": {"read_ok": 10**6}}), "nodes answered more"),
    "a node of another kind": (set_counts(nodes={"a": {"scan_ok": 1}}), "neither an operation nor a guarantee"),
    "very many nodes": (set_counts(nodes={str(number): {} for number in range(1000)}), "too many nodes"),
    "an unknown kind": (lambda one: one.counts.outcomes.update(scan={}), "matching regex"),
    "an unknown outcome": (lambda one: one.counts.outcomes["read"].update(great=3), "matching regex"),
    "one kind only": (lambda one: one.counts.outcomes.pop("read") and None, "not those of reads and writes"),
    "errors of nobody": (set_counts(errors=[]), "errors are not those of its outcomes"),
    "a text for a number": (set_all(done="soon"), "Expected `float`"),
    "an exit code of its own": (set_all(failure="no", exit_code=77), "exit code 77"),
    "an exit code without a failure": (set_all(exit_code=USAGE), "without a failure"),
    "another worker's number": (set_all(worker=4), "it is of worker 4"),
    "an unknown database": (set_all(settings={"nosuch": {}}), "no database 'nosuch'"),
    "bytes in the settings": (set_all(settings={"memory": {"a": b"b"}}), "no JSON"),
    "infinite progress": (set_all(done=float("inf")), "no JSON"),
    "an unknown workload": (set_all(extra_results={"workloads": ["nosuch"]}), "no workload 'nosuch'"),
    "a text of unread keys": (set_all(extra_results={"unread_keys": "all"}), "Expected `int`"),
    "counting since 1970": (set_all(counting_from_ns=0), "did not start to count in the run"),
    "a page for metrics": (set_all(metrics="evil.example/x?y=:1"), "not at HOST:PORT"),
    "a stall that ends first": (set_all(stalls=[Stall(2, 1)]), "ends before it starts"),
    "a NUL in a path": (set_all(histories=[HistoryFile("a\0b", 0, 0, finished=False)]), "NUL"),
    "half a time": (set_all(attempts={**AttemptLog().packed(), "violations": {"stale_reads": b"a"}}), "whole numbers"),
    "a drill of another form": (set_all(attempts={"attempts": 3}), "attempts"),
}  # fmt: skip


@pytest.mark.parametrize("name", BAD)
def test_a_report_that_cannot_be_true_is_refused_as_a_whole_and_the_run_goes_on(name: str) -> None:
    change, why = BAD[name]
    run = started()
    receive(run, encode(sent()))
    before = figures(run)
    bad = sent(1)
    change(bad)
    with pytest.raises(BadReport, match=why):
        receive(run, encode(bad))
    receive(run, encode(sent(2, last=True)))
    (worker,) = run.workers
    assert not worker.complete
    shown = worker_row(worker)["unchecked"]
    assert shown.startswith("at least one of its reports was refused, and what it contained is not counted: ")
    assert why.lower() in shown.lower()
    run.phase = "over"
    after = figures(run)
    assert not after["complete"]
    assert after["guarantees"]["stale_reads"]["checked"] == 2 * before["guarantees"]["stale_reads"]["checked"] == 2
    assert sum(map(sum, (kind.values() for kind in after["operations"].values()))) == 6


@pytest.mark.parametrize("data", [None, 7, "text", b"", b"\xc1", b"\x93", encode(sent())[:-1], b"\x91" * 100_000])
def test_what_is_no_report_at_all_is_refused_and_its_worker_named(data: object) -> None:
    run = started()
    with pytest.raises(BadReport):
        receive(run, data)
    assert not run.complete
    assert run.totals.operations == 0


@pytest.mark.parametrize(("first", "again"), [(sent(), sent()), (sent(last=True), sent(1))], ids=["twice", "later"])
def test_a_report_is_counted_once_and_none_after_the_last(first: WorkerReport, again: WorkerReport) -> None:
    run = started()
    receive(run, encode(first))
    with pytest.raises(BadReport, match="has been counted"):
        receive(run, encode(again))
    assert run.totals.operations == 3


def test_a_report_has_no_say_in_other_fields_of_the_result() -> None:
    run = started()
    forged = sent(last=True)
    forged.extra_results = {"verdict": "valid", "guarantees": {}, "unread_keys": 1}  # type: ignore[typeddict-unknown-key]
    receive(run, encode(forged))
    assert figures(run)["verdict"] == "invalid"
    assert figures(run)["unread_keys"] == 1


def test_unread_keys_keep_the_live_verdict_from_being_valid_as_they_do_in_the_result() -> None:
    run = started()
    valid = sent(last=True)
    for one in valid.verdicts:
        one.violated = one.at_least = 0
        one.causes, one.behind, one.freshness, one.witnesses, one.staleness = {}, {}, {}, [], NOTHING
    valid.extra_results = {"unread_keys": 2}
    receive(run, encode(valid))
    (whole,) = (one for one in consistency_rows(run) if one["guarantee"] == "whole run")
    assert whole["verdict"] == figures(run)["verdict"] == "unknown"


PLAIN = msgspec.msgpack.decode(encode(sent()))
SIMPLE = [st.none(), st.booleans(), st.integers(-(2**63), 2**64 - 1), st.floats(), st.text(max_size=9)]
WEIRD = st.recursive(
    st.one_of(*SIMPLE, st.binary(max_size=9), st.sampled_from(["stale_reads", "read", "ok", "memory", "lag"])),
    lambda inner: (
        st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5) | st.integers(0, 40), inner, max_size=3)
    ),
    max_leaves=6,
)


@st.composite
def mutated(draw: st.DrawFn) -> bytes:
    """Return a report with one to three of its values, at any depth, replaced, removed or repeated."""
    whole = msgspec.msgpack.decode(msgspec.msgpack.encode(PLAIN))
    for _ in range(draw(st.integers(1, 3))):
        _mutate(draw, whole)
    return msgspec.msgpack.encode(whole)


def _mutate(draw: st.DrawFn, whole: Any) -> None:
    place = whole
    while True:
        keys = list(place) if isinstance(place, dict) else list(range(len(place)))
        if not keys:
            return
        key = draw(st.sampled_from(keys))
        if isinstance(place[key], dict | list) and place[key] and draw(st.booleans()):
            place = place[key]
            continue
        if isinstance(place, list) and draw(st.integers(0, 5)) == 0:
            place.append(place[key])
        else:
            place[key] = draw(WEIRD)
        return


def assert_is_refused_or_harmless(data: bytes) -> None:
    run = started()
    receive(run, encode(sent()))
    before = figures(run)
    try:
        receive(run, data)
    except BadReport:
        run.workers.get(SENDER).refusal = None  # type: ignore[union-attr] # it took part
        assert figures(run) == before
        return
    result = figures(run)
    assert outcome(run, BackgroundResult({})).exit_code in {DONE, USAGE, UNREACHABLE}
    for one in result["guarantees"].values():
        assert 0 <= one["violated"] <= one["checked"]
    json.dumps([consistency_rows(run), witness_rows(run)], allow_nan=False)


@given(st.binary(max_size=300) | mutated())
@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.too_slow])
def test_random_reports_are_refused_or_harmless(data: bytes) -> None:
    assert_is_refused_or_harmless(data)


@pytest.mark.soak
@given(mutated())
@settings(max_examples=100_000, deadline=None, suppress_health_check=[HealthCheck.too_slow])
def test_many_random_reports_are_refused_or_harmless(data: bytes) -> None:
    assert_is_refused_or_harmless(data)


def history(path: Path) -> Path:
    """Write what looks like the history of worker 2 of run r."""
    header = Header(format=FORMAT, version=FORMAT_VERSION, run="r", worker=2, clock_error_ns=0, closes=True)
    writer = HistoryWriter(path, header)
    writer.add(Read(session="a", key="k", version=0, start=1, end=2, outcome="ok"))
    writer.abandon()
    return path


def test_histories_are_only_read_below_the_history_directory(tmp_path: Path) -> None:
    folder = tmp_path / "histories"
    folder.mkdir()
    inside, outside = history(folder / "r-w2-memory.jsonl"), history(tmp_path / "r-w2-memory.jsonl")
    link = folder / "r-w2-link.jsonl"
    link.symlink_to(outside)
    circle = folder / "circle"
    circle.symlink_to(circle)
    twice = f"{folder}/../histories/{inside.name}"
    refused = [[str(outside)], [f"{folder}/../{outside.name}"], [str(link)], [str(circle)], ["/proc/kmsg"],
               ["/dev/zero"], [str(folder)], ["x" * 5000], [str(inside), twice]]  # fmt: skip
    for paths in refused:
        files = [HistoryFile(path, 0, 0, finished=False) for path in paths]
        assert salvage(WorkerRecord(2, "x", 0, histories=files), "r", folder).operations == 0, paths
    one = [HistoryFile(str(inside), 0, 0, finished=False)]
    assert salvage(WorkerRecord(2, "x", 0, histories=one), "r", None).operations == 0
    assert salvage(WorkerRecord(2, "x", 0, histories=one), "r", folder).operations == 1
