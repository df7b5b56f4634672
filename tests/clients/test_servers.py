"""The states of a Cassandra ring and of two CouchDB leaders while one of their servers is killed."""

from collections.abc import Callable
from contextlib import closing
from typing import Any

import pytest

from stalewatch.clients.couchdb.options import leader
from stalewatch.clients.databases import DATABASES
from stalewatch.clients.protocol import NodeState, NoServerAnswers, Servers
from stalewatch.clusters.local.cassandra import CassandraCluster
from stalewatch.clusters.local.couch import CouchCluster

pytestmark = pytest.mark.server

Eventually = Callable[..., None]


def servers_of(database: str, **options: Any) -> Servers:
    row = DATABASES[database]
    assert row.servers is not None
    return row.servers(row.options(**options))


def states_of(servers: Servers) -> dict[str, NodeState]:
    """Return the states by address; nothing if no server answers this time."""
    try:
        return {state.node: state for state in servers.look()}
    except NoServerAnswers:
        return {}


def test_a_cassandra_ring_reports_which_nodes_are_up_and_no_leader(
    ring: CassandraCluster, eventually: Eventually
) -> None:
    with closing(servers_of("cassandra", hosts=ring.uri())) as servers:
        eventually(lambda: [one.healthy for one in states_of(servers).values()] == [True] * 3)
        states = states_of(servers)
        assert sorted(states) == sorted(ring.nodes())
        assert not any(state.primary for state in states.values())
        assert {state.lag_s for state in states.values()} == {0.0}
        victim = ring.nodes()[2]
        ring.kill(victim)
        eventually(lambda: [node for node, state in states_of(servers).items() if not state.healthy] == [victim])


def test_both_couch_leaders_take_writes_until_one_is_killed(leaders: CouchCluster, eventually: Eventually) -> None:
    a, b = map(leader, leaders.uri().split())
    with closing(servers_of("couch", a=a, b=b)) as servers:
        states = states_of(servers)
        assert sorted(states) == sorted(leaders.nodes())
        assert all(state.primary and state.healthy for state in states.values())
        victim = leaders.nodes()[1]
        leaders.kill(victim)
        eventually(lambda: [node for node, state in states_of(servers).items() if not state.primary] == [victim])
