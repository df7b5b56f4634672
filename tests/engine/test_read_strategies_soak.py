"""20,000 operations for each database and read strategy, on real servers whose replicas lag or lack writes."""

import itertools
import threading
from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import replace
from typing import Any

import pytest

from stalewatch.checkers.verdict import Violation
from stalewatch.clients.databases import DATABASES
from stalewatch.clients.options import with_values
from stalewatch.clusters.local.cassandra import CassandraCluster
from stalewatch.clusters.local.couch import CouchCluster
from stalewatch.clusters.local.mongo import MongoCluster
from stalewatch.engine.process_run import connected
from stalewatch.history.operation import Operation, Write
from stalewatch.workloads.options import LoadOptions
from tests.conftest import leading
from tests.engine.running import unheard

pytestmark = [pytest.mark.server, pytest.mark.soak, pytest.mark.timeout(3600)]

LOAD = LoadOptions(operations=20_000, users=20, keys=100)

KEPT = {
    "plain": set[str](),
    "sticky": {"read_your_writes"},
    "token": {"read_your_writes", "monotonic_reads"},
    "pinned": {"monotonic_reads"},
}
"""What each strategy promises."""

BROKEN = {
    "plain": {"read_your_writes", "monotonic_reads"},
    "sticky": set[str](),
    "token": set[str](),
    "pinned": {"read_your_writes"},
}
"""What must be seen violated, or the provocation proves nothing."""


STICKY_S = 2.0

FROZEN_S = 16.0
"""The driver and the other nodes need some 10 s until they do without a frozen node."""


class OwnWrites:
    """The ages, in seconds, of the own writes that reads missed."""

    def __init__(self) -> None:
        self.ages: list[float] = []

    def on_operation(self, operation: Operation, violations: Sequence[Violation]) -> None:
        for violation in violations:
            if violation.guarantee == "read_your_writes":
                write = next(one for one in violation.operations if isinstance(one, Write))
                self.ages.append((operation.start - (write.end or 0)) / 1e9)

    def on_end(self, violations: Sequence[Violation]) -> None:
        """Count nothing."""


def violations(
    database: str,
    strategy: str,
    options: dict[str, str],
    provocation: AbstractContextManager[object],
    load: LoadOptions = LOAD,
) -> dict[str, int]:
    """Return the violations by guarantee, and by cause, of a run whose load runs in the provocation.

    With ``sticky``, those of read-your-writes count only while the strategy promises anything.
    """
    row = DATABASES[database]
    chosen = with_values(row.options(), {**options, "read_strategy": strategy, "sticky_seconds": str(STICKY_S)})
    own = OwnWrites()
    with connected(row, chosen, load, print) as run:
        run.run.recorder.subscribe(own)
        run.perform(nullcontext(unheard), background=provocation)
        result: dict[str, Any] = run.result(run.totals())
    rows = result["guarantees"]
    print(result["read_strategy"], {name: (row["violated"], row["checked"]) for name, row in rows.items()})
    found = {name: row["violated"] for name, row in rows.items()}
    found.update(rows["consistent_prefix"].get("causes") or {})
    if strategy == "sticky":
        print(sorted(own.ages)[:5])
        found["read_your_writes"] = sum(age < STICKY_S for age in own.ages)
    return {name: violated for name, violated in found.items() if violated}


def check(strategy: str, found: dict[str, int], broken: set[str]) -> None:
    assert not KEPT[strategy] & found.keys(), found
    assert broken <= found.keys(), found


@pytest.mark.parametrize("strategy", ["plain", "sticky", "token"])
def test_mongo_with_a_delayed_member(whole: MongoCluster, strategy: str) -> None:
    primary = leading(whole)
    follower = next(node for node in whole.nodes() if node != primary)
    whole.lag(follower, 1)
    try:
        options = {"mongo_uri": whole.uri(), "read_from": follower, "write_concern": "1"}
        found = violations("mongo", strategy, options, nullcontext())
    finally:
        whole.lag(follower, 0)
    # One member alone never goes back in time.
    check(strategy, found, BROKEN[strategy] - {"monotonic_reads"})


@pytest.mark.parametrize("strategy", KEPT)
def test_mongo_with_reads_from_any_member(whole: MongoCluster, strategy: str) -> None:
    options = {"mongo_uri": whole.uri(), "read_from": "nearest", "write_concern": "1"}
    check(strategy, violations("mongo", strategy, options, nullcontext()), BROKEN[strategy])


@contextmanager
def stalled(cluster: MongoCluster) -> Iterator[None]:
    """Let one secondary apply nothing, while the driver still reads from it."""
    primary = leading(cluster)
    node = next(node for node in cluster.nodes() if node != primary)
    cluster.stall(node, stalled=True)
    try:
        yield
    finally:
        cluster.stall(node, stalled=False)


@pytest.mark.parametrize("strategy", ["plain", "token"])
def test_mongo_majority_levels_with_a_stalled_member(whole: MongoCluster, strategy: str) -> None:
    options = {
        "mongo_uri": f"{whole.uri()}&localThresholdMS=10000",
        "read_from": "secondary",
        "write_concern": "majority",
        "read_concern": "majority",
        "timeout": "1",
    }
    load = replace(LOAD, workload="register,causal", users=40)
    found = violations("mongo", strategy, options, stalled(whole), load)
    promised = {"read_your_writes", "monotonic_reads", "monotonic_writes", "writes_follow_reads"}
    if strategy == "token":
        assert not promised & found.keys(), found
    else:
        assert promised <= found.keys(), found


@contextmanager
def behind(ring: CassandraCluster) -> Iterator[None]:
    """Freeze the last replica, until the drivers and the other nodes do without it; nobody keeps what it misses."""
    *others, last = ring.nodes()
    resume = threading.Timer(FROZEN_S, ring.resume, [last])
    for node in others:
        ring.keep_hints(node, keep=False)
    ring.pause(last)
    resume.start()
    try:
        yield
    finally:
        resume.cancel()
        ring.resume(last)
        for node in others:
            ring.keep_hints(node, keep=None)


@pytest.mark.parametrize("strategy", KEPT)
def test_cassandra_with_a_replica_that_missed_writes(ring: CassandraCluster, strategy: str) -> None:
    # At ONE, a quorum need not meet the one replica that has a write.
    options = {"hosts": ring.uri(), "write_cl": "QUORUM" if strategy == "sticky" else "ONE", "read_cl": "ONE"}
    load = replace(LOAD, rate=500, keys=500)  # the load must outlast the freeze, and a key what it missed
    found = violations("cassandra", strategy, options, behind(ring), load)
    check(strategy, found, BROKEN[strategy])


@contextmanager
def unlinked(leaders: CouchCluster) -> Iterator[None]:
    for direction in itertools.permutations(leaders.nodes()):
        leaders.unlink(*direction)
    try:
        yield
    finally:
        for direction in itertools.permutations(leaders.nodes()):
            leaders.relink(*direction)


@pytest.mark.parametrize("strategy", KEPT)
def test_couch_with_the_link_down(leaders: CouchCluster, strategy: str) -> None:
    options = {**leaders.client_options(), "write_to": "both", "read_from": "both"}
    check(strategy, violations("couch", strategy, options, unlinked(leaders)), BROKEN[strategy])
