"""The local clusters in a network of their own: the same servers on other addresses, whose links can be broken."""

from collections.abc import Sequence
from typing import ClassVar

from stalewatch.clusters.lab.network import Lab
from stalewatch.clusters.local.cassandra import CassandraCluster
from stalewatch.clusters.local.cluster import LocalCluster
from stalewatch.clusters.local.couch import CouchCluster
from stalewatch.clusters.local.mongo import MongoCluster
from stalewatch.clusters.protocol import LinkTrouble, NodeStatus, Progress


class InLab(LocalCluster):
    """What a lab adds to a local cluster: links that can be cut, slowed and made to lose."""

    kind: ClassVar[str] = "lab"
    network: Lab

    def _network(self, names: Sequence[str]) -> Lab:
        return Lab(self.folder, names)

    def ensure(self, progress: Progress) -> None:
        """Start the cluster, or mend it, when a node or a link is not whole."""
        if any(map(self.network.note, self.servers)):
            progress("mending links that an earlier fault left broken")
            self.start(progress)
        super().ensure(progress)

    def status(self) -> Sequence[NodeStatus]:
        """Say how every node is, and what is done to its links."""
        return [
            node._replace(note="; ".join(filter(None, (node.note, self.network.note(node.name)))))
            for node in super().status()  # type: ignore[safe-super] # the cluster beside this class has it
        ]

    def cut(self, node: str, others: Sequence[str], *, clients: bool = False) -> None:
        """Let nothing pass between a node and other nodes, both ways; with `clients` nor between it and any client."""
        names = [self._server(other).name for other in others]
        self.network.cut(self._server(node).name, names, clients=clients)

    def slow(self, node: str, delay_s: float) -> None:
        """Hold back all that goes to and from a node by `delay_s` seconds each way."""
        self.network.slow(self._server(node).name, delay_s)

    def lose(self, node: str, share: float) -> None:
        """Drop a share of what goes to and from a node, chosen at random."""
        self.network.lose(self._server(node).name, share)

    def mend(self, node: str, *troubles: LinkTrouble) -> None:
        """Undo what was done to a node's links: the troubles that are named, or all."""
        self.network.mend(self._server(node).name, *troubles)


class MongoLab(InLab, MongoCluster):
    """The replica set in a lab."""


class CassandraLab(InLab, CassandraCluster):
    """The ring in a lab."""


class CouchLab(InLab, CouchCluster):
    """The leaders in a lab."""
