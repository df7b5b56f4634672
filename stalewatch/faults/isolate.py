"""Isolate: nodes are cut off from the others, as by a broken switch: a split of the network in two."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import ClassVar, Protocol

from stalewatch.clusters.protocol import Cluster, Links
from stalewatch.faults.nodes import each
from stalewatch.faults.protocol import Value


class LinkedCluster(Cluster, Links, Protocol):
    """A cluster whose links can be broken."""


@dataclass(frozen=True)
class Isolate:
    """The nodes reach each other still, and so do the others among themselves; nothing passes between the two sides.

    Clients reach both sides, unless the parameter ``clients`` says that they lose these nodes too.
    """

    cluster: LinkedCluster
    nodes: Sequence[str]
    parameters: Mapping[str, Value]
    name: ClassVar[str] = "isolate"

    def begin(self) -> None:
        """Cut every node from those that are on the other side."""
        others = [node for node in self.cluster.nodes() if node not in self.nodes]
        clients = bool(self.parameters["clients"])
        each(self.nodes, lambda node: self.cluster.cut(node, others, clients=clients))

    def end(self) -> None:
        """Let everything pass again."""
        each(self.nodes, lambda node: self.cluster.mend(node, "cut"))
