"""Acknowledged writes that a killed node loses: none if the commit log is synced before it acknowledges."""

import secrets

import pytest

from stalewatch.clients.cassandra.client import CassandraDatabaseClient
from stalewatch.clients.cassandra.options import CassandraClientOptions
from stalewatch.clusters.local.cassandra import CassandraCluster
from stalewatch.history.clock import RealClock
from stalewatch.workloads.options import LoadOptions
from tests.clients.drill import Drill, until

pytestmark = [pytest.mark.server, pytest.mark.soak]

TRIALS = 8
WRITERS = LoadOptions(operations=None, duration_s=600, users=16, keys=300, write_ratio=1.0)


def count_lost(ring: CassandraCluster) -> int:
    """Kill a node during writes at ALL, read from it alone, and return the number of stale reads."""
    node = ring.nodes()[2]
    drill = Drill(ring.uri(), f"test{secrets.token_hex(4)}", WRITERS, write_cl="ALL")
    with drill.load():
        until(lambda: drill.count("ok") > 1500)
        ring.kill(node)
    ring.restart(node)
    reader = CassandraDatabaseClient(CassandraClientOptions(hosts=ring.uri(), coordinator=node), RealClock())
    reader.prepare()
    for key in drill.keys:
        drill.read(key, reader)
    reader.close()
    stale = drill.end()["stale_reads"]
    assert stale.checked > WRITERS.keys / 2
    return stale.violated


@pytest.mark.timeout(900)
@pytest.mark.parametrize(("commitlog_sync", "loses"), [("periodic", [True]), ("batch", [False])])
def test_a_killed_node_loses_only_what_was_not_in_its_commit_log(
    shared_ring: CassandraCluster, commitlog_sync: str, loses: list[bool]
) -> None:
    ring = CassandraCluster(shared_ring.home, commitlog_sync=commitlog_sync)
    try:
        found = []
        for _ in range(TRIALS):
            ring.start(print)
            found.append(count_lost(ring))
    finally:
        CassandraCluster(shared_ring.home, commitlog_sync="batch").start(print)
    print(f"{commitlog_sync}: stale reads after each kill {found}")
    assert [any(found)] == loses, found
