"""Lag: followers apply everything late, as those that are too slow for their leader."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import ClassVar, Protocol

from stalewatch.clusters.protocol import Cluster, Lags
from stalewatch.faults.nodes import each
from stalewatch.faults.protocol import Value


class LaggingCluster(Cluster, Lags, Protocol):
    """A cluster whose followers can be made to lag."""


@dataclass(frozen=True)
class Lag:
    """A node shows what was written the parameter ``behind_s`` ago, and is not elected meanwhile."""

    cluster: LaggingCluster
    nodes: Sequence[str]
    parameters: Mapping[str, Value]
    name: ClassVar[str] = "lag"

    def begin(self) -> None:
        """Make every node lag."""
        each(self.nodes, lambda node: self.cluster.lag(node, int(self.parameters["behind_s"])))

    def end(self) -> None:
        """Let them catch up."""
        each(self.nodes, lambda node: self.cluster.lag(node, 0))
