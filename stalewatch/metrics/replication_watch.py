"""Asks a database's servers about themselves every second of a run: from the master, so that they are asked once."""

import logging
import time
from argparse import Namespace
from typing import Protocol

from stalewatch.clients.databases import DATABASES
from stalewatch.clients.errors import ClientError
from stalewatch.clients.servers import NodeState, Servers, Silent
from stalewatch.clusters.local_clusters import addresses
from stalewatch.clusters.protocol import ClusterError
from stalewatch.metrics.nodes import Nodes

log = logging.getLogger("stalewatch")

LOOK_EVERY_S = 1.0


class Over(Protocol):
    """Whether a run is over: an event of threads or of greenlets."""

    def is_set(self) -> bool:
        """Tell whether it is."""
        ...

    def wait(self, timeout: float | None = None) -> object:
        """Wait until it is, so many seconds at the most."""
        ...


def watch(database: str, options: Namespace, nodes: Nodes, over: Over, *, local: bool = True) -> None:
    """Note what the servers say until the run is over; where they say nothing, go without.

    Without an address it is the local cluster's, if it is `local` for all who load it: else workers on other machines
    may have an address of their own, and a cluster here would be another one than theirs.
    """
    row = DATABASES[database]
    if row.servers is None:
        return
    try:
        if row.lacks_address(options) and not local:
            log.warning("%s: no replication lag is shown: give the master the servers' address", database)
            return
        if row.lacks_address(options):
            vars(options).update(addresses(database, log.info))
        servers = row.servers(options)
    except (ClientError, ClusterError) as error:
        log.warning("%s: no replication lag is shown: %s", database, error)
        return
    try:
        while not over.is_set():
            nodes.saw(_look(servers))
            over.wait(LOOK_EVERY_S)
    except ClientError as error:
        log.warning("%s: no replication lag is shown: %s", database, error)
    finally:
        servers.close()


def _look(servers: Servers) -> list[NodeState]:
    """Ask twice: the first question after a failure goes to the server that has just been lost."""
    for _ in range(2):
        try:
            return list(servers.look())
        except Silent:
            time.sleep(LOOK_EVERY_S / 5)
    return []
