"""Metrics equal what the judge found and the statistics counted, in whatever pieces it came, and never fall."""

from bisect import bisect_right
from collections.abc import Iterator
from random import Random
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st
from prometheus_client import CollectorRegistry

from stalewatch.checkers.judge import Judge
from stalewatch.checkers.verdict import FRESH_PERCENTAGES
from stalewatch.clients.protocol import Answer
from stalewatch.engine.database_run import DatabaseRun
from stalewatch.history.clock import RealClock
from stalewatch.metrics import families
from stalewatch.metrics.meter import Histogram
from stalewatch.metrics.process import ProcessMetrics
from stalewatch.metrics.server import registry
from stalewatch.recording.recorder import Recorder
from stalewatch.recording.totals import Collector
from stalewatch.simulator.client import MemoryClient
from stalewatch.simulator.options import MemoryOptions
from stalewatch.workloads.options import LoadOptions


class SteppedClock(RealClock):
    """A clock that advances by a random step at every call."""

    def __init__(self, random: Random) -> None:
        super().__init__()
        self._random, self._time = random, 1_700_000_000_000_000_000

    def now(self) -> int:
        self._time += self._random.randrange(1, 20_000_000)
        return self._time


def unconnected_run(clock: RealClock) -> DatabaseRun:
    return DatabaseRun(MemoryClient(MemoryOptions(), clock), Recorder(clock, Judge()), LoadOptions(), "r")


def played(seed: int, operations: int) -> Iterator[tuple[ProcessMetrics, Collector]]:
    """Yield the metrics and the collector of a process after every few random operations on two keys."""
    random = Random(seed)
    run = unconnected_run(SteppedClock(random))
    recorder, collector = run.recorder, run.collector
    metrics = ProcessMetrics("r", "memory", lambda: 3)
    metrics.watch(run)
    written = {"a": 0, "b": 0}
    pending: list[tuple[Any, ...]] = []
    for number in range(operations):
        key, outcome = random.choice("ab"), random.choices(["ok", "fail", "unknown"], [8, 1, 1])[0]
        if random.random() < 0.4:
            pending.append((recorder.begin_write(f"s{number}", key), outcome))
        else:
            pending.append((key, recorder.clock.now(), outcome, random.randint(max(0, written[key] - 2), written[key])))
        while pending and random.random() < 0.6:
            done = pending.pop(random.randrange(len(pending)))
            if len(done) == 2:
                write, outcome = done
                written[write.key] = max(written[write.key], write.version)
                recorder.end_write(write, Answer(outcome, error="Lost"))
            else:
                key, start, outcome, version = done
                siblings = random.choice([None, [], [9]])
                recorder.end_read(f"r{number}", key, start, Answer(outcome, version, siblings=siblings, error="Lost"))
        if random.random() < 0.1:
            yield metrics, collector
    recorder.finish()
    yield metrics, collector


def samples(one: CollectorRegistry) -> dict[tuple[str, ...], float]:
    return {
        (
            sample.name,
            *(value for name, value in sample.labels.items() if name not in {"run", "database"}),
        ): sample.value
        for family in one.collect()
        for sample in family.samples
        if sample.name.startswith("stalewatch_")
    }


@settings(deadline=None, max_examples=50)
@given(st.integers(0, 10_000), st.integers(0, 400))
def test_counts_equal_the_verdicts_and_never_fall(seed: int, operations: int) -> None:
    before: dict[tuple[str, ...], float] = {}
    for metrics, collector in played(seed, operations):
        now = samples(registry(metrics.readings))
        rising = [name for name in before if name[0].endswith(("_total", "_bucket", "_count", "_sum"))]
        assert all(now[name] >= before[name] for name in rising)
        before, last = now, collector
    totals = last.drain()
    findings, statistics = totals.findings, totals.statistics
    for name, verdict in findings.verdicts.items():
        assert before["stalewatch_checked_total", name] == verdict.checked
        assert before["stalewatch_violations_total", name] == verdict.violated
    for kind in ("read", "write"):
        for outcome in ("ok", "fail", "unknown"):
            assert before["stalewatch_operations_total", kind, outcome] == statistics.outcomes[kind][outcome]
        assert before["stalewatch_service_time_seconds_count", kind] == statistics.outcomes[kind]["ok"]
    errors = {name[1:]: count for name, count in before.items() if name[0] == "stalewatch_errors_total"}
    assert errors == statistics.errors
    stale = findings.verdicts["stale_reads"]
    assert before["stalewatch_staleness_seconds_count",] == stale.violated
    assert before["stalewatch_versions_behind_count",] == stale.violated


@settings(deadline=None, max_examples=50)
@given(st.integers(0, 10_000), st.integers(0, 400))
def test_reads_after_a_write_equal_those_that_stale_reads_checks(seed: int, operations: int) -> None:
    for metrics, collector in played(seed, operations):
        found, last = samples(registry(metrics.readings)), collector
    stale = last.drain().findings.verdicts["stale_reads"]
    reads = {name[1:]: value for name, value in found.items() if name[0] == "stalewatch_reads_after_write_total"}
    assert sum(reads.values()) == stale.checked
    assert sum(value for (_, fresh), value in reads.items() if fresh == "false") == stale.violated
    for bucket in stale.freshness.buckets():
        age = "+Inf" if bucket.to_ns is None else str(bucket.to_ns / 1e9)
        assert (reads[age, "true"], reads[age, "false"]) == (bucket.checked - bucket.stale, bucket.stale)
    marks = {name[1]: value for name, value in found.items() if name[0] == "stalewatch_fresh_after_seconds"}
    known = {name: stale.freshness.fresh_after_ns(share) for name, share in FRESH_PERCENTAGES.items()}
    assert marks == {name: after_ns / 1e9 for name, after_ns in known.items() if after_ns is not None}


def test_workloads_on_one_database_count_together() -> None:
    clock = SteppedClock(Random(1))
    metrics = ProcessMetrics("r", "memory", lambda: 2)
    for draws in (3, 4):
        run = unconnected_run(clock)
        metrics.watch(run)
        for number in range(draws):
            run.recorder.end_write(run.recorder.begin_draw("s", "k"), Answer(version=number))
    readings = list(metrics.readings())
    assert len({(reading.family, reading.labels) for reading in readings}) == len(readings)
    written = ("r", "memory", "write", "ok")
    assert [one.value for one in readings if one.family is families.OPERATIONS and one.labels == written] == [7]


@given(st.lists(st.integers(0, 5_000)))
def test_buckets_count_values_up_to_and_including_their_bound(values: list[int]) -> None:
    histogram = Histogram((0.5, 1.0, 2.0), scale=1000)
    for value in values:
        histogram.add({value: 1}, value)
    ordered = sorted(values)
    assert list(histogram.buckets()) == [
        (name, bisect_right(ordered, bound)) for name, bound in (("0.5", 500), ("1.0", 1000), ("2.0", 2000))
    ] + [("+Inf", len(values))]
    assert histogram.total == sum(values) / 1000
