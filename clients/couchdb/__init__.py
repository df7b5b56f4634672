"""CouchDB: two leaders that replicate to each other, and their conflicts."""

from dataclasses import replace
from typing import Any

from stalewatch.clients.couchdb.options import CouchOptions
from stalewatch.clients.errors import BadAddress
from stalewatch.clients.protocol import Client, Database, Servers
from stalewatch.history.clock import Clock


def _open(options: Any, _users: int, seed: int, clock: Clock) -> Client:  # noqa: ANN401 # the row's own options
    try:
        from stalewatch.clients.couchdb.client import CouchClient  # noqa: PLC0415 # imports its packages
    except ModuleNotFoundError as error:
        raise BadAddress(f"loading CouchDB needs a package: pip install {error.name}") from None
    return CouchClient(replace(options, seed=seed), clock)


def _servers(options: Any) -> Servers:  # noqa: ANN401 # the row's own options
    from stalewatch.clients.couchdb.administration import CouchServers  # noqa: PLC0415

    return CouchServers(options)


def _connections_per_user(options: Any) -> int:  # noqa: ANN401 # the row's own options
    """Return to how many leaders a session opens a connection."""
    return 1 if options.write_to in {"a", "b"} and options.read_from in {options.write_to, "same"} else 2


DATABASE = Database(
    name="couch",
    label="CouchDB",
    help="two CouchDB leaders that both take writes, with conflicts",
    options=CouchOptions,
    open=_open,
    addresses=("a", "b"),
    default_port=5984,
    servers=_servers,
    connections_per_user=_connections_per_user,
    leftovers="stalewatch.clients.couchdb.leftovers:CouchLeftovers",
    cluster="stalewatch.clusters.local.couch:CouchCluster",
    lab_cluster="stalewatch.clusters.lab.clusters:CouchLab",
    compose_cluster="stalewatch.clusters.compose.clusters:CouchCompose",
)
