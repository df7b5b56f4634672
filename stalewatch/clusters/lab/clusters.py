"""The local clusters in labs: the same servers at other addresses, with links that can be broken."""

from collections.abc import Sequence
from typing import ClassVar

from stalewatch.clusters.lab.network import Lab
from stalewatch.clusters.local.cassandra import CassandraCluster
from stalewatch.clusters.local.cluster import LocalCluster
from stalewatch.clusters.local.couch import CouchCluster
from stalewatch.clusters.local.mongo import MongoCluster
from stalewatch.clusters.protocol import LinkFault, NodeStatus, Progress


class LabCluster(LocalCluster):
    """A mixin that runs a local cluster in a lab, and adds link faults."""

    variant: ClassVar[str] = "lab"
    network: Lab

    def _network(self, names: Sequence[str]) -> Lab:
        return Lab(self.folder, names)

    def ensure(self, progress: Progress) -> None:
        """Start or repair the cluster unless every node is healthy and no link has a fault."""
        if any(map(self.network.note, self.servers)):
            progress("repairing links that an earlier fault left broken")
            self.start(progress)
        super().ensure(progress)

    def status(self) -> Sequence[NodeStatus]:
        """Return every node's status; the note includes the faults of its link."""
        return [
            node._replace(note="; ".join(filter(None, (node.note, self.network.note(node.name)))))
            for node in super().status()  # type: ignore[safe-super] # implemented by the class mixed with
        ]

    def cut(self, node: str, others: Sequence[str], *, clients: bool = False) -> None:
        """Block traffic between a node and other nodes, both ways; with `clients` also between it and all clients."""
        names = [self._server(other).name for other in others]
        self.network.cut(self._server(node).name, names, clients=clients)

    def slow(self, node: str, delay_s: float) -> None:
        """Delay traffic to and from a node by `delay_s` seconds each way."""
        self.network.slow(self._server(node).name, delay_s)

    def lose(self, node: str, share: float) -> None:
        """Drop a random share of the packets to and from a node."""
        self.network.lose(self._server(node).name, share)

    def mend(self, node: str, *faults: LinkFault) -> None:
        """Remove these faults from a node's link, or all if none is given."""
        self.network.mend(self._server(node).name, *faults)


class MongoLab(LabCluster, MongoCluster):
    """The replica set in a lab."""


class CassandraLab(LabCluster, CassandraCluster):
    """The ring in a lab."""


class CouchLab(LabCluster, CouchCluster):
    """The leaders in a lab."""
