"""MongoDB: one leader, its followers, and failover."""

from dataclasses import replace
from typing import Any

from stalewatch.clients.mongodb.options import MongoClientOptions
from stalewatch.clients.protocol import Client, Database, PrimaryClaims, Servers
from stalewatch.history.clock import Clock

SPARE_CONNECTIONS = 20
"""Connections of the pool beyond one a session, for background tasks."""


def _open(options: Any, users: int, _seed: int, clock: Clock) -> Client:  # noqa: ANN401 # the row's own options
    from stalewatch.clients.mongodb.client import MongoDatabaseClient  # noqa: PLC0415 # the driver, only when needed

    return MongoDatabaseClient(replace(options, pool_size=users + SPARE_CONNECTIONS), clock)


def _servers(options: Any) -> Servers:  # noqa: ANN401 # the row's own options
    from stalewatch.clients.mongodb.servers import MongoServers  # noqa: PLC0415

    return MongoServers(options)


def _claims(options: Any) -> PrimaryClaims:  # noqa: ANN401 # the row's own options
    from stalewatch.clients.mongodb.claims import MongoClaims  # noqa: PLC0415

    return MongoClaims(options)


DATABASE = Database(
    name="mongo",
    label="MongoDB",
    help="a MongoDB replica set: a single leader with followers",
    options=MongoClientOptions,
    open=_open,
    addresses=("uri",),
    default_port=27017,
    servers=_servers,
    claims=_claims,
    cluster="stalewatch.clusters.local.mongo:MongoCluster",
    lab_cluster="stalewatch.clusters.lab.clusters:MongoLab",
    compose_cluster="stalewatch.clusters.compose.clusters:MongoCompose",
)
