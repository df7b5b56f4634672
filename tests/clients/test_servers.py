"""What the servers of a ring, and two leaders, say of themselves while one of them is killed."""

from argparse import Namespace
from collections.abc import Callable
from contextlib import closing

import pytest

from stalewatch.clients.cassandra.servers import CassandraServers
from stalewatch.clients.couchdb.administration import CouchServers
from stalewatch.clients.protocol import NodeState, NoServerAnswers
from stalewatch.clusters.local.cassandra import CassandraCluster
from stalewatch.clusters.local.couch import CouchCluster

pytestmark = pytest.mark.server

Eventually = Callable[..., None]


def looked(servers: CassandraServers | CouchServers) -> dict[str, NodeState]:
    """Return every server by its address; nothing where none answers just then."""
    try:
        return {state.node: state for state in servers.look()}
    except NoServerAnswers:
        return {}


def test_a_cassandra_ring_tells_who_is_up_and_has_no_leader(ring: CassandraCluster, eventually: Eventually) -> None:
    with closing(CassandraServers(Namespace(hosts=ring.uri()))) as servers:
        eventually(lambda: [one.healthy for one in looked(servers).values()] == [True] * 3)
        states = looked(servers)
        assert sorted(states) == sorted(ring.nodes())
        assert not any(state.primary for state in states.values())
        assert {state.lag_s for state in states.values()} == {0.0}
        victim = ring.nodes()[2]
        ring.kill(victim)
        eventually(lambda: [node for node, state in looked(servers).items() if not state.healthy] == [victim])


def test_two_couch_leaders_both_take_writes_until_one_is_gone(leaders: CouchCluster, eventually: Eventually) -> None:
    a, b = leaders.uri().split()
    with closing(CouchServers(Namespace(couch_a=a, couch_b=b))) as servers:
        states = looked(servers)
        assert sorted(states) == sorted(leaders.nodes())
        assert all(state.primary and state.healthy for state in states.values())
        victim = leaders.nodes()[1]
        leaders.kill(victim)
        eventually(lambda: [node for node, state in looked(servers).items() if not state.primary] == [victim])
