"""Locust users of a real Cassandra ring."""

import secrets

import pytest

from stalewatch.clusters.local.cassandra import CassandraCluster
from tests.locust.conftest import Swarm, assert_agrees

CASSANDRA = "locustfiles/cassandra_users.py"
LOAD = ("--headless", "-u", "10", "-r", "100", "--keys", "50", "--reread", "0.8", "--rate", "200")

pytestmark = pytest.mark.server


def test_two_workers_share_a_keyspace_that_the_first_one_creates(swarm: Swarm, ring: CassandraCluster) -> None:
    levels = ("--write-cl", "QUORUM", "--read-cl", "QUORUM", "--keyspace", f"bench_{secrets.token_hex(3)}")
    expected = ("--expect", "stale_reads=0,lost_writes=0,phantom_reads=0")
    arguments = (*LOAD, "--processes", "2", "--hosts", ring.uri(), *levels, *expected)
    pid = swarm.alone(*arguments, locustfile=CASSANDRA)
    assert swarm.finish(pid, workers=2, lines=150) == 0
    result = swarm.result()
    assert_agrees(result, swarm.histories, workers=2)
    assert all(worker["operations"] for worker in result["workers"])
    assert "read QUORUM" in swarm.log(pid)
