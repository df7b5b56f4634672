"""Drills on a real ring: QUORUM hardly notices a dead node, ALL waits for it, and a lost disk loses writes."""

from pathlib import Path

import pytest

from stalewatch.clients.cassandra.options import DEFAULT_TIMEOUT_S
from stalewatch.clusters.local.cassandra import CassandraCluster
from tests.drills.conftest import drill, recovery_time_s

pytestmark = pytest.mark.server

LOAD = ("--users", "6", "--keys", "50", "--rate", "60", "--after", "6")


def test_quorum_survives_a_dead_node_and_all_does_not(ring: CassandraCluster, tmp_path: Path) -> None:
    levels = ("--vary", "write-cl=QUORUM,ALL", "--vary", "read-cl=QUORUM,ALL")
    done = drill("cassandra", "kill-node", "--at", "2", "--for", "6", *LOAD, *levels, home=ring.home, folder=tmp_path)
    assert done.code == 0, done.err
    quorum, all_nodes = done.results
    for kind in ("read", "write"):
        assert quorum["recovery"][kind]["rto_s"] < all_nodes["recovery"][kind]["rto_s"] / 2
        assert quorum["recovery"][kind]["rto_s"] == pytest.approx(recovery_time_s(done.histories[:1], kind))
        dead_s = all_nodes["faults"][0]["end_s"] - all_nodes["faults"][0]["start_s"]
        assert all_nodes["recovery"][kind]["rto_s"] > 6
        assert all_nodes["recovery"][kind]["rto_s"] == pytest.approx(dead_s, abs=3 * DEFAULT_TIMEOUT_S)
    for result in done.results:
        assert result["guarantees"]["lost_writes"]["verdict"] == "holds"
        assert result["guarantees"]["stale_reads"]["verdict"] == "holds"
        assert result["converged_s"] is not None
        assert result["two_primaries_s"] is None


@pytest.mark.soak  # two minutes
def test_writes_that_only_one_node_has_are_lost_with_its_disk(ring: CassandraCluster, tmp_path: Path) -> None:
    done = drill("cassandra", "disk-lost", "--at", "3", *LOAD, home=ring.home, folder=tmp_path)
    assert done.code == 0, done.err
    lost = done.result["guarantees"]["lost_writes"]
    assert lost["violated"] > 0
    assert all(len(witness["operations"]) == 2 for witness in lost["witnesses"])
    assert done.result["rpo"]["lost_items"] > 0
    assert done.result["rpo"]["appended"] > done.result["rpo"]["lost_items"]
    (wiped,) = [fault for fault in done.result["faults"] if fault["fault"] == "wipe"]
    assert all(item["end"] <= wiped["end"] for item in done.result["rpo"]["items"] if item["end"])
