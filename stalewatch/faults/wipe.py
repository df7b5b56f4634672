"""Wipe: nodes end and lose their disks; undone by starting them with nothing, for the others to fill."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import ClassVar, Protocol

from stalewatch.clusters.protocol import Cluster, Disks
from stalewatch.faults.nodes import each, revive
from stalewatch.faults.protocol import Value


class DiskCluster(Cluster, Disks, Protocol):
    """A cluster whose nodes can lose their disks."""


@dataclass(frozen=True)
class Wipe:
    """What only these nodes held is lost for good."""

    cluster: DiskCluster
    nodes: Sequence[str]
    parameters: Mapping[str, Value]
    name: ClassVar[str] = "wipe"

    def begin(self) -> None:
        """End every node and delete what it stored."""
        each(self.nodes, self.cluster.wipe)

    def end(self) -> None:
        """Start those that are dead, which come back empty."""
        revive(self.cluster, self.nodes)
