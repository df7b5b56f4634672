"""Cassandra as a database under test: no leader, quorums, hinted handoff and read repair."""

from typing import Any

from stalewatch.clients.cassandra.options import DEFAULT_PORT, CassandraClientOptions
from stalewatch.clients.protocol import Client, Database, Servers
from stalewatch.history.clock import Clock


def _open(options: Any, _users: int, _seed: int, clock: Clock) -> Client:  # noqa: ANN401 # this database's options
    from stalewatch.clients.cassandra.client import CassandraDatabaseClient  # noqa: PLC0415 # imports the driver

    return CassandraDatabaseClient(options, clock)


def _servers(options: Any) -> Servers:  # noqa: ANN401 # this database's options
    from stalewatch.clients.cassandra.servers import CassandraServers  # noqa: PLC0415 # imports the driver

    return CassandraServers(options)


DATABASE = Database(
    name="cassandra",
    label="Cassandra",
    help="a Cassandra ring: no leader, quorums",
    options=CassandraClientOptions,
    open=_open,
    addresses=("hosts",),
    default_port=DEFAULT_PORT,
    servers=_servers,
    connections_per_user=lambda _options: 0,  # all sessions share one to each node
    leftovers="stalewatch.clients.cassandra.leftovers:CassandraLeftovers",
    cluster="stalewatch.clusters.local.cassandra:CassandraCluster",
    lab_cluster="stalewatch.clusters.lab.clusters:CassandraLab",
    compose_cluster="stalewatch.clusters.compose.clusters:CassandraCompose",
)
