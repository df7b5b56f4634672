"""MongoDB: a single leader with followers, and failover."""

from dataclasses import replace
from typing import Any

from stalewatch.clients.mongodb.options import DEFAULT_PORT, MongoOptions, reads_at
from stalewatch.clients.protocol import Client, Database, PrimaryClaims, Servers
from stalewatch.history.clock import Clock


def _open(options: Any, users: int, _seed: int, clock: Clock) -> Client:  # noqa: ANN401 # the row's own options
    from stalewatch.clients.mongodb.client import MongoDatabaseClient  # noqa: PLC0415 # imports the driver

    return MongoDatabaseClient(replace(options, sessions=users), clock)


def _servers(options: Any) -> Servers:  # noqa: ANN401 # the row's own options
    from stalewatch.clients.mongodb.servers import MongoServers  # noqa: PLC0415

    return MongoServers(options)


def _claims(options: Any) -> PrimaryClaims:  # noqa: ANN401 # the row's own options
    from stalewatch.clients.mongodb.servers import MongoPrimaryClaims  # noqa: PLC0415

    return MongoPrimaryClaims(options)


def _connections_per_user(options: Any) -> int:  # noqa: ANN401 # the row's own options
    """Return how many connections a session leaves in the pools: it uses one at a time.

    One is to the primary. Reads from a named member add one, and reads that move among the members one to each of two.
    """
    reads = reads_at(options)
    if reads == "primary":
        return 1
    return 2 if ":" in reads else 3


DATABASE = Database(
    name="mongo",
    label="MongoDB",
    help="a MongoDB replica set: a single leader with followers",
    options=MongoOptions,
    open=_open,
    addresses=("uri",),
    default_port=DEFAULT_PORT,
    servers=_servers,
    claims=_claims,
    connections_per_user=_connections_per_user,
    leftovers="stalewatch.clients.mongodb.leftovers:MongoLeftovers",
    cluster="stalewatch.clusters.local.mongo:MongoCluster",
    lab_cluster="stalewatch.clusters.lab.clusters:MongoLab",
    compose_cluster="stalewatch.clusters.compose.clusters:MongoCompose",
)
