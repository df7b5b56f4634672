"""Locust users of two real CouchDB leaders."""

import pytest

from stalewatch.clusters.local.couch import CouchCluster
from tests.clients.test_couchdb_setup import replications
from tests.locust.conftest import Swarm, assert_agrees

COUCH = "locustfiles/couch_users.py"
LOAD = ("--headless", "--processes", "2", "-u", "8", "-r", "100", "--keys", "30", "--rate", "200")

pytestmark = pytest.mark.server


def run(swarm: Swarm, leaders: CouchCluster, *arguments: str) -> int:
    a, b = leaders.uri().split()
    return swarm.alone(*LOAD, "--couch-a", a, "--couch-b", b, *arguments, locustfile=COUCH)


def test_writes_to_both_leaders_conflict_and_are_judged_like_the_histories(swarm: Swarm, leaders: CouchCluster) -> None:
    pid = run(
        swarm, leaders, "--db", "stays", "--write-to", "both", "--read-from", "a", "--expect", "conflicts.violated>0"
    )
    assert swarm.finish(pid, workers=2, lines=300) == 0
    result = swarm.result()
    assert_agrees(result, swarm.histories, workers=2)
    assert set(result["guarantees"]["stale_reads"]["causes"]) <= {"lag", "conflict", "lost"}
    assert "database stays and its replication stay (_replicator: " in swarm.log(pid)


@pytest.mark.parametrize("strategy", ["lww", pytest.param("union", marks=pytest.mark.soak)])
def test_edits_lost_by_a_resolver_are_counted(swarm: Swarm, leaders: CouchCluster, strategy: str) -> None:
    pid = run(swarm, leaders, "--workload", "conflict", "--resolve", strategy, "--db", strategy, "--remove-replication")
    assert swarm.finish(pid, workers=2, lines=300) == 0
    result = swarm.result()
    assert_agrees(result, swarm.histories, workers=2)
    assert result["resolution"]["strategy"] == strategy
    assert result["resolution"]["merged"]
    lost = sum(part["lost"] for part in result["losses"].values())
    assert lost == result["guarantees"]["lost_writes"]["violated"]
    basket = result["losses"]["basket"]
    assert basket["acknowledged"]
    assert (basket["lost"] > 0) == (strategy == "lww")
    assert replications(leaders, strategy) == {}
    assert "replication stay" not in swarm.log(pid)
